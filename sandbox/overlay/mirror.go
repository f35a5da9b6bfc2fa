package overlay

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// Mirror is what sbx has put into an upper to show an edit of the host's to who
// watches inside (package live). The journal has what it is to be before the upper has
// it. It is no change of the layer's, for as long as nobody has changed it.
type Mirror struct {
	// Mode is st_mode; 0: a whiteout. A directory is one that sbx has copied up to put
	// a mirror into it.
	Mode uint32
	// Size is that of a file; of a directory it is the inode of the upper's, 0 if that
	// is not known.
	Size  int64
	Mtime int64
	// Sum is that of a file's content or a symlink's target; 0 if it is not known.
	Sum [sha256.Size]byte
}

// String is "-" for a whiteout, for a directory "d", mode and inode, else mode in
// octal, size, time in nanoseconds and SHA-256.
func (m Mirror) String() string {
	switch {
	case m.Mode == 0:
		return "-"
	case m.IsDir():
		return "d" + strconv.FormatUint(uint64(m.Mode&0o7777), 8) + ":" + strconv.FormatInt(m.Size, 10)
	}
	b := append(strconv.AppendUint(nil, uint64(m.Mode), 8), ':')
	b = append(strconv.AppendInt(b, m.Size, 10), ':')
	b = append(strconv.AppendInt(b, m.Mtime, 10), ':')
	return string(hex.AppendEncode(b, m.Sum[:]))
}

// IsDir says whether it is a directory.
func (m Mirror) IsDir() bool { return m.Mode&unix.S_IFMT == unix.S_IFDIR }

var errMirror = errors.New("not a mirror")

// ParseMirror reads what String wrote.
func ParseMirror(s string) (m Mirror, err error) {
	if s == "-" {
		return m, nil
	}
	if rest, ok := strings.CutPrefix(s, "d"); ok {
		perm, ino, _ := strings.Cut(rest, ":")
		mode, err1 := strconv.ParseUint(perm, 8, 12)
		m.Size, err = strconv.ParseInt(ino, 10, 64)
		if m.Mode = unix.S_IFDIR | uint32(mode); errors.Join(err, err1) != nil {
			return Mirror{}, errMirror
		}
		return m, nil
	}
	w := strings.Split(s, ":")
	if len(w) != 4 || len(w[3]) != 2*len(m.Sum) {
		return m, errMirror
	}
	mode, err1 := strconv.ParseUint(w[0], 8, 32)
	size, err2 := strconv.ParseInt(w[1], 10, 64)
	mtime, err3 := strconv.ParseInt(w[2], 10, 64)
	_, err4 := hex.Decode(m.Sum[:], []byte(w[3]))
	if m.Mode, m.Size, m.Mtime = uint32(mode), size, mtime; errors.Join(err1, err2, err3, err4) != nil || mode == 0 {
		return Mirror{}, errMirror
	}
	return m, nil
}

// Looks says whether a file looks like the mirror, which costs nothing.
func (m Mirror) Looks(st Stat) bool {
	if m.Mode == 0 {
		return st.IsWhiteout()
	}
	if m.IsDir() {
		return st.Mode == m.Mode && (m.Size == 0 || st.Ino == uint64(m.Size))
	}
	return st.Mode == m.Mode && st.Size == m.Size && st.Mtime == m.Mtime
}

// Is says whether a name is exactly the mirror.
func (m Mirror) Is(dir int, name string) (bool, error) {
	st, err := StatAt(dir, name)
	if err != nil || !m.Looks(st) || m.Sum == (Mirror{}).Sum {
		return err == nil && m.Looks(st), err
	}
	now, err := MirrorOf(dir, name)
	if err == errMoved {
		return false, nil
	}
	return now == m, err
}

// MirrorOf reads what a file or symlink would be as a mirror.
func MirrorOf(dir int, name string) (m Mirror, err error) {
	st, err := StatAt(dir, name)
	if err != nil {
		return m, err
	}
	m = Mirror{Mode: st.Mode, Size: st.Size, Mtime: st.Mtime}
	switch st.Type() {
	case unix.S_IFLNK:
		target, err := readLink(dir, name)
		m.Sum = sha256.Sum256([]byte(target))
		return m, err
	case unix.S_IFREG:
	default:
		return m, errMoved
	}
	fd, err := openRegular(dir, name, st)
	if err != nil {
		return m, err
	}
	defer unix.Close(fd)
	h := sha256.New()
	if err := hashFd(h, fd, st.Size); err != nil {
		return m, err
	}
	h.Sum(m.Sum[:0])
	if now, err := StatFd(fd); err != nil || now.Size != st.Size || now.Mtime != st.Mtime {
		return m, errors.Join(err, errMoved)
	}
	return m, nil
}

