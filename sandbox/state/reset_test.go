package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sbx-build/sbx/idmap"
)

// emptyTrash deletes what Reset has made of layers.
func emptyTrash(t *testing.T, s Store) {
	t.Helper()
	for _, dir := range s.Trash() {
		if err := Delete(dir); err != nil {
			t.Errorf("cannot delete %s: %v", dir, err)
		}
	}
	if left := s.Trash(); len(left) != 0 {
		t.Errorf("in the trash is still %v", left)
	}
}

// TestReset goes through what each variant wipes and keeps.
func TestReset(t *testing.T) {
	all := []string{"upper", "work", "home", "with", "git", "cow", "caches", "layer", "lock"}
	for _, test := range []struct {
		wipe Wipe
		keep []string
	}{
		{Wipe{Files: true}, []string{"home", "layer", "lock"}},
		{Wipe{Home: true}, []string{"upper", "work", "with", "git", "cow", "caches", "layer", "lock"}},
		{Wipe{Files: true, Home: true}, nil},
		{Wipe{}, all},
	} {
		s, l := newStore(t)
		ids := FormatIDs(idmap.Identity(7), idmap.Identity(8))
		if test.wipe.Files {
			ids = FormatIDs(rangeMap, rangeMap)
		}
		mustLock(t, l, ids).Unlock()
		for _, d := range []string{"upper", "work", "home", "with/ab/upper", "git/cd/upper", "cow/ef/upper", "caches/upper"} {
			write(t, filepath.Join(l.Dir, d, "file"))
		}
		dirs, err := l.Reset(test.wipe, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			want := false
			for _, k := range test.keep {
				want = want || k == name
			}
			if there(filepath.Join(l.Dir, name)) != want {
				t.Errorf("after %+v there is %s: %v", test.wipe, name, !want)
			}
		}
		if got := s.Trash(); len(got) != len(dirs) {
			t.Errorf("%+v: the trash is %v, Reset says %v", test.wipe, got, dirs)
		}
		for _, d := range dirs {
			uids, gids, ok := TrashIDs(d)
			if ok != test.wipe.Files || ok && (uids.String() != rangeMap.String() || gids.String() != rangeMap.String()) {
				t.Errorf("%+v: %s has the ids %v, %v, %v", test.wipe, d, uids, gids, ok)
			}
		}
		emptyTrash(t, s)
		mustLock(t, l, ids).Unlock()
	}
}

// rangeMap is a map with subordinate ids, as --root uses.
var rangeMap = idmap.Map{{Inside: 0, Outside: 100000, Length: 1000}, {Inside: 1000, Outside: 1000, Length: 1}}

func TestResetRefuses(t *testing.T) {
	s, l := newStore(t)
	if dirs, err := l.Reset(Wipe{Files: true, Home: true}, nil); err != nil || dirs != nil || there(s.Root) {
		t.Errorf("a layer that does not exist: %v, %v", dirs, err)
	}
	k := mustLock(t, l, "ids")
	for _, w := range []Wipe{{Files: true}, {Home: true}, {Files: true, Home: true}} {
		dirs, err := l.Reset(w, nil)
		var busy *BusyError
		if !errors.As(err, &busy) || len(dirs) != 0 || !l.Exists() {
			t.Errorf("%+v of a layer in use: %v, %v", w, dirs, err)
		}
	}
	write(t, l.Upper()+"/x")
	dir, err := k.Discard()
	if err != nil || l.Exists() || !there(dir+"/content/upper/x") {
		t.Errorf("Discard: %q, %v", dir, err)
	}
	k.Unlock()
	emptyTrash(t, s)
}

// TestPrepareMapped: a work directory in which the kernel has made something for other
// ids is renamed away with their map, however many there are.
func TestPrepareMapped(t *testing.T) {
	s, l := newStore(t)
	k := mustLock(t, l, FormatIDs(rangeMap, rangeMap))
	defer k.Unlock()
	for i := range asides + 2 {
		if err := k.Prepare([]string{"upper", "work"}, []string{"work"}); err != nil {
			t.Fatal(err)
		}
		if there(filepath.Join(l.Dir, "work", "work")) {
			t.Fatal("the work directory is not fresh")
		}
		write(t, filepath.Join(l.Dir, "work", "work", "x"))
		list, crowded := s.Asides()
		if len(list) != i || crowded != (i > asides) {
			t.Fatalf("after %d runs there are %d, crowded: %v", i+1, len(list), crowded)
		}
		for _, dir := range list {
			if _, _, ok := TrashIDs(dir); !ok || !there(filepath.Join(Content(dir), "work", "x")) {
				t.Errorf("%s has not the directory and its ids", dir)
			}
		}
	}
	emptyTrash(t, s)
	if list, _ := s.Asides(); len(list) != 0 {
		t.Errorf("left: %q", list)
	}
}

// TestTrashWhole: what is being renamed away is not seen before it is whole, unless sbx
// was killed meanwhile.
func TestTrashWhole(t *testing.T) {
	s, _ := newStore(t)
	dir := filepath.Join(s.Root, "trash", staging+"x")
	write(t, dir+"/content/x")
	if list := s.Trash(); len(list) != 0 {
		t.Errorf("%q is in the trash", list)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir, old, old); err != nil {
		t.Fatal(err)
	}
	if list := s.Trash(); len(list) != 1 {
		t.Errorf("what was left is not in the trash: %q", list)
	}
	emptyTrash(t, s)
}

// TestResetOwn: a directory that does not belong to the caller is made its own first.
func TestResetOwn(t *testing.T) {
	s, l := newStore(t)
	mustLock(t, l, FormatIDs(rangeMap, rangeMap)).Unlock()
	write(t, l.Upper()+"/x")
	if os.Geteuid() == 0 {
		if err := os.Chown(l.Upper(), 12, 12); err != nil {
			t.Fatal(err)
		}
	}
	var asked []string
	own := Own(func(path string) error {
		asked = append(asked, path)
		return nil
	})
	own.open(l.Upper())
	if want := os.Geteuid() == 0; want != (len(asked) == 1) {
		t.Errorf("asked for %q", asked)
	}
	if _, err := l.Reset(Wipe{Files: true}, own); err != nil || there(l.Upper()) {
		t.Errorf("Reset: %v", err)
	}
	emptyTrash(t, s)
}
