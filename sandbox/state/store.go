package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// Store is the state directory.
type Store struct{ Root string }

// Find decides where the state is: flag (--state), $SBX_STATE,
// $XDG_STATE_HOME/sbx, ~/.local/state/sbx.
func Find(flag, dir string, getenv func(string) string) (Store, error) {
	root := flag
	if root == "" {
		root = getenv("SBX_STATE")
	}
	if root == "" {
		base := getenv("XDG_STATE_HOME")
		if !filepath.IsAbs(base) { // the XDG specification: ignore relative ones
			home := getenv("HOME")
			if !filepath.IsAbs(home) {
				return Store{}, &Error{Do: "find", What: "the state directory", Err: errors.New("$HOME is not set"), Fix: "sbx --state DIR -- COMMAND"}
			}
			base = filepath.Join(home, ".local", "state")
		}
		root = filepath.Join(base, "sbx")
	}
	if !filepath.IsAbs(root) {
		root = filepath.Join(dir, root)
	}
	return Store{Root: resolve(filepath.Clean(root))}, nil
}

// resolve makes a path real, of which the last names may not exist yet.
func resolve(path string) string {
	for d, rest := path, ""; ; d, rest = filepath.Dir(d), filepath.Join(filepath.Base(d), rest) {
		if real, err := filepath.EvalSymlinks(d); err == nil {
			return filepath.Join(real, rest)
		}
		if d == "/" {
			return path
		}
	}
}

// Error is a failure of the state directory.
type Error struct {
	Do, What string
	Err      error
	// Fix is a command that helps, or "".
	Fix string
}

func (e *Error) Error() string {
	cause := e.Err.Error()
	var pe *fs.PathError
	if errors.As(e.Err, &pe) {
		cause = pe.Err.Error()
	}
	return fmt.Sprintf("cannot %s %s: %s", e.Do, e.What, cause)
}

func (e *Error) Unwrap() error { return e.Err }

// Hint is a command that helps, or "".
func (e *Error) Hint() string { return e.Fix }

// Contains refuses a state directory that lies in a directory shown to the
// build, which could then write the state of its own sandbox, and one that
// contains it.
func (s Store) Contains(dir string) error {
	if s.Root == dir || policy.Below(s.Root, dir) {
		return &Error{Do: "use", What: fmt.Sprintf("the state directory %q", s.Root), Err: fmt.Errorf("it lies in %q, where the build could write it", dir), Fix: "sbx --state DIR -- COMMAND"}
	}
	if policy.Below(dir, s.Root) {
		return &Error{Do: "use", What: fmt.Sprintf("%q", dir), Err: fmt.Errorf("it lies in the state directory %q", s.Root), Fix: "sbx --state DIR -- COMMAND"}
	}
	return nil
}

// Tree is the state of one source tree.
type Tree struct {
	Dir, Source string
	store       Store
}

// Tree names the state of the tree with this real path. Nothing is created.
func (s Store) Tree(source string) Tree {
	sum := sha256.Sum256([]byte(source))
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._+-", r)) {
			return r
		}
		return '_'
	}, filepath.Base(source))
	if len(name) > 40 {
		name = name[:40]
	}
	return Tree{Dir: filepath.Join(s.Root, "trees", name+"-"+hex.EncodeToString(sum[:8])), Source: source, store: s}
}

// HasTree says whether a directory has state of its own.
func (s Store) HasTree(source string) bool {
	_, err := os.Lstat(s.Tree(source).Dir)
	return err == nil
}

// Layer is one layer of a tree.
type Layer struct {
	Dir, Name string
	tree      Tree
}

// Layer names a layer. Nothing is created.
func (t Tree) Layer(name string) Layer {
	return Layer{Dir: filepath.Join(t.Dir, "layers", name), Name: name, tree: t}
}

// DefaultLayer is the layer that is had without --layer.
const DefaultLayer = "default"

