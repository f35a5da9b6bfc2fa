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
	merged int
	// tree tells of what happens to them.
	tree  *tree
	files map[string]held // by path
	// inodes are how many of them there are of each: names of one file on the host are
	// files of their own inside, with one number.
	inodes map[uint64]int
	// others are watched inodes that need no holding, or were not found.
	others map[uint64]bool
	// resting are paths that are attended to again at a time.
	resting []string
	restAt  time.Time
	// next is where the search for inodes is, in the tree's nodes, and wanted are
	// those that were unknown when it began.
	next   int
	wanted map[uint64]bool
}

type held struct {
	fd    int
	ino   uint64
	watch int32
	since time.Time // of watch
}

const (
	// maxHolds bounds the descriptors, maxHolding the time in which files that are to
	// be held are looked for, in each batch.
	maxHolds   = 4096
	maxHolding = 50 * time.Millisecond
	// attendEvery is how often a file is attended to of which a build changes the
	// attributes all the time.
	attendEvery = 20 * time.Millisecond
)

func newHolds(t *tree, merged int) holds {
	return holds{merged: merged, tree: t, files: map[string]held{}, inodes: map[uint64]int{}, others: map[uint64]bool{}, next: top}
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
	for path, f := range h.files {
		if !watched.has(f.ino) {
			h.drop(path)
		}
	}
	// Numbers are used again.
	maps.DeleteFunc(h.others, func(ino uint64, _ bool) bool { return !watched.has(ino) })
}

// drop lets go of one file: of one that is deleted, too, processes inside learn only
// when nobody has it any more.
func (h *holds) drop(path string) {
	f, ok := h.files[path]
	if !ok {
		return
	}
	h.tree.ignore(f.watch)
	unix.Close(f.fd)
	delete(h.files, path)
	if h.inodes[f.ino]--; h.inodes[f.ino] == 0 {
		delete(h.inodes, f.ino)
	}
}

// dropBelow lets go of what was below a directory that has left its place: it would keep
// the directory's name, too.
func (h *holds) dropBelow(dir string) {
	for path := range h.files {
		if strings.HasPrefix(path, dir+"/") {
			h.drop(path)
		}
	}
}

func (h *holds) add(dir int, name, path string, ino uint64) {
	if _, ok := h.files[path]; ok || len(h.files) >= h.limit() {
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
	h.files[path] = held{fd: fd, ino: ino}
	h.inodes[ino]++
	h.attend(path)
}

// attend has a file let go of as soon as a build deletes it, or puts another in its place.
// That it has no link any more cannot be asked: of the host's that are not copied up the
// number of links is the host's.
func (h *holds) attend(path string) {
	f := h.files[path]
	f.since = time.Now()
	watch, err := h.tree.attend(f.fd, func() {
		if time.Since(f.since) >= attendEvery {
			h.reattend(path)
			return
		}
		if len(h.resting) == 0 {
			h.restAt = time.Now().Add(attendEvery)
		}
		h.resting = append(h.resting, path)
	})
	f.watch = watch
	if h.files[path] = f; err != nil {
		h.drop(path)
	}
}

// reattend attends to a file again if it still has its name.
func (h *holds) reattend(path string) {
	f, ok := h.files[path]
	switch {
	case !ok:
	case h.inPlace(path, f.fd):
		h.attend(path)
	default:
		h.drop(path)
	}
}

// rested is when those that rest are to be attended to again.
func (h *holds) rested() (at time.Time, some bool) { return h.restAt, len(h.resting) > 0 }

// wake attends to those again, if it is time.
func (h *holds) wake() {
	if len(h.resting) == 0 || time.Now().Before(h.restAt) {
		return
	}
	list := h.resting
	h.resting = nil
	for _, path := range list {
		h.reattend(path)
	}
}

// inPlace says whether a file still has its name.
func (h *holds) inPlace(path string, fd int) bool {
	parent, name := split(path)
	dir, err := overlay.OpenBeneath(h.merged, parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	is, err := overlay.StatFd(fd)
	now, err1 := overlay.StatAt(dir, name)
	return err == nil && err1 == nil && now.Exists() && now.Ino == is.Ino
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
		if h.inodes[ino] == 0 && !h.others[ino] {
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
