package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mirrored is a run in which something watches all of src, so that sbx repeats there what
// the host does.
func (a account) mirrored(t *testing.T, tree string) *guest {
	t.Helper()
	needTool(t, "inotifywait")
	g := a.guest(t, tree)
	a.watched(t, tree)
	g.do(`inotifywait -m -r src >/tmp/log 2>&1 & while ! grep -q established /tmp/log; do sleep 0.05; done`)
	return g
}

// TestEscapeMirrorSymlinks: a build that puts symlinks, fifos and other directories where
// sbx is about to repeat an edit does not lead it out of the overlay, nor hold it up.
func TestEscapeMirrorSymlinks(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/d/f": "0\n", "src/e": "0\n", "src/last": "0\n", "src/linked": "0\n"})
	outside := a.dir(t)
	a.mkTree(t, outside, map[string]string{"f": "outside\n", "e": "outside\n", "d/f": "outside\n"})
	before := digest(t, outside)
	g := a.mirrored(t, tree)
	a.mkTree(t, tree, map[string]string{"attack": `while [ ! -e /tmp/stop ]; do
	mv src/d /tmp/d; rm -rf src/d /tmp/d; ln -s ` + outside + ` src/d; rm -f src/e; ln -s ` + outside + `/e src/e; rm -f src/d src/e
	mkdir src/d; mkfifo src/d/f src/e; rm -rf src/d src/e; ln -s ` + outside + `/d src/d; rm -f src/d; mkdir src/d; ln src/linked src/e; rm -f src/e
done`})
	g.do(`sh attack >/dev/null 2>&1 &`)
	deadline := time.Now().Add(4 * time.Second)
	if testing.Short() {
		deadline = time.Now().Add(time.Second)
	}
	for n := 1; time.Now().Before(deadline); n++ {
		a.edit(t, tree, fmt.Sprintf(`echo %d >t; mv t src/d/f; echo %d >t; mv t src/e; echo %d >src/d/f; rm src/e; echo %d >src/e`, n, n, n, n))
	}
	g.do(`touch /tmp/stop; sleep 0.2`)
	a.edit(t, tree, `echo last >t; mv t src/last`)
	g.until("another edit", `cat src/last`, "last\n")
	g.ends()
	if after := digest(t, outside); after != before {
		t.Errorf("something outside has changed:\n%s\nwas\n%s", after, before)
	}
	if got, err := os.ReadFile(filepath.Join(tree, "src/d/f")); err != nil || len(got) == 0 || strings.Contains(string(got), "outside") {
		t.Errorf("the host's file: %q, %v", got, err)
	}
}

// TestEscapeMirrorMode: what the host does to a directory's mode is not undone by pull,
// and a directory that the build makes in the place of one that was mirrored is its own.
func TestEscapeMirrorMode(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/d/f": "0\n", "src/out/f": "0\n"})
	g := a.mirrored(t, tree)
	a.edit(t, tree, `echo 1 >src/d/f; echo 1 >src/out/f`)
	soon(t, "it is mirrored", func() bool { return there(a.upperFile(t, tree, "src/d/f")) && there(a.upperFile(t, tree, "src/out/f")) })
	a.edit(t, tree, `chmod 700 src/d`)
	g.until("the mode", `stat -c %a src/d`, "700\n")
	if r := a.sbx(t, tree, "status", "--porcelain"); r.Stdout != "" {
		t.Errorf("live: %v", r)
	}
	g.do(`rm -rf src/out; mkdir src/out`)
	a.edit(t, tree, `rm -rf src/out`)
	time.Sleep(300 * time.Millisecond)
	if got := g.do(`echo built >src/out/p; cat src/out/p`); got != "built\n" {
		t.Errorf("the build's directory: %q", got)
	}
	g.ends()
	if r := a.sbx(t, tree, "status", "--porcelain", "--all"); strings.Contains(r.Stdout, "src/d") || !strings.Contains(r.Stdout, "src/out/p") {
		t.Errorf("at rest: %v", r)
	}
	if r := a.sbx(t, tree, "pull", "--all"); r.Status != 0 {
		t.Errorf("pull: %v", r)
	}
	if st, err := os.Stat(filepath.Join(tree, "src/d")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the host's directory is %v after pull, %v", st.Mode(), err)
	}
}

// TestEscapeMirrorLarge: a file that grows beyond all bounds, on the host, neither is
// copied nor holds up the end of a run.
func TestEscapeMirrorLarge(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/f": "0\n", "src/g": "0\n"})
	a.edit(t, tree, `truncate -s 3G src/big`)
	g := a.mirrored(t, tree)
	g.do(`cat src/f; ls -l src/big`)
	a.edit(t, tree, `echo 1 >src/f`)
	soon(t, "it is mirrored", func() bool { return there(a.upperFile(t, tree, "src/f")) })
	a.edit(t, tree, `truncate -s 200G src/f; rm src/big; echo 1 >t; mv t src/g`)
	g.until("another edit", `cat src/g`, "1\n")
	began := time.Now()
	g.ends()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %v", took)
	}
	list, err := filepath.Glob(a.upperFile(t, tree, "*/.sbx-mirror-*"))
	if err != nil || len(list) > 0 || there(a.upperFile(t, tree, "src/big")) {
		t.Errorf("left in the layer: %q, %v", list, err)
	}
}

