package state

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// git refreshes .git/index when it looks at the tree, inside as well as outside.
// The layer then has its own copy, and after a commit on the host it would call
// the tree dirty for ever. A copy that says nothing of its own is dropped when
// the host's has changed since; one that belongs to commits, merges or staged
// files of the layer stays.

// GitDir is a git directory that an overlay shows.
type GitDir struct {
	// Lower is the directory on the host, Upper the layer's, which need not
	// exist.
	Lower, Upper string
}

// gitWork are entries of a git directory that show work of the layer's own:
// an index beside them must not be dropped.
var gitWork = []string{"HEAD", "ORIG_HEAD", "refs", "objects", "packed-refs", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "BISECT_LOG"}

// gitIndexFile keeps, for each git directory, what the host's index was.
func (l Layer) gitIndexFile() string { return filepath.Join(l.Dir, "git-index") }

// DropIndexes drops the layer's out-of-date copies. It must not run while the
// layer is mounted. The result is for KeepIndexes, at the end of the run.
func (k *Lock) DropIndexes(dirs []GitDir) (seen map[GitDir]string) {
	seen = make(map[GitDir]string, len(dirs))
	var saved string
	for _, g := range dirs {
		seen[g] = indexState(g.Lower)
		fd := openUpper(g.Upper)
		if fd < 0 {
			continue
		}
		if exists(fd, "index") && !anyExists(fd, gitWork) {
			if saved == "" {
				data, _ := readSmall(k.Layer.gitIndexFile())
				saved = string(data) + "\n"
			}
			if !strings.Contains(saved, indexLine(g, seen[g])) {
				unix.Unlinkat(fd, "index", 0)
			}
		}
		unix.Close(fd)
	}
	return seen
}

// KeepIndexes notes what the host's indexes were when the run began, for those
// of which the layer now has a copy.
func (k *Lock) KeepIndexes(seen map[GitDir]string) {
	var b strings.Builder
	for g, state := range seen {
		fd := openUpper(g.Upper)
		if fd < 0 {
			continue
		}
		if exists(fd, "index") {
			b.WriteString(indexLine(g, state))
		}
		unix.Close(fd)
	}
	if b.Len() == 0 {
		return
	}
	if old, _ := readSmall(k.Layer.gitIndexFile()); string(old) != b.String() {
		k.Layer.write(k.Layer.gitIndexFile(), b.String())
	}
}

func indexLine(g GitDir, state string) string { return fmt.Sprintf("%q %s\n", g.Lower, state) }

// indexState changes whenever git writes the index: it always makes a new file.
func indexState(dir string) string {
	var st unix.Stat_t
	if unix.Lstat(dir+"/index", &st) != nil {
		return "none"
	}
	return fmt.Sprintf("%d %d %d.%d", st.Ino, st.Size, st.Ctim.Sec, st.Ctim.Nsec)
}

// openUpper opens a directory of an upper, of which the build may have made
// anything; -1 if it is not one.
func openUpper(dir string) int {
	parent, err := unix.Open(filepath.Dir(dir), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	defer unix.Close(parent)
	fd, err := unix.Openat(parent, filepath.Base(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

func exists(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

func anyExists(dir int, names []string) bool {
	for _, n := range names {
		if exists(dir, n) {
			return true
		}
	}
	return false
}
