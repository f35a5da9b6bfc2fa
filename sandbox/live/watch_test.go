package live

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// fake is an overlay that counts.
type fake struct {
	refreshes, picks, closed atomic.Int32
	fails                    atomic.Int32
	broken                   atomic.Bool
}

func (f *fake) Refresh() error {
	f.refreshes.Add(1)
	if f.broken.Load() {
		return unix.EBUSY
	}
	return nil
}
func (f *fake) Close() { f.closed.Add(1) }
func (f *fake) pick(owner, mount int) (Overlay, error) {
	f.picks.Add(1)
	if f.fails.Add(-1) >= 0 {
		return nil, errors.New("no processes")
	}
	return f, nil
}

// scene is a tree of the host's whose overlay shows it as it is: all but what hides
// says.
type scene struct {
	t        *testing.T
	dir      string
	lower    string
	target   Target
	mu       sync.Mutex
	warnings []string
}

func newScene(t *testing.T, f *fake) *scene {
	t.Helper()
	s := &scene{t: t, dir: t.TempDir()}
	s.lower = filepath.Join(s.dir, "lower")
	for _, d := range []string{"lower/a", "upper"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.target = Target{
		Pair: overlay.Pair{Lower: s.lower, Upper: filepath.Join(s.dir, "upper")}, Lock: filepath.Join(s.dir, "watch"),
		Since: time.Now().Add(time.Hour), Pick: f.pick, Budget: 1000,
		Warn: func(format string, a ...any) {
			s.mu.Lock()
			s.warnings = append(s.warnings, fmt.Sprintf(format, a...))
			s.mu.Unlock()
		},
	}
	return s
}

// start starts a Watcher whose overlay shows a directory.
func (s *scene) start(shows string) *Watcher {
	s.t.Helper()
	t := s.target
	var err error
	if t.Mount, err = unix.Open(shows, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		s.t.Fatal(err)
	}
	if t.Owner, err = unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
		s.t.Fatal(err)
	}
	w, err := Start(t)
	if err != nil {
		s.t.Fatal(err)
	}
	return w
}

func (s *scene) warned() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.warnings, "\n")
}

// soon waits for a condition.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func (s *scene) write(name string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.lower, name), []byte(name), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestWatcher: nothing is refreshed while nothing happens, many changes are few
// refreshes, and nothing is left open.
func TestWatcher(t *testing.T) {
	files := openFiles(t)
	f := &fake{}
	s := newScene(t, f)
	w := s.start(s.lower)
	soon(t, "it watches", func() bool { return w.Status().Watches == 2 })
	time.Sleep(3 * quiet)
	if f.picks.Load() != 0 {
		t.Error("it is refreshed for nothing")
	}
	s.write("f")
	soon(t, "it is refreshed", func() bool { return f.refreshes.Load() == 1 })
	began := time.Now()
	for i := range 10000 {
		s.write(fmt.Sprintf("a/%d", i))
	}
	time.Sleep(3 * quiet)
	soon(t, "it is refreshed", func() bool { return f.refreshes.Load() > 1 })
	time.Sleep(3 * quiet)
	if n := f.refreshes.Load(); n > int32(time.Since(began)/minWait)+5 {
		t.Errorf("10000 new files in %v are %d refreshes", time.Since(began), n)
	}
	if status := w.Status(); status.Refreshes != int(f.refreshes.Load()) || len(status.Held) != 0 || status.Slow || !status.Watching {
		t.Errorf("%+v", status)
	}
	w.Stop()
	if f.picks.Load() != 1 || f.closed.Load() != 1 || s.warned() != "" {
		t.Errorf("%d picked, %d closed, %q", f.picks.Load(), f.closed.Load(), s.warned())
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d files are open, before %d", now, files)
	}
}

// TestWatcherShort: a run that ends before its time pays nothing.
func TestWatcherShort(t *testing.T) {
	f := &fake{}
	s := newScene(t, f)
	w := s.start(s.lower)
	s.write("f")
	w.Stop()
	if _, err := os.Lstat(s.target.Lock); err == nil || f.picks.Load() != 0 {
		t.Error("it has begun")
	}
}

