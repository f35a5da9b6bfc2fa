package child

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// compiler turns steps into ops.
type compiler struct {
	m    *memory
	step int
	ops  []op
	// scratch counts the names used in plan.Scratch.
	scratch int
	// home is where the overlay of $HOME is, of which parts are bound.
	home string
	// parts counts what has been sent of plan.Plan.Parts.
	parts int
	// given are descriptors of mounts that the child inherits.
	given []int
	// header is the address of table.header.
	header uintptr
	err    error
}

// steps compiles plan steps, which follow those already compiled.
func (c *compiler) steps(list []plan.Step) {
	for _, s := range list {
		c.compile(s)
		c.step++
	}
}

// newCompiler compiles into the shared memory.
func newCompiler(m *memory) *compiler {
	c := &compiler{m: m}
	c.take()
	return c
}

// room is for how many ops there is room in the shared memory at first. What is
// not used is never touched, and costs nothing.
const room = 4096

// take returns what has been compiled, and begins anew.
func (c *compiler) take() []op {
	done := c.ops
	if cap(done) != room {
		// It has outgrown the shared memory, or there was none.
		done = list[op](c.m, len(c.ops))
		copy(done, c.ops)
	}
	c.ops = list[op](c.m, room)[:0]
	return done
}

// add appends a call and returns it, to be refined. The pointer is good until
// the next add.
func (c *compiler) add(nr uintptr, args ...uintptr) *op {
	o := op{nr: uint16(nr), step: uint16(c.step)}
	copy(o.arg[:], args)
	c.ops = append(c.ops, o)
	return &c.ops[len(c.ops)-1]
}

func (o *op) ok(errnos ...unix.Errno) *op {
	for i, e := range errnos {
		o.quiet[i] = uint16(e)
	}
	return o
}

func (o *op) to(s slot) *op            { o.save = s + 1; return o }
func (o *op) with(arg int, s slot) *op { o.from[arg] = s + 1; return o }
func (o *op) demand(r uintptr) *op     { o.exact, o.want = true, r; return o }

// at is AT_FDCWD as an argument.
const at = ^uintptr(99) // -100

// begin gives a cloned child its own descriptors, and ties it to sbx. Launch has
// put the socket at highFD and above, so that the dup3 hits nothing.
func (c *compiler) begin(status int, given []int) {
	c.add(unix.SYS_DUP3, uintptr(status), statusFD, unix.O_CLOEXEC)
	from := statusFD + 1
	for _, fd := range given {
		if from < fd {
			c.add(unix.SYS_CLOSE_RANGE, uintptr(from), uintptr(fd-1), 0)
		}
		from = fd + 1
	}
	c.add(unix.SYS_CLOSE_RANGE, uintptr(from), ^uintptr(0)>>32, 0)
	c.tie()
}

// frame is done before the first step: default dispositions, which the command
// inherits (of pid 1 all signals are blocked), and nothing left of the strings
// that the kernel put on the stack for sbx: arguments, then the environment, then
// the name of the program file (fs/exec.c). /proc/1/cmdline shows them even of a
// process that is not dumpable.
func (c *compiler) frame() {
	c.add(unix.SYS_UMASK, 0).to(slotUmask)
	// Ctrl-C at the terminal is for sbx, which passes it on. EPERM: a session
	// leader already.
	c.add(unix.SYS_SETSID).ok(unix.EPERM)
	// struct sigaction begins with the handler: SIG_DFL is 0, SIG_IGN 1.
	byDefault := put(c.m, [8]uintptr{0})
	for s := 1; s <= 64; s++ {
		if s != int(unix.SIGKILL) && s != int(unix.SIGSTOP) {
			c.add(unix.SYS_RT_SIGACTION, uintptr(s), byDefault, 0, 8)
		}
	}
	if start, length := stringsArea(); length > 0 {
		c.add(unix.SYS_OPENAT, at, c.m.str("/dev/zero"), unix.O_RDONLY|unix.O_CLOEXEC).to(slotFile)
		c.add(unix.SYS_READ, 0, start, length).with(0, slotFile).demand(length)
		c.add(unix.SYS_CLOSE).with(0, slotFile)
	}
}

// end leaves nothing open but 0 to 2 and the status socket.
func (c *compiler) end() {
	c.add(unix.SYS_UMASK).with(0, slotUmask)
	c.add(unix.SYS_CLOSE_RANGE, statusFD+1, ^uintptr(0)>>32, 0)
}

