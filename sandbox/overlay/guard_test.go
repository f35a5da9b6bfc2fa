package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// sample is a path that a row is for.
func sample(r row) string {
	s := r.dir
	if r.name != "" {
		s = strings.TrimPrefix(s+"/"+strings.ReplaceAll(r.name, "*", "x"), "/")
	}
	return s
}

// Each row of the table holds, at any depth, in any case, and for a directory
// also for what is in it; and a name that is longer is not it.
func TestGuardTable(t *testing.T) {
	g := NewGuard(&Opened{lower: -1, upper: -1})
	for _, r := range rows {
		p := sample(r)
		tries := []string{p, "a/b/" + p, strings.ToUpper(p)}
		if r.name == "" {
			tries = append(tries, p+"/in/it", "a/"+p+"/f")
		}
		if strings.Contains(r.name, "*") {
			tries = append(tries, strings.TrimPrefix(r.dir+"/"+strings.ReplaceAll(r.name, "*", ""), "/"))
		}
		for _, try := range tries {
			c := Change{Path: try, Kind: ModeChanged, Upper: Stat{Mode: unix.S_IFREG | 0o755}}
			if got := Gravest(g.Check(c)); got < r.level {
				t.Errorf("%q: level %d, want %d: %s", try, got, r.level, r.why)
			}
		}
		if r.why == "" || r.dir != strings.Trim(r.dir, "/") || strings.Contains(r.name, "/") {
			t.Errorf("%q: the row is malformed", p)
		}
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if key := fold(r.dir) + "|" + fold(r.name); seen[key] {
			t.Errorf("%q is there twice", key)
		} else {
			seen[key] = true
		}
	}
}

func TestGuardHarmless(t *testing.T) {
	g := NewGuard(&Opened{lower: -1, upper: -1})
	for _, p := range []string{
		"a", "src/main.c", "git/config", "a.git", ".github/CODEOWNERS", ".gitignore", ".gitkeep", ".env", ".tool-versions",
		"vscode/tasks.json", "idea/x", "cargo/config.toml", "config.toml", "HEAD", "objects/x", "hooks/x", "package-lock.json",
		"composer.lock", "go.sum", "Cargo.lock", "README.md", "vendor/a/b.php", "profile", "model.pth", "cvs/x", "..git", ".gi", ".gitx/f",
		"bin/prog", "build", "Configure", "venv.c", "tools/bazel.c", "naïve.txt", "日本語",
	} {
		c := Change{Path: p, Kind: Added, Upper: Stat{Mode: unix.S_IFDIR | 0o755}}
		if list := g.Check(c); len(list) > 0 {
			t.Errorf("%q: %v", p, list)
		}
	}
}

// Names that some file system takes for .git, after git's own tests of
// is_hfs_dotgit and is_ntfs_dotgit.
func TestGuardGitNames(t *testing.T) {
	g := NewGuard(&Opened{lower: -1, upper: -1})
	for _, name := range []string{
		".git", ".GIT", ".Git", ".g\u200cit", "\u200d.git", ".gi\ufefft", ".git\u206a", ".git ", ".git.", ".git. . ", "git~1", "GIT~1",
		".git::$INDEX_ALLOCATION", ".git:x", ".G\u00adIT", ".git\u202e",
	} {
		for _, p := range []string{name, name + "/hooks/pre-commit", "sub/" + name + "/config"} {
			if r := g.named(p); r == nil || r.level != Refuse {
				t.Errorf("%q is not refused", p)
			}
		}
	}
}

// checked lists what the guard says of each change of a pair.
func checked(t *testing.T, p Pair) string {
	t.Helper()
	o, err := p.Open()
	must(t, err)
	defer o.Close()
	g := NewGuard(o)
	var b strings.Builder
	for c, err := range o.Changes(Options{All: true, Gone: true}) {
		must(t, err)
		for _, r := range g.Check(c) {
			fmt.Fprintf(&b, "%d %q: %s\n", r.Level, c.Path, r.Text)
		}
	}
	return b.String()
}

func checkGuard(t *testing.T, p Pair, want string) {
	t.Helper()
	if got := checked(t, p); got != text(want) {
		t.Errorf("got\n%swant\n%s", got, text(want))
	}
}

