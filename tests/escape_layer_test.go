package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// layer is a layer's directory, and that it exists.
func layerDir(t *testing.T, a account, tree string) string {
	t.Helper()
	r := a.sbx(t, tree, "path")
	dir := filepath.Dir(strings.TrimSpace(r.Stdout))
	if _, err := os.Stat(filepath.Join(dir, "home")); err != nil {
		t.Fatalf("no layer: %v %v", err, r)
	}
	return dir
}

// A private home that an earlier run has prepared: the names below which sbx
// will mount are symlinks to the host's places, files, fifos, sockets,
// directories without permissions, deep ones. Nothing may be written or mounted
// outside, no rule may come to nothing, and the run must still work.
func TestEscapeLayerHostileHome(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	for name, prepare := range map[string]string{
		"symlink":   `for n in $names; do rm -rf $n; mkdir -p $(dirname $n); ln -s $victim $n; done`,
		"relative":  `for n in $names; do rm -rf $n; mkdir -p $(dirname $n); ln -s ../../../../../../../../../../..$victim $n; done`,
		"tops":      `for n in src .cargo .npm go shown .ssh; do rm -rf $n; ln -s $victim $n; done`,
		"etc":       `for n in src .cargo .npm go shown .ssh; do rm -rf $n; ln -s /etc $n; done`,
		"dangling":  `for n in src .cargo .npm go shown .ssh; do rm -rf $n; ln -s $victim/new-$n $n; done`,
		"loop":      `for n in src .cargo .npm go shown .ssh; do rm -rf $n; ln -s $n $n; done`,
		"files":     `for n in src .cargo .npm go shown .ssh; do rm -rf $n; echo evil >$n; done`,
		"fifos":     `for n in src .cargo .npm go shown .ssh; do rm -rf $n; mkfifo $n; done`,
		"closed":    `for n in src .cargo .npm go shown .ssh; do mkdir -p $n; chmod 000 $n; done; chmod 000 .`,
		"readonly":  `for n in src .cargo .npm go shown .ssh; do mkdir -p $n; chmod 555 $n; done; chmod 555 .`,
		"magic":     `for n in src .cargo .npm go shown .ssh; do rm -rf $n; ln -s /proc/self/root$victim $n; done`,
		"procfd":    `for n in src .cargo .npm go shown .ssh; do rm -rf $n; ln -s /proc/1/cwd $n; done`,
		"leaves":    `for n in $names; do rm -rf $n; mkdir -p $(dirname $n); echo evil >$n; done`,
		"swapped":   `rm -rf shown; mkdir -p shown; mkdir -p shown/file; echo evil >shown/dir`,
		"manynames": `for n in $(seq 300); do : >"$n"; ln -sf $victim src.sbx-aside-$n; done; rm -rf src; ln -s $victim src`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			a.mkTree(t, a.Home, map[string]string{
				".cargo/bin/tool": "#!/bin/sh\n", ".cargo/registry/r": "1", ".npm/n": "1", "go/pkg/mod/m": "1", "shown/file": "real", "shown/dir/f": "real", ".ssh/id": "canary-key", "victim/.keep": "canary-victim",
			})
			victim := a.dir(t)
			a.mkTree(t, victim, map[string]string{"file": "canary-victim", "pkg/mod/m": "canary-victim", "registry/r": "canary-victim"})
			tree := filepath.Join(a.Home, "src", "project")
			a.mkTree(t, tree, map[string]string{".git/HEAD": "ref: refs/heads/main\n", "own": "mine"})
			if name == "swapped" {
				os.RemoveAll(filepath.Join(a.Home, "victim"))
			}
			// Prepared behind sbx's back: a run cannot rename the mount points
			// that it sees, but one of another tree or with other flags can
			// make the names, and the worst case is all of them.
			a.sbx(t, tree, "--", "true")
			home := filepath.Join(layerDir(t, a, tree), "home")
			names := "src/project .cargo/bin .cargo/registry .npm go/pkg shown/file shown/dir shown/hidden .ssh/id"
			if r := finish(t, a.command(home, []string{"names=" + names, "victim=" + victim}, "sh", "-c", prepare)); r.Status != 0 {
				t.Fatalf("cannot prepare the home: %v", r)
			}
			sameVictim := unchanged(t, victim)
			sameHost := func() func() {
				hosts := []func(){}
				for _, d := range []string{".cargo", ".npm", "go", "shown", ".ssh", "src"} {
					hosts = append(hosts, unchanged(t, filepath.Join(a.Home, d)))
				}
				return func() {
					for _, h := range hosts {
						h()
					}
				}
			}()
			h := a.Home
			flags := []string{"--ro", h + "/shown/file", "--cow", h + "/shown/dir", "--hide", h + "/shown/hidden", "--hide", h + "/.ssh/id"}
			r := a.sbx(t, tree, append(flags, "--", "sh", "-c",
				`cat own ~/shown/file ~/shown/dir/f ~/.cargo/registry/r; echo w >~/.cargo/registry/r; echo w >~/shown/dir/new; echo w >~/shown/file; echo w >~/shown/hidden; echo w >~/go/pkg/mod/m; echo w >~/.npm/n; echo w >~/.cargo/bin/tool; cat ~/.ssh/id`)...)
			if r.Status == 125 {
				if strings.Contains(r.Stdout, "mine") {
					t.Errorf("the command ran although sbx failed: %v", r)
				}
				t.Errorf("the home makes sbx unusable (nothing has escaped): %v", r)
			} else if !strings.HasPrefix(r.Stdout, "minerealreal1") && name != "closed" { // that is the build's own affair
				t.Errorf("the rules have come to nothing: %v", r)
			}
			if strings.Contains(r.Stdout, "canary") {
				t.Errorf("the run shows what it must not: %v", r)
			}
			sameVictim()
			sameHost()
			// And the layer can be wiped.
			if r := a.sbx(t, tree, "reset", "--all"); r.Status != 0 {
				t.Errorf("the home cannot be wiped: %v", r)
			}
			sameVictim()
			sameHost()
		})
	}
}

