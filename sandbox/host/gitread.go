package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

var errSymlink = errors.New("a symbolic link leads to it")

// openReal opens a directory with O_PATH, open(2), following no symbolic link.
//
// Nor does it make an automounter work: what leads to known, and what is below
// it, is opened as a whole, but beyond that it goes from name to name and does
// not enter autofs. Whoever wrote the path could name a dead server in it, or
// his own.
func openReal(path, known string) (int, error) {
	at := sharedDir(path, known)
	fd, err := openKnown(at)
	for err == nil && at != path {
		if err = refuseAutofs(fd); err != nil {
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(path[len(at):], "/"), "/")
		at = filepath.Join(at, name)
		// Without O_DIRECTORY, which would mount what is to be mounted here.
		var next int
		if next, err = openat(fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC); err != nil {
			break
		}
		unix.Close(fd)
		fd = next
		var st unix.Stat_t
		switch err = unix.Fstat(fd, &st); {
		case err != nil:
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			err = errSymlink
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			err = unix.ENOTDIR
		case at == path:
			err = refuseAutofs(fd)
		}
	}
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return -1, err
	}
	return fd, nil
}

// sharedDir is path itself if it is known or below it, and else the last
// directory that path and known have in common.
func sharedDir(path, known string) string {
	if pathWithin(path, known) {
		return path
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		if dir == "/" || pathWithin(known, dir) {
			return dir
		}
	}
}

// openKnown is openReal by a single openat2(2).
func openKnown(path string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(unix.AT_FDCWD, path, &how)
		switch err {
		case unix.EINTR:
		case unix.ELOOP:
			return -1, errSymlink
		default:
			return fd, err
		}
	}
}

// refuseAutofs fails where a look into the directory could start a mount. An
// O_PATH descriptor of a mount point that is not mounted yet is autofs's own.
func refuseAutofs(fd int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	if st.Type == unix.AUTOFS_SUPER_MAGIC {
		return errors.New("it is below an automount point")
	}
	return nil
}

// lstat is lstat(2), by lstatat.
func lstat(path string, st *unix.Stat_t) error { return lstatat(unix.AT_FDCWD, path, st) }

// lstatat is fstatat(2) of the name itself, which a FUSE server may interrupt.
func lstatat(dir int, name string, st *unix.Stat_t) error {
	for {
		if err := unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW); err != unix.EINTR {
			return err
		}
	}
}

// openat is openat(2), which a network or FUSE file system may interrupt.
func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// readSmall reads a regular file of self's in an open directory.
func readSmall(dir int, name string, limit int, self uint32) (string, error) {
	// Looked at first, because already the opening of a device can do something.
	if err := requireGit(dir, self, name); err != nil {
		return "", err
	}
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("%q: %w", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", fmt.Errorf("%q has changed", name) // since requireGit; a fifo could be waited for
	}
	data := make([]byte, limit+1)
	size := 0
	for size < len(data) {
		n, err := unix.Read(fd, data[size:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("%q: %w", name, err)
		}
		if n == 0 {
			break
		}
		size += n
	}
	text := string(data[:size])
	switch {
	case size > limit:
		return "", fmt.Errorf("%q is longer than %d bytes", name, limit)
	case strings.Contains(text, "\x00"):
		return "", fmt.Errorf("%q is not a text", name)
	}
	return text, nil
}

// requireGit checks that entries of a directory are there and are self's:
// regular files, or, where the name ends in a slash, directories.
func requireGit(dir int, self uint32, names ...string) error {
	for _, name := range names {
		want, kind := uint32(unix.S_IFREG), "regular file"
		base, isDir := strings.CutSuffix(name, "/")
		if isDir {
			want, kind = unix.S_IFDIR, "directory"
		}
		var st unix.Stat_t
		switch err := lstatat(dir, base, &st); {
		case err != nil:
			return fmt.Errorf("%q: %w", base, err)
		case st.Mode&unix.S_IFMT != want:
			return fmt.Errorf("%q is not a %s", base, kind)
		case st.Uid != self:
			return fmt.Errorf("another user owns %q", base)
		}
	}
	return nil
}

// readName reads a file that holds one path, absolute or relative to the
// directory dir.
func readName(fd int, name, dir string, self uint32) (string, error) {
	text, err := readSmall(fd, name, gitFileMax, self)
	if err != nil {
		return "", err
	}
	return oneName(text, name, dir)
}

// readDotGit is where the .git file of root points, gitrepository-layout(5).
func readDotGit(root string, self uint32) (string, error) {
	fd, err := openReal(root, root)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	text, err := readSmall(fd, ".git", gitFileMax, self)
	if err != nil {
		return "", err
	}
	text, ok := strings.CutPrefix(text, "gitdir: ")
	if !ok {
		return "", errors.New("it does not name a git directory")
	}
	return oneName(text, ".git", root)
}

func oneName(text, file, dir string) (string, error) {
	text = strings.TrimRight(text, "\r\n")
	if text == "" || strings.Contains(text, "\n") {
		return "", fmt.Errorf("%q does not hold one path", file)
	}
	return resolveName(text, dir), nil
}

func resolveName(name, dir string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(dir, name)
}

// eachName calls f with the names in a directory, until f fails.
func eachName(dir int, f func(name string) error) error {
	const most = 1000
	fd, err := openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), ".")
	defer file.Close()
	names, err := file.Readdirnames(most)
	if err != nil && err != io.EOF {
		return errors.New("it cannot be read")
	}
	if len(names) == most {
		return errors.New("it has too many entries")
	}
	for _, name := range names {
		if err := f(name); err != nil {
			return err
		}
	}
	return nil
}

// isObjectsName knows the entries of a directory of git objects.
func isObjectsName(name string) bool {
	if len(name) == 2 {
		return strings.Trim(name, "0123456789abcdef") == ""
	}
	return name == "pack" || name == "info" || name == "maintenance.lock" || strings.HasPrefix(name, "tmp_objdir-")
}

// onlyWorktrees checks a bare repository that holds root as one of its
// worktrees. To show it shows all that is in it, so there may be nothing but a
// repository and worktrees: an archive unpacked in place can make a git directory
// of ~/src.
func onlyWorktrees(dir int, common, root string) error {
	own, _, _ := strings.Cut(root[len(common)+1:], "/")
	return eachName(dir, func(name string) error {
		switch name {
		case own, "HEAD", "FETCH_HEAD", "ORIG_HEAD", "config", "config.worktree", "description", "objects", "refs",
			"packed-refs", "logs", "info", "hooks", "branches", "worktrees", "shallow", "index", "modules", "lfs",
			"rr-cache", "gc.log", "gc.pid", "reftable":
			return nil
		}
		fd, err := openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC)
		if err == nil {
			defer unix.Close(fd)
			var st unix.Stat_t
			err = lstatat(fd, ".git", &st)
		}
		if err != nil {
			return fmt.Errorf("it holds the source tree, and beside it %q, which is neither git's nor a worktree", name)
		}
		return nil
	})
}
