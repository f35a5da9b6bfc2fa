package child

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// mapIDs gives the user namespace its ids. A map of one line, the caller's own
// id, the child writes itself; the kernel wants setgroups(2) denied for it
// (user_namespaces(7)). Anything longer the parent has written by newuidmap(1)
// before it lets the child go on.
func (c *compiler) mapIDs(s plan.MapIDs) {
	if !ownMap(s) {
		return // Start has written them
	}
	for _, w := range [][2]string{{"setgroups", "deny"}, {"uid_map", s.UIDs.String()}, {"gid_map", s.GIDs.String()}} {
		c.add(unix.SYS_OPENAT, at, c.m.str("/proc/self/"+w[0]), unix.O_WRONLY|unix.O_CLOEXEC).to(slotFile)
		c.writeAll(w[1])
	}
}

// ownMap says whether a map is the caller's own ids and no others.
func ownMap(s plan.MapIDs) bool {
	return s.UIDs.Single() && s.GIDs.Single() &&
		s.UIDs[0].Outside == uint32(unix.Geteuid()) && s.GIDs[0].Outside == uint32(unix.Getegid())
}

// restrict compiles the steps after which less is possible. It returns false
// for a step that is none of them.
func (c *compiler) restrict(s plan.Step) bool {
	switch s := s.(type) {
	case plan.Loopback:
		c.loopback()
	case plan.Hostname:
		c.add(unix.SYS_SETHOSTNAME, c.m.str(s.Name), uintptr(len(s.Name)))
	case plan.Keyring:
		// ENOSYS: a kernel without keyrings; EPERM: a container's filter
		// refuses the call, and then refuses the build's as well.
		c.add(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0).ok(unix.ENOSYS, unix.EPERM)
	case plan.Limits:
		c.limits(s)
	case plan.Bound:
		c.bound(s)
	case plan.Capabilities:
		c.capabilities(s)
	case plan.Ambient:
		c.ambient(s)
	case plan.TieToParent:
		c.tie()
	case plan.Undumpable:
		c.add(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	case plan.NoNewPrivs:
		c.add(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	case plan.Scope:
		c.scope(s)
	case plan.Filter:
		c.filter(s)
	default:
		return false
	}
	return true
}

// loopback sets IFF_UP on lo; the kernel then gives it 127.0.0.1 and ::1.
func (c *compiler) loopback() {
	// struct ifreq { char ifr_name[16]; short ifr_flags; … }, 40 bytes.
	req := make([]byte, 40)
	copy(req, "lo")
	*(*uint16)(unsafe.Pointer(&req[16])) = unix.IFF_UP
	c.add(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0).to(slotFile)
	c.add(unix.SYS_IOCTL, 0, unix.SIOCSIFFLAGS, c.m.bytes(req)).with(0, slotFile)
	c.add(unix.SYS_CLOSE).with(0, slotFile)
}

func (c *compiler) limits(s plan.Limits) {
	set := func(resource int, soft, hard uint64) {
		c.add(unix.SYS_PRLIMIT64, 0, uintptr(resource), put(c.m, unix.Rlimit{Cur: soft, Max: hard}), 0)
	}
	if s.Nofile[1] != 0 {
		set(unix.RLIMIT_NOFILE, s.Nofile[0], s.Nofile[1])
	}
	// A core_pattern that is a pipe ignores 0 and hands the dump of a hostile
	// process to a helper that is root; at 1 the kernel drops it
	// (fs/coredump.c).
	set(unix.RLIMIT_CORE, 1, 1)
	if s.Processes != 0 {
		set(unix.RLIMIT_NPROC, s.Processes, s.Processes)
	}
}

// The securebits (capabilities(7)): exec of a program by uid 0 gives nothing, and that
// cannot be changed back. Not SECBIT_KEEP_CAPS_LOCKED: who has no capability keeps none, and
// ping(8) ends where it cannot set SECBIT_KEEP_CAPS.
const (
	noRoot         = 1<<0 | 1<<1
	noSetuidFixup  = 1<<2 | 1<<3
	noAmbientRaise = 1<<6 | 1<<7
)

// bound locks the securebits and empties the bounding set. The capabilities
// that the child has stay, for the steps that follow.
func (c *compiler) bound(s plan.Bound) {
	bits := uintptr(noRoot | noSetuidFixup | noAmbientRaise)
	if len(s.Keep) > 0 {
		bits = noAmbientRaise
	}
	c.add(unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, bits)
	c.add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	keep := capabilitySet(s.Keep)
	for k := range 64 {
		if keep&(1<<k) != 0 {
			continue
		}
		o := c.add(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(k))
		if k > unix.CAP_CHECKPOINT_RESTORE {
			o.ok(unix.EINVAL) // beyond the kernel's last capability
		}
	}
}

func (c *compiler) capabilities(s plan.Capabilities) {
	keep := capabilitySet(s.Keep)
	low, high := uint32(keep), uint32(keep>>32)
	header := put(c.m, unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3})
	data := put(c.m, [2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}})
	c.add(unix.SYS_CAPSET, header, data)
}

