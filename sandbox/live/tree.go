package live

import (
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
// watched when all others are, from the top down, and not all.
var bulky = map[string]bool{
	"node_modules": true, "bower_components": true, ".git": true, ".hg": true,
	".venv": true, "venv": true, ".tox": true, ".nox": true, ".gradle": true, "Pods": true, "__pycache__": true,
}

// maxWatches bounds the watches of a tree: each takes the kernel about 1 KiB. maxBulky
// bounds those in bulky directories.
const (
	maxWatches = 32768
	maxBulky   = 2048
)

// Budget is how many directories each of so many trees may watch: the editor needs
// watches too.
func Budget(trees int) int {
	all := maxWatches
	if data, err := os.ReadFile("/proc/sys/fs/inotify/max_user_watches"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			all = min(n/4, maxWatches)
		}
	}
	return all / trees
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
	// queue are watches of directories that are not yet read, later those in bulky
	// ones, which are not watched yet.
	queue []int32
	later []ahead
	// moved are watches of directories that have left their place, and may be in
	// another.
	moved []int32
	// over says that directories are not watched for want of watches, left that some in
	// bulky ones are not.
	over, left bool
	// lost says that what is known of the tree may be wrong, and it must be watched
	// anew.
	lost bool
	// counts says that the file system counts the directories in one as links to it.
	counts bool
	// last is the directory of the last event, lastPath its path: events come in runs.
	last     int32
	lastPath string
	// since is when what a directory has gained or lost matters: 0 never.
	since int64
	// attended are files that are told of once (attend).
	attended map[int32]func()
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
	bulky, moved        bool
	tell                tell
	name                string
}

// tell says what is told of as changed when a directory is read.
type tell uint8

const (
	nothing tell = iota
	// entries: it has changed, and nobody knows which name.
	entries
	// all: nothing is known of it and of what is below.
	all
	// created: it is new, with all below.
	created
)

// below is what is told of when a directory in it is read, kind how its entries have
// changed.
func (t tell) below() tell {
	if t == entries {
		return nothing
	}
	return t
}

func (t tell) kind() uint32 {
	if t == created {
		return unix.IN_CREATE
	}
	return 0
}

// ahead is a directory in a bulky one, which has the watch.
type ahead struct {
	watch int32
	name  string
}

// top is the index of the root's node.
const top = 1

// newTree begins to watch. Nothing is read yet: scan does that.
func newTree(root, budget int, changed func(path string, mask uint32)) (*tree, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, fd: fd, budget: budget, byWatch: map[int32]int32{}, attended: map[int32]func(){}, changed: changed, buf: make([]byte, 64<<10)}
	t.nodes = make([]node, 1, 64)
	watch, err := unix.InotifyAddWatch(fd, "/proc/self/fd/"+strconv.Itoa(root), mask&^unix.IN_DONT_FOLLOW|unix.IN_MOVE_SELF|unix.IN_DELETE_SELF)
	if err != nil {
		t.close()
		return nil, err
	}
	t.link(0, "", int32(watch), false)
	t.queue = append(t.queue, int32(watch))
	var fs unix.Statfs_t
	if unix.Fstatfs(root, &fs) == nil {
		switch fs.Type {
		case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC:
			t.counts = true
		}
	}
	return t, nil
}

func (t *tree) close() { unix.Close(t.fd) }

// count is how many directories are watched.
func (t *tree) count() int { return len(t.byWatch) }

// settled says whether all that can be watched is.
func (t *tree) settled() bool { return len(t.queue)+len(t.later) == 0 }

// link puts a watched directory into its place.
func (t *tree) link(parent int32, name string, watch int32, bulky bool) int32 {
	t.last = 0
	i, ok := t.byWatch[watch]
	switch {
	case ok && t.below(parent, i):
		// An event is from before later moves: by what is known it is in itself.
		t.lost = true
		return i
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

// below says whether a directory is another, or in it.
func (t *tree) below(i, other int32) bool {
	for ; i != 0; i = t.nodes[i].parent {
		if i == other {
			return true
		}
	}
	return false
}

// tally counts a directory that comes or goes.
func (t *tree) tally(i int32, by int) {
	if t.nodes[i].bulky {
		t.bulky += by
	}
}

// unlink takes a directory out of its parent's list.
func (t *tree) unlink(i int32) {
	t.last = 0
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
	t.moved = append(t.moved, t.nodes[i].watch)
}

// sweep gives up the directories that have left the tree.
func (t *tree) sweep() {
	for len(t.moved) > 0 {
		watch := t.moved[len(t.moved)-1]
		t.moved = t.moved[:len(t.moved)-1]
		// Of two that swap their names each is told to have left the other's.
		if i, ok := t.byWatch[watch]; ok && t.nodes[i].moved && !t.inPlace(i) {
			unix.InotifyRmWatch(t.fd, uint32(watch))
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
		t.enqueue(c, created)
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
	size := -1
	for at := i; at != top; at = t.nodes[at].parent {
		if at == 0 || t.nodes[at].watch == 0 {
			return "", false
		}
		size += len(t.nodes[at].name) + 1
	}
	if size < 0 {
		return "", true
	}
	// From the end, in one piece: a deep tree has long paths.
	buf := make([]byte, size)
	for at := i; at != top; at = t.nodes[at].parent {
		name := t.nodes[at].name
		size -= len(name)
		copy(buf[size:], name)
		if size > 0 {
			size--
			buf[size] = '/'
		}
	}
	return string(buf), true
}

// enqueue has a directory read.
func (t *tree) enqueue(i int32, tell tell) {
	t.nodes[i].tell = max(t.nodes[i].tell, tell)
	t.queue = append(t.queue, t.nodes[i].watch)
}
