package live

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// TestWatchersLine: lines of fdinfo are a build's to make up, as far as the kernel
// lets it; what does not fit is passed over.
func TestWatchersLine(t *testing.T) {
	w := &watchers{dev: 0x800013, inodes: watches{}}
	for _, line := range []string{
		"pos:\t0", "", "inotify", "inotify ", "inotify wd:1", "inotify wd:1 ino:zz sdev:800013", "inotify wd:1 ino:1 sdev:800014 mask:1",
		"inotify wd:1 ino:0 sdev:800013", "inotify wd:1 ino:fffffffffffffffff sdev:800013", "fanotify ino:7 sdev:800013",
	} {
		w.line(line)
	}
	if len(w.inodes) != 0 {
		t.Errorf("found %v", w.inodes)
	}
	w.line("inotify wd:3 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:7e9e0000640135dd")
	if w.inodes[0x9e7e] != isWatched|watchesCreate|watchesDelete {
		t.Errorf("found %v", w.inodes)
	}
}

// TestWatchersInfo: this process's own watches, as another's would be read.
func TestWatchersInfo(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	want := map[uint64]bool{}
	var dev uint64
	for _, name := range []string{"a", "b", "c"} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.InotifyAddWatch(fd, path, unix.IN_CREATE); err != nil {
			t.Fatal(err)
		}
		st, err := overlay.StatAt(unix.AT_FDCWD, path)
		if err != nil {
			t.Fatal(err)
		}
		want[st.Ino], dev = true, st.Dev
	}
	w := &watchers{dev: sdev(dev), inodes: watches{}}
	w.process("/proc/self")
	if len(w.inodes) != 0 {
		t.Error("it goes on after its time")
	}
	w.until = w.until.AddDate(3000, 0, 0)
	w.process("/proc/self")
	for ino := range want {
		if w.inodes[ino] != isWatched|watchesCreate {
			t.Errorf("%d is not among %v", ino, w.inodes)
		}
	}
	own := watched(dev)
	for ino := range want {
		if own.has(ino) {
			t.Errorf("of this mount namespace: %v", own)
		}
	}
}

// BenchmarkWatched is what each batch of edits costs where nobody watches.
func BenchmarkWatched(b *testing.B) {
	for b.Loop() {
		watched(1)
	}
}
