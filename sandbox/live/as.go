package live

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// as makes something in the overlay. A caller that is root has no id there, if its sandbox
// has ids that nobody has: the thread takes those of the overlay's root for it, and so is
// without root's capabilities over files, too.
func (m *mirror) as(act func() error) error {
	if os.Geteuid() != 0 || m.uid == 0 {
		return act()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gid, _ := unix.SetfsgidRetGid(m.gid)
	uid, _ := unix.SetfsuidRetUid(m.uid)
	defer unix.Setfsgid(gid)
	defer unix.Setfsuid(uid)
	return act()
}

func (m *mirror) rename(from int, name string, to int, as string, flags uint) error {
	return m.as(func() error { return unix.Renameat2(from, name, to, as, flags) })
}

func (m *mirror) link(from int, name string, to int, as string) error {
	return m.as(func() error { return unix.Linkat(from, name, to, as, 0) })
}

func (m *mirror) mkdir(dir int, name string) error {
	return m.as(func() error { return unix.Mkdirat(dir, name, overlay.Phantom) })
}
