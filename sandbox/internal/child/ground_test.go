package child

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// ground is a private home that a build has written to in an earlier run, and
// places outside that it would like sbx to touch.
type ground struct{ home, outside, data string }

func newGround(t *testing.T) ground {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	g := ground{dir + "/home", dir + "/outside", dir + "/data"}
	for _, d := range []string{g.home, g.outside, g.data} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// try runs steps in a root with the home at /home, writable, and no command.
func (g ground) try(steps ...plan.Step) error {
	mask := []plan.Step{plan.MkDir{Path: plan.Scratch + "/mask", Mode: 0o755}, plan.MkDir{Path: plan.Scratch + "/mask/dir", Mode: 0o555}, plan.WriteFile{Path: plan.Scratch + "/mask/file", Mode: 0o444}}
	all := root(plan.Stage{Source: g.home, Name: "rw1", Dir: true}, plan.Seal{}, plan.MkDir{Path: "/home", Mode: 0o755}, plan.Bind{Source: g.home, Staged: "rw1", Place: plan.Place{Path: "/home", Dir: true}})
	_, err := run(plan.Plan{Steps: append(append(all, mask...), steps...)}, 0)
	return err
}

// listing is what is in a directory, sorted, each with its kind; names that were
// moved aside without their random part.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if i := strings.Index(name, ".sbx-aside-"); i >= 0 {
			name = name[:i] + ".aside"
		}
		names = append(names, name+e.Type().String()[:1])
	}
	return strings.Join(names, " ")
}

