package tests

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
)

// An escape_* test attacks one boundary with the victim program. Wherever that
// means something it first runs the same attack outside the sandbox and demands
// that it works there (did): a test whose attack cannot work proves nothing.

// outcomes maps an attack to what came of it: "done", or an errno's name, then
// what the victim found out.
type outcomes map[string]string

// arm puts the victim into a tree.
func (a account) arm(t *testing.T, tree string) {
	t.Helper()
	data, err := os.ReadFile(victimPath)
	if err == nil {
		err = os.WriteFile(filepath.Join(tree, "victim"), data, 0o755)
	}
	if err == nil && os.Getuid() == 0 {
		err = os.Lchown(filepath.Join(tree, "victim"), a.UID, a.GID)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// outside runs attacks as the account on the host.
func (a account) outside(t *testing.T, dir string, attacks ...string) outcomes {
	t.Helper()
	return parse(t, finish(t, a.command(dir, nil, victimPath, attacks...)), attacks)
}

// inUserns runs attacks where a plain user namespace gives every capability,
// and a mount namespace is one's own: what a sandbox that only unshares would
// leave possible.
func (a account) inUserns(t *testing.T, dir string, attacks ...string) outcomes {
	t.Helper()
	args := append([]string{"--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "--net", "--uts", "--ipc", victimPath}, attacks...)
	return parse(t, finish(t, a.command(dir, nil, "unshare", args...)), attacks)
}

// inside runs attacks in the sandbox, in an armed tree.
func (a account) inside(t *testing.T, tree string, flags []string, attacks ...string) outcomes {
	t.Helper()
	args := append(slices.Clone(flags), "--", "./victim")
	return parse(t, a.sbx(t, tree, append(args, attacks...)...), attacks)
}

func parse(t *testing.T, r result, attacks []string) outcomes {
	t.Helper()
	o := outcomes{}
	for _, a := range attacks {
		for line := range strings.Lines(r.Stdout) {
			if rest, ok := strings.CutPrefix(line, a+": "); ok {
				o[a] = strings.TrimSuffix(rest, "\n")
			}
		}
		if _, ok := o[a]; !ok {
			t.Fatalf("no outcome of the attack %q: %v", a, r)
		}
	}
	return o
}

// did demands that attacks work: they are the controls.
func (o outcomes) did(t *testing.T, attacks ...string) {
	t.Helper()
	for _, a := range attacks {
		if got, ok := o[a]; !ok || got != "done" && !strings.HasPrefix(got, "done ") {
			t.Fatalf("the control of %q does not work outside, so that the test shows nothing: %s", a, got)
		}
	}
}

// refused demands that attacks fail.
func (o outcomes) refused(t *testing.T, attacks ...string) {
	t.Helper()
	for _, a := range attacks {
		if got, ok := o[a]; !ok || got == "done" || strings.HasPrefix(got, "done ") {
			t.Errorf("the attack %q works in the sandbox: %s", a, got)
		}
	}
}

// is demands one of some outcomes.
func (o outcomes) is(t *testing.T, attack string, want ...string) {
	t.Helper()
	if !slices.Contains(want, o[attack]) {
		t.Errorf("the attack %q ends with %q, expected %q", attack, o[attack], want)
	}
}

// digest is a checksum over everything in a directory: names, modes, owners,
// times, contents. It follows no symlink.
func digest(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		line := fmt.Sprintf("%q %v %d %v", rel, info.Mode(), info.Size(), info.ModTime().UnixNano())
		switch {
		case info.Mode().IsRegular():
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			h := sha256.New()
			io.Copy(h, f)
			f.Close()
			line += fmt.Sprintf(" %x", h.Sum(nil))
		case info.Mode()&fs.ModeSymlink != 0:
			text, _ := os.Readlink(path)
			line += fmt.Sprintf(" -> %q", text)
		case info.IsDir():
			line = fmt.Sprintf("%q %v %v", rel, info.Mode(), info.ModTime().UnixNano())
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// unchanged calls the function it returns at the end of an attack: a directory
// must be what it was.
func unchanged(t *testing.T, dir string) func() {
	t.Helper()
	before := digest(t, dir)
	return func() {
		t.Helper()
		after := digest(t, dir)
		if after == before {
			return
		}
		old, now := strings.Split(before, "\n"), strings.Split(after, "\n")
		for _, l := range now {
			if !slices.Contains(old, l) {
				t.Errorf("%s has changed on the host: now %s", dir, l)
			}
		}
		for _, l := range old {
			if !slices.Contains(now, l) {
				t.Errorf("%s has changed on the host: no longer %s", dir, l)
			}
		}
	}
}

// background starts a program that prints "ready" and lives until the test
// ends, and returns its process.
func background(t *testing.T, cmd *exec.Cmd) *os.Process {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	buf := make([]byte, 64)
	n, _ := out.Read(buf)
	if !strings.HasPrefix(string(buf[:n]), "ready") {
		t.Fatalf("%q is not ready: %q", cmd.Args, buf[:n])
	}
	return cmd.Process
}
