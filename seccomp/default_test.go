package seccomp

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const high = 0xffffffff00000000 // what a caller may leave in the ignored half

const (
	threadFlags = 0x3d0f00 // pthread_create(3)
	forkFlags   = 0x1200011
	vforkFlags  = 0x4111
)

type defaultCase struct {
	calls string
	args  []uint64
	want  Action
}

// defaultCases hold for every ABI that has the call. A function, since
// TestNothingToInitialise would find a table.
func defaultCases() []defaultCase {
	return []defaultCase{
		{"read write openat close fstat newfstatat fstatat64 stat64 statx mmap mmap2 mprotect munmap brk execve execveat wait4 waitid waitpid " +
			"exit exit_group futex futex_time64 rt_sigaction rt_sigreturn sigreturn pipe pipe2 dup dup2 dup3 fork vfork getpid getdents64 " +
			"rename renameat2 link symlink unlink unlinkat chmod fchmodat fchmodat2 chown32 utimensat utimensat_time64 fcntl fcntl64 flock " +
			"select _newselect poll ppoll ppoll_time64 epoll_wait inotify_add_watch connect bind accept4 sendmsg recvmmsg getrandom " +
			"memfd_create prctl seccomp arch_prctl set_thread_area set_tls cacheflush rseq set_robust_list prlimit64 sched_getaffinity ptrace " +
			"process_vm_readv pidfd_open pidfd_getfd landlock_create_ruleset copy_file_range sendfile splice setxattr fsetxattr setuid setgroups " +
			"capset clock_gettime64 clock_nanosleep timerfd_create semget shmat ipc mq_open getcpu setpriority ioprio_set personality " +
			"statfs64 fallocate syncfs mseal cachestat futex_wake setxattrat file_getattr sigaltstack mlock mbind", nil, Allow},

		{"ioctl", []uint64{1, unix.TIOCGWINSZ}, Allow},
		{"ioctl", []uint64{1, unix.TCGETS}, Allow},
		{"ioctl", []uint64{1, unix.TIOCSTI}, Errno(unix.EPERM)},
		{"ioctl", []uint64{1, high | unix.TIOCSTI}, Errno(unix.EPERM)},
		{"ioctl", []uint64{high, 1<<32 | unix.TIOCSTI}, Errno(unix.EPERM)},
		{"ioctl", []uint64{1, unix.TIOCLINUX}, Errno(unix.EPERM)},
		{"ioctl", []uint64{1, high | unix.TIOCLINUX}, Errno(unix.EPERM)},
		{"ioctl", []uint64{1, unix.FICLONE}, Allow},
		{"ioctl", []uint64{1, unix.FICLONERANGE}, Allow},
		{"ioctl", []uint64{1, high | unix.FIDEDUPERANGE}, Allow},
		{"ioctl", []uint64{1, 0x50009401}, Errno(unix.ENOTTY)},        // BTRFS_IOC_SNAP_CREATE
		{"ioctl", []uint64{1, 0x50009417}, Errno(unix.ENOTTY)},        // BTRFS_IOC_SNAP_CREATE_V2
		{"ioctl", []uint64{1, high | 0x50009417}, Errno(unix.ENOTTY)}, //
		{"ioctl", []uint64{1, 0x4008941a}, Errno(unix.ENOTTY)},        // BTRFS_IOC_SUBVOL_SETFLAGS
		{"ioctl", []uint64{1, 0x4020bc10}, Errno(unix.ENOTTY)},        // BCH_IOCTL_SUBVOLUME_CREATE

		{"clone", []uint64{threadFlags}, Allow},
		{"clone", []uint64{forkFlags}, Allow},
		{"clone", []uint64{vforkFlags | unix.CLONE_PIDFD}, Allow},
		{"clone", []uint64{17 | unix.CLONE_NEWUSER}, Errno(unix.EPERM)},
		{"clone", []uint64{high | 17 | unix.CLONE_NEWUSER}, Errno(unix.EPERM)},
		{"clone", []uint64{unix.CLONE_NEWNS}, Errno(unix.EPERM)},
		{"clone", []uint64{unix.CLONE_NEWNET | threadFlags}, Errno(unix.EPERM)},
		{"clone", []uint64{unix.CLONE_NEWCGROUP}, Errno(unix.EPERM)},
		{"clone3", nil, Errno(unix.ENOSYS)},
		{"unshare", []uint64{unix.CLONE_FS | unix.CLONE_FILES}, Allow},
		{"unshare", []uint64{0}, Allow},
		{"unshare", []uint64{unix.CLONE_NEWUSER}, Errno(unix.EPERM)},
		{"unshare", []uint64{unix.CLONE_NEWTIME}, Errno(unix.EPERM)},
		{"unshare", []uint64{unix.CLONE_FS | unix.CLONE_NEWNS}, Errno(unix.EPERM)},
		{"unshare", []uint64{1 << 20}, Errno(unix.EPERM)}, // a flag to come

		{"socket", []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, Allow},
		{"socket", []uint64{high | unix.AF_INET, unix.SOCK_STREAM}, Allow},
		{"socket", []uint64{unix.AF_INET6, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC}, Allow},
		{"socket", []uint64{unix.AF_UNIX, unix.SOCK_SEQPACKET, 1}, Allow},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, unix.IPPROTO_TCP}, Allow},
		{"socket", []uint64{unix.AF_INET6, unix.SOCK_DGRAM, high | unix.IPPROTO_UDP}, Allow},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP}, Allow},
		{"socket", []uint64{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6}, Allow},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP}, Errno(unix.EPROTONOSUPPORT)},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, high | unix.IPPROTO_MPTCP}, Errno(unix.EPROTONOSUPPORT)},
		{"socket", []uint64{high | unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_L2TP}, Errno(unix.EPROTONOSUPPORT)},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_DCCP, 0}, Errno(unix.ESOCKTNOSUPPORT)},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_PACKET, 0}, Errno(unix.ESOCKTNOSUPPORT)},
		{"socket", []uint64{unix.AF_INET6, high | unix.SOCK_DCCP | unix.SOCK_NONBLOCK, 0}, Errno(unix.ESOCKTNOSUPPORT)},
		{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, Allow},
		{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, high | unix.NETLINK_ROUTE}, Allow},
		{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, Errno(unix.EPROTONOSUPPORT)},
		{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT}, Errno(unix.EPROTONOSUPPORT)},
		{"socket", []uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, Errno(unix.EAFNOSUPPORT)},
		{"socket", []uint64{high | unix.AF_VSOCK, unix.SOCK_STREAM}, Errno(unix.EAFNOSUPPORT)},
		{"socket", []uint64{unix.AF_PACKET}, Errno(unix.EAFNOSUPPORT)},
		{"socket", []uint64{unix.AF_ALG}, Errno(unix.EAFNOSUPPORT)},
		{"socket", []uint64{0}, Errno(unix.EAFNOSUPPORT)},
		{"socketpair", []uint64{unix.AF_UNIX}, Allow},
		{"socketpair", []uint64{unix.AF_TIPC}, Errno(unix.EAFNOSUPPORT)},
		{"socketcall", []uint64{1}, Errno(unix.ENOSYS)},
		{"socketcall", []uint64{high | 1}, Errno(unix.ENOSYS)},
		{"socketcall", []uint64{8}, Errno(unix.ENOSYS)},
		{"socketcall", []uint64{3}, Allow}, // connect

		{"personality", []uint64{0x8}, Allow},
		{"personality", []uint64{0x20008}, Allow},
		{"personality", []uint64{0x40000}, Allow},
		{"personality", []uint64{0x40008}, Allow},
		{"personality", []uint64{0xffffffff}, Allow},
		{"personality", []uint64{0xffffffffffffffff}, Allow}, // (unsigned int)-1, as Go passes it
		{"personality", []uint64{0x400000}, Errno(unix.EPERM)},
		{"personality", []uint64{0x440000}, Errno(unix.EPERM)},
		{"personality", []uint64{high | 0x400000}, Errno(unix.EPERM)},

		{"mknod", []uint64{0, unix.S_IFIFO | 0o644}, Allow},
		{"mknod", []uint64{0, 0o644}, Allow},
		{"mknod", []uint64{0, unix.S_IFREG | 0o4755}, Allow},
		{"mknod", []uint64{0, high | unix.S_IFSOCK | 0o600}, Allow},
		{"mknod", []uint64{0, unix.S_IFCHR | 0o666}, Errno(unix.EPERM)},
		{"mknod", []uint64{0, high | unix.S_IFBLK | 0o666}, Errno(unix.EPERM)},
		{"mknod", []uint64{unix.S_IFIFO, 0x10000 | unix.S_IFCHR}, Errno(unix.EPERM)}, // mode_t has 16 bits
		{"mknodat", []uint64{0, 0, unix.S_IFIFO | 0o644}, Allow},
		{"mknodat", []uint64{0, 0, unix.S_IFCHR | 0o666}, Errno(unix.EPERM)},
		{"mknodat", []uint64{0, unix.S_IFIFO, high | unix.S_IFBLK}, Errno(unix.EPERM)},

		{"mount umount umount2 pivot_root move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick mount_setattr setns chroot " +
			"bpf perf_event_open userfaultfd open_by_handle_at reboot kexec_load kexec_file_load init_module finit_module delete_module " +
			"swapon swapoff settimeofday clock_settime clock_settime64 stime acct quotactl quotactl_fd syslog iopl ioperm vhangup " +
			"sethostname move_pages fanotify_init", nil, Errno(unix.EPERM)},
		{"io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key nfsservctl lookup_dcookie uselib listns", nil, Errno(unix.ENOSYS)},
	}
}

