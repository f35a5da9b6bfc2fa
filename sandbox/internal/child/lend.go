package child

import (
	"errors"
	"fmt"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// Namespaces are those that a run can be joined in, in the order in which they
// are entered: user first, which gives the capabilities for the others.
var Namespaces = []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"}

// Lent is what a sandbox has sent before its command existed, so that nobody ever
// has to trust a namespace in which the command has run.
type Lent struct {
	// Namespaces are descriptors, in the order of the variable.
	Namespaces []int
	// Mounts are detached copies of the overlays of plan.Plan.Lent.
	Mounts []int
	// Network are those of plan.Plan.Parts that there are, by their index there.
	Network map[int]int
	// Held are descriptors that keep one of those alive until they are closed, after it.
	Held []int
}

// Close closes all of it. A detached mount ends with its descriptor.
func (l *Lent) Close() {
	CloseAll(l.Namespaces)
	CloseAll(l.Mounts)
	CloseAll(l.Held)
	for _, fd := range l.Network {
		unix.Close(fd)
	}
	l.Namespaces, l.Mounts, l.Network, l.Held = nil, nil, nil, nil
}

// sendNamespaces sends sbx descriptors of the child's namespaces. Later pid 1 is
// not dumpable, and nobody can open them any more.
func (c *compiler) sendNamespaces() {
	for i, kind := range Namespaces {
		c.add(unix.SYS_OPENAT, at, c.m.str("/proc/self/ns/"+kind), unix.O_RDONLY|unix.O_CLOEXEC).to(slotFile)
		c.keep(slotFile, sendFD+i)
	}
	c.send(recordNamespaces, len(Namespaces))
}

// lend sends sbx a detached copy of the mount at a path of ours.
func (c *compiler) lend(path string) {
	c.add(unix.SYS_OPEN_TREE, at, c.m.str(path), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).to(slotTree)
	c.keep(slotTree, sendFD)
	c.send(recordMount, 1)
}

// keep moves the descriptor in a slot to a number.
func (c *compiler) keep(s slot, fd int) {
	c.add(unix.SYS_DUP3, 0, uintptr(fd), unix.O_CLOEXEC).with(0, s)
	c.add(unix.SYS_CLOSE).with(0, s)
}

// msghdr and cmsghdr are those of sendmsg(2) and cmsg(3), without Go pointers.
type msghdr struct {
	name       uintptr
	namelen    uint32
	iov        uintptr
	iovlen     uintptr
	control    uintptr
	controllen uintptr
	_          int32 // msg_flags
}

type cmsghdr struct {
	length     uint64
	level, typ int32
	fds        [8]int32
}

// send sends a record with the descriptors from sendFD on, and closes them. The
// kernel bounds how many of a user's descriptors are on their way at once, and any
// build can use that up (ETOOMANYREFS in unix(7)). A run that cannot lend is no less
// of a run: Lent never sees the record, and the layer stays this run's alone.
func (c *compiler) send(kind uint32, count int) { c.sendRecord(record{kind: kind}, count) }

func (c *compiler) sendRecord(r record, count int) {
	rights := cmsghdr{length: 16 + uint64(count)*4, level: unix.SOL_SOCKET, typ: unix.SCM_RIGHTS}
	for i := range count {
		rights.fds[i] = int32(sendFD + i)
	}
	iov := [2]uintptr{put(c.m, r), unsafe.Sizeof(r)}
	m := msghdr{iov: put(c.m, iov), iovlen: 1, control: put(c.m, rights), controllen: uintptr(rights.length+7) &^ 7}
	c.add(unix.SYS_SENDMSG, statusFD, put(c.m, m), unix.MSG_NOSIGNAL).ok(unix.ETOOMANYREFS).demand(unsafe.Sizeof(r))
	c.add(unix.SYS_CLOSE_RANGE, sendFD, uintptr(sendFD+count-1), 0)
}

// receive takes descriptors from sbx, each with a message of its own, and puts
// them at borrowFD and above.
func (c *compiler) receive(count int) {
	if borrowFD+count > lowerFD {
		c.err = fmt.Errorf("cannot share the layer: there are more than %d mounts of it", lowerFD-borrowFD)
	}
	for i := range count {
		iov := [2]uintptr{put(c.m, [8]byte{}), 8}
		m := msghdr{iov: put(c.m, iov), iovlen: 1, control: c.header, controllen: 24}
		c.add(unix.SYS_RECVMSG, statusFD, put(c.m, m), unix.MSG_CMSG_CLOEXEC).demand(1)
		c.keep(slotReceived, borrowFD+i)
	}
}

// join enters namespaces of which sbx has sent descriptors.
func (c *compiler) join(s plan.Join) {
	c.receive(len(s.Kinds))
	for i := range s.Kinds {
		c.add(unix.SYS_SETNS, uintptr(borrowFD+i), 0)
	}
	c.add(unix.SYS_CLOSE_RANGE, borrowFD, uintptr(borrowFD+len(s.Kinds)-1), 0)
}

// apart takes a mount from sbx into a mount namespace of its own: to be allowed to do
// something with mounts is to own the namespace that one is in.
func (c *compiler) apart() {
	c.add(unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	c.add(unix.SYS_MOUNT, c.m.str("none"), c.m.str("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	c.receive(1)
}

// copyMount mounts what sbx sends over the root of a new mount namespace, because
// a detached mount cannot be copied, and sends copies.
func (c *compiler) copyMount(count int) {
	g := c.m
	c.apart()
	empty := g.str("")
	c.add(unix.SYS_MOVE_MOUNT, borrowFD, empty, at, g.str("/"), unix.MOVE_MOUNT_F_EMPTY_PATH)
	for range count {
		c.add(unix.SYS_OPEN_TREE, borrowFD, empty, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH).to(slotTree)
		c.keep(slotTree, sendFD)
		c.send(recordMount, 1)
	}
	c.add(unix.SYS_CLOSE, borrowFD)
}

// Copies turns one detached mount into several, which are its like, and closes it.
// Where this fails mount stays open: what a build can make fail for a while (clone(2),
// for want of processes) may work the next time. If the child has had it mounted
// already, that fails too.
func Copies(userns, mount, count int) ([]int, error) {
	mounts, err := fetch(plan.BuildCopy(count), count, userns, mount)
	if err == nil {
		unix.Close(mount)
	}
	return mounts, err
}

// fetch runs a plan without a command, which takes descriptors and sends others.
func fetch(p plan.Plan, count int, give ...int) (fds []int, err error) {
	process, err := Launch(p.Namespaces, nil)
	if err != nil {
		return nil, err
	}
	if err := process.Start(p); err != nil {
		return nil, err
	}
	err = process.Give(give...)
	control := make([]byte, controlRoom)
	for err == nil && len(fds) < count {
		var r record
		var more []int
		if r, more, err = process.message(0, control); err == nil && r.kind <= recordExit {
			process.last = &r
			break
		}
		fds = append(fds, more...)
	}
	if _, ended := process.Wait(nil); ended != nil {
		err = ended
	}
	if err == nil && len(fds) < count {
		err = errors.New("cannot have what was asked for: it is gone")
	}
	if err != nil {
		CloseAll(fds)
		return nil, err
	}
	return fds, nil
}

// controlRoom is room for the descriptors of a message.
const controlRoom = 64

// Give sends the child a descriptor that its plan takes (plan.Borrow, plan.Join). A
// child that has ended before is no error: Wait says why.
func (p *Process) Give(fds ...int) error {
	for _, fd := range fds {
		switch err := unix.Sendmsg(p.status, []byte{0}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL); err {
		case nil:
		case unix.EPIPE, unix.ECONNRESET:
			return nil
		default:
			return fmt.Errorf("cannot hand on a mount: %w", err)
		}
	}
	return nil
}

// Lent waits for what the plan lends. It fails where the setup has failed, which
// Wait explains. It may be called while another goroutine waits.
func (p *Process) Lent() (*Lent, error) {
	p.reading.Lock()
	defer p.reading.Unlock()
	l := &Lent{Network: map[int]int{}}
	control := make([]byte, controlRoom)
	for len(l.Namespaces) == 0 || len(l.Mounts) < len(p.plan.Lent()) {
		r, fds, err := p.message(0, control)
		switch {
		case err == nil && r.kind == recordNamespaces:
			l.Namespaces = fds
		case err == nil && r.kind == recordMount:
			l.Mounts = append(l.Mounts, fds...)
		case err == nil && r.kind == recordNetwork && len(fds) > 0:
			l.Network[int(r.index)] = fds[0]
			l.Held = append(l.Held, fds[1:]...)
		case err == nil:
			CloseAll(fds)
			p.last = &r
			err = errors.New("the sandbox has ended")
			fallthrough
		default:
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// message reads one message of the child's: io.EOF after the last. Without a buffer
// for control messages the kernel closes what comes with it.
func (p *Process) message(flags int, control []byte) (r record, fds []int, err error) {
	buf := unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r))
	for {
		n, m, _, _, err := unix.Recvmsg(p.status, buf, control, flags|unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECONNRESET || err == nil && n == 0:
			return r, nil, io.EOF
		case err != nil:
			return r, nil, err
		}
		if n != len(buf) {
			return r, nil, errors.New("internal error: the sandbox sends something else than records")
		}
		if m == 0 {
			return r, nil, nil
		}
		messages, err := unix.ParseSocketControlMessage(control[:m])
		if err == nil && len(messages) == 1 {
			fds, err = unix.ParseUnixRights(&messages[0])
		}
		return r, fds, err
	}
}
