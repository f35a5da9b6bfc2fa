package seccomp

import (
	"math"

	"golang.org/x/sys/unix"
)

// Options are the ways in which the profile for builds can differ. The zero
// Options are the strictest.
type Options struct {
	// AllowUserns lets programs make sandboxes of their own, as browsers and
	// some test suites do: namespaces, mounts and chroot in them. The kernel
	// code behind that is the largest that this profile otherwise closes.
	AllowUserns bool
	// Root is for a sandbox whose user is 0 with capabilities over its own
	// namespaces: chroot(2) is allowed.
	Root bool
}

// Default returns the profile for builds: a list of what is allowed, in the manner
// of the default profile of OCI runtimes. Calls that are known and refused fail
// with EPERM, or with ENOSYS where programs have another way to go on. Numbers
// that are not known fail with ENOSYS, so that a libc newer than this list takes
// its older path.
func Default(o Options) Profile {
	var rules []Rule
	if o.AllowUserns {
		rules = append(rules, nestedSandboxes())
	}
	if o.Root {
		rules = append(rules, Rule{Action: Allow, Calls: []string{"chroot"}})
	}
	rules = append(rules, byArgument()...)
	rules = append(rules, allowed()...)
	rules = append(rules, refused()...)
	return Profile{Default: Errno(unix.ENOSYS), Rules: rules}
}

// CompileDefault is Default(o).Compile(a). The program for the zero Options,
// which every start needs, was compiled in advance.
func CompileDefault(o Options, a Arch) (Program, error) {
	switch {
	case o == Options{} && a == AMD64:
		return defaultAMD64, nil
	case o == Options{} && a == ARM64:
		return defaultARM64, nil
	}
	return Default(o).Compile(a)
}

// nestedSandboxes stands before the rules that refuse the same calls.
func nestedSandboxes() Rule {
	return Rule{Action: Allow, Calls: []string{
		"clone", "clone3", "unshare", "setns",
		"mount", "umount", "umount2", "pivot_root", "chroot",
		"fsconfig", "fsmount", "fsopen", "fspick", "mount_setattr", "move_mount", "open_tree", "open_tree_attr",
		"sethostname", "setdomainname",
	}}
}

// Flags of clone(2) for new namespaces. CLONE_NEWTIME is not among them: its bit
// belongs to the exit signal there. clone(2) has no other bits that are free.
const cloneNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// unshareHarmless are the flags of unshare(2) that make no namespace. The list is
// of these, since new flags are added in bits that are still free.
const unshareHarmless = unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SYSVSEM |
	unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND

// Flags of personality(2), PER_LINUX being 0.
const (
	perLinux32      = 0x0008    // linux32(1): 32 bit builds on a 64 bit kernel
	uname26         = 0x0020000 // old installers that cannot read a version above 2.6
	addrNoRandomize = 0x0040000 // gdb, setarch -R, builds of Lisps and Emacs
)

// The bits of a socket's type that are not flags, linux/net.h.
const sockTypeMask = 0xf

// Types of requests, linux/btrfs.h and bcachefs_ioctl.h.
const (
	btrfsIoctls    = 0x94
	bcachefsIoctls = 0xbc
)

// Subcalls of socketcall(2), linux/net.h.
const (
	sysSocket     = 1
	sysSocketpair = 8
)

