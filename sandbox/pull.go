package sandbox

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// Request names changes of a layer, as they were typed.
type Request struct {
	// Paths are files, directories and globs.
	Paths []string
	// All is everything or, with Paths, everything in them.
	All bool
	// Include are globs that restrict it; one without a slash is of the last
	// name.
	Include []string
}

// chosen is what a request is in one pair.
type chosen struct {
	Pair
	overlay.Selection
	// typed are the words for Paths and Globs, met whether a change was found.
	typed []word
}

type word struct {
	text  string
	path  string
	glob  *overlay.Pattern
	met   bool
	exist bool
}

// choose finds out what a request means.
func (s *Session) choose(r Request) ([]*chosen, error) {
	pairs, err := s.Pairs()
	if err != nil {
		return nil, err
	}
	var include []overlay.Pattern
	for _, g := range r.Include {
		p, err := overlay.ParsePattern(g)
		if err != nil {
			return nil, &PatternError{g, err}
		}
		include = append(include, p)
	}
	list := make([]*chosen, len(pairs))
	for i, p := range pairs {
		list[i] = &chosen{Pair: p, Selection: overlay.Selection{All: r.All, Include: include}}
	}
	for _, text := range r.Paths {
		i, w, err := s.word(pairs, text)
		if err != nil {
			return nil, err
		}
		c := list[i]
		if w.glob != nil {
			c.Globs = append(c.Globs, *w.glob)
		} else {
			c.Paths = append(c.Paths, w.path)
		}
		c.typed = append(c.typed, w)
	}
	if len(r.Paths) == 0 {
		return list, nil
	}
	var named []*chosen
	for _, c := range list {
		if len(c.typed) > 0 {
			named = append(named, c)
		}
	}
	return named, nil
}

// word finds out whether a word is a path or, if there is nothing of that name,
// a glob.
func (s *Session) word(pairs []Pair, text string) (pair int, w word, err error) {
	w = word{text: text}
	pair, w.path, err = s.Locate(pairs, text)
	if err == nil {
		w.exist = exists(pairs[pair].Lower, w.path) || exists(pairs[pair].Upper, w.path)
	}
	if w.exist || !overlay.IsPattern(text) {
		return pair, w, err
	}
	pair, rel, ok := longest(pairs, policy.Absolute(text, s.Policy.Dir, s.Policy.Home))
	if !ok {
		return 0, w, &OutsideError{text, s.Tree.Root}
	}
	g, err := overlay.ParsePattern(rel)
	if err != nil {
		return 0, w, &PatternError{text, err}
	}
	w.glob = &g
	return pair, w, nil
}