// Flag is what to add to a command line for this layer, with a space before it: nothing if
// it is had without.
func (l Layer) Flag() string {
	if l.Name == DefaultLayer {
		return ""
	}
	return " --layer " + l.Name
}

// Exists says whether the layer has ever been used.
func (l Layer) Exists() bool {
	_, err := os.Lstat(l.Dir)
	return err == nil
}

// ID is what distinguishes the layer from all others of the user, in hex.
func (l Layer) ID() string {
	sum := sha256.Sum256([]byte(l.tree.Source + "\x00" + l.Name))
	return hex.EncodeToString(sum[:])
}

// Upper is the tree's upper directory.
func (l Layer) Upper() string { return filepath.Join(l.Dir, "upper") }

// create makes the layer's directory and those above it, and checks that nobody
// else can reach in.
func (l Layer) create() error {
	if err := os.MkdirAll(l.tree.store.Root, 0o700); err != nil {
		return &Error{Do: "create", What: fmt.Sprintf("the state directory %q", l.tree.store.Root), Err: err, Fix: "sbx --state DIR -- COMMAND"}
	}
	var st unix.Stat_t
	if err := unix.Lstat(l.tree.store.Root, &st); err != nil {
		return l.broken(err)
	}
	what := fmt.Sprintf("the state directory %q", l.tree.store.Root)
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return &Error{Do: "use", What: what, Err: errors.New("it is not a directory"), Fix: "sbx --state DIR -- COMMAND"}
	case int(st.Uid) != os.Geteuid():
		return &Error{Do: "use", What: what, Err: errors.New("it belongs to another user"), Fix: "sbx --state DIR -- COMMAND"}
	case st.Mode&0o077 != 0:
		// A setuid program that a build left in the layer must not be
		// within other users' reach.
		if err := os.Chmod(l.tree.store.Root, 0o700); err != nil {
			return &Error{Do: "close", What: what, Err: err}
		}
	}
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return l.broken(err)
	}
	file := filepath.Join(l.tree.Dir, "tree")
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		var fs unix.Statfs_t
		if unix.Statfs(l.tree.Dir, &fs) == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
			return &Error{Do: "use", What: what, Err: errors.New("it is on an overlay, which cannot hold the layers of another"), Fix: "sbx --state DIR -- COMMAND   (a directory on a local disk)"}
		}
		// Without user xattrs (ramfs, NFS, tmpfs before Linux 6.6) an overlay
		// mounts and then gives builds EIO.
		if err := unix.Setxattr(l.tree.Dir, "user.sbx.tree", []byte("y"), 0); errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) {
			return &Error{Do: "use", What: what, Err: errors.New("its file system has no user xattrs (xattr(7)), which an overlay needs"), Fix: "sbx --state DIR -- COMMAND   (a directory on a local disk)"}
		}
		return l.write(file, strconv.Quote(l.tree.Source)+"\n")
	}
	return nil
}

// write makes a small file, whole or not at all.
func (l Layer) write(file, data string) error {
	// Runs that start in the same instant may all make it.
	tmp := fmt.Sprintf("%s.new%d", file, os.Getpid())
	if err := os.WriteFile(tmp, []byte(data), 0o600); err != nil {
		return l.broken(err)
	}
	if err := os.Rename(tmp, file); err != nil {
		return l.broken(err)
	}
	return nil
}

// broken is a state directory that is full, or not as it should be.
func (l Layer) broken(err error) error {
	e := &Error{Do: "write", What: fmt.Sprintf("the layer %q in %q", l.Name, l.tree.store.Root), Err: err}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Fix = "sbx --state DIR -- COMMAND   (a directory on a file system with room)"
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EEXIST), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ELOOP):
		e.Err = fmt.Errorf("it is damaged: %w", err)
		e.Fix = "sbx reset --all --layer " + l.Name
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EROFS), errors.Is(err, unix.EPERM):
		e.Fix = "sbx --state DIR -- COMMAND"
	}
	return e
}
