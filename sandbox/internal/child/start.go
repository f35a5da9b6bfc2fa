package child

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/plan"
)

var errNoFilter = errors.New("internal error: a plan with an empty system call filter")

// Process is a sandbox: first launched, then started.
type Process struct {
	// PID is pid 1 of the sandbox, as the host sees it.
	PID        int
	status     int        // the socket to it
	reading    sync.Mutex // held by who reads from it
	last       *record    // what Lent has read of the end
	memory     *memory
	table      *table
	launched   []plan.Step
	begin      int // the calls of compiler.begin
	parts      int // what the launched steps send of plan.Plan.Parts
	locked     bool
	given      []int
	namespaces plan.Namespaces
	plan       plan.Plan
}

// Ending is how a sandbox ended.
type Ending struct {
	// Status is the command's.
	Status unix.WaitStatus
	// Killed says that pid 1 died of a signal before the command ended, and
	// Status is its own.
	Killed bool
	// Full are the tmpfs mounts of Plan.Watch that are full.
	Full []string
	// Rusage is what the sandbox used (getrusage(2)).
	Rusage unix.Rusage
}

// Launch clones a child that does the first steps of a plan that is still being
// made, and then waits for the rest. Making namespaces takes the kernel as long
// as finding out what the run needs takes sbx.
//
// The kernel ties the child to the thread that cloned it (PR_SET_PDEATHSIG in
// prctl(2)). The main thread lives as long as the process; on any other the
// calling goroutine stays locked to it until Wait has returned, and must call
// Wait itself. It is quicker on the main thread: a locked goroutine costs the
// scheduler two context switches at every system call that takes a while.
//
//	parent                               child (pid 1)
//	  clone ──────────────────────────►  the first steps
//	  probe, plan, compile               …
//	  newuidmap, newgidmap (ranges)      futex wait
//	  futex wake ─────────────────────►  the steps that do without the layer
//	  make the layer ready               …
//	  futex wake ─────────────────────►  the other steps
//	  take signals in hand               …
//	  futex wake ─────────────────────►  vfork ─────►  command: exec
//	  read status  ◄──── fault, or the command's status
//	  wait4        ◄──── exit; the kernel kills the rest
//
// given are descriptors that the child keeps until the end of its setup, in
// ascending order.
func Launch(n plan.Namespaces, first []plan.Step, given ...int) (*Process, error) {
	if p, err := adopt(n, first, given); p != nil || err != nil {
		return p, err
	}
	m, err := newMemory()
	if err != nil {
		return nil, fmt.Errorf("cannot allocate memory for the sandbox: %w", err)
	}
	p := &Process{memory: m, launched: first, namespaces: n, given: given}
	status, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer func() { unix.Close(status[1]) }()
	p.status = status[0]
	t := &list[table](m, 1)[0]
	t.signals = ^uint64(0)
	t.released = releasedFirst
	p.table = t
	c := p.compiler()
	c.begin(status[1], given)
	c.frame()
	if !n.Shared && !n.User {
		c.sendNamespaces()
	}
	p.begin = len(c.ops)
	c.steps(first)
	p.parts = c.parts
	t.first = c.take()
	if c.err != nil {
		p.release()
		return nil, c.err
	}
	flags := uintptr(unix.SIGCHLD)
	switch {
	case n.Shared:
	case n.User:
		flags |= unix.CLONE_NEWUSER
	default:
		flags |= unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	}
	if n.Net {
		flags |= unix.CLONE_NEWNET
	}
	p.locked = unix.Gettid() != unix.Getpid()
	if p.locked {
		runtime.LockOSThread()
	}
	syscall.ForkLock.Lock()
	pid, errno := t.clone(flags, m.stack(), entryOf(childMain), heapAddress())
	syscall.ForkLock.Unlock()
	if errno != 0 {
		p.unlock()
		p.release()
		return nil, &CloneError{Errno: syscall.Errno(errno)}
	}
	p.PID = int(pid)
	if !p.locked && t.cloner != uintptr(unix.Getpid()) {
		// The scheduler moved the goroutine off the main thread in between, as
		// it does on a machine with much to do; the child must not hang on a
		// thread that may end. To wait for it is to wait until the socket has no
		// writer, of which this process must not be one.
		unix.Close(status[1])
		status[1] = -1
		p.Abandon()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		return Launch(n, first, given...)
	}
	return p, nil
}

func (p *Process) compiler() *compiler {
	c := newCompiler(p.memory)
	c.header = uintptr(unsafe.Pointer(&p.table.header))
	return c
}

// adopt takes over what sbx_start has begun, if that is what is wanted now; it
// returns nil where there is nothing.
func adopt(n plan.Namespaces, first []plan.Step, given []int) (*Process, error) {
	e := early
	early.pid = 0
	if e.pid == 0 {
		return nil, nil
	}
	unix.Close(int(e.status[1]))
	for {
		if _, err := unix.Wait4(int(e.pid), nil, unix.WALL, nil); err != unix.EINTR {
			break
		}
	}
	all := unsafe.Slice(*(**byte)(unsafe.Pointer(&e.memory)), memorySize)
	t := (*table)(unsafe.Pointer(&all[0]))
	p := &Process{
		PID: int(t.clonePID), status: int(e.status[0]), memory: &memory{all: all, rest: all[earlySize:]}, table: t,
		launched: first, namespaces: n,
	}
	switch {
	case t.cloneErrno != 0:
		p.release()
		return nil, &CloneError{Errno: syscall.Errno(t.cloneErrno)}
	case t.clonePID == 0: // someone has killed it
		p.release()
		return nil, nil
	case !n.Net || len(given) > 0:
		p.Abandon()
		return nil, nil
	}
	c := p.compiler()
	c.frame()
	c.sendNamespaces()
	p.begin = len(c.ops)
	c.steps(first)
	p.parts = c.parts
	t.first = c.take()
	if c.err != nil {
		p.Abandon()
		return nil, c.err
	}
	t.release(releasedFirst)
	return p, nil
}

