package child

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/plan"
)

var errNoFilter = errors.New("internal error: a plan with an empty system call filter")

// Process is a started sandbox.
type Process struct {
	// PID is pid 1 of the sandbox, as the host sees it.
	PID    int
	status int
	prog   *Program
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

// Start clones the child. It must be called on a thread that lives as long as
// the sandbox shall: the kernel ties the child to the thread (PR_SET_PDEATHSIG
// in prctl(2)).
//
//	parent                               child (pid 1)
//	  clone ──────────────────────────►  descriptors
//	  newuidmap, newgidmap (ranges)      read barrier   (ranges only)
//	  write barrier ──────────────────►  … setup …
//	                                     clone ─────►  command: exec
//	  read status  ◄──── fault, or the command's status
//	  wait4        ◄──── exit; the kernel kills the rest
func (g *Program) Start() (*Process, error) {
	status, err := pipe()
	if err != nil {
		return nil, err
	}
	defer unix.Close(status[1])
	barrier, err := pipe()
	if err != nil {
		unix.Close(status[0])
		return nil, err
	}
	defer unix.Close(barrier[0])
	defer unix.Close(barrier[1])
	g.setup[0].arg[0] = uintptr(status[1])
	g.setup[1].arg[0] = uintptr(barrier[0])

	syscall.ForkLock.Lock()
	pid, errno := g.clone()
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(g)
	if errno != 0 {
		unix.Close(status[0])
		return nil, &CloneError{Errno: errno}
	}
	p := &Process{PID: int(pid), status: status[0], prog: g}
	if g.barrier {
		if err := p.mapIDs(barrier[1]); err != nil {
			p.Kill()
			p.Wait(nil)
			return nil, err
		}
	}
	return p, nil
}

// pipe returns a pipe above the descriptors that the child gives itself.
func pipe() ([2]int, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return p, fmt.Errorf("cannot make a pipe: %w", err)
	}
	for i, fd := range p {
		if fd >= 10 {
			continue
		}
		high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10)
		if err != nil {
			unix.Close(p[0])
			unix.Close(p[1])
			return p, fmt.Errorf("cannot make a pipe: %w", err)
		}
		unix.Close(fd)
		p[i] = high
	}
	return p, nil
}

// mapIDs writes the maps of a child that waits, and lets it go on.
func (p *Process) mapIDs(barrier int) error {
	for _, s := range p.prog.plan.Steps {
		if m, ok := s.(plan.MapIDs); ok {
			if err := idmap.Write(p.PID, m.UIDs, m.GIDs); err != nil {
				return err
			}
		}
	}
	_, err := unix.Write(barrier, []byte{1})
	return err
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
	var r record
	buf := unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r))
	n, err := readFull(p.status, buf)
	unix.Close(p.status)
	if ended != nil {
		ended()
	}
	var end Ending
	var own unix.WaitStatus
	for {
		_, e := unix.Wait4(p.PID, &own, unix.WALL, &end.Rusage)
		if e != unix.EINTR {
			break
		}
	}
	runtime.KeepAlive(p.prog)
	switch {
	case err != nil && err != io.EOF:
		return end, fmt.Errorf("cannot read the sandbox's status: %w", err)
	case n < len(buf):
		end.Status, end.Killed = own, true
		return end, nil
	case r.kind != recordExit:
		return end, p.prog.fault(r)
	}
	end.Status = unix.WaitStatus(r.status)
	for i, w := range p.prog.plan.Watch {
		if r.full&(1<<i) != 0 {
			end.Full = append(end.Full, w)
		}
	}
	return end, nil
}

func readFull(fd int, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, io.EOF
		default:
			n += m
		}
	}
	return n, nil
}
