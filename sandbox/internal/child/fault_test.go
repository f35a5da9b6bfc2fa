package child

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/seccomp"
)

// stepKinds are the names of all kinds of steps, from the source: a kind that
// is added without a case here fails the tests.
func stepKinds(t *testing.T) map[string]bool {
	t.Helper()
	data, err := os.ReadFile("../../plan/step.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^func \((\w+)\) isStep\(\)`).FindAllStringSubmatch(string(data), -1) {
		kinds[m[1]] = true
	}
	if len(kinds) < 30 {
		t.Fatalf("found %d kinds of steps only", len(kinds))
	}
	return kinds
}

func kindOf(s plan.Step) string { return reflect.TypeOf(s).Name() }

type fault struct {
	before []plan.Step
	step   plan.Step
	call   string
	errno  syscall.Errno
	words  string
}

// faults has, for each kind of step, a plan in which it fails, and the call that
// does: mostly for want of a file, else for want of a capability.
// link is a symlink on the host.
func faults(link string) []fault {
	return []fault{
		{before: []plan.Step{ids()}, step: ids(), call: "write", errno: unix.EPERM, words: "cannot map the user ids of the sandbox"},
		{before: []plan.Step{ids()}, step: plan.SetIDs{UID: 5, GID: 5}, call: "setgroups", errno: unix.EPERM, words: "become uid 5"},
		{before: []plan.Step{ids(), plan.Capabilities{}}, step: plan.Private{}, call: "mount", errno: unix.EPERM, words: "private"},
		{before: []plan.Step{ids(), plan.Capabilities{}}, step: plan.NewRoot{}, call: "mount", errno: unix.EPERM, words: "mount the sandbox's root"},
		{before: root(), step: plan.Stage{Source: "/nothing", Name: "x", Dir: true}, call: "openat2", errno: unix.ENOENT, words: `show "/nothing"`},
		{before: root(), step: plan.Stage{Source: link, Name: "x", Dir: true}, call: "openat2", errno: unix.ELOOP, words: "show"},
		{before: []plan.Step{ids(), plan.Capabilities{}}, step: plan.Ambient{Keep: []int{1}}, call: "capset", errno: unix.EPERM, words: "keep capabilities"},
		{before: root(plan.Capabilities{}), step: plan.Seal{}, call: "mount_setattr", errno: unix.EPERM, words: "make the host's root read-only"},
		{before: root(), step: plan.Open{Source: "/nothing", Name: "layer"}, call: "mount", errno: unix.ENOENT, words: "/nothing"},
		{before: root(), step: plan.Device{Source: "/dev/nothing", Place: plan.Place{Path: "/x"}}, call: "mount", errno: unix.ENOENT, words: `the device "/dev/nothing"`},
		{before: root(), step: plan.MkDir{Path: "/no/dir", Mode: 0o755}, call: "mkdirat", errno: unix.ENOENT, words: `create the directory "/no/dir"`},
		{before: root(plan.MkDir{Path: "/x"}), step: plan.Symlink{Place: plan.Place{Path: "/x"}, Target: "y"}, call: "symlinkat", errno: unix.EEXIST, words: `create the symlink "/x"`},
		{before: root(), step: plan.WriteFile{Path: "/no/file", Data: "x"}, call: "openat", errno: unix.ENOENT, words: `create the file "/no/file"`},
		{before: root(), step: plan.WriteFile{Path: "/no/file"}, call: "mknodat", errno: unix.ENOENT, words: `create the file "/no/file"`},
		{before: root(plan.Symlink{Place: plan.Place{Path: "/x"}, Target: "/proc/y"}), step: plan.WriteFile{Path: "/x", Data: "x"}, call: "openat", errno: unix.EEXIST, words: `"/x"`},
		{before: root(), step: plan.Seed{Place: plan.Place{Path: "/no/home/f", Ground: "/no/home"}, Data: "x"}, call: "openat2", errno: unix.ENOENT, words: `put "/no/home/f" into the private home`},
		{before: root(plan.MkDir{Path: "/x"}, plan.ReadOnlyBelow{Path: "/x"}), step: plan.Seed{Place: plan.Place{Path: "/x/f", Ground: "/x"}, Data: "x"}, call: "openat", errno: unix.EROFS, words: `put "/x/f" into the private home`},
		{before: root(), step: plan.Whiteout{Path: "/no/whiteout"}, call: "mknodat", errno: unix.ENOENT, words: "/no/whiteout"},
		{before: root(plan.MkDir{Path: "/x"}), step: plan.Bind{Source: "/nothing", Place: plan.Place{Path: "/x", Dir: true}}, call: "openat2", errno: unix.ENOENT, words: `show "/nothing" at "/x"`},
		{before: root(plan.MkDir{Path: "/x"}), step: plan.Bind{Source: "/nothing", System: true, Place: plan.Place{Path: "/x", Dir: true}}, call: "mount", errno: unix.ENOENT, words: `show "/nothing"`},
		{before: root(), step: plan.Bind{Source: "/usr", Place: plan.Place{Path: "/no", Dir: true}}, call: "move_mount", errno: unix.ENOENT, words: `show "/usr" at "/no"`},
		{before: root(plan.MkDir{Path: "/x", Mode: 0o755}), step: plan.Bind{Source: "/usr", Place: plan.Place{Path: "/x/usr", Ground: "/x", Host: true, Dir: true}}, call: "openat2", errno: unix.ENOENT, words: `show "/usr" at "/x/usr"`},
		{before: root(), step: plan.Writable{Path: "/no"}, call: "mount", errno: unix.ENOENT, words: `keep "/no" writable`},
		{before: root(), step: plan.ReadOnly{Path: "/no"}, call: "mount_setattr", errno: unix.ENOENT, words: `make "/no" read-only`},
		{before: root(), step: plan.Overlay{Lower: []string{"/nothing"}, Upper: "/proc/u", Work: "/proc/w", Place: plan.Place{Path: "/x", Dir: true}}, call: "openat2", errno: unix.ENOENT, words: `overlay "/x"`},
		{before: root(plan.MkDir{Path: "/x"}), step: plan.Overlay{Lower: []string{"/usr"}, Upper: "/proc/u", Work: "/proc/w", Place: plan.Place{Path: "/x", Dir: true}}, call: "mount", errno: unix.ENOENT, words: `overlay "/x"`},
		{before: root(plan.MkDir{Path: "/x"}, plan.Capabilities{}), step: plan.ProbeUpper{Upper: "/x"}, call: "mount", errno: unix.EPERM, words: "use the layer"},
		{before: root(), step: plan.Mask{Place: plan.Place{Path: "/no"}}, call: "mount", errno: unix.ENOENT, words: `hide "/no"`},
		{before: []plan.Step{ids(), plan.Capabilities{}}, step: plan.Proc{}, call: "mount", errno: unix.EPERM, words: "mount /proc"},
		{before: root(), step: plan.Sysfs{}, call: "mount", errno: unix.ENOENT, words: "mount /sys"},
		{before: root(), step: plan.Devpts{}, call: "mount", errno: unix.ENOENT, words: "mount /dev/pts"},
		{before: []plan.Step{ids(), plan.Capabilities{}}, step: plan.ReadOnlyBelow{Path: "/usr"}, call: "mount", errno: unix.EPERM, words: "/usr"},
		{before: []plan.Step{ids(), plan.Private{}}, step: plan.LeaveHost{}, call: "umount2", errno: unix.ENOENT, words: "detach the host's root"},
		{before: []plan.Step{ids(), plan.Capabilities{}}, step: plan.Loopback{}, call: "ioctl", errno: unix.EPERM, words: "loopback"},
		{before: []plan.Step{ids()}, step: plan.Hostname{Name: strings.Repeat("x", 65)}, call: "sethostname", errno: unix.EINVAL, words: "hostname"},
		{before: []plan.Step{ids()}, step: plan.ChangeDir{Path: "/nowhere at all"}, call: "chdir", errno: unix.ENOENT, words: `enter "/nowhere at all"`},
		{before: []plan.Step{ids()}, step: plan.Limits{Nofile: [2]uint64{10, 5}}, call: "prlimit", errno: unix.EINVAL, words: "set the resource limits"},
		{before: []plan.Step{ids(), plan.Capabilities{}}, step: plan.Bound{}, call: "prctl", errno: unix.EPERM, words: "bound"},
		{before: []plan.Step{ids(), plan.Capabilities{}}, step: plan.Capabilities{Keep: []int{0}}, call: "capset", errno: unix.EPERM, words: "capabilities"},
		{before: []plan.Step{ids(), plan.NoNewPrivs{}}, step: plan.Filter{Name: "bad", Program: seccomp.Program{{Code: 0xffff}}}, call: "seccomp", errno: unix.EINVAL, words: "install the system call filter"},
	}
}

