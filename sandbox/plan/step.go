package plan

import (
	"fmt"
	"strings"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/seccomp"
)

// Step is one thing that the child does on its way to the command. A step is
// whole by itself; its String is a line of `sbx plan` and stands in the error
// message where it fails.
type Step interface {
	fmt.Stringer
	isStep()
}

// Place is where a mount goes.
type Place struct {
	// Path is the absolute path inside.
	Path string
	// Dir says that the mount point is a directory, else it is a file.
	Dir bool
	// Ground is the mount that Path lies on, if a build could have written
	// there: the private home, the tree, a cache. Each name between Ground
	// and Path is then walked without following symlinks, and what is in the
	// way is renamed aside. Empty where sbx itself made every name.
	Ground string
	// Host says that the ground is the host's own, shown writable: nothing is
	// made or renamed there, so the place must exist.
	Host bool
}

type (
	// MapIDs writes the maps of the user namespace (user_namespaces(7)).
	MapIDs struct{ UIDs, GIDs idmap.Map }
	// SetIDs changes to an id that is only there since the maps are.
	SetIDs struct{ UID, GID uint32 }
	// Private ends the propagation of mounts between the host and the
	// sandbox, in both directions (mount_namespaces(7)).
	Private struct{}
	// NewRoot mounts a tmpfs, makes it the root and keeps the host's below
	// Host.
	NewRoot struct{ Size int64 } // bytes; 0: half of the memory, tmpfs(5)
	// Stage binds a host path at a place of the scratch directory before Seal,
	// so that it keeps being writable.
	Stage struct {
		Source string
		Name   string
		Dir    bool
		// Idmapped is the place in Plan.Idmapped, plus one, of a mount that
		// the parent has made; then ReadOnly says what Seal would have.
		Idmapped int
		ReadOnly bool
	}
	// Seal makes everything of the host read-only, nosuid and nodev, in one
	// call; binds made afterwards inherit that.
	Seal struct{}
	// Open makes one directory of the sealed host writable again, as a mount of
	// its own, and gives it a name in the scratch directory.
	Open struct {
		Source string
		Name   string
		// Idmapped is as in Stage.
		Idmapped int
	}
	// Device binds a device node; before Seal, which forbids devices.
	Device struct {
		Source string
		Place  Place
	}
	// MkDir creates a directory on a tmpfs that sbx made.
	MkDir struct {
		Path string
		Mode uint32
	}
	// Symlink creates a symlink.
	Symlink struct {
		Place  Place
		Target string
	}
	// WriteFile creates a file on a tmpfs that sbx made.
	WriteFile struct {
		Path string
		Mode uint32
		Data string
	}
	// Seed puts a file into the private home, in place of one that sbx has put there
	// before, and on the way of which a build may have put anything.
	Seed struct {
		Place Place
		Data  string
		// Have is what the layer has there.
		Have Have
		// Dropped names what of the host's file is left out.
		Dropped []string
	}
	// Whiteout creates a whiteout, a 0:0 character device, in a lower layer.
	Whiteout struct{ Path string }
	// Bind shows a host path: read-only, unless Staged names what Stage kept
	// writable.
	Bind struct {
		Source string
		Staged string
		// System says that nobody but root can change a name on the way to
		// Source.
		System bool
		// ReadOnly says that writes fail; of what is staged it must be said.
		ReadOnly bool
		// Fleeting says that it may be gone by now, and is then not shown. It is for what
		// stands on no ground.
		Fleeting bool
		Place    Place
	}
	// Writable keeps a directory of the root's tmpfs writable when the root
	// becomes read-only, by a mount of its own.
	Writable struct{ Path string }
	// ReadOnly makes one mount read-only.
	ReadOnly struct{ Path string }
	// Overlay mounts an overlay. Upper and Work are below the layer, as Stage
	// placed it; both empty makes a read-only overlay of the lowers.
	Overlay struct {
		Lower []string
		// Staged names what Stage made of the only lower, if it did.
		Staged      string
		Upper, Work string
		Place       Place
		// Borrowed > 0 mounts that one of what Borrow has taken, instead of an
		// overlay of its own: another run has the upper mounted.
		Borrowed int
		// Lend sends sbx a copy of the mount, for other runs.
		Lend bool
	}
	// Borrow takes so many mounts from sbx, which has them from other runs.
	Borrow struct{ Count int }
	// Join enters the namespaces of another run, of which sbx has descriptors.
	Join struct{ Kinds []string }
	// Copy takes one detached mount from sbx and sends it so many copies. It does
	// so in a mount namespace of its own, in which nothing has ever run.
	Copy struct{ Count int }
	// Pick takes one mount from sbx and sends it a descriptor by which its file
	// system can be reconfigured (fspick(2)), in a mount namespace of its own, in
	// which nothing has ever run.
	Pick struct{}
	// ProbeUpper fails with EBUSY if an overlay has the directory as its
	// upper, and mounts nothing.
	ProbeUpper struct{ Upper string }
	// Mask hides a path behind an empty, read-only file or directory.
	Mask struct {
		Place Place
		// Optional: nothing there is nothing to hide.
		Optional bool
	}
	// Proc mounts a proc of the sandbox's pid namespace.
	Proc struct{}
	// ReadOnlyBelow binds a path onto itself, read-only.
	ReadOnlyBelow struct{ Path string }
	// Sysfs mounts a read-only sysfs of the sandbox's network namespace.
	Sysfs struct{}
	// Devpts mounts a devpts instance of the sandbox's own.
	Devpts struct{}
	// LeaveHost detaches the host's root.
	LeaveHost struct{}
	// Loopback brings lo up.
	Loopback struct{}
	// Hostname sets the host name.
	Hostname struct{ Name string }
	// ChangeDir enters the working directory.
	ChangeDir struct{ Path string }
	// Keyring joins a new session keyring (keyctl(2)).
	Keyring struct{}
	// Limits sets resource limits (setrlimit(2)).
	Limits struct {
		Nofile    [2]uint64 // soft, hard; hard 0 leaves it
		Processes uint64    // 0 leaves it
	}
	// Bound locks the securebits and drops every capability that is not in
	// Keep from the bounding set (capabilities(7)): no exec can bring it back.
	Bound struct{ Keep []int }
	// Capabilities drops every capability that is not in Keep from all sets.
	Capabilities struct{ Keep []int }
	// Ambient has the command keep capabilities although it is not uid 0.
	Ambient struct{ Keep []int }
	// TieToParent ties the sandbox to the life of sbx: PR_SET_PDEATHSIG, and a look
	// whether sbx has gone before.
	TieToParent struct{}
	// Undumpable makes pid 1 non-dumpable (PR_SET_DUMPABLE in prctl(2)): it is a
	// copy of sbx.
	Undumpable struct{}
	// NoNewPrivs sets no_new_privs (prctl(2)).
	NoNewPrivs struct{}
	// Scope denies signals and abstract sockets beyond the sandbox
	// (landlock(7), ABI 6).
	Scope struct {
		// SocketsOnly leaves signals alone.
		SocketsOnly bool
	}
	// Filter installs the system call filter.
	Filter struct {
		Name    string
		Program seccomp.Program
	}
)

