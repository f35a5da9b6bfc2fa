package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLock: one run has a layer; the next is told who.
func TestLock(t *testing.T) {
	_, l := newStore(t)
	k := mustLock(t, l, "ids")
	if k.Unclean || k.Lost {
		t.Errorf("a new layer is %+v", k)
	}
	_, err := l.Lock("other", "ids")
	var busy *BusyError
	if !errors.As(err, &busy) || busy.Run != "pid 1: make" || busy.Hint() == "" {
		t.Errorf("a second lock: %v", err)
	}
	other := l.tree.Layer("other")
	mustLock(t, other, "ids").Unlock()
	k.Unlock()
	k = mustLock(t, l, "ids")
	if k.Unclean {
		t.Error("after a run that ended in order the layer is unclean")
	}
	k.Unlock()
}

// TestLockAfterKill: the lock of a run that was killed is free, and what it wrote
// of itself is still there.
func TestLockAfterKill(t *testing.T) {
	_, l := newStore(t)
	k := mustLock(t, l, "ids")
	unix.Close(k.fd) // as the kernel does
	k = mustLock(t, l, "ids")
	if !k.Unclean || k.Lost {
		t.Errorf("after a kill: unclean %v, lost %v", k.Unclean, k.Lost)
	}
	// It is unclean until a run has ended in order.
	unix.Close(k.fd)
	k = mustLock(t, l, "ids")
	if !k.Unclean {
		t.Error("after two kills the layer is clean")
	}
	k.Unlock()

	// Of a longer line of the killed run nothing counts behind a shorter one.
	file := filepath.Join(l.Dir, "lock")
	line := fmt.Sprintf("%d %s\n", time.Now().Unix(), strings.Repeat("x", 150))
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	k = mustLock(t, l, "ids")
	var busy *BusyError
	if _, err := l.Lock("pid 2: make", "ids"); !errors.As(err, &busy) || busy.Run != "pid 1: make" {
		t.Errorf("the lock names %q, %v", busy.Run, err)
	}
	if err := k.Prepare(nil, nil); err != nil {
		t.Fatal(err)
	}
	k.Unlock()
	k = mustLock(t, l, "ids")
	defer k.Unlock()
	if k.Unclean {
		t.Error("after a run that ended in order the layer is unclean")
	}
}

// TestLockLost: a run that has not ended when the machine went down.
func TestLockLost(t *testing.T) {
	_, l := newStore(t)
	mustLock(t, l, "ids").Unlock()
	for stamp, lost := range map[string]bool{"1000 pid 7: make": true, fmt.Sprintf("%d pid 7: make", time.Now().Unix()): false, "garbage": false, "\xff\xfe\x00": false, " ": false} {
		if err := os.WriteFile(filepath.Join(l.Dir, "lock"), []byte(stamp+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		k := mustLock(t, l, "ids")
		if !k.Unclean || k.Lost != lost {
			t.Errorf("a lock with %q: unclean %v, lost %v", stamp, k.Unclean, k.Lost)
		}
		k.Unlock()
	}

	// Who looks at the layer meanwhile is told too, and takes nothing from the run.
	if err := os.WriteFile(filepath.Join(l.Dir, "lock"), []byte("100 1 pid 5: make\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		k, err := l.Take("pid 6: sbx pull")
		if err != nil {
			t.Fatal(err)
		}
		if !k.Lost {
			t.Error("the second who looks is not told that the machine went down")
		}
		k.Unlock()
	}
	if k := mustLock(t, l, "ids"); !k.Lost {
		t.Error("the run is not told that the machine went down")
	} else {
		k.Unlock()
	}
}

// TestLockDamaged: a lock that is no file is not followed, and there is a way out.
func TestLockDamaged(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"symlink": func(p string) error { return os.Symlink("/etc/passwd", p) },
		"dir":     func(p string) error { return os.Mkdir(p, 0o700) },
	} {
		s, l := newStore(t)
		mustLock(t, l, "ids").Unlock()
		file := filepath.Join(l.Dir, "lock")
		if err := errors.Join(os.Remove(file), damage(file)); err != nil {
			t.Fatal(err)
		}
		_, err := l.Lock("x", "ids")
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Hint(), "sbx reset --all") {
			t.Errorf("%s: %v", name, err)
		}
		if dirs, err := l.Reset(Wipe{Files: true, Home: true}, nil); err != nil || len(dirs) != 1 {
			t.Errorf("%s: reset --all: %v, %v", name, dirs, err)
		}
		emptyTrash(t, s)
		mustLock(t, l, "ids").Unlock()
	}
}

// TestClaim: a layer belongs to the ids that it was made with.
func TestClaim(t *testing.T) {
	_, l := newStore(t)
	mustLock(t, l, "0 1000 1\n").Unlock()
	_, err := l.Lock("x", "0 100000 65536\n")
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "other user ids") || !strings.Contains(e.Hint(), "--layer") {
		t.Errorf("other ids: %v", err)
	}
	// The refusal has not kept the lock, nor left the layer unclean.
	k := mustLock(t, l, "0 1000 1\n")
	if k.Unclean {
		t.Error("a refusal leaves the layer unclean")
	}
	k.Unlock()
	if l.IDs() != "0 1000 1\n" {
		t.Errorf("the layer now has the ids %q", l.IDs())
	}
	// A long map, 340 lines, is compared whole.
	long := strings.Repeat("4294967294 4294967294 1\n", 340)
	other := l.tree.Layer("long")
	mustLock(t, other, long).Unlock()
	mustLock(t, other, long).Unlock()
}

