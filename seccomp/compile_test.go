package seccomp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var machines = []Arch{AMD64, ARM64}

// source makes profiles and calls out of numbers, random or a fuzzer's.
type source func(n int) int

func (pick source) action() Action {
	return [...]Action{Allow, KillProcess, KillThread, Trap, Log, Errno(unix.EPERM), Errno(unix.ENOSYS), Errno(unix.Errno(pick(4096)))}[pick(8)]
}

// values are few, so that conditions are met and differ in one half only.
func (pick source) value() uint64 {
	words := [...]uint64{0, 1, 2, 0x5412, 0x80000000, math.MaxUint32}
	return words[pick(len(words))] | words[pick(len(words))]<<32*uint64(pick(2))
}

func (pick source) profile(rules, calls int) Profile {
	p := Profile{Default: pick.action()}
	for range rules {
		r := Rule{Action: pick.action()}
		for range 1 + pick(calls) {
			r.Calls = append(r.Calls, callNames[pick(callCount)])
		}
		for range pick(4) {
			a := Arg{Index: uint8(pick(6)), Op: Op(pick(3)), Low32: pick(2) == 0, Value: pick.value()}
			if a.Op == MaskedEqual {
				a.Mask = pick.value()
				a.Value &= a.Mask
			}
			if a.Low32 {
				a.Value &= math.MaxUint32
				a.Mask &= math.MaxUint32
			}
			r.Args = append(r.Args, a)
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}

func (pick source) data(arch, nr uint32) data {
	d := data{nr: nr, arch: arch, ip: pick.value()}
	for i := range d.args {
		d.args[i] = pick.value()
	}
	return d
}

func compare(t testing.TB, p Profile, machine Arch, program Program, d data) {
	t.Helper()
	got, _, err := interpret(program, d)
	if err != nil {
		t.Fatal(err)
	}
	if want := evaluate(p, machine, d); got != want {
		t.Fatalf("%s, number %d of %#x, arguments %#x: %s, want %s\n%+v\n%s", machine, d.nr, d.arch, d.args, got, want, p, program)
	}
}

var edges = []uint32{600, 1023, 0xf0000, 0xf0001, 0xf0002, 0xf0006, 0xf0007, x32Bit - 1, x32Bit, x32Bit + 16, x32Bit + 520, 1<<31 - 1, 1 << 31, math.MaxUint32}

func TestCompileEqualsProfile(t *testing.T) {
	pick := source(rand.New(rand.NewPCG(1, 2)).IntN)
	for round := range 60 {
		p := pick.profile(1+pick(30), 1+pick(40))
		for _, machine := range machines {
			program, err := p.Compile(machine)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			verify(t, program)
			for _, a := range machine.abis() {
				for nr := range uint32(600) {
					compare(t, p, machine, program, pick.data(a.audit, nr))
				}
				for _, nr := range edges {
					compare(t, p, machine, program, pick.data(a.audit, nr))
				}
			}
			compare(t, p, machine, program, pick.data(0xdeadbeef, 0))
		}
	}
}

func FuzzCompileEqualsProfile(f *testing.F) {
	f.Add([]byte("\x03\x02\x01 some bytes to make a profile from"), uint32(16), uint64(0xffffffff00005412))
	f.Fuzz(func(t *testing.T, text []byte, nr uint32, arg uint64) {
		pick := source(func(n int) int {
			v := 0
			for k := 1; k < n && len(text) > 0; k *= 256 {
				v = v<<8 | int(text[0])
				text = text[1:]
			}
			return v % n
		})
		p := pick.profile(pick(12), 8)
		for _, machine := range machines {
			program, err := p.Compile(machine)
			if err != nil {
				t.Fatal(err)
			}
			verify(t, program)
			for _, a := range machine.abis() {
				d := pick.data(a.audit, nr)
				d.args[pick(6)] = arg
				compare(t, p, machine, program, d)
				for _, r := range p.Rules {
					for _, c := range a.calls {
						if callNames[c.call] == r.Calls[0] {
							d.nr = c.nr
							compare(t, p, machine, program, d)
						}
					}
				}
			}
		}
	})
}

// wide is a profile whose every call has code of its own, so that jumps of more
// than 255 instructions are everywhere.
func wide(args int) Profile {
	p := Profile{Default: Errno(unix.ENOSYS)}
	for i, name := range callNames {
		r := Rule{Calls: []string{name}, Action: Errno(unix.Errno(i % 7))}
		for k := range args {
			r.Args = append(r.Args, Arg{Index: uint8(k), Value: uint64(i)<<32 | uint64(k)})
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}

func TestLongJumps(t *testing.T) {
	p := wide(1)
	for _, machine := range machines {
		program, err := p.Compile(machine)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, program)
		long := 0
		for _, in := range program {
			if in.Code == unix.BPF_JMP|unix.BPF_JA && in.K > 255 {
				long++
			}
		}
		if long < 2 {
			t.Errorf("%s: %d instructions with %d long jumps do not test them", machine, len(program), long)
		}
		for _, a := range machine.abis() {
			for _, c := range a.calls {
				for _, value := range []uint64{uint64(c.call) << 32, uint64(c.call), 0, 1 << 40} {
					d := data{nr: c.nr, arch: a.audit}
					d.args[0] = value
					compare(t, p, machine, program, d)
				}
			}
		}
	}
}

func TestTooLong(t *testing.T) {
	_, err := wide(3).Compile(AMD64)
	if err == nil || !strings.Contains(err.Error(), "more than the kernel's 4096") {
		t.Errorf("got %v", err)
	}
}

func TestCompileReportsAllMistakes(t *testing.T) {
	p := Profile{Default: Action(unix.SECCOMP_RET_USER_NOTIF), Rules: []Rule{
		{Calls: []string{"opnat", "read", "raed"}, Action: Allow},
		{Calls: []string{"read"}, Action: Errno(4096)},
		{Calls: []string{"read"}, Action: Allow, Args: []Arg{{Index: 6}}},
		{Calls: []string{"read"}, Action: Allow, Args: []Arg{{Op: 3}}},
		{Calls: []string{"read"}, Action: Allow, Args: []Arg{{Op: Equal, Mask: 1}}},
		{Calls: []string{"read"}, Action: Allow, Args: []Arg{{Op: MaskedEqual, Mask: 1, Value: 2}}},
		{Calls: []string{"read"}, Action: Allow, Args: []Arg{{Low32: true, Value: 1 << 32}}},
		{Calls: []string{"read"}, Action: Allow, Args: []Arg{{Low32: true, Op: MaskedEqual, Mask: 1 << 32}}},
	}}
	_, err := p.Compile(AMD64)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"default: unknown action 0x7fc00000", `rule 0: unknown system call "opnat"`, `rule 0: unknown system call "raed"`,
		"rule 1: unknown action", "rule 2: arg6", "rule 3: arg0 Op(3) 0x0: unknown comparison", "rule 4: arg0 == 0x0: a mask needs MaskedEqual",
		"rule 5: arg0 & 0x1 == 0x2: the value has bits", "rule 6: arg0 low32 == 0x100000000: the value has bits", "rule 7: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not report %q", err, want)
		}
	}
	if _, err := (Profile{}).Compile(0); err == nil {
		t.Error("no error for no machine")
	}
}

