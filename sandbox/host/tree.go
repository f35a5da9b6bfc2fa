package host

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Tree is the source tree of a run: the directory that the sandbox shows
// copy-on-write at its own path.
type Tree struct {
	Root string // real path: absolute, without symbolic links
	Why  string // what decided: "--source", "$SBX_SOURCE", "config", the name of a version-control system, "state", "current directory"
	Said bool   // nothing decided, so that the current directory must be said once

	// Passed is a version-control mark above the current directory that did
	// not count because another user could have put it there; "" if none.
	Passed string
}

// TreeOptions is what FindTree goes by, in this order of precedence: Source,
// Env, Named, version control, HasState, Dir.
type TreeOptions struct {
	Dir      string                // the caller's current directory
	Source   string                // --source; "" if not given
	Env      string                // $SBX_SOURCE; "" if not set
	Home     string                // the caller's home directory; "" if there is none
	Named    func(dir string) bool // says that the configuration names dir; may be nil
	HasState func(dir string) bool // says that earlier runs left state for dir; may be nil
}

// A TreeError says why a directory cannot be the source tree.
type TreeError struct {
	Dir   string
	Cause error
}

func (e *TreeError) Error() string {
	return fmt.Sprintf("cannot use %q as the source tree: %v", e.Dir, e.Cause)
}

func (e *TreeError) Unwrap() error { return e.Cause }

// Hint is a command that avoids the error.
func (e *TreeError) Hint() string { return "sbx --source DIR -- COMMAND" }

// A vcsMark is an entry by which the root of a checkout is known.
type vcsMark struct {
	name, tool string
	file       bool // may also be a regular file
	every      bool // is in every directory of a checkout: the topmost of a row is its root
}

// vcsMarks is in order of preference: of two in one directory (jj beside git)
// the first names the reason.
var vcsMarks = []vcsMark{
	{name: ".git", tool: "git", file: true}, // a file in worktrees and submodules, gitrepository-layout(5)
	{name: ".hg", tool: "hg"},
	{name: ".jj", tool: "jj"},
	{name: ".svn", tool: "svn"},
	{name: ".bzr", tool: "bzr"},
	{name: ".pijul", tool: "pijul"},
	{name: "_darcs", tool: "darcs"},
	{name: ".fslckout", tool: "fossil", file: true},
	{name: "_FOSSIL_", tool: "fossil", file: true},
	{name: "CVS/Entries", tool: "cvs", file: true, every: true},
}

// FindTree finds the source tree. Its errors are of type *TreeError.
//
// It looks at nothing but what was named and at the ancestors of the current
// directory, and stops below the home directory, the root and the system's
// places: these are never a tree, whatever lies in them.
func FindTree(o TreeOptions) (Tree, error) {
	home := findHome(o.Home)
	for _, said := range []struct{ dir, why string }{{o.Source, "--source"}, {o.Env, "$SBX_SOURCE"}} {
		if said.dir == "" {
			continue
		}
		dir := said.dir
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(o.Dir, dir)
		}
		root, err := home.realTree(dir)
		if err != nil {
			return Tree{}, err
		}
		return Tree{Root: root, Why: said.why}, nil
	}
	dir, err := home.realTree(o.Dir)
	if err != nil {
		return Tree{}, err
	}

	up := home.ancestors(dir)
	for i := range up {
		if o.Named != nil && o.Named(up[i].dir) {
			return Tree{Root: up[i].dir, Why: "config"}, nil
		}
	}
	tree, found := checkout(up)
	if found {
		return tree, nil
	}
	for i := range up {
		if o.HasState != nil && o.HasState(up[i].dir) {
			tree.Root, tree.Why = up[i].dir, "state"
			return tree, nil
		}
	}
	tree.Root, tree.Why, tree.Said = dir, "current directory", true
	return tree, nil
}

// checkout finds the root of the checkout that holds up[0], among up, a
// directory and its ancestors.
//
// A mark above the current directory counts only if it is not someone else's
// (see trusts): a stranger's .git in a shared directory would otherwise widen
// the tree to all that lies there. And like git(1) it does not look beyond the
// file system of the current directory (GIT_DISCOVERY_ACROSS_FILESYSTEM): above
// it the tree would have a mount below, which overlayfs refuses, and an
// automounter could be asked for a host named ".git".
func checkout(up []ancestor) (t Tree, found bool) {
	cwd := &up[0].st
	self := uint32(unix.Geteuid())
	// The mark that counts at a level; nil if there is none, and above the file system.
	markAt := func(i int) *vcsMark {
		if i >= len(up) || up[i].st.Dev != cwd.Dev {
			return nil
		}
		var st unix.Stat_t
		m := markIn(up[i].dir, &st)
		if m == nil || i == 0 || trusts(self, st.Uid, up[i].st.Uid, cwd.Uid) {
			return m
		}
		if t.Passed == "" {
			t.Passed = filepath.Join(up[i].dir, m.name)
		}
		return nil
	}

	at := 0
	m := markAt(at)
	for m == nil {
		if at++; at == len(up) {
			return t, false
		}
		m = markAt(at)
	}
	for m.every && markAt(at+1) == m {
		at++
	}
	// A submodule belongs to its superproject, which may itself be one.
	for i, target := at+1, moduleTarget(up[at].dir); target != "" && i < len(up); i++ {
		above := markAt(i)
		if above != nil && above.name == ".git" && holdsModule(up[i].dir, target) && pointsBack(target, up[at].dir) {
			at, target = i, moduleTarget(up[i].dir)
		}
	}
	t.Root, t.Why = up[at].dir, m.tool
	return t, true
}

// trusts says whether a mark above the current directory counts, by the owners
// of the mark, of the directory it is in, and of the current directory.
//
// Ours and root's do. A third user's only where all three are that user's, as
// in a container whose root works in a bind of someone's checkout: who owns
// the current directory decides what the build does anyway. The idea is that of
// safe.directory in git-config(1).
func trusts(self, mark, dir, cwd uint32) bool {
	return mark == self || mark == 0 || mark == dir && dir == cwd
}

// markIn returns the first mark in dir, and its status.
func markIn(dir string, st *unix.Stat_t) *vcsMark {
	fd, err := openat(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	for i := range vcsMarks {
		m := &vcsMarks[i]
		if lstatat(fd, m.name, st) != nil {
			continue
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR, unix.S_IFLNK: // repo(1) makes .git a symlink; only its being there counts
			return m
		case unix.S_IFREG:
			if m.file {
				return m
			}
		}
	}
	return nil
}
