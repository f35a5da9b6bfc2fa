package live

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// scanChunk is how many directories are read before events are looked at again.
const scanChunk = 32

// scan reads some of the directories that are to be read. It reports whether they
// were bulky ones.
func (t *tree) scan() (bulky bool) {
	for range scanChunk {
		switch {
		case len(t.queue) > 0:
			watch := t.queue[0]
			t.queue = t.queue[1:]
			if i, ok := t.byWatch[watch]; ok {
				t.read(i)
			}
		case len(t.later) > 0:
			a := t.later[0]
			t.later = t.later[1:]
			bulky = true
			t.enter(a)
		default:
			t.queue, t.later = nil, nil
			return bulky
		}
	}
	return bulky
}

// put remembers a directory in a bulky one, to be watched later.
func (t *tree) put(parent int32, name string) {
	if t.bulky+len(t.later) >= maxBulky {
		t.left = true
		return
	}
	t.later = append(t.later, ahead{t.nodes[parent].watch, name})
}

// enter begins to watch a directory in a bulky one.
func (t *tree) enter(a ahead) {
	parent, ok := t.byWatch[a.watch]
	if !ok {
		return
	}
	path, ok := t.path(parent)
	if !ok || t.count() >= t.budget {
		t.left = true
		return
	}
	dir, err := overlay.OpenBeneath(t.root, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	if i := t.watch(dir, parent, a.name, true); i != 0 {
		t.read(i)
	}
}

// watch watches a name in an open directory; 0 if it cannot.
func (t *tree) watch(dir int, parent int32, name string, bulky bool) int32 {
	if t.count() >= t.budget {
		t.over, t.left = t.over || !bulky, true
		return 0
	}
	w, err := unix.InotifyAddWatch(t.fd, "/proc/self/fd/"+strconv.Itoa(dir)+"/"+name, mask)
	switch err {
	case nil:
		return t.link(parent, name, int32(w), bulky)
	case unix.ENOSPC, unix.ENOMEM:
		// All of the user's are in use: the editor gets some of ours back.
		t.budget = t.count() * 3 / 4
		t.over = t.over || !bulky
		t.shrink()
	}
	return 0 // it has gone, or is closed to its owner: to be opened makes an event
}

// more makes what is written to the files of a directory an event already before they
// are closed.
func (t *tree) more(path string) {
	dir, err := overlay.OpenBeneath(t.root, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	// Only of one that is watched, as no watch is to be made: there is a descriptor of it.
	w, err := unix.InotifyAddWatch(t.fd, "/proc/self/fd/"+strconv.Itoa(dir), unix.IN_MODIFY|unix.IN_MASK_ADD|unix.IN_ONLYDIR)
	if _, ok := t.byWatch[int32(w)]; err == nil && !ok {
		unix.InotifyRmWatch(t.fd, uint32(w))
	}
}

// shrink gives watches back until the budget is met, those that were had last first.
func (t *tree) shrink() {
	for i := len(t.nodes) - 1; i > top && t.count() > t.budget; i-- {
		if n := t.nodes[i]; n.watch != 0 {
			t.over = t.over || !n.bulky
			unix.InotifyRmWatch(t.fd, uint32(n.watch))
			t.forget(int32(i))
		}
	}
}

// read reads a watched directory, and watches those in it.
func (t *tree) read(i int32) {
	n := t.nodes[i]
	path, ok := t.path(i)
	if !ok {
		return
	}
	fd, err := overlay.OpenBeneath(t.root, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if i == top {
		if st, err := overlay.StatFd(fd); err == nil {
			n.tell = max(n.tell, t.young("", st))
		}
	}
	t.nodes[i].tell = nothing
	overlay.Entries(fd, t.buf, func(name string, typ byte) {
		if t.nodes[i].watch != n.watch {
			return // for want of watches it has lost its own
		}
		if n.tell != nothing {
			t.changed(join(path, name), n.tell.kind())
		}
		if typ == unix.DT_UNKNOWN {
			if st, err := overlay.StatAt(fd, name); err == nil && st.IsDir() {
				typ = unix.DT_DIR
			}
		}
		switch {
		case typ != unix.DT_DIR, t.ignored(fd, path, name):
		case n.bulky:
			t.put(i, name)
		default:
			c := t.watch(fd, i, name, bulky[name])
			if c == 0 {
				break
			}
			st, err := overlay.StatAt(fd, name)
			tell := n.tell.below()
			if err == nil {
				tell = max(tell, t.young(join(path, name), st))
			}
			// Of a directory with two links no other is in it. What comes after the
			// watch makes an event.
			if tell != nothing || err != nil || st.Nlink != 2 || !t.counts {
				t.enqueue(c, tell)
			}
		}
	})
}

// ignored says whether a directory need not be watched: what git names by its content
// does not change, and what names that does.
func (t *tree) ignored(dir int, path, name string) bool {
	return len(t.skip) > 0 && t.skip[join(path, name)] || (name == "objects" || name == "lfs") && isGitDir(dir)
}

// young tells of a directory that has changed since the overlay was mounted.
func (t *tree) young(path string, st overlay.Stat) tell {
	if t.since == 0 || max(st.Ctime, st.Mtime) < t.since {
		return nothing
	}
	t.changed(path, 0)
	return entries
}

// isGitDir says whether a directory looks like git's (gitrepository-layout(5)).
func isGitDir(fd int) bool {
	for _, name := range []string{"HEAD", "objects", "refs"} {
		if st, err := overlay.StatAt(fd, name); err != nil || !st.Exists() {
			return false
		}
	}
	return true
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
