package live

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// The acts. Each is by a descriptor of the directory and one name, follows no
// symlink, and is noted before it is done. Processes inside may do anything to the
// names meanwhile: what is taken out of the way is looked at before it is unlinked.

// write opens and closes a file that the host has written to in place: overlayfs
// copies it up as it is, and the time that is set is the event. Until then nobody inside
// has been told.
func (m *mirror) write(e *edit) bool {
	want, ok := m.want(e)
	if !ok || m.copyUp(e.parent) != nil || m.set(e, want) != nil {
		return false
	}
	fd, err := overlay.OpenBeneath(e.dir, e.name, unix.O_RDWR)
	if err != nil {
		m.set(e)
		return false
	}
	defer unix.Close(fd)
	low, err := m.host.at(m.pair.LowerFd(), e.parent)
	if err != nil {
		low = -1 // it has just gone
	}
	if want, ok = overlay.CopiedUp(fd, want, low, e.name); !ok || m.set(e, want) != nil {
		m.set(e) // a build has written: it is the layer's own
		return false
	}
	m.keep(e)
	return overlay.Touch(fd, want.Mtime) == nil
}

// chmod changes the mode to what the host's is, also if it is that already.
func (m *mirror) chmod(e *edit) bool {
	if e.host.IsSymlink() {
		return false
	}
	want, ok := m.want(e)
	if !ok || m.copyUp(e.parent) != nil || m.set(e, append(overlay.Mirrors{want}, e.was...)...) != nil {
		return false
	}
	fd, err := overlay.OpenBeneath(e.dir, e.name, unix.O_PATH)
	if err != nil {
		return m.verify(e, want)
	}
	defer unix.Close(fd)
	st, err := overlay.StatFd(fd)
	if err == nil && st.IsRegular() {
		err = unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), want.Mode&0o777)
	}
	return m.verify(e, want) && err == nil
}

// want is what the host has.
func (m *mirror) want(e *edit) (want overlay.Mirror, ok bool) {
	low, err := m.host.at(m.pair.LowerFd(), e.parent)
	if err != nil {
		return want, false
	}
	want, err = overlay.MirrorOf(low, e.name)
	// What is changed meanwhile makes another event.
	return want, err == nil && want.Looks(e.host)
}

// verify sees what came of a copy-up.
func (m *mirror) verify(e *edit, want overlay.Mirror) bool {
	up, err := overlay.OpenBeneath(m.pair.UpperFd(), e.parent, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		m.set(e)
		return false
	}
	defer unix.Close(up)
	if is, err := want.Is(up, e.name); err == nil && is {
		m.keep(e)
		return m.set(e, want) == nil
	}
	m.set(e) // a build has written, or it was not copied
	return false
}

