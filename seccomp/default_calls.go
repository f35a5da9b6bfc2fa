package seccomp

import "golang.org/x/sys/unix"

// allowed are the calls that are allowed whatever their arguments.
func allowed() []Rule {
	return []Rule{
		// Files and directories. setuid bits are no matter of a filter: the
		// mounts are nosuid, and DESTDIR installations set them.
		{Action: Allow, Calls: []string{
			"access", "cachestat", "chdir", "chmod", "chown", "chown32", "close", "close_range", "copy_file_range",
			"creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "arm_fadvise64_64",
			"fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl",
			"fcntl64", "fdatasync", "flock", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync",
			"ftruncate", "ftruncate64", "futimesat", "getcwd", "getdents", "getdents64", "lchown", "lchown32", "link",
			"linkat", "_llseek", "lseek", "lstat", "lstat64", "mkdir", "mkdirat", "newfstatat", "oldfstat", "oldlstat",
			"oldstat", "open", "openat", "openat2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2",
			"read", "readahead", "readdir", "readlink", "readlinkat", "readv", "rename", "renameat", "renameat2",
			"rmdir", "sendfile", "sendfile64", "splice", "stat", "stat64", "statfs", "statfs64", "statx", "symlink",
			"symlinkat", "sync", "sync_file_range", "arm_sync_file_range", "syncfs", "tee", "truncate", "truncate64",
			"umask", "unlink", "unlinkat", "utime", "utimensat", "utimensat_time64", "utimes", "vmsplice", "write",
			"writev",
		}},
		// Attributes, and file handles. A handle is harmless to ask for:
		// open_by_handle_at, which opens files that no path leads to, is refused.
		{Action: Allow, Calls: []string{
			"fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat", "lgetxattr", "listxattr",
			"listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "removexattr", "removexattrat", "setxattr",
			"setxattrat", "file_getattr", "file_setattr", "name_to_handle_at",
		}},
		// Waiting for files and events.
		{Action: Allow, Calls: []string{
			"epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd",
			"eventfd2", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "_newselect", "pipe",
			"pipe2", "poll", "ppoll", "ppoll_time64", "pselect6", "pselect6_time64", "select", "signalfd", "signalfd4",
			"io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit",
		}},
		// Memory.
		{Action: Allow, Calls: []string{
			"brk", "madvise", "map_shadow_stack", "memfd_create", "memfd_secret", "mincore", "mlock", "mlock2",
			"mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall", "munmap",
			"pkey_alloc", "pkey_free", "pkey_mprotect", "process_madvise", "process_mrelease", "remap_file_pages",
		}},
		// The caller's own NUMA policy needs no capability. OCI runtimes refuse
		// it, which makes MPI, the JVM and databases complain in their tests.
		{Action: Allow, Calls: []string{"get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"}},
		// Processes, threads and scheduling.
		{Action: Allow, Calls: []string{
			"execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_requeue", "futex_time64", "futex_wait",
			"futex_waitv", "futex_wake", "get_robust_list", "get_thread_area", "getcpu", "getpgid", "getpgrp", "getpid",
			"getppid", "getpriority", "getrlimit", "getrusage", "getsid", "gettid", "ioprio_get", "ioprio_set", "kill",
			"membarrier", "nice", "pause", "pidfd_open", "pidfd_send_signal", "prctl", "prlimit64", "restart_syscall",
			"rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn",
			"rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_get_priority_max",
			"sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler",
			"sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr",
			"sched_setparam", "sched_setscheduler", "sched_yield", "set_robust_list", "set_thread_area",
			"set_tid_address", "setpgid", "setpriority", "setrlimit", "setsid", "sgetmask", "sigaction", "sigaltstack",
			"signal", "sigpending", "sigprocmask", "sigreturn", "sigsuspend", "ssetmask", "sysinfo", "tgkill", "times",
			"tkill", "ugetrlimit", "uname", "olduname", "oldolduname", "vfork", "wait4", "waitid", "waitpid",
		}},
		// Of the processor: thread pointers, the descriptor table (wine), caches.
		{Action: Allow, Calls: []string{
			"arch_prctl", "modify_ldt", "breakpoint", "cacheflush", "set_tls", "get_tls",
		}},
		// Called from code that the kernel itself maps when somebody outside
		// probes a program, which dies if they are refused (before 6.14). They
		// fail when called from anywhere else.
		{Action: Allow, Calls: []string{"uprobe", "uretprobe"}},
		// Debuggers work on processes of the same pid namespace and user, and
		// the rest asks for no more than ptrace(2) does. Since 4.8 the filter
		// runs after a tracer has changed a call, so that this is no way out.
		{Action: Allow, Calls: []string{"ptrace", "kcmp", "pidfd_getfd", "process_vm_readv", "process_vm_writev"}},
		// Users, groups and capabilities, which have bounds of their own.
		{Action: Allow, Calls: []string{
			"capget", "capset", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups",
			"getgroups32", "getresgid", "getresgid32", "getresuid", "getresuid32", "getuid", "getuid32", "setfsgid",
			"setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32", "setregid",
			"setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setuid",
			"setuid32",
		}},
		// Programs that restrict themselves further.
		{Action: Allow, Calls: []string{
			"landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp",
			"lsm_get_self_attr", "lsm_list_modules",
		}},
		// Time. adjtimex reads the state of the clock; to change it, the kernel
		// wants a capability over the host.
		{Action: Allow, Calls: []string{
			"adjtimex", "alarm", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
			"clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "getitimer",
			"gettimeofday", "nanosleep", "setitimer", "time", "timer_create", "timer_delete", "timer_getoverrun",
			"timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create",
			"timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64",
		}},
		// System V and POSIX queues, in an ipc namespace of the sandbox. ipc is
		// i386's one number for all of the former: nothing in it is refused.
		{Action: Allow, Calls: []string{
			"ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend",
			"mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop",
			"semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget",
		}},
		// Sockets that exist.
		{Action: Allow, Calls: []string{
			"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recv",
			"recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto", "setsockopt",
			"shutdown",
		}},
		{Action: Allow, Calls: []string{"getrandom"}},
		// What /proc/self/mountinfo shows as well.
		{Action: Allow, Calls: []string{"listmount", "statmount"}},
	}
}

