package host

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A homeDir is the caller's home directory as typed and resolved, and the one
// inode that both are: a bind mount gives it a third path.
type homeDir struct {
	paths    [2]string
	dev, ino uint64
}

func findHome(home string) (h homeDir) {
	if !filepath.IsAbs(home) {
		return h
	}
	h.paths[0] = filepath.Clean(home)
	if real, err := filepath.EvalSymlinks(home); err == nil {
		h.paths[1] = real
	}
	var st unix.Stat_t
	if unix.Stat(home, &st) == nil {
		h.dev, h.ino = st.Dev, st.Ino
	}
	return h
}

// realTree resolves a directory that is to be the tree, or to be searched from.
func (h *homeDir) realTree(dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err // the path is in the message already
		}
		return "", &TreeError{dir, err}
	}
	if !filepath.IsAbs(real) {
		return "", &TreeError{dir, errors.New("it is not an absolute path")}
	}
	var st unix.Stat_t
	if err := h.refuses(real, &st); err != nil {
		return "", &TreeError{real, err}
	}
	return real, nil
}

// An ancestor is a directory that may be the tree, and its status.
type ancestor struct {
	dir string
	st  unix.Stat_t
}

// ancestors returns dir and the directories above it that may be a tree,
// nearest first.
func (h *homeDir) ancestors(dir string) []ancestor {
	up := make([]ancestor, 0, strings.Count(dir, "/"))
	for {
		a := ancestor{dir: dir}
		// What is above a refused directory is refused, too.
		if h.refuses(dir, &a.st) != nil {
			return up
		}
		up = append(up, a)
		dir = filepath.Dir(dir)
	}
}

// refuses says why a real path cannot be the tree, nil if it can; then st is
// filled.
func (h *homeDir) refuses(dir string, st *unix.Stat_t) error {
	if dir == "/" {
		return errors.New("it is the root directory")
	}
	for _, home := range h.paths {
		switch {
		case home == "":
		case dir == home:
			return errors.New("it is your home directory")
		case pathWithin(home, dir):
			return errors.New("it holds your home directory")
		}
	}
	if isSystemPlace(dir) {
		return errors.New("it is a directory of the system")
	}
	if err := lstat(dir, st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return errors.New("it is not a directory")
	case h.ino != 0 && st.Ino == h.ino && st.Dev == h.dev:
		return errors.New("it is your home directory")
	}
	return nil
}

// systemPlaces are no tree themselves, but what is below them may be
// (/usr/src/linux, /tmp/x, /run/media/me/disk). /mnt and /srv are not among
// them: they are the administrator's, and where containers get their sources.
var systemPlaces = []string{
	"/gnu", "/gnu/store", "/home", "/nix", "/nix/store", "/opt", "/root", "/run", "/run/lock", "/run/user", "/snap", "/tmp",
	"/usr", "/usr/bin", "/usr/games", "/usr/include", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/libx32",
	"/usr/local", "/usr/local/bin", "/usr/local/lib", "/usr/local/sbin", "/usr/local/share", "/usr/sbin", "/usr/share", "/usr/src",
	"/var", "/var/cache", "/var/lib", "/var/log", "/var/mail", "/var/run", "/var/spool", "/var/tmp",
}

// systemTrees are no tree, and nothing below them is.
var systemTrees = []string{
	"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys",
}

// isSystemPlace says whether a real path is one that the sandbox builds itself
// or takes from the system, hier(7).
func isSystemPlace(dir string) bool {
	if slices.Contains(systemPlaces, dir) || filepath.Dir(dir) == "/run/user" {
		return true
	}
	// /dev/shm is an ordinary tmpfs, and used for fast builds.
	return slices.ContainsFunc(systemTrees, func(place string) bool { return pathWithin(dir, place) }) &&
		(dir == "/dev/shm" || !pathWithin(dir, "/dev/shm"))
}