// byArgument are the calls that are allowed in part. The first rule that applies
// decides, so that each group ends with what the rest of the call gets.
func byArgument() []Rule {
	return []Rule{
		// TIOCSTI types into the terminal, and TIOCLINUX pastes a selection
		// into it: both run commands outside. The kernel takes the request as
		// an unsigned int (CVE-2019-10063).
		{Action: Errno(unix.EPERM), Calls: []string{"ioctl"}, Args: []Arg{low(1, unix.TIOCSTI)}},
		{Action: Errno(unix.EPERM), Calls: []string{"ioctl"}, Args: []Arg{low(1, unix.TIOCLINUX)}},
		// btrfs and bcachefs let users make snapshots, which have what a mount
		// hides of a directory, and read-only subvolumes, which rm(1) cannot
		// delete. Three requests of btrfs have become everybody's (cp --reflink).
		// The errno is that of other file systems.
		{Action: Allow, Calls: []string{"ioctl"}, Args: []Arg{low(1, unix.FICLONE)}},
		{Action: Allow, Calls: []string{"ioctl"}, Args: []Arg{low(1, unix.FICLONERANGE)}},
		{Action: Allow, Calls: []string{"ioctl"}, Args: []Arg{low(1, unix.FIDEDUPERANGE)}},
		{Action: Errno(unix.ENOTTY), Calls: []string{"ioctl"}, Args: []Arg{ioctlType(btrfsIoctls)}},
		{Action: Errno(unix.ENOTTY), Calls: []string{"ioctl"}, Args: []Arg{ioctlType(bcachefsIoctls)}},
		{Action: Allow, Calls: []string{"ioctl"}},

		// A new user namespace brings capabilities, and with them mounts,
		// netfilter and the kernel's other code for administrators. clone(2)
		// takes the low half of the flags (kernel/fork.c:SYSCALL_DEFINE5(clone)).
		{Action: Allow, Calls: []string{"clone"}, Args: []Arg{lowMasked(0, cloneNamespaces, 0)}},
		{Action: Errno(unix.EPERM), Calls: []string{"clone"}},
		// Its flags are in memory, out of a filter's sight. libc goes back to
		// clone(2) upon ENOSYS, and upon that only.
		{Action: Errno(unix.ENOSYS), Calls: []string{"clone3"}},
		{Action: Allow, Calls: []string{"unshare"}, Args: []Arg{
			{Index: 0, Op: MaskedEqual, Mask: math.MaxUint64 &^ unshareHarmless, Value: 0},
		}},
		{Action: Errno(unix.EPERM), Calls: []string{"unshare"}},

		// AF_VSOCK reaches the host from any network namespace, AF_ALG and the
		// rarer families are kernel code that builds do without. The errno is
		// that of a kernel without the family.
		{Action: Allow, Calls: []string{"socket"}, Args: []Arg{low(0, unix.AF_UNIX)}},
		// getaddrinfo(3) and if_nameindex(3) ask NETLINK_ROUTE for addresses.
		{Action: Allow, Calls: []string{"socket"}, Args: []Arg{low(0, unix.AF_NETLINK), low(2, unix.NETLINK_ROUTE)}},
		{Action: Errno(unix.EPROTONOSUPPORT), Calls: []string{"socket"}, Args: []Arg{low(0, unix.AF_NETLINK)}},
		{Action: Errno(unix.EAFNOSUPPORT), Calls: []string{"socket"}, Args: []Arg{not(0, unix.AF_INET), not(0, unix.AF_INET6)}},
		// Of the internet's protocols those that the network inside carries, and
		// the raw ones, for which the kernel wants a capability. The others, SCTP,
		// L2TP or MPTCP, are code that is loaded for whoever asks first. Two types
		// lead to more without naming it: DCCP, and AF_PACKET by its oldest name.
		{Action: Errno(unix.ESOCKTNOSUPPORT), Calls: []string{"socket"}, Args: []Arg{lowMasked(1, sockTypeMask, unix.SOCK_DCCP)}},
		{Action: Errno(unix.ESOCKTNOSUPPORT), Calls: []string{"socket"}, Args: []Arg{lowMasked(1, sockTypeMask, unix.SOCK_PACKET)}},
		{Action: Allow, Calls: []string{"socket"}, Args: []Arg{low(2, unix.IPPROTO_IP)}}, // the type decides
		{Action: Allow, Calls: []string{"socket"}, Args: []Arg{low(2, unix.IPPROTO_TCP)}},
		{Action: Allow, Calls: []string{"socket"}, Args: []Arg{low(2, unix.IPPROTO_UDP)}},
		{Action: Allow, Calls: []string{"socket"}, Args: []Arg{low(2, unix.IPPROTO_ICMP)}},
		{Action: Allow, Calls: []string{"socket"}, Args: []Arg{low(2, unix.IPPROTO_ICMPV6)}},
		{Action: Allow, Calls: []string{"socket"}, Args: []Arg{low(2, unix.IPPROTO_RAW)}},
		{Action: Errno(unix.EPROTONOSUPPORT), Calls: []string{"socket"}},
		{Action: Allow, Calls: []string{"socketpair"}, Args: []Arg{low(0, unix.AF_UNIX)}},
		{Action: Errno(unix.EAFNOSUPPORT), Calls: []string{"socketpair"}},
		// i386 only. The family is in memory, so that sockets can be used but
		// not made in this way; ENOSYS points to socket(2), which i386 has
		// since 4.3. musl uses that; glibc does if configured for 4.3 or later.
		{Action: Errno(unix.ENOSYS), Calls: []string{"socketcall"}, Args: []Arg{low(0, sysSocket)}},
		{Action: Errno(unix.ENOSYS), Calls: []string{"socketcall"}, Args: []Arg{low(0, sysSocketpair)}},
		{Action: Allow, Calls: []string{"socketcall"}},

		// Any combination of the three flags, or asking for the present ones.
		// The rest emulates other systems, or makes memory executable.
		{Action: Allow, Calls: []string{"personality"},
			Args: []Arg{lowMasked(0, math.MaxUint32&^(perLinux32|uname26|addrNoRandomize), 0)}},
		{Action: Allow, Calls: []string{"personality"}, Args: []Arg{low(0, math.MaxUint32)}},
		{Action: Errno(unix.EPERM), Calls: []string{"personality"}},

		// mkfifo(3) is mknod(2). Devices are refused, also the 0:0 that needs
		// no capability: in an overlay's upper directory it deletes a file.
		{Action: Allow, Calls: []string{"mknod"}, Args: []Arg{fileType(1, 0)}}, // a regular file
		{Action: Allow, Calls: []string{"mknod"}, Args: []Arg{fileType(1, unix.S_IFREG)}},
		{Action: Allow, Calls: []string{"mknod"}, Args: []Arg{fileType(1, unix.S_IFIFO)}},
		{Action: Allow, Calls: []string{"mknod"}, Args: []Arg{fileType(1, unix.S_IFSOCK)}},
		{Action: Allow, Calls: []string{"mknodat"}, Args: []Arg{fileType(2, 0)}},
		{Action: Allow, Calls: []string{"mknodat"}, Args: []Arg{fileType(2, unix.S_IFREG)}},
		{Action: Allow, Calls: []string{"mknodat"}, Args: []Arg{fileType(2, unix.S_IFIFO)}},
		{Action: Allow, Calls: []string{"mknodat"}, Args: []Arg{fileType(2, unix.S_IFSOCK)}},
		{Action: Errno(unix.EPERM), Calls: []string{"mknod", "mknodat"}},
	}
}

func low(index uint8, value uint32) Arg {
	return Arg{Index: index, Low32: true, Value: uint64(value)}
}

func not(index uint8, value uint32) Arg {
	return Arg{Index: index, Op: NotEqual, Low32: true, Value: uint64(value)}
}

func lowMasked(index uint8, mask, value uint32) Arg {
	return Arg{Index: index, Op: MaskedEqual, Low32: true, Mask: uint64(mask), Value: uint64(value)}
}

func fileType(index uint8, format uint32) Arg { return lowMasked(index, unix.S_IFMT, format) }

// ioctlType is the second byte of a request, ioctl(2).
func ioctlType(value uint32) Arg { return lowMasked(1, 0xff00, value<<8) }
