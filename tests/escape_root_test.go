package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The caller is the real root, as in containers and CI: the kernel's checks by
// uid alone would let the build change the machine.

func rootAccount(t *testing.T) account {
	t.Helper()
	needRoot(t)
	top := tempDir(t)
	a := account{Home: filepath.Join(top, "home")}
	a.mkTree(t, a.Home, nil)
	return a
}

func TestEscapeRootDevices(t *testing.T) {
	a := rootAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	type state struct {
		mode, uid uint32
		mtime     unix.Timespec
	}
	look := func(path string) state {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return state{st.Mode, st.Uid, st.Mtim}
	}
	for _, dev := range []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"} {
		before := look(dev)
		attacks := []string{"chmod " + dev + " 0600", "touch " + dev, "remove " + dev, "mknod " + dev + "2 c 1 3"}
		a.inside(t, tree, nil, attacks...).refused(t, attacks...)
		after := look(dev)
		if before.mode != after.mode || before.uid != after.uid || dev == "/dev/full" && before.mtime != after.mtime {
			t.Errorf("the build has changed the host's %s: %v, was %v", dev, after, before)
			os.Chmod(dev, os.FileMode(before.mode&0o777))
		}
	}
	before := look("/dev/null")
	a.inside(t, tree, nil, "chmod /proc/keys 0600", "chmod /proc/kcore 0600", "chmod /proc/timer_list 0600", "chmod /proc/sysrq-trigger 0600").refused(t, "chmod /proc/keys 0600", "chmod /proc/timer_list 0600")
	if after := look("/dev/null"); before.mode != after.mode {
		t.Errorf("through a mask of /proc the build has changed the host's /dev/null: %o", after.mode)
		os.Chmod("/dev/null", 0o666)
	}
}

func TestEscapeRootKernel(t *testing.T) {
	a := rootAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	attacks := []string{
		"write /proc/sys/kernel/core_pattern core", "write /proc/sys/kernel/hostname x", "write /proc/sys/kernel/domainname x", "write /proc/sys/vm/drop_caches 1", "write /proc/sys/kernel/modprobe x", "write /proc/sys/net/ipv4/ip_forward 0",
		"chmod /proc/sys/kernel/core_pattern 0666", "write /proc/sysrq-trigger h", "write /proc/irq/default_smp_affinity f", "write /proc/bus/pci/00/00.0 x", "write /proc/self/setgroups allow", "write /proc/acpi/wakeup x", "write /proc/dynamic_debug/control x",
		"write /sys/kernel/uevent_helper x", "write /sys/power/state mem", "write /sys/module/overlay/parameters/metacopy N", "mkdir /sys/fs/cgroup/x", "write /sys/fs/cgroup/cgroup.procs 1", "list /sys/kernel/debug/bdi", "list /sys/kernel/tracing/events",
		"read /etc/shadow", "read /etc/gshadow", "read /etc/sudoers", "list /root", "list /var/lib/docker", "list /etc/ssl/private", "read /var/lib/dpkg/lock", "create /usr/evil x", "create /etc/evil x", "create /opt/evil x", "chmod /usr 0777", "touch /usr/bin/env", "write /etc/hostname x",
		"read /proc/kcore", "read /proc/kmsg", "read /proc/1/environ", "list /proc/1/root", "read /proc/1/fd/0", "write /proc/1/fd/3 x", "list /proc/1/fd/0/..", "ptrace 1", "write /proc/1/mem x", "sys keyctl", "sys mount_tmpfs", "sys umount_proc", "sys bpf", "sys syslog", "sys open_by_handle_at",
		"sys reboot", "sys init_module", "sys setsecurebits", "sys capset_all", "sys unshare_net", "sys sethostname", "mknod x c 1 1", "mknod y b 8 0", "socket 17 3 0", "socket 2 3 1", "read /dev/mem", "read /dev/kmsg", "read /dev/vda", "read /dev/sda",
		"sys chroot", // last: with --root it is allowed, and leads nowhere but down
	}
	for _, flags := range [][]string{nil, {"--net=host"}, {"--root", "--layer", "r"}} {
		o := a.inside(t, tree, flags, attacks...)
		for _, attack := range attacks {
			switch {
			case strings.HasPrefix(attack, "read ") && o[attack] == `done ""`:
				// A file of /etc that hides a secret may be there, empty.
			case attack == "sys chroot" && slices.Contains(flags, "--root"):
			default:
				o.refused(t, attack)
			}
		}
		if t.Failed() {
			t.Logf("the above with %v", flags)
		}
	}
	data, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
	t.Logf("core_pattern is still %q", data)
}