// ambient raises capabilities that outlast execve(2), for which they must be
// inheritable as well.
func (c *compiler) ambient(s plan.Ambient) {
	keep := capabilitySet(s.Keep)
	low, high := uint32(keep), uint32(keep>>32)
	header := put(c.m, unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3})
	data := put(c.m, [2]unix.CapUserData{{Effective: low, Permitted: low, Inheritable: low}, {Effective: high, Permitted: high, Inheritable: high}})
	c.add(unix.SYS_CAPSET, header, data)
	for _, k := range s.Keep {
		c.add(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(k), 0, 0)
	}
}

func capabilitySet(list []int) (set uint64) {
	for _, k := range list {
		set |= 1 << k
	}
	return set
}

// tie sends the child SIGKILL when the thread that cloned it ends, and ends it
// if that has happened already: then nobody has the other end of the
// status socket, and ppoll(2) reports POLLHUP for it.
func (c *compiler) tie() {
	c.add(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	fds := unix.PollFd{Fd: statusFD}
	c.add(unix.SYS_PPOLL, put(c.m, fds), 1, put(c.m, unix.Timespec{}), 0, 8).demand(0)
}

// stringsArea is where the kernel put the process's strings.
func stringsArea() (start, length uintptr) {
	if len(os.Args) == 0 || len(os.Args[0]) == 0 {
		return 0, 0
	}
	start = uintptr(unsafe.Pointer(unsafe.StringData(os.Args[0])))
	aux, err := unix.Auxv()
	if err != nil {
		return 0, 0
	}
	for _, a := range aux {
		if a[0] == atExecfn && a[1] > start && a[1]-start < 16<<20 {
			return start, a[1] - start
		}
	}
	return 0, 0
}

// atExecfn is AT_EXECFN of getauxval(3).
const atExecfn = 31

// scope is Landlock's: no signal and no connection to an abstract socket
// beyond the processes that share the ruleset (landlock(7), ABI 6).
func (c *compiler) scope(s plan.Scope) {
	// struct landlock_ruleset_attr { __u64 handled_access_fs,
	// handled_access_net, scoped; }
	attr := [3]uint64{0, 0, unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET}
	if !s.SocketsOnly {
		attr[2] |= unix.LANDLOCK_SCOPE_SIGNAL
	}
	c.add(unix.SYS_LANDLOCK_CREATE_RULESET, put(c.m, attr), unsafe.Sizeof(attr), 0).to(slotFile)
	c.add(unix.SYS_LANDLOCK_RESTRICT_SELF, 0, 0).with(0, slotFile)
	c.add(unix.SYS_CLOSE).with(0, slotFile)
}

func (c *compiler) filter(s plan.Filter) {
	if len(s.Program) == 0 {
		c.err = errNoFilter
		return
	}
	code := list[unix.SockFilter](c.m, len(s.Program))
	if code == nil {
		return
	}
	copy(code, s.Program)
	// struct sock_fprog { unsigned short len; struct sock_filter *filter; }
	prog := [2]uintptr{uintptr(len(code)), address(code)}
	c.add(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, put(c.m, prog))
}
