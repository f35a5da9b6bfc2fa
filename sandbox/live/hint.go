package live

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// blink has a name that the host has no more, and that nobody has looked up, appear
// and go again: there is no other way to an event of it. Nobody can open it.
func (m *mirror) blink(e *edit) bool {
	t, ok := m.tempFor(e)
	if !ok {
		return false
	}
	_, tmp := m.name()
	fd, err := unix.Openat(t.fd, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	st, err := overlay.StatFd(fd)
	unix.Close(fd)
	want := overlay.Mirror{Mode: st.Mode, Mtime: st.Mtime}
	if err == nil {
		err = m.copyUp(e.parent)
	}
	if err == nil {
		err = m.set(e, want)
	}
	if err != nil || unix.Renameat2(t.fd, tmp, e.dir, e.name, unix.RENAME_NOREPLACE) != nil {
		unix.Unlinkat(t.fd, tmp, 0)
		m.set(e)
		return false
	}
	swp, _ := m.name()
	if unix.Renameat2(e.dir, e.name, t.fd, swp, unix.RENAME_NOREPLACE) == nil {
		if st, err := overlay.StatAt(t.fd, swp); err != nil || !want.Looks(st) {
			m.putBack(e, t.fd, swp, overlay.Mirror{}) // a build has put something there
			return false
		}
		unix.Unlinkat(t.fd, swp, 0)
	}
	m.set(e)
	return true
}

// attribute makes an event of a directory (IN_ATTRIB), and gives it the host's mode, if
// the layer has it for mirrors alone: what watches it looks into it then. There is no
// other way to tell of a directory that has come or gone.
func (m *mirror) attribute(path string) {
	fd, err := overlay.OpenBeneath(m.merged, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	st, err := overlay.StatFd(fd)
	if err != nil || m.copyUp(path) != nil {
		return
	}
	mode := st.Perm()
	host, known := m.host.stat(m.pair.LowerFd(), path)
	if was, ok := m.ours(path); ok && known && host.IsDir() && host.Perm() != mode {
		mode = host.Perm()
		if m.notes.SetMirrors(path, was, overlay.Mirror{Mode: unix.S_IFDIR | mode, Size: was.Size}) != nil {
			return
		}
	}
	if unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode) == nil {
		m.count++
	}
	m.copiedUp(path)
}

// leave takes away a directory that the host has no more, and that is in the layer
// because of mirrors alone.
func (m *mirror) leave(path string) {
	parent, name := split(path)
	dir, err := m.inside.at(m.merged, parent)
	if err != nil {
		return
	}
	host, known := m.host.stat(m.pair.LowerFd(), path)
	if was, ok := m.ours(path); !known || host.Exists() || !ok || was.Size == 0 {
		return
	}
	if unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) == nil {
		m.notes.SetMirrors(path)
		m.count++
	}
}

// ours says whether a directory is in the layer because mirrors are, and what was noted
// of it. One that a build has made in its place may have its inode, and is opaque.
func (m *mirror) ours(path string) (was overlay.Mirror, ok bool) {
	up := m.upper(path)
	for _, was := range m.notes.Mirrors(path) {
		if was.IsDir() && was.Looks(up) {
			opaque, err := m.pair.Opaque(path)
			return was, err == nil && !opaque
		}
	}
	return was, false
}
