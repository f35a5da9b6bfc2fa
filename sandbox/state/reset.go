package state

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
		k, err := l.lock("reset")
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
	k, err := l.lock("reset")
	if err != nil {
		return nil, err
	}
	defer k.Unlock()
	var names []string
	if w.Files {
		names = append(names, "upper", "work", "with", "git", "cow", "caches", "git-index")
	}
	if w.Home {
		names = append(names, "home")
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
// own, beside the id map that its files belong to.
func (l Layer) trash(path string) (string, error) {
	if _, err := os.Lstat(path); err != nil {
		return "", err
	}
	var b [8]byte
	rand.Read(b[:])
	dir := filepath.Join(l.tree.store.Root, "trash", hex.EncodeToString(b[:]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", l.broken(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "layer"), []byte(l.IDs()), 0o600); err != nil {
		return "", l.broken(err)
	}
	target := filepath.Join(dir, "content")
	if err := os.Rename(path, target); err != nil {
		// The root of an upper may have lost its permissions, and a
		// directory that moves needs to be writable: its .. changes.
		os.Chmod(path, 0o700)
		if err := os.Rename(path, target); err != nil {
			return "", l.broken(err)
		}
	}
	return dir, nil
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
// caller's need the layer's id map: then the error is EACCES or EPERM.
func Delete(dir string) error {
	if err := emptyDir(dir); err != nil {
		return err
	}
	return os.Remove(dir)
}

// TrashIDs is the id map of what lies in a directory of the trash.
func TrashIDs(dir string) string {
	data, _ := os.ReadFile(filepath.Join(dir, "layer"))
	return string(data)
}
