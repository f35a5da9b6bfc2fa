package tests

import (
	"path/filepath"
	"strings"
	"testing"
)

// Caches and toolchains of $HOME come from one overlay of all of it. A place
// inside another, named by the environment, may have been replaced by an earlier
// run with a symlink, which leads to the secrets beside the caches if anything
// follows it.
func TestEscapeLayerNestedCache(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	a.mkTree(t, a.Home, map[string]string{
		".ssh/id": "canary-key", ".ssh/bin/id": "canary-key", ".npm/x/f": "1", ".npm/x/bin/tool": "1", ".npm/z/f": "1", ".cache/pip/g/f": "1", ".cache/pip/gone/f": "1", ".cargo/bin/tool": "1", "go/pkg/mod/m": "1",
	})
	tree := a.tree(t, nil)
	same := unchanged(t, filepath.Join(a.Home, ".ssh"))
	r := a.sbx(t, tree, "--", "sh", "-c", `cd ~/.npm && rm -rf x z && ln -s ../.ssh x && ln -s ~/.ssh z &&
		cd ~/.cache/pip && rm -rf g gone && ln -s ../../.ssh g && cd ~/go/pkg && rm -rf mod && ln -s ../../.ssh mod`)
	if r.Status != 0 {
		t.Fatalf("cannot prepare the caches: %v", r)
	}
	h := a.Home
	for _, env := range []string{
		"npm_config_cache=" + h + "/.npm/x", "npm_config_cache=" + h + "/.npm/z", "GOCACHE=" + h + "/.cache/pip/g", "GOMODCACHE=" + h + "/go/pkg/mod", "NVM_DIR=" + h + "/.npm/x", "GOROOT=" + h + "/.cache/pip/g",
		"PIP_CACHE_DIR=" + h + "/.cache/pip/gone", "PATH=" + h + "/.npm/x/bin:/usr/bin:/bin", "PATH=" + h + "/.npm/x:" + h + "/go/pkg/mod:/usr/bin:/bin",
	} {
		r := finish(t, a.command(tree, []string{env}, sbxPath, "--", "sh", "-c", `echo ran; cd; cat .npm/x/id .npm/z/id .cache/pip/g/id go/pkg/mod/id .npm/x/bin/id .ssh/id; for d in .npm/x .npm/z .cache/pip/g go/pkg/mod; do echo evil >$d/evil; done; true`))
		if strings.Contains(r.Stdout, "canary") {
			t.Errorf("%s: an earlier run's symlink in a cache shows the secret: %v", env, r)
		}
		if !strings.HasPrefix(r.Stdout, "ran") {
			t.Errorf("%s: an earlier run makes sbx unusable: %v", env, r)
		}
	}
	same()
}

// From inside a cache nothing above it or beside it can be reached: not by .. of
// a directory that is moved while it is the working directory, not by a link or
// a rename from one cache to another.
func TestEscapeLayerCacheParent(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	a.mkTree(t, a.Home, map[string]string{".ssh/id": "canary-key", ".npm/a/b/c/f": "1", ".cache/pip/d/f": "1", ".cargo/registry/r": "1", ".local/bin/tool": "1"})
	tree := a.tree(t, nil)
	a.arm(t, tree)
	h := a.Home
	attacks := []string{
		"read " + h + "/.npm/../.ssh/id", "read " + h + "/.cache/pip/../../.ssh/id", "rename " + h + "/.npm/a " + h + "/.cache/pip/a", "link " + h + "/.cargo/registry/r " + h + "/.npm/r", "link " + h + "/.local/bin/tool " + h + "/.npm/t",
		"write " + h + "/.local/bin/tool x", "remove " + h + "/.npm", "rename " + h + "/.npm " + h + "/.npm2", "list /proc/caches", "list /.host", "list /.host/dev",
	}
	a.outside(t, tree, attacks[0]).did(t, attacks[0])
	a.inside(t, tree, nil, attacks...).refused(t, attacks...)
	r := a.sbx(t, tree, "--layer", "moved", "--", "sh", "-c", `cd ~/.npm/a/b/c && mv ~/.npm/a/b ~/.npm/b; cat ../../../.ssh/id ../../.ssh/id ../../../../.ssh/id; mv ~/.npm/b ~/src; rm -rf ~/.npm/a; cat ../../../.ssh/id ../../.ssh/id; ls -a ..`)
	if strings.Contains(r.Stdout, "canary") || strings.Contains(r.Stdout, ".ssh") {
		t.Errorf("a working directory that was moved leads out: %v", r)
	}
}
