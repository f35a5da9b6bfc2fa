package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sources is where .ci/run puts what the build tests need and cannot have from
// the machine: Debian source packages, and a cache of npm's.
func sources() string {
	if dir := os.Getenv("SBX_TEST_SOURCES"); dir != "" {
		return dir
	}
	return "/var/cache/sbx-test-sources"
}

// source finds a Debian source package.
func source(t *testing.T, name string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(sources(), name+"_*.dsc"))
	if err != nil || len(list) == 0 {
		missing(t, "the Debian source package %s is not in %s (.ci/run gets it; SBX_TEST_SOURCES names another directory)", name, sources())
	}
	return list[0]
}

// unpack unpacks a Debian source package as the account, without Debian's
// patches if upstream is true, and gives the directory.
func unpack(t *testing.T, a account, name string, upstream bool) string {
	t.Helper()
	needTool(t, "dpkg-source")
	dsc := source(t, name)
	dir := filepath.Join(a.dir(t), name)
	args := []string{"--no-check", "-x", dsc, dir}
	if upstream {
		args = append([]string{"--skip-patches"}, args...)
	}
	must(t, a.command(filepath.Dir(dir), nil, "dpkg-source", args...))
	return dir
}

// npmCache gives the account a copy of the prepared cache.
func npmCache(t *testing.T, a account) {
	t.Helper()
	dir := filepath.Join(sources(), "npm")
	if _, err := os.Stat(filepath.Join(dir, "_cacache")); err != nil {
		missing(t, "there is no cache of npm's in %s (.ci/run makes it)", dir)
	}
	to := filepath.Join(a.Home, ".npm")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	a.mkTree(t, to, nil)
}

// long is for what builds something real.
const long = 10 * time.Minute

// must runs a command, for as long as a build may take, and expects success.
func must(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr lockedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot start %q: %v", cmd.Args, err)
	}
	timer := time.AfterFunc(long, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	r := result{Stdout: stdout.String(), Stderr: stderr.String(), Status: cmd.ProcessState.ExitCode()}
	if err != nil {
		t.Fatalf("%q: %v\n%v", cmd.Args, err, tail(r))
	}
	return r
}

// tail shortens what a build has printed to what a reader wants of it.
func tail(r result) result {
	short := func(s string) string {
		if len(s) > 4000 {
			return "…" + s[len(s)-4000:]
		}
		return s
	}
	return result{Stdout: short(r.Stdout), Stderr: short(r.Stderr), Status: r.Status}
}

// A job is a real build: an account, a source tree whose files on the host must
// not change, and an environment.
type job struct {
	account
	t      *testing.T
	dir    string // where commands start
	host   string // what must not change
	env    []string
	before map[string]string
}

// newJob remembers the tree as it is.
func newJob(t *testing.T, a account, dir string, env ...string) *job {
	t.Helper()
	before, err := snapshot(dir)
	if err != nil {
		t.Fatal(err)
	}
	j := &job{account: a, t: t, dir: dir, host: dir, env: env, before: before}
	t.Cleanup(j.check)
	return j
}

// check is the end of every job: what is on the host is byte for byte what it
// was.
func (j *job) check() {
	j.t.Helper()
	after, err := snapshot(j.host)
	if err != nil {
		j.t.Error(err)
		return
	}
	if diff := compareSnapshots(j.before, after); diff != "" {
		j.t.Errorf("the host's files have changed:\n%s", diff)
	}
}

// run runs sbx with these arguments in the tree, and expects success.
func (j *job) run(args ...string) result {
	j.t.Helper()
	return must(j.t, j.command(j.dir, j.env, sbxPath, args...))
}

// upper is the layer's copy of a file, which must be there.
func (j *job) upper(name string) string {
	j.t.Helper()
	r := must(j.t, j.command(j.dir, j.env, sbxPath, "path", name))
	return strings.TrimSuffix(r.Stdout, "\n")
}
