package overlay

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"
)

// list gives the entries of a directory in order.
func (w *walk) list(f *frame) ([]entry, error) {
	var list []entry
	if f.side&inUpper != 0 {
		h, err := w.upper.top()
		if err != nil {
			return nil, err
		}
		if f.side&inLower != 0 && f.path != "" && !f.opaque {
			// The root of an overlay merges whatever it says.
			if f.opaque, err = isOpaque(h.fd); err == nil && f.opaque {
				f.since, err = w.hiddenSince(f.path, h.fd)
			}
			if err != nil {
				return nil, err
			}
		}
		names, err := readNames(h.fd, w.buf)
		if err != nil {
			return nil, err
		}
		list = make([]entry, 0, len(names))
		for _, n := range names {
			list = w.add(list, f, n, f.side)
		}
	}
	// What of the lower has no name in the upper is given where it is gone. And
	// names of the upper may be in the place of directories to be gone through.
	expand := f.side == inUpper|inLower && (w.opts.Gone || len(w.asked) > 0)
	if f.side == inLower || f.opaque || expand {
		names, err := w.lowerNames()
		if err != nil {
			return nil, err
		}
		have := make(map[string]int, len(list))
		for i, e := range list {
			have[e.key] = i
		}
		for _, n := range names {
			switch i, ok := have[n.name]; {
			case !ok && (f.side == inLower || f.opaque):
				list = w.add(list, f, n, inLower)
			case ok && list[i].into == nil && n.typ == unix.DT_DIR:
				list[i].into = &into{}
				list = append(list, entry{key: n.name + "/", into: list[i].into})
			}
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	return list, nil
}

// hiddenSince is since when the host's directory at the end of the chain is hidden.
func (w *walk) hiddenSince(path string, fd int) (int64, error) {
	low, err := w.lower.top()
	if err != nil {
		return 0, err
	}
	st, err := StatFd(low.fd)
	if err != nil {
		return 0, err
	}
	return w.opts.Base.hiddenSince(path, fd, st)
}

// lowerNames lists the host's directory at the end of the chain.
func (w *walk) lowerNames() ([]name, error) {
	h, err := w.lower.top()
	if err != nil {
		return nil, err
	}
	fd, err := openBeneath(h.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readNames(fd, w.buf)
}

// add adds the steps that a name needs.
func (w *walk) add(list []entry, f *frame, n name, s side) []entry {
	if !w.asked.touches(f.path, n.name) {
		return list
	}
	e := entry{key: n.name, side: s}
	if n.typ == unix.DT_DIR || n.typ == unix.DT_UNKNOWN {
		e.into = &into{}
		list = append(list, entry{key: n.name + "/", into: e.into})
	}
	return append(list, e)
}
