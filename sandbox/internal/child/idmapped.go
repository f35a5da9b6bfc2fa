package child

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/plan"
)

// IdmappedMounts makes the mounts that a plan wants idmapped, as descriptors in
// ascending order. It takes CAP_SYS_ADMIN over the file systems, so real root,
// and file systems that can do it (mount_setattr(2), MOUNT_ATTR_IDMAP; below an
// overlay since Linux 5.19).
func IdmappedMounts(want []plan.Idmapped, uids, gids idmap.Map) (fds []int, err error) {
	if len(want) == 0 {
		return nil, nil
	}
	defer func() {
		if err != nil {
			CloseAll(fds)
		}
	}()
	// The mapping is given as a user namespace, and one needs a process.
	holder, err := Launch(plan.Namespaces{}, nil)
	if err != nil {
		return nil, err
	}
	defer holder.Abandon()
	if err := idmap.Write(holder.PID, uids, gids); err != nil {
		return nil, err
	}
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", holder.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the user namespace: %w", err)
	}
	defer unix.Close(ns)
	for _, w := range want {
		fd, err := idmapped(w, ns)
		if err != nil {
			return fds, fmt.Errorf("%q: %w", w.Source, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func idmapped(w plan.Idmapped, ns int) (int, error) {
	// As in compiler.source: a symlink on the way has been put there since.
	src, err := unix.Openat2(unix.AT_FDCWD, w.Source, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return -1, err
	}
	defer unix.Close(src)
	low, err := unix.OpenTree(src, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1, err
	}
	// Above what the child gives itself, and so after each other.
	fd, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, 200)
	unix.Close(low)
	if err != nil {
		return -1, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE, Userns_fd: uint64(ns)}
	if w.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
