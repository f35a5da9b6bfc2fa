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
	fd := -1
	err := m.as(func() (err error) {
		fd, err = unix.Openat(t.fd, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
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
	if err != nil || m.rename(t.fd, tmp, e.dir, e.name, unix.RENAME_NOREPLACE) != nil {
		unix.Unlinkat(t.fd, tmp, 0)
		m.set(e)
		return false
	}
	swp, _ := m.name()
	if m.rename(e.dir, e.name, t.fd, swp, unix.RENAME_NOREPLACE) == nil {
		if st, err := overlay.StatAt(t.fd, swp); err != nil || !want.Looks(st) {
			m.putBack(e, t.fd, swp, overlay.Mirror{}) // a build has put something there
			return false
		}
		unix.Unlinkat(t.fd, swp, 0)
	}
	m.unveil(e)
	return true
}

// phantom has a directory appear under a name that the host has no more, and go again,
// which is IN_DELETE: a rmdir(2) can take away nothing that a build has put there
// meanwhile, and an unlink(2) could.
func (m *mirror) phantom(e *edit) bool {
	if e.watch&watchesDelete == 0 {
		return false
	}
	t, ok := m.tempFor(e)
	if !ok {
		return false
	}
	_, tmp := m.name()
	if m.mkdir(t.fd, tmp) != nil {
		return false
	}
	up := m.upper(join(t.path, tmp))
	was := e.was
	err := m.copyUp(e.parent)
	if err == nil {
		err = m.set(e, append(overlay.Mirrors{{Mode: up.Mode, Size: int64(up.Ino)}}, was...)...)
	}
	if err == nil {
		err = m.rename(t.fd, tmp, e.dir, e.name, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		unix.Unlinkat(t.fd, tmp, unix.AT_REMOVEDIR)
		m.set(e, was...)
		return false
	}
	if unix.Unlinkat(e.dir, e.name, unix.AT_REMOVEDIR) == unix.ENOTEMPTY {
		// A build has put something into it: it is the build's.
		if fd, err := overlay.OpenBeneath(e.dir, e.name, unix.O_PATH|unix.O_DIRECTORY); err == nil {
			unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), 0o755)
			unix.Close(fd)
		}
	}
	m.unveil(e)
	return true
}

// unveil sees to what is left of a name that has come and gone. If the host has made one
// at that very moment, the overlay has put a whiteout there, which would hide it, and
// which nothing inside can take away: that is done in the upper. A whiteout has no inode
// inside that could be pinned, and the name is dropped by the next refresh.
func (m *mirror) unveil(e *edit) {
	if !m.upper(e.path).IsWhiteout() {
		m.set(e)
		return
	}
	m.set(e, overlay.Mirror{})
	m.host.close()
	if host, known := m.host.stat(m.pair.LowerFd(), e.path); !known || !host.Exists() || m.marks(e.parent) != nil {
		return
	}
	up, err := overlay.OpenBeneath(m.pair.UpperFd(), e.parent, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(up)
	_, tmp := m.name()
	if unix.Renameat2(up, e.name, up, tmp, unix.RENAME_NOREPLACE) != nil {
		return
	}
	if st, err := overlay.StatAt(up, tmp); err == nil && !st.IsWhiteout() {
		unix.Renameat2(up, tmp, up, e.name, unix.RENAME_NOREPLACE) // a build was there
		return
	}
	unix.Unlinkat(up, tmp, 0)
	m.set(e)
	m.later[e.path] = unix.IN_CREATE
}

// nudge makes events of a directory in which there is a new one, by a name that comes and
// goes: many programs read it then, and find what is new.
func (m *mirror) nudge(path string) {
	fd, err := overlay.OpenBeneath(m.merged, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if m.copyUp(path) != nil || m.marks(path) != nil {
		return
	}
	_, tmp := m.name()
	if m.mkdir(fd, tmp) == nil {
		unix.Unlinkat(fd, tmp, unix.AT_REMOVEDIR)
	}
	m.copiedUp(path)
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
// because of mirrors alone. Of one that is not in the layer it makes the event. It says
// whether there was one.
func (m *mirror) leave(path string) (done bool) {
	parent, name := split(path)
	dir, err := m.inside.at(m.merged, parent)
	if err != nil {
		return true
	}
	host, known := m.host.stat(m.pair.LowerFd(), path)
	if !known || host.IsDir() {
		return false
	}
	e := &edit{path: path, parent: parent, name: name, dir: dir, file: -1}
	if up := m.upper(path); !up.Exists() {
		st, err := overlay.StatFd(dir)
		e.watch = m.watched[st.Ino]
		return err == nil && !host.Exists() && m.phantom(e)
	}
	if was, ok := m.ours(path); !ok || was.Size == 0 || unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) != nil {
		return false
	}
	m.unveil(e)
	m.count++
	return true
}

// withdraw takes away a directory that has left its place on the host, with all that is
// in it, if it is in the layer because of mirrors alone. That comes before the refresh:
// the kernel knows a directory that was copied up by the host's inode, and while a watch
// inside keeps it, what the host has under another name by then cannot be looked up
// (ESTALE). A watch ends when what it is of is deleted.
func (m *mirror) withdraw(e *edit, limit int) (done bool) {
	if m.mirrored(e.path, &limit) {
		limit = maxWithdrawn
		m.take(e.path, &limit)
	}
	if dir, err := m.inside.at(m.merged, e.parent); err == nil {
		e.dir = dir
		if st, err := overlay.StatAt(dir, e.name); err == nil && !st.Exists() {
			m.unveil(e)
			m.count++
			return true
		}
	}
	return false
}

// mirrored says whether all that the layer has of a directory is there because of mirrors.
func (m *mirror) mirrored(path string, limit *int) bool {
	if was, ok := m.ours(path); !ok || was.Size == 0 {
		return false
	}
	fd, err := overlay.OpenBeneath(m.pair.UpperFd(), path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	all := true
	overlay.Entries(fd, make([]byte, 16<<10), func(name string, typ byte) {
		if *limit--; *limit < 0 || !all {
			all = false
			return
		}
		below := join(path, name)
		if typ == unix.DT_DIR {
			all = m.mirrored(below, limit)
		} else if st, err := overlay.StatAt(fd, name); err != nil || !m.notes.Mirrors(below).Looks(st) {
			all = false
		}
	})
	return all
}

// take removes a directory inside, and what is in it.
func (m *mirror) take(path string, limit *int) {
	fd, err := overlay.OpenBeneath(m.merged, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	var dirs, files []string
	overlay.Entries(fd, make([]byte, 16<<10), func(name string, typ byte) {
		if typ == unix.DT_DIR {
			dirs = append(dirs, name)
		} else {
			files = append(files, name)
		}
	})
	unix.Close(fd)
	if *limit -= len(dirs) + len(files); *limit < 0 {
		return
	}
	for _, name := range dirs {
		m.take(join(path, name), limit)
	}
	for _, name := range files {
		m.path(join(path, name), unix.IN_DELETE|withdrawn)
	}
	parent, name := split(path)
	if dir, err := m.inside.at(m.merged, parent); err == nil && unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) == nil {
		gone := overlay.Mirrors{}
		if m.upper(path).IsWhiteout() {
			gone = overlay.Mirrors{{}}
		}
		m.notes.SetMirrors(path, gone...)
	}
}

// ours says whether a directory is in the layer because mirrors are, and what was noted
// of it. One that a build has made in its place may have its inode, and is opaque: of one
// that is closed to its owner that cannot be seen.
func (m *mirror) ours(path string) (was overlay.Mirror, ok bool) {
	up := m.upper(path)
	for _, was := range m.notes.Mirrors(path) {
		if was.IsDir() && was.Looks(up) {
			opaque, err := m.pair.Opaque(path)
			return was, err == nil && !opaque || err == unix.EACCES
		}
	}
	return was, false
}
