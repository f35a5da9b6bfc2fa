package sandbox

import (
	"strings"

	"golang.org/x/sys/unix"
)

// version says what a layer has of a path.
type version uint8

const (
	none    version = iota // nothing: the host's is seen
	file                   // a version of its own
	changes                // a directory, merged with the host's
	deleted                // a whiteout, or something else where it would lie
)

// versionIn looks into an upper directory, where a build made every name: it
// goes from directory to directory and follows nothing.
func versionIn(upper, rel string) version {
	dir, err := unix.Open(upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return none
	}
	defer func() { unix.Close(dir) }()
	missing := none
	for names := strings.Split(strings.Trim(rel, "/"), "/"); ; names = names[1:] {
		var st unix.Stat_t
		if names[0] == "" {
			return changes // rel is empty: the upper directory itself
		}
		if err := unix.Fstatat(dir, names[0], &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return missing
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		switch whiteout := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0; {
		case whiteout, len(names) > 1 && !isDir:
			return deleted
		case len(names) == 1 && isDir:
			return changes
		case len(names) == 1:
			return file
		}
		next, err := unix.Openat(dir, names[0], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return missing
		}
		unix.Close(dir)
		dir = next
		// An opaque directory hides all that the host has in it
		// (Documentation/filesystems/overlayfs.rst).
		opaque := make([]byte, 1)
		if n, err := unix.Fgetxattr(dir, "user.overlay.opaque", opaque); err == nil && n == 1 && opaque[0] == 'y' {
			missing = deleted
		}
	}
}