// noFault are the kinds that cannot be made to fail here, with the reason.
var noFault = map[string]string{
	"Keyring":     "only a quota that is used up fails, and that is the whole user's",
	"TieToParent": "fails only where sbx has died; tests/escape_* kill it",
	"Undumpable":  "cannot fail",
	"Borrow":      "waits until sbx sends; lend_test.go",
	"Copy":        "waits until sbx sends; lend_test.go",
	"Pick":        "waits until sbx sends; refresh_test.go",
	"Join":        "waits until sbx sends; lend_test.go",
	"NoNewPrivs":  "the kernel has no reason to refuse it",
	"Scope":       "needs Landlock ABI 6; TestScopeFault",
}

// TestFaults: the step that fails is the one in the error, with its call, no
// matter whether it was launched first or came later; and nothing after it runs.
func TestFaults(t *testing.T) {
	needUserNS(t)
	left := stepKinds(t)
	for kind := range noFault {
		if !left[kind] {
			t.Errorf("%s is no kind of step", kind)
		}
		delete(left, kind)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/usr", link); err != nil {
		t.Fatal(err)
	}
	for _, f := range faults(link) {
		kind := kindOf(f.step)
		delete(left, kind)
		steps := append(append([]plan.Step(nil), f.before...), f.step, plan.ChangeDir{Path: "/after the fault"})
		p := plan.Plan{Namespaces: plan.Namespaces{Net: kind == "Loopback" || kind == "Sysfs"}, Steps: steps, Exec: plan.Exec{Args: []string{"/bin/true"}}}
		for _, first := range []int{0, len(f.before), len(f.before) + 1, len(steps)} {
			_, err := run(p, first)
			var se *StepError
			if !errors.As(err, &se) {
				t.Errorf("%s with %d steps launched: %v", kind, first, err)
				continue
			}
			if !reflect.DeepEqual(se.Step, f.step) || se.Call != f.call || se.Errno != f.errno {
				t.Errorf("%s with %d steps launched: step %q, %s, %v; want %s, %v", kind, first, se.Step, se.Call, se.Errno, f.call, f.errno)
			}
			text := err.Error()
			if !strings.HasPrefix(text, "cannot ") || strings.Count(text, "cannot") != 1 || !strings.Contains(text, f.words) || !strings.Contains(text, f.call+"(2)") || strings.Contains(text, plan.Host) {
				t.Errorf("%s: the words are %q, want %q", kind, text, f.words)
			}
		}
	}
	for kind := range left {
		t.Errorf("no case makes a %s fail", kind)
	}
}

func TestScopeFault(t *testing.T) {
	needUserNS(t)
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || abi < 6 {
		t.Skipf("this kernel has no Landlock scopes (ABI %d, %v); there is nothing to fail", abi, errno)
	}
	_, err := run(plan.Plan{Steps: []plan.Step{ids(), plan.Capabilities{}, plan.Scope{}}}, 0)
	var se *StepError
	if !errors.As(err, &se) || se.Step != plan.Step(plan.Scope{}) || se.Call != "landlock_restrict_self" || se.Errno != unix.EPERM {
		t.Errorf("a scope without no_new_privs: %v", err)
	}
}
