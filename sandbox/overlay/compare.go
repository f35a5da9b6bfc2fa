package overlay

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

// comparer compares files; it is its buffers.
type comparer struct {
	a, b []byte
	// held, if it is not 0, is the size of two files that differ and that a and b
	// have all of.
	held int
	// known is Options.Known of the last two files.
	known bool
	quit  chan struct{} // closed when nobody waits any more
}

// equal says whether two files of the same type have the same content. Times
// are never trusted: a build can set them.
func (c *comparer) equal(lowerDir, upperDir int, name string, low, up Stat) (bool, error) {
	switch up.Type() {
	case unix.S_IFREG:
		if low.Size != up.Size {
			return false, nil
		}
		if low.Size == 0 || low.Dev == up.Dev && low.Ino == up.Ino {
			return true, nil
		}
		return c.files(lowerDir, upperDir, name, low, up)
	case unix.S_IFLNK:
		a, err := c.link(&c.a, lowerDir, name)
		if err != nil {
			return false, err
		}
		b, err := c.link(&c.b, upperDir, name)
		return bytes.Equal(a, b), err
	case unix.S_IFCHR, unix.S_IFBLK:
		return low.Rdev == up.Rdev, nil
	}
	return true, nil
}

func (c *comparer) link(buf *[]byte, dir int, name string) ([]byte, error) {
	c.grow()
	n, err := unix.Readlinkat(dir, name, *buf)
	if err == unix.EINVAL || err == unix.ENOENT {
		return nil, errMoved
	}
	return (*buf)[:max(n, 0)], err
}

// small is what is read at once: most files of a source tree are smaller.
const small = 64 << 10

func (c *comparer) grow() {
	if c.a == nil {
		c.a, c.b = make([]byte, small), make([]byte, small)
	}
}

// files compares regular files of equal size. What a host's file keeps from the
// caller counts as different; nobody could tell.
func (c *comparer) files(lowerDir, upperDir int, name string, low, up Stat) (bool, error) {
	b, err := openSeen(upperDir, name)
	if err != nil {
		return false, err
	}
	defer unix.Close(b)
	a, err := openSeen(lowerDir, name)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(a)
	c.grow()
	sparse := low.Alloc < low.Size && up.Alloc < up.Size
	for off := int64(0); off < low.Size; {
		select {
		case <-c.quit:
			return false, nil
		default:
		}
		if sparse {
			if off = min(nextData(a, off, low.Size), nextData(b, off, low.Size)); off >= low.Size {
				break
			}
		}
		n := int(min(small, low.Size-off))
		n, err := preadFull(a, c.a[:n], off)
		if err != nil {
			return false, err
		}
		m, err := preadFull(b, c.b[:n], off)
		if err != nil {
			return false, err
		}
		if n != m || !bytes.Equal(c.a[:n], c.b[:m]) {
			if n == m && int64(n) == low.Size {
				c.held = n
			}
			return false, nil
		}
		if n == 0 {
			break // both have just become shorter
		}
		off += int64(n)
	}
	return true, nil
}

// nextData is where a sparse file goes on to hold something.
func nextData(fd int, off, size int64) int64 {
	next, err := unix.Seek(fd, off, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO:
		return size
	case err != nil || next < off:
		return off
	}
	return next
}

