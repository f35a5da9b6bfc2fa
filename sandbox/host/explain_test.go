package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestFailureOf(t *testing.T) {
	errno := syscall.EINVAL
	tests := []struct {
		err  error
		want failure
	}{
		{refused(cloneTask, "clone", errno), failure{cloneTask, "clone", errno}},
		{fmt.Errorf("cannot mount /proc: mount(2): %w (parts of it are hidden)", errno), failure{procTask, "mount", errno}},
		{fmt.Errorf("cannot overlay %q: mount(2): %w", "/home/a: b(2): c", errno), failure{`overlay "/home/a: b(2): c"`, "mount", errno}},
	}
	for _, test := range tests {
		if got, ok := failureOf(test.err); !ok || got != test.want {
			t.Errorf("failureOf(%q) = %+v, %v; want %+v", test.err, got, ok, test.want)
		}
	}
	for _, err := range []error{nil, errors.New("cannot mount /proc: mount(2): no errno"), fmt.Errorf("cannot read it: %w", errno), fmt.Errorf("mount(2): %w", errno)} {
		if got, ok := failureOf(err); ok {
			t.Errorf("failureOf(%v) = %+v", err, got)
		}
	}
}

// TestExplainIsALine: a hint is printed behind a prefix and pasted as a whole.
func TestExplainIsALine(t *testing.T) {
	m, _ := sound()
	m.Sysctls[sysctlAppArmor], m.Sysctls["fs.mount-max"] = 1, 100000
	for task, call := range map[string]string{
		cloneTask: "clone", mapTask: "write", "mount the sandbox's root": "mount", procTask: "mount", `overlay "/x"`: "mount",
		"make the host's root read-only": "mount_setattr", "make a session keyring": "keyctl", "start the command": "clone", `enter "/x"`: "chdir",
	} {
		for errno := syscall.Errno(1); errno < 134; errno++ {
			f, ok := failureOf(refused(task, call, errno))
			if !ok {
				t.Fatalf("%s: %s is not understood", task, call)
			}
			for _, a := range m.advise(f) {
				if s := a.String(); strings.Contains(s, "\n") || strings.TrimSpace(s) == "" || strings.TrimSpace(s) == "#" {
					t.Errorf("%s: %s: %v gives the hint %q", task, call, errno, s)
				}
			}
		}
	}
}

// TestHintsAreShell: what is to be pasted must at least be understood by sh(1),
// also with a path that is hard to write.
func TestHintsAreShell(t *testing.T) {
	m, _ := sound()
	m.Executable = "/home/o'neil/my bin/{a,b}*\"\\/sbx"
	m.State = Volume{Dir: "/a b/'c", Type: "ext4"}
	for _, a := range []advice{
		m.profile("why"), m.set(sysctlUsers, 1, "why"), {"", "alias sbx=" + shellWord(m.Executable)}, m.aboutOverlay(syscall.ENOSPC)[0],
		m.aboutClone(syscall.EAGAIN)[0], m.aboutClone(syscall.EINVAL)[0],
	} {
		if out, err := exec.Command("sh", "-n", "-c", a.String()).CombinedOutput(); err != nil {
			t.Errorf("%s\nis no shell command: %s", a, out)
		}
	}
}

// TestProfileText runs the command that writes the profile, with cat(1) in the
// place of tee(1), and compares what comes out.
func TestProfileText(t *testing.T) {
	m, _ := sound()
	m.Executable = "/home/o'neil/my bin/{a,b}*%s\\n/sbx"
	fix, _, _ := strings.Cut(m.profile("").fix, " | ")
	out, err := exec.Command("sh", "-c", fix).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "abi <abi/4.0>,\ninclude <tunables/global>\nprofile sbx \"/home/o'neil/my bin/\\{a\\,b\\}\\*%s\\\\n/sbx\" flags=(unconfined) { userns, }\n"
	if string(out) != want {
		t.Errorf("the profile is\n%s\nwant\n%s", out, want)
	}
}

// TestStateOf: an error that knows its layer is believed before the
// environment is.
func TestStateOf(t *testing.T) {
	t.Setenv("SBX_STATE", "/state")
	if got := stateOf(layered{syscall.EINVAL}); got != "/layer" {
		t.Errorf("the state directory is %q, want that of the error", got)
	}
	if got := stateOf(syscall.EINVAL); got != "/state" {
		t.Errorf("the state directory is %q, want $SBX_STATE", got)
	}
	t.Setenv("SBX_STATE", "")
	t.Setenv("XDG_STATE_HOME", "relative")
	t.Setenv("HOME", "/home/x")
	if got := stateOf(syscall.EINVAL); got != "/home/x/.local/state/sbx" {
		t.Errorf("the state directory is %q, want the one in $HOME", got)
	}
}

type layered struct{ error }

func (layered) Layer() string { return "/layer" }

func TestNamesakes(t *testing.T) {
	dir := t.TempDir()
	program := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name, "sbx")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	self, other, third := program("self", 0o755), program("other", 0o755), program("third", 0o755)
	program("data", 0o644)
	if err := errors.Join(os.Symlink(filepath.Join(dir, "self"), filepath.Join(dir, "again")), os.MkdirAll(filepath.Join(dir, "dir/sbx"), 0o755)); err != nil {
		t.Fatal(err)
	}
	path := ""
	for _, d := range []string{"", ".", "data", "dir", "missing", "other", "self", "again", "third"} {
		if d != "" && d != "." {
			d = filepath.Join(dir, d)
		}
		path += ":" + d
	}
	earlier, later, found := namesakes(path, self)
	if len(earlier) != 1 || earlier[0] != other || len(later) != 1 || later[0] != third || !found {
		t.Errorf("namesakes are %q before, %q after, found %v", earlier, later, found)
	}
}

func TestVolume(t *testing.T) {
	mounts := []Mount{
		{ID: 1, Parent: 0, Point: "/", FSType: "ext4", Options: "rw", Super: "rw"},
		{ID: 2, Parent: 1, Point: "/nonexistent-sbx", FSType: "nfs4", Options: "rw", Super: "ro"},
	}
	for dir, want := range map[string]Volume{
		"":                   {},
		"/proc-sbx/a/b":      {Dir: "/proc-sbx/a/b", Type: "ext4", Point: "/"},
		"/nonexistent-sbx/a": {Dir: "/nonexistent-sbx/a", Type: "ext4", Point: "/"},
	} {
		if got := volume(mounts, dir); got != want {
			t.Errorf("volume(%q) = %+v, want %+v", dir, got, want)
		}
	}
}

// TestLook compares what was read with other ways to know it.
func TestLook(t *testing.T) {
	m := Look(t.TempDir())
	if out, err := exec.Command("uname", "-r").Output(); err != nil || m.Release != strings.TrimSpace(string(out)) {
		t.Errorf("the kernel is %q, and uname(1) says %q (%v)", m.Release, out, err)
	}
	if int(m.UID) != os.Geteuid() || m.User == "" || m.State.Type == "" || m.Nofile[1] == 0 {
		t.Errorf("the machine is %+v", m)
	}
	if self, _ := os.Executable(); m.Executable != self {
		t.Errorf("the program is %q, want %q", m.Executable, self)
	}
	if _, ok := m.Sysctls["user.max_user_namespaces"]; !ok {
		t.Errorf("no user.max_user_namespaces in %v", m.Sysctls)
	}
}