// An upper that an earlier run has prepared: names that rules mount on are
// symlinks, files, directories without permissions.
func TestEscapeLayerHostileUpper(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	for name, prepare := range map[string]string{
		"symlinks":  `rm -rf secrets vendor; ln -s /etc vendor; ln -s "$victim" secrets`,
		"files":     `rm -rf secrets vendor; echo evil >vendor; echo evil >secrets`,
		"renamed":   `cp -r secrets copy; rm -rf secrets; mkdir secrets; ln -s ../copy/key secrets/key; rm -rf vendor; ln -s secrets vendor`,
		"closed":    `chmod 000 secrets; mkdir -p vendor; chmod 000 vendor; chmod 000 .`,
		"gone":      `rm -rf secrets vendor`,
		"fifos":     `rm -rf secrets vendor; mkfifo secrets vendor`,
		"gitfile":   `rm -rf .git; echo "gitdir: $HOME/.ssh" >.git`,
		"gitlink":   `rm -rf .git; ln -s $HOME/.ssh .git`,
		"alternate": `mkdir -p .git/objects/info; echo "$HOME/.ssh" >.git/objects/info/alternates; echo $victim >>.git/objects/info/alternates`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			a.mkTree(t, a.Home, map[string]string{".ssh/id": "canary-key", ".ssh/HEAD": "canary", ".ssh/objects/pack/x": "canary", ".ssh/refs/": ""})
			victim := a.dir(t)
			a.mkTree(t, victim, map[string]string{"key": "canary-victim", "lib/f": "canary-victim", "pack/": "", "info/": ""})
			tree := a.tree(t, map[string]string{"secrets/key": "canary-hidden", "vendor/lib/f": "old"})
			lib := a.dir(t)
			a.mkTree(t, lib, map[string]string{"f": "new"})
			// The first run has no rule, and has seen the secret anyway: what
			// counts is that the rule holds afterwards.
			if r := finish(t, a.command(tree, []string{"victim=" + victim}, sbxPath, "--env", "victim", "--", "sh", "-c", prepare)); r.Status != 0 {
				t.Fatalf("cannot prepare the upper: %v", r)
			}
			sameVictim, sameTree, sameHome := unchanged(t, victim), unchanged(t, tree), unchanged(t, filepath.Join(a.Home, ".ssh"))
			r := a.sbx(t, tree, "--hide", "secrets/key", "--ro", lib+":"+tree+"/vendor/lib", "--", "sh", "-c",
				`cat secrets/key vendor/lib/f ~/.ssh/* "$1"/*; echo w >secrets/key; echo w >vendor/lib/f; ls ~/.ssh`, "sh", victim)
			if r.Status == 125 {
				t.Errorf("the layer makes sbx unusable (nothing has escaped): %v", r)
			} else if !strings.HasPrefix(r.Stdout, "new") && name != "closed" { // that is the build's own affair
				t.Errorf("the rules have come to nothing: %v", r)
			}
			if strings.Contains(r.Stdout, "canary") {
				t.Errorf("the run shows what it must not: %v", r)
			}
			sameVictim()
			sameTree()
			sameHome()
		})
	}
}