func (MapIDs) isStep()        {}
func (SetIDs) isStep()        {}
func (Private) isStep()       {}
func (NewRoot) isStep()       {}
func (Stage) isStep()         {}
func (Seal) isStep()          {}
func (Open) isStep()          {}
func (Device) isStep()        {}
func (MkDir) isStep()         {}
func (Symlink) isStep()       {}
func (WriteFile) isStep()     {}
func (Seed) isStep()          {}
func (Whiteout) isStep()      {}
func (Bind) isStep()          {}
func (Writable) isStep()      {}
func (ReadOnly) isStep()      {}
func (Overlay) isStep()       {}
func (ProbeUpper) isStep()    {}
func (Borrow) isStep()        {}
func (Join) isStep()          {}
func (Copy) isStep()          {}
func (Pick) isStep()          {}
func (Mask) isStep()          {}
func (Proc) isStep()          {}
func (ReadOnlyBelow) isStep() {}
func (Sysfs) isStep()         {}
func (Devpts) isStep()        {}
func (LeaveHost) isStep()     {}
func (Loopback) isStep()      {}
func (Hostname) isStep()      {}
func (ChangeDir) isStep()     {}
func (Keyring) isStep()       {}
func (Limits) isStep()        {}
func (Bound) isStep()         {}
func (Capabilities) isStep()  {}
func (Ambient) isStep()       {}
func (TieToParent) isStep()   {}
func (Undumpable) isStep()    {}
func (NoNewPrivs) isStep()    {}
func (Scope) isStep()         {}
func (Filter) isStep()        {}

// line lays a step out: the word in a column of its own, the rest behind it.
func line(word string, rest ...string) string {
	return strings.TrimRight(fmt.Sprintf("%-13s %s", word, strings.Join(rest, " ")), " ")
}

// show quotes a path only where it would be misread or could drive a terminal.
func show(path string) string {
	if q := fmt.Sprintf("%q", path); len(q) != len(path)+2 || strings.Contains(path, " ") {
		return q
	}
	return path
}

// how tells the difference between source and target, if there is one.
func how(source string, p Place) string {
	if source == p.Path {
		return show(p.Path)
	}
	return show(p.Path) + " <- " + show(source)
}

func extents(m idmap.Map) string {
	return strings.ReplaceAll(strings.TrimSpace(m.String()), "\n", ", ")
}

