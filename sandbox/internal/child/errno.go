package child

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// task says what a step was about, after "cannot".
func task(s plan.Step) string {
	switch s := s.(type) {
	case starting:
		return "start the command"
	case plan.MapIDs:
		return "map the user ids of the sandbox"
	case plan.SetIDs:
		return fmt.Sprintf("become uid %d in the sandbox", s.UID)
	case plan.Ambient:
		return "keep capabilities over the files of the layer"
	case plan.NewRoot:
		return "mount the sandbox's root"
	case plan.Stage:
		return fmt.Sprintf("show %q writable", s.Source)
	case plan.Open:
		return fmt.Sprintf("use the layer %q", s.Source)
	case plan.Seal:
		return "make the host's root read-only"
	case plan.Device:
		return fmt.Sprintf("show the device %q", s.Source)
	case plan.MkDir:
		return fmt.Sprintf("create the directory %q in the sandbox", s.Path)
	case plan.Symlink:
		return fmt.Sprintf("create the symlink %q in the sandbox", s.Place.Path)
	case plan.WriteFile:
		return fmt.Sprintf("create the file %q in the sandbox", s.Path)
	case plan.Seed:
		return fmt.Sprintf("put %q into the private home", s.Place.Path)
	case plan.Bind:
		if s.Source != s.Place.Path {
			return fmt.Sprintf("show %q at %q", s.Source, s.Place.Path)
		}
		return fmt.Sprintf("show %q", s.Source)
	case plan.Writable:
		return fmt.Sprintf("keep %q writable", s.Path)
	case plan.ReadOnly:
		return fmt.Sprintf("make %q read-only", s.Path)
	case plan.Overlay:
		if s.Upper == "" {
			return fmt.Sprintf("show %q", s.Place.Path)
		}
		if strings.HasPrefix(s.Place.Path, plan.Host+"/") {
			return fmt.Sprintf("overlay %q", s.Lower[0]) // $HOME, for its caches
		}
		return fmt.Sprintf("overlay %q", s.Place.Path)
	case plan.ProbeUpper:
		return "use the layer"
	case plan.Borrow:
		return "share the layer with another run"
	case plan.Join:
		return "join the run"
	case plan.Copy:
		return "copy a mount of the layer"
	case plan.Pick:
		return "show what has changed on the host"
	case plan.Mask:
		return fmt.Sprintf("hide %q", s.Place.Path)
	case plan.Proc:
		return "mount /proc"
	case plan.Sysfs:
		return "mount /sys"
	case plan.Devpts:
		return "mount /dev/pts"
	case plan.LeaveHost:
		return "detach the host's root"
	case plan.ChangeDir:
		return fmt.Sprintf("enter %q", s.Path)
	case plan.Keyring:
		return "make a session keyring"
	case plan.Interface:
		return "make the sandbox's network interface"
	case plan.Listen:
		return fmt.Sprintf("listen at %s in the sandbox", s.Addr)
	case plan.Limits:
		return "set the resource limits"
	case plan.Filter:
		return "install the system call filter"
	}
	return "do " + s.String()
}

// meaning says what the kernel means by an errno of this call in this step, or
// "" where strerror(3) says it.
func meaning(s plan.Step, call string, errno syscall.Errno) string {
	switch step := s.(type) {
	case plan.MapIDs:
		if errno == unix.EPERM {
			return "the kernel lets this process create a user namespace but not use it"
		}
		if errno == 0 {
			return "the id maps were not written"
		}
	case plan.Overlay:
		switch {
		case errno == unix.EINVAL && step.Upper == "":
			return "the kernel's overlayfs refuses the directory"
		case errno == unix.EINVAL:
			return "the layer's file system cannot hold an overlay's upper directory, or something is mounted below the directory"
		case errno == unix.EBUSY:
			return "another run still has the layer mounted"
		case errno == unix.ENODEV:
			return "this kernel has no overlayfs"
		case errno == unix.EPERM && call == "mount":
			return "this kernel does not let a user mount an overlay; it takes Linux 5.11"
		case errno == unix.ELOOP:
			return "overlays are stacked too deep"
		case errno == unix.ESTALE:
			return "the layer belongs to another directory"
		}
	case plan.ProbeUpper:
		if errno == unix.EBUSY {
			return "a run that was killed still has it mounted"
		}
	case plan.Proc:
		if errno == unix.EPERM {
			return "parts of the host's /proc are hidden, as in a container; the kernel then allows no new one"
		}
	case plan.ChangeDir:
		switch errno {
		case unix.ENOENT:
			return "the directory is not in the sandbox, or the layer has deleted it"
		case unix.ENOTDIR:
			return "the layer has something else there"
		case unix.EACCES:
			return "the layer's permissions forbid it"
		}
	case plan.Keyring:
		if errno == unix.EDQUOT {
			return "the quota of keys of this user is used up, see /proc/key-users"
		}
	case plan.Seal, plan.ReadOnly:
		if errno == unix.ENOSYS {
			return "this kernel is older than Linux 5.12"
		}
	case plan.Interface:
		switch {
		case errno == unix.EOPNOTSUPP || errno == unix.EAFNOSUPPORT:
			return "the device /dev/net/tun cannot be opened, and this kernel has no veth or no packet sockets"
		case errno == unix.EPERM || errno == unix.EACCES:
			return "this system does not let a network namespace have an interface"
		}
	case plan.Listen:
		if errno == unix.EADDRINUSE {
			return "the port is named twice"
		}
	case plan.Filter:
		if errno == unix.EINVAL || errno == unix.ENOSYS {
			return "this kernel has no seccomp filters"
		}
	}
	if errno == unix.ELOOP && call == "openat2" {
		return "a name on its path has become a symlink"
	}
	if errno == unix.EBADF && call == "dup3" {
		return "the limit on open files is too low"
	}
	if errno == unix.ENOSPC && call == "mount" {
		return "the limit on mounts is reached, see /proc/sys/fs/mount-max"
	}
	if errno == unix.EROFS && (call == "mkdirat" || call == "mknodat") {
		return "its mount point lies below a read-only directory and does not exist there"
	}
	if errno == unix.EXDEV && call == "renameat2" {
		return "a directory of the tree is in the way"
	}
	return ""
}