func compileDefault(t testing.TB, o Options, machine Arch) Program {
	t.Helper()
	program, err := Default(o).Compile(machine)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, program)
	return program
}

func number(a *abi, name string) (uint32, bool) {
	i := slices.IndexFunc(a.calls, func(c numbered) bool { return callNames[c.call] == name })
	if i < 0 {
		return 0, false
	}
	return a.calls[i].nr, true
}

func check(t *testing.T, program Program, a *abi, name string, args []uint64, want Action) {
	t.Helper()
	nr, found := number(a, name)
	if !found {
		return
	}
	d := data{nr: nr, arch: a.audit}
	copy(d.args[:], args)
	if got, _, err := interpret(program, d); err != nil || got != want {
		t.Errorf("%s %s(%#x): %v %v, want %s", a.name, name, args, got, err, want)
	}
}

func TestDefault(t *testing.T) {
	for _, machine := range machines {
		program := compileDefault(t, Options{}, machine)
		for i := range machine.abis() {
			a := &machine.abis()[i]
			for _, c := range defaultCases() {
				for name := range strings.FieldsSeq(c.calls) {
					if _, found := lookup(name); !found {
						t.Errorf("no call %q", name)
					}
					check(t, program, a, name, c.args, c.want)
				}
			}
		}
	}
}

