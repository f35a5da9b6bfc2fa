package overlay

import (
	"errors"
	"path"
	"slices"
	"strings"
)

// Pattern is a glob over paths: `*`, `?` and `[...]` do not match a slash, `**`
// as a whole name matches any number of names, none included.
type Pattern struct{ names []string }

var errPattern = errors.New("it has a [ without its ], or ends in a backslash")

// ParsePattern reads a glob. Slashes at its ends count for nothing.
func ParsePattern(s string) (Pattern, error) {
	names := strings.Split(strings.Trim(path.Clean(s), "/"), "/")
	for _, n := range names {
		if _, err := path.Match(n, ""); err != nil {
			return Pattern{}, errPattern
		}
	}
	return Pattern{names}, nil
}

// IsPattern says whether a word has anything that a glob knows. A file may have
// such a name: whoever asks looks first.
func IsPattern(s string) bool { return strings.ContainsAny(s, `*?[`) }

func (p Pattern) String() string { return strings.Join(p.names, "/") }

// Match says whether the pattern is of all of a path.
func (p Pattern) Match(path string) bool { return match(p.names, strings.Split(path, "/")) }

// MatchBase is Match, and a pattern without a slash is of the last name.
func (p Pattern) MatchBase(path string) bool {
	if len(p.names) == 1 {
		_, path = split(path)
	}
	return p.Match(path)
}

// match goes back to the last ** only: what an earlier one could match, that one
// can too.
func match(pattern, names []string) bool {
	star, from := -1, 0
	i, j := 0, 0
	for j < len(names) {
		switch {
		case i < len(pattern) && pattern[i] == "**":
			star, from = i, j
			i++
			continue
		case i < len(pattern):
			if ok, _ := path.Match(pattern[i], names[j]); ok {
				i++
				j++
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		i, j = star+1, from
	}
	for i < len(pattern) && pattern[i] == "**" {
		i++
	}
	return i == len(pattern)
}

// Selection is what a command line names of a pair.
type Selection struct {
	// All is everything; with Paths or Globs, everything that they name,
	// deletions included.
	All bool
	// Paths are files and directories, "" is all of the pair.
	Paths []string
	Globs []Pattern
	// Include restricts all of it.
	Include []Pattern
}

// Named says whether a change was asked for by what was typed, and not by All
// alone.
func (s Selection) Named(c Change) bool {
	for _, p := range s.Paths {
		if p == "" || c.Path == p || under(c.Path, p) {
			return true
		}
	}
	for _, g := range s.Globs {
		for p := c.Path; p != ""; p, _ = split(p) {
			if g.Match(p) {
				return true
			}
		}
	}
	return false
}

// ByName says whether a change was asked for by a name: neither all of the pair nor a
// pattern for everything is one.
func (s Selection) ByName(c Change) bool {
	names := Selection{}
	for _, p := range s.Paths {
		if p != "" {
			names.Paths = append(names.Paths, p)
		}
	}
	for _, g := range s.Globs {
		if slices.ContainsFunc(g.names, specific) {
			names.Globs = append(names.Globs, g)
		}
	}
	return names.Named(c)
}

// specific says whether a name of a pattern has a character that stands for itself.
func specific(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '*', '?':
		case '[':
			end := strings.IndexByte(name[i:], ']')
			if end < 0 {
				return true
			}
			i += end
		default:
			return true
		}
	}
	return false
}

// Has says whether a change is selected.
func (s Selection) Has(c Change) bool {
	if len(s.Paths)+len(s.Globs) > 0 || !s.All {
		if !s.Named(c) {
			return false
		}
	}
	for _, g := range s.Include {
		if g.MatchBase(c.Path) {
			return true
		}
	}
	return len(s.Include) == 0
}

// Exactly says whether a change was named by its own path, or everything was
// asked for: a deletion needs that.
func (s Selection) Exactly(c Change) bool {
	if s.All {
		return true
	}
	for _, p := range s.Paths {
		if c.Path == p {
			return true
		}
	}
	return false
}

// within are the paths that a walk may be restricted to.
func (s Selection) within() []string {
	if len(s.Globs) > 0 {
		return nil
	}
	for _, p := range s.Paths {
		if p == "" {
			return nil
		}
	}
	return s.Paths
}
