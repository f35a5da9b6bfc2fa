package live

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// mask is what makes the overlay's names wrong. Writing in place does not, and is
// mirrored.
const mask = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB |
	unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK

// bulky are directories with many files of package managers and builds, which are
// watched when all others are, from the top down, as long as watches are left.
var bulky = map[string]bool{
	"node_modules": true, "bower_components": true, ".git": true, ".hg": true, "vendor": true, "target": true,
	".venv": true, "venv": true, ".tox": true, ".nox": true, ".cache": true, ".gradle": true, "Pods": true, "__pycache__": true,
}

// maxWatches bounds the watches of a tree: each takes the kernel about 1 KiB. maxBulky
// bounds those in bulky directories.
const (
	maxWatches = 32768
	maxBulky   = 2048
)

// watchBudget is how many directories are watched at most: the editor needs watches
// too.
func watchBudget() int {
	data, err := os.ReadFile("/proc/sys/fs/inotify/max_user_watches")
	if err != nil {
		return maxWatches
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return maxWatches
	}
	return min(n/4, maxWatches)
}

// tree watches the directories below one of the host's.
type tree struct {
	root   int // the directory
	fd     int // inotify(7)
	budget int
	// nodes are the watched directories, by index; byWatch finds that of a watch
	// descriptor. They are few bytes each: there may be tens of thousands.
	nodes   []node
	free    []int32
	byWatch map[int32]int32
	bulky   int // how many are in bulky directories
	// queue are directories that are watched and not yet read, later those in bulky
	// ones, which are not watched yet.
	queue []int32
	later []ahead
	// moved are directories that have left their place, and may be in another.
	moved []int32
	// over says that directories are not watched for want of watches.
	over bool
	// since is when what a directory has gained or lost matters: 0 never.
	since int64
	// skip are paths of directories that do not matter.
	skip map[string]bool
	// changed is told of each path that has changed, and how, 0 if that is not known.
	changed func(path string, mask uint32)
	buf     []byte
}

// node is a watched directory.
type node struct {
	watch               int32 // 0: a free node
	parent, child, next int32 // indexes; 0 is no node
	bulky, fresh, moved bool
	name                string
}

// ahead is a directory in a bulky one.
type ahead struct {
	parent int32
	name   string
}

// top is the index of the root's node.
const top = 1

// newTree begins to watch. Nothing is read yet: scan does that.
func newTree(root, budget int, changed func(path string, mask uint32)) (*tree, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, fd: fd, budget: budget, byWatch: map[int32]int32{}, changed: changed, buf: make([]byte, 64<<10)}
	t.nodes = make([]node, 1, 64)
	watch, err := unix.InotifyAddWatch(fd, "/proc/self/fd/"+strconv.Itoa(root), mask&^unix.IN_DONT_FOLLOW)
	if err != nil {
		t.close()
		return nil, err
	}
	t.link(0, "", int32(watch), false)
	t.queue = append(t.queue, top)
	return t, nil
}

func (t *tree) close() { unix.Close(t.fd) }

// count is how many directories are watched.
func (t *tree) count() int { return len(t.byWatch) }

// settled says whether all that can be watched is.
func (t *tree) settled() bool { return len(t.queue)+len(t.later) == 0 }

// link puts a watched directory into its place.
func (t *tree) link(parent int32, name string, watch int32, bulky bool) int32 {
	i, ok := t.byWatch[watch]
	switch {
	case ok:
		t.unlink(i) // it was elsewhere
		t.tally(i, -1)
	case len(t.free) > 0:
		i = t.free[len(t.free)-1]
		t.free = t.free[:len(t.free)-1]
		t.nodes[i] = node{}
	default:
		i = int32(len(t.nodes))
		t.nodes = append(t.nodes, node{})
	}
	n := &t.nodes[i]
	n.watch, n.parent, n.name, n.moved, n.bulky = watch, parent, name, false, bulky
	t.tally(i, 1)
	if parent != 0 {
		n.next, t.nodes[parent].child = t.nodes[parent].child, i
	}
	t.byWatch[watch] = i
	return i
}

// tally counts a directory that comes or goes.
func (t *tree) tally(i int32, by int) {
	if t.nodes[i].bulky {
		t.bulky += by
	}
}

// unlink takes a directory out of its parent's list.
func (t *tree) unlink(i int32) {
	for at := &t.nodes[t.nodes[i].parent].child; *at != 0; at = &t.nodes[*at].next {
		if *at == i {
			*at = t.nodes[i].next
			break
		}
	}
	t.nodes[i].next, t.nodes[i].parent = 0, 0
}

// forget frees a node whose watch is gone. What is below has lost its place, and goes
// with its own watch.
func (t *tree) forget(i int32) {
	t.unlink(i)
	for c := t.nodes[i].child; c != 0; {
		next := t.nodes[c].next
		t.nodes[c].parent, t.nodes[c].next = 0, 0
		t.lose(c)
		c = next
	}
	delete(t.byWatch, t.nodes[i].watch)
	t.tally(i, -1)
	t.nodes[i] = node{}
	t.free = append(t.free, i)
}

// lose notes a directory that may have left the tree.
func (t *tree) lose(i int32) {
	t.nodes[i].moved = true
	t.moved = append(t.moved, i)
}

// sweep gives up the directories that have left the tree.
func (t *tree) sweep() {
	for len(t.moved) > 0 {
		i := t.moved[len(t.moved)-1]
		t.moved = t.moved[:len(t.moved)-1]
		// Of two that swap their names each is told to have left the other's.
		if n := t.nodes[i]; n.watch != 0 && n.moved && !t.inPlace(i) {
			unix.InotifyRmWatch(t.fd, uint32(n.watch))
			t.forget(i)
		}
	}
}

