package seccomp

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Program is a filter as the kernel takes it: the array that sock_fprog points
// to, see seccomp(2).
type Program []unix.SockFilter

// String returns the program as text, one instruction to a line: its number, what
// it does with the numbers that it may continue at, and what that means.
//
//	12  jge 0x3e, 40, 13            nr >= kill
//
// A comparison jumps to the first number if it holds and to the second if not.
func (p Program) String() string {
	var b strings.Builder
	known := make([]knowledge, len(p))
	for i, in := range p {
		now := known[i]
		text, comment := now.describe(in, i)
		fmt.Fprintf(&b, "%4d  %s", i, text)
		if comment != "" {
			fmt.Fprintf(&b, "%*s%s", max(2, 28-len(text)), "", comment)
		}
		b.WriteByte('\n')
		now.flow(in, i, known)
	}
	return b.String()
}

// knowledge is what holds whenever an instruction is reached. Jumps only go
// forward, so one pass over the program finds it.
type knowledge struct {
	reached bool
	word    string // what the accumulator holds, "" if that depends
	abi     *abi   // whose numbers these are, nil if that depends
}

// and is called for each way to reach an instruction.
func (k *knowledge) and(other knowledge) {
	if !k.reached {
		*k = other
		k.reached = true
		return
	}
	if k.word != other.word {
		k.word = ""
	}
	if k.abi != other.abi {
		k.abi = nil
	}
}

// flow hands on what is known after instruction i to the ones it continues at.
func (k knowledge) flow(in unix.SockFilter, i int, known []knowledge) {
	to := func(at int, k knowledge) {
		if at < len(known) { // Program is a plain slice: it may hold anything
			known[at].and(k)
		}
	}
	switch in.Code {
	case loadWord:
		k.word = wordName(in.K)
		to(i+1, k)
	case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
		if k.word != "" {
			k.word = fmt.Sprintf("%s & %#x", k.word, in.K)
		}
		to(i+1, k)
	case unix.BPF_JMP | unix.BPF_JA:
		to(i+1+int(in.K), k)
	case unix.BPF_RET | unix.BPF_K:
	default:
		to(i+1+int(in.Jf), k)
		if in.Code == unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K && k.word == "arch" {
			k.abi = abiOf(in.K)
		}
		to(i+1+int(in.Jt), k)
	}
}

// describe returns an instruction in the notation of the kernel's
// tools/bpf/bpf_asm.c, but with names for words and actions.
func (k knowledge) describe(in unix.SockFilter, i int) (text, comment string) {
	jump := func(name string) string {
		return fmt.Sprintf("%s %#x, %d, %d", name, in.K, i+1+int(in.Jt), i+1+int(in.Jf))
	}
	switch in.Code {
	case loadWord:
		return "ld " + wordName(in.K), ""
	case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
		return fmt.Sprintf("and %#x", in.K), ""
	case unix.BPF_JMP | unix.BPF_JA:
		return fmt.Sprintf("ja %d", i+1+int(in.K)), ""
	case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
		return jump("jeq"), k.compared("==", in.K)
	case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
		return jump("jge"), k.compared(">=", in.K)
	case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
		return jump("jgt"), k.compared(">", in.K)
	case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
		return jump("jset"), k.compared("&", in.K)
	case unix.BPF_RET | unix.BPF_K:
		return "ret " + Action(in.K).String(), ""
	}
	return fmt.Sprintf("code %#x, %#x, %d, %d", in.Code, in.K, i+1+int(in.Jt), i+1+int(in.Jf)), "not an instruction used here"
}

// compared says what a comparison asks, with names in place of numbers.
func (k knowledge) compared(op string, value uint32) string {
	if k.word == "" {
		return ""
	}
	name := fmt.Sprintf("%#x", value)
	switch {
	case k.word == "arch":
		if a := abiOf(value); a != nil {
			name = a.name
		}
	case k.word == "nr" && k.abi != nil:
		if call, found := k.abi.callName(value); found {
			name = call
		} else if k.abi == &amd64ABIs[0] && value == x32Bit {
			name = "x32"
		}
	}
	return k.word + " " + op + " " + name
}

func wordName(offset uint32) string {
	switch offset {
	case offsetNr:
		return "nr"
	case offsetArch:
		return "arch"
	}
	if offset < offsetArgs || offset >= offsetArgs+6*8 || offset%4 != 0 {
		return fmt.Sprintf("[%d]", offset)
	}
	half := ""
	if offset%8 != 0 {
		half = ".high"
	}
	return fmt.Sprintf("arg%d%s", (offset-offsetArgs)/8, half)
}

func abiOf(audit uint32) *abi {
	for _, machine := range [][]abi{amd64ABIs, arm64ABIs} {
		for i := range machine {
			if machine[i].audit == audit {
				return &machine[i]
			}
		}
	}
	return nil
}
