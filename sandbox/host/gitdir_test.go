package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A gitBox is a home directory in which the real git(1) makes repositories.
type gitBox struct {
	*testing.T
	home string
}

// skipOrFail skips the test for want of something; with SBX_MUST_WORK=1 it fails.
func skipOrFail(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func newGitBox(t *testing.T) gitBox {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		skipOrFail(t, "git(1) is not installed")
	}
	b := gitBox{t, realTemp(t)}
	b.git("init", "-q", "main")
	b.git("-C", "main", "commit", "-q", "--allow-empty", "-m", "first")
	makeFiles(t, b.home, ".ssh/id=secret", ".ssh/HEAD=ref: x", ".ssh/objects/pack/", ".ssh/objects/info/", ".ssh/refs/")
	return b
}

func (b gitBox) git(args ...string) string {
	b.Helper()
	cmd := exec.Command("git", append([]string{"-c", "protocol.file.allow=always"}, args...)...)
	cmd.Dir = b.home
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.home, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@x", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@x"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (b gitBox) write(name, format string, args ...any) {
	b.Helper()
	if err := os.WriteFile(b.home+"/"+name, fmt.Appendf(nil, format, args...), 0o644); err != nil {
		b.Fatal(err)
	}
}

func (b gitBox) hidden(path string) bool {
	return path == b.home || pathWithin(path, b.home+"/.ssh") || pathWithin(b.home, path)
}

// check compares what GitDirs says of a tree with "kind name" words, names
// relative to the home directory, and with a piece of its only warning.
func (b gitBox) check(tree, want, warning string) {
	b.Helper()
	dirs, warnings := GitDirs(b.home+"/"+tree, b.hidden)
	var words []string
	for _, d := range dirs {
		words = append(words, d.Kind, strings.TrimPrefix(d.Path, b.home+"/"))
	}
	if got := strings.Join(words, " "); got != want {
		b.Errorf("%s: got %q, want %q (warnings: %v)", tree, got, want, warnings)
	}
	if warning == "" && len(warnings) > 0 || warning != "" && (len(warnings) != 1 || !strings.Contains(warnings[0].Error(), warning)) {
		b.Errorf("%s: warnings %q, want %q", tree, warnings, warning)
	}
	for _, w := range warnings {
		if !strings.HasPrefix(w.Error(), `cannot show git directory "/`) || strings.Contains(w.Error(), "\n") {
			b.Errorf("%s: warning in other words: %q", tree, w)
		}
	}
}

// checkTree compares what FindTree says for a current directory.
func (b gitBox) checkTree(dir, want string) {
	b.Helper()
	got, err := FindTree(TreeOptions{Dir: b.home + "/" + dir, Home: b.home})
	if err != nil || got.Root != b.home+"/"+want || got.Why != "git" {
		b.Errorf("%s: got %+v %v, want %s", dir, got, err, want)
	}
}

func TestGitDirsNone(t *testing.T) {
	b := newGitBox(t)
	makeFiles(t, b.home, "plain/")
	b.check("main", "", "")
	b.check("plain", "", "")
	b.check("missing", "", "")
}

func TestGitWorktree(t *testing.T) {
	b := newGitBox(t)
	makeFiles(t, b.home, "main/in/")
	b.git("-C", "main", "worktree", "add", "-q", "../wt")
	b.git("-C", "main", "worktree", "add", "-q", "in/wt2")
	makeFiles(t, b.home, "wt/sub/")
	b.checkTree("wt/sub", "wt")
	b.check("wt", "worktree main/.git", "")
	b.checkTree("main/in/wt2", "main/in/wt2")
	b.check("main/in/wt2", "worktree main/.git", "")
	b.check("main", "", "")

	// As with worktree.useRelativePaths.
	b.write("wt/.git", "gitdir: ../main/.git/worktrees/wt\n")
	b.write("main/.git/worktrees/wt/gitdir", "../../../../wt/.git\n")
	b.check("wt", "worktree main/.git", "")
}

func TestGitWorktreeOfBare(t *testing.T) {
	b := newGitBox(t)
	b.git("clone", "-q", "--bare", "main", "bare.git")
	b.git("-C", "bare.git", "worktree", "add", "-q", "one")
	b.git("-C", "bare.git", "worktree", "add", "-q", "two")
	b.check("bare.git/one", "worktree bare.git", "")
	// What is neither git's nor a worktree would be shown along with it.
	makeFiles(t, b.home, "bare.git/private/letter=")
	b.check("bare.git/one", "", `beside it "private"`)
}

func TestGitSubmodule(t *testing.T) {
	b := newGitBox(t)
	b.git("init", "-q", "mid")
	b.git("-C", "mid", "submodule", "--quiet", "add", b.home+"/main", "inner")
	b.git("-C", "mid", "commit", "-q", "-m", "inner")
	b.git("init", "-q", "super")
	b.git("-C", "super", "submodule", "--quiet", "add", b.home+"/mid", "libs/mid")
	b.git("-C", "super", "submodule", "--quiet", "update", "--init", "--recursive")
	b.git("-C", "super", "commit", "-q", "-m", "mid")
	makeFiles(t, b.home, "super/libs/mid/inner/deep/")
	b.checkTree("super/libs/mid/inner/deep", "super")
	b.checkTree("super/libs/mid", "super")
	b.check("super", "", "")
	// As a tree of its own, by --source.
	b.check("super/libs/mid", "submodule super/.git/modules/libs/mid", "")
	b.check("super/libs/mid/inner", "submodule super/.git/modules/libs/mid/modules/inner", "")

	// git sparse-checkout moves core.worktree into a file of its own.
	b.git("-C", "super/libs/mid", "sparse-checkout", "set", "--no-cone", "/*")
	b.checkTree("super/libs/mid", "super")
	b.check("super/libs/mid", "submodule super/.git/modules/libs/mid", "")

	// A submodule of a worktree has its git directory in the worktree's.
	b.git("-C", "super", "worktree", "add", "-q", "../superwt")
	b.git("-C", "superwt", "submodule", "--quiet", "update", "--init")
	b.checkTree("superwt/libs/mid", "superwt")
	b.check("superwt", "worktree super/.git", "")
	b.check("superwt/libs/mid", "submodule super/.git/worktrees/superwt/modules/libs/mid", "")
}

func TestGitSubmoduleOfHome(t *testing.T) {
	b := newGitBox(t)
	b.git("init", "-q")
	b.git("submodule", "--quiet", "add", b.home+"/main", "vim")
	b.checkTree("vim", "vim")
	b.check("vim", "submodule .git/modules/vim", "")
}

func TestGitSeparate(t *testing.T) {
	b := newGitBox(t)
	b.git("init", "-q", "--separate-git-dir", "store", "sep")
	b.check("sep", "", "core.worktree is not set")
	b.git("-C", "sep", "config", "core.worktree", b.home+"/sep")
	b.check("sep", "separate store", "")
	b.git("-C", "sep", "config", "core.worktree", b.home+"/main")
	b.check("sep", "", "it belongs to")
	makeFiles(t, b.home, "insep/")
	b.git("init", "-q", "--separate-git-dir", "insep/.bare", "insep")
	b.check("insep", "", "")
}

func TestGitAlternates(t *testing.T) {
	b := newGitBox(t)
	b.git("clone", "-q", "--shared", "main", "shared")
	b.check("shared", "alternate main/.git/objects", "")
	b.git("clone", "-q", "--shared", "shared", "third")
	b.check("third", "alternate shared/.git/objects alternate main/.git/objects", "")
	b.git("-C", "shared", "worktree", "add", "-q", "../wt")
	b.check("wt", "worktree shared/.git alternate main/.git/objects", "")
	b.git("-C", "main", "repack", "-q", "-a", "-d")
	b.check("shared", "alternate main/.git/objects", "")

	const alternates = "shared/.git/objects/info/alternates"
	b.write(alternates, "# comment\n\n%q\n../../../main/.git/objects\n", b.home+"/main/.git/objects")
	b.check("shared", "alternate main/.git/objects", "")
	// A circle ends.
	b.write("main/.git/objects/info/alternates", "%s/shared/.git/objects\n", b.home)
	b.check("shared", "alternate main/.git/objects", "")
	if err := os.Remove(b.home + "/main/.git/objects/info/alternates"); err != nil {
		t.Fatal(err)
	}

	makeFiles(t, b.home, "link->main", "docs/pack/", "docs/info/", "docs/letter=", "thin/pack/")
	for _, tc := range []struct{ line, warning string }{
		{b.home + "/.ssh/objects", "hidden"},
		{b.home + "/.ssh", "hidden"},
		{b.home, "holds the source tree"},
		{"/", "holds the source tree"},
		{"/etc", "hidden"},
		{b.home + "/link/.git/objects", "symbolic link"},
		{b.home + "/docs", `it has "letter"`},
		{b.home + "/thin", `"info"`},
		{b.home + "/main/.git", `"pack"`},
		{b.home + "/gone", "no such file"},
		{`"broken`, "not understood"},
		{"a\x00b", "not a text"},
		{strings.Repeat("x", 70<<10), "longer than"},
		{strings.Repeat("/"+strings.Repeat("x/", 100), 40), "too long"},
	} {
		b.write(alternates, "%s\n", tc.line)
		b.check("shared", "", tc.warning)
	}
	var many strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&many, "../../d%d\n", i)
	}
	b.write(alternates, "%s", many.String())
	if dirs, warnings := GitDirs(b.home+"/shared", b.hidden); len(dirs) != 0 || len(warnings) > 20 {
		t.Errorf("many alternates: %v, %d warnings", dirs, len(warnings))
	}
}

