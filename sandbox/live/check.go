package live

import (
	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// checker compares what an overlay shows with what the host has.
type checker struct {
	pair   *overlay.Opened
	merged int
	host   parent
	inside parent
}

// parent is the directory that was looked into last.
type parent struct {
	path string
	fd   int
	err  error
	open bool
}

func (p *parent) at(root int, dir string) (int, error) {
	if p.open && p.path == dir {
		return p.fd, p.err
	}
	p.close()
	p.path, p.open = dir, true
	p.fd, p.err = overlay.OpenBeneath(root, dir, unix.O_PATH|unix.O_DIRECTORY)
	return p.fd, p.err
}

func (p *parent) close() {
	if p.open && p.err == nil {
		unix.Close(p.fd)
	}
	p.open = false
}

// stat is what is at a path; known is false where that cannot be found out.
func (p *parent) stat(root int, path string) (st overlay.Stat, known bool) {
	dir, name := split(path)
	fd, err := p.at(root, dir)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ESTALE:
		return overlay.Stat{}, true
	default:
		return overlay.Stat{}, false
	}
	if st, err = overlay.StatAt(fd, name); err == unix.ESTALE {
		return overlay.Stat{}, true // a process inside holds what the layer had of it
	}
	if st.IsWhiteout() {
		st = overlay.Stat{} // also on the host the overlay takes it for what it is
	}
	return st, err == nil
}

// stale says whether the overlay shows something else than the host, although the
// layer has no version of its own. mode says that the mode may be what is wrong.
func (c *checker) stale(path string, mode bool) bool {
	if path == "" {
		return false
	}
	host, known := c.host.stat(c.pair.LowerFd(), path)
	if !known {
		return false
	}
	inside, known := c.inside.stat(c.merged, path)
	if !known || same(host, inside) && !(mode && c.differ(path)) || c.pair.Has(path) {
		return false
	}
	// Who has changed it meanwhile has made another event.
	c.host.close()
	again, known := c.host.stat(c.pair.LowerFd(), path)
	return known && again == host
}

// differ says whether the permissions that are in force differ. What stat(2) gives is
// the host's at once, and what open(2) goes by is what the overlay has cached.
func (c *checker) differ(path string) bool {
	_, name := split(path)
	for _, bit := range []uint32{unix.R_OK, unix.W_OK, unix.X_OK} {
		host := unix.Faccessat(c.host.fd, name, bit, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW)
		inside := unix.Faccessat(c.inside.fd, name, bit, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW)
		if (host == unix.EACCES) != (inside == unix.EACCES) {
			return true
		}
	}
	return false
}

// same compares what an overlay gives of the host's files as it is (ovl_getattr in
// fs/overlayfs/inode.c).
func same(a, b overlay.Stat) bool {
	if a.IsDir() && b.IsDir() {
		return a.Perm() == b.Perm() && a.Mtime == b.Mtime
	}
	return a.Mode == b.Mode && a.Size == b.Size && a.Mtime == b.Mtime && a.Ctime == b.Ctime
}

// close lets go of the directories: what is held stays as it was.
func (c *checker) close() {
	c.host.close()
	c.inside.close()
}
