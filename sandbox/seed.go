package sandbox

import (
	"strings"
	"unicode"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/state"
)

// look finds out what the private home has in the place of the tools' configuration.
func (s *Session) look(f host.Facts) map[string]plan.Have {
	s.seeds, s.news = nil, nil
	if len(f.Conf) == 0 {
		return nil
	}
	s.seeds = s.Layer.Seeds()
	defer s.seeds.Close()
	have := make(map[string]plan.Have, len(f.Conf))
	for _, c := range f.Conf {
		switch s.seeds.Look(strings.TrimPrefix(c.Path, s.Policy.Home+"/"), c.Data) {
		case state.FoundNothing:
			have[c.Path] = plan.HasNothing
		case state.FoundEarlier:
			have[c.Path] = plan.HasEarlier
		case state.FoundSame:
			have[c.Path] = plan.HasSame
		case state.FoundNews:
			s.news = append(s.news, c.Path)
			fallthrough
		case state.FoundOther:
			have[c.Path] = plan.HasOther
		}
	}
	return have
}

// keepSeeds notes what the plan puts into the private home, and says of what it
// leaves alone that the host has something new there: once for each change.
func (s *Session) keepSeeds(o Options, lock *state.Lock, p plan.Plan) error {
	if s.seeds == nil {
		return nil
	}
	for _, path := range s.news {
		if p.Seeds(path) && !o.Throwaway {
			o.warn("%q is not shown as the host has it: a build has changed the layer's copy; this brings the host's back: sbx%s -- rm %s", path, s.layerFlag(o), quoted(path))
		}
	}
	return lock.KeepSeeds(s.seeds)
}

// layerFlag is what a command line needs to have the same layer.
func (s *Session) layerFlag(o Options) string {
	switch {
	case o.Layer != "" && o.Root:
		return " --root --layer " + o.Layer
	case o.Layer != "":
		return " --layer " + o.Layer
	case o.Root:
		return " --root"
	}
	return ""
}

// quoted is a path for a shell.
func quoted(path string) string {
	if !strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-+@:,", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
