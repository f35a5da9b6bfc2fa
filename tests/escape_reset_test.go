package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// Whatever a build leaves in its layer, `sbx reset` and `--rm` delete it, and
// nothing outside: symlinks to the host, directories without permissions,
// nested beyond PATH_MAX, names that no terminal should see.
func TestEscapeResetHostileLayer(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	victim := a.dir(t)
	a.mkTree(t, victim, map[string]string{"f": "precious", "d/g": "precious"})
	tree := a.tree(t, map[string]string{"f": "1", "d/g": "1"})
	a.arm(t, tree)
	attacks := []string{"mkdir deep", "deep deep 100", "mkdir " + a.Home + "/deep", "deep " + a.Home + "/deep 100"}
	script := `for d in . ~; do cd $d; ln -s "$1" up; ln -s "$1"/d d2; ln -s / root; ln -s "$1"/f file; mkdir -p c/l; ln -s "$1" c/l/x; ln -s ../../../../../../../../../../.."$1" rel
		rm -rf d; ln -s "$1"/d d; mkfifo p; printf x >"$(printf 'a\033]52;c;eA==\007\nb')"; chmod 000 c/l c; done; cd "$2"; chmod 000 . ~`
	check := func(how string) {
		t.Helper()
		state := filepath.Join(a.Home, ".local/state/sbx")
		for range 200 {
			names, _ := os.ReadDir(filepath.Join(state, "trash"))
			layers, _ := filepath.Glob(state + "/trees/*/layers/*")
			if len(names) == 0 && (how == "reset" || len(layers) == 0) {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%s leaves something behind in %s", how, state)
	}
	same, sameTree := unchanged(t, victim), unchanged(t, tree)
	for _, how := range []string{"rm", "all", "reset"} {
		flags := []string{}
		if how == "rm" {
			flags = []string{"--rm"}
		}
		args := append([]string{"--", "sh", "-c", `./victim "$3" "$4" "$5" "$6"; ` + script, "sh", victim, tree}, attacks...)
		o := parse(t, a.sbx(t, tree, append(flags, args...)...), attacks)
		o.did(t, attacks...)
		switch how {
		case "all":
			if r := a.sbx(t, tree, "reset", "--all"); r.Status != 0 {
				t.Errorf("sbx reset --all: %v", r)
			}
		case "reset":
			for _, args := range [][]string{{"reset"}, {"reset", "--home"}} {
				if r := a.sbx(t, tree, args...); r.Status != 0 {
					t.Errorf("sbx %q: %v", args, r)
				}
			}
		}
		check(how)
		same()
		sameTree()
		if r := a.sbx(t, tree, "--layer", "after", "--", "cat", "f", "d/g"); r.Stdout != "11" {
			t.Errorf("after %s the tree is not as it was: %v", how, r)
		}
		a.sbx(t, tree, "reset", "--all", "--layer", "after")
	}
}

// While a run lives its layer is not wiped, and no second mount of it is made.
func TestEscapeResetLiveLayer(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	cmd := a.command(tree, nil, sbxPath, "--", "sh", "-c", "echo made >made; ./victim hold")
	background(t, cmd)
	for _, args := range [][]string{{"reset"}, {"reset", "--all"}, {"reset", "--home"}} {
		if r := a.sbx(t, tree, args...); r.Status == 0 || !strings.Contains(r.Stderr, "these runs have it") {
			t.Errorf("sbx %q while a run lives: %v", args, r)
		}
	}
	if data, err := os.ReadFile(filepath.Join(layerDir(t, a, tree), "upper", "made")); err != nil || string(data) != "made\n" {
		t.Errorf("the layer is gone while a run lives: %v", err)
	}
	// Killing the holder frees the layer, and only when its mount has ended.
	cmd.Process.Kill()
	if r := a.sbx(t, tree, "--", "cat", "made"); r.Stdout != "made\n" {
		t.Errorf("the run after a kill: %v", r)
	}
}

// While one sandbox swaps a name for a symlink, as fast as it can, in a
// directory that both may write, others start with rules below that name:
// nothing may be made, moved or written where the symlink leads.
func TestEscapeRaceSharedDirectory(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"real/f": "1"})
	a.arm(t, tree)
	victim := a.dir(t)
	a.mkTree(t, victim, map[string]string{"sub/f": "precious", "f": "precious"})
	shared := a.dir(t)
	a.mkTree(t, shared, map[string]string{"x/sub/f": "1", "x/f": "1", "y": "-> ../../" + filepath.Base(filepath.Dir(victim)) + "/" + filepath.Base(victim), "z": "-> " + victim})
	same := unchanged(t, victim)
	cmd := a.command(tree, nil, sbxPath, "--rw", shared, "--", "./victim", "swap "+shared+"/x "+shared+"/y")
	background(t, cmd)
	ran := 0
	for i := range 25 {
		flags := [][]string{
			{"--hide", shared + "/x/sub/f"}, {"--hide", shared + "/x/sub/new"}, {"--ro", tree + "/real:" + shared + "/x/sub"}, {"--ro", tree + "/real/f:" + shared + "/x/sub/new/f"}, {"--cow", tree + "/real:" + shared + "/x/made"},
		}[i%5]
		r := a.sbx(t, tree, append(append([]string{"--rm", "--rw", shared}, flags...), "--", "echo", "ran")...)
		if r.Stdout == "ran\n" {
			ran++
		}
	}
	same()
	t.Logf("%d of 25 runs came to their command", ran)
}

// The same with a source: a symlink that is swapped in after sbx has looked must
// not be followed. It leads nowhere on the host, and to the victim only while
// the host's root lies below that of the sandbox, so that showing the victim is
// always a lost race.
func TestEscapeRaceSource(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	victim := a.dir(t)
	a.mkTree(t, victim, map[string]string{"f": "precious"})
	shared := a.dir(t)
	up := strings.Repeat("../", strings.Count(shared, "/")+1)
	a.mkTree(t, shared, map[string]string{"x/f": "1", "y": "-> " + up + strings.TrimPrefix(plan.Host, "/") + victim})
	same := unchanged(t, victim)
	cmd := a.command(tree, nil, sbxPath, "--rw", shared, "--", "./victim", "swap "+shared+"/x "+shared+"/y")
	background(t, cmd)
	for i := range 60 {
		flags := [][]string{{"--rw", shared + "/x:/srcx"}, {"--ro", shared + "/x:/srcx"}, {"--cow", shared + "/x:/srcx"}, {"--with", shared + "/x:/srcx"}}[i%4]
		r := a.sbx(t, tree, append(append([]string{"--rm"}, flags...), "--", "sh", "-c", "cat /srcx/f; echo w >/srcx/g")...)
		if strings.Contains(r.Stdout, "precious") {
			t.Errorf("%q: the run shows what a symlink was swapped to after sbx had looked", flags)
			break
		}
	}
	same()
}
