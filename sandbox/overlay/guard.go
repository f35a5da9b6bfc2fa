package overlay

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Level is what the guard thinks of a change.
type Level uint8

const (
	// Note is for the user to know; the change is pulled.
	Note Level = iota + 1
	// Refuse is for the user to decide: it is pulled only if named as unsafe.
	Refuse
	// Never is what no flag brings to the host.
	Never
)

// Reason is why the guard notes or refuses a change, in words that follow the
// path and a colon.
type Reason struct {
	Level Level
	Text  string
}

// Guard looks at what would come to the host. What comes out of a layer is what
// the host then executes, so this is the boundary, and not that of a file
// system: nothing that git, a shell, an editor or an agent runs merely because
// it is there comes out unseen. The names are in guard_table.go. No list can
// name all that some program obeys somewhere; what is built or run by the user
// after a pull is as trustworthy as the build was.
//
// A Guard is for one goroutine. It expects each change by itself, as a walk with
// All and Gone gives them.
type Guard struct {
	o *Opened
	// root are the last two names of the pair's path: a directory may be one of the table
	// itself, or what is in it may be only there.
	root string
	// led are what guarded names of the host's lead to, and git's configuration names.
	led map[string]*row
	// repos remembers for a directory whether it looks like a git repository.
	repos map[string]bool
	// Of the directory that was asked for last: the row for it or for one above,
	// and whether it is in something that looks like a repository.
	dir    string
	above  *row
	inRepo bool
}

// NewGuard makes the guard of a pair.
func NewGuard(o *Opened) *Guard {
	// No directory of the pair is called "/", so the first is entered.
	g := &Guard{o: o, repos: map[string]bool{}, led: map[string]*row{}, dir: "/"}
	if up, name := split(strings.Trim(o.Lower, "/")); name != "" {
		_, above := split(up)
		g.root = join(above, name)
	}
	g.lead()
	return g
}

// Check gives the reasons against a change, none for most.
func (g *Guard) Check(c Change) []Reason {
	var list []Reason
	add := func(l Level, text string) { list = append(list, Reason{l, text}) }
	switch c.Upper.Type() {
	case 0, unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
	default:
		return []Reason{{Never, "it is a " + c.Upper.TypeName()}}
	}
	if c.Upper.Perm()&^0o777 != 0 && !c.Upper.IsDir() && !c.Upper.IsSymlink() {
		add(Note, "the bits set-user-ID, set-group-ID and sticky stay behind")
	}
	if odd(c.Path) {
		add(Note, "its name has characters that are invisible, or no text")
	}
	if r := g.named(c.Path); r != nil && !(r.level == Note && r.name != "" && c.IsDir()) {
		add(r.level, r.why) // build/ is no BUILD
	} else if g.inRepository(c.Path) {
		add(Refuse, ofGit+", which has no .git")
	}
	if c.Upper.IsSymlink() {
		if why := g.link(c.Path); why != "" {
			add(Refuse, why)
		}
		if name := fold(path.Base(c.Path)); contentMatters(name) {
			add(Note, "it is a symlink, so what is in it is unknown")
		}
	}
	if c.Upper.IsRegular() && c.Kind != ModeChanged {
		list = append(list, g.content(c)...)
	}
	return list
}

// Gravest is the gravest level of some reasons, 0 if there are none.
func Gravest(list []Reason) Level {
	var l Level
	for _, r := range list {
		l = max(l, r.Level)
	}
	return l
}

// named finds the row for a path: that of its own name, or that of a directory
// above, which is the graver.
func (g *Guard) named(p string) *row {
	dir, name := split(p)
	g.enter(dir)
	r := byName(g.within(dir), fold(name))
	if l := g.led[foldPath(p)]; l != nil && (r == nil || l.level > r.level) {
		r = l
	}
	if r == nil || g.above != nil && g.above.level > r.level {
		return g.above
	}
	return r
}

// within is a directory of the pair with the names above.
func (g *Guard) within(dir string) string {
	if g.root == "" || dir == "" {
		return g.root + dir
	}
	return g.root + "/" + dir
}

// inRepository says whether the path is of what git would use in a directory
// that looks like a repository, on either side.
func (g *Guard) inRepository(p string) bool {
	dir, name := split(p)
	g.enter(dir)
	return g.inRepo || g.ofRepository(dir, name)
}

