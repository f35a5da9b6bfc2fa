package overlay

import (
	"iter"
	"runtime"
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
	// Uncounted leaves out what is in directories that only the layer has: it is
	// not even looked at.
	Uncounted bool
	// Guard counts in Change.Refused what the guard refuses in directories that
	// only the layer has.
	Guard bool
	// Lines counts the lines that differ, in files of up to MaxText.
	Lines bool
	// Known says of two regular files that they are known to differ, and that the host's
	// is as Base has it, which spares reading them.
	Known func(path string, up, low Stat) bool
	// Notes, if they have a journal, tell which of the layer's files only mirror the
	// host's: those are not given.
	Notes Notes
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
		// More processors may come later (child.UseProcessors).
		for range min(max(runtime.GOMAXPROCS(0), 2), 8) {
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
	// mirrors are passed over.
	mirrors *mirrors
	upper   *chain
	lower   *chain
	stack   []frame
	buf     []byte

	jobs  chan *job
	order chan *job
	quit  chan struct{}
	busy  sync.WaitGroup
}

// frame is a directory of which the entries are being given.
type frame struct {
	path string
	side side
	// opaque says that the lower's names do not show through, since is when that began.
	opaque bool
	since  int64
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
	since  int64
}

func newWalk(o *Opened, opts Options) (*walk, error) {
	w := &walk{
		opts: opts, asked: newPaths(opts.Paths), mirrors: newMirrors(opts.Notes),
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
	f := frame{path: path, side: to.side, opaque: to.opaque, since: to.since}
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
