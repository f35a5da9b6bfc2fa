package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// newNotes are the notes of a layer that has none.
func newNotes(t testing.TB) Notes {
	t.Helper()
	l := state.Store{Root: filepath.Join(t.TempDir(), "state")}.Tree("/src/app").Layer("default")
	must(t, os.MkdirAll(l.Dir, 0o700))
	j, err := l.Journal()
	must(t, err)
	return Notes{Journal: j, Pair: state.TreeKey}
}

func mustOpen(t testing.TB, p Pair) *Opened {
	t.Helper()
	o, err := p.Open()
	must(t, err)
	t.Cleanup(o.Close)
	return o
}

// tick lets the clock of file systems go on: what follows is younger.
func tick() { time.Sleep(20 * time.Millisecond) }

// listing is what is in a directory, in the form that fill reads.
func listing(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		mode := ""
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&0o7777 != 0o755, st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o7777 != 0o644:
			mode = fmt.Sprintf(":%o", st.Mode&0o7777)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			mark := ""
			var b [1]byte
			if n, _ := unix.Lgetxattr(path, "user.overlay.opaque", b[:]); n == 1 && b[0] == 'y' {
				mark = "!"
			}
			rel += mark + "/" + mode
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel += mode + "=" + string(data)
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			rel += "->" + target
		case unix.S_IFCHR:
			rel += "%"
		case unix.S_IFIFO:
			rel += "|"
		}
		lines = append(lines, rel)
		return nil
	}))
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func checkListing(t *testing.T, root, want string) {
	t.Helper()
	if got, want := strings.TrimSpace(listing(t, root)), strings.TrimSpace(text(want)); got != want {
		t.Errorf("%s has\n%s\nwant\n%s", filepath.Base(root), got, want)
	}
}

// What equals the host's goes, everything else stays and is noted.
func TestSettle(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, `
		same=x
		other=x
		mode=x
		link->a
		d/same=1
		d/e/same=2
		d-x=x
		gone=x
		k/same=1
		k/new/
		k/new/f=x
		op/a=1
		op/b=2
		agree/a=1
		agree/s/b=2
		wd/x=1
		linked=x
	`)
	tick()
	fill(t, p.Upper, `
		same=x
		other=y
		mode:755=x
		link->a
		d/same=1
		d/e/same=2
		d-x=x
		gone%
		nothing%
		k/same=1
		k/only=x
		wd/:700
		wd/x=1
		op!/
		op/a=1
		agree!/
		agree/a=1
		agree/s/b=2
		new/a/b=c
		new-x=x
		linked=x
		empty/
	`)
	must(t, os.Remove(filepath.Join(p.Upper, "linked")))
	must(t, os.WriteFile(filepath.Join(p.Upper, "new/one"), []byte("x"), 0o644))
	must(t, os.Link(filepath.Join(p.Upper, "new/one"), filepath.Join(p.Upper, "linked")))
	o, n := mustOpen(t, p), newNotes(t)
	before := changes(t, p, Options{})
	must(t, o.Settle(n))
	checkListing(t, p.Upper, `
		empty/
		gone%
		k/
		k/only=x
		linked=x
		mode:755=x
		new-x=x
		new/
		new/a/
		new/a/b=c
		new/one=x
		op!/
		op/a=1
		other=y
		wd/:700
	`)
	if after := changes(t, p, Options{}); after != before {
		t.Errorf("the changes were\n%sand are\n%s", before, after)
	}
	paths := slices.Sorted(n.Journal.Paths(n.Pair))
	if want := strings.Fields("empty gone k k/only linked mode new new-x op op/a other wd"); !slices.Equal(paths, want) {
		t.Errorf("noted are %q", paths)
	}
	if f, ok := n.Base("new"); !ok || f.Exists() {
		t.Errorf("the host had %v at a new directory", f)
	}
	if f, _ := n.Base("other"); f.Size != 1 || f.Type != 'f' || f.Ctime == 0 {
		t.Errorf("the host had %v at other", f)
	}
	// Nothing changes the second time, in a fresh reading of the journal.
	st, err := os.Stat(filepath.Join(filepath.Dir(p.Upper), "upper"))
	must(t, err)
	must(t, o.Settle(n))
	st2, err := os.Stat(filepath.Join(filepath.Dir(p.Upper), "upper"))
	must(t, err)
	if st.ModTime() != st2.ModTime() {
		t.Error("settling a settled upper changes it")
	}
	if s := changes(t, p, Options{Base: n.Base}); strings.Contains(s, "shadowed") {
		t.Errorf("nothing has drifted:\n%s", s)
	}
	// What is gone from the upper is forgotten.
	must(t, os.RemoveAll(p.Upper))
	mkdir(t, p.Upper, 0o755)
	o = mustOpen(t, p)
	must(t, o.Settle(n))
	if rest := slices.Collect(n.Journal.Paths(n.Pair)); len(rest) != 0 {
		t.Errorf("still noted: %q", rest)
	}
}

// Note leaves the upper as it is.
func TestNote(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "same=x\nd/same=x\nother=x\n")
	tick()
	fill(t, p.Upper, "same=x\nd/same=x\nnothing%\nother=y\nnew=x\n")
	before := listing(t, p.Upper)
	o, n := mustOpen(t, p), newNotes(t)
	must(t, o.Note(n))
	if after := listing(t, p.Upper); after != before {
		t.Errorf("the upper was\n%sand is\n%s", before, after)
	}
	if paths := slices.Sorted(n.Journal.Paths(n.Pair)); !slices.Equal(paths, strings.Fields("d d/same new nothing other same")) {
		t.Errorf("noted are %q", paths)
	}
}

