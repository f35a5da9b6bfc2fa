package seccomp

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

//go:generate go run mksyscalls.go
//go:generate go run mkdefault.go
//go:generate go run mkdefault.go

// Arch is a kind of machine. A machine runs programs of more than one ABI, each
// with its own numbers for the system calls; a Program handles all of them.
type Arch uint8

// The machines that have tables.
const (
	AMD64 Arch = iota + 1 // x86_64 and i386; x32 is refused
	ARM64                 // aarch64 and 32 bit ARM (EABI)
)

// Native returns the machine that this program runs on, or an error where this
// package has no tables for it: then no filter can be made.
func Native() (Arch, error) { return ParseArch(runtime.GOARCH) }

// ParseArch returns the machine for a name as in GOARCH. 386 and arm are names
// for AMD64 and ARM64: the machine decides, not the program that asks, and a
// 64 bit kernel would run 64 bit programs under the same filter.
func ParseArch(goarch string) (Arch, error) {
	switch goarch {
	case "amd64", "386":
		return AMD64, nil
	case "arm64", "arm":
		return ARM64, nil
	}
	return 0, fmt.Errorf("cannot filter system calls on %q: its system calls are not known here", goarch)
}

func (a Arch) String() string {
	switch a {
	case AMD64:
		return "amd64"
	case ARM64:
		return "arm64"
	}
	return fmt.Sprintf("Arch(%d)", uint8(a))
}

// numbered says which number a call has in one ABI.
type numbered struct {
	nr   uint32
	call uint16 // index into callNames
}

// span is a range of system call numbers, both ends included.
type span struct{ first, last uint32 }

// abi is one of the system call tables of a machine.
type abi struct {
	name  string
	audit uint32 // seccomp_data.arch
	// wide: arguments have 64 bits. In the others the kernel takes the low 32
	// bits, but a filter sees the whole register: 64 bit code that uses
	// int 0x80 puts what it likes into the high half (tried on 6.18).
	wide  bool
	calls []numbered
	// foreign numbers are above the table and reach calls of another ABI.
	foreign []span
}

// foreignAction answers foreign numbers, whatever the profile says. ENOSYS is
// what a kernel without the x32 ABI says, which is most of them, so that probes
// for it end well; killing would end the configure script that asks.
const foreignAction = Action(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))

// The ABI most in use stands first: it is tested first.
var (
	amd64ABIs = []abi{
		{
			name: "x86_64", audit: unix.AUDIT_ARCH_X86_64, wide: true, calls: x8664Calls,
			// x32 has the same seccomp_data.arch and sets bit 30 of the number.
			// Its own numbers, 512 to 547, work without the bit in kernels
			// before 5.4: seccomp(2).
			foreign: []span{{512, 547}, {x32Bit, math.MaxUint32}},
		},
		{name: "i386", audit: unix.AUDIT_ARCH_I386, calls: i386Calls},
	}
	arm64ABIs = []abi{
		{name: "aarch64", audit: unix.AUDIT_ARCH_AARCH64, wide: true, calls: aarch64Calls},
		{name: "arm", audit: unix.AUDIT_ARCH_ARM, calls: armCalls},
	}
)

const x32Bit = 0x40000000 // __X32_SYSCALL_BIT

func (a Arch) abis() []abi {
	switch a {
	case AMD64:
		return amd64ABIs
	case ARM64:
		return arm64ABIs
	}
	return nil
}

// callName returns the name of the call with this number.
func (a *abi) callName(nr uint32) (string, bool) {
	i, found := slices.BinarySearchFunc(a.calls, nr, func(n numbered, nr uint32) int { return cmp.Compare(n.nr, nr) })
	if !found {
		return "", false
	}
	return callNames[a.calls[i].call], true
}

// lookup finds the call of that name, in whichever ABI. A hash table in the data
// segment: a map would be built at each start of the program, and a binary
// search is most of the cost of Compile.
func lookup(name string) (call uint16, found bool) {
	h := uint32(2166136261) // FNV-1a, as in mksyscalls.go
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	for {
		h %= uint32(len(callIndex))
		i := callIndex[h]
		if i == 0 {
			return 0, false
		}
		if callNames[i-1] == name {
			return i - 1, true
		}
		h++
	}
}
