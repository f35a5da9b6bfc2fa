package live

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// world is a tree of the host's, watched.
type world struct {
	t    *testing.T
	dir  string
	tree *tree
	seen map[string]bool
}

func newWorld(t *testing.T, budget int, dirs ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), seen: map[string]bool{}}
	w.mkdir(dirs...)
	root, err := unix.Open(w.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	w.must(err)
	t.Cleanup(func() { unix.Close(root) })
	w.tree, err = newTree(root, budget, w.changed)
	w.must(err)
	t.Cleanup(func() { w.tree.close() })
	w.scan()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) mkdir(dirs ...string) {
	w.t.Helper()
	for _, d := range dirs {
		w.must(os.MkdirAll(w.path(d), 0o755))
	}
}

func (w *world) write(names ...string) {
	w.t.Helper()
	for _, n := range names {
		w.must(os.WriteFile(w.path(n), []byte(n), 0o644))
	}
}

func (w *world) scan() {
	for !w.tree.settled() {
		w.tree.scan()
	}
}

// drain takes all that has happened in.
func (w *world) drain() {
	w.t.Helper()
	for {
		w.scan()
		fds := []unix.PollFd{{Fd: int32(w.tree.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 0); err == nil && n == 0 {
			return
		}
		if w.tree.events() {
			w.t.Fatal("events were lost")
		}
	}
}

// changes are the paths that have changed since it was asked last, sorted.
func (w *world) changes() string {
	w.t.Helper()
	w.drain()
	w.tree.sweep()
	w.drain()
	list := slices.Sorted(maps.Keys(w.seen))
	clear(w.seen)
	return strings.Join(list, " ")
}

// watched are the directories that are watched, sorted.
func (w *world) watched() string {
	var list []string
	for _, i := range w.tree.byWatch {
		path, ok := w.tree.path(i)
		if !ok {
			path = "?"
		}
		list = append(list, path)
	}
	slices.Sort(list)
	return strings.Trim(strings.Join(list, " "), " ")
}

func (w *world) want(what, changes, watched string) {
	w.t.Helper()
	if got := w.changes(); got != changes {
		w.t.Errorf("%s: changed %q, want %q", what, got, changes)
	}
	if got := w.watched(); got != watched {
		w.t.Errorf("%s: watched %q, want %q", what, got, watched)
	}
}

// changed is told of what has changed.
func (w *world) changed(path string, mask uint32) {
	if !soft(mask) {
		w.seen[path] = true
	}
}

// TestTree: what makes an overlay wrong is told, with its path, and what does not is
// not.
func TestTree(t *testing.T) {
	w := newWorld(t, 1000, "a/b", "c")
	w.want("nothing", "", "a a/b c")
	w.write("a/f")
	w.want("create", "a/f", "a a/b c")
	w.write("a/f")
	f, err := os.OpenFile(w.path("a/f"), os.O_WRONLY|os.O_APPEND, 0)
	w.must(err)
	f.WriteString("more")
	f.Close()
	w.want("in place", "", "a a/b c")
	w.must(os.Rename(w.path("a/f"), w.path("a/b/g")))
	w.want("rename", "a/b/g a/f", "a a/b c")
	w.must(os.Chmod(w.path("a/b/g"), 0o600))
	w.want("chmod", "a/b/g", "a a/b c")
	w.must(os.Chmod(w.path("a/b"), 0o700))
	w.want("chmod of a directory", "a/b", "a a/b c")
	w.must(os.Remove(w.path("a/b/g")))
	w.want("delete", "a/b/g", "a a/b c")
	w.must(os.Symlink("a", w.path("s")))
	w.want("symlink", "s", "a a/b c")
	w.must(os.Chmod(w.dir, 0o700))
	w.want("chmod of the root", "", "a a/b c")
	w.must(os.Chmod(w.dir, 0o755))
	w.changes()
}

// TestTreeDirectories: directories that come, move and go.
func TestTreeDirectories(t *testing.T) {
	w := newWorld(t, 1000, "a/b/c", "d")
	w.mkdir("new/x/y")
	w.write("new/x/y/f")
	w.want("new", "new new/x new/x/y new/x/y/f", "a a/b a/b/c d new new/x new/x/y")
	w.must(os.Rename(w.path("a/b"), w.path("d/e")))
	w.want("moved", "a/b d/e d/e/c", "a d d/e d/e/c new new/x new/x/y")
	w.write("d/e/c/g")
	w.want("below what was moved", "d/e/c/g", "a d d/e d/e/c new new/x new/x/y")
	w.must(os.Rename(w.path("d/e"), filepath.Join(w.t.TempDir(), "out")))
	w.want("moved out", "d/e", "a d new new/x new/x/y")
	w.must(os.RemoveAll(w.path("new")))
	w.want("deleted", "new new/x new/x/y new/x/y/f", "a d")
	w.must(os.Remove(w.path("d")))
	w.write("d")
	w.want("a file in its place", "d", "a")
	w.must(os.Remove(w.path("d")))
	w.mkdir("d")
	w.want("and a directory again", "d", "a d")
	// Two swap their names.
	w.mkdir("a/1", "d/2")
	w.changes()
	w.must(unix.Renameat2(unix.AT_FDCWD, w.path("a"), unix.AT_FDCWD, w.path("d"), unix.RENAME_EXCHANGE))
	w.changes()
	w.write("a/2/f", "d/1/f")
	w.want("swapped", "a/2/f d/1/f", "a a/2 d d/1")
}

// TestTreeBulky: what package managers write is watched last, from the top, and what
// git names by its content never.
func TestTreeBulky(t *testing.T) {
	w := newWorld(t, 8, "src/a", "node_modules/p/lib/deep", "node_modules/q/lib", ".git/objects/ab", ".git/refs/heads", ".git/lfs/x")
	os.WriteFile(w.path(".git/HEAD"), []byte("ref: refs/heads/main\n"), 0o644)
	w.changes()
	for _, dir := range []string{"src", "src/a", "node_modules", ".git"} {
		if !slices.Contains(strings.Fields(w.watched()), dir) {
			t.Errorf("%s is not watched: %s", dir, w.watched())
		}
	}
	if strings.Contains(w.watched(), "deep") || w.tree.count() > 8 {
		t.Errorf("watched: %s", w.watched())
	}
	if w.tree.over {
		t.Error("the budget is too small for what is edited")
	}
	git := newWorld(t, 100, ".git/objects/ab", ".git/refs/heads", ".git/lfs/x")
	git.write(".git/HEAD")
	git.changes()
	// Read again, now that it looks like a git directory.
	other, err := newTree(git.tree.root, 100, func(string, uint32) {})
	git.must(err)
	git.tree.close()
	git.tree = other
	git.scan()
	if got := git.watched(); got != ".git .git/refs .git/refs/heads" {
		t.Errorf("watched: %s", got)
	}
}

// TestTreeBudget: where watches are short it is said, and what is watched is.
func TestTreeBudget(t *testing.T) {
	w := newWorld(t, 5, "a/b/c/d/e/f/g")
	if !w.tree.over || w.tree.count() != 5 {
		t.Errorf("over %v with %d watches", w.tree.over, w.tree.count())
	}
	w.write("a/b/f")
	w.want("within", "a/b/f", "a a/b a/b/c a/b/c/d")
}

// TestTreeSkip: what is written through is no news.
func TestTreeSkip(t *testing.T) {
	w := newWorld(t, 100)
	w.tree.skip = map[string]bool{"out/rw": true}
	w.mkdir("out/rw/x", "out/other")
	w.changes()
	w.write("out/rw/f", "out/rw/x/f")
	w.want("skipped", "", "out out/other")
}

// TestTreeNames: a name is bytes.
func TestTreeNames(t *testing.T) {
	w := newWorld(t, 100)
	for _, name := range []string{"a b", "new\nline", "\xff\xfe", "\x1b[31m", strings.Repeat("n", 255), "..."} {
		w.mkdir(name)
		w.changes()
		w.write(name + "/f")
		if got := w.changes(); got != name+"/f" {
			t.Errorf("%q: %q", name, got)
		}
	}
	// Deeper than a path may be long.
	deep := w.dir
	w.must(os.Chdir(deep))
	for range 60 {
		w.must(os.Mkdir(strings.Repeat("d", 200), 0o755))
		w.must(os.Chdir(strings.Repeat("d", 200)))
	}
	w.changes()
	w.must(os.WriteFile("f", nil, 0o644))
	if got := w.changes(); !strings.HasSuffix(got, "d/f") || len(got) < 60*201 {
		t.Errorf("deep: %d bytes of path", len(got))
	}
	w.must(os.Chdir(w.dir))
}

// TestTreeRace: directories that come while they are read are not missed.
func TestTreeRace(t *testing.T) {
	w := newWorld(t, 100000)
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := range 300 {
			w.mkdir(fmt.Sprintf("d%d/a/b/c", i))
			if i%3 == 0 {
				os.Rename(w.path(fmt.Sprintf("d%d", i)), w.path(fmt.Sprintf("e%d", i)))
			}
			if i%7 == 0 {
				os.RemoveAll(w.path(fmt.Sprintf("d%d", i)))
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		w.tree.events()
		w.tree.scan()
		w.tree.sweep()
	}
	w.changes()
	var want []string
	filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(w.dir, path); d.IsDir() && rel != "." {
			want = append(want, rel)
		}
		return err
	})
	slices.Sort(want)
	if got := w.watched(); got != strings.Join(want, " ") {
		t.Errorf("watched %d directories, there are %d", w.tree.count()-1, len(want))
	}
}

// TestTreeCycle: events that are older than later moves make no circle of
// directories, which would have no end.
func TestTreeCycle(t *testing.T) {
	w := newWorld(t, 100, "a/b")
	for _, do := range []func() error{
		func() error { return os.Mkdir(w.path("a/b/Y"), 0o755) },
		func() error { return os.Remove(w.path("a/b/Y")) },
		func() error { return os.Rename(w.path("a"), w.path("A0")) },
		func() error { return os.MkdirAll(w.path("a/b"), 0o755) },
		func() error { return os.Rename(w.path("A0"), w.path("a/b/Y")) },
	} {
		w.must(do())
	}
	lost := w.tree.events()
	for i := range w.tree.nodes {
		seen := map[int32]bool{}
		for at := int32(i); at != 0; at = w.tree.nodes[at].parent {
			if seen[at] {
				t.Fatal("a directory is in itself")
			}
			seen[at] = true
		}
	}
	if !lost {
		w.changes()
		if got := w.watched(); got != "a a/b a/b/Y a/b/Y/b" {
			t.Errorf("watched %q", got)
		}
	}
}

// TestTreeClosed: a directory that was closed to its owner is watched when it is
// opened.
func TestTreeClosed(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("nothing is closed to root; the tests run as an ordinary user, too")
	}
	w := newWorld(t, 100)
	w.mkdir("d/e")
	w.write("d/f")
	w.must(os.Chmod(w.path("d"), 0))
	w.changes()
	w.must(os.Chmod(w.path("d"), 0o755))
	w.want("opened", "d d/e d/f", "d d/e")
}

