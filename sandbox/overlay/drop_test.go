package overlay

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// drop drops and tells what became of each path, a line each.
func drop(t testing.TB, p Pair, n Notes, opts DropOptions) string {
	t.Helper()
	o, err := p.Open()
	must(t, err)
	defer o.Close()
	var lines []string
	opts.Report = func(path string, err error) {
		if err != nil {
			path += ": " + err.Error()
		}
		lines = append(lines, path)
	}
	must(t, o.Drop(n, opts))
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

func TestDrop(t *testing.T) {
	for _, tt := range []struct {
		name  string
		s     Selection
		said  string
		after string // the changes that are left, with All
	}{
		{"file", named("mod"), "mod", "-M mod"},
		{"whiteout", named("gone", "wd"), "gone wd", "-D gone -D wd/"},
		{"new directory", named("new"), "new", "-A new/ -A new/a/ -A new/a/b/ -A new/a/b/c -A new/empty/ -A new/l"},
		{"in a new directory", named("new/a/b"), "new/a/b", "-A new/a/b/ -A new/a/b/c"},
		{"mode of a directory", named("md"), "md", "-P md/ -A md/g"},
		{"types", named("todir", "tolink", "dtof"), "dtof todir tolink", "-T todir/ -A todir/f -T tolink -T dtof"},
		{"opaque directory", named("op"), "op", "-A op/c -D op/b -D op/s/x -A op/s/y"},
		{"in an opaque directory", named("op/b"), "op/b", "-D op/b"},
		{"deep in an opaque directory", named("op/s/x"), "op/s/x", "-D op/s/x"},
		{"below an opaque directory", named("op/s"), "op/s", "-D op/s/x -A op/s/y"},
		{"a file of an opaque directory", named("op/a"), "op/a", ""},
		{"below a whiteout", named("wd/a"), `wd/a: cannot drop "wd/a": ` + errAbove.Error(), ""},
		{"below a file", named("dtof/a"), `dtof/a: cannot drop "dtof/a": ` + errAbove.Error(), ""},
		{"nothing", named("keep", "none", "none/x", "md/f", "mod/x/y"), `mod/x/y: cannot drop "mod/x/y": ` + errAbove.Error(), ""},
		{"one below another", named("new/a/b", "new", "new/l"), "new", "-A new/ -A new/a/ -A new/a/b/ -A new/a/b/c -A new/empty/ -A new/l"},
		{"glob", Selection{Globs: []Pattern{{[]string{"**", "[cg]"}}}}, "md/g new/a/b/c op/c", "-A md/g -A new/a/b/c -A op/c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, n := everything(t), newNotes(t)
			want := strings.Fields(changes(t, p, Options{All: true}))
			fields := strings.Fields(tt.after)
			for i := 0; i < len(fields); i += 2 {
				for j := 0; j < len(want); j++ {
					if want[j] == fields[i][1:] && j+1 < len(want) && want[j+1] == fields[i+1] {
						want = append(want[:j], want[j+2:]...)
						break
					}
				}
			}
			if got := drop(t, p, n, DropOptions{Selection: tt.s}); got != tt.said {
				t.Errorf("said %q, want %q", got, tt.said)
			}
			got := strings.Fields(changes(t, p, Options{All: true}))
			unmarked := func(s string) bool { return s == "opaque" }
			got, want = slices.DeleteFunc(got, unmarked), slices.DeleteFunc(want, unmarked)
			if !slices.Equal(got, want) {
				t.Errorf("left are\n%q, want\n%q", got, want)
			}
		})
	}
}

func TestDropAll(t *testing.T) {
	for _, s := range []Selection{named(""), {All: true}} {
		p, n := everything(t), newNotes(t)
		drop(t, p, n, DropOptions{Selection: s})
		checkListing(t, p.Upper, "")
		if rest := slices.Collect(n.Journal.Paths(n.Pair)); len(rest) != 0 {
			t.Errorf("still noted: %q", rest)
		}
	}
}