func preadFull(fd int, buf []byte, off int64) (n int, err error) {
	for n < len(buf) {
		m, err := unix.Pread(fd, buf[n:], off+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// openSeen opens a file that has just been seen to be a regular one. A build may
// have put something else there: a symlink and a device cannot be opened so, and
// reading a fifo or a directory at an offset is an error.
func openSeen(dir int, name string) (int, error) {
	fd, err := openBeneath(dir, name, unix.O_RDONLY)
	switch err {
	case unix.ENOENT, unix.ELOOP, unix.ENXIO:
		return -1, errMoved
	}
	return fd, err
}

// openRegular does the same, and makes sure that it is the file that was seen.
func openRegular(dir int, name string, seen Stat) (int, error) {
	fd, err := openSeen(dir, name)
	if err != nil {
		return -1, err
	}
	st, err := StatFd(fd)
	if err == nil && !st.same(seen) {
		err = errMoved
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// lines counts the lines in which two files, or targets of symlinks, differ.
func (c *comparer) lines(j *job, name string, low, up Stat) (l Lines, err error) {
	var a, b []byte
	c.grow()
	if c.held > 0 {
		a, b = c.a[:c.held], c.b[:c.held]
		if l.Binary = isBinary(a) || isBinary(b); l.Binary {
			return l, nil
		}
		return countLines(a, b), nil
	}
	if low.Exists() {
		if a, l.Binary, err = c.text(&c.a, j.lower.fd, name, low); err != nil || l.Binary {
			return l, err
		}
	}
	if up.Exists() {
		if b, l.Binary, err = c.text(&c.b, j.upper.fd, name, up); err != nil || l.Binary {
			return l, err
		}
	}
	if low.Type() != up.Type() { // one goes, the other comes
		return Lines{Added: len(splitLines(string(b))), Removed: len(splitLines(string(a)))}, nil
	}
	return countLines(a, b), nil
}

// countLines counts the lines in which two texts that differ do so, as many as
// diffLines finds.
func countLines(a, b []byte) (l Lines) {
	a, b = trimLines(a, b)
	n, m := lineCount(a), lineCount(b)
	switch {
	case n == 0 || m == 0 || n+m == 2:
		return Lines{Added: m, Removed: n}
	case n <= fewLines && m <= fewLines:
		k := common(a, b)
		return Lines{Added: m - k, Removed: n - k}
	}
	for _, e := range diffLines(splitLines(string(a)), splitLines(string(b))) {
		l.Removed += e.a1 - e.a0
		l.Added += e.b1 - e.b0
	}
	return l
}

// fewLines are compared without memory of their own: what is left of most files.
const fewLines = 32

// common is the length of the longest sequence of lines that two texts of up to
// fewLines have in common.
func common(a, b []byte) int {
	var lines [fewLines][]byte
	other := lines[:0]
	for line := range bytes.Lines(b) {
		other = append(other, line)
	}
	// best[k+1] is that of the lines of a so far and of the first k+1 of b.
	var best [fewLines + 1]int
	for line := range bytes.Lines(a) {
		before := 0
		for k, o := range other {
			was := best[k+1]
			if bytes.Equal(line, o) {
				best[k+1] = before + 1
			} else {
				best[k+1] = max(was, best[k])
			}
			before = was
		}
	}
	return best[len(other)]
}

func lineCount(text []byte) int {
	n := bytes.Count(text, []byte("\n"))
	if len(text) > 0 && text[len(text)-1] != '\n' {
		n++
	}
	return n
}

func isBinary(data []byte) bool { return bytes.IndexByte(data, 0) >= 0 }

// trimLines takes the lines away that two files have in common at their ends.
func trimLines(a, b []byte) (x, y []byte) {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	n = bytes.LastIndexByte(a[:n], '\n') + 1
	a, b = a[n:], b[n:]
	n = 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	// The equal end begins in the middle of a line, or where one begins.
	if i := bytes.IndexByte(a[len(a)-n:], '\n'); i >= 0 {
		n -= i + 1
	} else {
		n = 0
	}
	return a[:len(a)-n], b[:len(b)-n]
}

func (c *comparer) text(buf *[]byte, dir int, name string, st Stat) (data []byte, binary bool, err error) {
	switch {
	case st.IsSymlink():
		data, err = c.link(buf, dir, name)
		return data, false, err
	case !st.IsRegular() || st.Size == 0:
		return nil, false, nil
	case st.Size > MaxText:
		return nil, true, nil
	}
	if int64(len(*buf)) < st.Size {
		*buf = make([]byte, st.Size)
	}
	fd, err := openSeen(dir, name)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(fd)
	n, err := preadFull(fd, (*buf)[:st.Size], 0)
	return (*buf)[:n], isBinary((*buf)[:n]), err
}
