package child

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/seccomp"
)

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
		plan.Seed{Place: file, Data: "x"}, plan.Seed{Place: file, Data: "x", Have: plan.HasEarlier},
		plan.Writable{Path: "/tmp"}, plan.ReadOnly{Path: "/"}, plan.ProbeUpper{Upper: "/proc/layer/upper"}, plan.Mask{Place: plan.Place{Path: "/proc/x"}, Optional: true}, plan.Proc{}, plan.ReadOnlyBelow{Path: "/a"}, plan.Sysfs{}, plan.Devpts{},
		plan.LeaveHost{}, plan.Loopback{}, plan.Hostname{Name: "sbx"}, plan.ChangeDir{Path: "/"}, plan.Keyring{}, plan.Limits{Nofile: [2]uint64{1, 2}, Processes: 3}, plan.Bound{}, plan.Bound{Keep: []int{1}},
		plan.Capabilities{}, plan.Ambient{Keep: []int{1}}, plan.TieToParent{}, plan.Undumpable{}, plan.NoNewPrivs{}, plan.Scope{}, plan.Filter{Program: seccomp.Program{{Code: 6}}},
		plan.Overlay{Lower: []string{"/proc/etc", "/etc"}, Place: plan.Place{Path: "/etc", Dir: true}},
		plan.Borrow{Count: 2}, plan.Join{Kinds: Namespaces}, plan.Copy{Count: 2}, plan.Pick{}, plan.Overlay{Upper: "/proc/layer/upper", Place: tree, Borrowed: 2, Lend: true},
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
			if name := callName(uintptr(o.nr)); strings.HasPrefix(name, "syscall ") {
				t.Errorf("%s makes a call without a name: %s", what, name)
			}
		}
	}
	for _, s := range samples() {
		delete(left, kindOf(s))
		c := testCompiler(t)
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
	c := testCompiler(t)
	c.begin(10, []int{200, 201, 205})
	c.frame()
	c.end()
	check("the frame", c.ops)
	c = testCompiler(t)
	c.command(&table{}, plan.Plan{Exec: plan.Exec{Args: []string{"true"}, Path: []string{"/bin"}}})
	check("the command", c.ops)
	if name := callName(1 << 20); name != "syscall 1048576" {
		t.Errorf("an unknown call is %q", name)
	}
	type unknown struct{ plan.Private }
	if c := testCompiler(t); true {
		if c.compile(unknown{}); c.err == nil || !strings.Contains(c.err.Error(), "internal error") {
			t.Errorf("a step that nothing knows: %v", c.err)
		}
	}
}

func testCompiler(t *testing.T) *compiler {
	t.Helper()
	m, err := newMemory()
	if err != nil {
		t.Fatal(err)
	}
	c := newCompiler(m)
	c.given = []int{200, 201}
	return c
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
				c := testCompiler(t)
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
