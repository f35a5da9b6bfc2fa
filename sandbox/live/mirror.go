package live

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

const (
	// maxMirror bounds a file that is mirrored, and one that is replaced: a mirror that
	// would become larger stays as it is. maxMirroring is after what time no other of a
	// batch is begun: the other edits wait for it.
	maxMirror    = 32 << 20
	maxMirroring = 300 * time.Millisecond
	// maxWithdrawn bounds what is in a directory that is withdrawn.
	maxWithdrawn = 1000
)

// mirror repeats what is edited on the host through the overlay, where a process
// inside watches, so that it gets the events.
type mirror struct {
	target Target
	pair   *overlay.Opened
	merged int
	tree   *tree
	dev    uint64
	// uid and gid are those of the overlay's root.
	uid, gid int
	notes    overlay.Notes
	mark     string
	temps    int
	// marked are the directories that the journal knows to hold temporaries.
	marked map[string]bool
	// seen are the host's versions that are mirrored.
	seen   map[string]overlay.Fingerprint
	holds  holds
	parked []parked
	count  int

	// watched are the inodes that are watched inside, cost is how long it took to find
	// them.
	watched watches
	cost    time.Duration
	// ending says that the run ends.
	ending func() bool

	// Of one batch:
	host, inside parent
	temp         tempDir
	until        time.Time
	// touch are directories that are to make an event after the refresh, gone those
	// that the host has no more, came those in which there is a new one.
	touch, gone, came map[string]bool
	// later are paths that are to be looked at again after the refresh.
	later map[string]uint32
}

func newMirror(t Target, pair *overlay.Opened, tree *tree, ending func() bool) *mirror {
	var b [8]byte
	rand.Read(b[:])
	m := &mirror{
		target: t, pair: pair, merged: t.Mount, tree: tree, ending: ending, mark: overlay.MirrorMark + hex.EncodeToString(b[:]) + "-",
		marked: map[string]bool{}, seen: map[string]overlay.Fingerprint{}, holds: newHolds(tree, t.Mount),
		touch: map[string]bool{}, gone: map[string]bool{}, came: map[string]bool{}, later: map[string]uint32{},
	}
	var st unix.Stat_t
	if unix.Fstat(t.Mount, &st) == nil {
		m.dev, m.uid, m.gid = st.Dev, int(st.Uid), int(st.Gid)
	}
	return m
}

func (m *mirror) close() {
	for _, p := range m.parked {
		if p.file >= 0 {
			unix.Close(p.file) // the journal knows it
		}
	}
	m.parked = nil
	m.holds.release(nil)
}

// before does what comes before a refresh: afterwards a name is another file, and the
// watches of the old one would never learn that it has gone. kinds are the paths that
// have changed, and are none afterwards; all says that there may be others, refresh
// that one follows.
func (m *mirror) before(kinds map[string]uint32, all, refresh bool) {
	if m.notes.Journal == nil {
		notes, err := m.target.Notes()
		if err != nil {
			return
		}
		m.notes, all = notes, true // the supervisor before may have mirrored
		for _, path := range notes.Journal.Mirrors(notes.Pair) {
			m.adopt(path)
		}
	}
	defer clear(kinds)
	if len(kinds) == 0 && !all && !refresh {
		return
	}
	mirrors := m.notes.Journal.Mirrors(m.notes.Pair)
	began := time.Now()
	m.watched = watched(m.dev)
	m.cost = time.Since(began)
	if len(m.watched)+len(mirrors) == 0 {
		m.holds.release(nil)
		return
	}
	left := false
	for path, mask := range kinds {
		if leftDir(mask) {
			m.holds.dropBelow(path)
			left = true
		}
	}
	m.unpark(func(p parked) bool {
		_, again := kinds[p.path]
		return left || again
	})
	kinds = withBelow(kinds, mirrors)
	if all {
		for _, path := range mirrors {
			_, parked := m.notes.Parked(path)
			if _, left := m.notes.Left(path); !parked && !left {
				kinds[path] |= 0
			}
		}
		for path := range m.holds.files {
			kinds[path] |= 0
		}
	}
	m.until = time.Now().Add(maxMirroring)
	// Directories that have left first: their names stand in the way of what they are
	// called now.
	for _, left := range []bool{true, false} {
		for _, path := range slices.Sorted(maps.Keys(kinds)) {
			if m.ending() {
				break // a run must not wait for this at its end
			}
			if leftDir(kinds[path]) == left {
				m.path(path, kinds[path])
			}
		}
	}
	if refresh {
		m.hold()
	}
	m.temp.close()
	m.host.close()
	m.inside.close()
}

// leftDir says whether a directory has left its place.
func leftDir(mask uint32) bool {
	return mask&unix.IN_ISDIR != 0 && mask&(unix.IN_MOVED_FROM|unix.IN_DELETE) != 0
}

// withBelow adds what is mirrored below directories that have left their place: of that
// no event tells.
func withBelow(kinds map[string]uint32, mirrors []string) map[string]uint32 {
	more := maps.Clone(kinds)
	if len(mirrors) == 0 {
		return more
	}
	for path, mask := range kinds {
		if !leftDir(mask) {
			continue
		}
		at, _ := slices.BinarySearch(mirrors, path+"/")
		for _, below := range mirrors[at:] {
			if !strings.HasPrefix(below, path+"/") {
				break
			}
			more[below] |= 0
		}
	}
	return more
}

