package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// read PATH: says the first bytes of the file.
func read(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 256))
	if err == nil {
		say("%q", data)
	}
	return err
}

// write PATH TEXT: to a file that exists.
func write(args []string) error { return put(args, os.O_WRONLY) }

// create PATH TEXT: a new file.
func create(args []string) error { return put(args, os.O_WRONLY|os.O_CREATE|os.O_EXCL) }

func put(args []string, flags int) error {
	f, err := os.OpenFile(args[0], flags|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(args[1])
	return err
}

// reopen FD TEXT: a descriptor, once more and for writing.
func reopen(args []string) error {
	return put([]string{"/proc/self/fd/" + args[0], args[1]}, os.O_WRONLY)
}

// nonblock FD: whoever shares the descriptor no longer waits in read(2).
func nonblock(args []string) error { return unix.SetNonblock(number(args[0]), true) }

// list DIR: says the names.
func list(args []string) error {
	entries, err := os.ReadDir(args[0])
	for _, e := range entries {
		say("%s", e.Name())
	}
	return err
}

func link(args []string) error    { return os.Link(args[0], args[1]) }
func rename(args []string) error  { return os.Rename(args[0], args[1]) }
func mkdir(args []string) error   { return os.Mkdir(args[0], 0o755) }
func remove(args []string) error  { return os.Remove(args[0]) }
func chmod(args []string) error   { return os.Chmod(args[0], os.FileMode(number(args[1]))) }
func symlink(args []string) error { return os.Symlink(args[0], args[1]) }

// touch PATH: changes the times.
func touch(args []string) error { return unix.Utimes(args[0], []unix.Timeval{{Sec: 1}, {Sec: 1}}) }

func setxattr(args []string) error { return unix.Setxattr(args[0], args[1], []byte(args[2]), 0) }

// mknod PATH TYPE MAJOR MINOR
func mknod(args []string) error {
	mode := map[string]uint32{"c": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}[args[1]]
	return unix.Mknod(args[0], mode|0o666, int(unix.Mkdev(uint32(number(args[2])), uint32(number(args[3])))))
}

// whiteout FROM TO: rename(2) that leaves a 0:0 device behind, which needs no
// privilege (RENAME_WHITEOUT in renameat2(2)).
func whiteout(args []string) error {
	return unix.Renameat2(unix.AT_FDCWD, args[0], unix.AT_FDCWD, args[1], unix.RENAME_WHITEOUT)
}

// descriptors: says which are open beyond 0 to 2, and what they are. Those of
// the Go runtime are anonymous inodes.
func descriptors([]string) error {
	entries, err := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && number(e.Name()) > 2 && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/proc/") {
			say("%s=%s", e.Name(), target)
		}
	}
	return err
}

// strings TEXT: looks for a text in every small file of /proc and in the own
// environment, and says where it is.
func findStrings(args []string) error {
	// The text is given in two parts, or this command line would hold it.
	text := []byte(args[0] + args[1])
	for _, pattern := range []string{
		"/proc/[0-9]*/environ", "/proc/[0-9]*/cmdline", "/proc/[0-9]*/task/*/environ", "/proc/[0-9]*/task/*/cmdline",
		"/proc/[0-9]*/stack", "/proc/[0-9]*/auxv", "/proc/[0-9]*/comm", "/proc/[0-9]*/status", "/proc/keys", "/proc/[0-9]*/mountinfo",
	} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err == nil && bytes.Contains(data, text) {
				say("%s", f)
			}
		}
	}
	for _, v := range os.Environ() {
		if strings.Contains(v, string(text)) {
			say("%s", v)
		}
	}
	return nil
}

// deep DIR N: nests directories, far beyond PATH_MAX, with a file, a symlink to
// the root and a directory without permissions in each.
func deep(args []string) error {
	fd, err := unix.Open(args[0], unix.O_DIRECTORY|unix.O_RDONLY, 0)
	name := strings.Repeat("d", 200)
	for range number(args[1]) {
		if err != nil {
			return err
		}
		unix.Symlinkat("/", fd, "root")
		unix.Mkdirat(fd, "closed", 0)
		unix.Mknodat(fd, "fifo", unix.S_IFIFO|0o600, 0)
		if err = unix.Mkdirat(fd, name, 0o755); err != nil {
			return err
		}
		next := -1
		next, err = unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		unix.Fchmod(fd, 0o500)
		unix.Close(fd)
		fd = next
	}
	return err
}

// swap A B: exchanges two names as fast as it can, for ever.
func swap(args []string) error {
	os.Stdout.WriteString("ready\n")
	for {
		if err := unix.Renameat2(unix.AT_FDCWD, args[0], unix.AT_FDCWD, args[1], unix.RENAME_EXCHANGE); err != nil {
			return err
		}
	}
}
