package child

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// seed puts a file into the private home, where a build may have made any name: the
// way is walked, and the file is written beside its place and renamed, so that
// another run of the layer sees it whole. If the place has been taken meanwhile, what
// is there stays.
func (c *compiler) seed(s plan.Seed) {
	flags := uintptr(unix.RENAME_NOREPLACE)
	switch s.Have {
	case plan.HasSame, plan.HasOther:
		return
	case plan.HasEarlier:
		flags = 0
	}
	g := c.m
	dir := slotDir
	c.walkParents(s.Place, func(name string) {
		temporary := g.str(fmt.Sprintf(".sbx-seed-%08x", rand.Uint32()))
		c.add(unix.SYS_OPENAT, 0, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644).with(0, dir).to(slotFile)
		c.writeAll(s.Data)
		// EEXIST, EISDIR: taken meanwhile.
		c.add(unix.SYS_RENAMEAT2, 0, temporary, 0, g.str(name), flags).with(0, dir).with(2, dir).ok(unix.EEXIST, unix.EISDIR).onSuccess = 1
		c.add(unix.SYS_UNLINKAT, 0, temporary, 0).with(0, dir)
		c.add(unix.SYS_CLOSE).with(0, dir)
	})
}