func TestZeroProfileKills(t *testing.T) {
	program, err := Profile{}.Compile(AMD64)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := interpret(program, data{arch: unix.AUDIT_ARCH_X86_64}); got != KillThread || err != nil {
		t.Errorf("%s, %v", got, err)
	}
}

func TestLookup(t *testing.T) {
	for i, name := range callNames {
		if got, found := lookup(name); !found || int(got) != i {
			t.Errorf("lookup(%q) = %d, %v, want %d", name, got, found, i)
		}
	}
	for _, name := range []string{"", "reed", "READ", "syscall_mask"} {
		if _, found := lookup(name); found {
			t.Errorf("lookup(%q) found", name)
		}
	}
}

// Compile and callName rest on the order of the tables.
func TestTables(t *testing.T) {
	for _, machine := range machines {
		for _, a := range machine.abis() {
			for i, c := range a.calls {
				if i > 0 && c.nr <= a.calls[i-1].nr {
					t.Errorf("%s: %d after %d", a.name, c.nr, a.calls[i-1].nr)
				}
			}
			for _, s := range a.foreign {
				if last := a.calls[len(a.calls)-1].nr; last >= s.first {
					t.Errorf("%s: number %d is foreign", a.name, last)
				}
			}
		}
	}
	for _, test := range []struct {
		a    abi
		nr   uint32
		name string
	}{
		{amd64ABIs[0], 59, "execve"}, {amd64ABIs[0], 317, "seccomp"}, {amd64ABIs[1], 102, "socketcall"}, {amd64ABIs[1], 11, "execve"},
		{amd64ABIs[1], 120, "clone"}, {arm64ABIs[0], 221, "execve"}, {arm64ABIs[0], 220, "clone"}, {arm64ABIs[1], 281, "socket"},
		{arm64ABIs[1], 0xf0005, "set_tls"}, {amd64ABIs[0], 469, "file_setattr"}, {arm64ABIs[1], 469, "file_setattr"},
	} {
		if name, _ := test.a.callName(test.nr); name != test.name {
			t.Errorf("%s: %d is %s, want %s", test.a.name, test.nr, name, test.name)
		}
	}
}

func TestString(t *testing.T) {
	p := Profile{Default: Errno(unix.ENOSYS), Rules: []Rule{
		{Calls: []string{"ioctl"}, Args: []Arg{{Index: 1, Low32: true, Value: unix.TIOCSTI}}, Action: Errno(unix.EPERM)},
		{Calls: []string{"ioctl"}, Args: []Arg{{Index: 1, Op: MaskedEqual, Mask: 0xff, Value: 1}}, Action: KillProcess},
		{Calls: []string{"ioctl", "pread64"}, Action: Allow},
	}}
	program, err := p.Compile(AMD64)
	if err != nil {
		t.Fatal(err)
	}
	text := program.String()
	for _, want := range []string{
		"   0  ld arch\n", "arch == x86_64\n", "arch == i386\n", "nr >= ioctl\n", "nr >= pwrite64\n",
		"arg1 == 0x5412\n", "and 0xff\n", "arg1 & 0xff == 0x1\n", "ret errno EPERM\n", "ret kill process\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if got := strings.Count(text, "\n"); got != len(program) {
		t.Errorf("%d lines for %d instructions", got, len(program))
	}
	// Text for anything: the kernel's own programs have more instructions.
	_ = Program{{Code: 0xffff, K: 1, Jt: 255}, {Code: loadWord, K: 8}, {Code: unix.BPF_JMP | unix.BPF_JA, K: math.MaxUint32}}.String()
	for action, want := range map[Action]string{0: "kill thread", Trap: "trap", Log: "log", Errno(4095): "errno 4095", 5: "Action(0x5)"} {
		if got := fmt.Sprint(action); got != want {
			t.Errorf("%#x: %q, want %q", uint32(action), got, want)
		}
	}
}