func (p *Process) unlock() {
	if p.locked {
		runtime.UnlockOSThread()
	}
}

// release gives back what Launch has taken.
func (p *Process) release() {
	unix.Close(p.status)
}

// Fits says whether the plan begins as the child has begun. If it does not, the
// child must be abandoned and another launched.
func (p *Process) Fits(next plan.Plan) bool {
	return p.namespaces == next.Namespaces && plan.HasPrefix(next.Steps, p.launched)
}

// Abandon ends a child that was launched and not started.
func (p *Process) Abandon() {
	p.Kill()
	p.Wait(nil)
}

// Start lets a launched child go on with the plan, which must fit it. before is as in
// Go.
func (p *Process) Start(next plan.Plan, before ...func()) error {
	if err := p.Advance(next); err != nil {
		return err
	}
	p.Go(before...)
	return nil
}

// Advance lets it go on as far as the plan does not touch the layer, and makes the
// rest ready. Go or Abandon must follow, unless there is an error.
func (p *Process) Advance(next plan.Plan) error {
	p.plan = next
	c := p.compiler()
	c.step, c.given, c.parts = len(p.launched), p.given, p.parts
	outside := max(next.Outside(), len(p.launched))
	c.steps(next.Steps[len(p.launched):outside])
	p.table.outside = c.take()
	if c.err == nil {
		c.err = p.mapIDs()
	}
	if c.err == nil {
		p.table.release(releasedOutside)
	}
	c.steps(next.Steps[outside:])
	c.end()
	p.table.setup = c.take()
	c.command(p.table, next)
	p.table.command = c.take()
	p.table.watch = c.m.strs(next.Watch, list[uintptr](c.m, len(next.Watch)))
	if c.err == nil && len(c.m.rest) < 1<<20 {
		c.err = &ExecError{Command: next.Exec.Args[0], Errno: syscall.E2BIG}
	}
	if c.err != nil {
		p.Abandon()
	}
	return c.err
}

// Go lets it go on to the end. before is what must be done before the command is
// executed; meanwhile the child does the steps that are left.
func (p *Process) Go(before ...func()) {
	p.table.release(releasedSetup)
	for _, f := range before {
		f()
	}
	p.table.release(releasedCommand)
}

// mapIDs writes maps that are more than one line: the child, which waits,
// cannot.
func (p *Process) mapIDs() error {
	for _, s := range p.plan.Steps {
		if m, ok := s.(plan.MapIDs); ok && !ownMap(m) {
			return idmap.Write(p.PID, m.UIDs, m.GIDs)
		}
	}
	return nil
}

// socketpair returns a pair above the descriptors that the child gives itself. It
// is of sequenced packets: a message is a record, whole, with what comes with it.
func socketpair() ([2]int, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return p, fmt.Errorf("cannot make a pair of sockets: %w", err)
	}
	for i, fd := range p {
		if fd >= highFD {
			continue
		}
		high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, highFD)
		if err != nil {
			unix.Close(p[0])
			unix.Close(p[1])
			return p, fmt.Errorf("cannot make a pair of sockets: %w", err)
		}
		unix.Close(fd)
		p[i] = high
	}
	return p, nil
}

// Kill kills the sandbox: pid 1, and with it every process inside. It must not
// be called after Wait has returned.
func (p *Process) Kill() { unix.Kill(p.PID, unix.SIGKILL) }

// Signal sends a signal that pid 1 passes on to the command. It must not be
// called after Wait has returned.
func (p *Process) Signal(s unix.Signal) { unix.Kill(p.PID, s) }

// Wait waits until the command has ended and everything in the sandbox is
// gone. A setup that failed is a *StepError or an *ExecError. ended, if not nil,
// is called when the pid must not be used any more.
func (p *Process) Wait(ended func()) (Ending, error) {
	defer p.release()
	defer p.unlock()
	// Not reaped yet, so that the pid stays this process's.
	for unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT|unix.WALL, nil) == unix.EINTR {
	}
	if ended != nil {
		ended()
	}
	var end Ending
	var own unix.WaitStatus
	for {
		if _, err := unix.Wait4(p.PID, &own, unix.WALL, &end.Rusage); err != unix.EINTR {
			break
		}
	}
	// All writers are gone: there is a record of the end, or nothing.
	p.reading.Lock()
	defer p.reading.Unlock()
	for p.last == nil {
		r, _, err := p.message(unix.MSG_DONTWAIT, nil)
		if err != nil {
			break
		}
		if r.kind <= recordExit {
			p.last = &r
		}
	}
	if p.last == nil {
		if own.Exited() {
			return end, errors.New("cannot start the sandbox: it ended without a word")
		}
		end.Status, end.Killed = own, true
		return end, nil
	}
	r := *p.last
	if r.kind != recordExit {
		return end, p.fault(r)
	}
	end.Status = unix.WaitStatus(r.status)
	for i, w := range p.plan.Watch {
		if r.full&(1<<i) != 0 {
			end.Full = append(end.Full, w)
		}
	}
	return end, nil
}
