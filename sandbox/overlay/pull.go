package overlay

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// PullOptions say what a pull brings to the host, and how.
type PullOptions struct {
	Selection
	// Unsafe brings what Guard refuses, and what the host has changed too, of
	// what Selection has by name.
	Unsafe bool
	// Live says that the upper may be mounted: the layer keeps its copies until
	// no mount lives.
	Live bool
	// Keep has the layer keep its copies as its own.
	Keep   bool
	DryRun bool
	// Guard gives what stands against a change; nil: nothing does.
	Guard func(Change) []Reason
	// Report is told of each change that is selected, Progress of what is
	// copied.
	Report   func(Outcome)
	Progress func(files, bytes int64)
}

// Outcome is what became of one change. Without a reason against it, it is done.
type Outcome struct {
	Change Change
	// Refused are the reasons why it was not done, Say what should be said of
	// it in any case.
	Refused, Say []string
	// Unnamed says that it was not done because it deletes something of the
	// host's and was not named by its own path.
	Unnamed bool
	// Never says that no flag would make it done.
	Never bool
	// Err says that it failed, Closed that it did because a build took the
	// layer's file its permissions.
	Err    error
	Closed bool
}

// Done says whether the host has it now.
func (o Outcome) Done() bool { return len(o.Refused) == 0 && !o.Unnamed && o.Err == nil }

// Drifted is the reason against a change where the host's version is not the one
// from which the layer's was made.
const Drifted = "the host's version has changed too, and would be lost"

// pullMark begins the names of temporaries; a random part follows, by which the
// journal knows those of one pull.
const pullMark = ".sbx-pull-"

// Pull brings what is selected to the host. Each file is old or new whenever it
// is interrupted. The caller holds the layer's lock, or says Live, and sees to
// it that one pull or drop at a time has the layer.
//
// The error is of the whole; what fails for a path is told to Report.
func (o *Opened) Pull(n Notes, opts PullOptions) error {
	if o.upper < 0 {
		return nil
	}
	if o.lower < 0 {
		return &Error{Do: "pull to", Path: o.Lower, Err: unix.ENOENT}
	}
	settle := o.Settle
	if opts.Live || opts.DryRun {
		settle = o.Note
	}
	// Drift is known of what has been noted. An error here is one of a path
	// that the walk below meets again.
	settle(n)
	p := newPuller(o, n, opts)
	defer p.close()
	if err := p.tidy(); err != nil {
		return err
	}
	for c, err := range o.Changes(Options{All: true, Base: n.Base, Notes: n, Paths: opts.within()}) {
		if err != nil {
			p.opts.Report(Outcome{Change: c, Err: err, Closed: errors.Is(err, fs.ErrPermission)})
			continue
		}
		if err := p.consider(c); err != nil {
			return errors.Join(err, p.finish())
		}
	}
	if err := p.finish(); err != nil {
		return err
	}
	if opts.Keep || opts.Live {
		settle = o.Note
	}
	settle(n)
	return nil
}

type puller struct {
	o     *Opened
	notes Notes
	opts  PullOptions
	mark  string
	temps int
	up    *parents
	// The host's directory that is open, and its path.
	low     *handle
	lowPath string

	// ready waits to be put in its place; batch is its size.
	ready []ready
	batch int64
	// What has been done so far.
	files, bytes int64
	// marked are the directories that the journal knows to hold temporaries,
	// touched those that are to be written to disk, made those that are new.
	marked, touched map[string]bool
	made            []newDir
}

// ready is a new version under its temporary name.
type ready struct {
	out  Outcome
	dir  *handle
	tmp  string
	name string
	fd   int // -1: a symlink, or one of many files
}

type newDir struct {
	path  string
	mode  uint32
	mtime int64
}

func newPuller(o *Opened, n Notes, opts PullOptions) *puller {
	var b [8]byte
	unix.Getrandom(b[:], 0)
	if opts.Report == nil {
		opts.Report = func(Outcome) {}
	}
	return &puller{
		o: o, notes: n, opts: opts, mark: pullMark + hex.EncodeToString(b[:]) + "-",
		up: newParents(o.upper), marked: map[string]bool{}, touched: map[string]bool{},
	}
}

func (p *puller) close() {
	p.up.close()
	p.low.release()
	for _, r := range p.ready {
		p.discard(r)
	}
	p.low, p.ready = nil, nil
}

// tidy removes what an interrupted pull has left.
func (p *puller) tidy() error {
	var done []state.Note
	for _, t := range p.notes.Journal.Temps(p.notes.Pair) {
		if !strings.HasPrefix(t.Value, pullMark) {
			continue
		}
		if err := p.tidyDir(t.Path, t.Value); err != nil && err != unix.ENOENT && err != unix.ENOTDIR && err != unix.ELOOP {
			return &Error{Do: "clean up", Path: p.o.Shown(t.Path), Err: err}
		}
		t.Op = state.Done
		done = append(done, t)
	}
	return p.notes.Journal.Write(false, done...)
}

