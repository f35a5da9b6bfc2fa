package state

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Prepare makes the layer's directories. A work directory must be fresh: what a
// volatile mount leaves in it makes the kernel refuse the next, and after a run
// that was killed anything may lie there. The old one is renamed away, because to
// empty it takes longer than the mount; Sweep deletes it, or who deletes Store.Asides.
func (k *Lock) Prepare(dirs, work []string) error {
	for _, d := range work {
		if err := k.setAside(filepath.Join(k.Layer.Dir, d)); err != nil {
			return k.Layer.broken(err)
		}
	}
	for _, d := range dirs {
		if err := k.Layer.directory(filepath.Join(k.Layer.Dir, d)); err != nil {
			return k.Layer.broken(err)
		}
	}
	k.Unclean = false
	return nil
}

// asides bounds the work directories that wait to be swept.
const asides = 16

// setAside renames a work directory away, or empties it where that cannot be.
func (k *Lock) setAside(dir string) error {
	if k.mapped {
		// The directory is the caller's, but what the kernel has made in it belongs to
		// root inside, is closed, and cannot be emptied by the caller.
		_, err := k.Layer.trash(dir, discard{ids: k.Layer.IDs(), mark: asideMark})
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return gone(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	first := rand.IntN(asides) // mostly free, where the first ones are taken
	for i := range asides {
		aside := dir + ".old" + strconv.Itoa((first+i)%asides)
		switch err := unix.Rename(dir, aside); err {
		case unix.ENOTEMPTY, unix.EEXIST:
		default:
			return gone(err)
		}
	}
	// Many short runs in a row.
	k.sweep(dir)
	return gone(emptyDir(dir))
}

// gone takes the error of what is not there to be removed as success.
func gone(err error) error {
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// Sweep deletes what Prepare has renamed away, in this run and in runs that were
// too short to sweep. It may run while the layer is mounted.
func (k *Lock) Sweep(work []string) {
	for _, d := range work {
		k.sweep(filepath.Join(k.Layer.Dir, d))
	}
}

func (k *Lock) sweep(dir string) {
	for i := range asides {
		remove(dir + ".old" + strconv.Itoa(i))
	}
}

// directory makes a directory of the layer, all of whose parents are sbx's own.
// The build owns what it sees as the root of its tree or home, and may have
// taken its permissions away.
func (l Layer) directory(dir string) error {
	err := unix.Mkdir(dir, 0o755)
	if err == unix.ENOENT {
		return os.MkdirAll(dir, 0o755)
	}
	if err != unix.EEXIST {
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
