// Package tests runs the real sbx: scripts of what it must do, and attacks on
// every boundary it promises (escape_*_test.go). README.md tells how.
package tests

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// sbxPath, victimPath and callerPath are the program under test, the attacker, and an
// honest program, built once in a directory that every user can reach.
var sbxPath, victimPath, callerPath string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp(tempBase(), "sbx-bin-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		sbxPath, victimPath, callerPath = filepath.Join(dir, "sbx"), filepath.Join(dir, "victim"), filepath.Join(dir, "caller")
		err = errors.Join(goBuild(sbxPath, "../cmd/sbx"), goBuild(victimPath, "./victim"), goBuild(callerPath, "./caller"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot build what is to be tested:", err)
		return 1
	}
	return m.Run()
}

// goBuild builds a static program. SBX_BINARY names an sbx that exists already.
func goBuild(out, pkg string) error {
	if ready := os.Getenv("SBX_BINARY"); ready != "" && pkg == "../cmd/sbx" {
		data, err := os.ReadFile(ready)
		if err != nil {
			return err
		}
		return os.WriteFile(out, data, 0o755)
	}
	args := []string{"build", "-tags", "urfave_cli_no_docs", "-o", out, pkg}
	if pkg == "../cmd/sbx" {
		args = slices.Insert(args, 1, "-ldflags=-E=sbx_start")
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return os.Chmod(out, 0o755)
}

// tempBase holds homes and trees. /var/tmp comes first: /tmp may be a tmpfs
// that is too small for a layer.
func tempBase() string {
	for _, d := range []string{"/var/tmp", "/tmp"} {
		if st, err := os.Stat(d); err == nil && st.IsDir() && st.Mode()&os.ModeSticky != 0 {
			return d
		}
	}
	return os.TempDir()
}

// account is an unprivileged user with a home of its own. sbx is a program for
// ordinary users, so that tests run by root start it as one.
type account struct {
	UID, GID int
	Home     string
}

// accounts counts the ids given out: each account has one of its own, as limits
// and keyrings go by uid.
var accounts atomic.Int32

// newAccount makes an account with an empty HOME. Called by an ordinary user it
// has that user's ids.
func newAccount(t testing.TB) account {
	t.Helper()
	a := account{UID: os.Getuid(), GID: os.Getgid()}
	if a.UID == 0 {
		for {
			a.UID = 54320 + int(accounts.Add(1))
			if _, err := user.LookupId(strconv.Itoa(a.UID)); err != nil {
				break
			}
		}
		a.GID = a.UID
	}
	top := tempDir(t)
	a.Home = filepath.Join(top, "home")
	a.mkTree(t, a.Home, nil)
	return a
}

// tempDir is a directory that every user can pass through, and that is deleted
// whatever a build has left in it.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(tempBase(), "sbx-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(dir) })
	return dir
}

// removeAll deletes what may have lost its permissions, and what a background
// `sbx trash` may be deleting at the same time.
func removeAll(dir string) {
	for range 5 {
		if os.RemoveAll(dir) == nil {
			return
		}
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				os.Chmod(path, 0o700)
			}
			return nil
		})
		time.Sleep(10 * time.Millisecond)
	}
	// A layer of --root has files of subordinate ids, which an ordinary user can
	// delete in a map that has them.
	exec.Command("unshare", "--user", "--map-auto", "--map-root-user", "rm", "-rf", dir).Run()
	os.RemoveAll(dir)
}

// dir is a fresh directory of the account, outside its HOME.
func (a account) dir(t testing.TB) string {
	t.Helper()
	d := filepath.Join(tempDir(t), "tree")
	a.mkTree(t, d, nil)
	return d
}

// tree is a fresh source tree: a directory with files and a .git directory.
func (a account) tree(t testing.TB, files map[string]string) string {
	t.Helper()
	d := a.dir(t)
	a.mkTree(t, d, map[string]string{".git/HEAD": "ref: refs/heads/main\n", ".git/config": "", ".git/objects/": "", ".git/refs/": ""})
	a.mkTree(t, d, files)
	return d
}

// mkTree fills a directory, and gives all of it to the account. A name that
// ends in a slash is a directory, a text that starts with "-> " a symlink.
func (a account) mkTree(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(dir, 0o755))
	for name, text := range files {
		path := filepath.Join(dir, name)
		check(os.MkdirAll(filepath.Dir(path), 0o755))
		link, isLink := strings.CutPrefix(text, "-> ")
		switch {
		case strings.HasSuffix(name, "/"):
			check(os.MkdirAll(path, 0o755))
		case isLink:
			check(os.Symlink(link, path))
		case strings.HasPrefix(text, "#!"):
			check(os.WriteFile(path, []byte(text), 0o755))
		default:
			check(os.WriteFile(path, []byte(text), 0o644))
		}
	}
	if os.Getuid() == 0 {
		check(filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, a.UID, a.GID)
		}))
	}
}

// command prepares a program that runs as the account, with a short
// environment; env comes last and wins.
func (a account) command(dir string, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{
		"HOME=" + a.Home, "PATH=" + filepath.Dir(sbxPath) + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
		"USER=tester", "LOGNAME=tester", "LANG=C.UTF-8", "TERM=dumb", "PWD=" + dir,
	}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)}
	}
	return cmd
}

// result is what a program printed and how it ended: its exit status, or 128+n
// for signal n.
type result struct {
	Stdout, Stderr string
	Status         int
}

func (r result) String() string {
	return fmt.Sprintf("status %d\n--- stdout\n%s--- stderr\n%s---", r.Status, r.Stdout, r.Stderr)
}

// sbx runs sbx in a directory, with nothing on stdin.
func (a account) sbx(t testing.TB, dir string, args ...string) result {
	t.Helper()
	return finish(t, a.command(dir, nil, sbxPath, args...))
}

// limit ends a program that hangs; nothing here takes a tenth of it.
const limit = time.Minute

// finish runs a prepared program to its end.
func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs lockedBuffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &errs
	}
	// A survivor that holds the pipe open must not hang the test.
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot start %s: %v", cmd.Path, err)
	}
	timer := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() {
		t.Errorf("%q did not end within %v", cmd.Args, limit)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		t.Errorf("%q has ended, but something holds its output open", cmd.Args)
	}
	r := result{Stdout: out.String(), Stderr: errs.String(), Status: cmd.ProcessState.ExitCode()}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		r.Status = 128 + int(ws.Signal())
	}
	return r
}

// lockedBuffer may be read while a survivor still writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