func TestCoreWorktree(t *testing.T) {
	for _, tc := range []struct{ config, want string }{
		{"", ""},
		{"[core]\n\tbare = false\n\tworktree = ../../../a\n", "../../../a"},
		{"[CORE]\r\nWorkTree=/a b \r\n", "/a b"},
		{"[core] worktree = /a # comment\n", "/a"},
		{"[core]\nworktree = \"/a # b\" ; c\n", "/a # b"},
		{`[core]` + "\n" + `worktree = "/a\"b\\c"`, `/a"b\c`},
		{`[core]` + "\n" + `worktree = /a\tb\`, "/a\tb\\"},
		{"[core \"x\"]\nworktree = /a\n", ""},
		{"[remote \"core\"]\nworktree = /a\n[core]\nworktree = /b\nworktree = /c\n", "/c"},
		{"[core]\nworktree\n# worktree = /x\n", ""},
		{"worktree = /a\n", ""},
	} {
		if got := coreWorktree(tc.config); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.config, got, tc.want)
		}
	}
}

func BenchmarkGitDirs(b *testing.B) {
	root, err := filepath.EvalSymlinks(b.TempDir())
	if err == nil {
		err = os.MkdirAll(root+"/.git/objects/info", 0o755)
	}
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if dirs, warnings := GitDirs(root, func(string) bool { return true }); len(dirs)+len(warnings) > 0 {
			b.Fatal(dirs, warnings)
		}
	}
}
