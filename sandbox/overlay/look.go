package overlay

import "golang.org/x/sys/unix"

// directory looks at a name that should be a directory on some side.
func (w *walk) directory(f *frame, e entry, path string) bool {
	up, low, err := w.look(e.key, e.side)
	if err != nil {
		return w.fail("read", path, err)
	}
	c := Change{Path: path, Lower: low, Upper: up, Whiteout: up.IsWhiteout(), Hidden: f.opaque}
	if c.Whiteout {
		c.Upper = Stat{}
	}
	if !c.Upper.IsDir() && !low.IsDir() {
		return w.files(f, []entry{e})
	}
	copied := !f.opaque && up.IsDir() && (w.mirrors.copied(path, up) || w.mirrors.phantom(f.path, e.key, up))
	if copied && up.Perm() != Phantom {
		// Not one that a build has made in its place.
		opaque, err := w.opaque(e.key)
		if err != nil {
			return w.fail("read", path, err)
		}
		copied = !opaque
	}
	if copied && !low.Exists() {
		e.into.side = inUpper
		return true
	}
	below := w.asked.below(path)
	count := false
	switch {
	case !c.Upper.Exists():
		if !c.Whiteout && e.side&inUpper != 0 && !f.opaque {
			return true // it has just gone
		}
		c.Kind = Deleted
		if !c.Whiteout {
			c.HiddenSince = f.since
		}
		if w.opts.Gone || below {
			*e.into = into{side: inLower, since: f.since}
		}
	case !c.Upper.IsDir():
		c.Kind = TypeChanged
		if w.opts.Gone || below {
			e.into.side = inLower
		}
	case low.IsDir():
		c.Opaque = f.opaque
		if up.Perm() != low.Perm() && !copied {
			c.Kind = ModeChanged
		}
		*e.into = into{inUpper | inLower, f.opaque, f.since}
		if f.opaque && w.opts.Base.replaced(path, low) {
			e.into.since = always
		}
		if !f.opaque && (c.Kind != Same || w.opts.Same) {
			if c.Opaque, err = w.opaque(e.key); err != nil {
				e.into.side = 0
				return w.fail("read", path, err)
			}
		}
	default:
		c.Kind = Added
		if low.Exists() {
			c.Kind = TypeChanged
		}
		if w.opts.All || below {
			e.into.side = inUpper
		} else {
			count = !w.opts.Uncounted
		}
	}
	if c.Kind == Same && !w.opts.Same || !w.asked.covers(path) {
		return true
	}
	c.Shadowed = w.opts.Base.shadowed(&c)
	if !count {
		return w.give(c)
	}
	h, err := w.upper.top()
	if err != nil {
		return w.fail("read", path, err)
	}
	return w.send(&job{walk: w, upper: h.share(), count: e.key, results: []result{{change: c}}})
}

// look stats a name on both sides.
func (w *walk) look(name string, s side) (up, low Stat, err error) {
	if s&inUpper != 0 {
		h, err := w.upper.top()
		if err != nil {
			return up, low, err
		}
		if up, err = StatAt(h.fd, name); err != nil {
			return up, low, err
		}
	}
	if s&inLower != 0 {
		h, err := w.lower.top()
		if err != nil {
			return up, low, err
		}
		if low, err = lowerAt(h.fd, name); err != nil {
			return up, low, err
		}
	}
	return up, low, nil
}

// lowerAt is StatAt for the host's side, whose whiteouts are files that are not
// there: the overlay takes them for what they are.
func lowerAt(dir int, name string) (Stat, error) {
	st, err := StatAt(dir, name)
	if st.IsWhiteout() {
		return Stat{}, err
	}
	return st, err
}

// opaque looks whether a directory of the upper is opaque.
func (w *walk) opaque(name string) (bool, error) {
	h, err := w.upper.top()
	if err != nil {
		return false, err
	}
	fd, err := openBeneath(h.fd, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	return isOpaque(fd)
}

// Opaque says whether a directory of the layer hides the host's.
func (o *Opened) Opaque(path string) (bool, error) {
	fd, err := OpenBeneath(o.upper, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	return isOpaque(fd)
}

// isOpaque reads the one attribute that is honoured. "x" marks a directory with
// xattr whiteouts, which are switched off here.
func isOpaque(fd int) (bool, error) {
	var b [4]byte
	n, err := unix.Fgetxattr(fd, "user.overlay.opaque", b[:])
	switch err {
	case nil:
		return n == 1 && b[0] == 'y', nil
	case unix.ENODATA, unix.EOPNOTSUPP, unix.ERANGE:
		return false, nil
	}
	return false, err
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