// TestTreeYoung: of a directory that has changed before it was watched all entries are
// told: one may be held.
func TestTreeYoung(t *testing.T) {
	w := newWorld(t, 100, "d/e")
	w.write("d/f", "d/e/g")
	w.changes()
	tree, err := newTree(w.tree.root, 100, w.changed)
	w.must(err)
	w.tree.close()
	w.tree = tree
	w.tree.since = time.Now().Add(-time.Minute).UnixNano()
	w.want("young", " d d/e d/e/g d/f", "d d/e")
}

// TestTreeSince: what has changed before it was watched is told once.
func TestTreeSince(t *testing.T) {
	w := newWorld(t, 100, "old/a", "young/b")
	past := time.Now().Add(-time.Hour)
	w.tree.close()
	w.must(os.Chtimes(w.path("old"), past, past))
	time.Sleep(30 * time.Millisecond)
	since := time.Now()
	time.Sleep(30 * time.Millisecond)
	w.write("young/f")
	tree, err := newTree(w.tree.root, 100, w.changed)
	w.must(err)
	w.tree = tree
	w.tree.since = since.UnixNano()
	w.want("since", "young young/b young/f", "old old/a young young/b")
}

// BenchmarkTree is what it takes to begin to watch a tree, by its directories.
func BenchmarkTree(b *testing.B) {
	for _, count := range []int{100, 5000} {
		if testing.Short() && count > 100 {
			continue
		}
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			dir := b.TempDir()
			for i := range count {
				if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("m%d/s%d", i/50, i)), 0o755); err != nil {
					b.Fatal(err)
				}
			}
			root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer unix.Close(root)
			for b.Loop() {
				t, err := newTree(root, maxWatches, func(string, uint32) {})
				if err != nil {
					b.Fatal(err)
				}
				for !t.settled() {
					t.scan()
				}
				b.StopTimer()
				t.close()
				b.StartTimer()
			}
		})
	}
}
