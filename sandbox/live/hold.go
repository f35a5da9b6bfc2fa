package live

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// A refresh gives a file that was copied up another inode inside, and watches of the
// old one would never fire again. Not so while somebody holds it: these are
// descriptors, opened with O_PATH, which make no event.
type holds struct{ fds map[uint64]int }

const (
	// maxHolds bounds the descriptors, maxHolding the time in which files that are to
	// be held are looked for.
	maxHolds   = 4096
	maxHolding = 50 * time.Millisecond
)

// limit is how many descriptors are held at most.
func (h *holds) limit() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(l.Cur/4, maxHolds))
}

// release lets go of what is not wanted any more.
func (h *holds) release(wanted map[uint64]bool) {
	for ino, fd := range h.fds {
		if !wanted[ino] {
			unix.Close(fd)
			delete(h.fds, ino)
		}
	}
}

func (h *holds) add(dir int, name string, ino uint64) {
	if _, ok := h.fds[ino]; ok || len(h.fds) >= h.limit() {
		return
	}
	fd, err := overlay.OpenBeneath(dir, name, unix.O_PATH)
	if err != nil {
		return
	}
	if st, err := overlay.StatFd(fd); err != nil || st.Ino != ino {
		unix.Close(fd)
		return
	}
	h.fds[ino] = fd
}

// keep holds a file that was copied up just now.
func (m *mirror) keep(e *edit) {
	if m.watched[e.inside.Ino] {
		m.holds.add(e.dir, e.name, e.inside.Ino)
	}
}

// hold holds the watched files that the layer has a copy of.
func (m *mirror) hold() {
	m.holds.release(m.watched)
	if len(m.watched) > len(m.holds.fds) {
		m.search("", time.Now().Add(maxHolding))
	}
}

// search looks in a directory of the layer for files that are watched inside.
func (m *mirror) search(path string, until time.Time) {
	if time.Now().After(until) {
		return
	}
	up, err := overlay.OpenBeneath(m.pair.UpperFd(), path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(up)
	var dirs, files []string
	overlay.Entries(up, func(name string, typ byte) {
		switch {
		case typ == unix.DT_DIR && !bulky[name]:
			dirs = append(dirs, name)
		case typ == unix.DT_REG || typ == unix.DT_UNKNOWN:
			files = append(files, name)
		}
	})
	if len(files) > 0 {
		if dir, err := m.inside.at(m.merged, path); err == nil {
			for _, name := range files {
				if st, err := overlay.StatAt(dir, name); err == nil && st.IsRegular() && m.watched[st.Ino] {
					m.holds.add(dir, name, st.Ino)
				}
			}
		}
	}
	for _, name := range dirs {
		m.search(join(path, name), until)
	}
}
