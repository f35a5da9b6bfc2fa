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
// watches inside (package live). The journal has it before the upper. It is no
// change of the layer's, for as long as nobody has changed it.
type Mirror struct {
	// Mode is st_mode; 0: a whiteout. Of a directory, which sbx has copied up to put
	// a mirror into it, nothing else counts.
	Mode  uint32
	Size  int64
	Mtime int64
	// Sum is that of a file's content or a symlink's target; 0 if it is not known.
	Sum [sha256.Size]byte
}

// String is "-" for a whiteout, "d" for a directory, else mode in octal, size, time
// in nanoseconds and SHA-256.
func (m Mirror) String() string {
	switch {
	case m.Mode == 0:
		return "-"
	case m.IsDir():
		return "d"
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
	switch s {
	case "-":
		return m, nil
	case "d":
		return Mirror{Mode: unix.S_IFDIR}, nil
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
		return st.IsDir()
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
	if err := hashFd(h, fd); err != nil {
		return m, err
	}
	h.Sum(m.Sum[:0])
	if now, err := StatFd(fd); err != nil || now.Size != st.Size || now.Mtime != st.Mtime {
		return m, errors.Join(err, errMoved)
	}
	return m, nil
}

func hashFd(h io.Writer, fd int) error {
	buf := make([]byte, small)
	for off := int64(0); ; {
		n, err := preadFull(fd, buf, off)
		if err != nil || n == 0 {
			return err
		}
		h.Write(buf[:n])
		off += int64(n)
	}
}

// MirrorMark begins the names of temporaries that become mirrors. The journal knows
// the directories that they are in (state.Temp).
const MirrorMark = ".sbx-mirror-"

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
	temps map[string]bool
}

// newMirrors is nil if there are none.
func newMirrors(n Notes) *mirrors {
	if n.Journal == nil {
		return nil
	}
	m := &mirrors{notes: n, temps: map[string]bool{}}
	for _, t := range n.Journal.Temps(n.Pair) {
		if strings.HasPrefix(t.Value, MirrorMark) {
			m.temps[t.Path] = true
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
	if m.temps[dir] && strings.HasPrefix(name, MirrorMark) {
		return true
	}
	return m.notes.Mirrors(join(dir, name)).Looks(up)
}

// copied says whether a directory is in the upper only because mirrors are in it.
func (m *mirrors) copied(path string) bool {
	if m == nil {
		return false
	}
	return slices.ContainsFunc(m.notes.Mirrors(path), Mirror.IsDir)
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
	for _, t := range temps {
		if strings.HasPrefix(t.Value, MirrorMark) && o.removeTemps(t) {
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
		if attrs, err := dirXattrs(dir, name); err != nil || len(attrs) > 0 {
			return err
		}
		if low, err := OpenBeneath(o.lower, path, unix.O_PATH|unix.O_DIRECTORY); err == nil {
			unix.Close(low) // it merges, and settling sees to it
			return nil
		}
		if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != unix.ENOTEMPTY {
			return err
		}
		return nil
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

// removeTemps removes what was on the way; done is false if it must be tried again.
func (o *Opened) removeTemps(t state.Note) (done bool) {
	fd, err := OpenBeneath(o.upper, t.Path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP
	}
	defer unix.Close(fd)
	names, err := readNames(fd, make([]byte, 32<<10))
	done = err == nil
	for _, n := range names {
		if strings.HasPrefix(n.name, t.Value) {
			done = state.RemoveAt(fd, n.name) == nil && done
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
