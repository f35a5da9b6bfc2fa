package idmap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary the process to be given a map: it waits for a
// line, prints its ids as it sees them, and waits for the end of its input.
const childEnv = "IDMAP_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		in := bufio.NewReader(os.Stdin)
		_, _ = in.ReadString('\n')
		fmt.Println(os.Getuid(), os.Getgid(), unix.Setgroups([]int{os.Getgid()}))
		_, _ = io.Copy(io.Discard, in)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type child struct {
	pid int
	in  io.WriteCloser
	out *bufio.Reader
}

// startChild starts a process that waits, with the namespaces of flags.
func startChild(t *testing.T, flags uintptr) child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{childEnv + "=1"}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		if flags != 0 {
			missing(t, "a user namespace: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return child{cmd.Process.Pid, in, bufio.NewReader(out)}
}

// ids returns what the child says of itself: "uid gid setgroups-error".
func (c child) ids(t *testing.T) string {
	t.Helper()
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		t.Fatal(err)
	}
	line, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// missing skips the test for want of something on this machine. Where all of it
// is known to be there, the variable SBX_MUST_WORK=1 makes that a failure.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatalf("needs "+format, args...)
	}
	t.Skipf("needs "+format, args...)
}

// checkMaps reads the maps back. The parent's ids show as they are, since the
// reader is in the parent's namespace.
func checkMaps(t *testing.T, pid int, uids, gids Map) {
	t.Helper()
	for file, want := range map[string]Map{"uid_map": uids, "gid_map": gids} {
		got, err := readMap(procFile(pid, file))
		if err != nil || got.String() != want.String() {
			t.Errorf("%s is %q, %v, want %q", file, got, err, want)
		}
	}
}

// needCaps asks for capabilities when the test is run by root, whose uid cannot
// be mapped without CAP_SETFCAP.
func needCaps(t *testing.T, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if os.Geteuid() == 0 && effective()&(1<<n) == 0 {
			missing(t, "the capability with number %d, as root", n)
		}
	}
}

func self() (uid, gid uint32) { return uint32(os.Geteuid()), uint32(os.Getegid()) }

