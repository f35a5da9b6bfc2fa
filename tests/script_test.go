package tests

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sbx-build/sbx/idmap"
)

// TestScripts runs testdata/script: what sbx does for its users, as they type
// it. Each script has a directory $WORK with a $HOME, and all of it belongs to
// an account of its own; in place of exec, which would be root where root runs
// the tests, there are
//
//	[!] sbx ARG…           run sbx as the account
//	[!] user COMMAND ARG…  run any command as the account
//	status N COMMAND ARG…  the same, and its status is N (128+n for signal n)
//	snapshot DIR           remember everything about a directory's files
//	unchanged DIR          compare
//	need TOOL…             a missing tool is a skip, and a failure in CI
//	needroot               root alone can set the rest of the script up
//	needsubids             the account has subordinate ids
//	needuserns             the host side needs a user namespace of its own
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("cannot find the scripts: %v", err)
	}
	root := tempDir(t)
	testscript.RunT(scriptT{t}, testscript.Params{
		Files:              files,
		WorkdirRoot:        root,
		RequireUniqueNames: true,
		ContinueOnError:    true,
		Setup:              setupScript,
		// [subids]: the scripts' user has subordinate ids without needsubids. Users that a
		// test invents have none; one that runs the tests may.
		Condition: func(cond string) (bool, error) {
			if cond != "subids" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			if os.Getuid() == 0 {
				return false, nil
			}
			u, err := user.Current()
			if err != nil {
				return false, err
			}
			uids, gids, err := idmap.SubIDs(u.Username, uint32(os.Getuid()))
			return len(uids) > 0 && len(gids) > 0, err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sbx": func(ts *testscript.TestScript, neg bool, args []string) {
				scriptRun(ts, neg, append([]string{sbxPath}, args...))
			},
			"user":       scriptRun,
			"status":     scriptStatus,
			"snapshot":   scriptSnapshot,
			"unchanged":  scriptUnchanged,
			"need":       scriptNeed,
			"needroot":   func(ts *testscript.TestScript, _ bool, _ []string) { needRoot(scriptState(ts).t) },
			"needsubids": func(ts *testscript.TestScript, _ bool, _ []string) { s := scriptState(ts); s.account.needSubIDs(s.t) },
			"needuserns": func(ts *testscript.TestScript, _ bool, _ []string) { needUserNS(scriptState(ts).t) },
		},
	})
}

// scriptT hands testscript's subtests on with their *testing.T in sight.
type scriptT struct{ *testing.T }

func (s scriptT) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(scriptT{t}) })
}

func (s scriptT) Verbose() bool { return testing.Verbose() }

// script is what a script's commands share.
type script struct {
	t         *testing.T
	account   account
	vars      []string // names of environment variables
	snapshots map[string]map[string]string
}

type scriptKey struct{}

func scriptState(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

func setupScript(env *testscript.Env) error {
	t := env.T().(scriptT).T
	s := &script{t: t, account: newAccount(t), snapshots: map[string]map[string]string{}}
	env.Values[scriptKey{}] = s
	s.account.Home = filepath.Join(env.WorkDir, "home")
	// mkTree gives what the archive held to the account.
	s.account.mkTree(t, s.account.Home, nil)
	s.account.mkTree(t, env.WorkDir, nil)
	env.Setenv("HOME", s.account.Home)
	env.Setenv("STATE", filepath.Join(s.account.Home, ".local/state/sbx"))
	env.Setenv("UID", strconv.Itoa(s.account.UID))
	for _, kv := range env.Vars {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		// PATH, HOME and PWD are the account's; UID is the shell's own name.
		case "PATH", "HOME", "UID", "/", ":", "$", "exe", "devnull", "GOTRACEBACK":
		default:
			s.vars = append(s.vars, name)
		}
	}
	env.Setenv("SBX", sbxPath) // for exec
	return nil
}

// prepare makes a command of the account, in the script's directory.
func (s *script) prepare(ts *testscript.TestScript, args []string) *exec.Cmd {
	if len(args) == 0 {
		ts.Fatalf("no command is given")
	}
	var env []string
	for _, name := range s.vars {
		env = append(env, name+"="+ts.Getenv(name))
	}
	cmd := s.account.command(ts.MkAbs("."), env, args[0], args[1:]...)
	if args[0] == "sbx" {
		cmd.Path, cmd.Err = sbxPath, nil
	}
	return cmd
}

