package state

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hostile fills a directory as a build can: it has to go nevertheless.
var hostile = map[string]func(t *testing.T, dir string){
	"modes": func(t *testing.T, dir string) {
		for _, mode := range []os.FileMode{0, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600} {
			d := fmt.Sprintf("%s/%o/sub", dir, mode)
			write(t, d+"/file")
			write(t, fmt.Sprintf("%s/%o/file", dir, mode))
			chmod(t, d+"/file", 0)
			chmod(t, d, mode)
			chmod(t, filepath.Dir(d), mode)
		}
		chmod(t, dir, 0)
	},
	"kinds": func(t *testing.T, dir string) {
		write(t, dir+"/\xff\n:,\\ -rf")
		write(t, dir+"/"+strings.Repeat("n", 255))
		if err := errors.Join(unix.Mkfifo(dir+"/fifo", 0), os.Symlink("nowhere", dir+"/dangling"), os.Symlink(".", dir+"/self"),
			os.Link(dir+"/\xff\n:,\\ -rf", dir+"/hard")); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := os.Chdir(dir); err != nil { // sun_path is short
			t.Fatal(err)
		}
		defer os.Chdir("/")
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "socket"}); err != nil {
			t.Fatal(err)
		}
	},
	// Deeper than PATH_MAX and than RLIMIT_NOFILE; a few directories on the way
	// have no permissions.
	"deep":        func(t *testing.T, dir string) { deep(t, dir, 5000, 0) },
	"deep_closed": func(t *testing.T, dir string) { deep(t, dir, 300, 3) },
	"names_of_removal": func(t *testing.T, dir string) {
		for i := range 20 {
			chain := fmt.Sprintf("%s/%d", dir, i)
			if err := os.Mkdir(chain, 0o755); err != nil {
				t.Fatal(err)
			}
			deep(t, chain, 80, 0)
			write(t, fmt.Sprintf("%s/moved-%d-%d/x", dir, i, os.Getpid()))
		}
	},
}

