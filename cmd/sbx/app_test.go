package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary be sbx, so that tests run the real main without
// a build of their own.
func TestMain(m *testing.M) {
	if os.Getenv("SBX_TEST_MAIN") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A caller runs sbx in a source tree: as an ordinary user, for whom it is made,
// even if root runs the tests.
type caller struct {
	bin, home, tree, state string
	ids                    *syscall.Credential
}

// newCaller makes a caller with an own HOME and a source tree in it.
func newCaller(t *testing.T) caller {
	t.Helper()
	top, err := os.MkdirTemp("/var/tmp", "sbx-cmd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	// Every user must reach the binary.
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	// The real path: /var/tmp may be a symlink.
	top, err = filepath.EvalSymlinks(top)
	if err != nil {
		t.Fatal(err)
	}
	c := caller{bin: top + "/bin", home: top + "/home", tree: top + "/home/tree", state: top + "/home/.local/state/sbx"}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	write(t, c.bin+"/sbx", string(data))
	if err := os.Chmod(c.bin+"/sbx", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, c.tree+"/.git/HEAD", "ref: refs/heads/main\n")
	if os.Getuid() == 0 {
		c.ids = &syscall.Credential{Uid: 12345, Gid: 12345}
	}
	c.own(t)
	return c
}

// own gives all that is in the home to the caller.
func (c caller) own(t *testing.T) {
	t.Helper()
	if c.ids == nil {
		return
	}
	err := filepath.WalkDir(c.home, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, int(c.ids.Uid), int(c.ids.Gid)))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a file and the directories above it.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command prepares a program of the caller's, with sbx on its PATH.
func (c caller) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = c.tree
	cmd.Env = []string{"SBX_TEST_MAIN=1", "HOME=" + c.home, "PATH=" + c.bin + ":/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TERM=dumb", "PWD=" + c.tree}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.ids}
	return cmd
}

// sbx runs sbx and returns what it printed and its exit status.
func (c caller) sbx(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	return finish(t, c.command(c.bin+"/sbx", args...))
}

func finish(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run %q: %v", cmd.Args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// need skips where a program is not installed; under SBX_MUST_WORK=1 that is a
// failure.
func need(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatalf("SBX_MUST_WORK=1, and %s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
}

func TestVerb(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"--", "run --"},
		{"-- make", "run -- make"},
		{"--rm -- make", "run --rm -- make"},
		{"-C dir -- make", "run -C dir -- make"},
		{"run make -j2", "run make -j2"},
		{"reset --all", "reset --all"},
		{"--help", "help"},
		{"-h", "help"},
		{"--version", "version"},
		{"-- --help", "run -- --help"},
		{"plan --env", "plan --show-env"},
		{"trash --state /state", "trash --state /state"},
	} {
		got, err := verb(strings.Fields("sbx " + tt.line))
		if want := strings.Fields("sbx " + tt.want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("verb(sbx %s) = %q, %v; want %q", tt.line, got, err, want)
		}
	}
}

func TestVerbRefuses(t *testing.T) {
	for _, tt := range []struct{ line, text, hint string }{
		{"", "no command is given", "sbx -- make"},
		{"make", `cannot do "make"`, "sbx -- make"},
		{"make -j2 --", `cannot do "make"`, "sbx -- make -j2 --"},
		{"rset --all", `the nearest is "reset"`, "sbx reset   (or, to run the program: sbx -- rset --all)"},
		{"trash", `cannot do "trash"`, "sbx -- trash"},
	} {
		_, err := verb(strings.Fields("sbx " + tt.line))
		var usage *usageError
		if !errors.As(err, &usage) {
			t.Errorf("verb(sbx %s) = %v, want a usage error", tt.line, err)
			continue
		}
		if !strings.Contains(usage.text, tt.text) || usage.fix != tt.hint {
			t.Errorf("verb(sbx %s): %q, hint %q; want %q, hint %q", tt.line, usage.text, usage.fix, tt.text, tt.hint)
		}
	}
}

func TestShowEnv(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"plan --env", "plan --show-env"},
		{"plan --env --rm", "plan --show-env --rm"},
		{"plan --env --", "plan --show-env --"},
		{"plan --env NAME", "plan --env NAME"},
		{"plan --env NAME --env", "plan --env NAME --show-env"},
		{"plan --env=NAME", "plan --env=NAME"},
		{"plan -- env --env", "plan -- env --env"},
		{"run --env", "run --env"}, // there it is a mistake
	} {
		in := strings.Fields("sbx " + tt.line)
		if got, want := showEnv(in), strings.Fields("sbx "+tt.want); !reflect.DeepEqual(got, want) {
			t.Errorf("showEnv(sbx %s) = %q, want %q", tt.line, got, want)
		}
		if strings.Join(in, " ") != "sbx "+tt.line {
			t.Errorf("showEnv changed its argument to %q", in)
		}
	}
}

func TestNearest(t *testing.T) {
	for _, tt := range []struct{ word, want string }{
		{"rest", "reset"}, {"dcotor", "doctor"}, {"plna", "plan"}, {"hlep", "help"}, {"completions", "completion"},
		{"make", ""}, {"npm", ""}, {"go", ""}, {"", ""}, {"xyzzy", ""},
	} {
		if got := nearest(tt.word, verbs); got != tt.want {
			t.Errorf("nearest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}

// What shell quotes, sh(1) reads back.
func TestShell(t *testing.T) {
	words := []string{"make", "-j2", "CC=gcc -m32", "", "a'b", "''", `\`, "$HOME", "`x`", "a\nb", "*", "~/x", "#x", "!", "a;b", "\xff\xfe", "é", "--", "{a,b}"}
	out, err := exec.Command("sh", "-c", `printf '%s\0' `+shell(words)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !reflect.DeepEqual(got, words) {
		t.Errorf("sh reads %q, want %q", got, words)
	}
	// A hint should not be harder to read than it must.
	if got, want := shell([]string{"make", "-C", "a/b.c", "X=1"}), "make -C a/b.c X=1"; got != want {
		t.Errorf("shell quoted without need: %s", got)
	}
}