// refused are the calls that are refused whatever their arguments.
func refused() []Rule {
	return []Rule{
		// A second way to make most system calls, past this filter.
		// Libraries take the first way upon ENOSYS.
		{Action: Errno(unix.ENOSYS), Calls: []string{"io_uring_enter", "io_uring_register", "io_uring_setup"}},
		// Keys belong to the user, not to a namespace of the sandbox. ENOSYS is
		// a kernel without CONFIG_KEYS, which programs are used to.
		{Action: Errno(unix.ENOSYS), Calls: []string{"add_key", "keyctl", "request_key"}},
		// Namespaces and mounts: see clone above.
		{Action: Errno(unix.EPERM), Calls: []string{
			"setns", "mount", "umount", "umount2", "pivot_root", "chroot", "fsconfig", "fsmount", "fsopen", "fspick",
			"mount_setattr", "move_mount", "open_tree", "open_tree_attr", "sethostname", "setdomainname",
		}},
		// Large and often broken: programs for the kernel, performance counters,
		// page faults served by the program (the tool of choice to win races).
		{Action: Errno(unix.EPERM), Calls: []string{"bpf", "perf_event_open", "userfaultfd"}},
		// Opens files by number, past paths and mounts. fanotify reports files by
		// such numbers, and was for root only until 5.13: programs use inotify.
		{Action: Errno(unix.EPERM), Calls: []string{"open_by_handle_at", "fanotify_init", "fanotify_mark"}},
		// The attributes of a Linux security module can be set through /proc,
		// where its own rules are known to apply.
		{Action: Errno(unix.EPERM), Calls: []string{"lsm_set_self_attr"}},
		// Pages of other processes.
		{Action: Errno(unix.EPERM), Calls: []string{"migrate_pages", "move_pages"}},
		// Matters of the host. The kernel wants capabilities over it for all of
		// these; the filter holds when that check is forgotten.
		{Action: Errno(unix.EPERM), Calls: []string{
			"acct", "clock_settime", "clock_settime64", "delete_module", "finit_module", "init_module", "ioperm", "iopl",
			"kexec_file_load", "kexec_load", "pciconfig_iobase", "pciconfig_read", "pciconfig_write", "quotactl",
			"quotactl_fd", "reboot", "settimeofday", "stime", "swapoff", "swapon", "syslog", "vhangup", "vm86",
			"vm86old",
		}},
		// Numbers without code behind them in kernels of today, or in any.
		{Action: Errno(unix.ENOSYS), Calls: []string{
			"_sysctl", "afs_syscall", "bdflush", "break", "create_module", "epoll_ctl_old", "epoll_wait_old", "ftime",
			"get_kernel_syms", "getpmsg", "gtty", "idle", "lock", "lookup_dcookie", "mpx", "nfsservctl", "prof",
			"profil", "putpmsg", "query_module", "security", "stty", "sysfs", "tuxcall", "ulimit", "uselib", "usr26",
			"usr32", "ustat", "vserver",
		}},
		// Newer than 6.18, not judged yet.
		{Action: Errno(unix.ENOSYS), Calls: []string{"listns", "rseq_slice_yield"}},
	}
}