// trashDir is a directory as of Store.Trash, with nothing in its content.
func trashDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "trash")
	if err := os.MkdirAll(Content(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// deep nests directories, with a file in each; every closed-th is read-only, if
// closed is not 0.
func deep(t *testing.T, dir string, levels, closed int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for i := 0; err == nil && i < levels; i++ {
		name := strings.Repeat("d", 200)
		var next, file int
		if err = unix.Mkdirat(fd, name, 0o755); err == nil {
			next, err = unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
		if err == nil {
			file, err = unix.Openat(next, "file", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
			unix.Close(file)
		}
		if err == nil && closed > 0 && i > 0 && i%closed == 0 {
			err = unix.Fchmod(fd, 0o500)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
}

// TestDelete deletes what builds have left, as an ordinary user.
func TestDelete(t *testing.T) {
	if !asUser(t) {
		return
	}
	for name, fill := range hostile {
		t.Run(name, func(t *testing.T) {
			dir := trashDir(t)
			fill(t, Content(dir))
			open := descriptors(t)
			if err := Delete(dir); err != nil {
				t.Errorf("Delete: %v", err)
			}
			if now := descriptors(t); now != open {
				t.Errorf("%d descriptors are open, before %d", now, open)
			}
			if there(dir) {
				t.Error("it is still there")
				exec.Command("chmod", "-R", "u+rwx", dir).Run() // or TempDir cannot delete it
			}
		})
	}
}

// TestDeleteFew: a low limit of descriptors is enough.
func TestDeleteFew(t *testing.T) {
	dir := trashDir(t)
	deep(t, Content(dir), 300, 0)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = uint64(descriptors(t) + maxDepth + 10)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	err := Delete(dir)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err != nil || there(dir) {
		t.Errorf("with %d descriptors: %v", low.Cur, err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	time.Sleep(time.Nanosecond) // the first timer has the runtime open its poller's two
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestDeleteManyFiles: deleting is fast, and finds every file of a large
// directory although readdir(3) may miss names meanwhile.
func TestDeleteManyFiles(t *testing.T) {
	dir := trashDir(t)
	files := 20000
	if testing.Short() {
		files = 2000
	}
	for i := range files {
		fd, err := unix.Open(fmt.Sprintf("%s/f%d", Content(dir), i), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	// An upper bound for a loaded machine, to catch what is quadratic.
	start := time.Now()
	if err := Delete(dir); err != nil || there(dir) {
		t.Errorf("Delete: %v", err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("deleting %d files took %v", files, d)
	}
}

// TestDeleteFollowsNothing: a symlink is deleted, not what it leads to; also one
// that takes a directory's place while the deletion is under way.
func TestDeleteFollowsNothing(t *testing.T) {
	outside := t.TempDir()
	for i := range 50 {
		write(t, fmt.Sprintf("%s/d/file%d", outside, i))
	}
	trash := trashDir(t)
	dir := Content(trash)
	if err := errors.Join(os.Symlink(outside+"/d", dir+"/dir"), os.Symlink(outside+"/d/file0", dir+"/file"), os.Symlink(outside, dir+"/up")); err != nil {
		t.Fatal(err)
	}
	if err := Delete(trash); err != nil {
		t.Error(err)
	}
	rounds := 60
	if testing.Short() {
		rounds = 30
	}
	for range rounds {
		if err := errors.Join(os.MkdirAll(dir+"/a/b", 0o755), os.Symlink(outside+"/d", dir+"/link")); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			write(t, fmt.Sprintf("%s/a/b/f%d", dir, i))
		}
		var swapper sync.WaitGroup
		stop := make(chan struct{})
		swapper.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/link", unix.RENAME_EXCHANGE)
				}
			}
		})
		Delete(trash) // may fail: names change all the time
		close(stop)
		swapper.Wait()
		if err := os.RemoveAll(trash); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		if !there(fmt.Sprintf("%s/d/file%d", outside, i)) {
			t.Fatalf("a file outside is gone")
		}
	}
	// What a damaged layer has in a directory's place may be a symlink.
	trash = trashDir(t)
	if err := errors.Join(os.Remove(Content(trash)), os.Symlink(outside, Content(trash))); err != nil {
		t.Fatal(err)
	}
	if err := Delete(trash); err != nil || there(trash) || !there(outside+"/d/file0") {
		t.Errorf("Delete of a symlink: %v", err)
	}
}

// TestDeleteFails: what cannot be deleted is an error, and the ids of what is
// left stay known: with them it can be tried again.
func TestDeleteFails(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make files that the user cannot delete; root's own run tests it")
	}
	base, err := os.MkdirTemp("/var/tmp", "sbx-state-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	dir := base + "/trash"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/layer", []byte(FormatIDs(rangeMap, rangeMap)), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/content/of-another/file")
	for _, d := range []string{base, dir, dir + "/layer", dir + "/content"} {
		if err := os.Chown(d, 54319, 54319); err != nil {
			t.Fatal(err)
		}
	}
	errs := make(chan error)
	go func() {
		errs <- asThread(54319, func() error { return Delete(dir) })
	}()
	if err := <-errs; err == nil {
		t.Error("files of another user are gone, or no error says that they are not")
	}
	if _, _, ok := TrashIDs(dir); !ok {
		t.Error("the ids of what is left are lost")
	}
}

// TestRemoveMounted: what is mounted below a directory is not deleted with it.
func TestRemoveMounted(t *testing.T) {
	if os.Getenv("SBX_REMOVE_MOUNTED") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestRemoveMounted$", "-test.v")
		cmd.Env = append(os.Environ(), "SBX_REMOVE_MOUNTED=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
			missing(t, "no user namespace can be made: %v", err)
		}
		if err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	dir := t.TempDir()
	for _, d := range []string{"/tree/below/mounted", "/tree/mounted", "/other"} {
		if err := os.MkdirAll(dir+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/other/f")
	// The same file system: only the mount tells.
	for _, d := range []string{"/tree/below/mounted", "/tree/mounted"} {
		if err := unix.Mount(dir+"/other", dir+d, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := RemoveAt(fd, "tree"); err != unix.EXDEV {
		t.Errorf("RemoveAt: %v, want %v", err, unix.EXDEV)
	}
	if !there(dir + "/other/f") {
		t.Error("it has deleted what is mounted")
	}
	for _, d := range []string{"/tree/below/mounted", "/tree/mounted"} {
		unix.Unmount(dir+d, 0)
	}
}
