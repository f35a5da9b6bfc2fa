package live

import (
	"maps"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// A refresh drops the names of watched files: one that was copied up gets another
// inode inside, and watches of the old one never fire again; of one that the host
// replaces afterwards nobody could find the old inode. Not so while somebody holds it:
// these are descriptors, opened with O_PATH, which makes no event. They are no longer kept
// than there is a name: who watches a file that is deleted learns of it only when nobody
// has it any more, and the names of the directories above stay as they are until then.
type holds struct {
	files map[uint64]held // by inode
	// tree tells of what happens to them.
	tree *tree
	// others are watched inodes that need no holding, or were not found.
	others map[uint64]bool
	// next is where the search for inodes is, in the tree's nodes, and wanted are
	// those that were unknown when it began.
	next   int
	wanted map[uint64]bool
}

type held struct {
	fd    int
	path  string
	watch int32
}

const (
	// maxHolds bounds the descriptors, maxHolding the time in which files that are to
	// be held are looked for, in each batch.
	maxHolds   = 4096
	maxHolding = 50 * time.Millisecond
)

func newHolds(t *tree) holds {
	return holds{files: map[uint64]held{}, tree: t, others: map[uint64]bool{}, next: top}
}

// limit is how many descriptors are held at most.
func (h *holds) limit() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(l.Cur/4, maxHolds, uint64(h.tree.budget/4)))
}

// release lets go of what is not watched any more.
func (h *holds) release(watched watches) {
	for ino := range h.files {
		if !watched.has(ino) {
			h.drop(ino)
		}
	}
	if len(h.others) > 2*len(watched)+1000 {
		clear(h.others)
	}
}

// drop lets go of one file: of one that is deleted, too, processes inside learn only
// when nobody has it any more.
func (h *holds) drop(ino uint64) {
	if f, ok := h.files[ino]; ok {
		h.tree.ignore(f.watch)
		unix.Close(f.fd)
		delete(h.files, ino)
	}
}

func (h *holds) dropPath(path string) {
	for ino, f := range h.files {
		if f.path == path {
			h.drop(ino)
		}
	}
}

// dropBelow lets go of what was below a directory that has left its place: it would keep
// the directory's name, too.
func (h *holds) dropBelow(dir string) {
	for ino, f := range h.files {
		if strings.HasPrefix(f.path, dir+"/") {
			h.drop(ino)
		}
	}
}

// attend has the file let go of as soon as a build deletes it.
func (h *holds) attend(ino uint64, f held) {
	watch, err := h.tree.attend(f.fd, func() {
		if st, err := overlay.StatFd(f.fd); err == nil && st.Nlink > 0 {
			h.attend(ino, f)
		} else {
			h.drop(ino)
		}
	})
	f.watch = watch
	if h.files[ino] = f; err != nil {
		h.drop(ino)
	}
}

func (h *holds) add(dir int, name, path string, ino uint64) {
	if _, ok := h.files[ino]; ok || len(h.files) >= h.limit() {
		return
	}
	fd, err := overlay.OpenBeneath(dir, name, unix.O_PATH)
	if err != nil {
		return
	}
	if st, err := overlay.StatFd(fd); err != nil || st.Ino != ino || st.IsDir() {
		unix.Close(fd)
		return
	}
	h.attend(ino, held{fd: fd, path: path})
}

// keep holds a file that was copied up just now.
func (m *mirror) keep(e *edit) {
	if m.watched.has(e.inside.Ino) {
		m.holds.add(e.dir, e.name, e.path, e.inside.Ino)
	}
}

// hold holds the files that are watched.
func (m *mirror) hold() {
	h := &m.holds
	h.release(m.watched)
	unknown := map[uint64]bool{}
	for ino := range m.watched {
		if _, ok := h.files[ino]; !ok && !h.others[ino] {
			unknown[ino] = true
		}
	}
	if len(unknown) == 0 {
		return
	}
	until := time.Now().Add(maxHolding)
	if h.next == top {
		h.wanted = maps.Clone(unknown)
	}
	m.searchHost(unknown, until)
	m.searchLayer("", unknown, until)
}

// searchHost looks for inodes in the host's directories, where that makes no event
// inside: a file of the host's has the same inode in the overlay, if both are on one
// file system.
func (m *mirror) searchHost(unknown map[uint64]bool, until time.Time) {
	h := &m.holds
	for ; h.next < len(m.tree.nodes); h.next++ {
		if time.Now().After(until) {
			return
		}
		n := m.tree.nodes[h.next]
		path, ok := m.tree.path(int32(h.next))
		if n.watch == 0 || n.bulky || !ok {
			continue
		}
		fd, err := overlay.OpenBeneath(m.pair.LowerFd(), path, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		overlay.Inodes(fd, m.tree.buf, func(name string, typ byte, ino uint64) {
			switch {
			case !unknown[ino]:
			case typ == unix.DT_DIR:
				h.others[ino] = true
			default:
				if dir, err := m.inside.at(m.merged, path); err == nil {
					h.add(dir, name, join(path, name), ino)
				}
			}
		})
		unix.Close(fd)
	}
	if !m.tree.settled() {
		return
	}
	for ino := range h.wanted {
		h.others[ino] = true
	}
	h.next = top
}

// searchLayer looks in a directory of the layer for files that are watched inside.
func (m *mirror) searchLayer(path string, unknown map[uint64]bool, until time.Time) {
	if time.Now().After(until) {
		return
	}
	up, err := overlay.OpenBeneath(m.pair.UpperFd(), path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(up)
	var dirs, files []string
	overlay.Entries(up, make([]byte, 16<<10), func(name string, typ byte) {
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
				if st, err := overlay.StatAt(dir, name); err == nil && unknown[st.Ino] {
					m.holds.add(dir, name, join(path, name), st.Ino)
				}
			}
		}
	}
	for _, name := range dirs {
		m.searchLayer(join(path, name), unknown, until)
	}
}
