package state

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// Trees lists the source trees that have state, in the order of their
// directories.
func (s Store) Trees() []Tree {
	entries, _ := os.ReadDir(filepath.Join(s.Root, "trees"))
	var list []Tree
	for _, e := range entries {
		dir := filepath.Join(s.Root, "trees", e.Name())
		data, err := readSmall(filepath.Join(dir, "tree"))
		source, err2 := strconv.Unquote(strings.TrimSuffix(string(data), "\n"))
		if err == nil && err2 == nil && filepath.IsAbs(source) {
			list = append(list, Tree{Dir: dir, Source: source, store: s})
		}
	}
	return list
}

// Gone says whether the source tree is not there any more. It may come back: a
// disk that is not mounted looks the same.
func (t Tree) Gone() bool {
	_, err := os.Lstat(t.Source)
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// Layers lists the layers of a tree.
func (t Tree) Layers() []Layer {
	var list []Layer
	entries, _ := os.ReadDir(filepath.Join(t.Dir, "layers"))
	for _, e := range entries {
		if e.IsDir() && policy.CheckLayer(e.Name()) == nil {
			list = append(list, t.Layer(e.Name()))
		}
	}
	return list
}

// LastUse is when a run, or another sbx, had the layer last.
func (l Layer) LastUse() time.Time {
	st, err := os.Lstat(filepath.Join(l.Dir, "lock"))
	if err != nil {
		st, err = os.Lstat(l.Dir)
	}
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

// User is who has the layer: what a run wrote of itself, "" if nobody has.
func (l Layer) User() string {
	fd, err := unix.Open(filepath.Join(l.Dir, "lock"), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil && !l.lives() {
		return ""
	}
	k := Lock{fd: fd}
	_, _, who := k.read()
	return cmp.Or(who, "a run")
}

// Dirs are the directories of the layer that hold files of builds, relative to
// it.
func (l Layer) Dirs() []string {
	list := []string{"upper", "caches/upper", "home"}
	for _, kind := range []string{"with", "git", "cow"} {
		entries, _ := os.ReadDir(filepath.Join(l.Dir, kind))
		for _, e := range entries {
			list = append(list, filepath.Join(kind, e.Name(), "upper"))
		}
	}
	return list
}

// staging begins the names of layers that are being made. No layer is called
// so (policy.CheckLayer).
const staging = ".new-"

// Stage makes the directory of a layer that is to be installed when it is whole.
// It is locked, so that a garbage collection leaves it alone.
func (t Tree) Stage() (*Lock, error) {
	l := t.Layer(staging + randomName()[:16])
	if err := l.create(); err != nil {
		return nil, err
	}
	return l.alone(fmt.Sprintf("pid %d: sbx", os.Getpid()))
}

// ExistsError is a layer that would be overwritten.
type ExistsError struct {
	Layer Layer
	// Fix is a command that does it nevertheless, or does something else.
	Fix string
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("cannot make the layer %q: there is one, and it is not empty", e.Layer.Name)
}

// Hint is a command that helps.
func (e *ExistsError) Hint() string { return e.Fix }

// Install makes a staged layer the layer l, in one step. A layer that exists and
// has files is replaced only with force; its home stays if the new one has none.
func (l Layer) Install(k *Lock, force bool, own Own) (trashed string, err error) {
	staged := k.Layer
	err = unix.Renameat2(unix.AT_FDCWD, staged.Dir, unix.AT_FDCWD, l.Dir, unix.RENAME_NOREPLACE)
	if err == nil {
		k.Layer = l
		return "", nil
	}
	if err != unix.EEXIST {
		return "", l.broken(err)
	}
	old, err := l.alone(fmt.Sprintf("pid %d: sbx", os.Getpid()))
	if err != nil {
		return "", err
	}
	defer func() { old.Unclean = false; old.Unlock() }()
	if !force && !l.empty() {
		return "", &ExistsError{Layer: l}
	}
	if err := unix.Renameat2(unix.AT_FDCWD, staged.Dir, unix.AT_FDCWD, l.Dir, unix.RENAME_EXCHANGE); err != nil {
		return "", l.broken(err)
	}
	ids := staged.IDs() // of what is replaced, also where the new one gets the note
	// The lock's descriptors are of the directories, which changed places.
	k.Layer, old.Layer = l, staged
	for _, name := range []string{"home", "layer"} {
		from, to := filepath.Join(staged.Dir, name), filepath.Join(l.Dir, name)
		err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		if err == unix.EACCES {
			own.open(from)
			err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		}
		if err != nil && err != unix.ENOENT && err != unix.EEXIST {
			return "", l.broken(err)
		}
		if name == "home" && err != nil {
			break // the id map is the home's
		}
	}
	return staged.trash(staged.Dir, discard{ids: ids})
}

// empty says whether no build has left anything in the layer but its home.
func (l Layer) empty() bool {
	for _, d := range l.Dirs() {
		if d == "home" {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(l.Dir, d))
		if err == nil && len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// Leftovers are the layers that a run or an import left when it was killed.
func (t Tree) Leftovers(before time.Time) []Layer {
	var list []Layer
	entries, _ := os.ReadDir(filepath.Join(t.Dir, "layers"))
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), staging) && !strings.HasPrefix(e.Name(), "tmp-") {
			continue
		}
		if l := t.Layer(e.Name()); l.LastUse().Before(before) {
			list = append(list, l)
		}
	}
	return list
}

// Remove moves a whole layer into the trash, unless a run has it.
func (l Layer) Remove() (trashed []string, err error) {
	return l.Reset(Wipe{Files: true, Home: true}, nil)
}

// Prune removes the directory of a tree that has no layers any more.
func (t Tree) Prune() error {
	if err := unix.Rmdir(filepath.Join(t.Dir, "layers")); err != nil && err != unix.ENOENT {
		return err
	}
	if err := unix.Unlink(filepath.Join(t.Dir, "tree")); err != nil && err != unix.ENOENT {
		return err
	}
	return unix.Rmdir(t.Dir)
}

// Mapped says whether the layer's files belong to more ids than the caller's
// own.
func (l Layer) Mapped() bool { return mapped(l.IDs()) }

// Tree is the layer's tree.
func (l Layer) Tree() Tree { return l.tree }
