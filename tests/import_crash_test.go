package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An import that is killed at any moment leaves no layer, or all of it; over a
// layer that exists, the old one or the new one. What is left over does not
// show, and sbx gc deletes it.
func TestImportKilled(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	sh := func(line string) result {
		t.Helper()
		return finish(t, a.command(tree, nil, "sh", "-c", line))
	}
	must := func(line string) string {
		t.Helper()
		r := sh(line)
		if r.Status != 0 {
			t.Fatalf("%s: %v", line, r)
		}
		return r.Stdout
	}
	must(`sbx -- sh -c 'for i in $(seq 600); do mkdir -p d$((i % 40)); echo $i >d$((i % 40))/f$i; done; echo new >mark' && sbx export >~/new.zst`)
	must(`sbx reset && sbx -- sh -c 'echo old >mark' && sbx export >~/old.zst`)
	whole := strings.TrimSpace(must(`sbx import --force <~/new.zst; sbx status --all -z | wc -c`))
	start := time.Now()
	must(`sbx import --force <~/new.zst`)
	span := time.Since(start)
	const rounds = 8
	old, partly := 0, 0
	for i := range rounds {
		fresh := i%2 == 0
		if fresh {
			must(`sbx reset --all`)
		} else {
			must(`sbx import --force <~/old.zst`)
		}
		cmd := a.command(tree, nil, "sh", "-c", `exec sbx import --force <~/new.zst`)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(span * time.Duration(i) / rounds)
		cmd.Process.Kill()
		cmd.Wait()
		if left, _ := filepath.Glob(a.Home + "/.local/state/sbx/trees/*/layers/.new-*"); len(left) > 0 {
			partly++
		}
		mark := strings.TrimSpace(sh(`cat "$(sbx path mark)"`).Stdout)
		got := strings.TrimSpace(must(`sbx status --all -z | wc -c`))
		switch {
		case mark == "new" && got == whole:
		case mark == "new" || mark == "" && !fresh:
			t.Errorf("round %d: mark is %q, and of %s bytes of status %s are there", i, mark, whole, got)
		default:
			old++
		}
	}
	t.Logf("%d of %d were killed before the layer was there, %d left something over", old, rounds, partly)
	left, _ := filepath.Glob(a.Home + "/.local/state/sbx/trees/*/layers/.new-*")
	for _, dir := range left {
		hour := time.Now().Add(-2 * time.Hour)
		os.Chtimes(filepath.Join(dir, "lock"), hour, hour)
		os.Chtimes(dir, hour, hour) // without a lock, if it was killed before
	}
	must(`sbx gc`)
	if left, _ := filepath.Glob(a.Home + "/.local/state/sbx/trees/*/layers/.new-*"); len(left) > 0 {
		t.Errorf("sbx gc has left %q", left)
	}
}