// TestUncleanStays: only the end of a run in order makes a layer clean. One that
// was refused, or a reset that keeps the files, has looked at no mount.
func TestUncleanStays(t *testing.T) {
	_, l := newStore(t)
	for name, pass := range map[string]func(){
		"a run with other ids": func() {
			if _, err := l.Lock("x", "other"); err == nil {
				t.Error("other ids are accepted")
			}
		},
		"a reset of the home": func() {
			if _, err := l.Reset(Wipe{Home: true}, nil); err != nil {
				t.Error(err)
			}
		},
	} {
		unix.Close(mustLock(t, l, "ids").fd) // killed
		pass()
		k := mustLock(t, l, "ids")
		if !k.Unclean {
			t.Errorf("after %s the layer of a killed run is clean", name)
		}
		k.Unlock()
	}
}

// TestPrepare: the directories are made, once; work directories are emptied
// after a run that was killed, whatever overlayfs has left there.
func TestPrepare(t *testing.T) {
	if !asUser(t) {
		return
	}
	_, l := newStore(t)
	dirs, work := []string{"home", "upper", "work", "with/ab/upper", "with/ab/work"}, []string{"work", "with/ab/work"}
	k := mustLock(t, l, "ids")
	for range 2 {
		if err := k.Prepare(dirs, work); err != nil {
			t.Fatal(err)
		}
		for _, d := range dirs {
			if st, err := os.Lstat(filepath.Join(l.Dir, d)); err != nil || !st.IsDir() {
				t.Fatalf("%s is not there: %v", d, err)
			}
		}
	}
	write(t, l.Upper()+"/kept")
	for _, w := range work {
		// As overlayfs leaves it: work/work has no permissions.
		write(t, filepath.Join(l.Dir, w, "work", "incompat", "volatile", "x"))
		chmod(t, filepath.Join(l.Dir, w, "work"), 0)
	}
	unix.Close(k.fd) // killed
	k = mustLock(t, l, "ids")
	defer k.Unlock()
	if err := k.Prepare(dirs, work); err != nil {
		t.Fatal(err)
	}
	for _, w := range work {
		if entries, err := os.ReadDir(filepath.Join(l.Dir, w)); err != nil || len(entries) != 0 {
			t.Errorf("%s has %v, %v", w, entries, err)
		}
	}
	// Short runs leave their work directories, up to a bound.
	for range 3 * asides {
		if err := k.Prepare(dirs, work); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(l.Dir, "work", "work", "x"))
		chmod(t, filepath.Join(l.Dir, "work", "work"), 0)
	}
	chmod(t, filepath.Join(l.Dir, "work", "work"), 0o700)
	k.Sweep(work)
	entries, err := os.ReadDir(l.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), ".old") {
			t.Errorf("%s is still there", e.Name())
		}
	}
	if !there(l.Upper() + "/kept") {
		t.Error("what the build wrote is gone")
	}
}

// TestPrepareOpens: a build may have taken the permissions of its home or tree.
func TestPrepareOpens(t *testing.T) {
	if !asUser(t) {
		return
	}
	_, l := newStore(t)
	k := mustLock(t, l, "ids")
	defer k.Unlock()
	if err := k.Prepare([]string{"home", "upper"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(l.Dir, "home"), 0); err != nil {
		t.Fatal(err)
	}
	if err := k.Prepare([]string{"home", "upper"}, nil); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(l.Dir, "home")); err != nil || st.Mode().Perm()&0o700 != 0o700 {
		t.Errorf("home has mode %v, %v", st.Mode(), err)
	}
}

