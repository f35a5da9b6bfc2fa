package live

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
	"github.com/sbx-build/sbx/sandbox/state"
)

// tempDir is where temporaries are made: a directory that nobody watches.
type tempDir struct {
	fd   int
	path string
	open bool
}

func (t *tempDir) close() {
	if t.open {
		unix.Close(t.fd)
	}
	t.open = false
}

// name is the next temporary's, and what it is called while it is written. Many tools
// pass over names with these ends.
func (m *mirror) name() (tmp, half string) {
	m.temps++
	tmp = m.mark + strconv.Itoa(m.temps)
	return tmp + ".swp", tmp + overlay.MirrorHalf
}

// maxTries bounds how many directories are looked at for one that nobody watches.
const maxTries = 64

// tempFor is a directory for the temporary of an edit.
func (m *mirror) tempFor(e *edit) (*tempDir, bool) {
	if !m.temp.open {
		m.findTemp()
	}
	t := &m.temp
	if !t.open {
		t = &tempDir{fd: e.dir, path: e.parent}
	}
	if m.copyUp(t.path) != nil {
		return nil, false
	}
	return t, m.marks(t.path) == nil
}

// marks has the journal know that there are temporaries in a directory.
func (m *mirror) marks(path string) error {
	if m.marked[path] {
		return nil
	}
	err := m.notes.Journal.Write(false, state.Note{Op: state.Temp, Pair: m.notes.Pair, Path: path, Value: m.mark})
	m.marked[path] = err == nil
	return err
}

func (m *mirror) findTemp() {
	try := func(path string) bool {
		if m.covered(path) {
			return false
		}
		fd, err := overlay.OpenBeneath(m.merged, path, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return false
		}
		st, err := overlay.StatFd(fd)
		if err != nil || m.watched.has(st.Ino) || st.Perm()&0o300 != 0o300 || m.foreign(path) {
			unix.Close(fd)
			return false
		}
		m.temp = tempDir{fd: fd, path: path, open: true}
		return true
	}
	if try(".git") {
		return
	}
	tries := 0
	for i := top; i < len(m.tree.nodes) && tries < maxTries; i++ {
		if path, ok := m.tree.path(int32(i)); ok && m.tree.nodes[i].watch != 0 {
			if tries++; try(path) {
				return
			}
		}
	}
}

// foreign says whether the host has no such directory: then a build has made it, and
// may remove it.
func (m *mirror) foreign(path string) bool {
	st, known := m.host.stat(m.pair.LowerFd(), path)
	return !known || !st.IsDir()
}