func TestGuardLinks(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "hostout->/opt\nsub/f=1\nswap/f=1")
	fill(t, p.Upper, `
		absolute->/etc/passwd
		a/b/up->../..
		a/b/upup->../../..
		a/b/upupx->../../../tree/x
		chain1->chain2
		chain2->a/b/upup
		dir->sub
		fine->sub/f
		git->.GIT/config
		loop1->loop2
		loop2->loop1
		missing->not/there
		swap->sub
		through->dir/../../x
		via->hostout/lib
		weird->sub/./..//sub/f
	`)
	checkGuard(t, p, `
		2 "a/b/upup": it is a symlink to "../../..", which leaves the tree
		2 "a/b/upupx": it is a symlink to "../../../tree/x", which leaves the tree
		2 "absolute": it is a symlink to the absolute path "/etc/passwd"
		2 "chain1": it is a symlink to "chain2", which leaves the tree
		2 "chain2": it is a symlink to "a/b/upup", which leaves the tree
		2 "git": it is a symlink to ".GIT/config", which is in a git repository
		2 "loop1": it is a symlink to "loop2", which leads back to itself
		2 "loop2": it is a symlink to "loop1", which leads back to itself
		2 "through": it is a symlink to "dir/../../x", which leaves a directory that may be a symlink
		2 "via": it is a symlink to "hostout/lib", which leads to "/opt"
		2 "weird": it is a symlink to "sub/./..//sub/f", which leaves a directory that may be a symlink
	`)
}

func TestGuardRepository(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "half/objects/x=1\nnone/config=1")
	fill(t, p.Upper, `
		bare/HEAD=ref: refs/heads/main
		bare/config=[core]
		bare/hooks/post-checkout:755=#!/bin/sh
		bare/objects/
		bare/refs/
		bare/description=x
		half/HEAD=x
		half/refs/
		nested/.git/config=x
		none/config=2
		sub/.git=gitdir: ../x
	`)
	checkGuard(t, p, `
		2 "bare/HEAD": it belongs to a git repository, which has no .git
		2 "bare/config": it belongs to a git repository, which has no .git
		2 "bare/hooks": it belongs to a git repository, which has no .git
		2 "bare/hooks/post-checkout": it belongs to a git repository, which has no .git
		2 "bare/objects": it belongs to a git repository, which has no .git
		2 "bare/refs": it belongs to a git repository, which has no .git
		2 "half/HEAD": it belongs to a git repository, which has no .git
		2 "half/refs": it belongs to a git repository, which has no .git
		2 "nested/.git": it belongs to a git repository
		2 "nested/.git/config": it belongs to a git repository
		2 "sub/.git": it belongs to a git repository
	`)
}

func TestGuardTypes(t *testing.T) {
	p := newPair(t)
	fill(t, p.Upper, "pipe|\nsuid:4755=x\nok:755=x\nodd\x1b[31m=x\nrtl\u202egpj.exe=x\nbad\xff=x\n")
	must(t, os.WriteFile(filepath.Join(p.Upper, "new\nline"), nil, 0o644))
	checkGuard(t, p, `
		1 "bad\xff": its name has characters that are invisible, or no text
		1 "new\nline": its name has characters that are invisible, or no text
		1 "odd\x1b[31m": its name has characters that are invisible, or no text
		3 "pipe": it is a fifo
		1 "rtl\u202egpj.exe": its name has characters that are invisible, or no text
		1 "suid": the bits set-user-ID, set-group-ID and sticky stay behind
	`)
}

