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
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
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
		{before: root(plan.Capabilities{}), step: plan.Seal{}, call: "mount_setattr", errno: unix.EPERM, words: "make the host's root read-only"},
		{before: root(), step: plan.Open{Source: "/nothing", Name: "layer"}, call: "mount", errno: unix.ENOENT, words: "/nothing"},
		{before: root(), step: plan.Device{Source: "/dev/nothing", Place: plan.Place{Path: "/x"}}, call: "mount", errno: unix.ENOENT, words: `the device "/dev/nothing"`},
		{before: root(), step: plan.MkDir{Path: "/no/dir", Mode: 0o755}, call: "mkdirat", errno: unix.ENOENT, words: `create the directory "/no/dir"`},
		{before: root(plan.MkDir{Path: "/x"}), step: plan.Symlink{Place: plan.Place{Path: "/x"}, Target: "y"}, call: "symlinkat", errno: unix.EEXIST, words: `create the symlink "/x"`},
		{before: root(), step: plan.WriteFile{Path: "/no/file", Data: "x"}, call: "openat", errno: unix.ENOENT, words: `create the file "/no/file"`},
		{before: root(), step: plan.WriteFile{Path: "/no/file"}, call: "mknodat", errno: unix.ENOENT, words: `create the file "/no/file"`},
		{before: root(plan.Symlink{Place: plan.Place{Path: "/x"}, Target: "/proc/y"}), step: plan.WriteFile{Path: "/x", Data: "x"}, call: "openat", errno: unix.EEXIST, words: `"/x"`},
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
	"Forget":      "fails only without /dev/zero",
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

// samples are steps of every kind and in every variant that compiles differently.
func samples() []plan.Step {
	tree := plan.Place{Path: "/home/me/src/a/b", Ground: "/home/me", Dir: true}
	file := plan.Place{Path: "/home/me/src/a/b", Ground: "/home/me"}
	host := plan.Place{Path: "/data/a", Ground: "/data", Host: true}
	list := []plan.Step{
		ids(), plan.MapIDs{UIDs: idmap.Map{{Inside: 0, Outside: 1, Length: 9}}, GIDs: idmap.Map{{Inside: 0, Outside: 1, Length: 9}}}, plan.SetIDs{}, plan.Private{}, plan.NewRoot{}, plan.NewRoot{Size: 1 << 20},
		plan.Stage{Source: "/a", Name: "rw1"}, plan.Stage{Source: "/a", Name: "rw1", Dir: true}, plan.Stage{Source: "/a", Name: "id1", Dir: true, Idmapped: 1, ReadOnly: true}, plan.Seal{},
		plan.Open{Source: "/a", Name: plan.LayerName}, plan.Open{Source: "/a", Name: plan.LayerName, Idmapped: 1},
		plan.Device{Source: "/dev/null", Place: plan.Place{Path: "/dev/null"}}, plan.Device{Source: "/dev/dri", Place: plan.Place{Path: "/dev/dri", Dir: true}}, plan.MkDir{Path: "/a"},
		plan.Symlink{Place: plan.Place{Path: "/a"}, Target: "b"}, plan.Symlink{Place: file, Target: "b"}, plan.WriteFile{Path: "/a"}, plan.WriteFile{Path: "/a", Data: "x"}, plan.Whiteout{Path: "/a"},
		plan.Writable{Path: "/tmp"}, plan.ReadOnly{Path: "/"}, plan.ProbeUpper{Upper: "/proc/layer/upper"}, plan.Mask{Place: plan.Place{Path: "/proc/x"}, Optional: true}, plan.Proc{}, plan.ReadOnlyBelow{Path: "/a"}, plan.Sysfs{}, plan.Devpts{},
		plan.LeaveHost{}, plan.Loopback{}, plan.Hostname{Name: "sbx"}, plan.ChangeDir{Path: "/"}, plan.Keyring{}, plan.Limits{Nofile: [2]uint64{1, 2}, Processes: 3}, plan.Bound{}, plan.Bound{Keep: []int{1}},
		plan.Capabilities{}, plan.TieToParent{}, plan.Forget{}, plan.NoNewPrivs{}, plan.Scope{}, plan.Filter{Program: seccomp.Program{{Code: 6}}},
		plan.Overlay{Lower: []string{"/proc/etc", "/etc"}, Place: plan.Place{Path: "/etc", Dir: true}},
	}
	for _, at := range []plan.Place{{Path: "/a", Dir: true}, {Path: "/a"}, tree, file, host} {
		list = append(list, plan.Bind{Source: "/s", Place: at}, plan.Bind{Source: "/s", System: true, Place: at}, plan.Bind{Source: "/s", Staged: "rw1", Place: at}, plan.Mask{Place: at},
			plan.Overlay{Lower: []string{"/s"}, Upper: "/proc/layer/upper", Work: "/proc/layer/work", Place: at}, plan.Overlay{Lower: []string{"/s"}, Staged: "id1", Upper: "/proc/layer/upper", Work: "/proc/layer/work", Place: at})
	}
	return list
}

