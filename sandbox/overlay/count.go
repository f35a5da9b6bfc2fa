package overlay

import (
	"strings"

	"golang.org/x/sys/unix"
)

// count adds up what is in a directory of the upper, at all depths.
func count(parent int, dir string, c *Change, guard bool, quit chan struct{}) error {
	fd, err := openBeneath(parent, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	ch := newChain(fd, unix.O_RDONLY)
	defer ch.close()
	buf := make([]byte, 32<<10)
	// stack has, for each level, the directories that are still to come.
	var stack [][]string
	path := c.Path
	enter := func() error {
		h, err := ch.top()
		if err != nil {
			return err
		}
		names, err := readNames(h.fd, buf)
		if err != nil {
			return err
		}
		var dirs []string
		for _, n := range names {
			st, err := StatAt(h.fd, n.name)
			if err != nil {
				return err
			}
			if !st.Exists() || st.IsWhiteout() {
				continue
			}
			c.Count++
			c.Alloc += st.Alloc
			if guard && refused(h.fd, path, n.name, st) {
				c.Refused++
			}
			switch {
			case st.IsDir():
				dirs = append(dirs, n.name)
			case st.IsRegular():
				c.Size += st.Size
			}
		}
		stack = append(stack, dirs)
		return nil
	}
	c.Alloc = c.Upper.Alloc
	if err := enter(); err != nil {
		return err
	}
	for {
		select {
		case <-quit:
			return nil
		default:
		}
		n := len(stack) - 1
		if len(stack[n]) == 0 {
			if n == 0 {
				return nil
			}
			stack = stack[:n]
			path = path[:len(path)-len(ch.levels[n-1].name)-1]
			ch.pop()
			continue
		}
		next := stack[n][0]
		stack[n] = stack[n][1:]
		switch _, err := ch.push(next); err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
			continue // a build has just removed it
		default:
			return err
		}
		path += "/" + next
		if err := enter(); err != nil {
			return err
		}
	}
}

// refused is the short form of Guard.Check for counting: what shows by the name,
// the type and the target of a symlink.
func refused(dir int, path, name string, st Stat) bool {
	if r := byName(path, fold(name)); r != nil && r.level == Refuse {
		return true
	}
	switch {
	case st.IsRegular(), st.IsDir():
		return false
	case !st.IsSymlink():
		return true
	}
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(dir, name, buf[:])
	return err == nil && leaves(path, string(buf[:max(n, 0)]))
}

// leaves says whether the target of a symlink in a directory leads out of the
// tree if no further symlink is on the way.
func leaves(dir, target string) bool {
	if strings.HasPrefix(target, "/") {
		return true
	}
	depth := 0
	if dir != "" {
		depth = 1 + strings.Count(dir, "/")
	}
	for n := range strings.SplitSeq(target, "/") {
		switch n {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}
