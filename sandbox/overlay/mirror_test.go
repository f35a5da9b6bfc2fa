package overlay

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

func TestParseMirror(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("f", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	list := []Mirror{{}, {Mode: unix.S_IFDIR}}
	for _, name := range []string{"f", "l"} {
		m, err := MirrorOf(fd, name)
		if err != nil {
			t.Fatal(err)
		}
		if is, err := m.Is(fd, name); !is || err != nil {
			t.Errorf("%s is not %v: %v", name, m, err)
		}
		list = append(list, m)
	}
	for _, m := range list {
		if got, err := ParseMirror(m.String()); got != m || err != nil {
			t.Errorf("%s: %v, %v", m, got, err)
		}
	}
	for _, bad := range []string{"", "x", "0:1:2:", "100644:1:2", list[2].String() + "0", "-1:1:1:" + list[2].String()[len("100640:4:1795692370050798276:"):]} {
		if m, err := ParseMirror(bad); err == nil {
			t.Errorf("%q is %v", bad, m)
		}
	}
}

// TestRemoveMirrors: at rest mirrors go, and what a build has made of one stays.
func TestRemoveMirrors(t *testing.T) {
	base := t.TempDir()
	l := state.Store{Root: filepath.Join(base, "state")}.Tree("/src").Layer("default")
	lower, upper := filepath.Join(base, "lower"), l.Upper()
	write := func(path, text string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"d/same", "d/old", "d/written", "d/hidden", "d/linked"} {
		write(filepath.Join(lower, f), "host\n")
		write(filepath.Join(upper, f), "mirror\n")
	}
	// One is a copy on the way, one what a known mirror has taken the place of, and one
	// is a build's, of the moment in which sbx was killed.
	for f, text := range map[string]string{"gone/f": "mirror\n", "gone/d/.sbx-mirror-1-3.tmp": "mir", "gone/d/.sbx-mirror-1-4.swp": "mirror\n", "keep/.sbx-mirror-1-5.swp": "built\n"} {
		write(filepath.Join(upper, f), text)
	}
	write(filepath.Join(upper, "keep/f"), "build\n")
	st, err := os.Stat(filepath.Join(upper, "gone/f"))
	if err == nil {
		err = os.Chtimes(filepath.Join(upper, "gone/d/.sbx-mirror-1-4.swp"), st.ModTime(), st.ModTime())
	}
	if err != nil {
		t.Fatal(err)
	}
	j, err := l.Journal()
	if err != nil {
		t.Fatal(err)
	}
	n := Notes{Journal: j, Pair: "."}
	o, err := Pair{Lower: lower, Upper: upper}.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	note := func(path string) {
		dir, err := OpenBeneath(o.upper, filepath.Dir(path), unix.O_PATH)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(dir)
		m, err := MirrorOf(dir, filepath.Base(path))
		if err != nil {
			t.Fatal(err)
		}
		// The next one is on its way.
		if err := n.SetMirrors(path, Mirror{Mode: unix.S_IFREG}, m); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"d/same", "d/old", "d/written", "d/linked", "gone/f"} {
		note(f)
	}
	for _, d := range []string{"d", "gone", "gone/d", "keep"} {
		st, err := StatAt(o.upper, d)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.SetMirrors(d, Mirror{Mode: st.Mode, Size: int64(st.Ino)}); err != nil {
			t.Fatal(err)
		}
	}
	// sbx was killed while a name came and went.
	for _, d := range []string{"keep/phantom", "gone/d/.sbx-mirror-1-6.tmp", "keep/.sbx-mirror-1-7.tmp"} {
		if err := os.Mkdir(filepath.Join(upper, d), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(filepath.Join(upper, d), Phantom); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := StatAt(o.upper, "keep/phantom"); err != nil || n.SetMirrors("keep/phantom", Mirror{Mode: st.Mode, Size: int64(st.Ino)}) != nil {
		t.Fatal(err)
	}
	// What a build has put into one is the build's.
	write(filepath.Join(upper, "keep/.sbx-mirror-1-7.tmp/f"), "built\n")
	unix.Setxattr(filepath.Join(upper, "keep/phantom"), "user.overlay.opaque", []byte("y"), 0)
	// The host has changed its mode since.
	if err := os.Chmod(filepath.Join(lower, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := n.SetMirrors("never/was", Mirror{}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"gone/d", "keep"} {
		if err := j.Write(false, state.Note{Op: state.Temp, Pair: ".", Path: d, Value: ".sbx-mirror-1-"}); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(upper, "d/written"), "built\n")
	if err := os.Link(filepath.Join(upper, "d/linked"), filepath.Join(upper, "keep/link")); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for c, err := range o.Changes(Options{All: true, Notes: n}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[c.Path] = true
	}
	for _, p := range []string{"d/same", "d/old", "gone", "gone/f", "d", "gone/d/.sbx-mirror-1-3.tmp", "gone/d/.sbx-mirror-1-4.swp", "keep/.sbx-mirror-1-5.swp", "keep/phantom", "gone/d/.sbx-mirror-1-6.tmp"} {
		if seen[p] {
			t.Errorf("the walk gives %q", p)
		}
	}
	for _, p := range []string{"d/written", "d/hidden", "keep/f", "keep/link", "keep/.sbx-mirror-1-7.tmp/f"} {
		if !seen[p] {
			t.Errorf("the walk does not give %q", p)
		}
	}
	if err := o.Note(n); err != nil {
		t.Fatal(err)
	}
	if len(j.Mirrors(".")) == 0 {
		t.Error("while a run lives, mirrors are forgotten")
	}
	if err := o.Settle(n); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"d/same": false, "d/old": false, "d/written": true, "d/hidden": true, "d/linked": true, "gone": false, "keep/.sbx-mirror-1-5.swp": true, "keep/f": true, "keep/link": true, "keep/phantom": false, "keep/.sbx-mirror-1-7.tmp/f": true,
	} {
		if _, err := os.Lstat(filepath.Join(upper, path)); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	again, err := l.Journal()
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Mirrors(".")) != 0 || len(again.Temps(".")) != 0 {
		t.Errorf("left in the journal: %q, %v", again.Mirrors("."), again.Temps("."))
	}
}
