package child

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// compiler turns steps into ops.
type compiler struct {
	g    *Program
	step uint16
	ops  []op
	// scratch counts the names used in plan.Scratch.
	scratch int
	// closed is the first descriptor that is closed before the command.
	err error
}

// Compile turns a plan into a program. It allocates all that the child will
// touch.
func Compile(p plan.Plan) (*Program, error) {
	g := &Program{plan: p}
	g.flags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP | uintptr(unix.SIGCHLD)
	if p.Namespaces.Net {
		g.flags |= unix.CLONE_NEWNET
	}
	c := &compiler{g: g, ops: make([]op, 0, 512)}
	c.begin()
	for i, s := range p.Steps {
		c.step = uint16(i)
		c.compile(s)
	}
	c.step = uint16(len(p.Steps))
	c.end()
	g.setup = c.ops
	c.ops = nil
	c.command(p.Exec)
	g.command = c.ops
	for _, w := range p.Watch {
		g.watch = append(g.watch, g.str(w))
	}
	return g, c.err
}

// add appends a call and returns it, to be refined. The pointer is good until
// the next add.
func (c *compiler) add(nr uintptr, args ...uintptr) *op {
	o := op{nr: nr, step: c.step}
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

// begin gives the child its own descriptors: 0 to 2, and the pipes that Start
// has put at 10 and above, so that no dup3 hits another.
func (c *compiler) begin() {
	c.add(unix.SYS_DUP3, 0, statusFD, unix.O_CLOEXEC) // Start fills in the source
	c.add(unix.SYS_DUP3, 0, barrierFD, unix.O_CLOEXEC)
	c.add(unix.SYS_CLOSE_RANGE, barrierFD+1, ^uintptr(0)>>32, 0)
	c.add(unix.SYS_UMASK, 0).to(slotUmask)
}

func (c *compiler) end() {
	c.add(unix.SYS_UMASK).with(0, slotUmask)
	c.add(unix.SYS_CLOSE_RANGE, statusFD+1, ^uintptr(0)>>32, 0)
	c.g.signals = ^uint64(0)
}

// command prepares the process that becomes the command: a session of its own,
// so that no signal and no terminal is shared with anything outside; default
// dispositions, then an empty mask.
func (c *compiler) command(e plan.Exec) {
	g := c.g
	c.add(unix.SYS_SETSID)
	ignored := map[int]bool{}
	for _, s := range e.KeepIgnored {
		ignored[s] = true
	}
	act := g.bytes(make([]byte, 64)) // struct sigaction: SIG_DFL is 0
	for s := 1; s <= 64; s++ {
		if s == int(unix.SIGKILL) || s == int(unix.SIGSTOP) || ignored[s] {
			continue
		}
		c.add(unix.SYS_RT_SIGACTION, uintptr(s), act, 0, 8)
	}
	c.add(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, pinned(g, &g.mask), 0, 8)

	if len(e.Args) == 0 {
		// A probe: having come this far is all.
		c.add(unix.SYS_EXIT_GROUP, 0)
		return
	}
	g.argv = g.cstrings(e.Args)
	g.envp = g.cstrings(e.Env)
	g.shell = g.str("/bin/sh")
	// sh, the candidate, then the arguments.
	g.script = append([]uintptr{g.str("sh"), 0}, g.argv[1:]...)
	name := e.Args[0]
	if strings.Contains(name, "/") {
		g.candidates = []uintptr{g.str(name)}
		return
	}
	for _, dir := range e.Path {
		if dir == "" {
			dir = "." // execvp(3)
		}
		g.candidates = append(g.candidates, g.str(strings.TrimSuffix(dir, "/")+"/"+name))
	}
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
	case plan.Private:
		c.add(unix.SYS_MOUNT, c.g.str("none"), c.g.str("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	case plan.NewRoot:
		c.newRoot(s)
	case plan.Stage:
		c.stage(s)
	case plan.Seal:
		c.setattr(plan.Host, true, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	case plan.Device:
		c.device(s)
	case plan.MkDir:
		// EEXIST: a step may name a directory that a tmpfs's parents brought.
		c.add(unix.SYS_MKDIRAT, at, c.g.str(s.Path), uintptr(s.Mode)).ok(unix.EEXIST)
	case plan.Symlink:
		c.symlink(s)
	case plan.WriteFile:
		c.writeFile(s)
	case plan.Whiteout:
		c.add(unix.SYS_MKNODAT, at, c.g.str(s.Path), unix.S_IFCHR, 0)
	case plan.Bind:
		c.bind(s)
	case plan.Writable:
		c.add(unix.SYS_MOUNT, c.g.str(s.Path), c.g.str(s.Path), 0, unix.MS_BIND, 0)
	case plan.ReadOnly:
		c.setattr(s.Path, false, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	case plan.Overlay:
		c.overlay(s)
	case plan.ProbeUpper:
		c.probe(s)
	case plan.Mask:
		c.mask(s)
	case plan.ReadOnlyBelow:
		// ENOENT: this kernel was built without it.
		c.add(unix.SYS_MOUNT, c.g.str(s.Path), c.g.str(s.Path), 0, unix.MS_BIND|unix.MS_REC, 0).ok(unix.ENOENT).onQuiet = 1
		c.setattr(s.Path, true, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	case plan.Proc:
		c.add(unix.SYS_MOUNT, c.g.str("proc"), c.g.str("/proc"), c.g.str("proc"), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	case plan.Sysfs:
		// EPERM: the caller is in a container that hides parts of /sys, and
		// the kernel does not let it see more (mount_too_revealing). /sys
		// then stays empty.
		c.add(unix.SYS_MOUNT, c.g.str("sysfs"), c.g.str("/sys"), c.g.str("sysfs"), unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0).ok(unix.EPERM)
	case plan.Devpts:
		c.add(unix.SYS_MOUNT, c.g.str("devpts"), c.g.str("/dev/pts"), c.g.str("devpts"), unix.MS_NOSUID|unix.MS_NOEXEC, c.g.str("newinstance,ptmxmode=0666,mode=0620"))
	case plan.LeaveHost:
		c.add(unix.SYS_UMOUNT2, c.g.str(plan.Host), unix.MNT_DETACH)
		c.add(unix.SYS_UNLINKAT, at, c.g.str(plan.Host), unix.AT_REMOVEDIR)
	case plan.ChangeDir:
		c.add(unix.SYS_CHDIR, c.g.str(s.Path))
	default:
		if !c.restrict(s) {
			c.err = fmt.Errorf("internal error: no code for the step %q", s)
		}
	}
}
