package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a new pty: the master's end, and the slave's for a program.
func terminal(t *testing.T, a account) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/dev/pts/%d", n)
	if os.Getuid() == 0 {
		os.Chown(path, a.UID, a.GID)
	}
	slave, err = os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// onTerminal runs a program that has a terminal of its own as its controlling
// one and as descriptors 0 to 2, and returns what it printed and what was left
// in the terminal's input: what the next program on it would read.
func onTerminal(t *testing.T, a account, dir, name string, args ...string) (printed, typed string) {
	t.Helper()
	master, slave := terminal(t, a)
	cmd := a.command(dir, nil, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	out := make(chan string)
	go func() {
		var all []byte
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			all = append(all, buf[:n]...)
			if err != nil || strings.Contains(string(all), "the end of it") {
				out <- string(all)
				return
			}
		}
	}()
	finish(t, cmd)
	// TIOCSTI may have been given a line without its end.
	raw, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err == nil {
		raw.Lflag &^= unix.ICANON
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 0, 0
		unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, raw)
		buf := make([]byte, 256)
		n, _ := unix.Read(int(slave.Fd()), buf)
		typed = string(buf[:max(n, 0)])
	}
	slave.WriteString("the end of it\n")
	return <-out, typed
}

// A build cannot type into the caller's terminal: TIOCSTI, TIOCLINUX, also with
// bits beyond the 32 that the kernel looks at (CVE-2017-5226, CVE-2019-10063,
// CVE-2023-28100), on whatever descriptor leads there.
func TestEscapeTerminalInput(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	attacks := []string{
		fmt.Sprintf("ioctl 0 %#x 0x21", unix.TIOCSTI), fmt.Sprintf("ioctl 1 %#x 0x21", unix.TIOCSTI), fmt.Sprintf("ioctl 2 %#x 0x21", 1<<32|unix.TIOCSTI),
		fmt.Sprintf("ioctl 0 %#x 0x21", 1<<62|unix.TIOCSTI), fmt.Sprintf("ioctl 0 %#x 0x21", 0x7fffffff<<32|unix.TIOCSTI),
		fmt.Sprintf("ioctl 0 %#x 2", unix.TIOCLINUX), fmt.Sprintf("ioctl 0 %#x 2", 1<<32|unix.TIOCLINUX),
	}
	out, typed := onTerminal(t, a, tree, victimPath, attacks...)
	if !strings.Contains(typed, "!") {
		t.Logf("this kernel refuses TIOCSTI itself (dev.tty.legacy_tiocsti): %q", out)
	}
	for _, flags := range [][]string{nil, {"--root"}, {"--allow-userns"}} {
		out, typed = onTerminal(t, a, tree, sbxPath, append(append(flags, "--", "./victim"), attacks...)...)
		if strings.Contains(typed, "!") {
			t.Errorf("%v: the build has typed %q into the terminal", flags, typed)
		}
		for _, attack := range attacks {
			if !strings.Contains(out, attack+": EPERM") {
				t.Errorf("%v: %q is not refused:\n%s", flags, attack, out)
			}
		}
	}
}

// A build has no controlling terminal of the caller's, cannot take it, and
// leaves it as it was.
func TestEscapeTerminalSettings(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	needTool(t, "stty")
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	script := `stty -g; "$@" sh -c 'stty raw -echo -isig 2>/dev/null; stty intr x 2>/dev/null; exec 3<>/proc/self/fd/0; stty -F /dev/tty -echo 2>/dev/null; true'; stty -g`
	out, _ := onTerminal(t, a, tree, "sh", "-c", script, "sh", "env")
	states := func(out string) (s []string) {
		for _, l := range strings.Fields(out) {
			if strings.Count(l, ":") > 20 {
				s = append(s, l)
			}
		}
		return s
	}
	if s := states(out); len(s) != 2 || s[0] == s[1] {
		t.Fatalf("the control does not change the terminal: %q", out)
	}
	out, _ = onTerminal(t, a, tree, "sh", "-c", script, "sh", sbxPath, "--")
	if s := states(out); len(s) != 2 || s[0] != s[1] {
		t.Errorf("the build has changed the caller's terminal for good: %q", out)
	}
}

// Flags of a descriptor belong to all who share it: most programs end where their
// input does not wait.
func TestEscapeTerminalFlags(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	script := `grep ^flags /proc/self/fdinfo/0; "$@" ./victim "nonblock 0" "nonblock 1"; grep ^flags /proc/self/fdinfo/0`
	flags := func(args ...string) []string {
		out, _ := onTerminal(t, a, tree, "sh", append([]string{"-c", script, "sh"}, args...)...)
		return regexp.MustCompile(`flags:\s*\d+`).FindAllString(out, -1)
	}
	if f := flags("env"); len(f) != 2 || f[0] == f[1] {
		t.Fatalf("the control does not change the flags: %q", f)
	}
	if f := flags(sbxPath, "--"); len(f) != 2 || f[0] != f[1] {
		t.Errorf("the build has changed the flags for good: %q", f)
	}
}

// Names that drive a terminal are printed escaped wherever sbx itself prints
// them; a build chose them.
func TestEscapeTerminalNames(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	evil := "a\x1b]52;c;ZXZpbA==\x07\x1b[2J\u202eb\x9bc\r\nd"
	tree := a.tree(t, nil)
	parent := filepath.Join(filepath.Dir(tree), evil)
	a.mkTree(t, parent, map[string]string{"x": "1"})
	gitfile := a.dir(t)
	a.mkTree(t, gitfile, map[string]string{".git": "gitdir: ../" + evil + "\n"})
	alternates := a.tree(t, map[string]string{".git/objects/info/alternates": "/nonexistent\x1b]52;c;eA==\x07/objects\n/\u202e/x\n"})
	for _, c := range []struct {
		dir  string
		args []string
	}{
		{parent, []string{"--", "true"}},
		{tree, []string{"--ro", evil, "--", "true"}},
		{tree, []string{"--hide", "../" + evil, "--", "true"}},
		{tree, []string{"--rw", "../" + evil, "--", "true"}},
		{tree, []string{"--with", "../" + evil + "/none", "--", "true"}},
		{tree, []string{"--", evil}},
		{tree, []string{"--", "./" + evil + "/x"}},
		{tree, []string{"--layer", evil, "--", "true"}},
		{tree, []string{"--" + evil}},
		{tree, []string{evil}},
		{tree, []string{"--source", evil, "--", "true"}},
		{tree, []string{"-C", evil, "--", "true"}},
		{tree, []string{"--env", evil, "--", "true"}},
		{tree, []string{"--tmp-size", evil, "--", "true"}},
		{tree, []string{"--net", evil, "--", "true"}},
		{parent, []string{"plan", "--", "true"}},
		{parent, []string{"plan", "--", evil}},
		{parent, []string{"why", evil}},
		{parent, []string{"path", evil}},
		{parent, []string{"reset"}},
		{gitfile, []string{"--", "true"}},
		{gitfile, []string{"plan", "--", "true"}},
		{alternates, []string{"--", "true"}},
		{tree, []string{"plan", "--env", "X=" + evil, "--env", "--", "true"}},
		{tree, []string{"plan", "--env", "X=" + evil, "--", "true"}},
	} {
		r := a.sbx(t, c.dir, c.args...)
		for _, bad := range []string{"\x1b", "\x07", "\u202e", "\x9b", "\r"} {
			if strings.Contains(r.Stderr+r.Stdout, bad) {
				t.Errorf("sbx %q prints %q as it is: %q", c.args, bad, r.Stderr+r.Stdout)
				break
			}
		}
	}
}
