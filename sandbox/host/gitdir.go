package host

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Kinds of a GitDir.
const (
	GitWorktree  = "worktree"  // the common directory of a git-worktree(1); holds the worktree's own
	GitSubmodule = "submodule" // of a submodule whose superproject is not the tree
	GitSeparate  = "separate"  // git init --separate-git-dir, with core.worktree set
	GitAlternate = "alternate" // objects borrowed by git clone --shared or --reference; read-only will do
)

// A GitDir is a directory outside the tree without which git(1) does not work in
// the tree.
//
// All kinds but one point back to the tree, so that their owner meant it. An
// alternate cannot: it is only known to be an object store, of the caller's,
// that the tree's git directory names. What unpacked the tree may have written
// that name to read another repository.
type GitDir struct {
	Path string // real path: absolute, without symbolic links; may hold the tree (worktrees in a bare repository)
	Kind string
	// Admin is a worktree's own directory below Path, "worktrees/NAME".
	Admin string
}

func (g GitDir) String() string { return g.Kind + " " + g.Path }

const (
	gitFileMax   = 4 << 10  // of .git, gitdir and commondir, which hold one path
	gitConfigMax = 64 << 10 // of config and alternates
	gitDepthMax  = 5        // of alternates of alternates, as in git
	gitSeenMax   = 16       // of alternates in all
)

// GitDirs returns the directories outside root, a real path, that git needs
// for root; see gitrepository-layout(5). The errors are warnings: each is about
// one directory that will be missing, and why.
//
// Root is untrusted: an archive can bring a .git file that names ~/.ssh, or any
// repository. So a directory is returned only if it is a git directory, is
// the caller's, points back to root, and is reached from / through no symbolic
// link and no automount point that root is not below. hidden says whether a path
// must not be shown, and is asked before anything at the path is touched; it
// must hold for ~/.ssh and the like with all below them, and for the home
// directory with all above it.
//
// Names are taken from files opened without following links, never waiting for a
// fifo, and never longer than 64 KiB. Of root, only root/.git and what it names
// is looked at.
func GitDirs(root string, hidden func(path string) bool) ([]GitDir, []error) {
	root = filepath.Clean(root)
	if !filepath.IsAbs(root) {
		return nil, nil
	}
	f := gitFinder{root: root, self: uint32(unix.Geteuid()), hidden: hidden}
	var st unix.Stat_t
	dotgit := filepath.Join(root, ".git")
	switch err := lstat(dotgit, &st); {
	case err == unix.ENOENT || err == unix.ENOTDIR:
	case err != nil:
		f.warn(dotgit, err)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		f.alternates(dotgit+"/objects", 1)
	default:
		f.follow(dotgit)
	}
	return f.dirs, f.warnings
}

// A gitFinder is one run of GitDirs.
type gitFinder struct {
	root     string
	self     uint32
	hidden   func(string) bool
	dirs     []GitDir
	seen     []string // object directories looked at
	warnings []error
}

func (f *gitFinder) warn(path string, cause error) {
	f.warnings = append(f.warnings, fmt.Errorf("cannot show git directory %q: %w", path, cause))
}

// follow takes a .git that is not a directory.
func (f *gitFinder) follow(dotgit string) {
	target, err := readDotGit(f.root, f.self)
	if err != nil {
		f.warn(dotgit, err)
		return
	}
	if pathWithin(target, f.root) {
		f.alternates(target+"/objects", 1)
		return
	}
	dir, err := f.check(target)
	if err != nil {
		f.warn(target, err)
		return
	}
	f.dirs = append(f.dirs, dir)
	f.alternates(dir.Path+"/objects", 1)
}

