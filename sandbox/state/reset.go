package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
)

// Wipe is what of a layer is to be wiped.
type Wipe struct{ Files, Home bool }

// Own makes a directory of a layer with more ids than the caller's the caller's own.
type Own func(path string) error

// open has a directory ready to be moved, which takes that it can be written: its ..
// changes. A build owns what it sees as the root of its tree or home: it may have
// taken its permissions away, or given it to another id.
func (own Own) open(path string) {
	var st unix.Stat_t
	if own != nil && unix.Lstat(path, &st) == nil && int(st.Uid) != os.Geteuid() {
		own(path)
	}
	os.Chmod(path, 0o700)
}

// Reset wipes a layer, at once however large it is: the directories are renamed
// into the trash. It gives the trash directories made, for EmptyTrash. It
// refuses while a run has the layer.
func (l Layer) Reset(w Wipe, own Own) (trashed []string, err error) {
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
		dir, err := l.trash(l.Dir, discard{ids: l.IDs()})
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
		dir, err := l.trash(filepath.Join(l.Dir, name), discard{ids: l.IDs(), own: own})
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

// discard is how something is renamed away.
type discard struct {
	ids  string // the id map that its files belong to
	mark string // how the name begins
	own  Own
}

// trash renames something of the layer away. Each goes into a directory of its
// own, beside its id map. Where the disk is too full for that, it is deleted at once.
func (l Layer) trash(path string, d discard) (string, error) {
	if _, err := os.Lstat(path); err != nil {
		return "", err
	}
	// Under another name until it is whole: others delete meanwhile what they find.
	name := randomName()[:16]
	dir := filepath.Join(l.tree.store.trash(), d.mark+name)
	made := filepath.Join(l.tree.store.trash(), staging+d.mark+name)
	err := os.MkdirAll(made, 0o700)
	if err == nil && mapped(d.ids) {
		err = os.WriteFile(filepath.Join(made, "layer"), []byte(d.ids), 0o600)
	}
	if err == nil {
		target := Content(made)
		if err = os.Rename(path, target); err != nil {
			d.own.open(path)
			err = os.Rename(path, target)
		}
	}
	if err == nil {
		if os.Rename(made, dir) != nil {
			dir = made
		}
		return dir, nil
	}
	os.Remove(filepath.Join(made, "layer"))
	os.Remove(made)
	switch e := remove(path); {
	case e == nil:
		return "", nil
	case errors.Is(e, fs.ErrPermission):
		return "", l.broken(err) // files of other ids
	default:
		return "", l.broken(e)
	}
}

func (s Store) trash() string { return filepath.Join(s.Root, "trash") }

// Trash lists what waits to be deleted.
func (s Store) Trash() []string {
	entries, _ := os.ReadDir(s.trash())
	var dirs []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), staging) && beingMade(e) {
			continue
		}
		dirs = append(dirs, filepath.Join(s.trash(), e.Name()))
	}
	return dirs
}

// beingMade says whether a directory of the trash may get its content in a moment.
// An older one was left when sbx was killed.
func beingMade(e fs.DirEntry) bool {
	info, err := e.Info()
	return err != nil || time.Since(info.ModTime()) < time.Minute
}

// asideMark begins the names of the trash's directories that have a work directory.
const asideMark = "work-"

// Asides lists the work directories in the trash, which Lock.Prepare has put there
// because they have files of other ids. crowded says that there are many.
func (s Store) Asides() (dirs []string, crowded bool) {
	for _, dir := range s.Trash() {
		if strings.HasPrefix(filepath.Base(dir), asideMark) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, len(dirs) > asides
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
