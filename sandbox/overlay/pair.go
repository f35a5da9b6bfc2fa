package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Pair is a directory of the host and what a layer has over it.
type Pair struct {
	// Lower is the host's directory, Upper the layer's. Either may be missing:
	// then everything is added, or nothing has changed.
	Lower, Upper string
	// Name is "" for the source tree, and the path of a joined directory.
	Name string
}

// Shown is how a path of the pair is named: relative to the tree, or absolute
// in a joined directory.
func (p Pair) Shown(rel string) string {
	if p.Name == "" {
		if rel == "" {
			return "."
		}
		return rel
	}
	return path.Join(p.Name, rel)
}

// Opened is a pair of which the directories are open.
type Opened struct {
	Pair
	lower, upper int
}

// Open opens both directories. The names of a pair itself are sbx's own or the
// user's; whatever lies below them is not.
func (p Pair) Open() (*Opened, error) {
	o := &Opened{Pair: p, lower: -1, upper: -1}
	var err error
	if o.upper, err = openRoot(p.Upper); err != nil {
		return nil, &Error{Do: "open", Path: p.Upper, Err: err}
	}
	if o.lower, err = openRoot(p.Lower); err != nil {
		o.Close()
		return nil, &Error{Do: "open", Path: p.Lower, Err: err}
	}
	return o, nil
}

// openRoot opens a directory; -1 if there is none.
func openRoot(dir string) (int, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return -1, nil
	}
	return fd, err
}

// LowerFd is the descriptor of the host's directory, -1 if there is none. It
// lives as long as the pair is open.
func (o *Opened) LowerFd() int { return o.lower }

// UpperFd is that of the layer's.
func (o *Opened) UpperFd() int { return o.upper }

// Close closes both.
func (o *Opened) Close() {
	if o.lower >= 0 {
		unix.Close(o.lower)
	}
	if o.upper >= 0 {
		unix.Close(o.upper)
	}
	o.lower, o.upper = -1, -1
}

// Error is a path of a layer with which something could not be done.
type Error struct {
	Do, Path string
	Err      error
}

func (e *Error) Error() string { return fmt.Sprintf("cannot %s %q: %s", e.Do, e.Path, cause(e.Err)) }
func (e *Error) Unwrap() error { return e.Err }

// errMoved is a path that a build changed between two looks at it.
var errMoved = errors.New("it changed while it was read")

// cause is an errno in words.
func cause(err error) string {
	switch {
	case errors.Is(err, unix.ELOOP):
		return "it has become a symlink"
	case errors.Is(err, unix.EXDEV):
		return "it is on another file system, or something is mounted there"
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return err.Error()
}

// within is how everything below a pair is opened: no symlink, no mount.
const within = unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// openBeneath opens one or more names below a directory, and never upwards. For
// a single name that needs no RESOLVE_BENEATH, which gives EAGAIN while anything
// is renamed on the machine, and EXDEV if that is the directory.
func openBeneath(dir int, name string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: within}
	if name == ".." || strings.Contains(name, "/") {
		how.Resolve |= unix.RESOLVE_BENEATH
	}
	if flags&unix.O_PATH == 0 {
		how.Flags |= unix.O_NONBLOCK | unix.O_NOCTTY
	}
	return retry(func() (int, error) { return unix.Openat2(dir, name, &how) })
}

// maxName bounds what one openat2 is given: PATH_MAX is 4096.
const maxName = 3000

// OpenBeneath opens a path below a directory, of any length, without following
// a symlink or crossing a mount. "" is the directory itself.
func OpenBeneath(dir int, rel string, flags int) (int, error) {
	if rel == "" {
		rel = "."
	}
	at := dir
	for len(rel) > maxName {
		cut := strings.LastIndexByte(rel[:maxName], '/')
		if cut <= 0 {
			break
		}
		fd, err := openBeneath(at, rel[:cut], unix.O_PATH|unix.O_DIRECTORY)
		if at != dir {
			unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at, rel = fd, rel[cut+1:]
	}
	fd, err := openBeneath(at, rel, flags)
	if at != dir {
		unix.Close(at)
	}
	return fd, err
}

// retry calls again what a signal, or a rename elsewhere, made fail.
func retry[T any](f func() (T, error)) (T, error) {
	for i := 0; ; i++ {
		v, err := f()
		if err == unix.EINTR || err == unix.EAGAIN && i < 1000 {
			continue
		}
		return v, err
	}
}