// A .git file of an archive that names a directory of the user's.
func TestEscapeLayerGitFile(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	repository := map[string]string{"HEAD": "ref: refs/heads/main\n", "objects/pack/p": "canary", "objects/info/": "", "refs/": "", "config": "[core]\n", "gitdir": "/x\n"}
	home := map[string]string{".ssh/id": "canary", ".ssh/HEAD": "ref: x\n", ".ssh/refs/": "", ".ssh/objects/": ""}
	for name, text := range repository {
		home["private/.git/"+name] = text
	}
	a.mkTree(t, a.Home, home)
	for _, text := range []string{
		"gitdir: ../../.ssh", "gitdir: " + a.Home + "/.ssh", "gitdir: ../private/.git", "gitdir: " + a.Home + "/private/.git", "gitdir: " + a.Home, "gitdir: /", "gitdir: ../..", "gitdir: /etc", "gitdir: /proc/self", "gitdir: ../link",
	} {
		tree := filepath.Join(a.Home, "src", fmt.Sprintf("t%d", len(text)))
		os.RemoveAll(tree)
		a.mkTree(t, tree, map[string]string{".git": text + "\n", "link": "-> " + a.Home + "/.ssh"})
		r := a.sbx(t, tree, "--rm", "--", "sh", "-c", "cat ~/.ssh/id ~/.ssh/HEAD ~/private/.git/objects/pack/p; ls -A ~ ~/src")
		if r.Status == 125 && r.Stdout == "" {
			continue
		}
		if strings.Contains(r.Stdout, "canary") || strings.Contains(r.Stdout, ".ssh") || strings.Contains(r.Stdout, "private") {
			t.Errorf("%q shows what it names: %v", text, r)
		}
	}
	// Objects that an archive's repository borrows: nothing points back from
	// them, so that any repository of the user's could be named.
	tree := filepath.Join(a.Home, "src", "borrower")
	a.mkTree(t, tree, map[string]string{".git/HEAD": "ref: refs/heads/main\n", ".git/refs/": "", ".git/config": "", ".git/objects/info/alternates": a.Home + "/private/.git/objects\n"})
	r := a.sbx(t, tree, "--", "sh", "-c", "cat ~/private/.git/objects/pack/p")
	if strings.Contains(r.Stdout, "canary") {
		t.Errorf("an archive's alternates file shows the objects of another repository: %v", r)
	}
}

// The state directory cannot be reached from inside: not the own layer's, not
// another's.
func TestEscapeLayerState(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree, other := a.tree(t, nil), a.tree(t, nil)
	a.arm(t, tree)
	a.sbx(t, other, "--", "sh", "-c", "echo canary >file")
	a.sbx(t, tree, "--layer", "second", "--", "sh", "-c", "echo canary >file; echo canary >~/file")
	a.sbx(t, tree, "--", "true")
	own, foreign := layerDir(t, a, tree), layerDir(t, a, other)
	second := filepath.Join(filepath.Dir(own), "second")
	control := []string{"read " + foreign + "/upper/file", "read " + second + "/home/file", "list " + own}
	a.outside(t, tree, control...).did(t, control...)
	attacks := append(control, "list "+a.Home+"/.local/state/sbx", "list /proc/layer", "list /proc/1/root/proc/layer", "create "+own+"/evil x", "write "+own+"/layer x", "write "+own+"/lock x",
		"list "+filepath.Join(own, "work"), "rename "+tree+"/victim "+filepath.Join(own, "work", "v"), "link "+tree+"/victim "+own+"/home/v")
	for _, flags := range [][]string{nil, {"--root", "--layer", "r"}} {
		a.inside(t, tree, flags, attacks...).refused(t, attacks...)
	}
	for _, flags := range [][]string{{"--rw", a.Home}, {"--cow", a.Home}, {"--rw", a.Home + "/.local"}, {"--with", a.Home + "/.local/state"}, {"--rw", own}, {"--rw", own + "/upper"}, {"--with", foreign + "/upper:/x"}, {"--rw", foreign + "/home"}, {"--source", own + "/upper"}, {"--state", tree + "/state"}} {
		if r := a.sbx(t, tree, append(flags, "--", "true")...); r.Status == 0 {
			t.Errorf("%q gives the build a state directory: %v", flags, r)
		}
	}
	// Shown read-only it is that, the own layer included, which sbx has writable where
	// it is while it assembles the root.
	attacks = []string{"create " + own + "/evil x", "write " + own + "/layer x", "write " + own + "/lock x", "create " + own + "/upper/evil x", "create " + filepath.Join(own, "work", "evil") + " x", "write " + foreign + "/upper/file x", "rename " + own + "/lock " + own + "/l"}
	for _, source := range []string{filepath.Dir(a.Home), a.Home, a.Home + "/.local/state", own, own + "/upper"} {
		shown := attacks
		if source == own+"/upper" {
			shown = attacks[3:4]
		}
		for _, flag := range []string{source, source + ":/shown"} {
			list := slices.Clone(shown)
			if flag != source {
				for i := range list {
					list[i] = strings.ReplaceAll(list[i], source+"/", "/shown/")
				}
			}
			a.inside(t, tree, []string{"--ro", flag}, list...).refused(t, list...)
		}
	}
	if there(own+"/evil") || there(own+"/upper/evil") {
		t.Error("the build has written to the state directory")
	}
	// A symlink to it is no way around.
	a.mkTree(t, tree, map[string]string{"s": "-> " + a.Home + "/.local"})
	if r := a.sbx(t, tree, "--rw", "s:/opt/s", "--", "true"); r.Status == 0 {
		t.Errorf("a symlink to the state directory is shown writable: %v", r)
	}
}

