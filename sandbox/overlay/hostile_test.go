package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nest makes a chain of directories that is too long for a path.
func nest(t testing.TB, root, name string, depth int, every func(fd, i int)) {
	t.Helper()
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	for i := range depth {
		if every != nil {
			every(fd, i)
		}
		if err := unix.Mkdirat(fd, name, 0o755); err != unix.EEXIST {
			must(t, err)
		}
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
}

// unnest removes a chain from its end, which os.RemoveAll has no descriptors for.
func unnest(root string) {
	for range 1000 {
		fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return
		}
		os.RemoveAll(root)
		unix.Close(fd)
		if _, err := os.Lstat(root); err != nil {
			return
		}
	}
}

func touchAt(t testing.TB, dir int, name, data string) {
	t.Helper()
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644)
	must(t, err)
	_, err = unix.Write(fd, []byte(data))
	must(t, err)
	unix.Close(fd)
}

func openFiles(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// Directories nested deeper than descriptors and paths reach: new ones, merged
// ones with changes at each level that come after the way down, opaque ones.
func TestDeep(t *testing.T) {
	const depth = 10_000
	for _, name := range []string{"d", strings.Repeat("n", 200)} {
		depth := depth
		if len(name) > 1 {
			depth /= 10 // a path of 200 kB
		}
		t.Run(fmt.Sprint(len(name)), func(t *testing.T) {
			p := newPair(t)
			t.Cleanup(func() { unnest(p.Lower); unnest(p.Upper) })
			nest(t, p.Upper, name, depth, func(fd, i int) { touchAt(t, fd, "z", "1") })
			start := openFiles(t)
			checkChanges(t, p, Options{}, fmt.Sprintf("A %s/ %d %d\nA z\n", name, 2*(depth-1), depth-1))
			nest(t, p.Lower, name, depth, nil)
			o, err := p.Open()
			must(t, err)
			defer o.Close()
			n, most := 0, 0
			for c, err := range o.Changes(Options{}) {
				must(t, err)
				if c.Kind != Added || c.Path[strings.LastIndexByte(c.Path, '/')+1:] != "z" {
					t.Fatalf("%v %.20q…", c.Kind, c.Path)
				}
				if n%1000 == 0 {
					most = max(most, openFiles(t))
				}
				n++
			}
			if n != depth {
				t.Errorf("%d changes, want %d", n, depth)
			}
			if most > start+400 {
				t.Errorf("%d descriptors were open", most-start)
			}
		})
	}
}

// Whoever stops reading leaves nothing behind.
func TestBreak(t *testing.T) {
	p := newPair(t)
	for i := range 3000 {
		fill(t, p.Upper, fmt.Sprintf("d%d/f=1\nf%d=1", i%50, i))
	}
	o, err := p.Open()
	must(t, err)
	files, routines := openFiles(t), runtime.NumGoroutine()
	for i := range 100 {
		n := 0
		for range o.Changes(Options{All: true}) {
			if n++; n > i*5 {
				break
			}
		}
	}
	// A goroutine that has said that it is done may still be counted.
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > routines && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if f, g := openFiles(t), runtime.NumGoroutine(); f != files || g > routines {
		t.Errorf("%d descriptors and %d goroutines, before %d and %d", f, g, files, routines)
	}
	o.Close()
}

// What is no file is never opened: the test would hang, or the fifo would have
// had a reader.
func TestNeverOpened(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "p|\nq=file\nd/p|")
	fill(t, p.Upper, "p|\nq|\nd/p|\nnew/p|\nw%")
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(sock)
	must(t, unix.Bind(sock, &unix.SockaddrUnix{Name: filepath.Join(p.Upper, "s")}))
	done := make(chan string)
	go func() { done <- changes(t, p, Options{All: true}) }()
	select {
	case got := <-done:
		if want := "A new/\nA new/p\nT q\nA s\n"; got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a fifo was opened")
	}
}

// A sparse file of a terabyte, on both sides, takes no time.
func TestSparse(t *testing.T) {
	p := newPair(t)
	const size = 1 << 40
	for i, side := range []string{p.Lower, p.Upper} {
		for _, name := range []string{"equal", "differs"} {
			f, err := os.Create(filepath.Join(side, name))
			must(t, err)
			if err := f.Truncate(size); err != nil {
				t.Skip(err)
			}
			_, err = f.WriteAt([]byte("x"), 1<<39)
			must(t, err)
			if name == "differs" {
				_, err = f.WriteAt([]byte{byte(i + 1)}, size-5000)
				must(t, err)
			}
			f.Close()
		}
	}
	start := time.Now()
	checkChanges(t, p, Options{}, "M differs\n")
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("it took %v", d)
	}
}

// What a build has closed to its owner is an error that says where, not a part
// that is left out.
func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can read everything")
	}
	p := newPair(t)
	fill(t, p.Lower, "f=1\ng=1\nd/f=1")
	fill(t, p.Upper, "f:200=2\ng:200=longer\nd/f=2\nnew/sub/f=1\nz=1")
	for _, dir := range []string{"d", "new/sub"} {
		must(t, unix.Chmod(filepath.Join(p.Upper, dir), 0))
	}
	checkChanges(t, p, Options{}, `
		! d: cannot read "d": permission denied
		! f: cannot read "f": permission denied
		M g
		! new: cannot read "new": permission denied
		A z
	`)
	o, err := p.Open()
	must(t, err)
	defer o.Close()
	for _, err := range o.Changes(Options{}) {
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v is not fs.ErrPermission", err)
		}
	}
}

// A build that puts symlinks in the place of directories, and fifos in the place
// of files, while the layer is read, gets nothing outside of it read.
func TestSwapped(t *testing.T) {
	p := newPair(t)
	outside := t.TempDir()
	fill(t, outside, "secret=1\nsub/secret=1\nf=secret")
	fill(t, p.Lower, "d/sub/f=12345\nd/f=12345\nf=12345\n")
	fill(t, p.Upper, "d/sub/f=54321\nd/f=54321\nf=54321\nhidden/")
	must(t, os.Symlink(outside, filepath.Join(p.Upper, "link")))
	must(t, os.Symlink(filepath.Join(outside, "f"), filepath.Join(p.Upper, "linkf")))
	must(t, unix.Mkfifo(filepath.Join(p.Upper, "pipe"), 0o644))
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		dir, err := unix.Open(p.Upper, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return
		}
		defer unix.Close(dir)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			pair := [][2]string{{"d", "link"}, {"f", "pipe"}, {"f", "linkf"}, {"d/sub", "link"}}[i%4]
			unix.Renameat2(dir, pair[0], dir, pair[1], unix.RENAME_EXCHANGE)
			unix.Renameat2(dir, pair[0], dir, pair[1], unix.RENAME_EXCHANGE)
		}
	}()
	o, err := p.Open()
	must(t, err)
	defer o.Close()
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		for c, err := range o.Changes(Options{All: true, Gone: true}) {
			if strings.Contains(c.Path, "secret") {
				t.Fatalf("%q is outside", c.Path)
			}
			if err != nil && !errors.Is(err, errMoved) && !errors.Is(err, unix.ESPIPE) {
				t.Errorf("%q: %v", c.Path, err)
			}
		}
	}
	close(stop)
	<-stopped
}