// exists says whether there is something at a path, without following a symlink
// below dir.
func exists(dir, rel string) bool {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(root)
	fd, err := overlay.OpenBeneath(root, rel, unix.O_PATH)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// found marks the words that a path was found for.
func (c *chosen) found(path string) {
	for i := range c.typed {
		w := &c.typed[i]
		switch {
		case w.met:
		case w.glob == nil:
			w.met = w.path == "" || path == w.path || strings.HasPrefix(path, w.path+"/") || path == "" || strings.HasPrefix(w.path, path+"/")
		default:
			for p := path; p != "." && p != "/" && !w.met; p = filepath.Dir(p) {
				w.met = w.glob.Match(p)
			}
		}
	}
}

// unmet are the words without a change, and of those the ones of which neither
// the host nor the layer has a file.
func unmet(list []*chosen) (same, nothing []string) {
	for _, c := range list {
		for _, w := range c.typed {
			switch {
			case w.met:
			case w.exist:
				same = append(same, w.text)
			default:
				nothing = append(nothing, w.text)
			}
		}
	}
	return same, nothing
}

// PatternError is a glob that cannot be read.
type PatternError struct {
	Glob string
	Err  error
}

func (e *PatternError) Error() string {
	return fmt.Sprintf("cannot use %q as a pattern: %v", e.Glob, e.Err)
}
func (e *PatternError) Unwrap() error { return e.Err }

// Unmet are words that were typed and of which no change was found.
type Unmet struct {
	// Same have a file that the layer does not change, Nothing none at all.
	Same, Nothing []string
}

// PullRequest is what a pull brings to the host.
type PullRequest struct {
	Request
	Unsafe, Keep, DryRun bool
	// Wanted says that what is not there is no mistake: it was named before the
	// command ran.
	Wanted   bool
	Report   func(Pair, overlay.Outcome)
	Progress func(files, bytes int64)
}

// Pull brings changes of the layer to the host, also while a run lives.
func (s *Session) Pull(r PullRequest) (Unmet, error) {
	list, err := s.choose(r.Request)
	if err != nil {
		return Unmet{}, err
	}
	if s.Layer.Exists() {
		live := false
		release, err := s.quiet("pull")
		if busy(err) {
			live, release, err = true, func() {}, nil
		}
		if err != nil {
			return Unmet{}, err
		}
		defer release()
		alone, err := s.alone(list)
		if err != nil {
			return Unmet{}, err
		}
		defer alone()
		for _, c := range list {
			if err := s.pull(c, r, live); err != nil {
				return Unmet{}, err
			}
		}
	}
	same, nothing := unmet(list)
	if r.Wanted {
		return Unmet{}, nil
	}
	return Unmet{same, nothing}, nil
}

// alone waits until no other pull or drop is at work in the layer, and reads the journal
// once more: another may have written to it until then.
func (s *Session) alone(list []*chosen) (release func(), err error) {
	release, err = s.Layer.Alone()
	if err != nil {
		return nil, err
	}
	j, err := s.Layer.Journal()
	if err != nil {
		release()
		return nil, err
	}
	for _, c := range list {
		c.Notes.Journal = j
	}
	return release, nil
}

func (s *Session) pull(c *chosen, r PullRequest, live bool) error {
	o, err := c.Open()
	if err != nil {
		return err
	}
	defer o.Close()
	return o.Pull(c.Notes, overlay.PullOptions{
		Selection: c.Selection, Unsafe: r.Unsafe, Live: live, Keep: r.Keep, DryRun: r.DryRun,
		Guard: overlay.NewGuard(o).Check,
		Report: func(out overlay.Outcome) {
			c.found(out.Change.Path)
			r.Report(c.Pair, out)
		},
		Progress: r.Progress,
	})
}

// DropRequest is of what the layer forgets its version.
type DropRequest struct {
	Request
	Shadowed bool
	Report   func(p Pair, path string, err error)
}

// Drop has the layer forget its version of paths. While a run lives it goes
// through the run's own view.
func (s *Session) Drop(r DropRequest) (Unmet, error) {
	list, err := s.choose(r.Request)
	if err != nil {
		return Unmet{}, err
	}
	if s.Layer.Exists() {
		var merged func(overlay.Pair) (int, error)
		release, err := s.quiet("drop")
		if busy(err) {
			if m, ok := s.live(); ok {
				merged, release, err = m, func() {}, nil
			}
		}
		if err != nil {
			return Unmet{}, err
		}
		defer release()
		alone, err := s.alone(list)
		if err != nil {
			return Unmet{}, err
		}
		defer alone()
		for _, c := range list {
			if err := c.drop(r, merged); err != nil {
				return Unmet{}, err
			}
		}
	}
	same, nothing := unmet(list)
	return Unmet{same, nothing}, nil
}

func (c *chosen) drop(r DropRequest, merged func(overlay.Pair) (int, error)) error {
	o, err := c.Open()
	if err != nil {
		return err
	}
	defer o.Close()
	opts := overlay.DropOptions{Selection: c.Selection, Shadowed: r.Shadowed, Report: func(path string, err error) {
		c.found(path)
		r.Report(c.Pair, path, err)
	}}
	if merged == nil {
		return o.Drop(c.Notes, opts)
	}
	fd, err := merged(c.Pair.Pair)
	if err == errUnmounted {
		if !o.Empty() {
			opts.Report("", fmt.Errorf("cannot drop what the layer changes in %q: %w", c.Pair.Lower, err))
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return o.DropLive(fd, c.Notes, opts)
}