// TestWatcherBefore: what has changed since the overlay was mounted, and before it was
// watched, is shown too.
func TestWatcherBefore(t *testing.T) {
	f := &fake{}
	s := newScene(t, f)
	s.target.Since = time.Now()
	time.Sleep(20 * time.Millisecond)
	s.write("a/f")
	w := s.start(s.lower)
	defer w.Stop()
	soon(t, "it is refreshed", func() bool { return f.refreshes.Load() == 1 })
}

// TestWatcherHeld: what is as it was after a refresh is tried again until it is not;
// what the layer has a version of is not.
func TestWatcherHeld(t *testing.T) {
	f := &fake{}
	s := newScene(t, f)
	shows := filepath.Join(s.dir, "shows")
	if err := os.MkdirAll(filepath.Join(shows, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"shows/a/f", "shows/own", "upper/own"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w := s.start(shows)
	defer w.Stop()
	soon(t, "it watches", func() bool { return w.Status().Watches == 2 })
	s.write("a/f")
	s.write("own")
	soon(t, "it is held", func() bool { return strings.Join(w.Status().Held, " ") == "a/f" })
	before := f.refreshes.Load()
	soon(t, "it is tried again", func() bool { return f.refreshes.Load() > before+2 })
	// Now the overlay shows the host's.
	if err := os.Remove(filepath.Join(shows, "a/f")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(s.lower, "a/f"), filepath.Join(shows, "a/f")); err != nil {
		t.Fatal(err)
	}
	soon(t, "it is fresh", func() bool { return len(w.Status().Held) == 0 })
	time.Sleep(100 * time.Millisecond)
	before = f.refreshes.Load()
	time.Sleep(300 * time.Millisecond)
	if now := f.refreshes.Load(); now != before {
		t.Errorf("%d refreshes when all is fresh", now-before)
	}
}

// TestWatcherHandover: one at a time, and the next one when that is gone.
func TestWatcherHandover(t *testing.T) {
	f, g, h := &fake{}, &fake{}, &fake{}
	s := newScene(t, f)
	first := s.start(s.lower)
	soon(t, "the first watches", func() bool { return first.Status().Watching })
	s.target.Pick = g.pick
	second := s.start(s.lower)
	s.target.Pick = h.pick
	third := s.start(s.lower)
	time.Sleep(2 * startAfter)
	s.write("f")
	soon(t, "it is refreshed", func() bool { return f.refreshes.Load() == 1 })
	if g.picks.Load()+h.picks.Load() != 0 || second.Status().Watching || third.Status().Watching {
		t.Error("two watch")
	}
	first.Stop()
	soon(t, "another watches", func() bool { return second.Status().Watching || third.Status().Watching })
	if third.Status().Watching {
		second, third, g = third, second, h
	}
	// What the first has missed when it ended is not lost.
	soon(t, "it is refreshed", func() bool { return g.refreshes.Load() == 1 })
	third.Stop() // it waits for the lock
	soon(t, "the other watches", func() bool { return second.Status().Watches == 2 })
	s.write("g")
	soon(t, "it is refreshed", func() bool { return g.refreshes.Load() == 2 })
	second.Stop()
	// And the one that was told to stop while it waited lets go.
	last := s.start(s.lower)
	soon(t, "one more can watch", func() bool { return last.Status().Watching })
	last.Stop()
}

// TestWatcherSlow: where not all can be watched it is said once, and refreshed all the
// same.
func TestWatcherSlow(t *testing.T) {
	f := &fake{}
	s := newScene(t, f)
	for i := range 10 {
		if err := os.Mkdir(filepath.Join(s.lower, "a", fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.target.Budget = 4
	w := s.start(s.lower)
	defer w.Stop()
	soon(t, "it is refreshed twice", func() bool { return f.refreshes.Load() == 2 })
	if status := w.Status(); !status.Slow || status.Watches != 4 || strings.Count(s.warned(), "\n") != 0 || !strings.Contains(s.warned(), "max_user_watches") {
		t.Errorf("%+v, %q", status, s.warned())
	}
}

// TestWatcherFails: a refresh that fails for a while is made when it can be.
func TestWatcherFails(t *testing.T) {
	f := &fake{}
	f.fails.Store(maxFailures + 1)
	s := newScene(t, f)
	w := s.start(s.lower)
	defer w.Stop()
	soon(t, "it watches", func() bool { return w.Status().Watches == 2 })
	s.write("f")
	soon(t, "it is refreshed", func() bool { return f.refreshes.Load() == 1 })
	if s.warned() != "what you edit is not seen inside: no processes" {
		t.Errorf("%q", s.warned())
	}
	// One that goes on to fail is picked anew, not too often, and told once.
	f.broken.Store(true)
	before := f.refreshes.Load()
	s.write("g")
	time.Sleep(500 * time.Millisecond)
	if n := f.refreshes.Load() - before; n < 2 || n > 15 {
		t.Errorf("%d attempts in half a second", n)
	}
	f.broken.Store(false)
	before, picks := f.refreshes.Load(), f.picks.Load()
	soon(t, "it is refreshed", func() bool { return f.picks.Load() > picks && f.refreshes.Load() > before })
	if strings.Count(s.warned(), "\n") != 0 {
		t.Errorf("%q", s.warned())
	}
}

// TestWatcherSuspended: who is about to be stopped lets another one watch.
func TestWatcherSuspended(t *testing.T) {
	f, g := &fake{}, &fake{}
	s := newScene(t, f)
	first := s.start(s.lower)
	defer first.Stop()
	soon(t, "the first watches", func() bool { return first.Status().Watches == 2 })
	s.target.Pick = g.pick
	second := s.start(s.lower)
	for range 3 {
		first.Suspend()
		soon(t, "the second watches", func() bool { return second.Status().Watches == 2 })
		first.Resume()
		before := g.refreshes.Load()
		s.write("f")
		soon(t, "it is refreshed", func() bool { return g.refreshes.Load() > before })
		second.Suspend()
		soon(t, "the first watches again", func() bool { return first.Status().Watches == 2 })
		second.Resume()
	}
	second.Suspend()
	second.Stop()
}

// TestWatcherGone: a tree that has gone is said, and no more.
func TestWatcherGone(t *testing.T) {
	s := newScene(t, &fake{})
	if err := os.RemoveAll(s.lower); err != nil {
		t.Fatal(err)
	}
	w := s.start(s.dir)
	soon(t, "it is said", func() bool { return strings.Contains(s.warned(), "cannot open") })
	w.Stop()
}

// TestWatchesShort: where the user's watches are used up, the tree gets along with
// fewer, and gives some back.
func TestWatchesShort(t *testing.T) {
	const env = "LIVE_TEST_WATCHES"
	if os.Getenv(env) == "" {
		// A user namespace has a limit of its own (namespaces(7), inotify(7)).
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("unshare", "--user", "--map-root-user", "sh", "-c", `echo 40 >/proc/sys/user/max_inotify_watches && exec "$0" -test.run '^TestWatchesShort$'`, self)
		cmd.Env = append(os.Environ(), env+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			if strings.Contains(string(out), "unshare:") && os.Getenv("SBX_MUST_WORK") != "1" {
				t.Skipf("there are no user namespaces here: %s", out)
			}
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	var dirs []string
	for i := range 100 {
		dirs = append(dirs, fmt.Sprintf("d%d", i))
	}
	w := newWorld(t, 1000, dirs...)
	if n := w.tree.count(); !w.tree.over || n < 20 || n > 30 {
		t.Errorf("%d watches of 40, over: %v", n, w.tree.over)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, "/", unix.IN_CREATE); err != nil {
		t.Errorf("the editor gets none: %v", err)
	}
	w.write("f")
	if got := w.changes(); got != "f" {
		t.Errorf("changed %q", got)
	}
}
