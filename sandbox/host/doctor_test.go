package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// sound is a machine on which all works, and works the trials that show it.
func sound() (Machine, Trials) {
	return Machine{
		UID: 1001, User: "dev", Release: "6.12.5-amd64", Executable: "/usr/local/bin/sbx", OnPath: true,
		Sysctls: map[string]int64{sysctlUsers: 96365}, Landlock: 6,
		State:  Volume{Dir: "/home/dev/.local/state/sbx", Type: "ext4", Point: "/"},
		Nofile: [2]uint64{1024, 4096}, Processes: 60000, FileSize: math.MaxUint64,
	}, Trials{}
}

// refused is an error as the raw child makes it.
func refused(task, call string, errno syscall.Errno) error {
	return fmt.Errorf("cannot %s: %s(2): %w", task, call, errno)
}

var (
	cloneTask = "create the sandbox's namespaces"
	mapTask   = "map the user ids of the sandbox"
	procTask  = "mount /proc"
)

// noneAfterClone are the trials after a clone(2) that failed.
func noneAfterClone(errno syscall.Errno) Trials {
	t := Untried()
	t.Clone = refused(cloneTask, "clone", errno)
	t.State, t.Xattr, t.Tree, t.Run = nil, nil, nil, t.Clone
	return t
}

// TestDiagnose goes through machines that are broken in one way each: which
// check says so, in which words, with which command.
func TestDiagnose(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Machine, *Trials)
		check  string
		status Status
		detail []string
		fix    []string
		ok     bool
	}{
		{
			name:   "Debian 10",
			change: func(m *Machine, t *Trials) { m.Sysctls[sysctlClone] = 0; *t = noneAfterClone(syscall.EPERM) },
			check:  "user_namespaces", status: Fail,
			detail: []string{"kernel.unprivileged_userns_clone is 0", "only root"},
			fix:    []string{"kernel.unprivileged_userns_clone = 1", "sudo tee /etc/sysctl.d/", "sudo sysctl -p"},
		},
		{
			name:   "no user namespaces left",
			change: func(m *Machine, t *Trials) { m.Sysctls[sysctlUsers] = 0; *t = noneAfterClone(syscall.ENOSPC) },
			check:  "user_namespaces", status: Fail,
			detail: []string{"user.max_user_namespaces is 0"},
			fix:    []string{"user.max_user_namespaces = 15000"},
		},
		{
			name: "no network namespaces left",
			change: func(m *Machine, t *Trials) {
				m.Sysctls["user.max_net_namespaces"] = 0
				t.Network = refused(cloneTask, "clone", syscall.ENOSPC)
			},
			check: "network_namespace", status: Fail,
			detail: []string{"no net namespace may be created"},
			fix:    []string{"user.max_net_namespaces = 15000"},
		},
		{
			name: "Ubuntu 24.04",
			change: func(m *Machine, t *Trials) {
				m.AppArmor, m.Sysctls[sysctlAppArmor] = "unconfined", 1
				*t = Untried()
				t.Clone, t.Maps = nil, refused(mapTask, "openat", syscall.EACCES)
				t.Run = t.Maps
			},
			check: "apparmor", status: Fail,
			detail: []string{sysctlAppArmor + " is 1", `"/usr/local/bin/sbx"`},
			fix:    []string{`'abi <abi/4.0>,' 'include <tunables/global>' 'profile sbx "/usr/local/bin/sbx" flags=(unconfined) { userns, }'`, "sudo tee /etc/apparmor.d/sbx", "sudo apparmor_parser -r /etc/apparmor.d/sbx"},
		},
		{
			name:   "Ubuntu 24.04 with the profile",
			change: func(m *Machine, _ *Trials) { m.AppArmor, m.Sysctls[sysctlAppArmor] = "sbx (unconfined)", 1 },
			check:  "apparmor", status: OK, ok: true,
			detail: []string{"lets sbx make them"},
		},
		{
			name: "Docker",
			change: func(m *Machine, t *Trials) {
				m.Container, m.Filtered, m.ProcMounts = "docker", true, []string{"/proc/kcore"}
				*t = noneAfterClone(syscall.EPERM)
			},
			check: "user_namespaces", status: Fail,
			detail: []string{"the container forbids"},
			fix:    []string{"docker run", "seccomp=unconfined", "systempaths=unconfined"},
		},
		{
			name: "Podman",
			change: func(m *Machine, t *Trials) {
				m.Container, m.Nested, m.ProcMounts = "podman", true, []string{"/proc/kcore", "/proc/keys"}
				t.Proc = refused(procTask, "mount", syscall.EPERM)
				t.Run = t.Proc
			},
			check: "proc", status: Fail,
			detail: []string{"covered are /proc/kcore /proc/keys"},
			fix:    []string{"podman run --security-opt unmask=ALL"},
		},
		{
			name: "a mask without a container",
			change: func(m *Machine, t *Trials) {
				m.ProcMounts = []string{"/proc/keys"}
				t.Proc = refused(procTask, "mount", syscall.EPERM)
				t.Run = t.Proc
			},
			check: "proc", status: Fail, fix: []string{"sudo umount /proc/keys"},
		},
		{
			name: "state on an overlay",
			change: func(m *Machine, t *Trials) {
				m.State.Type, m.Spare = "overlay", "/var/tmp/sbx-1001"
				t.Overlay = refused(`overlay "/overlay"`, "mount", syscall.EINVAL)
				t.Run = t.Overlay
			},
			check: "overlay", status: Fail,
			detail: []string{"is on overlay", "upper directory"},
			fix:    []string{"export SBX_STATE=/var/tmp/sbx-1001"},
		},
		{
			name: "state on NFS",
			change: func(m *Machine, t *Trials) {
				m.State.Type = "nfs4"
				t.Overlay = refused(`overlay "/overlay"`, "mount", syscall.EINVAL)
				t.Run = t.Overlay
			},
			check: "overlay", status: Fail, detail: []string{"on nfs4, a network file system"}, fix: []string{"sbx --state DIR"},
		},
		{
			name:   "no inotify left",
			change: func(_ *Machine, t *Trials) { t.Live = fmt.Errorf("inotify_init1(2): %w", syscall.EMFILE) },
			check:  "live", status: Warn, ok: true, detail: []string{"not seen inside", "editors"}, fix: []string{"sudo sysctl fs.inotify.max_user_instances="},
		},
		{
			name:   "an overlay that cannot be refreshed",
			change: func(_ *Machine, t *Trials) { t.Live = syscall.EPERM },
			check:  "live", status: Warn, ok: true, fix: []string{"sbx --no-live"},
		},
		{
			name:   "tmpfs without xattrs",
			change: func(m *Machine, t *Trials) { m.State.Type = "tmpfs"; t.Xattr = syscall.EOPNOTSUPP },
			check:  "state_directory", status: Fail, detail: []string{"no user xattrs", "6.6"}, fix: []string{"sbx --state DIR"},
		},
		{
			name: "no overlayfs",
			change: func(_ *Machine, t *Trials) {
				t.Overlay = refused(`overlay "/overlay"`, "mount", syscall.ENODEV)
				t.Run = t.Overlay
			},
			check: "overlay", status: Fail, fix: []string{"sudo modprobe overlay"},
		},
		{
			name: "an old kernel",
			change: func(m *Machine, t *Trials) {
				m.Release = "5.10.0-30-amd64"
				t.Setattr = refused("make the host's root read-only", "mount_setattr", syscall.ENOSYS)
				t.Run = t.Setattr
			},
			check: "mount_setattr", status: Fail, detail: []string{"5.10.0-30-amd64 is too old", "5.14"},
		},
		{
			name: "root without setfcap",
			change: func(m *Machine, t *Trials) {
				m.UID, m.Missing = 0, []string{"cap_setfcap"}
				*t = Untried()
				t.Clone, t.Maps = nil, refused(mapTask, "write", syscall.EPERM)
				t.Run = t.Maps
			},
			check: "user_namespaces", status: Fail, detail: []string{"root without cap_setfcap may not map uid 0"}, fix: []string{"capsh --print"},
		},
		{
			name:   "chroot",
			change: func(m *Machine, t *Trials) { m.Chroot = true; *t = noneAfterClone(syscall.EPERM) },
			check:  "user_namespaces", status: Fail, detail: []string{"chroot(2)"},
		},
		{
			name:   "the state directory cannot be written",
			change: func(_ *Machine, t *Trials) { t.State, t.Overlay, t.Run = syscall.EACCES, ErrNotTried, syscall.EACCES },
			check:  "state_directory", status: Fail, fix: []string{"sbx --state DIR"},
		},
		{
			name: "a masked /sys", ok: true,
			change: func(m *Machine, t *Trials) { t.Sysfs = refused(`enter "/sys/class/net"`, "chdir", syscall.ENOENT) },
			check:  "sysfs", status: Warn, detail: []string{"/sys is empty"},
		},
		{
			name: "no TUN", ok: true,
			change: func(m *Machine, _ *Trials) { m.TUN = syscall.ENOENT },
			check:  "tun", status: Info, fix: []string{"modprobe tun"},
		},
		{
			name: "Landlock without scopes", ok: true,
			change: func(m *Machine, t *Trials) { m.Landlock, t.Scope = 4, ErrNotTried },
			check:  "landlock", status: Info, detail: []string{"ABI 4", "--net=host"},
		},
		{
			name: "another sbx first", ok: true,
			change: func(m *Machine, _ *Trials) { m.Earlier = []string{"/usr/bin/sbx"} },
			check:  "path", status: Warn, detail: []string{"comes first in PATH: /usr/bin/sbx"}, fix: []string{"alias sbx=/usr/local/bin/sbx"},
		},
		{
			name: "another sbx later", ok: true,
			change: func(m *Machine, _ *Trials) { m.Later = []string{"/usr/bin/sbx"} },
			check:  "path", status: Info, detail: []string{"later in PATH: /usr/bin/sbx"},
		},
		{
			name: "few files", ok: true,
			change: func(m *Machine, _ *Trials) { m.Nofile = [2]uint64{64, 4096} },
			check:  "limits", status: Warn, detail: []string{"64 open files"}, fix: []string{"ulimit -n 4096"},
		},
		{
			name: "mounts below /etc", ok: true,
			change: func(m *Machine, _ *Trials) { m.EtcMounts = []string{"/etc/hosts"} },
			check:  "etc", status: Info, detail: []string{"/etc/hosts"},
		},
		{
			name: "subordinate ids", ok: true,
			change: func(_ *Machine, t *Trials) { t.SubIDs = hinted{errors.New("none"), "sudo usermod …"} },
			check:  "subordinate_ids", status: Warn, detail: []string{"only --root"}, fix: []string{"sudo usermod …"},
		},
		{
			name:   "the run fails for a reason of its own",
			change: func(_ *Machine, t *Trials) { t.Run = hinted{errors.New("no true"), "apt install coreutils"} },
			check:  "run", status: Fail, detail: []string{"no true"}, fix: []string{"apt install coreutils"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, trials := sound()
			test.change(&m, &trials)
			d := Diagnose(m, trials)
			c := find(t, d, test.check)
			if c.Status != test.status || d.OK != test.ok {
				t.Errorf("%s is %v, and OK %v; want %v and %v\n%+v", test.check, c.Status, d.OK, test.status, test.ok, c)
			}
			for _, part := range test.detail {
				if !strings.Contains(c.Detail, part) {
					t.Errorf("the detail %q says nothing of %q", c.Detail, part)
				}
			}
			for _, part := range test.fix {
				if !strings.Contains(c.Fix, part) {
					t.Errorf("the fix %q does not contain %q", c.Fix, part)
				}
			}
			if test.fix == nil && c.Fix != "" {
				t.Errorf("the fix is %q, want none", c.Fix)
			}
			for _, other := range d.Checks {
				if test.ok && other.Status == Fail {
					t.Errorf("%q fails where a run works: %s", other.Name, other.Detail)
				}
			}
		})
	}
}

