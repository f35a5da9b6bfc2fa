package relay

import (
	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/nonblock"
)

// pipe is a pipe(2) through which splice(2) moves bytes from one socket to another
// without copying them.
type pipe struct {
	r, w int
	n    int // bytes in it
}

// pipes are those that are not in use. A user has a quota of pipe buffers (pipe(7),
// pipe-user-pages-soft), so there are few, and who gets none reads and writes.
type pipes struct {
	free []*pipe
	made int
}

const (
	maxPipes = 16
	pipeSize = 256 << 10
)

// take gives a pipe, or nil.
func (p *pipes) take() *pipe {
	if n := len(p.free); n > 0 {
		t := p.free[n-1]
		p.free = p.free[:n-1]
		return t
	}
	if p.made >= maxPipes {
		return nil
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	p.made++
	unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize) // else it has 64 KiB
	return &pipe{r: fds[0], w: fds[1]}
}

// give takes a pipe back. One that is not empty must not be another's.
func (p *pipes) give(t *pipe) {
	if t.n == 0 {
		p.free = append(p.free, t)
		return
	}
	p.made--
	t.close()
}

func (p *pipes) close() {
	for _, t := range p.free {
		t.close()
	}
	p.free = nil
}

func (t *pipe) close() {
	unix.Close(t.r)
	unix.Close(t.w)
}

// fill moves bytes from a socket into the pipe, which is empty.
func (t *pipe) fill(fd int) (int, error) {
	n, err := nonblock.Splice(fd, t.w, pipeSize)
	t.n += n
	return n, err
}

// drain moves bytes from the pipe to a socket.
func (t *pipe) drain(fd int) error {
	n, err := nonblock.Splice(t.r, fd, t.n)
	t.n -= n
	if err == nil && n == 0 {
		return unix.EPIPE
	}
	return err
}
