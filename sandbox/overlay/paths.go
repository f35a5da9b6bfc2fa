package overlay

import "strings"

// paths are those that a walk is restricted to; none means all.
type paths []string

// newPaths puts them into the form that Change.Path has.
func newPaths(list []string) paths {
	var p paths
	for _, s := range list {
		s = strings.Trim(s, "/")
		if s == "" || s == "." {
			return nil
		}
		p = append(p, s)
	}
	return p
}

// covers says whether a path is one of them or below one.
func (p paths) covers(path string) bool {
	for _, s := range p {
		if path == s || under(path, s) {
			return true
		}
	}
	return len(p) == 0
}

// below says whether one of them is below a path, and none is the path or above
// it.
func (p paths) below(path string) bool {
	found := false
	for _, s := range p {
		if path == s || under(path, s) {
			return false
		}
		found = found || under(s, path)
	}
	return found
}

// touches says whether a walk must look at a name at all.
func (p paths) touches(dir, name string) bool {
	if len(p) == 0 {
		return true
	}
	path := join(dir, name)
	return p.covers(path) || p.below(path)
}

// under says whether a path is strictly below a directory.
func under(path, dir string) bool {
	return len(path) > len(dir) && path[len(dir)] == '/' && strings.HasPrefix(path, dir)
}