func (s MapIDs) String() string {
	return line("map_ids", "uid "+extents(s.UIDs)+"; gid "+extents(s.GIDs))
}
func (s SetIDs) String() string  { return line("set_ids", fmt.Sprintf("uid %d gid %d", s.UID, s.GID)) }
func (s Private) String() string { return line("private", "/", "recursive") }
func (s NewRoot) String() string {
	size := "half of the memory"
	if s.Size > 0 {
		size = fmt.Sprintf("%d bytes", s.Size)
	}
	return line("root", "tmpfs", "size="+size)
}
func (s Stage) String() string {
	switch {
	case s.ReadOnly:
		return line("stage", show(s.Source), "idmapped ro")
	case s.Idmapped > 0:
		return line("stage", show(s.Source), "idmapped writable")
	}
	return line("stage", show(s.Source), "writable")
}
func (s Open) String() string {
	if s.Idmapped > 0 {
		return line("open", show(s.Source), "idmapped writable")
	}
	return line("open", show(s.Source), "writable")
}
func (s Seal) String() string    { return line("seal", "the host's root", "ro,nosuid,nodev recursive") }
func (s Device) String() string  { return line("device", how(s.Source, s.Place)) }
func (s MkDir) String() string   { return line("mkdir", show(s.Path), fmt.Sprintf("mode=%04o", s.Mode)) }
func (s Symlink) String() string { return line("symlink", show(s.Place.Path)+" -> "+show(s.Target)) }
func (s WriteFile) String() string {
	return line("write", show(s.Path), fmt.Sprintf("mode=%04o %d bytes", s.Mode, len(s.Data)))
}
func (s Seed) String() string {
	how := fmt.Sprintf("%d bytes, credentials removed", len(s.Data))
	switch s.Have {
	case HasSame:
		how += "; there already"
	case HasOther:
		how = "kept: the layer has its own"
	}
	return line("seed", show(s.Place.Path), how)
}
func (s Whiteout) String() string { return line("whiteout", show(s.Path)) }
func (s Bind) String() string {
	if s.ReadOnly {
		return line("bind", how(s.Source, s.Place), "ro")
	}
	return line("bind", how(s.Source, s.Place), "rw")
}
func (s Writable) String() string { return line("writable", show(s.Path)) }
func (s ReadOnly) String() string { return line("read_only", show(s.Path)) }
func (s Overlay) String() string {
	lowers := make([]string, len(s.Lower))
	for i, l := range s.Lower {
		lowers[i] = show(l)
	}
	rest := "lower=" + strings.Join(lowers, ":")
	if s.Upper != "" {
		rest += " upper=" + show(s.Upper)
		if s.Borrowed > 0 {
			rest += " of another run"
		}
	} else {
		rest += " ro"
	}
	return line("overlay", show(s.Place.Path), rest)
}
func (s Borrow) String() string {
	return line("borrow", fmt.Sprintf("%d mounts of another run", s.Count))
}
func (s Copy) String() string          { return line("copy", fmt.Sprintf("%d times a mount", s.Count)) }
func (s Pick) String() string          { return line("pick") }
func (s Join) String() string          { return line("join", strings.Join(s.Kinds, " ")) }
func (s ProbeUpper) String() string    { return line("probe", show(s.Upper)) }
func (s Mask) String() string          { return line("mask", show(s.Place.Path)) }
func (s Proc) String() string          { return line("proc", "/proc") }
func (s ReadOnlyBelow) String() string { return line("read_only", show(s.Path)) }
func (s Sysfs) String() string         { return line("sysfs", "/sys", "ro") }
func (s Devpts) String() string        { return line("devpts", "/dev/pts", "newinstance") }
func (s LeaveHost) String() string     { return line("leave_host") }
func (s Loopback) String() string      { return line("loopback", "up") }
func (s Hostname) String() string      { return line("hostname", s.Name) }
func (s ChangeDir) String() string     { return line("chdir", show(s.Path)) }
func (s Keyring) String() string       { return line("keyring", "new session keyring") }
func (s Limits) String() string {
	text := "core=1"
	if s.Nofile[1] != 0 {
		text += fmt.Sprintf(" nofile=%d:%d", s.Nofile[0], s.Nofile[1])
	}
	if s.Processes != 0 {
		text += fmt.Sprintf(" nproc=%d", s.Processes)
	}
	return line("limits", text)
}
func (s Bound) String() string        { return line("bound", capabilityNames(s.Keep)) }
func (s Capabilities) String() string { return line("capabilities", capabilityNames(s.Keep)) }
func (s Ambient) String() string      { return line("ambient", capabilityNames(s.Keep)) }
func (s TieToParent) String() string  { return line("tie", "to the life of sbx") }
func (s Undumpable) String() string   { return line("undumpable", "pid 1") }
func (s NoNewPrivs) String() string   { return line("no_new_privs") }
func (s Scope) String() string {
	if s.SocketsOnly {
		return line("landlock", "scope: abstract sockets")
	}
	return line("landlock", "scope: signals, abstract sockets")
}
func (s Filter) String() string {
	return line("seccomp", s.Name, fmt.Sprintf("(%d instructions)", len(s.Program)))
}
