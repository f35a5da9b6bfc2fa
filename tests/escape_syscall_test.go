package tests

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Calls that are refused though the kernel would serve an ordinary user.
// EDQUOT comes from keys that earlier runs of the same user have left.
func TestEscapeSyscallOfUsers(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	for _, c := range []struct {
		attack  string
		outside []string // what shows that the kernel would serve it
		inside  string
	}{
		{"sys io_uring_setup", []string{"done", "EPERM"}, "ENOSYS"}, // EPERM: kernel.io_uring_disabled
		{"sys perf_event_open", []string{"done", "EACCES"}, "EPERM"},
		{"sys userfaultfd", []string{"done"}, "EPERM"},
		{"sys keyctl", []string{"done", "EDQUOT"}, "ENOSYS"},
		{"sys add_key", []string{"done", "EDQUOT"}, "ENOSYS"},
		{"sys request_key", []string{"ENOKEY", "EDQUOT", "done"}, "ENOSYS"}, // done: another test has added the key
		{"sys clone_user", []string{"done"}, "EPERM"},
		{"sys clone_high", []string{"done"}, "EPERM"},
		{"sys clone3_user", []string{"done"}, "ENOSYS"},
		{"sys personality", []string{"done"}, "EPERM"},
		{"sys fanotify_init", []string{"done"}, "EPERM"},
		{"sys quotactl", []string{"ENOENT"}, "EPERM"},
		{"socket 40 1 0", []string{"done"}, "EAFNOSUPPORT"},          // AF_VSOCK
		{"socket 38 5 0", []string{"done"}, "EAFNOSUPPORT"},          // AF_ALG
		{"socket 16 3 9", []string{"done"}, "EPROTONOSUPPORT"},       // NETLINK_AUDIT
		{"socket 16 3 4", []string{"done"}, "EPROTONOSUPPORT"},       // NETLINK_SOCK_DIAG
		{"socket 16 3 15", []string{"done"}, "EPROTONOSUPPORT"},      // NETLINK_KOBJECT_UEVENT
		{"socket 0x100000028 1 0", []string{"done"}, "EAFNOSUPPORT"}, // AF_VSOCK behind high bits
		{"socket 2 1 262", []string{"done"}, "EPROTONOSUPPORT"},      // MPTCP
		{"socket 2 1 0x100000106", []string{"done"}, "EPROTONOSUPPORT"},
		{"socket 10 2 136", []string{"done"}, "EPROTONOSUPPORT"}, // UDP-Lite
		{"socket 2 1 132", []string{"done"}, "EPROTONOSUPPORT"},  // SCTP
		{"socket 2 2 115", []string{"done"}, "EPROTONOSUPPORT"},  // L2TP
	} {
		out := a.outside(t, tree, c.attack)
		// A kernel without the feature cannot show that the filter is what
		// refuses it.
		if got := out[c.attack]; got == "ENOSYS" || got == "EAFNOSUPPORT" || got == "EPROTONOSUPPORT" {
			t.Logf("%q: this kernel has no such thing (%s)", c.attack, got)
		} else {
			out.is(t, c.attack, c.outside...)
		}
		a.inside(t, tree, nil, c.attack).is(t, c.attack, c.inside)
	}
}

// Calls that a plain user namespace would serve.
func TestEscapeSyscallOfUserNamespaces(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	attacks := []string{
		"sys mount_tmpfs", "sys mount_bind", "sys remount_root", "sys mount_private", "sys mount_shared", "sys open_tree", "sys fsopen",
		"sys sethostname", "sys setuid_root", "sys unshare_net", "sys unshare_ns", "sys unshare_time", "sys setns_pidfd", "sys capset_all", "sys keepcaps", "sys setsecurebits",
		"socket 17 3 0", "socket 2 10 0", "socket 2 3 1", "socket 10 3 58", // AF_PACKET, its oldest name, raw ICMP
		"sys chroot",
	}
	for _, attack := range attacks {
		if attack == "sys setns_pidfd" || attack == "sys unshare_time" {
			// A program with threads cannot join; for that the kernel says
			// EINVAL, and to the sandbox EPERM.
			a.inUserns(t, tree, attack).is(t, attack, "done", "EINVAL", "EUSERS")
			continue
		}
		a.inUserns(t, tree, attack).did(t, attack)
	}
	for _, flags := range [][]string{nil, {"--net=host"}} {
		a.inside(t, tree, flags, attacks...).refused(t, attacks...)
	}
	// With --root chroot(2) is allowed (fakeroot builds), and stays within.
	rest := attacks[:len(attacks)-1]
	o := a.inside(t, tree, []string{"--root"}, rest...)
	for _, attack := range rest {
		if attack == "sys setuid_root" {
			continue // it is uid 0 already
		}
		o.refused(t, attack)
	}
}

