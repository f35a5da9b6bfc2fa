package main

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keep holds what the kernel is given addresses of.
var keep [][]byte

func pointer(b []byte) uintptr {
	keep = append(keep, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

func text(s string) uintptr { return pointer(append([]byte(s), 0)) }

func call(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

// calls are system calls with arguments that work, or, where working would
// harm the machine, with ones that the kernel refuses with something else than
// EPERM and ENOSYS.
var calls = map[string]func() error{
	"io_uring_setup": func() error { return call(unix.SYS_IO_URING_SETUP, 4, pointer(make([]byte, 256))) },
	"bpf": func() error {
		return call(unix.SYS_BPF, 0, pointer([]byte{1, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}), 20)
	},
	"perf_event_open": func() error {
		return call(unix.SYS_PERF_EVENT_OPEN, pointer(perfAttr()), 0, ^uintptr(0), ^uintptr(0), 0)
	},
	"userfaultfd": func() error { return call(unix.SYS_USERFAULTFD, 1) }, // UFFD_USER_MODE_ONLY
	"keyctl":      func() error { return call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(3), 1) },
	"add_key": func() error {
		return call(unix.SYS_ADD_KEY, text("user"), text("sbx-victim"), text("x"), 1, ^uintptr(1))
	},
	"request_key":   func() error { return call(unix.SYS_REQUEST_KEY, text("user"), text("sbx-canary"), 0, 0) },
	"unshare_user":  func() error { return call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER) },
	"unshare_net":   func() error { return call(unix.SYS_UNSHARE, unix.CLONE_NEWNET) },
	"unshare_ns":    func() error { return call(unix.SYS_UNSHARE, unix.CLONE_NEWNS) },
	"unshare_time":  func() error { return call(unix.SYS_UNSHARE, unix.CLONE_NEWTIME) },
	"clone_user":    func() error { return clone(unix.CLONE_NEWUSER) },
	"clone_high":    func() error { return clone(1<<32 | unix.CLONE_NEWUSER) },
	"clone3_user":   func() error { return clone3(unix.CLONE_NEWUSER) },
	"setns_pidfd":   setnsPidfd,
	"chroot":        func() error { return unix.Chroot("/tmp") },
	"mount_tmpfs":   func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
	"mount_bind":    func() error { return unix.Mount("/usr", "/tmp", "", unix.MS_BIND, "") },
	"remount_usr":   func() error { return unix.Mount("none", "/usr", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
	"remount_root":  func() error { return unix.Mount("none", "/", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
	"mount_private": func() error { return unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
	"mount_shared":  func() error { return unix.Mount("none", "/", "", unix.MS_REC|unix.MS_SHARED, "") },
	"umount_sys":    func() error { return unix.Unmount("/proc/sys", unix.MNT_DETACH) },
	"umount_tree":   func() error { return unix.Unmount(workingDir(), unix.MNT_DETACH) },
	"umount_proc":   func() error { return unix.Unmount("/proc", unix.MNT_DETACH) },
	"pivot_root":    func() error { return unix.PivotRoot("/tmp", "/tmp") },
	"mount_setattr": func() error {
		return unix.MountSetattr(unix.AT_FDCWD, "/usr", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
	},
	"open_tree":         func() error { _, err := unix.OpenTree(unix.AT_FDCWD, "/usr", unix.OPEN_TREE_CLONE); return err },
	"fsopen":            func() error { _, err := unix.Fsopen("tmpfs", 0); return err },
	"fspick":            func() error { _, err := unix.Fspick(unix.AT_FDCWD, "/usr", 0); return err },
	"move_mount":        func() error { return unix.MoveMount(unix.AT_FDCWD, "/proc/sys", unix.AT_FDCWD, "/tmp", 0) },
	"open_by_handle_at": openByHandle,
	"fanotify_init":     func() error { _, err := unix.FanotifyInit(unix.FAN_REPORT_FID, 0); return err },
	"sethostname":       func() error { return unix.Sethostname([]byte("pwned")) },
	"reboot":            func() error { return call(unix.SYS_REBOOT, 0, 0, 0, 0) }, // EINVAL: no magic
	"swapon":            func() error { return call(unix.SYS_SWAPON, text("/nonexistent"), 0) },
	"acct":              func() error { return call(unix.SYS_ACCT, text("/nonexistent")) },
	"syslog":            func() error { return call(unix.SYS_SYSLOG, 3, pointer(make([]byte, 64)), 64) },
	"init_module":       func() error { return call(unix.SYS_INIT_MODULE, pointer(make([]byte, 64)), 64, text("")) },
	"kexec_load":        func() error { return call(unix.SYS_KEXEC_LOAD, 0, 17, 0, 0) },
	"settimeofday": func() error {
		return call(unix.SYS_SETTIMEOFDAY, pointer([]byte{0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127}), 0)
	},
	"quotactl":      func() error { return call(unix.SYS_QUOTACTL, 0x80000200, text("/nonexistent"), 0, 0) },
	"vhangup":       func() error { return call(unix.SYS_VHANGUP) },
	"personality":   func() error { return call(unix.SYS_PERSONALITY, 0x0400000) }, // READ_IMPLIES_EXEC
	"setuid_root":   func() error { return call(unix.SYS_SETRESUID, 0, 0, 0) },
	"setgroups":     func() error { return call(unix.SYS_SETGROUPS, 0, 0) },
	"capset_all":    capsetAll,
	"keepcaps":      keepCaps,
	"setsecurebits": func() error { return unix.Prctl(unix.PR_SET_SECUREBITS, 0, 0, 0, 0) },
	"clear_nnp":     func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) },
}

// sys NAME
func sys(args []string) error {
	f := calls[args[0]]
	if f == nil {
		println("victim: there is no call", args[0])
		os.Exit(2)
	}
	return f()
}

func workingDir() string { d, _ := os.Getwd(); return d }

// perfAttr counts the own process's clock: struct perf_event_attr.
func perfAttr() []byte {
	b := make([]byte, 128)
	b[0], b[4] = unix.PERF_TYPE_SOFTWARE, 128
	b[40] = 1<<5 | 1<<6 // exclude_kernel, exclude_hv
	return b
}

// clone makes a process that ends at once. It shares nothing, and a copy of a
// Go program may call exit(2).
func clone(flags uintptr) error {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	return child(pid, errno)
}

func clone3(flags uint64) error {
	// struct clone_args, first version: 64 bytes; exit_signal is the fifth.
	args := [8]uint64{flags, 0, 0, 0, uint64(unix.SIGCHLD)}
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), 64, 0, 0, 0, 0)
	return child(pid, errno)
}

func child(pid uintptr, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	unix.Wait4(int(pid), nil, 0, nil)
	return nil
}

// setnsPidfd joins the namespaces of itself, which is refused for no other
// reason than a filter.
func setnsPidfd() error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	return unix.Setns(fd, unix.CLONE_NEWUTS)
}

// openByHandle asks for a handle and opens the file by it.
func openByHandle() error {
	h, mount, err := unix.NameToHandleAt(unix.AT_FDCWD, "/usr", 0)
	if err != nil {
		return err
	}
	_ = mount
	fd, err := unix.Open("/usr", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	_, err = unix.OpenByHandleAt(fd, h, unix.O_RDONLY)
	return err
}

// capsetAll asks for every capability.
// keepCaps has capabilities survive a change of uid, and takes one.
func keepCaps() error {
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return nil // ping(8) ends then
	}
	if uid := unix.Getuid(); call(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)) != nil {
		return nil
	}
	return capsetAll()
}

func capsetAll() error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	all := [2]unix.CapUserData{{Effective: 1 << 21, Permitted: 1 << 21}}
	return unix.Capset(&h, &all[0])
}

