package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func put(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

// A staged layer becomes the layer, or replaces it, or nothing happens.
func TestInstall(t *testing.T) {
	_, l := newStore(t)
	stage := func(text string) *Lock {
		k, err := l.tree.Stage()
		must(t, err)
		put(t, k.Layer.Dir+"/upper/f", text)
		return k
	}
	k := stage("1")
	_, err := l.Install(k, false, nil)
	must(t, err)
	if k.Layer.Dir != l.Dir {
		t.Error("the lock is of another layer")
	}
	if _, err := l.alone("x"); err == nil {
		t.Error("the layer is not locked")
	}
	k.Unlock()
	put(t, l.Dir+"/home/h", "home")

	k = stage("2")
	var exists *ExistsError
	if _, err := l.Install(k, false, nil); !errors.As(err, &exists) {
		t.Errorf("over a layer with files: %v", err)
	}
	if data, _ := os.ReadFile(l.Dir + "/upper/f"); string(data) != "1" {
		t.Errorf("f is %q", data)
	}
	trashed, err := l.Install(k, true, nil)
	must(t, err)
	k.Unlock()
	for name, want := range map[string]string{"upper/f": "2", "home/h": "home"} {
		if data, _ := os.ReadFile(filepath.Join(l.Dir, name)); string(data) != want {
			t.Errorf("%s is %q", name, data)
		}
	}
	must(t, Delete(trashed))
	entries, _ := os.ReadDir(filepath.Dir(l.Dir))
	if len(entries) != 1 {
		t.Errorf("layers: %v", entries)
	}

	// A run has it.
	run := mustLock(t, l, "ids")
	k = stage("3")
	var busy *BusyError
	if _, err := l.Install(k, true, nil); !errors.As(err, &busy) {
		t.Errorf("over a layer in use: %v", err)
	}
	run.Unlock()
	k.Unlock()
}

func TestLayers(t *testing.T) {
	s, l := newStore(t)
	mustLock(t, l, "ids").Unlock()
	mustLock(t, l.tree.Layer("b"), "ids").Unlock()
	mustLock(t, l.tree.Layer("tmp-0"), "ids").Unlock()
	k, err := l.tree.Stage()
	must(t, err)
	k.Unlock()
	put(t, s.Root+"/trees/strange/tree", "no path")
	trees := s.Trees()
	if len(trees) != 1 || trees[0].Source != "/src/app" || !trees[0].Gone() {
		t.Fatalf("trees: %+v", trees)
	}
	var names string
	for _, l := range trees[0].Layers() {
		names += l.Name + " "
	}
	if names != "b default tmp-0 " {
		t.Errorf("layers: %s", names)
	}
	if n := len(trees[0].Leftovers(time.Now().Add(-time.Minute))); n != 0 {
		t.Errorf("%d leftovers that are a minute old", n)
	}
	if n := len(trees[0].Leftovers(time.Now().Add(time.Minute))); n != 2 {
		t.Errorf("%d leftovers", n)
	}
	if err := trees[0].Prune(); err == nil {
		t.Error("a tree with layers was pruned")
	}
	for _, l := range append(trees[0].Layers(), k.Layer) {
		_, err := l.Remove()
		must(t, err)
	}
	must(t, trees[0].Prune())
	if len(s.Trees()) != 0 {
		t.Error("the tree is still there")
	}
}

func TestUser(t *testing.T) {
	_, l := newStore(t)
	if u := l.User(); u != "" {
		t.Errorf("a layer that is not there is used by %q", u)
	}
	must(t, l.create())
	k, err := l.alone("pid 1: make")
	must(t, err)
	if u := l.User(); u != "pid 1: make" {
		t.Errorf("used by %q", u)
	}
	k.Unlock()
	if u := l.User(); u != "" || l.LastUse().Before(time.Now().Add(-time.Minute)) {
		t.Errorf("used by %q, last at %v", u, l.LastUse())
	}
}

func TestPairs(t *testing.T) {
	_, l := newStore(t)
	k := mustLock(t, l, "ids")
	defer k.Unlock()
	must(t, k.Prepare([]string{"upper", "with/0/upper", "with/1/upper"}, nil))
	must(t, k.Join("with/0", "/src/l\nib"))
	must(t, k.Join("with/0", "/src/l\nib"))
	put(t, l.Dir+"/with/2/source", "relative")
	got := l.Pairs()
	if len(got) != 2 || got[0] != (Pair{".", "/src/app", l.Upper(), ""}) || got[1] != (Pair{"with/0", "/src/l\nib", l.Dir + "/with/0/upper", "/src/l\nib"}) {
		t.Errorf("%q", got)
	}
}
