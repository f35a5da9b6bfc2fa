package tests

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A reset that is killed at any moment leaves each directory of the layer whole or
// wiped, and the host's as it is; the next run works, the next reset does the rest, and
// sbx gc deletes what lies in the trash.
func TestResetKilled(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree, more := a.tree(t, map[string]string{"f": "host\n"}), a.tree(t, nil)
	fill := `mkdir -p d; for i in $(seq 50); do echo layer >d/$i; done; echo layer >f; echo layer >$MORE/g; mkdir -p closed/in; chmod 0 closed`
	const rounds = 24
	before, partly := 0, 0
	var span time.Duration
	for i := range rounds {
		if r := a.sbx(t, tree, "--with", more, "--env", "MORE="+more, "--", "sh", "-c", fill); r.Status != 0 {
			t.Fatal(r)
		}
		cmd := a.command(tree, nil, sbxPath, "reset")
		start := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i > 0 { // the first says how long it takes
			time.Sleep(span * time.Duration(i) / rounds)
			cmd.Process.Kill()
		}
		cmd.Wait()
		if i == 0 {
			span = time.Since(start)
		}
		r := a.sbx(t, tree, "--with", more, "--", "sh", "-c", "cat f; ls d | wc -l; ls -d closed; cat "+more+"/g")
		switch words := strings.Join(strings.Fields(r.Stdout), " "); words {
		case "layer 50 closed layer":
			before++
		case "host 0 layer":
			partly++
		case "host 0":
		default:
			t.Errorf("round %d: %q, %s", i, words, r.Stderr)
		}
		if r := a.sbx(t, tree, "reset"); r.Status != 0 {
			t.Fatal(r)
		}
		if r := a.sbx(t, tree, "status"); !strings.HasPrefix(r.Stdout, "nothing is changed") {
			t.Errorf("round %d: %v", i, r)
		}
		if r := finish(t, a.command(tree, nil, "cat", "f")); r.Stdout != "host\n" {
			t.Errorf("round %d: the host's file is %q", i, r.Stdout)
		}
	}
	t.Logf("%d of %d were killed before anything was wiped, %d in the middle", before, rounds, partly)
	if r := a.sbx(t, tree, "gc"); r.Status != 0 {
		t.Error(r)
	}
	soon(t, "an empty trash", func() bool {
		left, _ := filepath.Glob(a.Home + "/.local/state/sbx/trash/[^.]*")
		return len(left) == 0
	})
}
