package overlay

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// PullOptions say what a pull brings to the host, and how.
type PullOptions struct {
	Selection
	// Unsafe brings what Guard refuses, and what the host has changed too, of
	// the paths that Selection names.
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
	for c, err := range o.Changes(Options{All: true, Base: n.Base, Paths: opts.within()}) {
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
	unsafe := p.opts.Unsafe && p.opts.Named(c)
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
	at, err := p.deletedAt(c.Path)
	if err != nil {
		return false, err
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
		err = p.remove(c)
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

// dir opens a directory of the host, and makes it if the layer has it and the
// host has not.
func (p *puller) dir(path string) (*handle, error) {
	if p.low != nil && p.lowPath == path {
		return p.low, nil
	}
	fd, err := OpenBeneath(p.o.lower, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOENT && path != "" {
		if err = p.mkdir(path); err == nil {
			fd, err = OpenBeneath(p.o.lower, path, unix.O_RDONLY|unix.O_DIRECTORY)
		}
	}
	if err != nil {
		return nil, err
	}
	p.low.release()
	p.low, p.lowPath = newHandle(fd), path
	return p.low, nil
}

// mkdir makes a directory that the layer has, with those above it.
func (p *puller) mkdir(path string) error {
	up, name, err := p.up.at(path)
	if err != nil {
		return err
	}
	st, err := StatAt(up, name)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return errMoved
	}
	parent, _ := split(path)
	h, tmp, err := p.temp(parent)
	if err != nil {
		return err
	}
	if err := p.newDir(h, tmp, path, st); err != nil {
		return err
	}
	err = swap(h.fd, tmp, name, Fingerprint{})
	if err != nil {
		unix.Unlinkat(h.fd, tmp, unix.AT_REMOVEDIR)
	}
	if err == errHostAppeared {
		return nil // it has just been made
	}
	return err
}

// newDir makes a directory under a temporary name. If its own mode keeps the
// owner out, that comes last.
func (p *puller) newDir(h *handle, tmp, path string, st Stat) error {
	if err := unix.Mkdirat(h.fd, tmp, 0o700); err != nil {
		return err
	}
	p.made = append(p.made, newDir{path, st.Perm() & 0o777, st.Mtime})
	return unix.Fchmodat(h.fd, tmp, st.Perm()&0o777|0o700, 0)
}

// temp is a temporary name in a directory of which the journal knows.
func (p *puller) temp(path string) (*handle, string, error) {
	h, err := p.dir(path)
	if err != nil {
		return nil, "", err
	}
	if !p.marked[path] {
		if err := p.notes.Journal.Write(false, p.tempNote(state.Temp, path)); err != nil {
			return nil, "", err
		}
		p.marked[path] = true
	}
	p.touched[path] = true
	p.temps++
	return h, fmt.Sprintf("%s%d", p.mark, p.temps), nil
}

func (p *puller) tempNote(op state.Op, path string) state.Note {
	return state.Note{Op: op, Pair: p.notes.Pair, Path: path, Value: p.mark}
}

// prepare makes the new version of a file or symlink under a temporary name.
func (p *puller) prepare(c Change) (r ready, err error) {
	parent, name := split(c.Path)
	h, tmp, err := p.temp(parent) // may need p.up
	if err != nil {
		return r, err
	}
	up, _, err := p.up.at(c.Path)
	if err != nil {
		return r, upperError(err)
	}
	r = ready{dir: h.share(), tmp: tmp, name: name, fd: -1}
	if c.Upper.IsSymlink() {
		err = p.symlink(up, r, c)
	} else {
		r.fd, err = p.copy(up, r, c)
	}
	if err != nil {
		p.discard(r)
	}
	return r, err
}

func (p *puller) discard(r ready) {
	unix.Unlinkat(r.dir.fd, r.tmp, 0)
	r.close()
	r.dir.release()
}

func (p *puller) symlink(up int, r ready, c Change) error {
	target, err := readLink(up, r.name)
	if err != nil {
		return err
	}
	// A build may have put another there since the guard looked.
	if now, err := StatAt(up, r.name); err != nil || now != c.Upper {
		return errWritten
	}
	if err := unix.Symlinkat(target, r.dir.fd, r.tmp); err != nil {
		return err
	}
	ts := timespecs(c.Upper.Mtime)
	return unix.UtimesNanoAt(r.dir.fd, r.tmp, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

func readLink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err == unix.EINVAL || err == unix.ENOENT {
		err = errMoved
	}
	return string(buf[:max(n, 0)]), err
}

func (p *puller) copy(up int, r ready, c Change) (int, error) {
	src, err := openRegular(up, r.name, c.Upper)
	if err != nil {
		return -1, upperError(err)
	}
	defer unix.Close(src)
	dst, err := unix.Openat(r.dir.fd, r.tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, err
	}
	err = copyFile(dst, src, c.Upper.Size, func(n int64) {
		p.bytes += n
		p.progress()
	})
	if err == nil {
		// All of it is what the guard has seen.
		if now, e := StatFd(src); e != nil || now.Size != c.Upper.Size || now.Mtime != c.Upper.Mtime || now.Ctime != c.Upper.Ctime {
			err = errWritten
		}
	}
	if err == nil {
		err = unix.Fchmod(dst, c.Upper.Perm()&0o777)
	}
	if err == nil {
		err = setTimes(dst, c.Upper.Mtime)
	}
	if err != nil {
		unix.Close(dst)
		return -1, err
	}
	return dst, nil
}

// flush puts everything that is ready in its place. All of it is on the disk
// before the first name changes.
func (p *puller) flush() error {
	list := p.ready
	p.ready, p.batch = nil, 0
	failed := p.syncAll(list)
	var seen []state.Note
	for _, r := range list {
		if failed != nil {
			p.discard(r)
			continue
		}
		c := r.out.Change
		err := swap(r.dir.fd, r.tmp, r.name, c.Lower.Fingerprint())
		if err == nil {
			if f, err := FingerprintOf(r.dir.fd, r.name); err == nil {
				seen = append(seen, p.pulled(c.Path, f)...)
			}
		}
		if err != nil {
			p.discard(r)
		} else {
			r.close()
			r.dir.release()
		}
		p.conclude(r.out, err)
	}
	return errors.Join(failed, p.notes.Journal.Write(false, seen...))
}

// syncAll waits until new versions are on the disk.
func (p *puller) syncAll(list []ready) error {
	if len(list) > few {
		if err := unix.Syncfs(list[0].dir.fd); err != nil {
			return &Error{Do: "write", Path: p.o.Lower, Err: err}
		}
		return nil
	}
	for _, r := range list {
		if r.fd < 0 {
			continue
		}
		if err := unix.Fsync(r.fd); err != nil {
			return &Error{Do: "write", Path: p.o.Shown(r.out.Change.Path), Err: err}
		}
	}
	return nil
}

// pulled is what the journal says of a path that is the host's version now.
func (p *puller) pulled(path string, f Fingerprint) []state.Note {
	list := []state.Note{p.notes.seen(path, f)}
	if p.opts.Keep {
		list = append(list, state.Note{Op: state.Keep, Pair: p.notes.Pair, Path: path})
	}
	return list
}

// directory brings a directory that the host has not, or has something else for.
func (p *puller) directory(c Change) error {
	if !c.Lower.Exists() {
		_, err := p.dir(c.Path)
		return err
	}
	parent, name := split(c.Path)
	h, tmp, err := p.temp(parent)
	if err != nil {
		return err
	}
	if err := p.newDir(h, tmp, c.Path, c.Upper); err != nil {
		return err
	}
	if err := swap(h.fd, tmp, name, c.Lower.Fingerprint()); err != nil {
		unix.Unlinkat(h.fd, tmp, unix.AT_REMOVEDIR)
		p.made = p.made[:len(p.made)-1]
		return err
	}
	return nil
}

func (p *puller) remove(c Change) error {
	parent, name := split(c.Path)
	h, tmp, err := p.temp(parent)
	if err != nil {
		return err
	}
	return takeAway(h.fd, tmp, name, c.Lower.Fingerprint())
}

func (p *puller) chmod(c Change) error {
	parent, name := split(c.Path)
	h, err := p.dir(parent)
	if err != nil {
		return err
	}
	p.touched[parent] = true
	now, err := StatAt(h.fd, name)
	if err != nil {
		return err
	}
	if now.Fingerprint() != c.Lower.Fingerprint() && !now.IsDir() {
		return errHostChanged
	}
	if err := setMode(h.fd, name, now, c.Upper.Perm()); err != nil {
		return err
	}
	f, err := FingerprintOf(h.fd, name)
	if err != nil {
		return err
	}
	return p.notes.Journal.Write(false, p.pulled(c.Path, f)...)
}

// finish gives new directories their modes and times, and waits until the names
// are on the disk: only then may the layer's copies go.
func (p *puller) finish() error {
	first := p.flush()
	note := func(path string, err error) {
		if err != nil && first == nil {
			first = &Error{Do: "write", Path: p.o.Shown(path), Err: err}
		}
	}
	for i := len(p.made) - 1; i >= 0; i-- {
		note(p.made[i].path, p.finishDir(p.made[i]))
		p.touched[p.made[i].path] = true
	}
	if len(p.touched) > few {
		note("", unix.Syncfs(p.o.lower))
	} else {
		for path := range p.touched {
			note(path, p.syncDir(path))
		}
	}
	var done []state.Note
	for path := range p.marked {
		done = append(done, p.tempNote(state.Done, path))
	}
	if err := p.notes.Journal.Write(false, done...); err != nil && first == nil {
		first = err
	}
	return first
}

// openDir opens a directory of the host's; -1 if the user has just moved it.
func (p *puller) openDir(path string) (int, error) {
	fd, err := OpenBeneath(p.o.lower, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return -1, nil
	}
	return fd, err
}

func (p *puller) syncDir(path string) error {
	fd, err := p.openDir(path)
	if err == unix.EACCES {
		return nil // the mode that it was given keeps its owner out
	}
	if err != nil || fd < 0 {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

func (p *puller) finishDir(made newDir) error {
	fd, err := p.openDir(made.path)
	if err != nil || fd < 0 {
		return err
	}
	defer unix.Close(fd)
	if err := setTimes(fd, made.mtime); err != nil {
		return err
	}
	return unix.Fchmod(fd, made.mode)
}
