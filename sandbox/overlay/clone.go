package overlay

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// Clone copies what is in a directory of a layer into a fresh one: files as
// reflinks where the file system can, with modes, times, hard links, the user's
// attributes and what overlayfs has to know. No run changes it meanwhile. With owners
// they keep those too, which takes a user namespace that has the ids; otherwise the
// files are the caller's.
func Clone(from string, to int, owners bool, progress func(files, bytes int64)) error {
	o, err := Pair{Upper: from}.Open()
	if err != nil {
		return err
	}
	defer o.Close()
	c := &cloner{from: newParents(o.upper), to: newParents(to), links: map[inode]string{}, owners: owners, progress: progress}
	defer c.from.close()
	defer c.to.close()
	for ch, err := range o.Changes(Options{All: true, Same: true}) {
		if err == nil {
			err = c.entry(ch)
		}
		if err != nil {
			var own *Error
			if !errors.As(err, &own) {
				err = &Error{Do: "copy", Path: ch.Path, Err: err}
			}
			return err
		}
	}
	if err := c.finish(to); err != nil {
		return err
	}
	// What a build sees as the root of its tree, or as its home, is the build's too.
	return c.top(o.upper, to)
}

type cloner struct {
	from, to     *parents
	links        map[inode]string
	owners       bool
	dirs         []cloned
	progress     func(files, bytes int64)
	files, bytes int64
}

// cloned is a directory, whose mode and time come last.
type cloned struct {
	path  string
	mode  uint32
	mtime int64
}

func (c *cloner) tell(bytes int64) {
	c.bytes += bytes
	if c.progress != nil {
		c.progress(c.files, c.bytes)
	}
}

func (c *cloner) entry(ch Change) error {
	from, name, err := c.from.at(ch.Path)
	if err != nil {
		return err
	}
	to, _, err := c.to.at(ch.Path)
	if err != nil {
		return err
	}
	c.files++
	c.tell(0)
	up := ch.Upper
	switch {
	case ch.Whiteout:
		if up, err = StatAt(from, name); err != nil {
			return err
		}
		err = unix.Mknodat(to, name, unix.S_IFCHR, 0)
	case up.IsDir():
		c.dirs = append(c.dirs, cloned{ch.Path, up.Perm(), up.Mtime})
		if err := unix.Mkdirat(to, name, 0o700); err != nil {
			return err
		}
		if err := c.own(from, to, name); err != nil {
			return err
		}
		return cloneDirXattrs(from, to, name)
	case up.IsRegular():
		return c.file(from, to, name, ch)
	case up.IsSymlink():
		var target string
		if target, err = readLink(from, name); err == nil {
			err = unix.Symlinkat(target, to, name)
		}
	default:
		err = unix.Mknodat(to, name, up.Mode, 0) // a fifo or socket
	}
	if err == nil && !ch.Whiteout {
		err = c.own(from, to, name)
	}
	if err != nil {
		return err
	}
	ts := timespecs(up.Mtime)
	return unix.UtimesNanoAt(to, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// own gives a copy the owners of the original.
func (c *cloner) own(from, to int, name string) error {
	if !c.owners {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
}

func (c *cloner) file(from, to int, name string, ch Change) error {
	if ch.Upper.Nlink > 1 {
		id := inode{ch.Upper.Dev, ch.Upper.Ino}
		if first, ok := c.links[id]; ok {
			parent, last := split(first)
			dir, err := OpenBeneath(c.to.root, parent, unix.O_PATH|unix.O_DIRECTORY)
			if err != nil {
				return err
			}
			defer unix.Close(dir)
			return unix.Linkat(dir, last, to, name, 0)
		}
		c.links[id] = ch.Path
	}
	src, err := openRegular(from, name, ch.Upper)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if err := copyFile(dst, src, ch.Upper.Size, c.tell); err != nil {
		return err
	}
	if err := c.own(from, to, name); err != nil {
		return err
	}
	list, err := listXattrs(src)
	if err != nil {
		return err
	}
	if err := setXattrs(dst, list); err != nil {
		return err
	}
	if err := unix.Fchmod(dst, ch.Upper.Perm()); err != nil {
		return err
	}
	return setTimes(dst, ch.Upper.Mtime)
}

// cloneDirXattrs copies the attributes of a directory, with the one of overlayfs
// that is honoured.
func cloneDirXattrs(from, to int, name string) error {
	src, err := openBeneath(from, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := openBeneath(to, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	list, err := listXattrs(src)
	if err != nil {
		return err
	}
	hides, err := isOpaque(src)
	if err != nil {
		return err
	}
	if hides {
		list = append(list, xattr{"user.overlay.opaque", "y"})
	}
	return setXattrs(dst, list)
}

func (c *cloner) finish(to int) error {
	for _, d := range slices.Backward(c.dirs) {
		fd, err := OpenBeneath(to, d.path, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return &Error{Do: "copy", Path: d.path, Err: err}
		}
		err = errors.Join(setTimes(fd, d.mtime), unix.Fchmod(fd, d.mode))
		unix.Close(fd)
		if err != nil {
			return &Error{Do: "copy", Path: d.path, Err: err}
		}
	}
	return nil
}

// top gives the directory itself its owners and its mode.
func (c *cloner) top(from, to int) error {
	var st unix.Stat_t
	err := unix.Fstat(from, &st)
	if err == nil && c.owners {
		err = unix.Fchown(to, int(st.Uid), int(st.Gid))
	}
	if err == nil {
		err = unix.Fchmod(to, st.Mode&0o7777)
	}
	if err != nil {
		return &Error{Do: "copy", Path: ".", Err: err}
	}
	return nil
}

// Usage is how many files a directory of a layer has, and what they occupy. With
// an error it is less than that.
func Usage(dir string) (files, alloc int64, err error) {
	o, err := Pair{Upper: dir}.Open()
	if err != nil {
		return 0, 0, err
	}
	defer o.Close()
	for c, e := range o.Changes(Options{Same: true}) {
		if e != nil && err == nil {
			err = e
		}
		if c.Upper.Exists() || c.Whiteout {
			files++
		}
		files += c.Count
		if c.Upper.IsDir() {
			alloc += c.Alloc
		} else {
			alloc += c.Upper.Alloc
		}
	}
	return files, alloc, err
}
