package tests

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"testing"

	"github.com/sbx-build/sbx/idmap"
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

// needSubIDs skips where the account cannot have subordinate ids. An account that was
// invented gets them: newuidmap(1) wants a user who has a name, so it becomes one, in
// /etc/passwd, for as long as the test takes. The tools for that lock the files.
func (a account) needSubIDs(t testing.TB) {
	t.Helper()
	needTool(t, "newuidmap", "newgidmap")
	name := fmt.Sprintf("sbx-test-%d", a.UID)
	if os.Getuid() == 0 {
		needTool(t, "groupadd", "groupdel", "useradd", "userdel")
		do := func(program string, args ...string) {
			t.Helper()
			if text, err := exec.Command(program, args...).CombinedOutput(); err != nil {
				missing(t, "there can be no user with subordinate ids here: %s: %v\n%s", program, err, text)
			}
		}
		do("groupadd", "--gid", strconv.Itoa(a.GID), name)
		t.Cleanup(func() { exec.Command("groupdel", name).Run() })
		do("useradd", "--uid", strconv.Itoa(a.UID), "--gid", name, "--no-create-home", "--home-dir", a.Home, "--shell", "/bin/sh", name)
		// It takes the ids back, and mostly the group; --force, because what empties the
		// trash may still be at work.
		t.Cleanup(func() {
			if text, err := exec.Command("userdel", "--force", name).CombinedOutput(); err != nil {
				t.Errorf("cannot delete the user %s: %v\n%s", name, err, text)
			}
		})
	} else if u, err := user.Current(); err == nil {
		name = u.Username
	}
	uids, gids, err := idmap.SubIDs(name, uint32(a.UID))
	if err != nil || len(uids) == 0 || len(gids) == 0 {
		missing(t, "%s has no subordinate ids (subuid(5)): %v", name, err)
	}
}