func TestDropShadowed(t *testing.T) {
	p, n := newPair(t), newNotes(t)
	fill(t, p.Lower, "a=1\nb=1\nd/c=1\nop/x=1\nop/y=1\nop/z=1\n")
	tick()
	fill(t, p.Upper, "a=2\nb=2\nd/c=2\nd/new=2\nop!/\nop/y=2\nop/n=2\n")
	opaque(t, p.Upper+"/op")
	tick()
	must(t, mustOpen(t, p).Settle(n))
	fill(t, p.Lower, "a=3\nd/c=3\nop/x=3\nop/y=3\nop/added=3\n")
	if got := drop(t, p, n, DropOptions{Selection: Selection{All: true}, Shadowed: true}); got != "a d/c op/added op/x op/y" {
		t.Errorf("dropped %q", got)
	}
	checkChanges(t, p, Options{Base: n.Base}, "M b\nA d/new\nA op/n\nD op/z\n")
}

// What a build made unreadable can be dropped.
func TestDropUnreadable(t *testing.T) {
	p, n := newPair(t), newNotes(t)
	fill(t, p.Upper, "d/e/f=1\ng=1\n")
	must(t, os.Chmod(p.Upper+"/d/e", 0))
	must(t, os.Chmod(p.Upper+"/d", 0))
	must(t, os.Chmod(p.Upper+"/g", 0))
	if got := drop(t, p, n, DropOptions{Selection: named("d", "g")}); got != "d g" {
		t.Errorf("dropped %q", got)
	}
	checkListing(t, p.Upper, "")
}