// hashFd reads so many bytes.
func hashFd(h io.Writer, fd int, size int64) error {
	buf := make([]byte, small)
	for off := int64(0); off < size; {
		n, err := preadFull(fd, buf[:min(int64(len(buf)), size-off)], off)
		if err != nil || n == 0 {
			return err
		}
		h.Write(buf[:n])
		off += int64(n)
	}
	return nil
}

// CopiedUp finds out what overlayfs has just copied up: fd is the copy, dir has the
// host's file, which may have grown since. Where there is anything else in it than the
// host has, a build was there, and ok is false.
func CopiedUp(fd, dir int, name string) (m Mirror, ok bool) {
	st, err := StatFd(fd)
	host, err1 := StatAt(dir, name)
	if err != nil || err1 != nil || !st.IsRegular() || !host.IsRegular() || host.Size < st.Size {
		return m, false
	}
	low, err := openRegular(dir, name, host)
	if err != nil {
		return m, false
	}
	defer unix.Close(low)
	mine, theirs := sha256.New(), sha256.New()
	if hashFd(mine, fd, st.Size) != nil || hashFd(theirs, low, st.Size) != nil {
		return m, false
	}
	m = Mirror{Mode: st.Mode, Size: st.Size, Mtime: st.Mtime}
	mine.Sum(m.Sum[:0])
	now, err := StatFd(fd)
	return m, err == nil && now == st && m.Sum == [sha256.Size]byte(theirs.Sum(nil))
}

// MirrorMark begins the names of temporaries that become mirrors, or were the files in
// whose place these are now. The journal knows the layer's directories that they are in
// (state.Temp). One that ends in MirrorHalf is a copy on the way, and nothing else.
const (
	MirrorMark = ".sbx-mirror-"
	MirrorHalf = ".tmp"
)

// Mirrors are what the mirror at a path is; none if there is none. There are several
// while one is being replaced by the next.
func (n Notes) Mirrors(path string) Mirrors {
	value := n.Journal.Mirror(n.Pair, path)
	if value == "" {
		return nil
	}
	var list Mirrors
	for word := range strings.FieldsSeq(value) {
		if m, err := ParseMirror(word); err == nil {
			list = append(list, m)
		}
	}
	return list
}

// SetMirrors notes what the mirror at a path is, or is about to be.
func (n Notes) SetMirrors(path string, list ...Mirror) error {
	var words []string
	for _, m := range list {
		words = append(words, m.String())
	}
	value := strings.Join(words, " ")
	if value == n.Journal.Mirror(n.Pair, path) {
		return nil
	}
	return n.Journal.Write(false, state.Note{Op: state.Mirror, Pair: n.Pair, Path: path, Value: value})
}

// Mirrors are what may be at one path.
type Mirrors []Mirror

// Looks says whether a file looks like one of them.
func (l Mirrors) Looks(st Stat) bool {
	return slices.ContainsFunc(l, func(m Mirror) bool { return m.Looks(st) })
}

// Is says whether a name is exactly one of them.
func (l Mirrors) Is(dir int, name string) (is Mirror, ok bool, err error) {
	for _, m := range l {
		if ok, err = m.Is(dir, name); ok || err != nil {
			return m, ok, err
		}
	}
	return is, false, nil
}

// mirrors are those that a walk passes over.
type mirrors struct {
	notes Notes
	temps map[string][]string // marks, by directory
}

// newMirrors is nil if there are none.
func newMirrors(n Notes) *mirrors {
	if n.Journal == nil {
		return nil
	}
	m := &mirrors{notes: n, temps: map[string][]string{}}
	for _, t := range n.Journal.Temps(n.Pair) {
		if strings.HasPrefix(t.Value, MirrorMark) {
			m.temps[t.Path] = append(m.temps[t.Path], t.Value)
		}
	}
	if len(m.temps) == 0 && len(n.Journal.Mirrors(n.Pair)) == 0 {
		return nil
	}
	return m
}

// has says whether what the upper has at a path is a mirror, or on the way to be one.
func (m *mirrors) has(dir, name string, up Stat) bool {
	if m == nil || !up.Exists() {
		return false
	}
	for _, mark := range m.temps[dir] {
		if strings.HasPrefix(name, mark) {
			return true
		}
	}
	return m.notes.Mirrors(join(dir, name)).Looks(up)
}

// copied says whether a directory of the upper is there only because mirrors are in it,
// with the mode that it was copied up with.
func (m *mirrors) copied(path string, up Stat) bool {
	if m == nil {
		return false
	}
	return slices.ContainsFunc(m.notes.Mirrors(path), func(is Mirror) bool { return is.IsDir() && is.Looks(up) })
}

