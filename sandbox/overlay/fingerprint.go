package overlay

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Fingerprint tells one version of a host's file from another, without reading
// it. The zero value is: there is no file.
//
// The time of change is in it because an editor, or tar, may set the time of
// modification back; the inode because most write a new file and rename it. A
// directory's changes when it gains or loses an entry.
type Fingerprint struct {
	Type         byte // f d l p s c b, o
	Mode         uint32
	Size         int64
	Mtime, Ctime int64
	Ino          uint64
}

const types = "fdlpscb" + string(hides)

// hides is the type of a directory that an opaque one of the layer hides, since Ctime.
const hides = 'o'

var typeBits = [...]uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK}

// FingerprintOf is the fingerprint of a name in a directory.
func FingerprintOf(dir int, name string) (Fingerprint, error) {
	st, err := StatAt(dir, name)
	return st.Fingerprint(), err
}

// Fingerprint is that of the file.
func (s Stat) Fingerprint() Fingerprint {
	for i, bits := range typeBits {
		if s.Type() == bits {
			return Fingerprint{Type: types[i], Mode: s.Perm(), Size: s.Size, Mtime: s.Mtime, Ctime: s.Ctime, Ino: s.Ino}
		}
	}
	return Fingerprint{}
}

// isDir says whether it is of a directory.
func (f Fingerprint) isDir() bool { return f.Type == 'd' || f.Type == hides }

// Exists says whether there was a file.
func (f Fingerprint) Exists() bool { return f.Type != 0 }

// String is one word: "-" for no file, else type, mode in octal, size, times in
// nanoseconds and inode, with colons between.
func (f Fingerprint) String() string {
	if f.Type == 0 {
		return "-"
	}
	b := append(make([]byte, 0, 80), f.Type, ':')
	b = append(strconv.AppendUint(b, uint64(f.Mode), 8), ':')
	b = append(strconv.AppendInt(b, f.Size, 10), ':')
	b = append(strconv.AppendInt(b, f.Mtime, 10), ':')
	b = append(strconv.AppendInt(b, f.Ctime, 10), ':')
	return string(strconv.AppendUint(b, f.Ino, 10))
}

var errFingerprint = errors.New("not a fingerprint")

// ParseFingerprint reads what String wrote, and nothing else.
func ParseFingerprint(s string) (Fingerprint, error) {
	if s == "-" {
		return Fingerprint{}, nil
	}
	var f Fingerprint
	var w [6]string
	rest, more := s, true
	for i := range w {
		if !more {
			return f, errFingerprint
		}
		if w[i], rest, more = strings.Cut(rest, ":"); i > 0 && !canonical(w[i]) {
			return f, errFingerprint
		}
	}
	if more || len(w[0]) != 1 || !strings.Contains(types, w[0]) {
		return f, errFingerprint
	}
	mode, err1 := strconv.ParseUint(w[1], 8, 12)
	size, err2 := strconv.ParseInt(w[2], 10, 64)
	mtime, err3 := strconv.ParseInt(w[3], 10, 64)
	ctime, err4 := strconv.ParseInt(w[4], 10, 64)
	ino, err5 := strconv.ParseUint(w[5], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || err5 != nil {
		return f, errFingerprint
	}
	return Fingerprint{Type: w[0][0], Mode: uint32(mode), Size: size, Mtime: mtime, Ctime: ctime, Ino: ino}, nil
}

// canonical says whether a number is as strconv writes it, if it is one.
func canonical(s string) bool {
	if s == "0" {
		return true
	}
	s = strings.TrimPrefix(s, "-")
	return s != "" && '1' <= s[0] && s[0] <= '9'
}

// Base is what the host had at a path when the layer's version of it was first
// seen; false if nobody has noted it. It is called from several goroutines.
type Base func(path string) (Fingerprint, bool)

// shadowed says whether the host's version of a path has changed since the
// layer took its own.
func (b Base) shadowed(c *Change) bool {
	if b == nil {
		return false
	}
	was, ok := b(c.Path)
	if !ok {
		// Nobody has noted what an opaque directory hides, one by one. What the host
		// has changed since is younger.
		return c.HiddenSince != 0 && c.Lower.Ctime > c.HiddenSince
	}
	is := c.Lower.Fingerprint()
	if c.Upper.IsDir() && was.isDir() && is.isDir() {
		// What the host adds is seen, or hidden by itself; but of another directory in its
		// place nothing is known.
		return was.Mode != is.Mode || was.Type == hides && was.Ino != is.Ino
	}
	return was != is
}

// hiddenSince is when a directory of the layer began to hide what the host has there, of
// which low is the directory. A build can make it anew, but the journal remembers the
// first. What is in another directory than the one that was there is younger, whatever
// its times.
func (b Base) hiddenSince(path string, fd int, low Stat) (int64, error) {
	if b.replaced(path, low) {
		return always, nil
	}
	if b != nil {
		if was, ok := b(path); ok && was.Type == hides {
			return was.Ctime, nil
		}
	}
	return hidingSince(fd, "")
}

// replaced says whether the host has another directory at a path than was noted.
func (b Base) replaced(path string, low Stat) bool {
	if b == nil {
		return false
	}
	was, ok := b(path)
	return ok && (!was.isDir() || was.Ino != low.Ino)
}

// always is before everything.
const always = 1

// hidingSince is birth, and not later than now: where birth is not known a build can set it.
func hidingSince(dir int, name string) (int64, error) {
	at, err := birth(dir, name)
	return min(at, time.Now().UnixNano()), err
}
