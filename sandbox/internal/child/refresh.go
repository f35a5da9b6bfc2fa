package child

import (
	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// refresh reconfigures the overlay that sbx sends, with the options that it has. The
// kernel then drops the names that it has cached, as far as nobody holds them
// (reconfigure_super in fs/super.c). Not mount(2) with MS_REMOUNT: that would set the
// flags of the mount too.
func (c *compiler) refresh() {
	c.apart()
	c.add(unix.SYS_FSPICK, borrowFD, c.m.str(""), unix.FSPICK_EMPTY_PATH|unix.FSPICK_CLOEXEC).to(slotFile)
	c.add(unix.SYS_FSCONFIG, 0, unix.FSCONFIG_CMD_RECONFIGURE, 0, 0, 0).with(0, slotFile)
	c.add(unix.SYS_CLOSE).with(0, slotFile)
	c.add(unix.SYS_CLOSE, borrowFD)
}

// Refresh has an overlay look at its lower directory again: names that the host has
// replaced, deleted or added are then what they are there, for every process that has
// the mount or a copy. What a process holds open stays as it was. userns owns the
// overlay. It takes some milliseconds, and longer the more the kernel has cached.
func Refresh(userns, mount int) error {
	p, err := Launch(plan.Namespaces{Shared: true}, nil)
	if err != nil {
		return err
	}
	if err := p.Start(plan.BuildRefresh()); err != nil {
		return err
	}
	err = p.Give(userns, mount)
	if _, ended := p.Wait(nil); ended != nil {
		err = ended
	}
	return err
}
