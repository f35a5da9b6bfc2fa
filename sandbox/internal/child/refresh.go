package child

import (
	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// pick sends sbx what fspick(2) gives of the mount that sbx sends.
func (c *compiler) pick() {
	c.apart()
	c.add(unix.SYS_FSPICK, borrowFD, c.m.str(""), unix.FSPICK_EMPTY_PATH|unix.FSPICK_CLOEXEC).to(slotFile)
	c.keep(slotFile, sendFD)
	c.send(recordMount, 1)
	c.add(unix.SYS_CLOSE, borrowFD)
}

// Overlay is an overlay that can be refreshed.
type Overlay struct{ fd int }

// Pick picks the overlay of a mount, of which userns is the owner. The overlay lives
// until Close, whatever becomes of its mounts. That takes as long as a short-lived
// process; Refresh takes a tenth of a millisecond.
func Pick(userns, mount int) (*Overlay, error) {
	fds, err := fetch(plan.BuildPick(), 1, userns, mount)
	if err != nil {
		return nil, err
	}
	return &Overlay{fds[0]}, nil
}

// Refresh has the overlay look at its lower directory again: names that the host has
// replaced, deleted or added are then what they are there, for every process that has
// a mount of it. What a process holds open stays as it was. It takes longer the more
// the kernel has cached.
//
// It reconfigures the overlay with the options that it has (fsconfig(2)), upon which
// the kernel drops the names that nobody holds (reconfigure_super in fs/super.c).
// Whoever made the owning user namespace may do that. Not mount(2) with MS_REMOUNT,
// which would set the flags of the mount too.
func (o *Overlay) Refresh() error { return unix.FsconfigReconfigure(o.fd) }

// Close lets go of the overlay.
func (o *Overlay) Close() { unix.Close(o.fd) }