type hinted struct {
	error
	hint string
}

func (h hinted) Hint() string { return h.hint }

func find(t *testing.T, d Diagnosis, name string) Check {
	t.Helper()
	i := slices.IndexFunc(d.Checks, func(c Check) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("there is no check %q", name)
	}
	return d.Checks[i]
}

// TestDiagnosisSchema pins the documented form of --json, names included:
// scripts depend on them.
func TestDiagnosisSchema(t *testing.T) {
	m, trials := sound()
	d := Diagnose(m, trials)
	if !d.OK {
		t.Errorf("a sound machine is not OK: %+v", d.Checks)
	}
	var names []string
	for _, c := range d.Checks {
		names = append(names, c.Name)
		if c.Status != OK || c.Fix != "" {
			t.Errorf("on a sound machine %s is %v: %q %q", c.Name, c.Status, c.Detail, c.Fix)
		}
	}
	want := "kernel capabilities container user_namespaces apparmor tmpfs pivot_root mount_setattr state_directory overlay live etc proc sysfs network_namespace network seccomp landlock subordinate_ids tun limits path tree run"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("the checks are\n%s\nwant\n%s", got, want)
	}
	d.Checks = []Check{{"a", Fail, "b", "c"}, {"d", Warn, "", ""}, {"e", Info, "", ""}, {"f", OK, "", ""}}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	const form = `{"version":1,"ok":true,"checks":[{"name":"a","status":"fail","detail":"b","fix":"c"},` +
		`{"name":"d","status":"warn","detail":"","fix":""},{"name":"e","status":"info","detail":"","fix":""},{"name":"f","status":"ok","detail":"","fix":""}]}`
	if string(text) != form {
		t.Errorf("the form is\n%s\nwant\n%s", text, form)
	}
}

// TestNothingTried: trials that were not made are no success.
func TestNothingTried(t *testing.T) {
	m, _ := sound()
	if d := Diagnose(m, Untried()); d.OK {
		t.Error("nothing was tried, and the answer is OK")
	}
}

func TestNewEnough(t *testing.T) {
	for release, want := range map[string]bool{
		"5.14": true, "5.14.0-427.el9": true, "5.13.19": false, "5.4.0-1-generic": false, "6.1.0": true, "4.19.0": false, "10.0-rc1": true, "5.15-rc2+": true, "": true,
	} {
		if got := (Machine{Release: release}).newEnough(); got != want {
			t.Errorf("newEnough of %q is %v", release, got)
		}
	}
}
