package seccomp

import (
	"fmt"
	"math"
	"testing"

	"golang.org/x/sys/unix"
)

// data is struct seccomp_data.
type data struct {
	nr   uint32
	arch uint32
	ip   uint64
	args [6]uint64
}

func (d data) word(offset uint32) (uint32, error) {
	switch {
	case offset%4 != 0 || offset >= 64:
		return 0, fmt.Errorf("load of [%d]", offset)
	case offset == 0:
		return d.nr, nil
	case offset == 4:
		return d.arch, nil
	}
	value := d.ip
	if offset >= 16 {
		value = d.args[(offset-16)/8]
	}
	if offset%8 == 4 {
		value >>= 32
	}
	return uint32(value), nil
}

// interpret runs a program as the kernel does and counts its instructions.
func interpret(p Program, d data) (action Action, steps int, err error) {
	var a uint32
	for pc := 0; ; {
		if pc >= len(p) {
			return 0, steps, fmt.Errorf("jump past the end, to %d of %d", pc, len(p))
		}
		in := p[pc]
		pc++
		steps++
		holds := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			if a, err = d.word(in.K); err != nil {
				return 0, steps, err
			}
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
			continue
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
			continue
		case unix.BPF_RET | unix.BPF_K:
			return Action(in.K), steps, nil
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			holds = a == in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			holds = a >= in.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			holds = a > in.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			holds = a&in.K != 0
		default:
			return 0, steps, fmt.Errorf("instruction %d: code %#x", pc-1, in.Code)
		}
		if holds {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
}

// verify checks what kernel/bpf/core.c:bpf_check_classic and
// kernel/seccomp.c:seccomp_check_filter check, and that no instruction is there
// that nothing leads to.
func verify(t testing.TB, p Program) {
	t.Helper()
	if len(p) == 0 || len(p) > 4096 {
		t.Fatalf("%d instructions", len(p))
	}
	if p[len(p)-1].Code != unix.BPF_RET|unix.BPF_K {
		t.Fatalf("the last instruction is no return:\n%s", p)
	}
	reached := make([]bool, len(p))
	reached[0] = true
	for i, in := range p {
		ways := []int{i + 1 + int(in.Jt), i + 1 + int(in.Jf)} // both 0 if no jump
		switch in.Code {
		case unix.BPF_RET | unix.BPF_K:
			ways = nil
		case unix.BPF_JMP | unix.BPF_JA:
			ways = []int{i + 1 + int(in.K)}
		}
		if !reached[i] {
			t.Fatalf("instruction %d is never reached:\n%s", i, p)
		}
		for _, to := range ways {
			if to >= len(p) {
				t.Fatalf("instruction %d jumps past the end:\n%s", i, p)
			}
			reached[to] = true
		}
	}
}

// evaluate decides on a call from the profile itself, as its documentation says.
func evaluate(p Profile, machine Arch, d data) Action {
	var table *abi
	for i := range machine.abis() {
		if a := &machine.abis()[i]; a.audit == d.arch {
			table = a
		}
	}
	if table == nil {
		return KillProcess
	}
	if table.name == "x86_64" && (d.nr >= 0x40000000 || d.nr >= 512 && d.nr <= 547) {
		return Errno(unix.ENOSYS)
	}
	name, _ := table.callName(d.nr)
	for _, r := range p.Rules {
		named := false
		for _, c := range r.Calls {
			named = named || c == name && name != ""
		}
		if named && meets(r.Args, table.wide, d) {
			return r.Action
		}
	}
	return p.Default
}

func meets(args []Arg, wide bool, d data) bool {
	for _, a := range args {
		value := d.args[a.Index]
		if a.Low32 || !wide {
			value &= math.MaxUint32
		}
		holds := false
		switch a.Op {
		case Equal:
			holds = value == a.Value
		case NotEqual:
			holds = value != a.Value
		case MaskedEqual:
			holds = value&a.Mask == a.Value
		}
		if !holds {
			return false
		}
	}
	return true
}
