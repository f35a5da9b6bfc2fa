package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	attacks := []string{"mkdir deep", "deep deep 60", "mkdir " + a.Home + "/deep", "deep " + a.Home + "/deep 60"}
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
		o := parse(t, a.sbx(t, tree, append(flags, append([]string{"--", "sh", "-c", script + `; chmod 755 . ~; ./victim "$3" "$4" "$5" "$6"; chmod 000 . ~`, "sh", victim, tree}, attacks...)...)...), attacks)
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
		if r := a.sbx(t, tree, args...); r.Status == 0 || !strings.Contains(r.Stderr, "another run has it") {
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

// The same with a source: what is shown is what the name led to when sbx looked,
// or nothing; never, read-write, what the symlink was swapped to afterwards.
func TestEscapeRaceSource(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	victim := a.dir(t)
	a.mkTree(t, victim, map[string]string{"f": "precious"})
	shared := a.dir(t)
	// The symlink is dangling where sbx resolves it on the host, and leads to
	// the victim only below the place where the host's root is at set-up.
	a.mkTree(t, shared, map[string]string{"x/f": "1", "y": "-> ../../" + filepath.Base(filepath.Dir(victim)) + "/" + filepath.Base(victim)})
	same := unchanged(t, victim)
	cmd := a.command(tree, nil, sbxPath, "--rw", shared, "--", "./victim", "swap "+shared+"/x "+shared+"/y")
	background(t, cmd)
	escaped := 0
	for range 25 {
		// plan prints the real path; a run of a plan that names the shared
		// directory must not show the victim.
		r := a.sbx(t, tree, "--rm", "--ro", shared+"/x:/opt/x", "--", "sh", "-c", "cat /opt/x/f; grep -c /tree/x /proc/self/mountinfo")
		if strings.Contains(r.Stdout, "precious\n1") {
			escaped++
		}
	}
	if escaped > 0 {
		t.Errorf("%d of 25 runs show what a symlink was swapped to after sbx had looked", escaped)
	}
	same()
}