// check tells what must appear for a .git file that names target.
func (f *gitFinder) check(target string) (GitDir, error) {
	fd, err := f.open(target)
	if err != nil {
		return GitDir{}, err
	}
	defer unix.Close(fd)
	common, err := readName(fd, "commondir", target, f.self)
	if errors.Is(err, unix.ENOENT) {
		return f.checkModule(fd, target)
	}
	if err != nil {
		return GitDir{}, err
	}

	// A worktree's own directory is COMMON/worktrees/NAME: commondir may not
	// lead elsewhere.
	if filepath.Dir(target) != filepath.Join(common, "worktrees") {
		return GitDir{}, fmt.Errorf("its commondir is %q, which does not hold it as a worktree", common)
	}
	back, err := readName(fd, "gitdir", target, f.self)
	if err != nil {
		return GitDir{}, err
	}
	if back != filepath.Join(f.root, ".git") {
		return GitDir{}, fmt.Errorf("it belongs to %q and not to %q", back, filepath.Join(f.root, ".git"))
	}
	if err := requireGit(fd, f.self, "HEAD"); err != nil {
		return GitDir{}, err
	}
	commonFD, err := f.open(common)
	if err != nil {
		return GitDir{}, fmt.Errorf("%q: %w", common, err)
	}
	defer unix.Close(commonFD)
	if err := requireGit(commonFD, f.self, "HEAD", "objects/", "refs/"); err != nil {
		return GitDir{}, err
	}
	if pathWithin(f.root, common) {
		if err := onlyWorktrees(commonFD, common, f.root); err != nil {
			return GitDir{}, err
		}
	}
	return GitDir{Path: common, Kind: GitWorktree, Admin: "worktrees/" + filepath.Base(target)}, nil
}

// checkModule is check for a directory that is a whole repository.
func (f *gitFinder) checkModule(fd int, target string) (GitDir, error) {
	if pathWithin(f.root, target) {
		return GitDir{}, errors.New("it holds the source tree")
	}
	if err := requireGit(fd, f.self, "HEAD", "objects/", "refs/"); err != nil {
		return GitDir{}, err
	}
	switch back, err := workTree(fd, target, f.self); {
	case err != nil:
		return GitDir{}, err
	case back == "":
		return GitDir{}, errors.New("it does not point back to the source tree (its core.worktree is not set)")
	case back != f.root:
		return GitDir{}, fmt.Errorf("it belongs to %q and not to %q", back, f.root)
	}
	if strings.Contains(target, "/modules/") {
		return GitDir{Path: target, Kind: GitSubmodule}, nil
	}
	return GitDir{Path: target, Kind: GitSeparate}, nil
}

// alternates adds the object directories that objects borrows from.
func (f *gitFinder) alternates(objects string, depth int) {
	file := objects + "/info/alternates"
	fd, err := openReal(objects+"/info", f.root)
	if err != nil {
		if !errors.Is(err, unix.ENOENT) {
			f.warn(file, err)
		}
		return
	}
	defer unix.Close(fd)
	data, err := readSmall(fd, "alternates", gitConfigMax, f.self)
	if err != nil {
		if !errors.Is(err, unix.ENOENT) {
			f.warn(file, err)
		}
		return
	}
	for line := range strings.Lines(data) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '"' {
			if line, err = strconv.Unquote(line); err != nil {
				f.warn(file, errors.New("it has a line that is not understood"))
				return
			}
		}
		if len(line) > unix.PathMax {
			f.warn(file, errors.New("it has a line that is too long"))
			return
		}
		if depth > gitDepthMax || len(f.seen) >= gitSeenMax {
			f.warn(file, errors.New("there are too many alternates"))
			return
		}
		f.alternate(resolveName(line, objects), depth)
	}
}

func (f *gitFinder) alternate(objects string, depth int) {
	if slices.Contains(f.seen, objects) {
		return // named twice, or in a circle
	}
	f.seen = append(f.seen, objects)
	shown := func(d GitDir) bool { return pathWithin(objects, d.Path) }
	if !pathWithin(objects, f.root) && !slices.ContainsFunc(f.dirs, shown) {
		if err := f.checkObjects(objects); err != nil {
			f.warn(objects, err)
			return
		}
		f.dirs = append(f.dirs, GitDir{Path: objects, Kind: GitAlternate})
	}
	f.alternates(objects, depth+1)
}

// checkObjects says why a directory is not one of git objects. As nothing points
// back from it, all its names must be such as git gives.
func (f *gitFinder) checkObjects(objects string) error {
	if pathWithin(f.root, objects) {
		return errors.New("it holds the source tree")
	}
	fd, err := f.open(objects)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := requireGit(fd, f.self, "pack/", "info/"); err != nil {
		return err
	}
	return eachName(fd, func(name string) error {
		if isObjectsName(name) {
			return nil
		}
		return fmt.Errorf("it has %q, which is not of a git object store", name)
	})
}

// open opens a directory that a file of the tree named.
func (f *gitFinder) open(path string) (int, error) {
	if f.hidden(path) || path == "/" || isSystemPlace(path) {
		return -1, errors.New("it is a hidden path")
	}
	fd, err := openReal(path, f.root)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Uid != f.self {
		err = errors.New("another user owns it")
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
