package overlay

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// What happens to a name of the host's: a new version is made whole under a
// temporary name in the same directory, and then changes places with the old one
// (renameat2(2), RENAME_EXCHANGE). What comes back under the temporary name is
// looked at once more: if it is not the version that the user has been shown,
// somebody saved it at that moment, and it goes back.

var (
	errHostChanged  = errors.New("the host's version has just changed too")
	errHostAppeared = errors.New("the host has just got a version of its own")
	errWritten      = errors.New("a run is writing it at this moment")
)

// strandedError is that a version which somebody has just saved could not go back:
// it stays under the temporary name.
type strandedError struct {
	name string
	err  error
}

func (e *strandedError) Error() string {
	return fmt.Sprintf("the host's version has just changed too, and is now in %q beside it: %v", e.name, e.err)
}

func (e *strandedError) Unwrap() error { return e.err }

func stranded(err error) bool {
	var e *strandedError
	return errors.As(err, &e)
}

// putBack gives a name the version again that was taken from it.
func putBack(dir int, tmp, name string) error {
	err := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_NOREPLACE)
	if err != nil {
		return &strandedError{tmp, err}
	}
	return errHostChanged
}

// sameVersion compares what a rename leaves alone: that sets the time of change.
func sameVersion(f Fingerprint, s Stat) bool {
	g := s.Fingerprint()
	f.Ctime, g.Ctime = 0, 0
	return f == g
}

// swap puts tmp in the place of name, of which the host has the version was.
// Nothing has happened if it fails. The old version is gone afterwards.
func swap(dir int, tmp, name string, was Fingerprint) error {
	now, err := StatAt(dir, name)
	switch {
	case err != nil:
		return err
	case now.Fingerprint() != was && was.Exists():
		return errHostChanged
	case now.Exists() && !was.Exists():
		return errHostAppeared
	}
	if !was.Exists() {
		switch err := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_NOREPLACE); err {
		case unix.EEXIST:
			return errHostAppeared
		case unix.EINVAL: // a file system without these flags
			return unix.Renameat(dir, tmp, dir, name)
		default:
			return err
		}
	}
	switch err := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_EXCHANGE); err {
	case nil:
	case unix.ENOENT:
		return errHostChanged
	case unix.EINVAL:
		return unix.Renameat(dir, tmp, dir, name)
	default:
		return err
	}
	old, err := StatAt(dir, tmp)
	if err != nil || !sameVersion(was, old) {
		switch err := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_EXCHANGE); err {
		case nil:
			return errHostChanged
		case unix.ENOENT: // and deleted right away
			return putBack(dir, tmp, name)
		default:
			return &strandedError{tmp, err}
		}
	}
	return state.RemoveAt(dir, tmp)
}

// takeAway removes a name of which the host has the version was: first under a
// temporary name, so that another version that somebody has just saved can go
// back.
func takeAway(dir int, tmp, name string, was Fingerprint) error {
	now, err := StatAt(dir, name)
	if err != nil {
		return err
	}
	if now.Fingerprint() != was {
		return errHostChanged
	}
	switch err := unix.Renameat2(dir, name, dir, tmp, unix.RENAME_NOREPLACE); err {
	case nil:
	case unix.ENOENT:
		return errHostChanged
	case unix.EINVAL:
		return state.RemoveAt(dir, name)
	default:
		return err
	}
	old, err := StatAt(dir, tmp)
	if err != nil || !sameVersion(was, old) {
		return putBack(dir, tmp, name)
	}
	return state.RemoveAt(dir, tmp)
}

// younger says whether anything in a directory of the host's changed after a
// moment: whoever deletes it would delete an edit that the layer has not seen.
func younger(dir int, name string, at int64, depth int) (bool, error) {
	if depth > 400 {
		return true, nil
	}
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	names, err := readNames(fd, make([]byte, 8<<10))
	if err != nil {
		return false, err
	}
	for _, n := range names {
		st, err := StatAt(fd, n.name)
		if err != nil {
			return false, err
		}
		if st.Ctime > at {
			return true, nil
		}
		if st.IsDir() {
			if is, err := younger(fd, n.name, at, depth+1); is || err != nil {
				return is, err
			}
		}
	}
	return false, nil
}

// copyFile copies what is in a file: as a reflink where the file system can, and
// otherwise without its holes.
func copyFile(dst, src int, size int64, wrote func(int64)) error {
	if unix.IoctlFileClone(dst, src) == nil {
		wrote(size)
		return nil
	}
	c := copier{dst: dst, src: src, wrote: wrote}
	for off := int64(0); off < size; {
		start := nextData(src, off, size)
		if start >= size {
			break
		}
		end, err := unix.Seek(src, start, unix.SEEK_HOLE)
		if err != nil || end <= start || end > size {
			end = size
		}
		n, err := c.copy(start, end)
		if err != nil {
			return err
		}
		if n < end-start {
			break // it has become shorter
		}
		off = end
	}
	return unix.Ftruncate(dst, size)
}

type copier struct {
	dst, src int
	wrote    func(int64)
	buf      []byte // not nil: copy_file_range(2) does not work here
}

func (c *copier) copy(from, to int64) (done int64, err error) {
	for from+done < to {
		n, err := c.some(from+done, to-from-done)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return done, err
		}
		done += int64(n)
		c.wrote(int64(n))
	}
	return done, nil
}

func (c *copier) some(off, size int64) (int, error) {
	if c.buf == nil {
		in, out := off, off
		n, err := unix.CopyFileRange(c.src, &in, c.dst, &out, int(min(size, 64<<20)), 0)
		switch err {
		case unix.EXDEV, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EPERM:
			c.buf = make([]byte, 128<<10)
		default:
			if n > 0 || err != nil {
				return n, err
			}
			// Some kernels give 0 for files of /proc and the like.
			c.buf = make([]byte, 128<<10)
		}
	}
	n, err := unix.Pread(c.src, c.buf[:min(size, int64(len(c.buf)))], off)
	if err != nil {
		return 0, err
	}
	for done := 0; done < n; {
		m, err := unix.Pwrite(c.dst, c.buf[done:n], off+int64(done))
		if err != nil && err != unix.EINTR {
			return done, err
		}
		done += max(m, 0)
	}
	return n, nil
}

// setMode changes the permission bits of a name that was seen to be st, and
// nothing else. A directory keeps the set-group-ID and sticky bits that it has on
// the host; a file loses such bits. fchmod(2) does not work on O_PATH, and to open a file for
// reading its old mode may not allow.
func setMode(dir int, name string, seen Stat, mode uint32) error {
	fd, err := openBeneath(dir, name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	now, err := StatFd(fd)
	if err != nil {
		return err
	}
	if !now.same(seen) || now.IsSymlink() {
		return errHostChanged
	}
	mode &= 0o777
	if now.IsDir() {
		mode |= now.Mode & 0o7000
	}
	return unix.Chmod(procFd(fd), mode)
}

// setTimes gives an open file its time of modification.
func setTimes(fd int, mtime int64) error {
	ts := timespecs(mtime)
	return unix.UtimesNanoAt(unix.AT_FDCWD, procFd(fd), ts[:], 0)
}

func timespecs(mtime int64) [2]unix.Timespec {
	return [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime)}
}

func procFd(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
