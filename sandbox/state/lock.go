package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock is a layer that this process alone has.
type Lock struct {
	Layer Layer
	// Unclean says that an earlier run did not end in order: its mount may
	// still be alive.
	Unclean bool
	file    *os.File
}

// BusyError is a layer that another run has.
type BusyError struct {
	Layer Layer
	// Run is what the run wrote of itself: "pid 12, make -j2".
	Run string
}

func (e *BusyError) Error() string {
	s := fmt.Sprintf("cannot use the layer %q: another run has it", e.Layer.Name)
	if e.Run != "" {
		s += " (" + e.Run + ")"
	}
	return s
}

// Hint is a command that works meanwhile.
func (e *BusyError) Hint() string { return "sbx --layer OTHER -- COMMAND" }

// Lock creates the layer if need be and locks it. run is a line that tells
// others who has it; ids is the id map, to which the layer belongs from then
// on: files made under another map cannot be touched.
func (l Layer) Lock(run, ids string) (*Lock, error) {
	if err := l.create(); err != nil {
		return nil, err
	}
	k, err := l.lock(run)
	if err != nil {
		return nil, err
	}
	if err := l.claim(ids); err != nil {
		k.Unlock()
		return nil, err
	}
	return k, nil
}

// lock takes the lock alone.
func (l Layer) lock(run string) (*Lock, error) {
	name := filepath.Join(l.Dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, l.broken(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &Error{Do: "lock", What: fmt.Sprintf("the layer %q", l.Name), Err: err, Fix: "sbx --state DIR -- COMMAND"}
		}
		buf := make([]byte, 200)
		n, _ := f.ReadAt(buf, 0)
		return nil, &BusyError{Layer: l, Run: strings.TrimSpace(string(buf[:n]))}
	}
	f.Truncate(0)
	f.WriteAt([]byte(run+"\n"), 0)
	_, err = os.Lstat(filepath.Join(l.Dir, "mounted"))
	return &Lock{Layer: l, Unclean: err == nil, file: f}, nil
}

// Unlock gives the layer back.
func (k *Lock) Unlock() {
	k.file.Truncate(0)
	k.file.Close()
}

// claim compares the layer's id map with that of the run, or sets it.
func (l Layer) claim(ids string) error {
	file := filepath.Join(l.Dir, "layer")
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return l.write(file, ids)
	case err != nil:
		return l.broken(err)
	case string(data) != ids:
		return &Error{
			Do: "use", What: fmt.Sprintf("the layer %q", l.Name),
			Err: errors.New("it was made with other user ids, and its files cannot be used with these"),
			Fix: "sbx --layer OTHER …, or wipe it: sbx reset --all --layer " + l.Name,
		}
	}
	return nil
}

// IDs is the id map that the layer was made with, "" if there is none.
func (l Layer) IDs() string {
	data, _ := os.ReadFile(filepath.Join(l.Dir, "layer"))
	return string(data)
}

// Mounting notes that a mount of the layer may exist from now on.
func (k *Lock) Mounting() error {
	f, err := os.OpenFile(filepath.Join(k.Layer.Dir, "mounted"), os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return k.Layer.broken(err)
	}
	return f.Close()
}

// Unmounted notes that the mount is gone: the sandbox's pid 1 has been waited
// for, and the kernel ends its mounts before that.
func (k *Lock) Unmounted() { os.Remove(filepath.Join(k.Layer.Dir, "mounted")) }

// Prepare makes the layer's directories and empties the work directories: what
// overlayfs left there has mode 000 and is refused by the next mount of
// another kind. The upper must not be mounted.
func (k *Lock) Prepare(dirs, empty []string) error {
	for _, d := range dirs {
		if err := k.Layer.directory(filepath.Join(k.Layer.Dir, d)); err != nil {
			return k.Layer.broken(err)
		}
	}
	for _, d := range empty {
		if err := emptyDir(filepath.Join(k.Layer.Dir, d)); err != nil {
			return k.Layer.broken(err)
		}
	}
	return nil
}

// directory makes a directory of the layer, all of whose parents are sbx's own.
// The build owns what it sees as the root of its tree or home, and may have
// taken its permissions away.
func (l Layer) directory(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, os.ErrNotExist) {
		err = os.MkdirAll(dir, 0o755)
	}
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	if st.Mode&0o700 != 0o700 && int(st.Uid) == os.Geteuid() {
		return os.Chmod(dir, 0o755)
	}
	return nil
}

// Discard moves the whole layer into the trash, and says where.
func (k *Lock) Discard() (string, error) { return k.Layer.trash(k.Layer.Dir) }
