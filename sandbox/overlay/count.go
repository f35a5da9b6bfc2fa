package overlay

import (
	"golang.org/x/sys/unix"
)

// count adds up what is in a directory of the upper, at all depths.
func count(parent int, dir string, c *Change, quit chan struct{}) error {
	fd, err := openBeneath(parent, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	ch := newChain(fd, unix.O_RDONLY)
	defer ch.close()
	buf := make([]byte, 32<<10)
	// stack has, for each level, the directories that are still to come.
	var stack [][]string
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
		if err := enter(); err != nil {
			return err
		}
	}
}
