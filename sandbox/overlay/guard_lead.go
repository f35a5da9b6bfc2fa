package overlay

import (
	"iter"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A name of the table may be a symlink on the host, and git's own configuration name a
// file of the tree: what is there is then acted upon under another name.

const (
	byLink   = "a guarded name of the host's is a symlink to it"
	byHook   = "a hook of git's is a symlink to it"
	byConfig = "git's configuration names it"
)

// lead finds these, at the top of the tree: to look for them anywhere is to read all of
// it.
func (g *Guard) lead() {
	if g.o.lower < 0 {
		return
	}
	for name := range g.links("") {
		if r := byName(g.root, fold(name)); r != nil && r.level == Refuse {
			g.leads(name, byLink)
		}
	}
	for _, r := range rows {
		if r.level == Refuse && strings.Contains(r.dir, "/") && r.name == "" {
			g.leads(r.dir, byLink)
		}
	}
	const hooks = ".git/hooks"
	g.leads(hooks, byHook)
	for name := range g.links(hooks) {
		g.leads(hooks+"/"+name, byHook)
	}
	st, _, err := g.at(g.o.lower, ".git/config")
	if err != nil || !st.IsRegular() {
		return
	}
	if text, err := g.read(g.o.lower, ".git/config", st); err == nil {
		for _, p := range configPaths(g.o.Lower, string(text)) {
			g.guard(p, byConfig)
		}
	}
}

// links are the names in a directory of the host that are symlinks, or may be.
func (g *Guard) links(dir string) iter.Seq[string] {
	return func(yield func(string) bool) {
		fd, err := OpenBeneath(g.o.lower, dir, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return
		}
		names, _ := readNames(fd, make([]byte, 32<<10))
		unix.Close(fd)
		for _, n := range names {
			if (n.typ == unix.DT_LNK || n.typ == unix.DT_UNKNOWN) && !yield(n.name) {
				return
			}
		}
	}
}

// leads guards what a name of the host's leads to, if it is a symlink that stays in the
// tree.
func (g *Guard) leads(p, why string) {
	for range 8 {
		st, target, err := g.at(g.o.lower, p)
		if err != nil || !st.IsSymlink() {
			return
		}
		if abs, ok := strings.CutPrefix(target, g.o.Lower+"/"); ok {
			p = path.Clean(abs)
		} else {
			p = path.Join(path.Dir(p), target)
		}
		if strings.HasPrefix(target, "/") && !strings.HasPrefix(target, g.o.Lower+"/") || p == ".." || strings.HasPrefix(p, "../") {
			return
		}
		g.guard(p, why)
	}
}

func (g *Guard) guard(p, why string) {
	if p != "." && p != "" {
		g.led[foldPath(p)] = &row{dir: p, level: Refuse, why: why}
	}
}

// configPaths are the paths in the tree, at root, that a git configuration (git-config(1))
// names, or that what could be a command line in it begins with; the paths of an include
// are relative to .git.
func configPaths(root, text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		if _, after, section := strings.Cut(key, "]"); section {
			key = after
		}
		for _, v := range configWords(strings.TrimSpace(value)) {
			if in, ok := strings.CutPrefix(v, root+"/"); ok {
				v = in
			} else if strings.EqualFold(strings.TrimSpace(key), "path") {
				v = ".git/" + v
			}
			if v = path.Clean(v); v != "." && v != ".." && !strings.HasPrefix(v, "/") && !strings.HasPrefix(v, "../") && !strings.HasPrefix(v, ".git/") {
				list = append(list, v)
			}
		}
	}
	return list
}

// configWords are what a value may name: all of it, what is in quotes, and the first word.
func configWords(value string) []string {
	whole := value
	if quoted, ok := strings.CutPrefix(value, `"`); ok {
		whole, _, _ = strings.Cut(quoted, `"`)
	} else if i := strings.IndexAny(value, "#;"); i >= 0 {
		whole = strings.TrimSpace(value[:i])
	}
	word := strings.TrimPrefix(whole, "!")
	if i := strings.IndexAny(word, " \t;&|<>"); i >= 0 {
		word = word[:i]
	}
	return []string{whole, strings.Trim(word, `"'`)}
}