// TestEscapeMirrorWritten: what a build writes at the moment of an event, while the host
// writes on, is not taken for the host's and deleted.
func TestEscapeMirrorWritten(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	const files = 6
	list := map[string]string{}
	for i := range files {
		list[fmt.Sprintf("src/f%d", i)] = strings.Repeat("host line\n", 200000)
	}
	tree := a.tree(t, list)
	g := a.mirrored(t, tree)
	g.do(fmt.Sprintf(`for i in $(seq 0 %d); do (inotifywait -q -e modify src/f$i; echo BUILT >>src/f$i && echo f$i >>/tmp/written) >/dev/null 2>&1 & done; sleep 0.5`, files-1))
	for range 40 {
		a.edit(t, tree, `for f in src/f*; do echo more >>$f; done; sleep 0.02`)
	}
	written := strings.Fields(g.do(`sleep 0.5; cat /tmp/written`))
	g.ends()
	if len(written) == 0 {
		t.Error("nothing was written, so that the test shows nothing")
	}
	for _, f := range written {
		if data, err := os.ReadFile(a.upperFile(t, tree, "src/"+f)); err != nil || !strings.Contains(string(data), "BUILT\n") {
			t.Errorf("what the build has written to %s is lost: %d bytes, %v", f, len(data), err)
		}
	}
}

// TestEscapeMirrorParked: a build that puts symlinks, fifos, directories and its own files
// where sbx keeps what mirrors have taken the place of, and in the place of the directory,
// leads neither sbx nor, when that was killed, the next run out of the layer.
func TestEscapeMirrorParked(t *testing.T) {
	needUserNS(t)
	for _, kill := range []bool{false, true} {
		a := newAccount(t)
		tree := a.tree(t, map[string]string{"src/d/f": "0\n", "src/e": "0\n"})
		outside := a.dir(t)
		a.mkTree(t, outside, map[string]string{"f": "outside\n", "d/f": "outside\n"})
		a.mkTree(t, tree, map[string]string{"attack": `n=0
while [ ! -e /tmp/stop ]; do
	for f in .git/.sbx-mirror-*.swp; do
		n=$((n+1)); [ -e "$f" ] || continue
		rm -rf "$f"
		case $((n % 6)) in
		0) ln -s ` + outside + `/f "$f" ;; 1) ln -s ` + outside + ` "$f" ;; 2) mkfifo "$f" ;;
		3) mkdir "$f"; echo evil >"$f/f" ;; 4) echo evil >"$f"; chmod 4777 "$f" ;; 5) ln src/d/f "$f" ;;
		esac; echo hit >>/tmp/hits
		[ $((n % 7)) != 0 ] || { mv .git .g; ln -s ` + outside + ` .git; rm .git; mv .g .git; }
		[ $((n % 5)) != 0 ] || { mv src/d .d; ln -s ` + outside + `/d src/d; rm src/d; mv .d src/d; }
	done
done`})
		same := unchanged(t, outside)
		g := a.mirrored(t, tree)
		g.do(`sh attack >/dev/null 2>&1 &`)
		rounds := 60
		if testing.Short() {
			rounds = 20
		}
		for n := range rounds {
			a.edit(t, tree, fmt.Sprintf(`echo %d >t; mv t src/d/f; echo %d >t; mv t src/e; sleep 0.03`, n+1, n+1))
		}
		if got := g.do(`wc -l </tmp/hits`); strings.TrimSpace(got) == "0" || got == "" {
			t.Errorf("nothing was attacked, so that the test shows nothing: %q", got)
		}
		if kill {
			g.cmd.Process.Kill()
			g.cmd.Wait()
		} else {
			g.do(`touch /tmp/stop; sleep 0.3`)
			g.ends()
		}
		sameTree := unchanged(t, tree)
		if r := a.sbx(t, tree, "--", "true"); r.Status != 0 {
			t.Errorf("the next run: %v", r)
		}
		if r := a.sbx(t, tree, "status", "--all"); r.Status != 0 {
			t.Errorf("status: %v", r)
		}
		if r := a.sbx(t, tree, "drop", "--all"); r.Status != 0 {
			t.Errorf("drop: %v", r)
		}
		if data, err := os.ReadFile(filepath.Join(tree, "src/d/f")); err != nil || string(data) != fmt.Sprintln(rounds) {
			t.Errorf("the host's file: %q, %v", data, err)
		}
		same()
		sameTree()
	}
}
