package tests

import (
	"fmt"
	"strings"
	"testing"
)

// TestMirrorMany: what takes the mirror longer than it may take at once follows.
func TestMirrorMany(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	a := newAccount(t)
	files := map[string]string{"other": "one\n"}
	for i := range 1500 {
		files[fmt.Sprintf("d/f%d", i)] = "one\n"
	}
	tree := a.tree(t, files)
	g := a.guest(t, tree)
	a.watched(t, tree)
	g.do(`inotifywait -q -m -o /tmp/log d & sleep 0.2`)
	for i := 0; i < 1500; i += 300 {
		a.edit(t, tree, fmt.Sprintf(`for i in $(seq %d %d); do echo two >d/f$i; done; sleep 0.4`, i, i+299))
	}
	a.edit(t, tree, `rm d/f*; echo two >t; mv t other`)
	g.until("the deletions", `cat other; ls d | wc -l`, "two\n0\n")
	g.until("the events", `[ $(grep -c DELETE /tmp/log) -gt 500 ] && echo seen`, "seen\n")
	a.edit(t, tree, `for i in $(seq 1500); do echo three >d/g$i; done`)
	g.until("new files", `cat d/g* | grep -c three`, "1500\n")
	g.ends()
	a.nothingLeft(t, tree)
}

// TestMirrorClosed: a directory with mirrors that the host closes, to its owner too, and
// opens again, also after the run.
func TestMirrorClosed(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	for _, mode := range []string{"0", "100", "300", "500"} {
		a := newAccount(t)
		tree := a.tree(t, map[string]string{"d/f": "one\n", "d/e/g": "one\n", "other": "one\n"})
		g := a.guest(t, tree)
		a.watched(t, tree)
		g.do(`inotifywait -q -m -o /tmp/log d d/e & sleep 0.2`)
		a.edit(t, tree, `echo two >d/f; echo two >d/e/g; sleep 0.3; echo two >t; mv t other`)
		g.until("the edits", `cat d/f d/e/g other`, "two\ntwo\ntwo\n")
		a.edit(t, tree, `chmod `+mode+` d; sleep 0.3; echo three >t; mv t other`)
		g.until("closed", `cat other; stat -c %a d`, "three\n"+mode+"\n")
		a.edit(t, tree, `chmod 755 d; echo four >t; mv t other`)
		g.until("opened again", `cat other d/f d/e/g`, "four\ntwo\ntwo\n")
		a.edit(t, tree, `chmod `+mode+` d; sleep 0.3; echo five >t; mv t other`)
		g.until("closed again", `cat other; stat -c %a d`, "five\n"+mode+"\n")
		g.ends()
		a.edit(t, tree, `chmod 755 d; echo three >d/f`)
		if r := a.sbx(t, tree, "--", "cat", "d/f", "d/e/g"); r.Stdout != "three\ntwo\n" {
			t.Errorf("mode %s, the next run: %v", mode, r)
		}
		a.nothingLeft(t, tree)
	}
}

// TestMirrorUnfit: of what the host makes something of that is not mirrored, the mirror
// does not stand in the way.
func TestMirrorUnfit(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	a := newAccount(t)
	files := map[string]string{"other": "one\n"}
	for _, name := range []string{"dir", "fifo", "closed", "large", "suid"} {
		files["d/"+name] = "one\n"
	}
	tree := a.tree(t, files)
	g := a.guest(t, tree)
	a.watched(t, tree)
	g.do(`inotifywait -q -m -o /tmp/log d & sleep 0.2`)
	a.edit(t, tree, `for n in dir fifo closed large suid; do echo two >d/$n; done`)
	g.until("the edits", `cat d/*`, strings.Repeat("two\n", 5))
	a.edit(t, tree, `cd d; rm dir fifo; mkdir dir; echo in >dir/f; mkfifo fifo; chmod 0 closed; head -c 40M /dev/zero >large; chmod 4755 suid`)
	g.until("what they are now", `cd d; stat -c "%n %F %a" closed dir fifo suid; stat -c %s large; cat dir/f; cat closed 2>/dev/null; cd ..`,
		"closed regular file 0\ndir directory 755\nfifo fifo 644\nsuid regular file 4755\n41943040\nin\n")
	a.edit(t, tree, `cd d; rm -r dir fifo; chmod 644 closed; for n in dir fifo closed large; do echo three >$n; done; chmod 755 suid; echo three >suid`)
	// To open a fifo waits, and who waits holds it.
	g.until("no fifo", `stat -c %F d/fifo`, "regular file\n")
	g.until("files again", `timeout 1 cat d/*`, strings.Repeat("three\n", 5))
	g.ends()
	a.nothingLeft(t, tree)
}
