package sandbox

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/host"
)

// explain says after a failure what no tool can: the kernel refuses to copy up
// files of owners and groups that are not mapped, with EOVERFLOW, "Value too
// large for defined data type". `sudo make` leaves such files behind.
func (s *Session) explain(o Options, f host.Facts) {
	mapped := idmap.Map.Reverse
	if f.Idmapped {
		mapped = idmap.Map.Lookup // the mounts map by what the ids are inside
	}
	const why = "cannot be changed inside (\"Value too large for defined data type\")"
	name := func(path string) string {
		if path == s.Tree.Root {
			return "the source tree"
		}
		return fmt.Sprintf("%q", path[len(s.Tree.Root)+1:])
	}
	group := ""
	for path, st := range near(s.Tree.Root) {
		if _, ok := mapped(f.UIDs, st.Uid); !ok {
			o.warn("%s belongs to another user, and %s: sudo chown -R %d:%d %s", name(path), why, f.UID, f.GID, quoted(s.Tree.Root))
			return
		}
		if _, ok := mapped(f.GIDs, st.Gid); !ok && group == "" {
			group = path
		}
	}
	if group != "" {
		o.warn("%s belongs to another group, and %s: chgrp -R %d %s", name(group), why, f.GID, quoted(s.Tree.Root))
	}
}

// nearby is how many entries of a tree are looked at, which takes some ten
// milliseconds.
const nearby = 5000

// near yields a directory and what is in it, the higher levels first.
func near(root string) iter.Seq2[string, *syscall.Stat_t] {
	return func(yield func(string, *syscall.Stat_t) bool) {
		info, err := os.Lstat(root)
		if err != nil || !yield(root, info.Sys().(*syscall.Stat_t)) {
			return
		}
		left := nearby
		for dirs := []string{root}; len(dirs) > 0 && left > 0; dirs = dirs[1:] {
			f, err := os.Open(dirs[0])
			if err != nil {
				continue
			}
			entries, _ := f.ReadDir(left)
			f.Close()
			left -= len(entries)
			for _, e := range entries {
				info, err := e.Info()
				if err != nil {
					continue
				}
				path := filepath.Join(dirs[0], e.Name())
				if !yield(path, info.Sys().(*syscall.Stat_t)) {
					return
				}
				if e.IsDir() {
					dirs = append(dirs, path)
				}
			}
		}
	}
}
