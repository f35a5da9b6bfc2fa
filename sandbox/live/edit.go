package live

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// edit is one path that may be mirrored.
type edit struct {
	path string
	// parent is the path of the directory, name the last one.
	parent, name string
	mask         uint32
	dir          int // in the overlay
	// host and inside are what is there.
	host, inside overlay.Stat
	// file holds what is there inside, -1: nothing. Its inode is what the kernel knows
	// it by, whatever becomes of the name.
	file int
	// was is what is mirrored already.
	was overlay.Mirrors
	// watch is how the directory is watched.
	watch watch
}

// open looks at what is there inside.
func (e *edit) open() error {
	fd, err := overlay.OpenBeneath(e.dir, e.name, unix.O_PATH)
	if err == unix.ENOENT {
		e.inside = overlay.Stat{}
		return nil
	}
	if err != nil {
		return err
	}
	e.close()
	e.file = fd
	e.inside, err = overlay.StatFd(fd)
	return err
}

// close lets go of it: of what is deleted processes inside learn only when nobody has
// it any more.
func (e *edit) close() {
	if e.file >= 0 {
		unix.Close(e.file)
	}
	e.file = -1
}

// split takes the last name off a path.
func split(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// own says whether the layer has a version of its own, which is not touched.
func (m *mirror) own(e *edit) bool {
	up := m.upper(e.path)
	own := !e.was.Looks(up)
	if !up.Exists() {
		own = m.pair.Has(e.path)
		if len(e.was) > 0 {
			m.set(e) // a build has removed it, or it never came to be
		}
	} else if own && len(e.was) > 0 {
		m.set(e)
	}
	return own
}

// upper is what the layer has at a path.
func (m *mirror) upper(path string) overlay.Stat {
	parent, name := split(path)
	fd, err := overlay.OpenBeneath(m.pair.UpperFd(), parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return overlay.Stat{}
	}
	defer unix.Close(fd)
	st, _ := overlay.StatAt(fd, name)
	return st
}

// fresh says whether the mirror is the host's version as it is.
func (m *mirror) fresh(e *edit) bool {
	if len(e.was) != 1 {
		return false
	}
	if !e.host.Exists() {
		return e.was[0].Mode == 0
	}
	if seen, ok := m.seen[e.path]; ok {
		return seen == e.host.Fingerprint()
	}
	return e.was[0].Looks(e.host)
}

// fits says whether what is there, on the host and inside, can be mirrored: overlayfs
// copies up what is taken out of the way.
func (m *mirror) fits(e *edit) bool {
	fits := func(st overlay.Stat) bool {
		return !st.Exists() || st.IsSymlink() || st.IsRegular() && st.Size <= maxMirror && st.Perm()&0o7000 == 0
	}
	return fits(e.host) && fits(e.inside) && (!e.host.IsRegular() || m.readable(e))
}

// readable says whether the host's file can be read.
func (m *mirror) readable(e *edit) bool {
	dir, err := m.host.at(m.pair.LowerFd(), e.parent)
	return err == nil && unix.Faccessat(dir, e.name, unix.R_OK, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW) == nil
}

// attributes says whether of a mirrored file no more than the mode has changed.
func (m *mirror) attributes(e *edit) bool {
	seen, ok := m.seen[e.path]
	return ok && len(e.was) == 1 && e.inside.IsRegular() && e.host.IsRegular() && seen.Ino == e.host.Ino &&
		seen.Size == e.host.Size && seen.Mtime == e.host.Mtime && e.host.Perm()&0o7000 == 0
}
