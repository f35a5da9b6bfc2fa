package overlay

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// Notes are what a layer's journal has on one pair.
type Notes struct {
	Journal *state.Journal
	// Pair is the pair's key in the journal (state.Pair).
	Pair string
}

// Base is the host's version of a path when the layer's was first seen.
func (n Notes) Base(path string) (Fingerprint, bool) {
	value, ok := n.Journal.Seen(n.Pair, path)
	if !ok {
		return Fingerprint{}, false
	}
	f, err := ParseFingerprint(value)
	return f, err == nil
}

func (n Notes) seen(path string, f Fingerprint) state.Note {
	return state.Note{Op: state.Seen, Pair: n.Pair, Path: path, Value: f.String()}
}

func (n Notes) settled(when int64) state.Note {
	return state.Note{Op: state.Settled, Pair: n.Pair, Value: strconv.FormatInt(when, 10)}
}

func (n Notes) forget(path string) state.Note {
	return state.Note{Op: state.Forget, Pair: n.Pair, Path: path}
}

// parents opens the directories of a walk's paths. Those come in order, so that
// one is kept.
type parents struct {
	root int
	path string
	fd   int
}

func newParents(root int) *parents { return &parents{root: root, fd: -1} }

// at is the directory of a path, for as long as no other is asked for, and the
// last name.
func (p *parents) at(path string) (dir int, name string, err error) {
	parent, name := split(path)
	if p.fd >= 0 && p.path == parent {
		return p.fd, name, nil
	}
	fd, err := OpenBeneath(p.root, parent, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return -1, name, err
	}
	p.close()
	p.path, p.fd = parent, fd
	return fd, name, nil
}

func (p *parents) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
	}
	p.fd = -1
}

// split takes the last name off.
func split(path string) (dir, name string) {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i], path[i+1:]
		}
	}
	return "", path
}

// birth is when the layer got its version of a name, in nanoseconds: when
// overlayfs copied it up, when the build made it, when a whiteout was made. A
// build cannot set it. Where the file system does not tell (statx(2),
// STATX_BTIME) it is the time of modification.
func birth(dir int, name string) (int64, error) {
	var st unix.Statx_t
	_, err := retry(func() (int, error) {
		return 0, unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, unix.STATX_BTIME|unix.STATX_MTIME, &st)
	})
	if err != nil {
		return 0, err
	}
	nano := func(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }
	if st.Mask&unix.STATX_BTIME == 0 {
		return nano(st.Mtime), nil
	}
	at := nano(st.Btime)
	if st.Mode&unix.S_IFMT == unix.S_IFCHR {
		// A copy of a layer has whiteouts that are younger than what they
		// say, with the time of modification kept.
		at = min(at, nano(st.Mtime))
	}
	return at, nil
}