// A drop that is interrupted in a directory that is dissolved has changed nothing that
// can be seen.
func TestDropDissolve(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "op/a=1\nop/b=1\nop/s/x=1\nop/s/t/y=1\n")
	tick()
	fill(t, p.Upper, "op!/\nop/c=1\nop/s/z=1\n")
	opaque(t, p.Upper+"/op")
	before := changes(t, p, Options{All: true, Gone: true})
	up, err := unix.Open(p.Upper+"/op", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(up)
	low, err := unix.Open(p.Lower+"/op", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(low)
	unmarked := strings.NewReplacer(" opaque", "")
	for _, name := range []string{"a", "b", "s"} {
		must(t, cover(up, low, name, "a", 1e18))
		if after := changes(t, p, Options{All: true, Gone: true}); after != before {
			t.Fatalf("after %s:\n%swas\n%s", name, after, before)
		}
	}
	must(t, dissolve(up, low, "a"))
	after := changes(t, p, Options{All: true, Gone: true})
	if unmarked.Replace(after) != unmarked.Replace(strings.Replace(before, "D op/a\n", "", 1)) {
		t.Errorf("dissolved:\n%swas\n%s", after, before)
	}
}

// DropLive through a plain directory that stands for the merged one.
func TestDropLive(t *testing.T) {
	for _, s := range []Selection{named(""), named("mod", "gone", "mode", "todir", "tolink", "dtof", "wd", "op", "md", "link", "new")} {
		p, n := everything(t), newNotes(t)
		want := listing(t, p.Lower)
		merged := t.TempDir()
		must(t, exec.Command("cp", "-a", p.Upper+"/.", merged).Run())
		for _, f := range []string{"gone", "wd"} {
			must(t, os.Remove(merged+"/"+f))
		}
		must(t, unix.Removexattr(merged+"/op", "user.overlay.opaque"))
		must(t, os.WriteFile(merged+"/keep", []byte("x"), 0o644))
		must(t, os.WriteFile(merged+"/md/f", []byte("1"), 0o644))
		before := listing(t, p.Upper)
		o := mustOpen(t, p)
		fd, err := unix.Open(merged, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		defer unix.Close(fd)
		must(t, o.DropLive(fd, n, DropOptions{Selection: s, Report: func(path string, err error) {
			if err != nil {
				t.Error(err)
			}
		}}))
		if got := listing(t, merged); got != want {
			t.Errorf("merged is\n%swant\n%s", got, want)
		}
		if after := listing(t, p.Upper); after != before {
			t.Errorf("the upper was\n%sis\n%s", before, after)
		}
	}
}

// DropLive through a real mount, with a file held open: what is written to it
// afterwards is not lost to whoever holds it, and the name is the host's.
func TestDropLiveMounted(t *testing.T) {
	p, n := newPair(t), newNotes(t)
	fill(t, p.Lower, "f=host\nh=host\nd/g=host\ngone=host\n")
	dir := filepath.Dir(p.Lower)
	mkdir(t, dir+"/work", 0o755)
	mkdir(t, dir+"/merged", 0o755)
	opts := "userxattr,index=off,metacopy=off,redirect_dir=nofollow,lowerdir=" + p.Lower + ",upperdir=" + p.Upper + ",workdir=" + dir + "/work"
	if err := unix.Mount("overlay", dir+"/merged", "overlay", 0, opts); err != nil {
		t.Skipf("cannot mount an overlay: %v", err)
	}
	defer unix.Unmount(dir+"/merged", unix.MNT_DETACH)
	m := dir + "/merged"
	must(t, os.WriteFile(m+"/f", []byte("layer"), 0o644))
	must(t, os.WriteFile(m+"/new", []byte("layer"), 0o644))
	must(t, os.Remove(m+"/gone"))
	must(t, os.RemoveAll(m+"/d"))
	must(t, os.MkdirAll(m+"/d/sub/deep", 0o755))
	must(t, os.WriteFile(m+"/h", []byte("more than the host has"), 0o644))
	var held []*os.File
	for _, name := range []string{"f", "h"} {
		file, err := os.OpenFile(m+"/"+name, os.O_RDWR, 0)
		must(t, err)
		held = append(held, file)
	}
	fd, err := unix.Open(m, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	o := mustOpen(t, p)
	must(t, o.DropLive(fd, n, DropOptions{Selection: Selection{All: true}, Report: func(path string, err error) {
		if err != nil {
			t.Error(err)
		}
	}}))
	checkListing(t, m, "d/\nd/g=host\nf=host\ngone=host\nh=host")
	for _, file := range held {
		if _, err := file.WriteString("again"); err != nil {
			t.Error(err)
		}
		file.Close()
	}
	must(t, os.WriteFile(m+"/f", []byte("written later"), 0o644))
	unix.Close(fd)
	must(t, unix.Unmount(m, 0))
	must(t, o.Settle(n))
	checkListing(t, p.Upper, "f=written later\nh=again")
}

// What a drop through a mount has left when it was killed is no change that a pull
// would bring, and goes when the layer is at rest.
func TestDropLiveKilled(t *testing.T) {
	p, n := newPair(t), newNotes(t)
	fill(t, p.Lower, "d/f=host\n")
	fill(t, p.Upper, "d/f=layer\n")
	w := &restorer{notes: n, mark: MirrorMark + "0123-", marked: map[string]bool{}}
	tmp, err := w.temp("d")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(p.Upper, "d", tmp), []byte("ho"), 0o600))
	checkChanges(t, p, Options{All: true, Notes: n}, "M d/f\n")
	must(t, mustOpen(t, p).Settle(n))
	checkListing(t, p.Upper, "d/\nd/f=layer")
	if left := n.Journal.Temps(n.Pair); len(left) > 0 {
		t.Errorf("the journal still has %v", left)
	}
}

// TestRestoreOver: what a build has put in a file's place, after it was found to be one that
// is written to, is not written to.
func TestRestoreOver(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Mkdir(path("low"), 0o700), os.Mkdir(path("merged"), 0o700), os.WriteFile(path("low/f"), []byte("host"), 0o600),
		os.WriteFile(path("victim"), []byte("precious"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	low, err := unix.Open(path("low"), unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(low)
	merged, err := unix.Open(path("merged"), unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(merged)
	want, err := StatAt(low, "f")
	if err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func(name string) error{
		"absolute symlink": func(name string) error { return os.Symlink(path("victim"), name) },
		"relative symlink": func(name string) error { return os.Symlink("../victim", name) },
		"fifo":             func(name string) error { return unix.Mkfifo(name, 0o600) },
		"directory":        func(name string) error { return os.Mkdir(name, 0o700) },
		"nothing":          func(string) error { return nil },
	} {
		if err := put(path("merged/f")); err != nil {
			t.Fatal(err)
		}
		if err := (&restorer{}).over(low, merged, "f", want); err == nil {
			t.Errorf("%s: it is written to", what)
		}
		os.Remove(path("merged/f"))
	}
	if data, err := os.ReadFile(path("victim")); string(data) != "precious" {
		t.Errorf("the victim is %q, %v", data, err)
	}
}
