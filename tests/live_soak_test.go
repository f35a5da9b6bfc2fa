package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLiveSoak: while the host edits at random, no read inside is older than what the
// host had a while ago, and what a build writes at the same time to the same files is never
// lost; with nobody who watches inside, and with all of it watched. SBX_SOAK is how long
// each of the two takes (SBX_SOAK=3m go test ./tests -run TestLiveSoak -timeout 10m -v).
func TestLiveSoak(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	long := 20 * time.Second
	if testing.Short() {
		long = 4 * time.Second
	}
	if text := os.Getenv("SBX_SOAK"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SBX_SOAK: %v", err)
		}
	}
	t.Run("seen", func(t *testing.T) { soak(t, long, false) })
	t.Run("watched", func(t *testing.T) { soak(t, long, true) })
}

func soak(t *testing.T, long time.Duration, watched bool) {
	a := newAccount(t)
	const files = 8
	list := map[string]string{"build.log": "", "own/first": ""}
	for i := range files {
		list[fmt.Sprintf("d%d/f%d", i%3, i)] = "0\n"
	}
	tree := a.tree(t, list)
	g := a.guest(t, tree)
	if watched {
		g.do(`inotifywait -m -r d0 d1 d2 own >/tmp/log 2>&1 & while ! grep -q established /tmp/log; do sleep 0.05; done`)
	}
	a.watched(t, tree)
	// What was saved when, of each file: the number is its content.
	saved := make([][]time.Time, files)
	for i := range saved {
		saved[i] = []time.Time{time.Now().Add(-time.Hour)}
	}
	// bound is ten times what is promised: the machine may be busy.
	const bound = 5 * time.Second
	deadline, reads := time.Now().Add(long), 0
	var oldest time.Duration
	own := 0
	for n := 1; time.Now().Before(deadline); n++ {
		if n%10 == 0 {
			// The build takes a file for its own while the host saves it.
			name := fmt.Sprintf("f%d", own)
			done := make(chan bool)
			go func() {
				for i := range 3 {
					save(t, a, filepath.Join(tree, "own"), name, n+i, []int{0, 4}[own%2])
					time.Sleep(time.Duration(own%40) * time.Millisecond)
				}
				close(done)
			}()
			time.Sleep(time.Duration(own*7%90) * time.Millisecond)
			if got := g.do([]string{
				fmt.Sprintf(`echo build %d >own/%s`, own, name),
				fmt.Sprintf(`echo build %d >/tmp/t; cp /tmp/t own/t; mv own/t own/%s`, own, name),
				fmt.Sprintf(`echo build %d >>own/%s`, own, name),
			}[own%3]); got != "" {
				t.Fatalf("the build cannot write own/%s: %s", name, got)
			}
			<-done
			own++
		}
		for k := max(0, own-10); k < own; k++ {
			if got := g.do(fmt.Sprintf(`tail -n1 own/f%d`, k)); !built(got, k) {
				t.Fatalf("what the build wrote to own/f%d is lost: it is %q; in the layer:\n%s", k, got, finish(t, a.command(a.upperFile(t, tree, ""), nil, "sh", "-c", "ls -la own; grep own ../journal")))
			}
		}
		i := (n * 7) % files
		dir, name := filepath.Join(tree, fmt.Sprintf("d%d", i%3)), fmt.Sprintf("f%d", i)
		save(t, a, dir, name, len(saved[i]), n%5)
		saved[i] = append(saved[i], time.Now())
		for j := range files {
			asked := time.Now()
			got := strings.TrimSpace(g.do(fmt.Sprintf(`cat d%d/f%d 2>/dev/null; echo x >>build.log`, j%3, j)))
			reads++
			if got == "" {
				continue // between the deletion and the creation of one that is replaced
			}
			var version int
			if _, err := fmt.Sscan(got, &version); err != nil || version >= len(saved[j]) {
				t.Fatalf("d%d/f%d is %q", j%3, j, got)
			}
			if next := version + 1; next < len(saved[j]) {
				age := asked.Sub(saved[j][next])
				if oldest = max(oldest, age); age > bound {
					t.Fatalf("d%d/f%d is %d, and %d was saved %v ago", j%3, j, version, next, age)
				}
			}
		}
		if n%10 == 0 {
			time.Sleep(50 * time.Millisecond)
		}
	}
	for k := range own {
		if got := g.do(fmt.Sprintf(`tail -n1 own/f%d`, k)); !built(got, k) {
			t.Errorf("what the build wrote to own/f%d is lost: it is %q", k, got)
		}
	}
	for j := range files {
		g.until("in the end", fmt.Sprintf(`cat d%d/f%d`, j%3, j), fmt.Sprintf("%d\n", len(saved[j])-1))
	}
	run := a.watched(t, tree)
	t.Logf("%d reads, the oldest version %v after the next was saved; %d files were the build's; %d refreshes", reads, oldest, own, run.Live[0].Refreshes)
	g.ends()
	if r := a.sbx(t, tree, "status", "--porcelain"); strings.Contains(r.Stdout, " d") || strings.Count(r.Stdout, "own/") != own {
		t.Errorf("status: %v, and %d files are the build's", r, own)
	}
}

// built says whether a line is the build's. Before it may be zeroes: overlayfs has copied
// the host's file up while the host was truncating it.
func built(line string, k int) bool {
	return strings.TrimLeft(line, "\x00") == fmt.Sprintf("build %d\n", k)
}

// save saves a version of a file, in one of the ways of editors.
func save(t *testing.T, a account, dir, name string, version, way int) {
	t.Helper()
	path, text := filepath.Join(dir, name), []byte(fmt.Sprintf("%d\n", version))
	write := func(path string) {
		if os.Getuid() == 0 {
			// It must be the account's at once: a build may open it.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			unix.Setfsgid(a.GID)
			unix.Setfsuid(a.UID)
			defer unix.Setfsgid(0)
			defer unix.Setfsuid(0)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Error(err)
		}
	}
	switch way {
	case 0:
		write(path)
	case 1: // delete and create
		os.Remove(path)
		write(path)
	case 2: // the directory is replaced, with all in it
		write(path + ".new")
		os.Rename(path+".new", path)
		os.Rename(dir, dir+".old")
		os.Rename(dir+".old", dir)
	case 3: // backup by rename
		os.Rename(path, path+"~")
		write(path)
		os.Remove(path + "~")
	default:
		write(path + ".new")
		os.Rename(path+".new", path)
	}
}