// replace puts a copy of the host's file in the place of the one that is there.
func (m *mirror) replace(e *edit) bool {
	t, ok := m.tempFor(e)
	if !ok {
		return false
	}
	tmp, half := m.name()
	want, err := m.prepare(e, t, half)
	was, out := e.was, slices.Concat(e.was, e.old())
	if err == nil {
		err = m.copyUp(e.parent)
	}
	if err == nil {
		err = m.set(e, slices.Concat(overlay.Mirrors{want}, out)...)
	}
	if err == nil {
		err = m.announce(e, t, tmp, append(out, want))
	}
	if err == nil {
		// Not before: under this name it is deleted only by the note.
		err = m.rename(t.fd, half, t.fd, tmp, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		unix.Unlinkat(t.fd, half, 0)
		m.discard(t, tmp)
		m.failed(e, was)
		return false
	}
	if !e.inside.Exists() {
		switch err := m.create(e, t.fd, tmp, want); {
		case err == nil:
			m.discard(t, tmp)
			return m.set(e, want) == nil
		case err == unix.EEXIST && e.open() == nil && e.inside.Exists() && !m.upper(e.path).Exists() && m.fits(e):
			// It is the host's, which nobody had looked for.
		default:
			m.discard(t, tmp)
			m.failed(e, was)
			return false
		}
	}
	if !m.unchanged(e, e.dir, e.name) {
		// Found out below, too; but so a build's file is not out of its place for a moment.
		m.discard(t, tmp)
		m.failed(e, was)
		return false
	}
	if e.watch&watchesCreate != 0 && e.created() && len(was) == 0 && same(e.host, e.inside) {
		done := m.anew(e, t, tmp, want, was)
		m.discard(t, tmp)
		return done
	}
	// In this order of the arguments the last event of the name is IN_MOVED_TO.
	if err := m.rename(e.dir, e.name, t.fd, tmp, unix.RENAME_EXCHANGE); err != nil {
		m.discard(t, tmp)
		m.failed(e, was)
		return false
	}
	if !m.expected(e, t.fd, tmp, was) {
		m.putBack(e, t.fd, tmp, want)
		m.unnote(t, tmp)
		return false
	}
	if st, err := overlay.StatAt(e.dir, e.name); err == nil {
		m.holds.others[st.Ino] = true // it keeps its inode
	}
	if m.park(e, t, tmp, want) != nil {
		return false
	}
	if e.mask&written != 0 || e.created() {
		m.rewrite(e, want)
	}
	return true
}

// prepare makes a copy of the host's file in a temporary.
func (m *mirror) prepare(e *edit, t *tempDir, half string) (want overlay.Mirror, err error) {
	low, err := m.host.at(m.pair.LowerFd(), e.parent)
	if err != nil {
		return want, err
	}
	err = m.as(func() error { return overlay.CopyAt(low, e.name, t.fd, half, e.host) })
	if err == nil {
		want, err = overlay.MirrorOf(t.fd, half)
	}
	if err == nil {
		m.host.close()
		if now, known := m.host.stat(m.pair.LowerFd(), e.path); !known || now != e.host {
			err = unix.EAGAIN // another event comes
		}
	}
	return want, err
}

// putBack gives a file that a build has written to its name again, from a temporary. If
// the build has something else there by now, that was later. The layer has a version of
// its own then.
func (m *mirror) putBack(e *edit, dir int, tmp string, want overlay.Mirror) {
	defer m.set(e)
	for range 100 {
		if m.rename(dir, tmp, e.dir, e.name, unix.RENAME_NOREPLACE) == nil {
			return
		}
		// Our own copy has the name, or what a build has put there.
		if st, err := overlay.StatAt(e.dir, e.name); err == nil && !st.Exists() {
			continue
		}
		if is, err := want.Is(e.dir, e.name); err == nil && !is {
			unix.Unlinkat(dir, tmp, 0)
			return
		}
		if m.rename(e.dir, e.name, dir, tmp, unix.RENAME_EXCHANGE) != nil {
			continue // it has gone meanwhile
		}
		if is, err := want.Is(dir, tmp); err == nil && is {
			unix.Unlinkat(dir, tmp, 0)
			return
		}
		// A build was quicker: what it has put there goes back, and what was first is
		// older.
		m.rename(e.dir, e.name, dir, tmp, unix.RENAME_EXCHANGE)
		unix.Unlinkat(dir, tmp, 0)
		return
	}
}

// old is what a rename copies up first, and what is left if it gets no further: the
// old version of the host's, which only processes inside have any more, and which is
// not read because that would make events.
func (e *edit) old() overlay.Mirrors {
	if len(e.was) > 0 || !e.inside.IsRegular() && !e.inside.IsSymlink() {
		return nil
	}
	return overlay.Mirrors{{Mode: e.inside.Mode, Size: e.inside.Size, Mtime: e.inside.Mtime}}
}

// failed notes what there is when an act could not be done.
func (m *mirror) failed(e *edit, was overlay.Mirrors) {
	if up := m.upper(e.path); len(was) == 0 && up.Exists() && e.was.Looks(up) {
		return // it was copied up, and there are notes of that
	}
	m.set(e, was...)
}

// expected says whether what was taken out of the way is what was there: the host's
// old version, or the last mirror, and nobody is about to write to it. For want of
// descriptors or memory that is not known, and found out later (park).
func (m *mirror) expected(e *edit, dir int, tmp string, was overlay.Mirrors) bool {
	if !m.unchanged(e, dir, tmp) {
		return false
	}
	if is, err := unwritten(dir, tmp, e.inside); scarce(err) {
		return true
	} else if !is {
		return false
	}
	if len(was) == 0 {
		return true
	}
	_, is, err := was.Is(dir, tmp)
	return err == nil && is || scarce(err)
}

// unchanged says whether a name looks as what was there did.
func (m *mirror) unchanged(e *edit, dir int, name string) bool {
	st, err := overlay.StatAt(dir, name)
	if err != nil || st.Mode != e.inside.Mode || st.Size != e.inside.Size || st.Mtime != e.inside.Mtime {
		return false
	}
	// A copy-up may change the number of an inode.
	now, err := overlay.StatFd(e.file)
	return err == nil && now.Ino == st.Ino && now.Dev == st.Dev
}

// forget lets go of a file that is about to be deleted.
func (m *mirror) forget(e *edit) {
	m.holds.drop(e.path)
	e.close()
}

// giveUp takes a mirror away of what the host has made something of that is not mirrored:
// the host's shows again.
func (m *mirror) giveUp(e *edit) {
	if m.remove(e) {
		m.unveil(e)
	}
}

// remove takes away what the host has no more.
func (m *mirror) remove(e *edit) bool {
	t, ok := m.tempFor(e)
	if !ok {
		return false
	}
	tmp, _ := m.name()
	was := e.was
	if m.copyUp(e.parent) != nil || m.set(e, slices.Concat(overlay.Mirrors{{}}, was, e.old())...) != nil {
		return false
	}
	if err := m.rename(e.dir, e.name, t.fd, tmp, unix.RENAME_NOREPLACE); err != nil {
		m.failed(e, was)
		return false
	}
	if !m.expected(e, t.fd, tmp, was) {
		m.putBack(e, t.fd, tmp, overlay.Mirror{})
		return false
	}
	m.forget(e)
	unix.Unlinkat(t.fd, tmp, 0)
	gone := overlay.Mirrors{}
	if m.upper(e.path).IsWhiteout() {
		gone = overlay.Mirrors{{}}
	}
	if m.set(e, gone...) != nil {
		return false
	}
	if e.mask&withdrawn == 0 {
		m.phantom(e)
	}
	return true
}
