package sandbox

import (
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
	"github.com/sbx-build/sbx/sandbox/state"
)

// manifests are the files that package managers rewrite, and that are wanted on
// the host every time. They are looked for in the root of the tree and in the
// working directory, by name: nothing is walked.
var manifests = []string{
	"package.json", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "deno.lock",
	"composer.json", "composer.lock", "go.mod", "go.sum", "go.work", "go.work.sum", "Cargo.toml", "Cargo.lock",
	"pyproject.toml", "poetry.lock", "uv.lock", "Pipfile", "Pipfile.lock", "requirements.txt", "Gemfile", "Gemfile.lock",
	"mix.exs", "mix.lock", "pubspec.yaml", "pubspec.lock", "flake.lock", "gradle.lockfile",
}

// changedManifests are those that this run has written, relative to the working
// directory where that is in the tree.
func (s *Session) changedManifests() []string {
	upper := s.Layer.Upper()
	if overlay.EmptyDir(upper) {
		return nil
	}
	sub, err := filepath.Rel(s.Tree.Root, s.Policy.Dir)
	if err != nil || sub == ".." || strings.HasPrefix(sub, "../") {
		sub = "."
	}
	dirs := []string{"."}
	if sub != "." {
		dirs = append(dirs, sub)
	}
	root, err := unix.Open(upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(root)
	// While another run has the layer it may have mirrors, which nobody inside wrote.
	var notes overlay.Notes
	if s.Layer.HasJournal() {
		if j, err := s.Layer.Journal(); err == nil {
			notes = overlay.Notes{Journal: j, Pair: state.TreeKey}
		}
	}
	var list []string
	for _, dir := range dirs {
		fd, err := overlay.OpenBeneath(root, dir, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		for _, name := range manifests {
			st, err := overlay.StatAt(fd, name)
			if err != nil || !st.IsRegular() {
				continue
			}
			if notes.Journal != nil && notes.Mirrors(filepath.Join(dir, name)).Looks(st) {
				continue
			}
			if !time.Unix(0, st.Ctime).Before(s.ticked) {
				if path, err := filepath.Rel(sub, filepath.Join(dir, name)); err == nil {
					list = append(list, path)
				}
			}
		}
		unix.Close(fd)
	}
	return list
}

// lookAfter is when a run that is still there looks for shadowed files.
const lookAfter = 300 * time.Millisecond

// warnShadowed says which files the sandbox does not see as they are on the host,
// because the layer has a version of its own from before the last edit.
func (s *Session) warnShadowed(o Options) {
	pairs, err := s.Pairs()
	if err != nil {
		return
	}
	var found overlay.Found
	for _, p := range pairs {
		opened, err := p.Open()
		if err != nil {
			continue
		}
		for c, err := range opened.Changes(overlay.Options{Base: p.Notes.Base, Notes: p.Notes, Uncounted: true}) {
			if err == nil && c.Shadowed {
				found.Add(overlay.Found{Shadowed: 1, First: opened.Shown(c.Path)})
			}
		}
		opened.Close()
	}
	s.sayShadowed(o, found)
}

// sayShadowed says it once: while the command runs, or, of one that takes less time
// than that, at its end.
func (s *Session) sayShadowed(o Options, f overlay.Found) {
	if f.Shadowed == 0 {
		return
	}
	s.warned.Do(func() {
		if f.Shadowed == 1 {
			o.warn("you have changed %q since the layer took a version of its own, which the command sees: sbx drop --shadowed%s", f.First, s.Layer.Flag())
			return
		}
		o.warn("you have changed %q and %d more since the layer took versions of its own, which the command sees: sbx drop --shadowed%s", f.First, f.Shadowed-1, s.Layer.Flag())
	})
}
