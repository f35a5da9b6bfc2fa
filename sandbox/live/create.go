package live

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// anew takes the host's file out of the way, and gives its name to the copy, which is
// IN_CREATE. For a moment there is no such name.
func (m *mirror) anew(e *edit, t *tempDir, tmp string, want overlay.Mirror, was overlay.Mirrors) bool {
	out, _ := m.name()
	err := m.set(e, want, overlay.Mirror{})
	if err == nil {
		err = m.announce(e, t, out, overlay.Mirrors{want})
	}
	if err == nil {
		err = m.rename(e.dir, e.name, t.fd, out, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		m.unnote(t, out)
		m.failed(e, was)
		return false
	}
	err = m.link(t.fd, tmp, e.dir, e.name)
	unix.Unlinkat(t.fd, tmp, 0)
	if err != nil || !m.expected(e, t.fd, out, was) {
		m.putBack(e, t.fd, out, want)
		m.unnote(t, out)
		return false
	}
	m.rewrite(e, want)
	return m.park(e, t, out, want) == nil
}

// create gives a file a name that is free: with the events of one that is made in its
// place, if it was on the host.
func (m *mirror) create(e *edit, dir int, tmp string, want overlay.Mirror) error {
	if !e.created() {
		return m.rename(dir, tmp, e.dir, e.name, unix.RENAME_NOREPLACE)
	}
	if err := m.link(dir, tmp, e.dir, e.name); err != nil {
		return err
	}
	unix.Unlinkat(dir, tmp, 0)
	m.rewrite(e, want)
	return nil
}

// created says whether the host's file was made in its place.
func (e *edit) created() bool {
	return e.mask&unix.IN_CREATE != 0 && e.mask&unix.IN_MOVED_TO == 0 && e.host.IsRegular()
}

// rewrite makes of a new mirror the events of a file that is written to in place.
func (m *mirror) rewrite(e *edit, want overlay.Mirror) {
	fd, err := overlay.OpenBeneath(e.dir, e.name, unix.O_WRONLY)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if st, err := overlay.StatFd(fd); err != nil || !want.Looks(st) || overlay.Touch(fd, want.Mtime) != nil {
		return
	}
	up, err := overlay.OpenBeneath(m.pair.UpperFd(), e.parent, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(up)
	if is, err := want.Is(up, e.name); err == nil && !is {
		// What a build has written in between must not have the mirror's time.
		overlay.Touch(fd, time.Now().UnixNano())
	}
}