// callName is the name of a system call in the table.
func callName(nr uintptr) string {
	for _, c := range calls {
		if c.nr == nr {
			return c.name
		}
	}
	return fmt.Sprintf("syscall %d", nr)
}

var calls = [...]struct {
	nr   uintptr
	name string
}{
	{unix.SYS_CAPSET, "capset"}, {unix.SYS_CLONE, "clone"}, {unix.SYS_CHDIR, "chdir"}, {unix.SYS_CLOSE, "close"}, {unix.SYS_CLOSE_RANGE, "close_range"},
	{unix.SYS_DUP3, "dup3"}, {unix.SYS_FCNTL, "fcntl"}, {unix.SYS_FSPICK, "fspick"}, {unix.SYS_IOCTL, "ioctl"}, {unix.SYS_KEYCTL, "keyctl"},
	{unix.SYS_LANDLOCK_CREATE_RULESET, "landlock_create_ruleset"}, {unix.SYS_LANDLOCK_RESTRICT_SELF, "landlock_restrict_self"},
	{unix.SYS_MKDIRAT, "mkdirat"}, {unix.SYS_MKNODAT, "mknodat"}, {unix.SYS_MOUNT, "mount"}, {unix.SYS_MOUNT_SETATTR, "mount_setattr"},
	{unix.SYS_MOVE_MOUNT, "move_mount"}, {unix.SYS_OPENAT, "openat"}, {unix.SYS_OPENAT2, "openat2"}, {unix.SYS_OPEN_TREE, "open_tree"},
	{unix.SYS_PIVOT_ROOT, "pivot_root"}, {unix.SYS_PPOLL, "ppoll"}, {unix.SYS_PRCTL, "prctl"}, {unix.SYS_PRLIMIT64, "prlimit"},
	{unix.SYS_READ, "read"}, {unix.SYS_BIND, "bind"}, {unix.SYS_LISTEN, "listen"}, {unix.SYS_RECVFROM, "recvfrom"}, {unix.SYS_RECVMSG, "recvmsg"}, {unix.SYS_SENDTO, "sendto"}, {unix.SYS_SETSOCKOPT, "setsockopt"}, {unix.SYS_SHUTDOWN, "shutdown"},
	{unix.SYS_SENDMSG, "sendmsg"}, {unix.SYS_SETNS, "setns"}, {unix.SYS_UNSHARE, "unshare"}, {unix.SYS_RENAMEAT2, "renameat2"}, {unix.SYS_RT_SIGACTION, "rt_sigaction"}, {unix.SYS_RT_SIGPROCMASK, "rt_sigprocmask"},
	{unix.SYS_SECCOMP, "seccomp"}, {unix.SYS_SETGROUPS, "setgroups"}, {unix.SYS_SETHOSTNAME, "sethostname"}, {unix.SYS_SETRESGID, "setresgid"},
	{unix.SYS_SETRESUID, "setresuid"}, {unix.SYS_SETSID, "setsid"}, {unix.SYS_SOCKET, "socket"}, {unix.SYS_SYMLINKAT, "symlinkat"},
	{unix.SYS_UMASK, "umask"}, {unix.SYS_UMOUNT2, "umount2"}, {unix.SYS_UNLINKAT, "unlinkat"}, {unix.SYS_WRITE, "write"},
}
