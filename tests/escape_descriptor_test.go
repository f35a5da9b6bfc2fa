package tests

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Descriptors that sbx inherits end with it: files, a directory, an O_PATH
// directory, a socket, a pipe.
func TestEscapeDescriptorInherited(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	open := func(path string, flags int) *os.File {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), path)
		t.Cleanup(func() { f.Close() })
		return f
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	peer := os.NewFile(uintptr(pair[1]), "peer")
	defer peer.Close()
	var extra []*os.File
	for range 3 { // 3 to 20
		extra = append(extra, open("/", unix.O_RDONLY), open("/", unix.O_PATH), open("/etc/hostname", unix.O_RDONLY), peer, open("/dev/null", unix.O_RDWR), open(tree, unix.O_RDONLY))
	}
	attacks := []string{"descriptors", "list /proc/self/fd/3", "list /proc/self/fd/4/home", "list /proc/self/fd/8/.."}
	run := func(name string, args ...string) outcomes {
		cmd := a.command(tree, nil, name, append(args, attacks...)...)
		cmd.ExtraFiles = extra
		return parse(t, finish(t, cmd), attacks)
	}
	out := run(victimPath)
	out.did(t, attacks[1], attacks[3])
	if !strings.Contains(out["descriptors"], "20=") {
		t.Fatalf("the control inherits too few descriptors: %s", out["descriptors"])
	}
	in := run(sbxPath, "--", "./victim")
	if in["descriptors"] != "done" {
		t.Errorf("descriptors reach the command: %s", in["descriptors"])
	}
	in.refused(t, attacks[1:]...)
}

// A directory as descriptor 0, 1 or 2 is a way out, by /proc/self/fd/N/.. ; so
// is one that was opened with O_PATH.
func TestEscapeDescriptorStandard(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	home := a.dir(t)
	for _, flags := range []int{unix.O_RDONLY | unix.O_DIRECTORY, unix.O_PATH | unix.O_DIRECTORY, unix.O_PATH} {
		path := home
		if flags == unix.O_PATH {
			path = sbxPath // a regular file, which O_PATH would let it execute
		}
		for n := range 3 {
			fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(fd), path)
			cmd := a.command(tree, nil, sbxPath, "--", "sh", "-c", "echo escaped >&2; echo escaped; ls /proc/self/fd/*/..")
			var out, errs lockedBuffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			switch n {
			case 0:
				cmd.Stdin = f
			case 1:
				cmd.Stdout = f
			case 2:
				cmd.Stderr = f
			}
			r := finish(t, cmd)
			f.Close()
			if r.Status != 125 || strings.Contains(out.String()+errs.String(), "escaped") {
				t.Errorf("descriptor %d, flags %#x, of %s is handed on: status %d, %s%s", n, flags, path, r.Status, out.String(), errs.String())
			}
		}
	}
	control := a.command(tree, nil, "ls", "/proc/self/fd/0/..")
	f, _ := os.Open(home)
	defer f.Close()
	control.Stdin = f
	if r := finish(t, control); r.Status != 0 {
		t.Fatalf("the control cannot leave through a directory: %v", r)
	}
}
