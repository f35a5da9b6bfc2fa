package overlay

import (
	"cmp"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Options say what a walk gives.
type Options struct {
	// Base tells what the layer shadows; nil: nothing.
	Base Base
	// All gives the entries of directories that only the layer has, Gone those
	// of directories that it deletes.
	All, Gone bool
	// Same gives what the layer has and is no change: files that equal the
	// host's, directories that merge, whiteouts over nothing. It is what settles
	// a layer.
	Same bool
	// Guard counts in Change.Refused what the guard refuses in directories that
	// only the layer has.
	Guard bool
	// Lines counts the lines that differ, in files of up to MaxText.
	Lines bool
	// Paths, if there are any, restrict the walk to them and what is below them.
	Paths []string
}

// Changes gives what the layer changes, in the byte order of the paths. It
// reads while it is read from: memory is that of the directories on the way.
//
// A path that cannot be looked at is given with its error, and the walk goes
// on. While a build runs, each path is as it was at some moment of the walk.
func (o *Opened) Changes(opts Options) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if o.upper < 0 {
			return
		}
		w, err := newWalk(o, opts)
		if err != nil {
			yield(Change{}, &Error{Do: "read", Path: o.Shown(""), Err: err})
			return
		}
		w.busy.Go(w.run)
		for range min(runtime.GOMAXPROCS(0), 8) {
			w.busy.Go(w.work)
		}
		defer w.end()
		for j := range w.order {
			if j.done != nil {
				<-j.done
			}
			for _, r := range j.results {
				if !yield(r.change, r.err) {
					return
				}
			}
		}
	}
}

// A walk is one goroutine that reads directories, several that look at files,
// and the caller's that takes the results in order:
//
//	run --jobs--> work
//	 └---order--> Changes
//
// Both channels are short, so that descriptors and memory are bounded.
type walk struct {
	opts  Options
	asked paths
	upper *chain
	lower *chain
	stack []frame
	buf   []byte

	jobs  chan *job
	order chan *job
	quit  chan struct{}
	busy  sync.WaitGroup
}

// frame is a directory of which the entries are being given.
type frame struct {
	path string
	side side
	// opaque says that the lower's names do not show through; lower is then
	// the host's directory.
	opaque bool
	lower  Stat
	list   []entry
}

// side is where a directory is: in the upper, in the lower, or in both.
type side uint8

const (
	inUpper side = 1 << iota
	inLower
)

// entry is one step in a directory: to look at a name, or, for a directory, to
// go into it. The second has its key with a slash, so that "a", "a-b" and "a/b"
// come in this order.
type entry struct {
	key  string
	side side
	into *into
}

// into is what looking at a directory found out for going into it.
type into struct {
	side   side
	opaque bool
}

func newWalk(o *Opened, opts Options) (*walk, error) {
	w := &walk{
		opts: opts, asked: newPaths(opts.Paths),
		buf:  make([]byte, 32<<10),
		jobs: make(chan *job, 64), order: make(chan *job, 64),
		quit: make(chan struct{}),
	}
	// Descriptions of its own: several may walk one pair.
	fd, err := openBeneath(o.upper, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	w.upper = newChain(fd, unix.O_RDONLY)
	if o.lower >= 0 {
		if fd, err = openBeneath(o.lower, ".", unix.O_PATH|unix.O_DIRECTORY); err != nil {
			w.upper.close()
			return nil, err
		}
		w.lower = newChain(fd, unix.O_PATH)
	}
	return w, nil
}

// run reads the directories.
func (w *walk) run() {
	defer close(w.order)
	defer close(w.jobs)
	defer func() {
		w.upper.close()
		if w.lower != nil {
			w.lower.close()
		}
	}()
	side := inUpper
	if w.lower != nil {
		side |= inLower
	}
	if !w.enter("", into{side: side}) {
		return
	}
	for len(w.stack) > 0 {
		f := &w.stack[len(w.stack)-1]
		if len(f.list) == 0 {
			w.leave(f.side)
			continue
		}
		if !w.step(f) {
			return
		}
	}
}

// end makes everything stop, and waits for it.
func (w *walk) end() {
	close(w.quit)
	w.busy.Wait()
}

// leave goes back to the directory above.
func (w *walk) leave(s side) {
	w.stack = w.stack[:len(w.stack)-1]
	if len(w.stack) == 0 {
		return
	}
	w.unpush(s)
}

// step takes the next entries of a directory: files together, a directory alone.
func (w *walk) step(f *frame) bool {
	e := f.list[0]
	name, slash := strings.CutSuffix(e.key, "/")
	path := join(f.path, name)
	switch {
	case slash:
		f.list = f.list[1:]
		if e.into.side == 0 {
			return true
		}
		return w.down(name, path, *e.into)
	case e.into != nil:
		f.list = f.list[1:]
		return w.directory(f, e, path)
	}
	n := 1
	for n < len(f.list) && n < batch && f.list[n].into == nil {
		n++
	}
	list := f.list[:n]
	f.list = f.list[n:]
	return w.files(f, list)
}

// down goes into a directory.
func (w *walk) down(name, path string, to into) bool {
	var err error
	pushed := side(0)
	if to.side&inUpper != 0 {
		if _, err = w.upper.push(name); err == nil {
			pushed |= inUpper
		}
	}
	if err == nil && to.side&inLower != 0 {
		if _, err = w.lower.push(name); err == nil {
			pushed |= inLower
		}
	}
	if err == nil {
		return w.enter(path, to)
	}
	w.unpush(pushed)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return true // a build, or the user, has just removed it
	}
	return w.fail("read", path, err)
}

func (w *walk) unpush(s side) {
	if s&inUpper != 0 {
		w.upper.pop()
	}
	if s&inLower != 0 {
		w.lower.pop()
	}
}

// enter lists the directory at the end of the chains.
func (w *walk) enter(path string, to into) bool {
	f := frame{path: path, side: to.side, opaque: to.opaque}
	list, err := w.list(&f)
	if err != nil {
		if path != "" {
			w.unpush(to.side)
		}
		return w.fail("read", path, err)
	}
	f.list = list
	w.stack = append(w.stack, f)
	return true
}

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
			if f.opaque, err = isOpaque(h.fd); err != nil {
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
		names, err := w.lowerNames(f)
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

// lowerNames lists the host's directory at the end of the chain, and notes in
// the frame what it is.
func (w *walk) lowerNames(f *frame) ([]name, error) {
	h, err := w.lower.top()
	if err != nil {
		return nil, err
	}
	if f.lower, err = StatFd(h.fd); err != nil {
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
	below := w.asked.below(path)
	count := false
	switch {
	case !c.Upper.Exists():
		if !c.Whiteout && e.side&inUpper != 0 && !f.opaque {
			return true // it has just gone
		}
		c.Kind = Deleted
		if w.opts.Gone || below {
			e.into.side = inLower
		}
	case !c.Upper.IsDir():
		c.Kind = TypeChanged
		if w.opts.Gone || below {
			e.into.side = inLower
		}
	case low.IsDir():
		c.Opaque = f.opaque
		if up.Perm() != low.Perm() {
			c.Kind = ModeChanged
		}
		*e.into = into{inUpper | inLower, f.opaque}
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
			count = true
		}
	}
	if c.Kind == Same && !w.opts.Same || !w.asked.covers(path) {
		return true
	}
	c.Shadowed = w.opts.Base.shadowed(&c, f.path, f.lower)
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