// TestGround: whatever a build has put in the way of a mount point is moved
// aside, and a symlink is not followed; nothing outside is made or changed.
func TestGround(t *testing.T) {
	needUserNS(t)
	dirAt := func(g ground, path string) plan.Step {
		return plan.Bind{Source: g.data, Place: plan.Place{Path: path, Ground: "/home", Dir: true}}
	}
	fileAt := func(path string) plan.Step { return plan.Mask{Place: plan.Place{Path: path, Ground: "/home"}} }
	linkAt := func(path string) plan.Step {
		return plan.Symlink{Place: plan.Place{Path: path, Ground: "/home"}, Target: "/usr"}
	}
	tests := []struct {
		name   string
		before func(g ground) error
		step   func(g ground) plan.Step
		want   string
		below  string // what is in home/src
	}{
		{"nothing there", nil, func(g ground) plan.Step { return dirAt(g, "/home/src/app") }, "srcd", "appd"},
		{"it is there", func(g ground) error { return os.MkdirAll(g.home+"/src/app/kept", 0o755) }, func(g ground) plan.Step { return dirAt(g, "/home/src/app") }, "srcd", "appd"},
		{"a symlink on the way", func(g ground) error { return os.Symlink(g.outside, g.home+"/src") }, func(g ground) plan.Step { return dirAt(g, "/home/src/app") }, "srcd src.asideL", "appd"},
		{"a symlink in the tree on the way", func(g ground) error {
			return errors.Join(os.Mkdir(g.home+"/real", 0o755), os.Symlink("real", g.home+"/src"))
		}, func(g ground) plan.Step { return dirAt(g, "/home/src/app") }, "reald srcd src.asideL", "appd"},
		{"a dangling symlink at the end", func(g ground) error { return os.Symlink(g.outside+"/new", g.home+"/src") }, func(g ground) plan.Step { return dirAt(g, "/home/src") }, "srcd src.asideL", ""},
		{"a file on the way", func(g ground) error { return os.WriteFile(g.home+"/src", nil, 0o644) }, func(g ground) plan.Step { return dirAt(g, "/home/src/app") }, "srcd src.aside-", "appd"},
		{"a fifo at the end", func(g ground) error { return unix.Mkfifo(g.home+"/src", 0o644) }, func(g ground) plan.Step { return dirAt(g, "/home/src") }, "srcd src.asidep", ""},
		{"a directory for a file", func(g ground) error { return os.MkdirAll(g.home+"/conf/x", 0o755) }, func(ground) plan.Step { return fileAt("/home/conf") }, "conf- conf.asided", ""},
		// move_mount(2) by descriptor mounts on the symlink itself, which covers it.
		{"a symlink for a file", func(g ground) error { return os.Symlink(g.outside+"/file", g.home+"/conf") }, func(ground) plan.Step { return fileAt("/home/conf") }, "confL", ""},
		{"a file for a file", func(g ground) error { return os.WriteFile(g.home+"/conf", nil, 0o600) }, func(ground) plan.Step { return fileAt("/home/conf") }, "conf-", ""},
		{"a new symlink", nil, func(ground) plan.Step { return linkAt("/home/l") }, "lL", ""},
		{"a symlink for a symlink", func(g ground) error { return os.Symlink(g.outside, g.home+"/l") }, func(ground) plan.Step { return linkAt("/home/l") }, "lL", ""},
		{"a symlink for a directory", func(g ground) error { return os.MkdirAll(g.home+"/l/x", 0o755) }, func(ground) plan.Step { return linkAt("/home/l") }, "lL l.asided", ""},
		{"a symlink below a symlink", func(g ground) error { return os.Symlink(g.outside, g.home+"/src") }, func(ground) plan.Step { return linkAt("/home/src/l") }, "srcd src.asideL", "lL"},
	}
	for _, test := range tests {
		g := newGround(t)
		if test.before != nil {
			if err := test.before(g); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.try(test.step(g)); err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := listing(t, g.home); got != test.want {
			t.Errorf("%s: in the home is now %q, want %q", test.name, got, test.want)
		}
		if test.below != "" {
			if got := listing(t, g.home+"/src"); got != test.below {
				t.Errorf("%s: in src is now %q, want %q", test.name, got, test.below)
			}
		}
		if got := listing(t, g.outside); got != "" {
			t.Errorf("%s: outside is now %q", test.name, got)
		}
		// Twice is no different.
		if err := g.try(test.step(g)); err != nil {
			t.Errorf("%s, again: %v", test.name, err)
		}
		if got := listing(t, g.home); got != test.want {
			t.Errorf("%s, again: in the home is now %q, want %q", test.name, got, test.want)
		}
	}
}

// TestHostGround: on the host's own ground (--rw) nothing is made and nothing
// moved; the mount point is there or the step fails.
func TestHostGround(t *testing.T) {
	needUserNS(t)
	at := func(path string, dir bool) plan.Step {
		return plan.Mask{Place: plan.Place{Path: path, Ground: "/home", Dir: dir, Host: true}}
	}
	for _, test := range []struct {
		step plan.Step
		want error
	}{
		{at("/home/absent", false), unix.ENOENT},
		{at("/home/absent/deeper", true), unix.ENOENT},
		{at("/home/file", true), unix.ENOTDIR},
		{at("/home/file/below", false), unix.ENOTDIR},
		{at("/home/link", true), unix.ENOTDIR},
		{at("/home/link", false), nil},
		{at("/home/link/x", true), unix.ELOOP},
		{at("/home/file", false), nil},
		{at("/home/dir", true), nil},
	} {
		g := newGround(t)
		if err := errors.Join(os.WriteFile(g.home+"/file", nil, 0o644), os.Mkdir(g.home+"/dir", 0o755), os.Symlink(g.outside, g.home+"/link")); err != nil {
			t.Fatal(err)
		}
		if err := g.try(test.step); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.step, err, test.want)
		}
		if got := listing(t, g.home); got != "dird file- linkL" {
			t.Errorf("%s: in the home is now %q", test.step, got)
		}
	}
}

