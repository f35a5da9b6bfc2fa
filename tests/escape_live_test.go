package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEscapeLiveSymlinks: a build that puts symlinks to the host where the host edits
// neither leads sbx out of the overlay nor keeps it from its work.
func TestEscapeLiveSymlinks(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"f": "0\n", "d/e/g": "0\n", "e/x": "0\n"})
	secret := a.dir(t)
	a.mkTree(t, secret, map[string]string{"e/g": "secret\n"})
	g := a.guest(t, tree)
	a.watched(t, tree)
	g.do(`(i=0; while [ ! -e stop ]; do rm -rf d e; ln -s ` + secret + ` d; mkfifo e; rm -rf d e; mkdir -p d/e; ln -s / e; i=$((i+1)); done) >/dev/null 2>&1 &`)
	deadline := time.Now().Add(3 * time.Second)
	if testing.Short() {
		deadline = time.Now().Add(time.Second)
	}
	for time.Now().Before(deadline) {
		a.edit(t, tree, `rm -rf d e; mkdir -p d/e e; echo 1 >d/e/g; echo 1 >e/x; for i in 1 2 3 4 5; do echo $i >t; mv t d/e/g; echo $i >t; mv t e/x; done`)
	}
	a.edit(t, tree, `echo 2 >t; mv t f`)
	g.until("the others", "cat f", "2\n")
	g.do(`touch stop; wait`)
	g.ends()
	if data, err := os.ReadFile(filepath.Join(secret, "e/g")); err != nil || string(data) != "secret\n" {
		t.Errorf("outside: %q, %v", data, err)
	}
	if data, err := os.ReadFile(filepath.Join(tree, "d/e/g")); err != nil || string(data) != "5\n" {
		t.Errorf("the host's: %q, %v", data, err)
	}
}

// TestEscapeLiveNames: names drive no terminal, wherever they are told.
func TestEscapeLiveNames(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	name := "\x1b]0;owned\x07\n\xffx"
	tree := a.tree(t, map[string]string{name: "old\n"})
	g := a.guest(t, tree)
	a.watched(t, tree)
	g.do(`for f in *owned*; do exec 9<"$f"; done`)
	if err := os.WriteFile(filepath.Join(tree, "t"), []byte("new\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(tree, "t"), filepath.Join(tree, name)); err != nil {
		t.Fatal(err)
	}
	soon(t, "it is held", func() bool {
		r := a.sbx(t, tree, "ps", "-v")
		if strings.ContainsAny(r.Stdout, "\x1b\x07") || strings.Contains(r.Stdout, "\xff") {
			t.Fatalf("%q", r.Stdout)
		}
		return strings.Contains(r.Stdout, "held as it was: ") && strings.Contains(r.Stdout, "owned")
	})
	if r := a.sbx(t, tree, "ps", "--json"); strings.ContainsAny(r.Stdout, "\x1b\x07") {
		t.Errorf("%q", r.Stdout)
	}
	g.ends()
}

// TestEscapeLiveWatch: what sbx has for its watch cannot be had from inside, not even
// where the state directory is shown.
func TestEscapeLiveWatch(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"f": "0\n"})
	state := filepath.Join(a.Home, ".local/state/sbx")
	if r := a.sbx(t, tree, "--", "true"); r.Status != 0 {
		t.Fatal(r)
	}
	g := a.guest(t, tree, "--ro", state)
	a.watched(t, tree)
	// The lock can neither be written nor, held by the watching sbx, be taken.
	if got := g.do(`for f in ` + state + `/trees/*/layers/*/watch; do echo >>$f; flock -n $f echo taken; done`); strings.Contains(got, "taken") || !strings.Contains(got, "Read-only file system") {
		t.Errorf("inside: %q", got)
	}
	if got := g.do(`grep -l inotify /proc/*/fdinfo/* 2>/dev/null; ls -l /proc/1/fd 2>&1 | grep -c inotify`); got != "0\n" {
		t.Errorf("inside: %q", got)
	}
	g.ends()
}
