package live

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// TestHoldsRest: a build that changes attributes all the time has the file attended to
// now and then, and no more often; and it is let go of when it is deleted.
func TestHoldsRest(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	tree, err := newTree(fd, 100, func(string, uint32) {})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.close()
	h := newHolds(tree, fd)
	st, err := overlay.StatAt(fd, "f")
	if err != nil {
		t.Fatal(err)
	}
	h.add(fd, "f", "f", st.Ino)
	first, began := h.files["f"].watch, time.Now()
	if first == 0 {
		t.Fatal("it is not attended to")
	}
	for i := range 2000 {
		if err := os.Chmod(file, 0o600+os.FileMode(i%2)); err != nil {
			t.Fatal(err)
		}
		tree.events()
		h.wake()
	}
	// inotify(7) counts its watches.
	if n, most := h.files["f"].watch-first, int32(time.Since(began)/attendEvery)+1; n > most {
		t.Errorf("attended to %d times, at most %d are due", n, most)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); len(h.files) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is held although it is deleted")
		}
		tree.events()
		h.wake()
	}
}