// Calls that need the host's root: refused by the filter as well, which holds
// when the kernel forgets to ask.
func TestEscapeSyscallOfRoot(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	for _, c := range []struct{ attack, root string }{
		{"sys bpf", "done"}, {"sys reboot", "EINVAL"}, {"sys swapon", "ENOENT"}, {"sys acct", "ENOENT"}, {"sys syslog", "done"},
		{"sys init_module", "ENOEXEC"}, {"sys kexec_load", "EINVAL"}, {"sys settimeofday", "EINVAL"}, {"sys open_by_handle_at", "done"},
	} {
		if os.Getuid() == 0 {
			root := account{Home: a.Home}
			got := root.outside(t, tree, c.attack)
			if got[c.attack] != c.root {
				t.Logf("%q: even root gets %s here, not %s", c.attack, got[c.attack], c.root)
			}
		}
		a.inside(t, tree, nil, c.attack).is(t, c.attack, "EPERM", "ENOSYS")
	}
}

// Devices cannot be made, by any name: mknod(2), or the whiteout that rename(2)
// leaves behind without any privilege.
func TestEscapeSyscallMknod(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"a": "1"})
	a.arm(t, tree)
	out := a.outside(t, tree, "mknod n1 c 0 0", "mknod n2 p 0 0", "whiteout a b")
	out.did(t, "mknod n1 c 0 0", "mknod n2 p 0 0", "whiteout a b")
	tree = a.tree(t, map[string]string{"a": "1"})
	a.arm(t, tree)
	attacks := []string{"mknod n1 c 0 0", "mknod n2 c 1 1", "mknod n3 b 8 0", "mknod /tmp/n4 c 1 1", "mknod /dev/n5 c 1 1", "whiteout a b"}
	o := a.inside(t, tree, nil, append(attacks, "mknod f p 0 0")...)
	o.refused(t, attacks...)
	o.did(t, "mknod f p 0 0") // mkfifo(3) is for builds
	// DAC says nothing against these for uid 0 of a range map.
	o = a.inside(t, tree, []string{"--root", "--layer", "r"}, attacks...)
	o.refused(t, attacks...)
}

// The other system call tables of an x86 machine lead to the same kernel: i386
// by int 0x80, from a 32 bit program and from a 64 bit one, and x32.
func TestEscapeSyscallOtherABIs(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("this machine's other ABI (32 bit ARM) needs a compiler; the filter's unit tests interpret it")
	}
	needUserNS(t)
	const newUser = unix.CLONE_NEWUSER
	a := newAccount(t)
	tree := a.tree(t, nil)
	abis := []struct {
		name string
		elf  []byte
	}{
		{"i386", elf32(int80(310, newUser))},                      // unshare(CLONE_NEWUSER)
		{"i386-from-64", elf64(int80(310, newUser))},              // the same, of a 64 bit program
		{"i386-keyctl", elf32(int80(288, 0))},                     // keyctl(GET_KEYRING_ID, …)
		{"i386-clone3", elf32(int80(435, 0))},                     // clone3(NULL, 0): EINVAL outside
		{"i386-bind", elf32(int80(21, 0))},                        // mount(NULL, …): EFAULT or EPERM outside
		{"i386-from-64-socket", elf64(int80(359, unix.AF_VSOCK))}, // socket(AF_VSOCK, …)
		{"x32", elf64(syscall64(0x40000000|272, newUser))},
		{"x32-keyctl", elf64(syscall64(0x40000000|250, 0))},
		{"native", elf64(syscall64(272, newUser))},
		{"x86-544-range", elf64(syscall64(540, 0))}, // x32 numbers without the x32 bit
	}
	works := 0
	for _, abi := range abis {
		path := filepath.Join(tree, abi.name)
		if err := os.WriteFile(path, abi.elf, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := a.command(tree, nil, path).Start(); errors.Is(err, unix.ENOEXEC) {
			// Some hypervisors run no 32 bit code.
			t.Logf("%s: this machine cannot execute it at all", abi.name)
			continue
		}
		out := finish(t, a.command(tree, nil, path))
		in := a.sbx(t, tree, "--", "./"+abi.name)
		// The exit status is the errno.
		t.Logf("%s: errno %d outside, %d inside", abi.name, out.Status, in.Status)
		if out.Status == 128+int(unix.SIGSEGV) && in.Status == out.Status {
			t.Logf("%s: this machine has no such gate", abi.name)
			continue
		}
		if abi.name == "i386" || abi.name == "native" || abi.name == "i386-from-64" {
			if out.Status == 0 {
				works++
			}
		}
		if in.Status != int(unix.EPERM) && in.Status != int(unix.ENOSYS) && in.Status != int(unix.EAFNOSUPPORT) && in.Status != 128+int(unix.SIGSYS) {
			t.Errorf("%s reaches the kernel: errno %d", abi.name, in.Status)
		}
	}
	if works == 0 {
		t.Error("no ABI could make a user namespace outside: the test shows nothing")
	}
}

