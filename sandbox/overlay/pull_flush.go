package overlay

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

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
			seen = append(seen, p.left(r)...)
		}
		if err == nil || stranded(err) {
			r.release()
		} else {
			p.discard(r)
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

// maxLeft bounds a file that is read once more.
const maxLeft = 32 << 20

// left is what the journal says of what stays in a mounted upper of a file that was pulled.
func (p *puller) left(r ready) []state.Note {
	c := r.out.Change
	if !p.opts.Live || p.opts.Keep || c.Upper.Size > maxLeft {
		return nil
	}
	up, name, err := p.up.at(c.Path)
	if err != nil {
		return nil
	}
	mine, err := MirrorOf(up, name)
	theirs, err1 := MirrorOf(r.dir.fd, r.name)
	if err != nil || err1 != nil || mine.Size != theirs.Size || mine.Sum != theirs.Sum {
		return nil // a build has written to it since
	}
	return []state.Note{p.notes.left(c.Path, mine)}
}

// directory brings a directory that the host has not, or has something else for.
func (p *puller) directory(c Change) error {
	if !c.Lower.Exists() {
		_, err := p.dir(c.Path)
		return err
	}
	return p.placeDir(c.Path, c.Upper, c.Lower.Fingerprint())
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
	return p.notes.Journal.Write(p.opts.Keep, p.pulled(c.Path, f)...)
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
	// All that was noted goes to the disk with it: after a power cut --keep holds, and
	// what a run still has is not taken for shadowed.
	if err := p.notes.Journal.Write(true, done...); err != nil && first == nil {
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
	st, err := StatFd(fd)
	if err != nil {
		return err
	}
	if err := setTimes(fd, made.mtime); err != nil {
		return err
	}
	return unix.Fchmod(fd, st.Mode&0o7000|made.mode)
}