// TestPrepareDamaged: a directory that is something else is refused in words and
// not followed.
func TestPrepareDamaged(t *testing.T) {
	outside := t.TempDir()
	_, l := newStore(t)
	k := mustLock(t, l, "ids")
	defer k.Unlock()
	if err := os.Symlink(outside, filepath.Join(l.Dir, "upper")); err != nil {
		t.Fatal(err)
	}
	err := k.Prepare([]string{"upper"}, nil)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "damaged") || !strings.Contains(e.Hint(), "sbx reset --all") {
		t.Errorf("a symlink as upper: %v", err)
	}
}

// TestIndexes: the layer's copy of git's index goes when the host's has changed,
// unless there is work beside it.
func TestIndexes(t *testing.T) {
	_, l := newStore(t)
	k := mustLock(t, l, "ids")
	defer k.Unlock()
	host := filepath.Join(t.TempDir(), ".git")
	g := GitDir{Lower: host, Upper: l.Upper() + "/.git"}
	index := g.Upper + "/index"
	run := func(during func()) {
		seen := k.DropIndexes([]GitDir{g})
		during()
		k.KeepIndexes(seen)
	}
	commit := func() {
		write(t, host+"/new")
		if err := os.Rename(host+"/new", host+"/index"); err != nil {
			t.Fatal(err)
		}
	}
	commit()
	run(func() {}) // no upper yet
	run(func() { write(t, index) })
	run(func() {
		if !there(index) {
			t.Error("the index goes although the host's is the same")
		}
	})
	commit()
	run(func() {
		if there(index) {
			t.Error("the index stays although the host's has changed")
		}
		write(t, index)
		write(t, g.Upper+"/refs/heads/x")
	})
	commit()
	run(func() {
		if !there(index) {
			t.Error("the index of a layer with commits of its own goes")
		}
	})
	// A .git that the build made a symlink leads nowhere.
	outside := t.TempDir()
	write(t, outside+"/index")
	if err := errors.Join(os.RemoveAll(g.Upper), os.Symlink(outside, g.Upper)); err != nil {
		t.Fatal(err)
	}
	commit()
	run(func() {
		if !there(outside + "/index") {
			t.Error("an index outside the layer is deleted")
		}
	})
}

// TestAgain: a run that starts lets those end that it waits for, and then has the
// layer as they have left it.
func TestAgain(t *testing.T) {
	_, l := newStore(t)
	ending := mustLock(t, l, "ids")
	if err := ending.Prepare(nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := ending.Share(); err != nil {
		t.Fatal(err)
	}
	starting := mustLock(t, l, "ids")
	if !starting.Live {
		t.Fatal("the first run is not seen")
	}
	left := make(chan error, 1)
	go func() {
		atRest, err := ending.Leave()
		if err == nil && !atRest {
			err = errors.New("not at rest")
		}
		ending.Unlock()
		left <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); starting.Live; {
		if time.Now().After(deadline) {
			t.Fatal("the run that ends cannot")
		}
		if err := starting.Again(time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-left; err != nil || starting.Unclean {
		t.Errorf("the first run: %v; the layer is unclean: %v", err, starting.Unclean)
	}
	starting.Unlock()
	k := mustLock(t, l, "ids")
	if k.Unclean || k.Live {
		t.Errorf("afterwards: %+v", k)
	}
	k.Unlock()
}

// TestCount: the layer is at rest when the last of several runs has ended, and is
// not where one of them was killed.
func TestCount(t *testing.T) {
	for _, kill := range []bool{false, true} {
		_, l := newStore(t)
		var runs []*Lock
		for range 3 {
			k := mustLock(t, l, "ids")
			if err := k.Prepare(nil, nil); err != nil {
				t.Fatal(err)
			}
			if err := k.Share(); err != nil {
				t.Fatal(err)
			}
			runs = append(runs, k)
		}
		// One that starts and fails was never counted.
		mustLock(t, l, "ids").Unlock()
		if kill {
			unix.Close(runs[1].live)
		}
		for i, k := range runs {
			if kill && i == 1 {
				continue
			}
			atRest, err := k.Leave()
			if err != nil || atRest != (i == 2 && !kill) {
				t.Errorf("kill %v: run %d: at rest %v, %v", kill, i, atRest, err)
			}
			k.Unlock()
		}
		k := mustLock(t, l, "ids")
		if k.Unclean != kill || k.Live {
			t.Errorf("kill %v: unclean %v, live %v", kill, k.Unclean, k.Live)
		}
		k.Unlock()
	}
}
