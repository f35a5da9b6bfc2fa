package overlay

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// DropOptions say of which paths the layer forgets its version.
type DropOptions struct {
	Selection
	// Shadowed restricts it to what the host has changed since.
	Shadowed bool
	// Report is told of each path that was given up, or could not be.
	Report func(path string, err error)
}

// errAbove is a path below something that the layer has not as a directory: the
// host's version of it cannot show before the host's directory does.
var errAbove = errors.New("the layer has deleted or replaced a directory above it: drop that")

// Drop has the layer forget its version of paths, so that the host's show again.
// No mount has the upper; the caller holds the layer's lock.
func (o *Opened) Drop(n Notes, opts DropOptions) error {
	if o.upper < 0 {
		return nil
	}
	roots, err := o.dropping(n, &opts)
	if err != nil {
		return err
	}
	for _, path := range roots {
		opts.Report(path, o.shownError("drop", path, o.drop(path)))
	}
	o.Settle(n) // as far as it can read
	return nil
}

func (o *Opened) shownError(do, path string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Do: do, Path: o.Shown(path), Err: err}
}

// dropping begins a drop: the journal forgets what it takes. These are the paths,
// none below another.
func (o *Opened) dropping(n Notes, opts *DropOptions) ([]string, error) {
	if opts.Report == nil {
		opts.Report = func(string, error) {}
	}
	roots := o.toDrop(n, *opts)
	return roots, forget(n, roots)
}

func (o *Opened) toDrop(n Notes, opts DropOptions) []string {
	// Of what cannot be read, which can be dropped, the error does not matter.
	o.Note(n)
	var roots []string
	// A path that was typed goes with all below it, readable or not.
	whole := !opts.Shadowed && len(opts.Include) == 0
	if whole {
		for _, p := range opts.Paths {
			if o.Has(p) {
				roots = append(roots, p)
			}
		}
		if opts.All && len(opts.Paths)+len(opts.Globs) == 0 && !o.Empty() {
			roots = append(roots, "")
		}
	}
	covered := func(path string) bool {
		return slices.ContainsFunc(roots, func(r string) bool { return r == "" || r == path || under(path, r) })
	}
	if !whole || len(opts.Globs) > 0 {
		last := ""
		for c, err := range o.Changes(Options{All: true, Base: n.Base, Notes: n, Paths: opts.within()}) {
			switch {
			case err != nil:
				opts.Report(c.Path, err)
			case !opts.Has(c), opts.Shadowed && !c.Shadowed, last != "" && under(c.Path, last):
			case whole && covered(c.Path):
			default:
				roots, last = append(roots, c.Path), c.Path
			}
		}
	}
	slices.Sort(roots)
	roots = slices.Compact(roots)
	if len(roots) > 0 && roots[0] == "" {
		return roots[:1]
	}
	kept := roots[:0]
	seen := map[string]bool{}
	for _, r := range roots {
		if !anyAbove(seen, r) {
			seen[r] = true
			kept = append(kept, r)
		}
	}
	return kept
}

func anyAbove(set map[string]bool, path string) bool {
	for path, _ = split(path); path != ""; path, _ = split(path) {
		if set[path] {
			return true
		}
	}
	return false
}