// run runs a command with nothing on stdin, and gives its status.
func (s *script) run(ts *testscript.TestScript, args []string) int {
	cmd := s.prepare(ts, args)
	stdout, stderr := &lockedBuffer{}, &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	r := finish(s.t, cmd)
	fmt.Fprint(ts.Stdout(), stdout)
	fmt.Fprint(ts.Stderr(), stderr)
	return r.Status
}

func scriptRun(ts *testscript.TestScript, neg bool, args []string) {
	status := scriptState(ts).run(ts, args)
	switch {
	case neg && status == 0:
		ts.Fatalf("unexpected success")
	case !neg && status != 0:
		ts.Fatalf("status %d", status)
	}
}

func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := scriptState(ts).run(ts, args[1:]); got != want {
		ts.Fatalf("status %d, want %d", got, want)
	}
}

func scriptNeed(ts *testscript.TestScript, _ bool, args []string) {
	needTool(scriptState(ts).t, args...)
}

func scriptSnapshot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: snapshot DIR")
	}
	shot, err := snapshot(ts.MkAbs(args[0]))
	ts.Check(err)
	scriptState(ts).snapshots[args[0]] = shot
}

func scriptUnchanged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unchanged DIR")
	}
	before, ok := scriptState(ts).snapshots[args[0]]
	if !ok {
		ts.Fatalf("there is no snapshot of %s", args[0])
	}
	after, err := snapshot(ts.MkAbs(args[0]))
	ts.Check(err)
	if diff := compareSnapshots(before, after); diff != "" {
		ts.Fatalf("%s has changed:\n%s", args[0], diff)
	}
}

// snapshot describes everything below a directory: type, mode, owner, size,
// time of modification to the nanosecond, number of links, contents, extended
// attributes. Reading must not count as a change: access times are left out.
func snapshot(dir string) (map[string]string, error) {
	shot := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		mtime := time.Unix(st.Mtim.Unix()).UTC().Format(time.RFC3339Nano)
		text := fmt.Sprintf("%v %d:%d links=%d mtime=%s", info.Mode(), st.Uid, st.Gid, st.Nlink, mtime)
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(data)
			text += fmt.Sprintf(" size=%d sha256=%s", len(data), hex.EncodeToString(sum[:]))
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " -> " + link
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			// overlayfs marks its uppers with user.overlay.*; a lower must
			// have none of it.
			buf := make([]byte, 4096)
			n, err := syscall.Listxattr(path, buf)
			if err != nil && !errors.Is(err, syscall.ENOTSUP) {
				return err
			}
			text += fmt.Sprintf(" xattrs=%q", buf[:max(n, 0)])
		}
		rel, err := filepath.Rel(dir, path)
		shot[rel] = text
		return err
	})
	return shot, err
}

// compareSnapshots lists the differences, a line each; "" if there is none.
func compareSnapshots(before, after map[string]string) string {
	var lines []string
	for name, b := range before {
		switch a, ok := after[name]; {
		case !ok:
			lines = append(lines, fmt.Sprintf("- %q %s", name, b))
		case a != b:
			lines = append(lines, fmt.Sprintf("- %q %s\n+ %q %s", name, b, name, a))
		}
	}
	for name, a := range after {
		if _, ok := before[name]; !ok {
			lines = append(lines, fmt.Sprintf("+ %q %s", name, a))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// TestSnapshot proves that "unchanged" can fail: a test that rests on it would
// otherwise pass for the wrong reason.
func TestSnapshot(t *testing.T) {
	file := "f"
	for _, c := range []struct {
		name   string
		change func(path string) error
	}{
		{"contents", func(p string) error { return os.WriteFile(p, []byte("b"), 0o600) }},
		{"mode", func(p string) error { return os.Chmod(p, 0o640) }},
		{"time", func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 1)) }},
		{"deleted", os.Remove},
		{"added", func(p string) error { return os.WriteFile(p+"2", nil, 0o600) }},
		{"linked", func(p string) error { return os.Link(p, p+"2") }},
		{"replaced", func(p string) error { return errors.Join(os.Remove(p), os.Symlink("x", p)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, file)
			if err := os.WriteFile(path, []byte("a"), 0o600); err != nil {
				t.Fatal(err)
			}
			before, err := snapshot(dir)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := snapshot(dir); err != nil || compareSnapshots(before, again) != "" {
				t.Fatalf("two snapshots of the same directory differ: %v", err)
			}
			if err := c.change(path); err != nil {
				t.Fatal(err)
			}
			after, err := snapshot(dir)
			if err != nil {
				t.Fatal(err)
			}
			if compareSnapshots(before, after) == "" {
				t.Error("the change was not noticed")
			}
		})
	}
}