// inPlace says whether a directory is where it was.
func (t *tree) inPlace(i int32) bool {
	n := t.nodes[i]
	if n.parent == 0 {
		return false
	}
	path, ok := t.path(n.parent)
	if !ok {
		return false
	}
	dir, err := overlay.OpenBeneath(t.root, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	c := t.watch(dir, n.parent, n.name, n.bulky)
	if c != 0 && c != i {
		t.nodes[c].fresh = true
		t.queue = append(t.queue, c)
	}
	return c == i
}

// find is the watched directory of a name in another, 0 if it is not watched.
func (t *tree) find(parent int32, name string) int32 {
	for i := t.nodes[parent].child; i != 0; i = t.nodes[i].next {
		if t.nodes[i].name == name {
			return i
		}
	}
	return 0
}

// path is the path of a directory; ok is false if it has lost its place.
func (t *tree) path(i int32) (path string, ok bool) {
	for ; i != top; i = t.nodes[i].parent {
		if i == 0 || t.nodes[i].watch == 0 {
			return "", false
		}
		if path == "" {
			path = t.nodes[i].name
		} else {
			path = t.nodes[i].name + "/" + path
		}
	}
	return path, true
}

// scanChunk is how many directories are read before events are looked at again.
const scanChunk = 32

// scan reads some of the directories that are to be read. It reports whether they
// were bulky ones.
func (t *tree) scan() (bulky bool) {
	for range scanChunk {
		switch {
		case len(t.queue) > 0:
			i := t.queue[0]
			t.queue = t.queue[1:]
			t.read(i)
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
	if t.bulky+len(t.later) < maxBulky {
		t.later = append(t.later, ahead{parent, name})
	}
}

// enter begins to watch a directory in a bulky one.
func (t *tree) enter(a ahead) {
	path, ok := t.path(a.parent)
	if !ok || t.count() >= t.budget {
		return
	}
	dir, err := overlay.OpenBeneath(t.root, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	if i := t.watch(dir, a.parent, a.name, true); i != 0 {
		t.read(i)
	}
}

// watch watches a name in an open directory; 0 if it cannot.
func (t *tree) watch(dir int, parent int32, name string, bulky bool) int32 {
	if t.count() >= t.budget {
		t.over = t.over || !bulky
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
	return 0 // it has gone, or is closed to its owner, as to the build
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
	if n.watch == 0 || !ok {
		return
	}
	fd, err := overlay.OpenBeneath(t.root, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if i == top {
		if st, err := overlay.StatFd(fd); err == nil {
			t.young("", st)
		}
	}
	overlay.Entries(fd, t.buf, func(name string, typ byte) {
		if n.fresh {
			t.changed(join(path, name), unix.IN_CREATE)
		}
		if typ == unix.DT_UNKNOWN {
			if st, err := overlay.StatAt(fd, name); err == nil && st.IsDir() {
				typ = unix.DT_DIR
			}
		}
		switch {
		case typ != unix.DT_DIR, len(t.skip) > 0 && t.skip[join(path, name)]:
		case (name == "objects" || name == "lfs") && isGitDir(fd):
			// What is named by its content does not change, and what names it does.
		case n.bulky:
			t.put(i, name)
		default:
			c := t.watch(fd, i, name, bulky[name])
			if c == 0 {
				break
			}
			st, err := overlay.StatAt(fd, name)
			if err == nil {
				t.young(join(path, name), st)
			}
			// Of a directory with two links none is in it, on the file systems that
			// count (ext4, xfs, tmpfs; btrfs gives 1). What comes now makes an event.
			if n.fresh || err != nil || st.Nlink != 2 {
				t.nodes[c].fresh = n.fresh
				t.queue = append(t.queue, c)
			}
		}
	})
	t.nodes[i].fresh = false
}

// young tells of a directory that has changed since the overlay was mounted.
func (t *tree) young(path string, st overlay.Stat) {
	if t.since > 0 && max(st.Ctime, st.Mtime) >= t.since {
		t.changed(path, 0)
	}
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

// events reads what has happened. lost says that events were, and the tree must be
// watched anew.
func (t *tree) events() (happened, lost bool) {
	for {
		n, err := unix.Read(t.fd, t.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return happened, lost
		}
		for b := t.buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			// struct inotify_event: wd, mask, cookie, len, name.
			watch, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			if size > len(b) {
				break
			}
			lost = lost || mask&unix.IN_Q_OVERFLOW != 0
			happened = t.event(watch, mask, unix.ByteSliceToString(b[unix.SizeofInotifyEvent:size])) || happened
			b = b[size:]
		}
	}
}

// event is one event; it says whether the overlay may be wrong now.
func (t *tree) event(watch int32, mask uint32, name string) bool {
	i, ok := t.byWatch[watch]
	if !ok {
		return false
	}
	if mask&unix.IN_IGNORED != 0 {
		if i != top {
			t.forget(i)
		}
		return false
	}
	path, ok := t.path(i)
	if !ok {
		return false
	}
	if name == "" {
		t.changed(path, mask)
		return true
	}
	below := join(path, name)
	t.changed(below, mask)
	if mask&unix.IN_ISDIR == 0 || t.skip[below] {
		return true
	}
	switch {
	case mask&unix.IN_MOVED_FROM != 0:
		if c := t.find(i, name); c != 0 {
			t.lose(c)
		}
	case mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
		if t.nodes[i].bulky {
			t.put(i, name)
			break
		}
		dir, err := overlay.OpenBeneath(t.root, path, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			break
		}
		if c := t.watch(dir, i, name, bulky[name]); c != 0 {
			t.nodes[c].fresh = true
			t.queue = append(t.queue, c)
		}
		unix.Close(dir)
	}
	return true
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
