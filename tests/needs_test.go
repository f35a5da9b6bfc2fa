package tests

import (
	"os"
	"os/exec"
	"testing"
)

// missing skips a test for a reason. With SBX_MUST_WORK=1, as in CI, that is a
// failure: a machine that is meant to run all tests must not pass by running
// fewer.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatalf("SBX_MUST_WORK=1, and "+format, args...)
	}
	t.Skipf(format, args...)
}

// needTool skips where a program is not installed.
func needTool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, "%s is not installed", name)
		}
	}
}

// needUserNS skips where an ordinary user cannot have a user namespace that
// mounts. That clone(2) succeeds says nothing: where AppArmor restricts user
// namespaces only the capabilities are missing.
func needUserNS(t testing.TB) {
	t.Helper()
	needTool(t, "unshare")
	a := newAccount(t)
	r := finish(t, a.command(a.Home, nil, "unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"))
	if r.Status != 0 {
		missing(t, "there are no user namespaces for ordinary users here: %s", r.Stderr)
	}
}

// needRoot skips a test that only root can set up. It is no failure under
// SBX_MUST_WORK: ordinary users run the tests too.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs to be run by root")
	}
}
