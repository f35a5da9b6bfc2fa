package overlay

import (
	"golang.org/x/sys/unix"
)

// batch is how many files one job looks at.
const batch = 64

// job is a piece of a walk: files of one directory, a directory to count, or a
// result that is known already.
type job struct {
	walk         *walk
	path         string // of the directory
	opaque       bool
	upper, lower *handle
	list         []entry
	count        string // the name of the directory to count
	since        int64  // see frame
	results      []result
	done         chan struct{} // nil: the results are known
}

type result struct {
	change Change
	err    error
}

// send hands a job to the workers and to the reader; false means that the walk
// is to end.
func (w *walk) send(j *job) bool {
	j.done = make(chan struct{})
	select {
	case w.jobs <- j:
	case <-w.quit:
		j.release()
		return false
	}
	select {
	case w.order <- j:
		return true
	case <-w.quit:
		return false
	}
}

// give hands over a result.
func (w *walk) give(c Change) bool { return w.hand(result{change: c}) }

// fail hands over an error, with the path that it is of.
func (w *walk) fail(do, path string, err error) bool {
	shown := path
	if shown == "" {
		shown = "."
	}
	return w.hand(result{Change{Path: path}, &Error{Do: do, Path: shown, Err: err}})
}

func (w *walk) hand(r result) bool {
	select {
	case w.order <- &job{results: []result{r}}:
		return true
	case <-w.quit:
		return false
	}
}

// files has names of the directory f compared.
func (w *walk) files(f *frame, list []entry) bool {
	j := &job{walk: w, path: f.path, opaque: f.opaque, since: f.since, list: list}
	var err error
	if f.side&inUpper != 0 {
		if j.upper, err = w.upper.top(); err != nil {
			return w.fail("read", f.path, err)
		}
	}
	if f.side&inLower != 0 {
		if j.lower, err = w.lower.top(); err != nil {
			return w.fail("read", f.path, err)
		}
	}
	j.upper.share()
	j.lower.share()
	return w.send(j)
}

func (j *job) release() {
	j.upper.release()
	j.lower.release()
	j.upper, j.lower = nil, nil
}

// work does jobs until there are no more.
func (w *walk) work() {
	c := &comparer{quit: w.quit}
	for j := range w.jobs {
		select {
		case <-w.quit:
		default:
			j.do(c)
		}
		j.release()
		close(j.done)
	}
}

func (j *job) do(c *comparer) {
	if j.count != "" {
		r := &j.results[0]
		r.err = count(j.upper.fd, j.count, &r.change, j.walk.opts.Guard, c.quit)
		switch r.err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
			r.err = nil // a build has just removed it
		default:
			r.err = &Error{Do: "read", Path: r.change.Path, Err: r.err}
		}
		return
	}
	j.results = make([]result, 0, len(j.list))
	for _, e := range j.list {
		ch, err := j.compare(c, e)
		switch {
		case err != nil:
			j.results = append(j.results, result{Change{Path: ch.Path}, &Error{Do: "read", Path: ch.Path, Err: err}})
		case ch.Kind != Same || j.walk.opts.Same && (ch.Upper.Exists() || ch.Whiteout):
			ch.Shadowed = !c.known && j.walk.opts.Base.shadowed(&ch)
			j.results = append(j.results, result{change: ch})
		}
	}
}

// compare finds out what a name of the directory is.
func (j *job) compare(c *comparer, e entry) (ch Change, err error) {
	ch = Change{Path: join(j.path, e.key), Hidden: j.opaque}
	var up, low Stat
	if e.side&inUpper != 0 && j.upper != nil {
		if up, err = StatAt(j.upper.fd, e.key); err != nil {
			return ch, err
		}
	}
	if e.side&inLower != 0 && j.lower != nil {
		if low, err = lowerAt(j.lower.fd, e.key); err != nil {
			return ch, err
		}
	}
	if !j.opaque && j.walk.mirrors.has(j.path, e.key, up) {
		return ch, nil
	}
	ch.Whiteout = up.IsWhiteout()
	if ch.Whiteout {
		up = Stat{}
	}
	ch.Upper, ch.Lower = up, low
	c.held, c.known = 0, false
	if j.walk.opts.Lines {
		defer func() {
			if err == nil && ch.Kind != Same && ch.Kind != ModeChanged {
				ch.Lines, err = c.lines(j, e.key, low, up)
			}
		}()
	}
	switch {
	case !up.Exists() && !low.Exists():
	case !up.Exists():
		// A name that the upper had a moment ago and has no more is no
		// deletion, unless nothing of the lower shows here.
		if ch.Whiteout || e.side&inUpper == 0 || j.opaque {
			ch.Kind = Deleted
			if !ch.Whiteout {
				ch.HiddenSince = j.since
			}
		}
	case !low.Exists():
		ch.Kind = Added
	case up.Type() != low.Type():
		ch.Kind = TypeChanged
	case up.IsDir(): // it has just become one
	case j.walk.opts.Known != nil && !j.opaque && up.IsRegular() && j.walk.opts.Known(ch.Path, up, low):
		ch.Kind, c.known = Modified, true
	default:
		same, err := c.equal(j.lower.fd, j.upper.fd, e.key, low, up)
		switch {
		case err != nil:
			return ch, err
		case !same:
			ch.Kind = Modified
		case up.Perm() != low.Perm() && up.Type() != unix.S_IFLNK:
			ch.Kind = ModeChanged
		}
	}
	return ch, nil
}