// TestCallNames: every call of every step has a name for its error.
func TestCallNames(t *testing.T) {
	left := stepKinds(t)
	check := func(what string, ops []op) {
		if len(ops) == 0 {
			t.Errorf("%s compiles to nothing", what)
		}
		for _, o := range ops {
			if name := callName(o.nr); strings.HasPrefix(name, "syscall ") {
				t.Errorf("%s makes a call without a name: %s", what, name)
			}
		}
	}
	for _, s := range samples() {
		delete(left, kindOf(s))
		c := newCompiler(t)
		c.compile(s)
		if c.err != nil {
			t.Errorf("%s: %v", s, c.err)
		}
		if m, ok := s.(plan.MapIDs); ok && !ownMap(m) {
			if len(c.ops) != 0 {
				t.Errorf("a map that the parent writes is written by the child too")
			}
			continue
		}
		check(s.String(), c.ops)
	}
	for kind := range left {
		t.Errorf("no sample is a %s", kind)
	}
	c := newCompiler(t)
	c.begin(20, 21, []int{200, 201, 205})
	c.end()
	check("the frame", c.ops)
	c = newCompiler(t)
	c.command(&table{}, plan.Exec{Args: []string{"true"}, Path: []string{"/bin"}})
	check("the command", c.ops)
	if name := callName(1 << 20); name != "syscall 1048576" {
		t.Errorf("an unknown call is %q", name)
	}
	type unknown struct{ plan.Private }
	if c := newCompiler(t); true {
		if c.compile(unknown{}); c.err == nil || !strings.Contains(c.err.Error(), "internal error") {
			t.Errorf("a step that nothing knows: %v", c.err)
		}
	}
}

func newCompiler(t *testing.T) *compiler {
	t.Helper()
	m, err := newMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.free)
	return &compiler{m: m, given: []int{200, 201}}
}

// cString reads a C string out of the table.
func cString(p uintptr, m *memory) string {
	base := uintptr(unsafe.Pointer(unsafe.SliceData(m.all)))
	if p < base || p >= base+uintptr(len(m.all)) {
		return ""
	}
	rest := m.all[p-base:]
	for i, b := range rest {
		if b == 0 {
			return string(rest[:i])
		}
	}
	return ""
}

// TestNoPathInOptions: in the options of an overlay `:`, `,` and `\` mean
// something, so that no path of a user's is among them.
func TestNoPathInOptions(t *testing.T) {
	for _, path := range []string{"/home/me/a,upperdir=b", "/x:y", `/back\slash`, "/etc,x", "/etcetera/a:b", "/opt,x", "/opt/a:b", "/etc/a:b", "/usr/a,b", "/usr/a:b"} {
		for _, at := range []plan.Place{{Path: path, Dir: true}, {Path: path + "/sub", Ground: path, Dir: true}} {
			for _, staged := range []string{"", "id1"} {
				c := newCompiler(t)
				c.compile(plan.Overlay{Lower: []string{path}, Staged: staged, Upper: "/proc/layer/upper", Work: "/proc/layer/work", Place: at})
				overlays := 0
				for _, o := range c.ops {
					if o.nr != unix.SYS_MOUNT || cString(o.arg[2], c.m) != "overlay" {
						continue
					}
					overlays++
					if options := cString(o.arg[4], c.m); strings.Contains(options, filepath.Base(path)) {
						t.Errorf("the overlay of %q (staged %q) has the options %q", path, staged, options)
					}
				}
				if overlays != 1 {
					t.Errorf("%q: %d overlays are mounted", path, overlays)
				}
			}
		}
	}
}

func TestCandidates(t *testing.T) {
	for _, test := range []struct {
		e    plan.Exec
		want []string
	}{
		{plan.Exec{Args: []string{"make"}, Path: []string{"/a", "/b/", "", "rel"}}, []string{"/a/make", "/b/make", "./make", "rel/make"}},
		{plan.Exec{Args: []string{"./make"}, Path: []string{"/a"}}, []string{"./make"}},
		{plan.Exec{Args: []string{"a/b"}, Path: []string{"/a"}}, []string{"a/b"}},
		{plan.Exec{Args: []string{"make"}}, nil},
		{plan.Exec{Args: []string{"make"}, Path: []string{"/"}}, []string{"/make"}},
	} {
		if got := candidates(test.e); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q in %q: %q", test.e.Args, test.e.Path, got)
		}
	}
}

// TestMemory: pieces do not overlap, and an exhausted memory gives nil and no
// piece of another.
func TestMemory(t *testing.T) {
	m, err := newMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer m.free()
	a, b := m.str("abc"), m.str("")
	c := put(m, uint64(7))
	if a%8 != 0 || b%8 != 0 || c%8 != 0 || a == b || b == c {
		t.Errorf("pieces at %#x, %#x, %#x", a, b, c)
	}
	if cString(a, m) != "abc" || cString(b, m) != "" {
		t.Errorf("the strings are %q and %q", cString(a, m), cString(b, m))
	}
	if piece := m.cut(len(m.rest) + 1); piece != nil {
		t.Error("more is given than there is")
	}
	m.cut(len(m.rest))
	if m.cut(1) != nil || list[uint64](m, 1) != nil || put(m, uint64(1)) != 0 || list[uint64](m, 0) != nil {
		t.Error("an exhausted memory gives something")
	}
}