// Files of the host, which root owns: not writable, and those of mode 0600 not
// readable beyond what a rule shows.
func TestEscapeRootFiles(t *testing.T) {
	a := rootAccount(t)
	tree := a.tree(t, map[string]string{"f": "host", "secret": "canary"})
	a.arm(t, tree)
	shown := a.dir(t)
	a.mkTree(t, shown, map[string]string{"f": "host", "closed/f": "host"})
	a.mkTree(t, a.Home, map[string]string{".ssh/id": "canary", ".bashrc": "host"})
	same, sameTree, sameHome := unchanged(t, shown), unchanged(t, tree), unchanged(t, filepath.Join(a.Home, ".ssh"))
	attacks := []string{"write " + shown + "/f x", "chmod " + shown + "/f 0777", "remove " + shown + "/f", "read " + a.Home + "/.ssh/id", "read secret", "remove secret", "link " + shown + "/f l"}
	a.inside(t, tree, []string{"--ro", shown, "--hide", "secret"}, attacks...).refused(t, append(attacks[:4:4], attacks[5:]...)...)
	r := a.sbx(t, tree, "--hide", "secret", "--", "sh", "-c", "cat secret; chmod 4777 f; chown 1:1 f; echo x >f; rm -rf .git; ls -A ~; cat /proc/self/status")
	if strings.Contains(r.Stdout, "canary") || strings.Contains(r.Stdout, ".ssh") {
		t.Errorf("root's secrets are inside: %v", r)
	}
	for _, set := range []string{"CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"} {
		if !strings.Contains(r.Stdout, fmt.Sprintf("%s:\t%016x", set, 0)) {
			t.Errorf("the command has capabilities: %v", r)
			break
		}
	}
	same()
	sameTree()
	sameHome()
}

// Processes and sockets of the host are those of an ordinary run.
func TestEscapeRootReach(t *testing.T) {
	a := rootAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	target := background(t, a.command(tree, nil, victimPath, "hold"))
	kill := fmt.Sprintf("kill %d 0", target.Pid)
	a.outside(t, tree, kill).did(t, kill)
	a.inside(t, tree, nil, kill).refused(t, kill)
	dir := a.dir(t)
	services := []service{serve(t, "unix", dir+"/s"), serve(t, "unix", tree+"/s"), serve(t, "unix", fmt.Sprintf("@sbx-root-%d", os.Getpid())), serve(t, "tcp", "127.0.0.1:0")}
	mustBeClosed(t, a, tree, nil, services...)
}

// TestEscapeRootJoin: a command that root joins to a run has the ids of the run, not
// those of root.
func TestEscapeRootJoin(t *testing.T) {
	a := rootAccount(t)
	tree := a.tree(t, nil)
	run := a.background(t, tree, "--", "sleep", "1000")
	pid := a.lives(t, tree, 1)[0]["pid"].(float64)
	const look = "id -u; id -G; touch /tmp/made in-tree && stat -c %u /tmp/made in-tree; kill -0 $(pgrep -x sleep) && echo same; sleep 1000"
	joined := a.background(t, tree, "run", "--join", "last", "--", "sh", "-c", look)
	soon(t, "the joined command", func() bool { return strings.HasSuffix(joined.out.String(), "same\n") })
	if got := joined.out.String(); got != "0\n0\n0\n0\nsame\n" {
		t.Errorf("the joined command says %q", got)
	}
	// The host's view of both: command of the run, joined command.
	ids := map[string]bool{}
	for _, sbx := range []int{int(pid), joined.Process.Pid} {
		for _, init := range children(sbx) {
			for _, command := range children(init) {
				data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", command))
				_, rest, _ := strings.Cut(string(data), "\nUid:")
				line, _, _ := strings.Cut(rest, "\n")
				ids[strings.Fields(line)[0]] = true
			}
		}
	}
	if len(ids) != 1 {
		t.Errorf("the commands run as %v", ids)
	}
	run.Process.Kill()
	joined.ends(t)
}

// children are the processes that a process has begun.
func children(pid int) (list []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		for _, word := range strings.Fields(string(data)) {
			child, _ := strconv.Atoi(word)
			list = append(list, child)
		}
	}
	return list
}
