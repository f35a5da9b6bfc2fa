package live

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// blink has a name that the host has no more, and that nobody has looked up, appear
// and go again: there is no other way to an event of it.
func (m *mirror) blink(e *edit) bool {
	t, ok := m.tempFor(e)
	if !ok {
		return false
	}
	tmp := m.name()
	fd, err := unix.Openat(t.fd, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false
	}
	unix.Close(fd)
	want, err := overlay.MirrorOf(t.fd, tmp)
	if err == nil {
		err = m.set(e, want)
	}
	if err != nil || unix.Renameat2(t.fd, tmp, e.dir, e.name, unix.RENAME_NOREPLACE) != nil {
		unix.Unlinkat(t.fd, tmp, 0)
		m.set(e)
		return false
	}
	if unix.Renameat2(e.dir, e.name, t.fd, tmp, unix.RENAME_NOREPLACE) == nil {
		is, err := want.Is(t.fd, tmp)
		if (err != nil || !is) && unix.Renameat2(t.fd, tmp, e.dir, e.name, unix.RENAME_NOREPLACE) == nil {
			m.set(e)
			return false
		}
		unix.Unlinkat(t.fd, tmp, 0)
	}
	m.set(e)
	return true
}

// attribute makes an event of a directory (IN_ATTRIB), which changes nothing.
func (m *mirror) attribute(path string) {
	fd, err := overlay.OpenBeneath(m.merged, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	st, err := overlay.StatFd(fd)
	if err != nil || m.copyUp(join(path, "x")) != nil {
		return
	}
	if unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), st.Perm()) == nil {
		m.count++
	}
}

// leave takes away a directory that the host has no more: one that is in the layer
// because of mirrors, or of which there is no event otherwise.
func (m *mirror) leave(path string) {
	parent, name := split(path)
	dir, err := m.inside.at(m.merged, parent)
	if err != nil {
		return
	}
	st, err := overlay.StatAt(dir, name)
	if host, known := m.host.stat(m.pair.LowerFd(), path); err != nil || !known || host.Exists() {
		return
	}
	e := &edit{path: path, name: name, dir: dir, file: -1, was: m.notes.Mirrors(path)}
	if st.Exists() {
		if e.was.Looks(st) && st.IsDir() && unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) == nil {
			m.set(e)
			m.count++
		}
		return
	}
	t, ok := m.tempFor(e)
	if !ok {
		return
	}
	tmp := m.name()
	if unix.Mkdirat(t.fd, tmp, 0o700) != nil {
		return
	}
	if m.set(e, overlay.Mirror{Mode: unix.S_IFDIR}) == nil && unix.Renameat2(t.fd, tmp, dir, name, unix.RENAME_NOREPLACE) == nil {
		m.count++
		if unix.Renameat2(dir, name, t.fd, tmp, unix.RENAME_NOREPLACE) != nil {
			m.set(e)
			return
		}
	}
	if unix.Unlinkat(t.fd, tmp, unix.AT_REMOVEDIR) != nil {
		unix.Renameat2(t.fd, tmp, dir, name, unix.RENAME_NOREPLACE) // a build is quick
	}
	m.set(e)
}
