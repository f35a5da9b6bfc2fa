package overlay

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// TestMain lets a test run itself as a process of its own, to kill it.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SBX_TEST_PULL"); dir != "" {
		if err := pullAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// pullAll is a pull of everything in a directory that crashPair made.
func pullAll(dir string) error {
	l := state.Store{Root: dir + "/state"}.Tree("/src/app").Layer("default")
	j, err := l.Journal()
	if err != nil {
		return err
	}
	o, err := Pair{Lower: dir + "/lower", Upper: dir + "/upper"}.Open()
	if err != nil {
		return err
	}
	defer o.Close()
	return o.Pull(Notes{j, state.TreeKey}, PullOptions{Selection: Selection{All: true}})
}

// crashPair is a pair with many changes, of which old and new cannot be
// mistaken for something half done.
func crashPair(t *testing.T, dir string) {
	t.Helper()
	old, new := strings.Repeat("old.", 20_000), strings.Repeat("new.", 30_000)
	for i := range 20 {
		fill(t, dir+"/lower", fmt.Sprintf("m%d=%s\nd%d/x=old\nt%d/x=old\ng%d=old\n", i, old, i, i, i))
		fill(t, dir+"/upper", fmt.Sprintf("m%d=%s\nd%d%%\nt%d=new\ng%d%%\nn/n%d/f=%s\n", i, new, i, i, i, i, new))
	}
	must(t, os.MkdirAll(state.Store{Root: dir + "/state"}.Tree("/src/app").Layer("default").Dir, 0o700))
}

// Killed at any moment, a pull leaves each file old or new; the next one ends
// it, and removes what was left over.
func TestPullKilled(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	var whole time.Duration // what a pull takes that is left alone
	top := t.TempDir()
	killed := 0
	for i := range rounds + 1 {
		dir := filepath.Join(top, fmt.Sprint(i))
		crashPair(t, dir)
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "SBX_TEST_PULL="+dir)
		start := time.Now()
		must(t, cmd.Start())
		if i > 0 {
			time.Sleep(whole * time.Duration(i) / time.Duration(rounds))
			cmd.Process.Kill()
		}
		cmd.Wait()
		if i == 0 {
			whole = time.Since(start)
		}
		if cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			killed++
		}
		checkOldOrNew(t, dir+"/lower")
		if err := pullAll(dir); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(listing(t, dir+"/lower")) {
			if strings.Contains(line, pullMark) || strings.Contains(line, "old") {
				t.Errorf("round %d: the host still has %.60q", i, line)
			}
		}
		checkListing(t, dir+"/upper", "")
		must(t, os.RemoveAll(dir))
	}
	t.Logf("%d of %d were killed before their end; one takes %v", killed, rounds, whole)
}

func checkOldOrNew(t *testing.T, lower string) {
	t.Helper()
	for i := range 20 {
		for _, f := range []string{"m%d", "n/n%d/f"} {
			data, err := os.ReadFile(filepath.Join(lower, fmt.Sprintf(f, i)))
			s := string(data)
			if os.IsNotExist(err) && f[0] == 'n' {
				continue
			}
			if s != strings.Repeat("old.", 20_000) && s != strings.Repeat("new.", 30_000) {
				t.Errorf("%s is neither old nor new: %v, %d bytes", fmt.Sprintf(f, i), err, len(s))
			}
		}
		// Of the directories nothing is gone that is not all gone.
		for _, f := range []string{"d%d", "t%d"} {
			path := filepath.Join(lower, fmt.Sprintf(f, i))
			if st, err := os.Lstat(path); err == nil && st.IsDir() {
				if _, err := os.Lstat(path + "/x"); err != nil {
					t.Errorf("%s is half gone", path)
				}
			} else if f[0] == 't' && err != nil {
				t.Errorf("%s is gone", path)
			}
		}
	}
}