// TestSourceSwapped: a source was resolved before the clone; if a name of it has
// become a symlink since, the step fails and follows nothing.
func TestSourceSwapped(t *testing.T) {
	needUserNS(t)
	g := newGround(t)
	link := g.home + "/swapped"
	if err := errors.Join(os.Symlink(g.outside, link), os.Mkdir(g.outside+"/sub", 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{link, link + "/sub"} {
		at := plan.Place{Path: "/x", Dir: true}
		for _, step := range []plan.Step{
			plan.Bind{Source: source, Place: at}, plan.Stage{Source: source, Name: "rw2", Dir: true},
			plan.Overlay{Lower: []string{source}, Upper: "/proc/u", Work: "/proc/w", Place: at},
		} {
			err := g.try(plan.MkDir{Path: "/x", Mode: 0o755}, step)
			if !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
				t.Errorf("%s: %v", step, err)
			}
		}
	}
}

// TestProbeUpper: the kernel knows whether a mount has an upper directory.
func TestProbeUpper(t *testing.T) {
	needUserNS(t)
	g := newGround(t)
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(g.home+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// overlayfs leaves directories there that have no permissions, one in the
	// other.
	t.Cleanup(func() {
		dir := filepath.Join(g.home, "work")
		for _, name := range []string{"work", "incompat", "volatile"} {
			dir = filepath.Join(dir, name)
			os.Chmod(dir, 0o700)
		}
	})
	layer := plan.Scratch + "/rw1"
	mount := plan.Overlay{Lower: []string{g.data}, Upper: layer + "/upper", Work: layer + "/work", Place: plan.Place{Path: "/tree", Dir: true}}
	probe := plan.ProbeUpper{Upper: layer + "/upper"}
	tree := plan.MkDir{Path: "/tree", Mode: 0o755}
	if err := g.try(tree, mount); err != nil {
		missing(t, "$TMPDIR cannot hold an upper: %v", err)
	}
	if err := g.try(probe, plan.ProbeUpper{Upper: layer + "/never"}); err != nil {
		t.Errorf("a free upper: %v", err)
	}
	if err := g.try(tree, mount, probe); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "still has it mounted") {
		t.Errorf("an upper in use: %v", err)
	}
	// What is written goes to the upper, and not to the lower.
	if err := g.try(tree, mount, plan.WriteFile{Path: "/tree/new", Mode: 0o644, Data: "text"}); err != nil {
		t.Errorf("writing to the overlay: %v", err)
	}
	if data, err := os.ReadFile(g.home + "/upper/new"); string(data) != "text" || listing(t, g.data) != "" {
		t.Errorf("in the upper is %q, %v; in the lower %q", data, err, listing(t, g.data))
	}
}

// TestSealed: what is not staged is read-only, whatever the caller may do.
func TestSealed(t *testing.T) {
	needUserNS(t)
	g := newGround(t)
	at := plan.Place{Path: "/x", Dir: true}
	for name, steps := range map[string][]plan.Step{
		"bind":           {plan.Bind{Source: g.data, Place: at}},
		"system bind":    {plan.Bind{Source: g.data, System: true, Place: at}},
		"read_only":      {plan.Bind{Source: g.home, Staged: "rw1", Place: at}, plan.ReadOnly{Path: "/x"}},
		"mask":           {plan.ReadOnlyBelow{Path: plan.Scratch + "/mask"}, plan.Mask{Place: at}},
		"read-only root": {plan.ReadOnly{Path: "/"}},
	} {
		err := g.try(append(append([]plan.Step{plan.MkDir{Path: "/x", Mode: 0o755}}, steps...), plan.WriteFile{Path: "/x/new", Mode: 0o644, Data: "x"})...)
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("writing below a %s: %v", name, err)
		}
	}
	if err := g.try(plan.WriteFile{Path: "/home/new", Mode: 0o644, Data: "x"}); err != nil {
		t.Errorf("writing to what is staged: %v", err)
	}
	if got := listing(t, g.data) + "|" + listing(t, g.home); got != "|new-" {
		t.Errorf("on the host is now %q", got)
	}
}

// TestBindFleeting: what was in /etc a moment ago and is no more is left out.
func TestBindFleeting(t *testing.T) {
	needUserNS(t)
	g := newGround(t)
	at := plan.Place{Path: "/x", Dir: true}
	if err := g.try(plan.MkDir{Path: "/x", Mode: 0o755}, plan.Bind{Source: "/etc/nothing", System: true, Fleeting: true, Place: at}); err != nil {
		t.Error(err)
	}
	if err := g.try(plan.MkDir{Path: "/x", Mode: 0o755}, plan.Bind{Source: "/etc/nothing", System: true, Place: at}); err == nil {
		t.Error("what is not there is shown")
	}
}
