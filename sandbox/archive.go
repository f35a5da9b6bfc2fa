package sandbox

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
	"github.com/sbx-build/sbx/sandbox/state"
)

// Export writes the archive of the layer.
func (s *Session) Export(out io.Writer, home bool, opts overlay.ExportOptions) error {
	release, err := s.quiet("export")
	if err != nil {
		return err
	}
	defer release()
	var parts []overlay.Part
	for _, p := range s.Layer.Pairs() {
		part := overlay.Part{Dir: p.Upper}
		if p.Key != state.TreeKey {
			if overlay.EmptyDir(p.Upper) {
				continue
			}
			part.Prefix, part.Source = overlay.ArchiveDir+"/"+p.Key+"/upper/", p.Lower
		}
		parts = append(parts, part)
	}
	if home {
		parts = append(parts, overlay.Part{Dir: filepath.Join(s.Layer.Dir, "home"), Prefix: overlay.ArchiveDir + "/home/", Home: true})
	}
	return overlay.Export(out, parts, opts)
}

// Import makes the layer from an archive, all of it or nothing. A layer that has
// files is replaced only with force.
func (s *Session) Import(in io.Reader, force bool, progress func(files, bytes int64)) error {
	return s.install(s.Layer, force, func(staged state.Layer, dir int) error {
		var fs unix.Statfs_t
		if err := unix.Fstatfs(dir, &fs); err != nil {
			return err
		}
		return overlay.Import(in, dir, overlay.ImportOptions{Limits: overlay.DefaultLimits(int64(fs.Bavail) * fs.Bsize), Progress: progress})
	})
}

// CopyLayer makes the layer called to a copy of this one. Of a layer with more ids
// than the caller's it takes the layer's map (Within).
func (s *Session) CopyLayer(to string, progress func(files, bytes int64)) error {
	release, err := s.quiet("layer copy")
	if err != nil {
		return err
	}
	defer release()
	s.settle(true)
	return s.install(s.Layer.Tree().Layer(to), false, func(staged state.Layer, dir int) error {
		return cloneLayer(s.Layer, staged, progress)
	})
}

// install makes a layer under a name of its own, and gives it its name when it
// is whole and on the disk.
func (s *Session) install(l state.Layer, force bool, fill func(staged state.Layer, dir int) error) (err error) {
	k, err := l.Tree().Stage()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && k.Layer.Dir != l.Dir {
			s.throwAway(k)
		}
		k.Unlock()
	}()
	dir, err := unix.Open(k.Layer.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := fill(k.Layer, dir); err != nil {
		return err
	}
	if err := unix.Syncfs(dir); err != nil {
		return err
	}
	at := *s
	at.Layer = l
	trashed, err := l.Install(k, force, at.owner())
	if err != nil {
		return err
	}
	if trashed != "" {
		deleteTrash(trashed)
	}
	at.settle(true) // what the host has now is what the layer is over
	return nil
}

// cloneLayer copies what builds have left in a layer, and what sbx knows of it.
func cloneLayer(from, to state.Layer, progress func(files, bytes int64)) error {
	for _, d := range from.Dirs() {
		src := filepath.Join(from.Dir, d)
		if _, err := os.Lstat(src); err != nil {
			continue
		}
		dst := filepath.Join(to.Dir, d)
		if err := os.MkdirAll(dst, 0o755); err != nil {
			return err
		}
		fd, err := unix.Open(dst, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = overlay.Clone(src, fd, from.Mapped(), progress)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	files := []string{"layer", "journal", "git-index", "seeds"}
	for _, p := range from.Pairs() {
		if p.Key != state.TreeKey {
			files = append(files, filepath.Join(p.Key, "source"))
		}
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(from.Dir, f))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to.Dir, f), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// LayerInfo is what there is to say of a layer.
type LayerInfo struct {
	Layer state.Layer
	// Files and Size are what it has and occupies; Partial says that it is more.
	Files, Size int64
	Partial     bool
	LastUse     time.Time
	// User is the run that has it, Gone that its source tree is not there.
	User string
	Gone bool
}

// Layers describes all layers of a store, and calls each with one after the
// other.
func Layers(s state.Store, each func(LayerInfo)) {
	for _, t := range s.Trees() {
		gone := t.Gone()
		for _, l := range t.Layers() {
			info := LayerInfo{Layer: l, LastUse: l.LastUse(), User: l.User(), Gone: gone}
			for _, d := range l.Dirs() {
				files, size, err := overlay.Usage(filepath.Join(l.Dir, d))
				info.Files += files
				info.Size += size
				info.Partial = info.Partial || err != nil
			}
			each(info)
		}
	}
}

// Collected is what a garbage collection found.
type Collected struct {
	// Trees are those whose source is gone, Leftovers layers that something
	// left when it was killed, Busy layers of the former that a run has.
	Trees           []state.Tree
	Leftovers, Busy []state.Layer
	Trash           int
}

// Collect deletes what is of no use any more: leftovers, the trash, and, with
// gone, the layers of trees whose source is gone.
func Collect(s state.Store, gone bool) (Collected, error) {
	var c Collected
	var first error
	for _, t := range s.Trees() {
		layers := t.Leftovers(time.Now().Add(-time.Hour))
		c.Leftovers = append(c.Leftovers, layers...)
		if t.Gone() {
			c.Trees = append(c.Trees, t)
			if gone {
				layers = append(layers, t.Layers()...)
			}
		}
		for _, l := range layers {
			if _, err := l.Remove(); busy(err) {
				c.Busy = append(c.Busy, l)
			} else if err != nil && first == nil {
				first = err
			}
		}
		if gone && t.Gone() {
			t.Prune() // as far as it is empty
		}
	}
	c.Trash = len(s.Trash())
	return c, errors.Join(first, EmptyTrash(s))
}
