package state

import (
	"encoding/hex"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxDepth bounds the descriptors that a removal holds open: a deeper directory
// is first moved up. A build can nest directories deeper than PATH_MAX and than
// RLIMIT_NOFILE.
const maxDepth = 64

// removal deletes a directory that a build has filled. It follows no symlink
// and goes by descriptors, and gives itself the permissions that the build took
// away.
type removal struct {
	top   int // descriptor of the directory to which deep ones are moved
	moved int
	gone  int
	first error
}

// emptyDir deletes everything in a directory, but not the directory.
func emptyDir(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.EACCES {
		if err = unix.Chmod(dir, 0o700); err == nil {
			fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		}
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return emptyFd(fd)
}

func emptyFd(fd int) error {
	r := &removal{top: fd}
	for {
		// Once more after a pass that did something: it may have moved
		// directories here, and readdir(3) may miss names while others go.
		before := r.moved + r.gone
		r.empty(fd, 0)
		if r.first != nil || r.moved+r.gone == before {
			return r.first
		}
	}
}

// remove deletes a directory with all in it.
func remove(dir string) error {
	if err := emptyDir(dir); err != nil {
		return err
	}
	return unix.Rmdir(dir)
}

// RemoveAt deletes a name in a directory: a file, or a directory with all in
// it. A name that is not there is no error.
func RemoveAt(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	fd, err := openDir(dir, name)
	switch err {
	case nil:
	case unix.ENOENT:
		return nil
	case unix.ENOTDIR, unix.ELOOP:
		return unix.Unlinkat(dir, name, 0)
	default:
		return err
	}
	defer unix.Close(fd)
	if err := emptyFd(fd); err != nil {
		return err
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != unix.ENOENT {
		return err
	}
	return nil
}

// empty deletes what is in the directory fd.
func (r *removal) empty(fd, depth int) {
	buf := make([]byte, 8192)
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		r.fail(err)
		return
	}
	var names []string
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			r.fail(err)
			return
		}
		if n <= 0 {
			return
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names[:0])
		for _, name := range names {
			r.remove(fd, name, depth)
		}
	}
}

func (r *removal) remove(fd int, name string, depth int) {
	err := unix.Unlinkat(fd, name, 0)
	switch err {
	case nil:
		r.gone++
		return
	case unix.ENOENT:
		return
	case unix.EACCES, unix.EPERM:
		// The directory is not writable, or name is a directory (POSIX
		// allows EPERM for that).
		if e := unix.Fchmod(fd, 0o700); e == nil && unix.Unlinkat(fd, name, 0) == nil {
			return
		}
	case unix.EISDIR:
	default:
		r.fail(err)
		return
	}
	if depth >= maxDepth {
		r.moved++
		// A directory that moves must be writable itself: its .. changes.
		if child, err := openDir(fd, name); err == nil {
			unix.Close(child)
		}
		if err := unix.Renameat2(fd, name, r.top, randomName(), unix.RENAME_NOREPLACE); err != nil {
			r.fail(err)
		}
		return
	}
	if unix.Unlinkat(fd, name, unix.AT_REMOVEDIR) == nil {
		return
	}
	child, err := openDir(fd, name)
	if err != nil {
		r.fail(err)
		return
	}
	r.empty(child, depth+1)
	unix.Close(child)
	r.gone++
	// ENOTEMPTY: the next pass.
	if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT && err != unix.ENOTEMPTY {
		r.fail(err)
	}
}

// randomName is a name that a build cannot have taken.
func randomName() string {
	var b [16]byte
	unix.Getrandom(b[:], 0)
	return hex.EncodeToString(b[:])
}

// openDir opens a directory with the permissions to empty it, but none on which
// something is mounted: what is removed may lie on the host (EXDEV).
func openDir(fd int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	child, err := unix.Openat2(fd, name, &how)
	if err != unix.EACCES {
		if err == nil {
			var st unix.Stat_t
			if unix.Fstat(child, &st) == nil && st.Mode&0o700 != 0o700 {
				unix.Fchmod(child, 0o700)
			}
		}
		return child, err
	}
	// fchmod(2) does not work on O_PATH, chmod(2) of /proc/self/fd does, and
	// never follows a symlink.
	how.Flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	path, err := unix.Openat2(fd, name, &how)
	if err != nil {
		return -1, err
	}
	defer unix.Close(path)
	self := fmt.Sprintf("/proc/self/fd/%d", path)
	if err := unix.Chmod(self, 0o700); err != nil {
		return -1, err
	}
	return unix.Open(self, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func (r *removal) fail(err error) {
	if r.first == nil {
		r.first = err
	}
}
