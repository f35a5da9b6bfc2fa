package overlay

import (
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// handle is a descriptor with several owners.
type handle struct {
	fd   int
	refs atomic.Int32
}

func newHandle(fd int) *handle {
	h := &handle{fd: fd}
	h.refs.Store(1)
	return h
}

func (h *handle) share() *handle {
	if h != nil {
		h.refs.Add(1)
	}
	return h
}

func (h *handle) release() {
	if h != nil && h.refs.Add(-1) == 0 {
		unix.Close(h.fd)
	}
}

// maxOpen bounds the descriptors of one chain. A build can nest directories
// deeper than RLIMIT_NOFILE, and deeper than PATH_MAX.
const maxOpen = 32

// chain is the way from a root to the directory that is being walked. Only the
// last levels are open; the way back up is a new way down from the root, checked
// at its end, because ".." leads wherever a build has moved the directory.
type chain struct {
	root   *handle
	levels []level
	flags  int // O_RDONLY or O_PATH
}

type level struct {
	name string
	stat Stat
	h    *handle // nil: closed for now
}

// newChain makes a chain that owns the descriptor of its root.
func newChain(root, flags int) *chain { return &chain{root: newHandle(root), flags: flags} }

// top is the directory at the end. The handle is the chain's: share what is kept.
func (c *chain) top() (*handle, error) {
	n := len(c.levels)
	if n == 0 {
		return c.root, nil
	}
	if c.levels[n-1].h == nil {
		if err := c.reopen(); err != nil {
			return nil, err
		}
	}
	return c.levels[n-1].h, nil
}

// reopen goes down from the root, and leaves the last levels open so that the
// next steps up need not do the same.
func (c *chain) reopen() error {
	first := max(0, len(c.levels)-maxOpen)
	names := make([]string, first+1)
	for i := range names {
		names[i] = c.levels[i].name
	}
	fd, err := OpenBeneath(c.root.fd, strings.Join(names, "/"), c.flags|unix.O_DIRECTORY)
	for i := first; ; i++ {
		if err != nil {
			return err
		}
		l := &c.levels[i]
		l.h.release()
		l.h = newHandle(fd)
		st, err1 := StatFd(fd)
		switch {
		case err1 != nil:
			return err1
		case !st.same(l.stat):
			return errMoved
		case i == len(c.levels)-1:
			return nil
		}
		fd, err = openBeneath(fd, c.levels[i+1].name, c.flags|unix.O_DIRECTORY)
	}
}

// push goes down to a directory and says what it is.
func (c *chain) push(name string) (Stat, error) {
	top, err := c.top()
	if err != nil {
		return Stat{}, err
	}
	fd, err := openBeneath(top.fd, name, c.flags|unix.O_DIRECTORY)
	if err != nil {
		return Stat{}, err
	}
	st, err := StatFd(fd)
	if err != nil {
		unix.Close(fd)
		return Stat{}, err
	}
	c.levels = append(c.levels, level{name, st, newHandle(fd)})
	if i := len(c.levels) - 1 - maxOpen; i >= 0 {
		c.levels[i].h.release()
		c.levels[i].h = nil
	}
	return st, nil
}

func (c *chain) pop() {
	n := len(c.levels) - 1
	c.levels[n].h.release()
	c.levels[n] = level{}
	c.levels = c.levels[:n]
}

func (c *chain) close() {
	for len(c.levels) > 0 {
		c.pop()
	}
	c.root.release()
}
