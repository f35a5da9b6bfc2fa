package host

import (
	"errors"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// moduleTarget is where the .git file of root points, if that may be a
// submodule's git directory; else "".
func moduleTarget(root string) string {
	var st unix.Stat_t
	if lstat(root+"/.git", &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	target, err := readDotGit(root, uint32(unix.Geteuid()))
	if err != nil || !strings.Contains(target, "/modules/") {
		return ""
	}
	return target
}

// holdsModule says whether target is the name of a submodule's git directory in
// the checkout at super.
func holdsModule(super, target string) bool {
	git := filepath.Join(super, ".git")
	if pathWithin(target, git+"/modules") {
		return true
	}
	// In a worktree or another submodule .git is a file.
	git, err := readDotGit(super, uint32(unix.Geteuid()))
	return err == nil && pathWithin(target, git+"/modules")
}

// pointsBack says whether target is a git directory with its work tree at root.
// Without that a .git file in an unpacked archive could make the whole
// repository around it the tree.
func pointsBack(target, root string) bool {
	fd, err := openReal(target, root)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	self := uint32(unix.Geteuid())
	if requireGit(fd, self, "HEAD", "objects/", "refs/") != nil {
		return false
	}
	back, err := workTree(fd, target, self)
	return err == nil && back == root
}

// workTree is the core.worktree of the repository in target, "" if it has none.
func workTree(fd int, target string, self uint32) (string, error) {
	config, err := readSmall(fd, "config", gitConfigMax, self)
	if err != nil {
		return "", err
	}
	// With extensions.worktreeConfig (git sparse-checkout sets it) the key
	// moves to a second file.
	more, err := readSmall(fd, "config.worktree", gitConfigMax, self)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return "", err
	}
	tree := coreWorktree(config + "\n[]\n" + more)
	if tree == "" {
		return "", nil
	}
	return resolveName(tree, target), nil
}

// coreWorktree is the last value of core.worktree in the text of a git-config(1)
// file, which it reads without includes and continued lines: git writes neither
// for this key, and a value that is missed or garbled points nowhere.
func coreWorktree(config string) (value string) {
	core := false
	for line := range strings.Lines(config) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			var section string
			section, line, _ = strings.Cut(line[1:], "]")
			core = strings.EqualFold(section, "core")
		}
		key, text, ok := strings.Cut(line, "=")
		if core && ok && strings.EqualFold(strings.TrimSpace(key), "worktree") {
			value = configValue(strings.TrimSpace(text))
		}
	}
	return value
}

// configValue undoes quotes, backslashes and comments.
func configValue(text string) string {
	var out strings.Builder
	quoted, end := false, 0 // end: what is before it is not trailing space
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '"':
			quoted = !quoted
			end = out.Len()
			continue
		case c == '\\' && i+1 < len(text):
			i++
			c = text[i]
			if at := strings.IndexByte("ntb", c); at >= 0 {
				c = "\n\t\b"[at]
			}
		case !quoted && (c == '#' || c == ';'):
			return out.String()[:end]
		}
		out.WriteByte(c)
		if quoted || c != ' ' && c != '\t' {
			end = out.Len()
		}
	}
	return out.String()[:end]
}