// removeMirrors takes the mirrors out of an upper that is at rest, whatever the host
// has by now: what a build has changed is the layer's own from here on.
func (o *Opened) removeMirrors(n Notes) error {
	list := n.Journal.Mirrors(n.Pair)
	temps := n.Journal.Temps(n.Pair)
	if len(list)+len(temps) == 0 {
		return nil
	}
	var done []state.Note
	var known Mirrors
	for _, path := range list {
		known = append(known, n.Mirrors(path)...)
	}
	for _, t := range temps {
		if strings.HasPrefix(t.Value, MirrorMark) && o.removeTemps(t, known) {
			t.Op = state.Done
			done = append(done, t)
		}
	}
	// What is in a directory comes before it.
	for i := len(list) - 1; i >= 0; i-- {
		if err := o.removeMirror(n, list[i]); err != nil {
			n.Journal.Write(false, done...)
			return &Error{Do: "settle", Path: o.Shown(list[i]), Err: err}
		}
		done = append(done, state.Note{Op: state.Mirror, Pair: n.Pair, Path: list[i]})
	}
	return n.Journal.Write(false, done...)
}

func (o *Opened) removeMirror(n Notes, path string) error {
	parent, name := split(path)
	dir, err := OpenBeneath(o.upper, parent, unix.O_RDONLY|unix.O_DIRECTORY)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return nil
	default:
		return err
	}
	defer unix.Close(dir)
	m, is, err := n.Mirrors(path).Is(dir, name)
	if err != nil || !is || o.opaqueAbove(path) {
		return err
	}
	if m.IsDir() {
		return o.removeCopied(m, dir, name, path)
	}
	if m.Mode&unix.S_IFMT == unix.S_IFREG {
		st, err := StatAt(dir, name)
		if err != nil || st.Nlink > 1 || !o.plain(dir, name, path) {
			return err
		}
	}
	if err := unix.Unlinkat(dir, name, 0); err != unix.ENOENT {
		return err
	}
	return nil
}

// removeCopied removes a directory that was copied up for mirrors, if the host has it no
// more and nothing is in it. Else it gets the host's mode, and settling sees to it.
func (o *Opened) removeCopied(m Mirror, dir int, name, path string) error {
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil // closed to its owner, as on the host
	}
	defer unix.Close(fd)
	if opaque, err := isOpaque(fd); opaque || err != nil {
		return err
	}
	low, err := OpenBeneath(o.lower, path, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		defer unix.Close(low)
		if st, err := StatFd(low); err == nil && st.Perm() != m.Mode&0o7777 {
			return unix.Fchmod(fd, st.Perm()&0o7777)
		}
		return nil
	}
	attrs, err := listXattrs(fd)
	if err != nil || len(attrs) > 0 || m.Size == 0 {
		return err
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != unix.ENOTEMPTY {
		return err
	}
	return nil
}

// plain says whether a file has no attributes but those that the host's has.
func (o *Opened) plain(dir int, name, path string) bool {
	up, err := openBeneath(dir, name, unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer unix.Close(up)
	mine, err := listXattrs(up)
	if err != nil || len(mine) == 0 {
		return err == nil
	}
	s := settling{o: o}
	return s.sameXattrs(dir, name, Change{Path: path})
}

// removeTemps removes what was on the way; done is false if it must be tried again. What
// is none of the known mirrors is a build's, of a moment in which sbx was killed: it
// stays, and is a change from here on.
func (o *Opened) removeTemps(t state.Note, known Mirrors) (done bool) {
	fd, err := OpenBeneath(o.upper, t.Path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP
	}
	defer unix.Close(fd)
	names, err := readNames(fd, make([]byte, 32<<10))
	done = err == nil
	for _, n := range names {
		if !strings.HasPrefix(n.name, t.Value) {
			continue
		}
		if !strings.HasSuffix(n.name, MirrorHalf) {
			if _, is, err := known.Is(fd, n.name); err != nil || !is {
				done = done && err == nil
				continue
			}
		}
		if err := unix.Unlinkat(fd, n.name, 0); err != nil && err != unix.ENOENT {
			done = false
		}
	}
	return done
}

// opaqueAbove says whether a directory above a path hides the host's, or cannot be
// read.
func (o *Opened) opaqueAbove(path string) bool {
	for parent, _ := split(path); parent != ""; parent, _ = split(parent) {
		fd, err := OpenBeneath(o.upper, parent, unix.O_RDONLY|unix.O_DIRECTORY)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return true
		}
		is, err := isOpaque(fd)
		unix.Close(fd)
		if is || err != nil {
			return true
		}
	}
	return false
}

// CopyAt makes the host's file or symlink under another name in a directory of an
// overlay.
func CopyAt(low int, name string, dir int, as string, want Stat) error {
	return (&restorer{}).make(low, dir, name, as, want)
}

// Touch gives a file a time of modification, and leaves that of access.
func Touch(fd int, mtime int64) error { return setTimes(fd, mtime) }
