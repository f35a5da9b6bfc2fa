package state

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
)

// Wipe is what of a layer is to be wiped.
type Wipe struct{ Files, Home bool }

// Reset wipes a layer, at once however large it is: the directories are renamed
// into the trash. It gives the trash directories made, for EmptyTrash. It
// refuses while a run has the layer.
func (l Layer) Reset(w Wipe) (trashed []string, err error) {
	if !l.Exists() {
		return nil, nil
	}
	if w.Files && w.Home {
		// A damaged layer can be wiped too: it may have no lock to take.
		k, err := l.alone("reset")
		var busy *BusyError
		if errors.As(err, &busy) {
			return nil, err
		}
		if k != nil {
			defer k.Unlock()
		}
		dir, err := l.trash(l.Dir)
		return []string{dir}, err
	}
	k, err := l.alone("reset")
	if err != nil {
		return nil, err
	}
	defer k.Unlock()
	var names []string
	if w.Files {
		names = append(names, "journal", "upper", "work", "with", "git", "cow", "caches", "git-index")
	}
	if w.Home {
		names = append(names, "home")
	}
	if w.Files {
		// A mount that may still live goes with what is renamed away.
		k.Unclean = false
	}
	for _, name := range names {
		dir, err := l.trash(filepath.Join(l.Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return trashed, err
		}
		trashed = append(trashed, dir)
	}
	return trashed, nil
}

// trash renames something of the layer away. Each goes into a directory of its
// own, beside the id map that its files belong to. Where the disk is too full
// for that, it is deleted at once.
func (l Layer) trash(path string) (string, error) {
	if _, err := os.Lstat(path); err != nil {
		return "", err
	}
	ids := l.IDs()
	var b [8]byte
	unix.Getrandom(b[:], 0)
	dir := filepath.Join(l.tree.store.Root, "trash", hex.EncodeToString(b[:]))
	err := os.MkdirAll(dir, 0o700)
	if err == nil && mapped(ids) {
		err = os.WriteFile(filepath.Join(dir, "layer"), []byte(ids), 0o600)
	}
	if err == nil {
		target := filepath.Join(dir, "content")
		if err = os.Rename(path, target); err != nil {
			// The root of an upper may have lost its permissions, and a
			// directory that moves must be writable: its .. changes.
			os.Chmod(path, 0o700)
			err = os.Rename(path, target)
		}
	}
	if err == nil {
		return dir, nil
	}
	os.Remove(filepath.Join(dir, "layer"))
	os.Remove(dir)
	if err := remove(path); err != nil {
		return "", l.broken(err)
	}
	return "", nil
}

// Trash lists what waits to be deleted.
func (s Store) Trash() []string {
	entries, _ := os.ReadDir(filepath.Join(s.Root, "trash"))
	var dirs []string
	for _, e := range entries {
		dirs = append(dirs, filepath.Join(s.Root, "trash", e.Name()))
	}
	return dirs
}

// Delete deletes a directory of the trash. Files of ids that are not the
// caller's need the layer's id map (TrashIDs): then the error is EACCES or
// EPERM, and the caller has to delete Content(dir) within the map first.
//
// Several may delete at once, each after its own reset; of two at one directory
// the second waits, and finds it gone.
func Delete(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Lstat(Content(dir), &st)
	switch {
	case err == unix.ENOENT:
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		err = remove(Content(dir))
	default:
		err = unix.Unlink(Content(dir))
	}
	if err != nil && err != unix.ENOENT {
		return err
	}
	if err := remove(dir); err != unix.ENOENT {
		return err
	}
	return nil
}

// Content is what was moved into a directory of the trash.
func Content(dir string) string { return filepath.Join(dir, "content") }

// TrashIDs is the id map of what lies in a directory of the trash; ok is false
// where that is the caller's own ids.
func TrashIDs(dir string) (uids, gids idmap.Map, ok bool) {
	data, err := readSmall(filepath.Join(dir, "layer"))
	if err != nil {
		return nil, nil, false
	}
	return ParseIDs(string(data))
}

// ParseIDs reads what FormatIDs has written.
func ParseIDs(ids string) (uids, gids idmap.Map, ok bool) {
	u, g, ok := strings.Cut(strings.TrimPrefix(ids, "uids\n"), "gids\n")
	if !ok {
		return nil, nil, false
	}
	uids, err1 := idmap.ParseMap(strings.NewReader(u))
	gids, err2 := idmap.ParseMap(strings.NewReader(g))
	return uids, gids, err1 == nil && err2 == nil
}

// FormatIDs is how a layer notes its id map.
func FormatIDs(uids, gids idmap.Map) string {
	return "uids\n" + uids.String() + "gids\n" + gids.String()
}

// mapped says whether a note is of more than the caller's own ids.
func mapped(ids string) bool { return strings.Count(ids, "\n") > 4 }