func (p *puller) tidyDir(path, mark string) error {
	fd, err := OpenBeneath(p.o.lower, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := readNames(fd, make([]byte, 32<<10))
	for _, n := range names {
		if err == nil && strings.HasPrefix(n.name, mark) {
			err = state.RemoveAt(fd, n.name)
		}
	}
	return err
}

// consider decides on one change, and does it. Its error ends the pull.
func (p *puller) consider(c Change) error {
	if !p.opts.Has(c) {
		return nil
	}
	out := Outcome{Change: c}
	unsafe := p.opts.Unsafe && p.opts.ByName(c)
	if p.opts.Guard != nil {
		for _, r := range p.opts.Guard(c) {
			if r.Level == Never || r.Level == Refuse && !unsafe {
				out.Never = out.Never || r.Level == Never
				out.Refused = append(out.Refused, r.Text)
			} else {
				out.Say = append(out.Say, r.Text)
			}
		}
	}
	switch c.Upper.Type() {
	case unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
		out.Refused, out.Never = []string{"it is a " + c.Upper.TypeName()}, true
	}
	if c.Kind == ModeChanged && c.Upper.Perm()&0o777 == c.Lower.Perm()&0o777 {
		out.Refused, out.Never = []string{"it is set-user-id, set-group-id or sticky"}, true
	}
	if c.Shadowed && !unsafe {
		out.Refused = append(out.Refused, Drifted)
	}
	destroys := c.Kind == Deleted || c.Kind == TypeChanged && c.Lower.IsDir()
	if destroys && !p.opts.Exactly(c) {
		out.Unnamed = true
	}
	if destroys && c.Lower.IsDir() && out.Done() && !unsafe {
		is, err := p.edited(c)
		if is {
			out.Refused = append(out.Refused, Drifted)
		}
		out.Err = err
	}
	if !out.Done() || p.opts.DryRun {
		p.report(out)
		return nil
	}
	return p.do(out)
}

func (p *puller) report(out Outcome) {
	if out.Err != nil {
		var e *Error
		if !errors.As(out.Err, &e) {
			out.Err = &Error{Do: "pull", Path: p.o.Shown(out.Change.Path), Err: out.Err}
		}
	}
	p.opts.Report(out)
}

// edited says whether the host has changed anything below a directory since the
// layer deleted it. The journal knows the directory alone.
func (p *puller) edited(c Change) (bool, error) {
	at := c.HiddenSince
	if at == 0 {
		var err error
		if at, err = p.deletedAt(c.Path); err != nil {
			return false, err
		}
	}
	parent, name := split(c.Path)
	fd, err := OpenBeneath(p.o.lower, parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	return younger(fd, name, at, 0)
}

// deletedAt is when the layer got what stands in the place of a path: the
// whiteout, or the opaque directory above.
func (p *puller) deletedAt(path string) (int64, error) {
	for {
		parent, name := split(path)
		fd, err := OpenBeneath(p.o.upper, parent, unix.O_PATH|unix.O_DIRECTORY)
		if err == nil {
			at, err := birth(fd, name)
			unix.Close(fd)
			if err != unix.ENOENT {
				return at, err
			}
		}
		if parent == "" {
			return 0, err
		}
		path = parent
	}
}

// do does it: at once, or, for a file, when enough are ready.
func (p *puller) do(out Outcome) error {
	c := out.Change
	var err error
	switch {
	case c.Kind == Deleted:
		if err = p.remove(c); err == nil && p.opts.Live && !p.opts.Keep && c.Whiteout {
			err = p.notes.Journal.Write(false, p.notes.left(c.Path, Mirror{}))
		}
	case c.Kind == ModeChanged:
		err = p.chmod(c)
	case c.Upper.IsDir():
		err = p.directory(c)
	default:
		var r ready
		if r, err = p.prepare(c); err == nil {
			r.out = out
			p.batch += c.Upper.Size
			return p.add(r)
		}
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &Error{Do: "pull", Path: p.o.Shown(c.Path), Err: err}
	}
	p.conclude(out, err)
	return nil
}

// few is up to how many files fsync(2) is called for each; for more, syncfs(2)
// is faster, although it writes what others have written, too.
const few = 16

// add keeps what is ready until there is enough of it.
func (p *puller) add(r ready) error {
	p.ready = append(p.ready, r)
	if len(p.ready) == few+1 {
		for i := range p.ready {
			p.ready[i].close()
		}
	} else if len(p.ready) > few {
		p.ready[len(p.ready)-1].close()
	}
	if len(p.ready) >= 8192 || p.batch >= 1<<30 {
		return p.flush()
	}
	return nil
}

func (r *ready) close() {
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
	r.fd = -1
}

func (r *ready) release() {
	r.close()
	r.dir.release()
}

// conclude sorts a failure: what the host or a run has just done is a reason,
// not an error.
func (p *puller) conclude(out Outcome, err error) {
	switch {
	case err == nil:
		p.files++
		p.progress()
	case errors.Is(err, errHostChanged), errors.Is(err, errHostAppeared), errors.Is(err, errWritten), errors.Is(err, errMoved):
		out.Refused, out.Never = append(out.Refused, err.Error()), true
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		out.Refused, out.Never = append(out.Refused, "the host has a file or symlink in the place of a directory above it"), true
	case errors.Is(err, unix.EXDEV):
		out.Refused, out.Never = append(out.Refused, "the host has another file system mounted on the way to it"), true
	default:
		out.Err = err
		var closed closedError
		out.Closed = errors.As(err, &closed)
	}
	p.report(out)
}

// closedError is a file of the layer that may not be read.
type closedError struct{ error }

func (e closedError) Unwrap() error { return e.error }

func upperError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return closedError{err}
	}
	return err
}

func (p *puller) progress() {
	if p.opts.Progress != nil {
		p.opts.Progress(p.files, p.bytes)
	}
}