// enter finds out about a directory what holds for all that is in it. A walk
// asks for the same again and again.
func (g *Guard) enter(dir string) {
	if dir == g.dir {
		return
	}
	g.dir, g.above, g.inRepo = dir, nil, false
	above := func(r *row) {
		if r != nil && r.name == "" && (g.above == nil || r.level > g.above.level) {
			g.above = r
		}
	}
	up, name := split(g.root)
	above(byName(up, fold(name)))
	for i, start := 0, 0; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		up, name := dir[:max(start-1, 0)], dir[start:i]
		above(byName(g.within(up), fold(name)))
		if len(g.led) > 0 {
			above(g.led[foldPath(dir[:i])])
		}
		g.inRepo = g.inRepo || g.ofRepository(up, name)
		start = i + 1
	}
}

// ofRepository says whether a name in a directory is one that git would use, and
// the directory looks like a repository.
func (g *Guard) ofRepository(dir, name string) bool {
	switch fold(name) {
	case "head", "objects", "refs", "hooks", "config", "config.worktree", "info", "worktrees", "modules", "commondir", "packed-refs", "index", "logs":
		return g.repository(dir)
	}
	return false
}

// repository says whether git takes a directory for a repository without a .git around
// it (setup.c:is_git_directory): commondir names where all but its HEAD is.
func (g *Guard) repository(dir string) bool {
	is, ok := g.repos[dir]
	if ok {
		return is
	}
	has := func(n string) bool {
		return g.exists(g.o.upper, path.Join(dir, n)) || g.exists(g.o.lower, path.Join(dir, n))
	}
	is = has("HEAD") && (has("commondir") || has("objects") && has("refs"))
	if len(g.repos) > 1000 {
		g.repos = map[string]bool{}
	}
	g.repos[dir] = is
	return is
}

func (g *Guard) exists(root int, p string) bool {
	st, _, err := g.at(root, p)
	return err == nil && st.Exists() && !st.IsWhiteout()
}

// at looks at a path of one side, and reads it if it is a symlink.
func (g *Guard) at(root int, p string) (st Stat, target string, err error) {
	if root < 0 {
		return st, "", unix.ENOENT
	}
	fd, err := OpenBeneath(root, p, unix.O_PATH)
	if err != nil {
		return st, "", err
	}
	defer unix.Close(fd)
	if st, err = StatFd(fd); err != nil || !st.IsSymlink() {
		return st, "", err
	}
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", buf[:])
	return st, string(buf[:max(n, 0)]), err
}

// link says why a symlink is refused, or "". It is followed name by name, through
// other symlinks, once as the layer has them and once as the host does: either
// may be what is there after a pull.
func (g *Guard) link(p string) string {
	_, target, err := g.at(g.o.upper, p)
	if err != nil {
		return "it cannot be read: " + cause(err)
	}
	if strings.HasPrefix(target, "/") {
		return "it is a symlink to the absolute path " + quote(target)
	}
	if climbs(target) {
		return "it is a symlink to " + quote(target) + ", which leaves a directory that may be a symlink"
	}
	for _, roots := range [2][2]int{{g.o.upper, g.o.lower}, {g.o.lower, g.o.upper}} {
		if why := g.follow(roots, path.Dir(p), target); why != "" {
			return why
		}
	}
	return ""
}

// climbs says whether .. comes after a name: where that leads is known only while the
// name is no symlink, and one may come later.
func climbs(target string) bool {
	name := false
	for n := range strings.SplitSeq(target, "/") {
		switch n {
		case "", ".":
		case "..":
			if name {
				return true
			}
		default:
			name = true
		}
	}
	return false
}

// follow goes the way of a symlink, as the kernel would.
func (g *Guard) follow(roots [2]int, dir, target string) string {
	at := []string{}
	if dir != "." {
		at = strings.Split(dir, "/")
	}
	whole := target
	names := strings.Split(target, "/")
	for links := 0; len(names) > 0; {
		n := names[0]
		names = names[1:]
		switch n {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return "it is a symlink to " + quote(whole) + ", which leaves the tree"
			}
			at = at[:len(at)-1]
			continue
		}
		if fold(n) == ".git" {
			return "it is a symlink to " + quote(whole) + ", which is in a git repository"
		}
		at = append(at, n)
		st, next, err := g.at(roots[0], strings.Join(at, "/"))
		if err != nil {
			st, next, err = g.at(roots[1], strings.Join(at, "/"))
		}
		if err != nil || !st.IsSymlink() {
			continue // what is not there may come to be; it is below the tree
		}
		if links++; links > 40 { // MAXSYMLINKS
			return "it is a symlink to " + quote(whole) + ", which leads back to itself"
		}
		if strings.HasPrefix(next, "/") {
			return "it is a symlink to " + quote(whole) + ", which leads to " + quote(next)
		}
		at = at[:len(at)-1]
		names = append(strings.Split(next, "/"), names...)
	}
	return ""
}
