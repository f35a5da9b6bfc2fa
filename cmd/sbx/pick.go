package main

import (
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/overlay"
)

// picked is a pair of the layer with the paths in it that were asked for; none
// means all.
type picked struct {
	sandbox.Pair
	paths []string
	o     *overlay.Opened
}

// pick finds the pairs that the paths on the command line are in; without paths
// it is all of them.
func pick(s *sandbox.Session, args []string) ([]picked, error) {
	for _, a := range args {
		if len(a) > 1 && a[0] == '-' && !slices.Contains(os.Args, "--") {
			return nil, usagef("sbx "+os.Args[1]+" "+a+" …", "cannot use the path %q: flags stand before the paths, and paths that begin with a dash after --", a)
		}
	}
	if !s.Layer.Exists() {
		return nil, nil
	}
	pairs, err := s.Pairs()
	if err != nil {
		return nil, err
	}
	list := make([]picked, len(pairs))
	for i, p := range pairs {
		list[i].Pair = p
	}
	if len(args) == 0 {
		return list, nil
	}
	for _, a := range args {
		i, rel, err := s.Locate(pairs, a)
		if err != nil {
			return nil, err
		}
		if rel == "" {
			rel = "."
		}
		list[i].paths = append(list[i].paths, rel)
	}
	var found []picked
	for _, p := range list {
		if p.paths != nil {
			found = append(found, p)
		}
	}
	return found, nil
}

// changes walks the pairs one after the other. A path that cannot be read is
// given with its error; the walk of its pair goes on. With shadowed they say what
// of them the host has changed since.
func changes(list []picked, opts overlay.Options, shadowed bool) iter.Seq2[*picked, result] {
	return func(yield func(*picked, result) bool) {
		for i := range list {
			p := &list[i]
			o, err := p.Open()
			if err != nil {
				if !yield(p, result{err: err}) {
					return
				}
				continue
			}
			p.o = o
			opts.Paths, opts.Notes = p.paths, p.Notes
			if opts.Base = nil; shadowed && p.Notes.Journal != nil {
				opts.Base = p.Notes.Base
			}
			more := true
			for c, err := range o.Changes(opts) {
				if more = yield(p, result{c, err}); !more {
					break
				}
			}
			o.Close()
			if !more {
				return
			}
		}
	}
}

type result struct {
	overlay.Change
	err error
}

// shown is how a path is named for people: from the working directory, as git
// does, or absolute in a joined directory.
func (p *picked) shown(dir, path string) string {
	if p.Name != "" || dir == p.Lower {
		return p.Shown(path)
	}
	rel, err := filepath.Rel(dir, filepath.Join(p.Lower, path))
	if err != nil {
		return p.Shown(path)
	}
	return rel
}

// patched is how a path is named in a patch: from the source tree or, in a
// joined directory, from the root.
func (p *picked) patched(path string) string { return strings.TrimPrefix(p.Shown(path), "/") }
