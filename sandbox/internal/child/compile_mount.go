package child

import (
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// newRoot mounts the new root over /proc, which every system has, and swaps it
// with the host's. That moves the host's /proc back into sight.
func (c *compiler) newRoot(s plan.NewRoot) {
	g := c.m
	options := "mode=0755"
	if s.Size > 0 {
		options += fmt.Sprintf(",size=%d", s.Size)
	}
	c.add(unix.SYS_MOUNT, g.str("sbx"), g.str("/proc"), g.str("tmpfs"), unix.MS_NOSUID|unix.MS_NODEV, g.str(options))
	c.add(unix.SYS_CHDIR, g.str("/proc"))
	host := strings.TrimPrefix(plan.Host, "/")
	c.add(unix.SYS_MKDIRAT, at, g.str(host), 0o700)
	c.add(unix.SYS_PIVOT_ROOT, g.str("."), g.str(host))
	c.add(unix.SYS_CHDIR, g.str("/"))
	c.add(unix.SYS_MKDIRAT, at, g.str(plan.Scratch), 0o755)
}

// setattr is mount_setattr(2), Linux 5.12.
func (c *compiler) setattr(path string, recursive bool, set uint64) {
	flags := uintptr(0)
	if recursive {
		flags = unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: set}
	c.add(unix.SYS_MOUNT_SETATTR, at, c.m.str(path), flags, put(c.m, attr), unsafe.Sizeof(attr))
}

// onHost is where a host path stands while the root is assembled.
func onHost(path string) string {
	if path == plan.Scratch || strings.HasPrefix(path, plan.Scratch+"/") {
		return path // a layer that sbx has made there
	}
	return plan.Host + path
}

// node creates an empty mount point on a tmpfs of ours.
func (c *compiler) node(path string, dir bool) {
	if dir {
		c.add(unix.SYS_MKDIRAT, at, c.m.str(path), 0o755).ok(unix.EEXIST)
		return
	}
	c.add(unix.SYS_MKNODAT, at, c.m.str(path), unix.S_IFREG|0o644, 0).ok(unix.EEXIST)
}

func (c *compiler) stage(s plan.Stage) {
	path := plan.Scratch + "/" + s.Name
	c.node(path, s.Dir)
	if s.Idmapped > 0 {
		c.add(unix.SYS_MOVE_MOUNT, uintptr(c.given[s.Idmapped-1]), c.m.str(""), at, c.m.str(path), unix.MOVE_MOUNT_F_EMPTY_PATH)
		return
	}
	c.source(s.Source)
	c.moveTo(slotTree, path)
	c.setattr(path, true, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

// source leaves in slotTree a detached copy of the mounts at a host path. The
// path was resolved before the clone, so a symlink on it now has been put there
// since, by a build that can write to a directory of the host's (--rw).
func (c *compiler) source(path string) { c.sourceAt(onHost(path)[1:]) }

// sourceAt is source for a path below the root that is being assembled.
func (c *compiler) sourceAt(path string) {
	c.open(nil, path, 0, slotFile)
	c.add(unix.SYS_OPEN_TREE, 0, c.m.str(""), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH).with(0, slotFile).to(slotTree)
	c.add(unix.SYS_CLOSE).with(0, slotFile)
}

// moveTo mounts a detached tree at a path of our own, and closes it.
func (c *compiler) moveTo(tree slot, path string) {
	c.add(unix.SYS_MOVE_MOUNT, 0, c.m.str(""), at, c.m.str(path), unix.MOVE_MOUNT_F_EMPTY_PATH).with(0, tree)
	c.add(unix.SYS_CLOSE).with(0, tree)
}

// unseal mounts a directory of the sealed host over itself, writable. The name
// in Scratch is a symlink, so the path of the host's may hold any byte.
func (c *compiler) unseal(s plan.Open) {
	name := plan.Scratch + "/" + s.Name
	if s.Idmapped > 0 {
		// To the id that the sandbox has, the way there is closed.
		c.node(name, true)
		c.add(unix.SYS_MOVE_MOUNT, uintptr(c.given[s.Idmapped-1]), c.m.str(""), at, c.m.str(name), unix.MOVE_MOUNT_F_EMPTY_PATH)
		return
	}
	path := c.m.str(onHost(s.Source))
	c.add(unix.SYS_SYMLINKAT, path, at, c.m.str(name))
	c.add(unix.SYS_MOUNT, path, path, 0, unix.MS_BIND, 0)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Attr_clr: unix.MOUNT_ATTR_RDONLY}
	c.add(unix.SYS_MOUNT_SETATTR, at, path, 0, put(c.m, attr), unsafe.Sizeof(attr))
}

// device binds a device node. The mount is read-only, which concerns the node
// and not the device: a caller that owns it (root) cannot change its mode.
func (c *compiler) device(s plan.Device) {
	c.node(s.Place.Path, s.Place.Dir)
	c.add(unix.SYS_MOUNT, c.m.str(onHost(s.Source)), c.m.str(s.Place.Path), 0, unix.MS_BIND|unix.MS_REC, 0)
	c.setattr(s.Place.Path, true, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
}

func (c *compiler) writeFile(s plan.WriteFile) {
	g := c.m
	if s.Data == "" {
		c.add(unix.SYS_MKNODAT, at, g.str(s.Path), unix.S_IFREG|uintptr(s.Mode), 0).ok(unix.EEXIST)
		return
	}
	c.add(unix.SYS_OPENAT, at, g.str(s.Path), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uintptr(s.Mode)).to(slotFile)
	c.writeAll(s.Data)
}

// writeAll writes to slotFile in one call, and closes it.
func (c *compiler) writeAll(data string) {
	c.add(unix.SYS_WRITE, 0, c.m.str(data), uintptr(len(data))).with(0, slotFile).demand(uintptr(len(data)))
	c.add(unix.SYS_CLOSE).with(0, slotFile)
}

func (c *compiler) bind(s plan.Bind) {
	switch name, below, _ := strings.Cut(s.Staged, "/"); {
	case s.Fleeting:
		c.add(unix.SYS_MOUNT, c.m.str(onHost(s.Source)), c.m.str(s.Place.Path), 0, unix.MS_BIND|unix.MS_REC, 0).ok(unix.ENOENT)
	case s.System:
		c.attach(onHost(s.Source), s.Place)
	case s.Staged == "":
		c.source(s.Source)
		c.readOnly() // the layer, which is writable where it is, may lie below
		c.place(s.Place)
	case below == "" || name == plan.LayerName:
		c.attach(plan.Scratch+"/"+s.Staged, s.Place)
	default:
		// Part of an overlay, whose upper is the build's.
		c.sourceAt(c.home[1:] + "/" + below)
		if s.ReadOnly {
			c.readOnly()
		}
		c.place(s.Place)
	}
}

// readOnly makes the detached tree in slotTree read-only, with all below it.
func (c *compiler) readOnly() {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	c.add(unix.SYS_MOUNT_SETATTR, 0, c.m.str(""), unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, put(c.m, attr), unsafe.Sizeof(attr)).with(0, slotTree)
}

// attach binds a source that only sbx or root can change, with all below it.
func (c *compiler) attach(source string, p plan.Place) {
	if p.Ground == "" {
		c.add(unix.SYS_MOUNT, c.m.str(source), c.m.str(p.Path), 0, unix.MS_BIND|unix.MS_REC, 0)
		return
	}
	c.add(unix.SYS_OPEN_TREE, at, c.m.str(source), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE).to(slotTree)
	c.place(p)
}

// place mounts the detached tree in slotTree.
func (c *compiler) place(p plan.Place) {
	if p.Ground == "" {
		c.moveTo(slotTree, p.Path)
		return
	}
	c.walk(p)
	empty := c.m.str("")
	c.add(unix.SYS_MOVE_MOUNT, 0, empty, 0, empty, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH).with(0, slotTree).with(2, slotDir)
	c.add(unix.SYS_CLOSE).with(0, slotTree)
	c.add(unix.SYS_CLOSE).with(0, slotDir)
}

func (c *compiler) mask(s plan.Mask) {
	if s.Optional {
		// ENOENT: nothing there, nothing to hide.
		c.add(unix.SYS_MOUNT, c.m.str("/dev/null"), c.m.str(s.Place.Path), 0, unix.MS_BIND, 0).ok(unix.ENOENT)
		return
	}
	source := plan.Scratch + "/mask/file"
	if s.Place.Dir {
		source = plan.Scratch + "/mask/dir"
	}
	c.attach(source, s.Place)
}

// lowerFD is the first of the descriptors by which overlays name their lowers;
// from 200 on are those of IdmappedMounts.
const lowerFD = 40

// overlay mounts an overlay. No path of the user's goes into the options, where
// `:`, `,` and `\` mean something and 4 KiB are the limit: a lower is opened as
// any other source and named by its descriptor.
func (c *compiler) overlay(s plan.Overlay) {
	g := c.m
	target := s.Place.Path
	if strings.HasPrefix(target, plan.Host+"/") {
		c.home = target
	}
	if s.Place.Ground != "" {
		c.scratch++
		target = fmt.Sprintf("%s/m%d", plan.Scratch, c.scratch)
		c.node(target, true)
	}
	if s.Borrowed > 0 {
		fd := uintptr(borrowFD + s.Borrowed - 1)
		c.add(unix.SYS_MOVE_MOUNT, fd, g.str(""), at, g.str(target), unix.MOVE_MOUNT_F_EMPTY_PATH)
		c.add(unix.SYS_CLOSE, fd)
	} else {
		c.mountOverlay(s, target)
	}
	if s.Lend {
		c.lend(target)
	}
	if s.Place.Ground != "" {
		c.walk(s.Place)
		empty := g.str("")
		c.add(unix.SYS_MOVE_MOUNT, at, g.str(target), 0, empty, unix.MOVE_MOUNT_T_EMPTY_PATH).with(2, slotDir)
		c.add(unix.SYS_CLOSE).with(0, slotDir)
	}
}

func (c *compiler) mountOverlay(s plan.Overlay, target string) {
	g := c.m
	var lowers []string
	for _, l := range s.Lower {
		switch {
		case s.Staged != "":
			l = plan.Scratch + "/" + s.Staged
		case onHost(l) != l && (s.Upper != "" || l != "/etc"):
			c.open(nil, onHost(l)[1:], unix.O_DIRECTORY, slotFile)
			fd := uintptr(lowerFD + c.scratch)
			if c.scratch++; fd >= 200 {
				c.err = fmt.Errorf("cannot overlay %q: there are more than %d overlays", s.Place.Path, 200-lowerFD)
			}
			c.add(unix.SYS_DUP3, 0, fd, unix.O_CLOEXEC).with(0, slotFile)
			c.add(unix.SYS_CLOSE).with(0, slotFile)
			l = fmt.Sprintf("%s/proc/self/fd/%d", plan.Host, fd)
		default:
			l = onHost(l)
		}
		lowers = append(lowers, l)
	}
	options := "lowerdir=" + strings.Join(lowers, ":")
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if s.Upper != "" {
		// The mark of the volatile mount before (fs/overlayfs/super.c,
		// ovl_create_volatile_dirty), because of which the next is refused.
		// It takes CAP_DAC_OVERRIDE: the directories have mode 000. ENOENT:
		// there was none.
		mark := path.Join(s.Work, "work", "incompat", "volatile")
		c.add(unix.SYS_UNLINKAT, at, g.str(mark+"/dirty"), 0).ok(unix.ENOENT, unix.ENOTDIR)
		c.add(unix.SYS_UNLINKAT, at, g.str(mark), unix.AT_REMOVEDIR).ok(unix.ENOENT, unix.ENOTDIR)
		options += ",volatile,upperdir=" + s.Upper + ",workdir=" + s.Work
	} else {
		flags |= unix.MS_RDONLY
	}
	options += overlayOptions
	c.add(unix.SYS_MOUNT, g.str("overlay"), g.str(target), g.str("overlay"), flags, g.str(options))
}

// probe mounts an overlay that must fail. With index=on a second user of an
// upper directory is EBUSY; if there is none, a work directory on another file
// system is EINVAL (fs/overlayfs/super.c, ovl_get_upper before
// ovl_get_workdir).
func (c *compiler) probe(s plan.ProbeUpper) {
	g := c.m
	dir := plan.Scratch + "/probe"
	c.node(dir, true)
	// ENOENT: the layer has never had it.
	c.add(unix.SYS_MOUNT, g.str("overlay"), g.str(dir), g.str("overlay"), 0,
		g.str("lowerdir="+dir+",upperdir="+s.Upper+",workdir="+dir+",userxattr,index=on")).ok(unix.EINVAL, unix.ENOENT)
}

// overlayOptions are the options of every overlay: xattrs in the user
// namespace's reach, and nothing that would make overlayfs follow a hint in the
// upper layer, which the build may have written when it was not mounted.
// redirect_dir=off would turn into follow where overlay.redirect_always_follow
// is set, and be refused.
//
// With an upper comes volatile: without it the end of the mount writes all of
// the upper's file system to disk, other programs' data included
// (fs/overlayfs/super.c, ovl_sync_fs), and each copy-up calls fsync(2).
const overlayOptions = ",userxattr,index=off,metacopy=off,redirect_dir=nofollow"

// resolve is how names are walked that a build could have made.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// open is openat2(2) of a name below the directory in slot dir (or the working
// directory, which is /).
func (c *compiler) open(dir *slot, name string, flags uint64, to slot) *op {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: resolve}
	o := c.add(unix.SYS_OPENAT2, at, c.m.str(name), put(c.m, how), unix.SizeofOpenHow).to(to)
	if dir != nil {
		o.with(0, *dir)
	}
	return o
}

// walk leaves in slotDir a descriptor of the place's mount point, on ground that
// a build could have written to. What is missing is made; what is in the way,
// a symlink above all, is renamed aside. If something changes a name meanwhile,
// the walk fails.
func (c *compiler) walk(p plan.Place) {
	if p.Host {
		flags := uint64(unix.O_NOFOLLOW)
		if p.Dir {
			flags |= unix.O_DIRECTORY
		}
		c.open(nil, p.Path[1:], flags, slotDir)
		return
	}
	c.walkParents(p, func(name string) {
		if !p.Dir {
			c.aside(name, unix.O_DIRECTORY)
		}
		c.reach(name, p.Dir)
	})
}

// walkParents leaves the directory above the place in slotDir, then calls last
// for the last name, and finally puts what last left in slotNext into slotDir.
func (c *compiler) walkParents(p plan.Place, last func(name string)) {
	dir := slotDir
	c.open(nil, p.Ground[1:], unix.O_DIRECTORY, dir)
	names := strings.Split(p.Path[len(p.Ground)+1:], "/")
	for _, name := range names[:len(names)-1] {
		c.reach(name, true)
	}
	last(names[len(names)-1])
}

// reach goes from slotDir to a name in it, which it makes if need be.
func (c *compiler) reach(name string, isDir bool) {
	g := c.m
	dir := slotDir
	flags := uint64(unix.O_NOFOLLOW)
	if isDir {
		flags |= unix.O_DIRECTORY
	}
	// ENOENT: to be made. ENOTDIR, ELOOP: in the way.
	c.open(&dir, name, flags, slotNext).ok(unix.ENOENT, unix.ENOTDIR, unix.ELOOP).onSuccess = 3
	// ENOENT: nothing in the way.
	c.add(unix.SYS_RENAMEAT2, 0, g.str(name), 0, g.str(asideName(name)), unix.RENAME_NOREPLACE).with(0, dir).with(2, dir).ok(unix.ENOENT)
	if isDir {
		c.add(unix.SYS_MKDIRAT, 0, g.str(name), 0o755).with(0, dir)
	} else {
		c.add(unix.SYS_MKNODAT, 0, g.str(name), unix.S_IFREG|0o644, 0).with(0, dir)
	}
	c.open(&dir, name, flags, slotNext)
	c.add(unix.SYS_CLOSE).with(0, dir)
	// dup(2) as the assignment slotDir = slotNext.
	c.add(unix.SYS_FCNTL, 0, unix.F_DUPFD_CLOEXEC, 0).with(0, slotNext).to(dir)
	c.add(unix.SYS_CLOSE).with(0, slotNext)
}

// aside renames a name in slotDir away if it can be opened with flags.
func (c *compiler) aside(name string, flags uint64) {
	dir := slotDir
	c.open(&dir, name, flags, slotNext).ok(unix.ENOENT, unix.ENOTDIR, unix.ELOOP).onQuiet = 2
	c.add(unix.SYS_CLOSE).with(0, slotNext)
	c.add(unix.SYS_RENAMEAT2, 0, c.m.str(name), 0, c.m.str(asideName(name)), unix.RENAME_NOREPLACE).with(0, dir).with(2, dir)
}

// asideName is a name that nothing has: the run before may have left one.
func asideName(name string) string {
	if len(name) > 200 {
		name = name[:200]
	}
	return fmt.Sprintf("%s.sbx-aside-%08x", name, rand.Uint32())
}

// symlink creates a symlink; on a build's ground it replaces what is there.
func (c *compiler) symlink(s plan.Symlink) {
	g := c.m
	if s.Place.Ground == "" {
		c.add(unix.SYS_SYMLINKAT, g.str(s.Target), at, g.str(s.Place.Path))
		return
	}
	dir := slotDir
	c.walkParents(s.Place, func(name string) {
		// EISDIR, ENOTEMPTY: renamed aside below.
		c.add(unix.SYS_UNLINKAT, 0, g.str(name), 0).with(0, dir).ok(unix.ENOENT, unix.EISDIR, unix.EPERM)
		c.add(unix.SYS_SYMLINKAT, g.str(s.Target), 0, g.str(name)).with(1, dir).ok(unix.EEXIST).onSuccess = 2
		c.add(unix.SYS_RENAMEAT2, 0, g.str(name), 0, g.str(asideName(name)), unix.RENAME_NOREPLACE).with(0, dir).with(2, dir)
		c.add(unix.SYS_SYMLINKAT, g.str(s.Target), 0, g.str(name)).with(1, dir)
		c.add(unix.SYS_CLOSE).with(0, dir)
	})
}
