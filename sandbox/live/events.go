package live

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// events reads some of what has happened. lost says that events were, or the order of
// things, and that the tree must be watched anew.
func (t *tree) events() (lost bool) {
	n, err := unix.Read(t.fd, t.buf)
	for err == unix.EINTR {
		n, err = unix.Read(t.fd, t.buf)
	}
	if err != nil {
		return t.lost
	}
	for b := t.buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		// struct inotify_event: wd, mask, cookie, len, name.
		watch, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		if mask&unix.IN_Q_OVERFLOW != 0 || size > len(b) {
			return true
		}
		t.event(watch, mask, unix.ByteSliceToString(b[unix.SizeofInotifyEvent:size]))
		b = b[size:]
	}
	return t.lost
}

// event is one event.
func (t *tree) event(watch int32, mask uint32, name string) {
	if tell := t.attended[watch]; tell != nil {
		if mask&unix.IN_IGNORED != 0 {
			delete(t.attended, watch)
			tell()
		}
		return
	}
	i, ok := t.byWatch[watch]
	if !ok {
		return
	}
	if mask&unix.IN_IGNORED != 0 {
		if i != top {
			t.forget(i)
		}
		return
	}
	if t.last != i {
		if t.lastPath, ok = t.path(i); !ok {
			return
		}
		t.last = i
	}
	path := t.lastPath
	if name == "" {
		t.changed(path, mask)
		return
	}
	below := join(path, name)
	t.changed(below, mask)
	if mask&unix.IN_ISDIR == 0 {
		return
	}
	c := t.find(i, name)
	switch {
	case mask&unix.IN_MOVED_FROM != 0:
		if c != 0 {
			t.lose(c)
		}
	case mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0, mask&unix.IN_ATTRIB != 0 && c == 0: // opened to its owner
		t.came(i, path, name)
	}
}

// attend has tell called when a file has lost a link, or another attribute has changed:
// once, so that a build that changes them all the time does not fill the queue.
func (t *tree) attend(fd int, tell func()) (watch int32, err error) {
	w, err := unix.InotifyAddWatch(t.fd, "/proc/self/fd/"+strconv.Itoa(fd), unix.IN_ATTRIB|unix.IN_ONESHOT)
	if err != nil {
		return 0, err
	}
	t.attended[int32(w)] = tell
	return int32(w), nil
}

// ignore ends that.
func (t *tree) ignore(watch int32) {
	if t.attended[watch] != nil {
		delete(t.attended, watch)
		unix.InotifyRmWatch(t.fd, uint32(watch))
	}
}

// came watches a directory that has come.
func (t *tree) came(parent int32, path, name string) {
	if t.nodes[parent].bulky {
		t.put(parent, name)
		return
	}
	dir, err := overlay.OpenBeneath(t.root, path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	if t.ignored(dir, path, name) {
		return
	}
	if c := t.watch(dir, parent, name, bulky[name]); c != 0 {
		t.enqueue(c, created)
	}
}