// Has says whether the layer says anything of a path: has it, or hides it.
func (o *Opened) Has(path string) bool {
	if path == "" {
		return !o.Empty()
	}
	if fd, err := OpenBeneath(o.upper, path, unix.O_PATH); err == nil {
		unix.Close(fd)
		return true
	} else if err != unix.ENOENT {
		return true // to be found out
	}
	for parent, _ := split(path); parent != ""; parent, _ = split(parent) {
		fd, err := OpenBeneath(o.upper, parent, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		is, err := isOpaque(fd)
		unix.Close(fd)
		if is || err != nil {
			return true
		}
	}
	return false
}

// forget takes the notes of paths, and of all below them, out of the journal.
func forget(n Notes, roots []string) error {
	if len(roots) == 0 {
		return nil
	}
	set := make(map[string]bool, len(roots))
	for _, r := range roots {
		set[r] = true
	}
	var list []state.Note
	for p := range n.Journal.Paths(n.Pair) {
		if set[""] || set[p] || anyAbove(set, p) {
			list = append(list, n.forget(p))
		}
	}
	return n.Journal.Write(false, list...)
}

// drop removes the layer's version of one path.
func (o *Opened) drop(path string) error {
	if path == "" {
		return o.dropAll()
	}
	names := strings.Split(path, "/")
	up, err := openBeneath(o.upper, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { unix.Close(up) }()
	low := -1
	if o.lower >= 0 {
		if low, err = openBeneath(o.lower, ".", unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return err
		}
	}
	defer func() { closeFd(low) }()
	for i, name := range names[:len(names)-1] {
		next, err := openDirAnyway(up, name)
		if err != nil {
			if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
				return errAbove
			}
			return err
		}
		unix.Close(up)
		up = next
		low = stepDown(low, name)
		if i+2 < len(names) {
			if on, err := dropGoesOn(up, names[i+1]); !on || err != nil {
				return err
			}
		}
		if err := dissolve(up, low, names[i+1]); err != nil {
			return err
		}
	}
	return state.RemoveAt(up, names[len(names)-1])
}

// dropGoesOn says whether a directory on the way down is there. If it is not,
// and the one above is opaque, the layer has deleted it.
func dropGoesOn(up int, name string) (bool, error) {
	st, err := StatAt(up, name)
	if err != nil || st.IsDir() {
		return err == nil, err
	}
	if is, err := isOpaque(up); err != nil || !is && !st.Exists() {
		return false, err
	}
	return false, errAbove
}

// stepDown goes from a directory of the host's to one in it; -1 if it has none.
func stepDown(dir int, name string) int {
	if dir < 0 {
		return -1
	}
	next, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	unix.Close(dir)
	if err != nil {
		return -1
	}
	return next
}

func closeFd(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// openDirAnyway opens a directory of the upper, and gives it back the
// permissions for that, should a build have taken them.
func openDirAnyway(dir int, name string) (int, error) {
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != unix.EACCES {
		return fd, err
	}
	p, err := openBeneath(dir, name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	defer unix.Close(p)
	if err := unix.Chmod(procFd(p), 0o700); err != nil {
		return -1, err
	}
	return openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
}

// dissolve makes an opaque directory one that merges and looks the same, except
// that the host's version of one name shows: each other name that it hid gets a
// whiteout, and each directory that it hid becomes opaque itself. Both change
// nothing before the last step, so it can be interrupted.
func dissolve(up, low int, but string) error {
	is, err := isOpaque(up)
	if err != nil || !is {
		return err
	}
	if low >= 0 {
		born, err := birth(up, "")
		if err != nil {
			return err
		}
		names, err := readNames(low, make([]byte, 32<<10))
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := cover(up, low, n.name, but, born); err != nil {
				return err
			}
		}
	}
	if err := unix.Fremovexattr(up, "user.overlay.opaque"); err != nil && err != unix.ENODATA {
		return err
	}
	return nil
}

// cover hides one name of the host's.
func cover(up, low int, name, but string, born int64) error {
	mine, err := StatAt(up, name)
	if err != nil {
		return err
	}
	theirs, err := StatAt(low, name)
	switch {
	case err != nil:
		return err
	case mine.IsDir() && theirs.IsDir():
		fd, err := openDirAnyway(up, name)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Fsetxattr(fd, "user.overlay.opaque", []byte("y"), 0)
	case mine.Exists() || name == but || !theirs.Exists():
		return nil
	}
	// overlayfs's own whiteouts are made like this; mknod(2) of 0:0 needs no
	// privilege since Linux 5.8. Its time tells since when the host's is hidden.
	if err := unix.Mknodat(up, name, unix.S_IFCHR, 0); err != nil {
		return err
	}
	ts := timespecs(born)
	return unix.UtimesNanoAt(up, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// dropAll empties the upper.
func (o *Opened) dropAll() error {
	fd, err := openBeneath(o.upper, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := readNames(fd, make([]byte, 32<<10))
	for _, n := range names {
		if e := state.RemoveAt(fd, n.name); e != nil && err == nil {
			err = e
		}
	}
	return err
}