// command prepares the process that becomes the command: a session of its own,
// so that no signal and no terminal is shared with anything outside, and an empty
// mask.
func (c *compiler) command(t *table, p plan.Plan) {
	m, e := c.m, p.Exec
	c.add(unix.SYS_SETSID)
	switch {
	case p.Namespaces.User:
		// With its parent, which is tied to sbx, but is no pid 1.
		c.tie()
	case p.Joins():
		// Its parent is not the pid 1 with which the kernel would kill it. What it
		// starts itself is the run's. The parent is out of sight, getppid(2) gives 0.
		c.add(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
		c.add(unix.SYS_GETPPID).demand(0)
	}
	for _, s := range e.KeepIgnored {
		c.add(unix.SYS_RT_SIGACTION, uintptr(s), put(m, [8]uintptr{1}), 0, 8)
	}
	c.add(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, put(m, uint64(0)), 0, 8)
	if early.slack > 0 {
		// The thread that cloned the child may have had another.
		c.add(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, early.slack, 0, 0, 0)
	}
	if len(e.Args) == 0 {
		// A probe: having come this far is all.
		c.add(unix.SYS_EXIT_GROUP, 0)
		return
	}
	t.argv = m.strs(e.Args, list[uintptr](m, len(e.Args)+1))
	t.envp = m.strs(e.Env, list[uintptr](m, len(e.Env)+1))
	t.shell = m.str("/bin/sh")
	// sh, the candidate, then the arguments.
	t.script = list[uintptr](m, len(e.Args)+2)
	if t.script == nil || t.argv == nil || t.envp == nil {
		return // E2BIG, says Start
	}
	t.script[0] = m.str("sh")
	copy(t.script[2:], t.argv[1:])
	t.candidates = m.strs(candidates(e), list[uintptr](m, len(e.Path)+1))
}

// candidates are the files that the command may be.
func candidates(e plan.Exec) []string {
	name := e.Args[0]
	if name == "" {
		return nil // ENOENT, not each directory of Path
	}
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var files []string
	for _, dir := range e.Path {
		if dir == "" {
			dir = "." // execvp(3)
		}
		files = append(files, strings.TrimSuffix(dir, "/")+"/"+name)
	}
	return files
}

// compile is the table of contents of the steps.
func (c *compiler) compile(s plan.Step) {
	switch s := s.(type) {
	case plan.MapIDs:
		c.mapIDs(s)
	case plan.SetIDs:
		c.add(unix.SYS_SETGROUPS, 0, 0)
		c.add(unix.SYS_SETRESGID, uintptr(s.GID), uintptr(s.GID), uintptr(s.GID))
		c.add(unix.SYS_SETRESUID, uintptr(s.UID), uintptr(s.UID), uintptr(s.UID))
	case plan.Device:
		c.device(s)
	case plan.Private:
		c.add(unix.SYS_MOUNT, c.m.str("none"), c.m.str("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	case plan.NewRoot:
		c.newRoot(s)
	case plan.Stage:
		c.stage(s)
	case plan.Seal:
		c.setattr(plan.Host, true, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	case plan.Open:
		c.unseal(s)
	case plan.MkDir:
		// EEXIST: a step may name a directory that a tmpfs's parents brought.
		c.add(unix.SYS_MKDIRAT, at, c.m.str(s.Path), uintptr(s.Mode)).ok(unix.EEXIST)
	case plan.Symlink:
		c.symlink(s)
	case plan.WriteFile:
		c.writeFile(s)
	case plan.Seed:
		c.seed(s)
	case plan.Whiteout:
		c.add(unix.SYS_MKNODAT, at, c.m.str(s.Path), unix.S_IFCHR, 0)
	case plan.Bind:
		c.bind(s)
	case plan.Writable:
		c.add(unix.SYS_MOUNT, c.m.str(s.Path), c.m.str(s.Path), 0, unix.MS_BIND, 0)
	case plan.ReadOnly:
		c.setattr(s.Path, false, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	case plan.Overlay:
		c.overlay(s)
	case plan.ProbeUpper:
		c.probe(s)
	case plan.Borrow:
		c.receive(s.Count)
	case plan.Join:
		c.join(s)
	case plan.Copy:
		c.copyMount(s.Count)
	case plan.Pick:
		c.pick()
	case plan.Interface:
		c.iface(s)
	case plan.Listen:
		c.listen(s)
	case plan.Sockets:
		c.sockets(s.Count)
	case plan.Sysctl:
		c.sysctl(s)
	case plan.Mask:
		c.mask(s)
	case plan.ReadOnlyBelow:
		// ENOENT: this kernel was built without it.
		c.add(unix.SYS_MOUNT, c.m.str(s.Path), c.m.str(s.Path), 0, unix.MS_BIND|unix.MS_REC, 0).ok(unix.ENOENT).onQuiet = 1
		c.setattr(s.Path, true, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	case plan.Proc:
		c.add(unix.SYS_MOUNT, c.m.str("proc"), c.m.str("/proc"), c.m.str("proc"), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	case plan.Sysfs:
		// EPERM: the caller is in a container that hides parts of /sys, and
		// the kernel does not let it see more (mount_too_revealing). /sys
		// then stays empty.
		c.add(unix.SYS_MOUNT, c.m.str("sysfs"), c.m.str("/sys"), c.m.str("sysfs"), unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0).ok(unix.EPERM)
	case plan.Devpts:
		c.add(unix.SYS_MOUNT, c.m.str("devpts"), c.m.str("/dev/pts"), c.m.str("devpts"), unix.MS_NOSUID|unix.MS_NOEXEC, c.m.str("newinstance,ptmxmode=0666,mode=0620"))
	case plan.LeaveHost:
		c.add(unix.SYS_UMOUNT2, c.m.str(plan.Host), unix.MNT_DETACH)
		c.add(unix.SYS_UNLINKAT, at, c.m.str(plan.Host), unix.AT_REMOVEDIR)
	case plan.ChangeDir:
		c.add(unix.SYS_CHDIR, c.m.str(s.Path))
	default:
		if !c.restrict(s) {
			c.err = fmt.Errorf("internal error: no code for the step %q", s)
		}
	}
}