func TestGuardContent(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, `
		package.json={"name":"x","scripts":{"build":"tsc","test":"jest"}}
		a/.gitattributes=*.bin filter=lfs
	`)
	fill(t, p.Upper, `
		.gitattributes=*.c text diff
		a/.gitattributes=*.bin filter=lfs -diff
		b/.gitattributes=* filter=evil
		b/composer.json={"scripts":{"post-install-cmd":"x"},"config":{"allow-plugins":true}}
		c/package.json={"name":"y"}
		d/package.json={"scripts":
		node_modules/x/package.json={"scripts":{"postinstall":"x"}}
		package.json={"version":"2","scripts":{"build":"tsc -b","postinstall":"x"},"packageManager":"y@1"}
		vendor/.gitattributes=* !filter merge=evil
	`)
	// fill cuts at the first "=".
	checkGuard(t, p, `
		2 "a/.gitattributes": it has git run the driver "filter=lfs"
		2 "b/.gitattributes": it has git run the driver "filter=evil"
		1 "b/composer.json": changed scripts: post-install-cmd, allow-plugins
		1 "d/package.json": it is no JSON, so its scripts are unknown
		1 "package.json": changed scripts: build, postinstall, test, packageManager
		2 "vendor/.gitattributes": it has git run the driver "merge=evil"
	`)
	// White space to Unicode, but not to git: no comment.
	for _, blank := range []string{"\f", "\v", "\u00a0", "\u2003", "\u0085"} {
		must(t, os.WriteFile(filepath.Join(p.Upper, ".gitattributes"), []byte(blank+"#* filter=evil\n"), 0o644))
		if got := checked(t, p); !strings.Contains(got, `2 ".gitattributes": it has git run the driver "filter=evil"`) {
			t.Errorf("%q: got\n%s", blank, got)
		}
		must(t, os.WriteFile(filepath.Join(p.Upper, ".gitattributes"), []byte("* filter="+blank+"evil\n"), 0o644))
		if got := checked(t, p); !strings.Contains(got, `2 ".gitattributes": it has git run the driver`) {
			t.Errorf("%q: got\n%s", blank, got)
		}
	}
	must(t, os.WriteFile(filepath.Join(p.Upper, "package.json"), make([]byte, maxGuarded+1), 0o644))
	if got := checked(t, p); !strings.Contains(got, `2 "package.json": it cannot be read: it is larger than 4 MiB`) {
		t.Errorf("got\n%s", got)
	}
}

// The mark on a directory that only the layer has counts what is refused in it.
func TestGuardCounts(t *testing.T) {
	p := newPair(t)
	fill(t, p.Upper, `
		d/.git/config=x
		d/x/.vscode/tasks.json=x
		d/y/.envrc=x
		d/y/abs->/etc
		d/y/in->../x
		d/y/out->../../../x
		d/y/pipe|
		d/y/z=1
	`)
	o, err := p.Open()
	must(t, err)
	defer o.Close()
	for c, err := range o.Changes(Options{Guard: true}) {
		must(t, err)
		if c.Path != "d" || c.Refused != 6 || c.Count != 12 {
			t.Errorf("%q: %d of %d are refused, want 6 of 12", c.Path, c.Refused, c.Count)
		}
	}
}

// A repository of which all but HEAD is elsewhere; git takes it for one.
func TestGuardCommonDir(t *testing.T) {
	p := newPair(t)
	fill(t, p.Upper, `
		doc/HEAD=ref
		doc/commondir=../data
		doc/config.worktree=x
		doc/a=x
		data/config=x
	`)
	checkGuard(t, p, `
		2 "doc/HEAD": it belongs to a git repository, which has no .git
		2 "doc/commondir": it belongs to a git repository, which has no .git
		2 "doc/config.worktree": it belongs to a git repository, which has no .git
	`)
}

// A joined directory, or the tree, may have a name of the table itself.
func TestGuardRoot(t *testing.T) {
	for _, test := range []struct{ lower, path, want string }{
		{"/home/u/x/.vscode", "tasks.json", byEditor},
		{"/home/u/x/.vscode", "a/b", byEditor},
		{"/home/u/x/.github", "agents/x.md", byAgent},
		{"/home/u/x/.github", "workflows/ci.yml", inCI},
		{"/home/u/.yarn/releases", "yarn.cjs", byTool},
		{"/home/u/.claude/worktrees/x", "src/main.c", ""},
		{"/home/u/.vim/plugin", "f.vim", ""},
		{"/home/u/x", "tasks.json", ""},
	} {
		g := NewGuard(&Opened{Pair: Pair{Lower: test.lower}, lower: -1, upper: -1})
		got := ""
		for _, r := range g.Check(Change{Path: test.path, Kind: ModeChanged, Upper: Stat{Mode: unix.S_IFREG | 0o644}}) {
			got = r.Text
		}
		if got != test.want {
			t.Errorf("%s in %s: %q, want %q", test.path, test.lower, got, test.want)
		}
	}
}