// A host's edit is noticed, whether it came before the first note or after it.
func TestSettleDrift(t *testing.T) {
	for _, early := range []bool{true, false} {
		p := newPair(t)
		fill(t, p.Lower, "f=1\ngone=1\nquiet=1\nwd/a=1\n")
		tick()
		fill(t, p.Upper, "f=2\ngone%\nquiet=2\nwd%\nnew=1\n")
		tick()
		o, n := mustOpen(t, p), newNotes(t)
		if !early {
			must(t, o.Settle(n))
		}
		fill(t, p.Lower, "f=3\ngone=3\nwd/b=1\nnew=2\n")
		must(t, o.Settle(n))
		want := "M f shadowed\nD gone shadowed\nM new shadowed\nM quiet\nD wd/ shadowed\n"
		if got := changes(t, p, Options{Base: n.Base}); got != want {
			t.Errorf("early %v:\n%s", early, got)
		}
	}
}

// Extended attributes of a build's are not thrown away.
func TestSettleAttributes(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "plain=x\nsame=x\ndiffers=x\nd/f=x\n")
	fill(t, p.Upper, "plain=x\nsame=x\ndiffers=x\nd/f=x\n")
	set := func(path, value string) {
		if err := unix.Setxattr(path, "user.test", []byte(value), 0); err != nil {
			t.Skip(err)
		}
	}
	set(p.Lower+"/same", "1")
	set(p.Upper+"/same", "1")
	set(p.Lower+"/differs", "1")
	set(p.Upper+"/differs", strings.Repeat("2", 2000))
	set(p.Upper+"/d", "1")
	must(t, unix.Setxattr(p.Upper+"/plain", "user.overlay.origin", []byte("x"), 0))
	must(t, mustOpen(t, p).Settle(newNotes(t)))
	checkListing(t, p.Upper, "d/\ndiffers=x")
}

// A directory that cannot be read keeps its notes and itself.
func TestSettleUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can read everything")
	}
	p := newPair(t)
	fill(t, p.Lower, "d/f=1\n")
	tick()
	fill(t, p.Upper, "d/f=2\n")
	o, n := mustOpen(t, p), newNotes(t)
	must(t, o.Settle(n))
	must(t, os.Chmod(p.Upper+"/d", 0))
	if err := o.Settle(n); err == nil {
		t.Error("no error")
	}
	must(t, os.Chmod(p.Upper+"/d", 0o755))
	if _, ok := n.Base("d/f"); !ok {
		t.Error("the note is lost")
	}
}

// What has been settled is not read again; what changes after that is, on either
// side, and what a pull has seen.
func TestSettleAgain(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "same=1\nhost=1\nlayer=1\npulled=1\nop/a=1\n")
	time.Sleep(2 * time.Duration(clockTick))
	fill(t, p.Upper, "same=2\nhost=2\nlayer=2\npulled=2\nop!/\nop/a=2\n")
	time.Sleep(2 * time.Duration(clockTick))
	o, n := mustOpen(t, p), newNotes(t)
	must(t, o.Settle(n))
	// Content that changes without a time of change cannot be seen: so one sees
	// that it is not read.
	s := &settling{o: o, notes: n, remove: true}
	known := func(path string) bool {
		up, low, err := Stat{}, Stat{}, error(nil)
		if up, err = StatAt(o.upper, path); err == nil {
			low, err = StatAt(o.lower, path)
		}
		must(t, err)
		return s.known(path, up, low)
	}
	for _, path := range []string{"same", "host", "layer", "pulled"} {
		if !known(path) {
			t.Errorf("%s would be read again", path)
		}
	}
	tick()
	fill(t, p.Lower, "host=2\npulled=2\nop/a=2\n")
	fill(t, p.Upper, "layer=1\n")
	low, err := StatAt(o.lower, "pulled")
	must(t, err)
	must(t, n.Journal.Write(false, n.seen("pulled", low.Fingerprint())))
	for _, path := range []string{"host", "layer", "pulled"} {
		if known(path) {
			t.Errorf("%s would not be read", path)
		}
	}
	must(t, o.Settle(n))
	checkListing(t, p.Upper, "same=2\n")
}

func BenchmarkSettleEmpty(b *testing.B) {
	p := newPair(b)
	n := newNotes(b)
	for b.Loop() {
		o, err := p.Open()
		must(b, err)
		must(b, o.Settle(n))
		o.Close()
	}
}

func BenchmarkSettle100k(b *testing.B) {
	p := newPair(b)
	for d := range many(1000) {
		dir := fmt.Sprintf("/d%03d", d)
		mkdir(b, p.Lower+dir, 0o755)
		mkdir(b, p.Upper+dir, 0o755)
		for f := range 100 {
			name := fmt.Sprintf("%s/f%02d", dir, f)
			must(b, os.WriteFile(p.Lower+name, []byte("host"), 0o644))
			must(b, os.WriteFile(p.Upper+name, []byte("layer"), 0o644))
		}
	}
	o, n := mustOpen(b, p), newNotes(b)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			must(b, o.Settle(newNotes(b)))
		}
	})
	must(b, o.Settle(n))
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			must(b, o.Settle(n))
		}
	})
}