// after makes the events of directories, whose names are right now.
func (m *mirror) after() {
	gone := slices.Sorted(maps.Keys(m.gone))
	slices.Reverse(gone) // what is in a directory comes before it
	for _, path := range gone {
		if parent, _ := split(path); !m.leave(path) {
			m.touch[parent] = true
		}
	}
	for _, path := range slices.Sorted(maps.Keys(m.touch)) {
		m.attribute(path)
	}
	for _, path := range slices.Sorted(maps.Keys(m.came)) {
		m.nudge(path)
	}
	clear(m.gone)
	clear(m.touch)
	clear(m.came)
	m.temp.close()
	m.host.close()
	m.inside.close()
}

// withdrawn is in the mask of what is in a directory that is withdrawn: nobody need
// watch it. It is no event's bit.
const withdrawn = unix.IN_Q_OVERFLOW

// again is in that of what is looked at again.
const again = unix.IN_UNMOUNT

// path decides what is done for one path.
func (m *mirror) path(path string, mask uint32) {
	parent, name := split(path)
	if path == "" || m.covered(path) {
		return
	}
	dir, err := m.inside.at(m.merged, parent)
	if err != nil {
		// It may be that the directory has come, and is not seen before the refresh.
		if len(m.notes.Mirrors(path)) > 0 && mask&again == 0 {
			m.later[path] = mask | again
		}
		return
	}
	e := edit{path: path, parent: parent, name: name, mask: mask, dir: dir, file: -1, was: m.notes.Mirrors(path)}
	in, err := overlay.StatFd(dir)
	if err != nil {
		return
	}
	e.watch = m.watched[in.Ino]
	if e.inside, err = overlay.StatAt(dir, name); err != nil {
		return
	}
	if mask&withdrawn == 0 && e.watch == 0 && len(e.was) == 0 && !(e.inside.Exists() && m.watched.has(e.inside.Ino)) {
		return
	}
	var known bool
	if e.host, known = m.host.stat(m.pair.LowerFd(), path); !known {
		return
	}
	if mask&withdrawn != 0 {
		e.host = overlay.Stat{}
	}
	other := !e.host.IsDir() || e.host.Ino != e.inside.Ino
	taken := leftDir(mask) && e.inside.IsDir() && other && m.withdraw(&e, maxWithdrawn)
	switch {
	case e.host.IsDir():
		if len(e.was) > 0 && e.inside.Exists() && !e.inside.IsDir() {
			defer e.close()
			if e.open() == nil && !m.own(&e) {
				m.giveUp(&e)
			}
		}
		if mask&(unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ATTRIB) != 0 {
			m.touch[path] = true
		}
		if mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 && e.watch != 0 {
			m.came[parent] = true
		}
		return
	case e.inside.IsDir(), !e.host.Exists() && mask&unix.IN_ISDIR != 0:
		if !taken {
			m.gone[path] = true
		}
		return
	}
	// In this order: who writes to it from here on is found out.
	defer e.close()
	if e.open() != nil || e.inside.IsDir() || m.own(&e) || m.fresh(&e) {
		return
	}
	if m.until.Before(time.Now()) {
		m.later[path] = mask
		return
	}
	if !m.fits(&e) {
		if len(e.was) > 0 && e.inside.Exists() {
			m.giveUp(&e)
		}
		m.touch[parent] = true
		m.holds.drop(e.path)
		return
	}
	m.do(&e)
	m.copiedUp(parent)
	if m.temp.open {
		m.copiedUp(m.temp.path)
	}
}

// do chooses the act.
func (m *mirror) do(e *edit) {
	const appeared = unix.IN_CREATE | unix.IN_MOVED_TO
	const left = unix.IN_DELETE | unix.IN_MOVED_FROM
	done := false
	switch {
	case !e.host.Exists() && e.inside.Exists():
		done = m.remove(e)
	case !e.host.Exists():
		// A name that came and went is nobody's.
		if m.set(e); e.mask&left != 0 && e.mask&appeared == 0 {
			if done = m.blink(e); done {
				m.phantom(e)
			}
		}
	case len(e.was) > 0 || !e.inside.Exists() || !same(e.host, e.inside) || e.mask&appeared != 0:
		if m.attributes(e) {
			done = m.chmod(e)
		} else {
			done = m.replace(e)
		}
	case e.mask&written != 0:
		done = m.write(e)
	case e.mask&unix.IN_ATTRIB != 0:
		done = m.chmod(e)
	}
	if !done {
		if !same(e.host, e.inside) {
			m.holds.drop(e.path) // it would stay as it is
		}
		return
	}
	m.count++
	m.seen[e.path] = e.host.Fingerprint()
	if e.host.Exists() {
		m.tree.more(e.parent)
	}
}

// covered says whether a mount of a sandbox depends on a path.
func (m *mirror) covered(path string) bool {
	return slices.ContainsFunc(m.target.Below, func(b string) bool {
		return path == b || strings.HasPrefix(path, b+"/") || strings.HasPrefix(b, path+"/")
	})
}
