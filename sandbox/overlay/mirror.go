package overlay

import (
	"crypto/sha256"
	"encoding/base64"
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

// Phantom is the mode of a directory that has a name come and go.
const Phantom = 0o1700

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
	return mirrorOfFd(fd)
}

// mirrorOfFd is MirrorOf for a file that is open; errMoved says that somebody has written
// to it meanwhile.
func mirrorOfFd(fd int) (m Mirror, err error) {
	st, err := StatFd(fd)
	if err != nil {
		return m, err
	}
	m = Mirror{Mode: st.Mode, Size: st.Size, Mtime: st.Mtime}
	if m.Sum, err = sumFd(fd, st.Size); err != nil {
		return m, err
	}
	if now, err := StatFd(fd); err != nil || now.Size != st.Size || now.Mtime != st.Mtime || now.Ctime != st.Ctime {
		return m, errors.Join(err, errMoved)
	}
	return m, nil
}

// sumFd is the sum of so many bytes.
func sumFd(fd int, size int64) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	err = hashFd(h, fd, size)
	h.Sum(sum[:0])
	return sum, err
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

// CopiedUp finds out what overlayfs has just copied up: fd is the copy, was what the host
// had a moment before, and dir has the host's file now, which may have grown since, or
// gone. Where there is anything else in it than the host has, or had, a build was there,
// and ok is false.
func CopiedUp(fd int, was Mirror, dir int, name string) (m Mirror, ok bool) {
	m, err := mirrorOfFd(fd)
	if err != nil || m.Mode&unix.S_IFMT != unix.S_IFREG {
		return m, false
	}
	if m.Size == was.Size && m.Sum == was.Sum {
		return m, true
	}
	host, err := StatAt(dir, name)
	if err != nil || !host.IsRegular() || host.Size < m.Size {
		return m, false
	}
	low, err := openRegular(dir, name, host)
	if err != nil {
		return m, false
	}
	defer unix.Close(low)
	theirs, err := sumFd(low, m.Size)
	return m, err == nil && m.Sum == theirs
}

// MirrorMark begins the names of temporaries that become mirrors, or were the files in
// whose place these are now, or become what a drop restores. The journal knows the layer's
// directories that they are in (state.Temp). One that ends in MirrorHalf is a copy on the
// way, or a directory that is to have a name come and go, and nothing else.
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
	return n.setMirrors(path, nil, list)
}

// SetParked notes what was in the place of the mirror at a path, and is in a temporary until
// nobody can be about to write to it. What is written to there gets its name back.
func (n Notes) SetParked(temp, path string, was ...Mirror) error {
	return n.setMirrors(temp, []string{parkedMark + base64.RawURLEncoding.EncodeToString([]byte(path))}, was)
}

// parkedMark begins the word that is the path in what SetParked notes.
const parkedMark = "@"

// Parked is the name that a temporary had.
func (n Notes) Parked(temp string) (path string, ok bool) {
	word, _, _ := strings.Cut(n.Journal.Mirror(n.Pair, temp), " ")
	if code, is := strings.CutPrefix(word, parkedMark); is {
		data, err := base64.RawURLEncoding.DecodeString(code)
		return string(data), err == nil && len(data) > 0
	}
	return "", false
}

// left notes what a drop or a pull leaves in an upper that is mounted: the host's version of
// that moment. Unlike a mirror it is shown where the host's is another later; at rest it is
// removed, whatever the host has, for as long as nobody has changed it.
func (n Notes) left(path string, m Mirror) state.Note {
	return state.Note{Op: state.Mirror, Pair: n.Pair, Path: path, Value: leftMark + m.String()}
}

// leftMark begins what left notes.
const leftMark = "="

// Left is what a drop or a pull has left at a path.
func (n Notes) Left(path string) (m Mirror, ok bool) {
	word, ok := strings.CutPrefix(n.Journal.Mirror(n.Pair, path), leftMark)
	if !ok {
		return m, false
	}
	m, err := ParseMirror(word)
	return m, err == nil
}

func (n Notes) setMirrors(path string, words []string, list Mirrors) error {
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

// phantom says whether a directory of the upper is one that was to have a name come and
// go: sbx was killed before it had that name.
func (m *mirrors) phantom(dir, name string, up Stat) bool {
	if m == nil || up.Perm() != Phantom || !strings.HasSuffix(name, MirrorHalf) {
		return false
	}
	return slices.ContainsFunc(m.temps[dir], func(mark string) bool { return strings.HasPrefix(name, mark) })
}

// CopyAt makes the host's file or symlink under another name in a directory of an
// overlay.
func CopyAt(low int, name string, dir int, as string, want Stat) error {
	return (&restorer{}).make(low, dir, name, as, want)
}

// Touch gives a file a time of modification, and leaves that of access.
func Touch(fd int, mtime int64) error { return setTimes(fd, mtime) }