func TestDefaultForeign(t *testing.T) {
	program := compileDefault(t, Options{AllowUserns: true, Root: true}, AMD64)
	for _, test := range []struct {
		nr, arch uint32
		want     Action
	}{
		{x32Bit, unix.AUDIT_ARCH_X86_64, Errno(unix.ENOSYS)},       // read
		{x32Bit + 520, unix.AUDIT_ARCH_X86_64, Errno(unix.ENOSYS)}, // execve
		{520, unix.AUDIT_ARCH_X86_64, Errno(unix.ENOSYS)},          // the same before 5.4
		{0xffffffff, unix.AUDIT_ARCH_X86_64, Errno(unix.ENOSYS)},   // syscall(-1)
		{0xffffffff, unix.AUDIT_ARCH_I386, Errno(unix.ENOSYS)},
		{472, unix.AUDIT_ARCH_X86_64, Errno(unix.ENOSYS)}, // still to come
		{900, unix.AUDIT_ARCH_I386, Errno(unix.ENOSYS)},
		{380, unix.AUDIT_ARCH_X86_64, Errno(unix.ENOSYS)}, // a hole
		{0, unix.AUDIT_ARCH_ARM, KillProcess},
		{63, unix.AUDIT_ARCH_AARCH64, KillProcess},
		{0, unix.AUDIT_ARCH_X86_64 &^ 0x80000000, KillProcess},
		{0, 0, KillProcess},
	} {
		if got, _, err := interpret(program, data{nr: test.nr, arch: test.arch}); err != nil || got != test.want {
			t.Errorf("number %d of %#x: %v %v, want %s", test.nr, test.arch, got, err, test.want)
		}
	}
}