// snapshot DIR NAME: a second name of a btrfs subvolume, in the working directory.
func snapshot(args []string) error {
	source, err := unix.Open(args[0], unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	here, err := unix.Open(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	request := make([]byte, 4096) // struct btrfs_ioctl_vol_args
	binary.NativeEndian.PutUint64(request, uint64(source))
	copy(request[8:], args[1])
	const snapCreate = 0x50009401 // BTRFS_IOC_SNAP_CREATE
	return call(unix.SYS_IOCTL, uintptr(here), snapCreate, pointer(request))
}

// shmget, semget, msgget KEY: a System V object that exists.
func shmget(args []string) error { return call(unix.SYS_SHMGET, uintptr(number(args[0])), 0, 0) }
func semget(args []string) error { return call(unix.SYS_SEMGET, uintptr(number(args[0])), 0, 0) }
func msgget(args []string) error { return call(unix.SYS_MSGGET, uintptr(number(args[0])), 0) }

// mqopen NAME FLAGS: a POSIX message queue.
func mqOpen(args []string) error {
	return call(unix.SYS_MQ_OPEN, text(args[0]), uintptr(number(args[1])), 0o600, 0)
}

// keys: reads the key sbx-canary, wherever the caller's keyrings have it.
func keys([]string) error {
	id, _, errno := unix.Syscall6(unix.SYS_KEYCTL, unix.KEYCTL_SEARCH, ^uintptr(3), text("user"), text("sbx-canary"), 0, 0)
	if errno != 0 {
		id, _, errno = unix.Syscall6(unix.SYS_REQUEST_KEY, text("user"), text("sbx-canary"), 0, 0, 0, 0)
	}
	if errno != 0 {
		return errno
	}
	buf := make([]byte, 64)
	n, _, errno := unix.Syscall6(unix.SYS_KEYCTL, unix.KEYCTL_READ, id, pointer(buf), 64, 0, 0)
	if errno != 0 {
		return errno
	}
	say("%q", buf[:n])
	return nil
}

// mqunlink NAME: takes what mqopen made away again.
func mqUnlink(args []string) error { return call(unix.SYS_MQ_UNLINK, text(args[0])) }