// A build swaps symlinks and fifos for files and directories while a pull runs:
// nothing outside changes, nothing of the outside comes in, and it does not
// hang.
func TestPullRace(t *testing.T) {
	p := newPair(t)
	out := t.TempDir()
	fill(t, out, "secret=secret\nd/f=outside\n")
	fill(t, p.Lower, "d/f=host\ne=host\n")
	fill(t, p.Upper, "d/f=layer\nd/g=layer\ne=layer\nx/y/z=layer\n")
	before := listing(t, out)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			for _, f := range []struct{ name, target string }{{"d", out + "/d"}, {"e", out + "/secret"}, {"x", out}, {"d/f", out + "/secret"}} {
				path, aside := p.Upper+"/"+f.name, filepath.Dir(p.Upper)+"/aside"
				if unix.Rename(path, aside) != nil {
					continue
				}
				if i%3 == 0 {
					unix.Mkfifo(path, 0o644)
				} else {
					unix.Symlink(f.target, path)
				}
				time.Sleep(time.Duration(i%7) * 50 * time.Microsecond)
				unix.Unlink(path)
				unix.Rename(aside, path)
			}
		}
	}()
	end := time.Now().Add(1500 * time.Millisecond)
	for time.Now().Before(end) {
		n := newNotes(t)
		o, err := p.Open()
		must(t, err)
		guard := NewGuard(o)
		o.Pull(n, PullOptions{Selection: Selection{All: true}, Live: true, Guard: guard.Check})
		o.Close()
	}
	close(stop)
	<-done
	if after := listing(t, out); after != before {
		t.Errorf("outside was\n%sand is\n%s", before, after)
	}
	inside := listing(t, p.Lower)
	for _, bad := range []string{"secret", "outside", "->", "|"} {
		if strings.Contains(inside, bad) {
			t.Errorf("%q has come to the host:\n%s", bad, inside)
		}
	}
}

// A user who moves directories about while a pull runs loses nothing, and
// nothing is written through the symlinks that she makes.
func TestPullHostRace(t *testing.T) {
	p := newPair(t)
	out := t.TempDir()
	fill(t, p.Lower, "d/f=host\nd/sub/g=host\n")
	fill(t, p.Upper, "d/f=layer\nd/sub/g=layer\nd/new/h=layer\n")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			aside := filepath.Dir(p.Lower) + "/aside"
			if unix.Rename(p.Lower+"/d", aside) == nil {
				unix.Symlink(out, p.Lower+"/d")
				time.Sleep(time.Duration(i%5) * 100 * time.Microsecond)
				unix.Unlink(p.Lower + "/d")
				unix.Rename(aside, p.Lower+"/d")
			}
			time.Sleep(200 * time.Microsecond)
		}
	}()
	end := time.Now().Add(time.Second)
	for time.Now().Before(end) {
		n := newNotes(t)
		o, err := p.Open()
		must(t, err)
		o.Pull(n, PullOptions{Selection: Selection{All: true, Paths: []string{"d"}}, Live: true, Unsafe: true})
		o.Close()
		fill(t, p.Upper, "d/f=layer\n")
	}
	close(stop)
	<-done
	checkListing(t, out, "")
}

// What the user saves while a pull runs is never lost.
func TestPullLostUpdate(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "f=0\n")
	stop, done := make(chan struct{}), make(chan struct{})
	// The user saves ever higher numbers, as an editor does; each must be
	// there until she replaces it, or the pull must have been asked after it.
	lost := ""
	go func() {
		defer close(done)
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			text := fmt.Sprintf("user %d", i)
			os.WriteFile(p.Lower+"/.save", []byte(text), 0o644)
			unix.Rename(p.Lower+"/.save", p.Lower+"/f")
			time.Sleep(time.Duration(i%9) * 100 * time.Microsecond)
			if data, err := os.ReadFile(p.Lower + "/f"); err != nil || string(data) != text {
				lost = fmt.Sprintf("saved %q, and there is %q, %v", text, data, err)
				return
			}
		}
	}()
	fill(t, p.Upper, "f=layer\n")
	n := newNotes(t)
	must(t, mustOpen(t, p).Note(n)) // what the host had first
	end := time.Now().Add(time.Second)
	for time.Now().Before(end) {
		o, err := p.Open()
		must(t, err)
		o.Pull(n, PullOptions{Selection: named("f"), Live: true})
		o.Close()
	}
	close(stop)
	<-done
	if lost != "" {
		t.Error(lost)
	}
}