// What the host's own names lead to is acted upon under these.
func TestGuardLeads(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, `
		.envrc->src/env
		.vscode->ed
		.husky->/elsewhere
		.idea->../out
		ed/tasks.json=1
		src/env=1
		src/hook=1
		src/hooks/x=1
		src/merge=1
		.git/hooks/pre-commit->../../src/hook
		.git/config=[core]\n\thooksPath = src/hooks\n[merge "x"]\n\tdriver = "src/merge %A %B"\n[alias]\n\tl = !src/alias -x\n[include]\n\tpath = ../src/more\n[remote "o"]\n\turl = https://example.com/x\n
	`)
	conf, err := os.ReadFile(p.Lower + "/.git/config")
	must(t, err)
	must(t, os.WriteFile(p.Lower+"/.git/config", []byte(strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(string(conf))), 0o644))
	fill(t, p.Upper, `
		ed/tasks.json=2
		ed/new=2
		src/env=2
		src/hook=2
		src/hooks/y=2
		src/merge=2
		src/alias=2
		src/more=2
		src/other=2
	`)
	checkGuard(t, p, `
		2 "ed/new": a guarded name of the host's is a symlink to it
		2 "ed/tasks.json": a guarded name of the host's is a symlink to it
		2 "src/alias": git's configuration names it
		2 "src/env": a guarded name of the host's is a symlink to it
		2 "src/hook": a hook of git's is a symlink to it
		2 "src/hooks/y": git's configuration names it
		2 "src/merge": git's configuration names it
		2 "src/more": git's configuration names it
	`)
}

func TestConfigPaths(t *testing.T) {
	for text, want := range map[string]string{
		"hooksPath = src/hooks":         "src/hooks src/hooks",
		"\thooksPath=\"src/hooks\" # c": "src/hooks src/hooks",
		"hooksPath = src/hooks\t; c":    "src/hooks src/hooks",
		"hooksPath = /t/.hooks":         ".hooks .hooks",
		"hooksPath = /elsewhere":        "",
		"[include] path = ../x":         "x x",
		"[include]\n\tpath = /t/x":      "x x",
		"path = more":                   "",
		"l = !src/alias -x":             "!src/alias -x src/alias",
		"sshCommand = \"src/ssh -v\"":   "src/ssh -v src/ssh",
		"fsmonitor = src/mon;true":      "src/mon src/mon",
		"x = ../out":                    "",
		"[core] hooksPath = h":          "h h",
		"bare":                          "",
	} {
		if got := strings.Join(configPaths("/t", text), " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestGuardManifestLink(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "package.json={}\n")
	fill(t, p.Upper, "package.json->p.json\np.json={}\n")
	checkGuard(t, p, `
		1 "package.json": it is a symlink, so what is in it is unknown
	`)
}

func FuzzGuardName(f *testing.F) {
	for _, s := range []string{".git/x", "a/.GIT~1", "\xff/\u200c", "//", ".vscode/", "*"} {
		f.Add(s)
	}
	g := NewGuard(&Opened{lower: -1, upper: -1})
	f.Fuzz(func(t *testing.T, s string) {
		c := Change{Path: s, Kind: Added, Upper: Stat{Mode: unix.S_IFDIR | 0o755}}
		level, low := Gravest(g.Check(c)), strings.ToLower(s)
		if again := Gravest(g.Check(Change{Path: strings.ToUpper(s), Upper: c.Upper})); again != level && strings.ToLower(strings.ToUpper(s)) == low {
			t.Errorf("%q: level %d, in upper case %d", s, level, again)
		}
		for _, n := range strings.Split(s, "/") {
			if fold(fold(n)) != fold(n) {
				t.Errorf("%q is folded to %q, and that to %q", n, fold(n), fold(fold(n)))
			}
		}
	})
}
