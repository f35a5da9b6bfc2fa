package idmap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	threeRanges = Map{{0, 100000, 1001}, {1001, 1001, 1}, {1002, 101001, 64534}}
	twoRanges   = Map{{0, 200000, 7}, {7, 7, 1}}
)

func TestHelperArguments(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "newuidmap", `echo "$@" > `+dir+"/uids")
	script(t, dir, "newgidmap", `echo "$@" > `+dir+"/gids")
	if err := runHelpers(42, threeRanges, twoRanges, []string{dir}, helperTimeout); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"uids": "42 0 100000 1001 1001 1001 1 1002 101001 64534\n",
		"gids": "42 0 200000 7 7 7 1\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, file)); string(got) != want {
			t.Errorf("%s are %q, %v, want %q", file, got, err, want)
		}
	}
}

// Each waits until the other has begun: one after the other would never end.
func TestHelpersAreConcurrent(t *testing.T) {
	dir := t.TempDir()
	wait := "touch %[1]s/%[2]s; while ! test -e %[1]s/%[3]s; do sleep 0.01; done"
	script(t, dir, "newuidmap", fmt.Sprintf(wait, dir, "a", "b"))
	script(t, dir, "newgidmap", fmt.Sprintf(wait, dir, "b", "a"))
	if err := runHelpers(42, twoRanges, twoRanges, []string{dir}, helperTimeout); err != nil {
		t.Fatal(err)
	}
}

func TestHelperMissing(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "newuidmap", "touch "+dir+"/ran")
	err := runHelpers(42, twoRanges, twoRanges, []string{dir}, helperTimeout)
	var e *HelperMissingError
	if !errors.As(err, &e) || e.Name != "newgidmap" {
		t.Errorf("%v, want a HelperMissingError of newgidmap", err)
	}
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("newuidmap ran, though newgidmap is missing")
	}
}

func TestHelperMessages(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "newuidmap", "echo 'newuidmap: first' >&2; exit 1")
	script(t, dir, "newgidmap", "echo 'newgidmap: second' >&2; exit 1")
	err := runHelpers(42, twoRanges, twoRanges, []string{dir}, helperTimeout)
	want := "cannot map a range of ids: newuidmap: first\ncannot map a range of ids: newgidmap: second"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// One program hangs, the other leaves a process that holds the pipe open.
func TestHelperTimeout(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "newuidmap", "exec sleep 60")
	script(t, dir, "newgidmap", "sleep 60 & echo $! > "+dir+"/pid; wait")
	start := time.Now()
	err := runHelpers(42, twoRanges, twoRanges, []string{dir}, 200*time.Millisecond)
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	if pid, err := os.ReadFile(dir + "/pid"); err == nil {
		t.Cleanup(func() { stop(t, strings.TrimSpace(string(pid))) })
	}
	var e *HelperError
	if !errors.As(err, &e) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, want a HelperError for the timeout", err)
	}
	if n := strings.Count(err.Error(), "did not end in time"); n != 2 {
		t.Errorf("%q tells of %d timeouts, want 2", err, n)
	}
}

// stop ends the process that the script left behind.
func stop(t *testing.T, pid string) {
	t.Helper()
	if _, err := runProgram(context.Background(), "/bin/sh", "-c", `kill "$1"`, "sh", pid); err != nil {
		t.Errorf("cannot end process %s: %v", pid, err)
	}
}

func TestExplain(t *testing.T) {
	failed := errors.New("exit status 1")
	h := helper{name: "newuidmap", file: subuidFile, m: twoRanges}
	for _, tt := range []struct{ output, want string }{
		{"newuidmap: Target process is owned by a different user: uid:1\n", "as after newgrp(1)"},
		{"newuidmap: Cannot determine your user name.\n", "has no passwd entry"},
		{"newuidmap: open of uid_map failed: No such file or directory\n", "newuidmap: open of uid_map failed: No such file or directory"},
	} {
		err := h.explain(os.Getpid(), tt.output, failed)
		if !errors.Is(err, failed) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("explain(%q) = %v, want %q", tt.output, err, tt.want)
		}
	}

	// For a range that is refused it matters whether the user has others.
	name, uid := caller()
	none, known := hasNoSubIDs(subuidFile, name, uid)
	if !known {
		t.Fatalf("the ranges of %q are not known", name)
	}
	var noIDs *NoSubIDsError
	err := h.explain(os.Getpid(), "newuidmap: uid range [0-1) -> [5-6) not allowed\n", failed)
	if errors.As(err, &noIDs) != none {
		t.Errorf("explain of a range not allowed = %v, where having none is %v", err, none)
	}
	if none && (noIDs.User != name || noIDs.File != subuidFile || !strings.Contains(noIDs.Hint(), "--add-subuids")) {
		t.Errorf("%+v, hint %q", noIDs, noIDs.Hint())
	}
}

func TestPowerless(t *testing.T) {
	const output = "newuidmap: write to uid_map failed: Operation not permitted\n"
	path := script(t, t.TempDir(), "newuidmap", "")
	h := helper{name: "newuidmap", file: subuidFile, m: twoRanges, path: path}
	err := h.explain(os.Getpid(), output, nil)
	if !strings.Contains(err.Error(), "not in a user namespace of its own") {
		t.Errorf("own namespace: %v", err)
	}
	why, hint := h.powerless(1<<22 + 1) // no such process: no facts
	switch {
	case strings.Contains(why, "not mapped in the caller's own"), strings.Contains(why, "no_new_privs"), strings.Contains(why, "nosuid"):
		t.Logf("this machine has a reason of its own: %s", why)
	case !strings.Contains(why, "neither the setuid bit") || hint != "sudo chmod u+s "+shellQuote(path):
		t.Errorf("plain file: %q, hint %q", why, hint)
	}
}
