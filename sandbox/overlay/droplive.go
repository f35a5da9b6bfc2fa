package overlay

import (
	"cmp"
	"encoding/hex"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// DropLive is Drop while the upper is mounted: nobody but overlayfs may change
// it then, so it writes the host's version through the merged directory. The
// layer keeps its copies until no mount lives.
func (o *Opened) DropLive(merged int, n Notes, opts DropOptions) error {
	if o.upper < 0 || o.lower < 0 {
		return nil
	}
	roots, err := o.dropping(n, &opts)
	if err != nil {
		return err
	}
	var b [8]byte
	unix.Getrandom(b[:], 0)
	w := &restorer{notes: n, mark: MirrorMark + hex.EncodeToString(b[:]) + "-", marked: map[string]bool{}}
	for _, path := range roots {
		opts.Report(path, o.shownError("drop", path, w.restore(o.lower, merged, path)))
	}
	o.Note(n)
	return w.done()
}

// restorer makes a merged directory equal to the host's. Runs go on meanwhile; each
// file is old or new to them, but one that a process has open for writing: that is
// written over in place, because what the process writes to another inode later would
// be lost.
type restorer struct {
	comparer
	notes Notes
	mark  string
	temps int
	// marked are the directories that the journal knows to hold temporaries, left says
	// that one could not be removed.
	marked map[string]bool
	left   bool
}

// temp is a name for a copy on the way in a directory. Of what a drop leaves when it is
// killed the journal knows, as of what becomes a mirror: it is no change, and goes when
// no run lives.
func (w *restorer) temp(dir string) (string, error) {
	if !w.marked[dir] {
		if err := w.notes.Journal.Write(false, state.Note{Op: state.Temp, Pair: w.notes.Pair, Path: dir, Value: w.mark}); err != nil {
			return "", err
		}
		w.marked[dir] = true
	}
	w.temps++
	return fmt.Sprintf("%s%d%s", w.mark, w.temps, MirrorHalf), nil
}

func (w *restorer) discard(merged int, tmp string) {
	if err := unix.Unlinkat(merged, tmp, 0); err != nil && err != unix.ENOENT {
		w.left = true
	}
}

// done says that no copy is on the way any more.
func (w *restorer) done() error {
	if w.left {
		return nil
	}
	var list []state.Note
	for dir := range w.marked {
		list = append(list, state.Note{Op: state.Done, Pair: w.notes.Pair, Path: dir, Value: w.mark})
	}
	return w.notes.Journal.Write(false, list...)
}

func (w *restorer) restore(lower, merged int, path string) error {
	if path == "" {
		// That of a mount that another run has lent can be read by its names alone.
		m, err := OpenBeneath(merged, "", unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer unix.Close(m)
		low, err := OpenBeneath(lower, "", unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer unix.Close(low)
		return w.dir(low, m, "")
	}
	parent, name := split(path)
	m, err := OpenBeneath(merged, parent, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
			return errAbove
		}
		return err
	}
	defer unix.Close(m)
	low, err := OpenBeneath(lower, parent, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return state.RemoveAt(m, name) // the host has nothing there
	}
	if err != nil {
		return err
	}
	defer unix.Close(low)
	return w.name(low, m, parent, name)
}

// name makes one name of the merged directory at path what the host's is.
func (w *restorer) name(low, merged int, path, name string) error {
	want, err := lowerAt(low, name)
	if err != nil {
		return err
	}
	have, err := StatAt(merged, name)
	if err != nil {
		return err
	}
	switch {
	case !want.Exists():
		return state.RemoveAt(merged, name)
	case want.IsDir():
		return w.directory(low, merged, path, name, want, have)
	case want.Type() == have.Type():
		same, err := w.equal(low, merged, name, want, have)
		if err != nil {
			return err
		}
		if same && (want.Perm() == have.Perm() || want.IsSymlink()) {
			return nil
		}
		if want.IsRegular() && have.Nlink == 1 && beingWritten(merged, name) {
			return w.over(low, merged, name, want)
		}
	}
	tmp, err := w.temp(path)
	if err != nil {
		return err
	}
	err = w.make(low, merged, name, tmp, want)
	if err == nil {
		var m Mirror
		if m, err = MirrorOf(merged, tmp); err == nil {
			err = w.notes.Journal.Write(false, w.notes.left(join(path, name), m))
		}
	}
	if err == nil && have.IsDir() {
		err = state.RemoveAt(merged, name)
	}
	if err == nil {
		err = unix.Renameat(merged, tmp, merged, name)
	}
	if err != nil {
		w.discard(merged, tmp)
	}
	return err
}

// beingWritten says whether a process has a file open for writing: there is no lease of
// it then (F_SETLEASE in fcntl(2)).
func beingWritten(dir int, name string) bool {
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	return err == unix.EAGAIN
}

// over writes the host's file over the layer's.
func (w *restorer) over(low, merged int, name string, want Stat) error {
	src, err := openRegular(low, name, want)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := openBeneath(merged, name, unix.O_WRONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if st, err := StatFd(dst); err != nil || !st.IsRegular() {
		return cmp.Or(err, error(unix.EAGAIN)) // exchanged meanwhile
	}
	if err := unix.Ftruncate(dst, 0); err != nil { // where the host's has holes, too
		return err
	}
	return w.fill(dst, src, want)
}

// make makes the host's file or symlink under a temporary name.
func (w *restorer) make(low, merged int, name, tmp string, want Stat) error {
	switch want.Type() {
	case unix.S_IFREG:
	case unix.S_IFLNK:
		target, err := readLink(low, name)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(target, merged, tmp); err != nil {
			return err
		}
		ts := timespecs(want.Mtime)
		return unix.UtimesNanoAt(merged, tmp, ts[:], unix.AT_SYMLINK_NOFOLLOW)
	case unix.S_IFIFO:
		if err := unix.Mkfifoat(merged, tmp, 0o600); err != nil {
			return err
		}
		return unix.Fchmodat(merged, tmp, want.Perm(), 0)
	default:
		return fmt.Errorf("the host has a %s there", want.TypeName())
	}
	src, err := openRegular(low, name, want)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := unix.Openat(merged, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	return w.fill(dst, src, want)
}

// fill gives a file the content, the mode and the time of the host's.
func (w *restorer) fill(dst, src int, want Stat) error {
	if err := copyFile(dst, src, want.Size, func(int64) {}); err != nil {
		return err
	}
	// With the set-user-ID bit, which means nothing inside: only a copy that equals the
	// host's goes when no run lives.
	if err := unix.Fchmod(dst, want.Perm()); err != nil {
		return err
	}
	return setTimes(dst, want.Mtime)
}

func (w *restorer) directory(low, merged int, path, name string, want, have Stat) error {
	if !have.IsDir() {
		if err := state.RemoveAt(merged, name); err != nil {
			return err
		}
		if err := unix.Mkdirat(merged, name, 0o700); err != nil && err != unix.EEXIST {
			return err
		}
	}
	l, err := openBeneath(low, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(l)
	m, err := openDirAnyway(merged, name)
	if err != nil {
		return err
	}
	defer unix.Close(m)
	if err := w.dir(l, m, join(path, name)); err != nil {
		return err
	}
	if now, err := StatFd(m); err != nil || now.Perm() == want.Perm() {
		return err
	}
	return unix.Fchmod(m, want.Perm()&0o7777)
}

// dir makes everything in the merged directory at path what the host's is.
func (w *restorer) dir(low, merged int, path string) error {
	names := map[string]bool{}
	for _, fd := range []int{merged, low} {
		list, err := readNames(fd, make([]byte, 32<<10))
		if err != nil {
			return err
		}
		for _, n := range list {
			names[n.name] = true
		}
	}
	var first error
	for n := range names {
		if err := w.name(low, merged, path, n); err != nil && first == nil {
			first = err
		}
	}
	return first
}