// Attributes by which overlayfs could be led astray at the next mount, set from
// inside, and written into the layer by hand.
func TestEscapeLayerOverlayAttributes(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"dir/f": "host", "secret/key": "canary", "plain": "host"})
	a.arm(t, tree)
	var attacks []string
	for _, n := range []string{"opaque y", "redirect /secret", "metacopy x", "origin x", "impure y", "whiteout y", "nlink U+1", "overlay.opaque y"} {
		attacks = append(attacks, "setxattr dir user.overlay."+n, "setxattr plain user.overlay."+n)
	}
	a.inside(t, tree, nil, attacks...)
	r := a.sbx(t, tree, "--hide", "secret", "--", "sh", "-c", "cat dir/f plain; ls -A dir secret; cat dir/key")
	if !strings.HasPrefix(r.Stdout, "hosthost") || strings.Contains(r.Stdout, "canary") || strings.Contains(r.Stdout, "key") {
		t.Errorf("attributes set inside have an effect: %v", r)
	}
	// By hand, as an import or a kernel bug could: redirects and metadata-only
	// copies that lead to what a rule hides are not followed.
	upper := filepath.Join(layerDir(t, a, tree), "upper")
	a.mkTree(t, upper, map[string]string{"evil/": "", "evilfile": ""})
	for _, x := range [][3]string{{"evil", "user.overlay.redirect", "/secret"}, {"evilfile", "user.overlay.redirect", "/secret/key"}, {"evilfile", "user.overlay.metacopy", ""}, {"dir", "user.overlay.redirect", "/../../../../etc"}} {
		if err := unix.Setxattr(filepath.Join(upper, x[0]), x[1], []byte(x[2]), 0); err != nil {
			t.Skipf("no user attributes on this file system: %v", err)
		}
	}
	r = a.sbx(t, tree, "--hide", "secret", "--", "sh", "-c", "cat evil/key evilfile; ls -A evil dir; cat dir/passwd")
	if strings.Contains(r.Stdout, "canary") || strings.Contains(r.Stdout, "key") || strings.Contains(r.Stdout, "root:") {
		t.Errorf("a redirect of the upper is followed: %v", r)
	}
}

// `sbx path` names a file of the layer, never one of the host that the build's
// symlinks lead to: it is made for `mv "$(sbx path f)" .`.
func TestEscapeLayerPath(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	a.mkTree(t, a.Home, map[string]string{"private/id": "canary"})
	tree := a.tree(t, map[string]string{"out/id": "host"})
	a.sbx(t, tree, "--", "sh", "-c", `rm -rf out; ln -s "$1" out; mkdir deep; ln -s "$1" deep/out; ln -s ../../../../../../../../../../.."$1" rel; echo made >made`, "sh", a.Home+"/private")
	if r := a.sbx(t, tree, "path", "made"); r.Status != 0 {
		t.Fatalf("the control fails: %v", r)
	}
	for _, file := range []string{"out/id", "deep/out/id", "rel/id", "deep/../out/id", "out/../out/id", "../" + filepath.Base(tree) + "/out/id"} {
		r := a.sbx(t, tree, "path", file)
		data, err := os.ReadFile(strings.TrimSpace(r.Stdout))
		if r.Status == 0 && err == nil && strings.Contains(string(data), "canary") {
			t.Errorf("sbx path %s leads out of the layer: %v", file, r)
		}
	}
}
