package seccomp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// victimEnv makes this test binary a program that puts itself under the default
// profile. Its value is what to do then: "calls", or a program to execute.
const victimEnv = "SECCOMP_TEST_VICTIM"

func TestMain(m *testing.M) {
	if what := os.Getenv(victimEnv); what != "" {
		if err := victim(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const nothing = 0xffffffff // no file, as an int

// attempts are made so that a kernel without the filter gives another errno, and
// does nothing.
var attempts = []struct {
	call string
	args [6]uint64
	want unix.Errno
}{
	{"getpid", [6]uint64{}, 0},
	{"openat", [6]uint64{nothing, 0}, unix.EFAULT},
	{"ioctl", [6]uint64{nothing, unix.TIOCGWINSZ}, unix.EBADF},
	{"ioctl", [6]uint64{nothing, unix.TIOCSTI}, unix.EPERM},
	{"ioctl", [6]uint64{nothing, high | unix.TIOCSTI}, unix.EPERM},
	{"ioctl", [6]uint64{nothing, unix.TIOCLINUX}, unix.EPERM},
	{"clone", [6]uint64{unix.CLONE_NEWUSER | unix.CLONE_FS}, unix.EPERM}, // EINVAL
	{"clone", [6]uint64{unix.CLONE_SIGHAND}, unix.EINVAL},                // needs CLONE_VM
	{"clone3", [6]uint64{}, unix.ENOSYS},
	{"unshare", [6]uint64{unix.CLONE_NEWUSER}, unix.EPERM}, // EINVAL with threads
	{"unshare", [6]uint64{0}, 0},
	{"setns", [6]uint64{nothing}, unix.EPERM},
	{"mount", [6]uint64{}, unix.EPERM},
	{"fsopen", [6]uint64{}, unix.EPERM},
	{"bpf", [6]uint64{1 << 16}, unix.EPERM},
	{"userfaultfd", [6]uint64{1 << 20}, unix.EPERM},
	{"open_by_handle_at", [6]uint64{}, unix.EPERM},
	{"io_uring_setup", [6]uint64{}, unix.ENOSYS},
	{"keyctl", [6]uint64{1 << 16}, unix.ENOSYS},
	{"socket", [6]uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EAFNOSUPPORT},
	{"socket", [6]uint64{unix.AF_INET, 99}, unix.EINVAL}, // no such type
	{"socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, 0},
	{"socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, unix.EPROTONOSUPPORT},
	{"socketpair", [6]uint64{unix.AF_TIPC, unix.SOCK_STREAM}, unix.EAFNOSUPPORT},
	{"personality", [6]uint64{0xffffffff}, 0},
	{"personality", [6]uint64{0x400000}, unix.EPERM},
	{"mknodat", [6]uint64{0, 0, unix.S_IFIFO}, unix.EFAULT},
	{"mknodat", [6]uint64{0, 0, unix.S_IFCHR}, unix.EPERM},
	{"mknodat", [6]uint64{0, 0, high | unix.S_IFBLK}, unix.EPERM},
	{"ptrace", [6]uint64{0x4201, 1 << 21}, unix.ESRCH}, // PTRACE_GETEVENTMSG of nobody
}

func victim(what string) error {
	machine, err := Native()
	if err != nil {
		return err
	}
	program, err := Default(Options{}).Compile(machine)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl(2): %w", err)
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 || r != 0 {
		return fmt.Errorf("seccomp(2): %d %w", r, errno)
	}
	if what != "calls" {
		return unix.Exec(what, []string{what}, nil)
	}
	native := &machine.abis()[0]
	for _, a := range attempts {
		nr, _ := number(native, a.call)
		var w [6]uintptr
		for i, arg := range a.args {
			w[i] = uintptr(arg)
		}
		if _, _, errno := unix.Syscall6(uintptr(nr), w[0], w[1], w[2], w[3], w[4], w[5]); errno != a.want {
			fmt.Printf("%s(%#x): %v, want %v\n", a.call, a.args, errno, a.want)
		}
	}
	if native.name == "x86_64" {
		if _, _, errno := unix.Syscall(x32Bit+unix.SYS_GETPID, 0, 0, 0); errno != unix.ENOSYS {
			fmt.Printf("x32 getpid: %v\n", errno)
		}
	}
	// A program that starts threads and others, as all of a build does.
	if out, err := exec.Command("/bin/sh", "-c", "echo $((6*7)) | cat").CombinedOutput(); err != nil || string(out) != "42\n" {
		fmt.Printf("sh: %q, %v\n", out, err)
	}
	fmt.Println("done")
	return nil
}

func runVictim(t *testing.T, what string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), victimEnv+"="+what)
	return cmd
}

// unavailable skips what the kernel is not configured for, and fails instead
// where everything is expected to work.
func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func TestKernel(t *testing.T) {
	out, err := runVictim(t, "calls").CombinedOutput()
	if err != nil && strings.Contains(string(out), "seccomp(2): 0 invalid argument") {
		unavailable(t, "the kernel has no seccomp filters")
	}
	if err != nil || string(out) != "done\n" {
		t.Errorf("%v\n%s", err, out)
	}
}

// The i386 ABI, called from a 32 bit program and from a 64 bit one. The latter
// leaves something in the halves of the registers that i386 does not have.
func TestKernelI386(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("not this machine")
	}
	file := filepath.Join(t.TempDir(), "int80")
	write := func(image []byte) {
		t.Helper()
		if err := os.WriteFile(file, image, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(program32(20)) // getpid
	if err := exec.Command(file).Run(); err != nil {
		if errors.Is(err, unix.ENOEXEC) {
			// Nothing that could be installed helps: the kernel was built without
			// the ABI, or the hypervisor has none. There is nothing to filter.
			t.Skip("this machine cannot execute 32 bit code at all")
		}
		if exit, ok := err.(*exec.ExitError); !ok || !exit.Exited() {
			unavailable(t, "the kernel does not run i386 programs")
		}
	}
	i386 := &amd64ABIs[1]
	for _, test := range []struct {
		call string
		args [3]uint32
		want unix.Errno
	}{
		{"mount", [3]uint32{}, unix.EPERM},
		{"openat", [3]uint32{0xffffffff, 0, 0}, unix.EFAULT},
		{"ioctl", [3]uint32{0xffffffff, unix.TIOCSTI, 0}, unix.EPERM},
		{"ioctl", [3]uint32{0xffffffff, unix.TIOCGWINSZ, 0}, unix.EBADF},
		{"unshare", [3]uint32{unix.CLONE_NEWUSER | unix.CLONE_FS, 0, 0}, unix.EPERM},
		{"unshare", [3]uint32{unix.CLONE_FS, 0, 0}, 0},
		{"socket", [3]uint32{unix.AF_VSOCK, unix.SOCK_STREAM, 0}, unix.EAFNOSUPPORT},
		{"socket", [3]uint32{unix.AF_INET, 99, 0}, unix.EINVAL},
		{"socketcall", [3]uint32{1, 0, 0}, unix.ENOSYS},
		{"socketcall", [3]uint32{3, 0, 0}, unix.EFAULT}, // connect
		{"mknod", [3]uint32{0, unix.S_IFCHR, 0}, unix.EPERM},
		{"mknod", [3]uint32{0, unix.S_IFIFO, 0}, unix.EFAULT},
		{"clone3", [3]uint32{}, unix.ENOSYS},
		{"personality", [3]uint32{0xffffffff, 0, 0}, 0},
	} {
		nr, found := number(i386, test.call)
		if !found {
			t.Fatalf("no call %q", test.call)
		}
		for bits, image := range map[int][]byte{32: program32(nr, test.args[:]...), 64: program64(nr, test.args[:]...)} {
			write(image)
			cmd := runVictim(t, file)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
				t.Fatalf("%s(%#x): %v %s", test.call, test.args, err, out)
			}
			if got := unix.Errno(cmd.ProcessState.ExitCode()); got != test.want {
				t.Errorf("%s(%#x) from %d bits: %v, want %v %s", test.call, test.args, bits, got, test.want, out)
			}
		}
	}
}

const imageBase = 0x10000000

// program32 is an i386 executable that makes one call and exits with its errno.
func program32(nr uint32, args ...uint32) []byte {
	var code bytes.Buffer
	for i, arg := range args {
		code.WriteByte([]byte{0xbb, 0xb9, 0xba}[i]) // mov ebx, ecx, edx
		_ = binary.Write(&code, binary.LittleEndian, arg)
	}
	writeCall(&code, nr)
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, struct {
		ident                                [16]byte
		typ, machine                         uint16
		version, entry, phoff, shoff, flags  uint32
		ehsize, phentsize, phnum, shes, n, x uint16
		// The only program header.
		ptype, offset, vaddr, paddr, filesz, memsz, pflags, align uint32
	}{
		ident: [16]byte{0x7f, 'E', 'L', 'F', 1, 1, 1}, typ: 2, machine: 3, version: 1, entry: imageBase + 84, phoff: 52,
		ehsize: 52, phentsize: 32, phnum: 1,
		ptype: 1, vaddr: imageBase, paddr: imageBase, filesz: 84 + uint32(code.Len()), memsz: 84 + uint32(code.Len()), pflags: 5, align: 0x1000,
	})
	return append(b.Bytes(), code.Bytes()...)
}

// program64 is an x86_64 executable that does the same, through int 0x80.
func program64(nr uint32, args ...uint32) []byte {
	var code bytes.Buffer
	for i, arg := range args {
		code.Write([]byte{0x48, []byte{0xbb, 0xb9, 0xba}[i]}) // mov rbx, rcx, rdx
		_ = binary.Write(&code, binary.LittleEndian, 0xabcdef12<<32|uint64(arg))
	}
	writeCall(&code, nr)
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, struct {
		ident                                [16]byte
		typ, machine                         uint16
		version                              uint32
		entry, phoff, shoff                  uint64
		flags                                uint32
		ehsize, phentsize, phnum, shes, n, x uint16
		// The only program header.
		ptype, pflags                               uint32
		offset, vaddr, paddr, filesz, memsz, palign uint64
	}{
		ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, typ: 2, machine: 62, version: 1, entry: imageBase + 120, phoff: 64,
		ehsize: 64, phentsize: 56, phnum: 1,
		ptype: 1, pflags: 5, vaddr: imageBase, paddr: imageBase, filesz: 120 + uint64(code.Len()), memsz: 120 + uint64(code.Len()), palign: 0x1000,
	})
	return append(b.Bytes(), code.Bytes()...)
}

func writeCall(code *bytes.Buffer, nr uint32) {
	code.WriteByte(0xb8) // mov eax, nr
	_ = binary.Write(code, binary.LittleEndian, nr)
	code.Write([]byte{
		0xcd, 0x80, // int 0x80
		0xf7, 0xd8, // neg eax
		0x89, 0xc3, // mov ebx, eax
		0xb8, 1, 0, 0, 0, // mov eax, exit
		0xcd, 0x80,
	})
}