// int80 is code for one call by the i386 way, then exit with its errno.
func int80(nr, arg uint32) []byte {
	c := []byte{0xB8}                                 // mov eax, nr
	c = binary.LittleEndian.AppendUint32(c, nr)       //
	c = append(c, 0xBB)                               // mov ebx, arg
	c = binary.LittleEndian.AppendUint32(c, arg)      //
	c = append(c, 0x31, 0xC9, 0x31, 0xD2, 0x31, 0xF6) // xor ecx,ecx; edx; esi
	c = append(c, 0xCD, 0x80)                         // int 0x80
	c = append(c, 0x85, 0xC0, 0x78, 0x02, 0x31, 0xC0) // test eax,eax; js +2; xor eax,eax
	c = append(c, 0x89, 0xC3, 0xF7, 0xDB)             // mov ebx,eax; neg ebx
	return append(c, 0xB8, 1, 0, 0, 0, 0xCD, 0x80)    // exit(ebx)
}

// syscall64 is the same by the 64 bit way.
func syscall64(nr, arg uint32) []byte {
	c := []byte{0xB8}
	c = binary.LittleEndian.AppendUint32(c, nr)
	c = append(c, 0xBF) // mov edi, arg
	c = binary.LittleEndian.AppendUint32(c, arg)
	c = append(c, 0x31, 0xF6, 0x31, 0xD2)             // xor esi,esi; edx
	c = append(c, 0x0F, 0x05)                         // syscall
	c = append(c, 0x85, 0xC0, 0x78, 0x02, 0x31, 0xC0) // test eax,eax; js +2; xor eax,eax
	c = append(c, 0x89, 0xC7, 0xF7, 0xDF)             // mov edi,eax; neg edi
	return append(c, 0xB8, 231, 0, 0, 0, 0x0F, 0x05)  // exit_group(edi)
}

const loadAt = 0x10000

// elf64 and elf32 make the smallest program of some code: elf(5).
func elf64(code []byte) []byte {
	var b bytes.Buffer
	put := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	b.Write([]byte{0x7F, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	put([]uint16{2, 62})               // ET_EXEC, EM_X86_64
	put(uint32(1))                     //
	put([]uint64{loadAt + 120, 64, 0}) // entry, program headers, no sections
	put(uint32(0))                     //
	put([]uint16{64, 56, 1, 0, 0, 0})  //
	put([]uint32{1, 5})                // PT_LOAD, r-x
	put([]uint64{0, loadAt, loadAt, uint64(120 + len(code)), uint64(120 + len(code)), 4096})
	b.Write(code)
	return b.Bytes()
}

func elf32(code []byte) []byte {
	var b bytes.Buffer
	put := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	b.Write([]byte{0x7F, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	put([]uint16{2, 3}) // ET_EXEC, EM_386
	put([]uint32{1, loadAt + 84, 52, 0, 0})
	put([]uint16{52, 32, 1, 0, 0, 0})
	size := uint32(84 + len(code))
	put([]uint32{1, 0, loadAt, loadAt, size, size, 5, 4096})
	b.Write(code)
	return b.Bytes()
}
