package child

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRefresh: what the host has replaced, deleted and added is seen after a refresh,
// also when the sandbox that made the mount has ended, and what is held open is not.
func TestRefresh(t *testing.T) {
	needUserNS(t)
	fds := descriptors(t)
	process, dir := lender(t, "cat /t/f /t/gone; [ ! -e /t/new ]; mkdir /t/d")
	lent, err := process.Lent()
	if err != nil {
		t.Fatal(err)
	}
	lower := filepath.Join(dir, "lower")
	mount := lent.Mounts[0]
	read := func(name string) string {
		fd, err := unix.Openat(mount, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err.Error()
		}
		defer unix.Close(fd)
		var b [64]byte
		n, _ := unix.Read(fd, b[:])
		return string(b[:n])
	}
	held, err := unix.Openat(mount, "f", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil || read("f") != "host\n" || read("new") != unix.ENOENT.Error() {
		t.Fatal(err, read("f"), read("new"))
	}
	if end, err := process.Wait(nil); err != nil || end.Status != 0 {
		t.Errorf("the sandbox: %v, %+v", err, end)
	}
	for name, text := range map[string]string{"tmp": "edited\n", "new": "created\n"} {
		if err := os.WriteFile(filepath.Join(lower, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(lower, "tmp"), filepath.Join(lower, "f")); err != nil {
		t.Fatal(err)
	}
	if got := read("new"); got != unix.ENOENT.Error() {
		t.Logf("without a refresh a new name is seen: %q", got) // a kernel that needs none
	}
	o, err := Pick(lent.Namespaces[0], mount)
	if err != nil {
		t.Fatal(err)
	}
	refresh := func() {
		t.Helper()
		if err := o.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	refresh()
	if got := read("new"); got != "created\n" {
		t.Errorf("new: %q", got)
	}
	unix.Close(held)
	refresh()
	if got := read("f"); got != "edited\n" {
		t.Errorf("f: %q", got)
	}
	// Nothing of it is written.
	if names, err := os.ReadDir(filepath.Join(dir, "upper")); err != nil || len(names) != 1 {
		t.Errorf("the upper has %v, %v", names, err)
	}
	lent.Close()
	o.Close()
	if now := descriptors(t); now != fds {
		t.Errorf("%d descriptors are open, before %d", now, fds)
	}
}

// TestRefreshFault: what is no overlay, or another user namespace's, is an error.
func TestRefreshFault(t *testing.T) {
	needUserNS(t)
	process, _ := lender(t, "true")
	lent, err := process.Lent()
	if err != nil {
		t.Fatal(err)
	}
	defer lent.Close()
	process.Wait(nil)
	fd, err := unix.Open(t.TempDir(), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var step *StepError
	if _, err := Pick(lent.Namespaces[0], fd); !errors.As(err, &step) || step.Call != "fspick" {
		t.Errorf("a directory of the host: %v", err)
	}
	other, _ := lender(t, "true")
	theirs, err := other.Lent()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	other.Wait(nil)
	o, err := Pick(lent.Namespaces[0], theirs.Mounts[0])
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	// The caller has made both user namespaces.
	if err := o.Refresh(); err != nil {
		t.Errorf("another's overlay: %v", err)
	}
}
