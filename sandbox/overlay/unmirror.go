package overlay

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// removeMirrors takes the mirrors out of an upper that is at rest, whatever the host
// has by now: what a build has changed is the layer's own from here on.
func (o *Opened) removeMirrors(n Notes) error {
	list := n.Journal.Mirrors(n.Pair)
	temps := n.Journal.Temps(n.Pair)
	if len(list)+len(temps) == 0 {
		return nil
	}
	for _, path := range list {
		if err := o.openCopied(n, path); err != nil {
			return &Error{Do: "settle", Path: o.Shown(path), Err: err}
		}
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
	for _, path := range list {
		if name, ok := n.Parked(path); ok {
			o.unpark(n, path, name)
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

// unpark gives what was parked, and a build has written to then, its name back, if a mirror
// has that, or nothing. What else is there is the build's, and later: both stay.
func (o *Opened) unpark(n Notes, temp, path string) {
	from, name := split(temp)
	old, err := OpenBeneath(o.upper, from, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(old)
	if _, is, err := n.Mirrors(temp).Is(old, name); is || err != nil {
		return // it is removed with the others
	}
	if st, err := StatAt(old, name); err != nil || !st.IsRegular() {
		return
	}
	to, as := split(path)
	dir, err := OpenBeneath(o.upper, to, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	st, err := StatAt(dir, as)
	if err == nil && st.Exists() {
		_, is, err := n.Mirrors(path).Is(dir, as)
		if err == nil && is {
			unix.Renameat(old, name, dir, as)
		}
		return
	}
	if err == nil {
		unix.Renameat2(old, name, dir, as, unix.RENAME_NOREPLACE)
	}
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
	if left, ok := n.Left(path); ok {
		m = left
		is, err = m.Is(dir, name)
	}
	if err != nil || !is || o.opaqueAbove(path) {
		return err
	}
	if m.IsDir() && m.Mode&0o7777 == Phantom {
		if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != unix.ENOENT && err != unix.ENOTEMPTY {
			return err
		}
		return nil
	}
	if m.IsDir() {
		return o.removeCopied(m, dir, name, path)
	}
	if m.Mode&unix.S_IFMT == unix.S_IFREG {
		st, err := StatAt(dir, name)
		if err != nil || st.Nlink > 1 || !o.sameXattrs(dir, name, path) {
			return err
		}
	}
	if err := unix.Unlinkat(dir, name, 0); err != unix.ENOENT {
		return err
	}
	return nil
}

// removeCopied removes a directory that was copied up for mirrors, if nothing is in it.
// Else it gets the host's mode.
func (o *Opened) removeCopied(m Mirror, dir int, name, path string) error {
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if opaque, err := isOpaque(fd); opaque || err != nil {
		return err
	}
	if attrs, err := listXattrs(fd); err == nil && len(attrs) == 0 && m.Size != 0 {
		if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != unix.ENOTEMPTY {
			return err
		}
	}
	low, err := OpenBeneath(o.lower, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer unix.Close(low)
	st, err := StatFd(low)
	if err == nil && st.Perm() != m.Mode&0o7777 {
		err = unix.Fchmod(fd, st.Perm()&0o7777)
	}
	return err
}

// openCopied opens a directory to its owner that was copied up for mirrors, and closed as
// the host's was: what is in it is to be removed, and the host's may be open by now.
func (o *Opened) openCopied(n Notes, path string) error {
	parent, name := split(path)
	for _, m := range n.Mirrors(path) {
		if !m.IsDir() || m.Mode&0o700 == 0o700 || m.Mode&0o7777 == Phantom {
			continue
		}
		dir, err := OpenBeneath(o.upper, parent, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil // it has gone
		}
		defer unix.Close(dir)
		if st, err := StatAt(dir, name); err != nil || !m.Looks(st) {
			continue
		}
		opened := m
		opened.Mode |= 0o700
		if err := n.SetMirrors(path, m, opened); err != nil {
			return err
		}
		// No symlink: it is a directory, and nothing runs.
		if err := unix.Fchmodat(dir, name, opened.Mode&0o7777, 0); err != nil {
			return err
		}
		fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if opaque, err := isOpaque(fd); opaque && err == nil {
			unix.Fchmod(fd, m.Mode&0o7777) // a build has made it, with the inode of the other
		}
		return nil
	}
	return nil
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
		err := unix.Unlinkat(fd, n.name, 0)
		if err == unix.EISDIR {
			err = unix.Unlinkat(fd, n.name, unix.AT_REMOVEDIR)
		}
		if err != nil && err != unix.ENOENT && err != unix.ENOTEMPTY {
			done = false
		}
	}
	return done
}

// opaqueAbove says whether a directory above a path hides the host's, or cannot be
// read.
func (o *Opened) opaqueAbove(path string) bool {
	for parent, _ := split(path); parent != ""; parent, _ = split(parent) {
		if is, err := o.Opaque(parent); is || err != nil && err != unix.ENOENT {
			return true
		}
	}
	return false
}