// One id needs no privilege, whoever runs the test: the child sees that id.
func TestWriteSingle(t *testing.T) {
	needCaps(t, unix.CAP_SETFCAP)
	uid, gid := self()
	for _, tt := range []struct {
		name       string
		uids, gids Map
	}{
		{"identity", Identity(uid), Identity(gid)},
		{"as root", Map{{0, uid, 1}}, Map{{0, gid, 1}}},
		{"as another", Map{{4294967294, uid, 1}}, Map{{77, gid, 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := startChild(t, unix.CLONE_NEWUSER)
			if err := Write(c.pid, tt.uids, tt.gids); err != nil {
				t.Fatal(err)
			}
			checkMaps(t, c.pid, tt.uids, tt.gids)
			want := fmt.Sprint(tt.uids[0].Inside, tt.gids[0].Inside, " operation not permitted")
			if got := c.ids(t); got != want {
				t.Errorf("the child says %q, want %q", got, want)
			}
		})
	}
}

// The map with subordinate ids: root writes it directly, with ranges that need
// not be given to it, others have it written by newuidmap and newgidmap.
func TestWriteRange(t *testing.T) {
	needCaps(t, unix.CAP_SETFCAP, unix.CAP_SETUID, unix.CAP_SETGID)
	uid, gid := self()
	subuids, subgids := []SubRange{{100000, 65536}}, []SubRange{{200000, 65536}}
	if uid != 0 {
		subuids, subgids = needSubIDs(t)
	}
	uids, ok1 := Root(uid, subuids)
	gids, ok2 := Root(gid, subgids)
	if !ok1 || !ok2 {
		t.Fatalf("Root gives %v and %v", uids, gids)
	}
	if own, err := readMap("/proc/self/uid_map"); err != nil || unknownOutside(uids, own) != "" {
		missing(t, "a namespace with the ids of %q, not %q (%v)", uids, own, err)
	}
	c := startChild(t, unix.CLONE_NEWUSER)
	if err := Write(c.pid, uids, gids); err != nil {
		t.Fatal(err)
	}
	checkMaps(t, c.pid, uids, gids)
	// The ids are kept, and setgroups fails only for want of the capability, which
	// exec of an unmapped uid took: the file says that it is not denied.
	if got, want := c.ids(t), fmt.Sprint(uid, gid, " "); !strings.HasPrefix(got, want) {
		t.Errorf("the child says %q, want %q", got, want)
	}
	if text, err := os.ReadFile(procFile(c.pid, "setgroups")); string(text) != "allow\n" {
		t.Errorf("setgroups is %q, %v, want allow", text, err)
	}
}

// needSubIDs returns the subordinate ids of the user who runs the test.
func needSubIDs(t *testing.T) (uids, gids []SubRange) {
	t.Helper()
	needHelpers(t)
	name, uid := caller()
	uids, gids, err := SubIDs(name, uid)
	if err != nil {
		t.Fatal(err)
	}
	if len(uids) == 0 || len(gids) == 0 {
		missing(t, "subordinate uids and gids of %s", name)
	}
	return uids, gids
}

func needHelpers(t *testing.T) {
	t.Helper()
	for _, name := range []string{"newuidmap", "newgidmap"} {
		if _, ok := findProgram(name, programDirs()); !ok {
			missing(t, "%s(1)", name)
		}
	}
	if on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || on == 1 {
		missing(t, "setuid programs, and no_new_privs is set")
	}
}

func TestWriteRefused(t *testing.T) {
	uid, gid := self()
	one, other := Identity(uid), Identity(gid)

	t.Run("twice", func(t *testing.T) {
		needCaps(t, unix.CAP_SETFCAP)
		c := startChild(t, unix.CLONE_NEWUSER)
		if err := Write(c.pid, one, other); err != nil {
			t.Fatal(err)
		}
		checkWriteError(t, Write(c.pid, one, other), "setgroups", unix.EPERM, "can be written once")
	})
	t.Run("no namespace", func(t *testing.T) {
		c := startChild(t, 0)
		errno := unix.EACCES // of open, and with the capability EPERM of write
		if effective()&(1<<unix.CAP_SYS_ADMIN) != 0 {
			errno = unix.EPERM
		}
		checkWriteError(t, Write(c.pid, one, other), "setgroups", errno, "not in a user namespace of its own")
	})
	t.Run("no process", func(t *testing.T) {
		// Larger than any pid: PID_MAX_LIMIT is 1<<22.
		checkWriteError(t, Write(1<<22+1, one, other), "setgroups", unix.ENOENT, "the process has ended")
	})
	t.Run("not valid", func(t *testing.T) {
		err := Write(1, Map{{0, 0, 0}}, Map{})
		want := "cannot write uid_map: extent \"0 0 0\" has no ids\ncannot write gid_map: it has no extent"
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		for _, pid := range []int{0, -1} {
			if err := Write(pid, one, other); err == nil {
				t.Errorf("Write of process %d: no error", pid)
			}
		}
	})
}

func checkWriteError(t *testing.T, err error, file string, errno unix.Errno, text string) {
	t.Helper()
	var e *WriteError
	if !errors.As(err, &e) || e.File != file || !errors.Is(err, errno) || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want a WriteError of %s with %q and %q", err, file, errno, text)
	}
}

// A range that is not given to the caller: as a user, both helpers refuse it,
// and for a user without ranges there is one error that says so.
func TestWriteForeignRange(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("uid 0 may write every range: only the messages are checked, in TestExplain")
		return
	}
	needHelpers(t)
	name, uid := caller()
	none, known := hasNoSubIDs(subuidFile, name, uid)
	if !known {
		t.Fatalf("the ranges of %q are not known", name)
	}
	c := startChild(t, unix.CLONE_NEWUSER)
	m := Map{{0, 4294967294, 1}, {1, 5, 1}}
	err := Write(c.pid, m, m)
	if none {
		var e *NoSubIDsError
		if !errors.As(err, &e) || e.User != name || !strings.HasPrefix(e.Hint(), "sudo usermod --add-subuids ") {
			t.Errorf("%v, want a NoSubIDsError and a hint", err)
		}
		return
	}
	var e *HelperError
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "newuidmap: uid range [0-1) -> [4294967294-4294967295) not allowed") ||
		!strings.Contains(err.Error(), "newgidmap: gid range") || !strings.HasPrefix(e.Hint(), "getsubids ") {
		t.Errorf("%v, want the messages of both helpers and a hint", err)
	}
	checkMaps(t, c.pid, nil, nil)
}