func TestDefaultVariants(t *testing.T) {
	for _, machine := range machines {
		userns := compileDefault(t, Options{AllowUserns: true}, machine)
		root := compileDefault(t, Options{Root: true}, machine)
		for i := range machine.abis() {
			a := &machine.abis()[i]
			for name := range strings.FieldsSeq("clone unshare setns clone3 mount umount2 pivot_root move_mount fsopen chroot") {
				check(t, userns, a, name, []uint64{unix.CLONE_NEWUSER}, Allow)
			}
			check(t, userns, a, "ioctl", []uint64{0, high | unix.TIOCSTI}, Errno(unix.EPERM))
			check(t, userns, a, "io_uring_setup", nil, Errno(unix.ENOSYS))
			check(t, userns, a, "socket", []uint64{unix.AF_VSOCK}, Errno(unix.EAFNOSUPPORT))
			check(t, root, a, "chroot", nil, Allow)
			check(t, root, a, "mount", nil, Errno(unix.EPERM))
			check(t, root, a, "clone", []uint64{unix.CLONE_NEWUSER}, Errno(unix.EPERM))
			check(t, root, a, "mknod", []uint64{0, unix.S_IFCHR}, Errno(unix.EPERM))
		}
	}
}

// Every call of the tables is decided by a rule, and no rule is written in vain.
func TestDefaultIsComplete(t *testing.T) {
	final := map[string]int{}
	for i, r := range Default(Options{}).Rules {
		for _, name := range r.Calls {
			if earlier, found := final[name]; found {
				t.Errorf("%s: rule %d stands after rule %d, which decides", name, i, earlier)
			}
			if len(r.Args) == 0 {
				final[name] = i
			}
		}
	}
	for _, name := range callNames {
		if _, found := final[name]; !found {
			t.Errorf("%s: not decided", name)
		}
	}
}

// Programs and tables are used at the start of every sandbox, by a command whose
// own start counts: the package must have nothing to initialise.
func TestNothingToInitialise(t *testing.T) {
	if testing.CoverMode() != "" {
		t.Skip("the counters are initialised")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "init runtime @") {
		t.Fatalf("no trace in %s", out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "sbx/seccomp @") {
			t.Errorf("something is initialised: %s", line)
		}
	}
}

func BenchmarkDefault(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Default(Options{})
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	p := Default(Options{})
	for b.Loop() {
		if _, err := p.Compile(AMD64); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExecuted reports the instructions that a call runs, and their number
// in the whole program.
func BenchmarkExecuted(b *testing.B) {
	for _, machine := range machines {
		program := compileDefault(b, Options{}, machine)
		for i := range machine.abis() {
			a := &machine.abis()[i]
			for _, name := range []string{"read", "openat", "ioctl", "futex", "mmap", "clone"} {
				b.Run(a.name+"/"+name, func(b *testing.B) {
					nr, found := number(a, name)
					if !found {
						b.Skip("no such call")
					}
					steps := 0
					for b.Loop() {
						_, steps, _ = interpret(program, data{nr: nr, arch: a.audit, args: [6]uint64{threadFlags, unix.TCGETS}})
					}
					b.ReportMetric(float64(steps), "instructions")
					b.ReportMetric(float64(len(program)), "program")
				})
			}
		}
	}
}
