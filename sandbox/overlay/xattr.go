package overlay

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// xattr is an extended attribute of the user's: not overlayfs's own.
type xattr struct{ name, value string }

// listXattrs lists them, of an open file, in the order of their names.
func listXattrs(fd int) ([]xattr, error) {
	var buf [1024]byte
	list, err := growing(buf[:], func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if err != nil || len(list) == 0 {
		return nil, err
	}
	var out []xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if !strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		value, err := growing(buf[:], func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, xattr{name, string(value)})
	}
	slices.SortFunc(out, func(a, b xattr) int { return cmp.Compare(a.name, b.name) })
	return out, nil
}

// growing calls get with a buffer that is large enough; 64 KiB is the kernel's
// limit.
func growing(buf []byte, get func([]byte) (int, error)) ([]byte, error) {
	n, err := get(buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10)
		n, err = get(buf)
	}
	switch err {
	case nil:
		return buf[:max(n, 0)], nil
	case unix.EOPNOTSUPP, unix.EPERM:
		return nil, nil
	}
	return nil, err
}

// sameXattrs says whether a file of the upper, a name in dir, has the extended attributes
// that the host's has at a path.
func (o *Opened) sameXattrs(dir int, name, path string) bool {
	up, err := openBeneath(dir, name, unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer unix.Close(up)
	mine, err := listXattrs(up)
	if err != nil || len(mine) == 0 {
		return err == nil
	}
	low, err := OpenBeneath(o.lower, path, unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer unix.Close(low)
	theirs, err := listXattrs(low)
	if err != nil || len(mine) != len(theirs) {
		return false
	}
	for i := range mine {
		if mine[i] != theirs[i] {
			return false
		}
	}
	return true
}
