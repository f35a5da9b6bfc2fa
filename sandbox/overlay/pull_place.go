package overlay

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

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
	err = p.placeDir(path, st, Fingerprint{})
	if err == errHostAppeared {
		return nil // it has just been made
	}
	return err
}

// placeDir makes a directory in the place of the version was. If its own mode
// keeps the owner out, that comes last (finishDir).
func (p *puller) placeDir(path string, st Stat, was Fingerprint) error {
	parent, name := split(path)
	h, tmp, err := p.temp(parent)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(h.fd, tmp, 0o700); err != nil {
		return err
	}
	made, err := StatAt(h.fd, tmp)
	if err == nil {
		// With the set-group-ID bit that it may have from its parent.
		err = unix.Fchmodat(h.fd, tmp, made.Mode&0o7000|st.Perm()&0o777|0o700, 0)
	}
	if err == nil {
		err = swap(h.fd, tmp, name, was)
	}
	if err != nil {
		if !stranded(err) {
			unix.Unlinkat(h.fd, tmp, unix.AT_REMOVEDIR)
		}
		return err
	}
	p.made = append(p.made, newDir{path, st.Perm() & 0o777, st.Mtime})
	return nil
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
	r.release()
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
