package state

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Find returns the path of the layer's own version of a file of the tree; rel
// is relative to the tree. The build made every name there, so a symlink on the
// way is refused: whoever moves the file out would move something of the
// host's. A symlink at the end is refused for the same reason.
func (l Layer) Find(rel string) (string, error) {
	fail := func(err error) (string, error) {
		return "", &Error{Do: "find", What: fmt.Sprintf("%q in the layer %q", rel, l.Name), Err: err}
	}
	upper, err := unix.Open(l.Upper(), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(errNotWritten)
	}
	defer unix.Close(upper)
	fd, err := unix.Openat2(upper, rel, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch err {
	case nil:
	case unix.ELOOP:
		return fail(fmt.Errorf("the build has made it, or a directory above it, a symlink"))
	case unix.ENOENT, unix.ENOTDIR:
		return fail(errNotWritten)
	default:
		return fail(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return fail(fmt.Errorf("it is a symlink, and may lead anywhere on the host"))
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
		return fail(fmt.Errorf("the build has deleted it"))
	}
	return filepath.Join(l.Upper(), rel), nil
}

var errNotWritten = fmt.Errorf("no run has written it")
