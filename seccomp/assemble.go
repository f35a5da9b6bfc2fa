package seccomp

import (
	"slices"

	"golang.org/x/sys/unix"
)

// assembler collects instructions back to front: classic BPF jumps only forward,
// so whatever an instruction jumps to has been written before it, and every
// offset is known when it is needed. Nothing is patched.
type assembler struct {
	out     []unix.SockFilter // the last instruction of the program is first
	returns []returned        // the latest return of each action
}

// label is the index in out of the instruction to jump to.
type label int

type returned struct {
	action Action
	at     label
}

const (
	loadWord = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	maxJump  = 255 // jt and jf have 8 bits
)

func (as *assembler) emit(code uint16, k uint32) label {
	as.out = append(as.out, unix.SockFilter{Code: code, K: k})
	return label(len(as.out) - 1)
}

func (as *assembler) load(offset uint32) label { return as.emit(loadWord, offset) }

func (as *assembler) and(mask uint32) label {
	return as.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, mask)
}

// skipped is the number of instructions between the one to be written next and l.
func (as *assembler) skipped(l label) int { return len(as.out) - int(l) - 1 }

// action returns a place that ends the program with this action: an earlier
// return where it is in reach, else another one.
func (as *assembler) action(a Action) label {
	i := slices.IndexFunc(as.returns, func(r returned) bool { return r.action == a })
	if i < 0 {
		i = len(as.returns)
		as.returns = append(as.returns, returned{action: a})
	} else if as.skipped(as.returns[i].at) < maxJump {
		return as.returns[i].at
	}
	as.returns[i].at = as.emit(unix.BPF_RET|unix.BPF_K, uint32(a))
	return as.returns[i].at
}

// branch writes a conditional jump.
func (as *assembler) branch(op uint16, k uint32, yes, no label) label {
	yes, no = as.reachable(yes), as.reachable(no)
	at := as.emit(unix.BPF_JMP|op|unix.BPF_K, k)
	// reachable() saw to it that both fit.
	as.out[at].Jt = uint8(at - yes - 1)
	as.out[at].Jf = uint8(at - no - 1)
	return at
}

// reachable returns a place equivalent to l that the next branch can jump to. It
// leaves room for one more instruction, which the other target may need.
func (as *assembler) reachable(l label) label {
	if as.skipped(l) < maxJump {
		return l
	}
	if in := as.out[l]; in.Code == unix.BPF_RET|unix.BPF_K {
		return as.action(Action(in.K))
	}
	return as.jump(l)
}

// jump writes an unconditional jump, whose offset has 32 bits.
func (as *assembler) jump(l label) label {
	return as.emit(unix.BPF_JMP|unix.BPF_JA, uint32(as.skipped(l)))
}

// loaded returns where to jump to instead of l when the accumulator already
// holds the word at offset: past the load of that word.
func (as *assembler) loaded(l label, offset uint32) label {
	if in := as.out[l]; in.Code == loadWord && in.K == offset {
		return l - 1
	}
	return l
}

// falls makes sure that the instruction to be written next continues at l.
func (as *assembler) falls(l label) {
	if as.skipped(l) != 0 {
		as.jump(l)
	}
}

func (as *assembler) program() Program {
	slices.Reverse(as.out)
	return prune(as.out)
}

// prune takes out what nothing leads to: mostly loads that all jumps pass over.
// Distances only shrink, so that those of 8 bits still fit.
func prune(p Program) Program {
	// place of each instruction in the result, plus one; 0 if nothing leads to it.
	place := make([]int, len(p))
	place[0] = 1
	kept := 0
	for i, in := range p {
		if place[i] == 0 {
			continue
		}
		kept++
		place[i] = kept
		switch in.Code {
		case unix.BPF_RET | unix.BPF_K:
		case unix.BPF_JMP | unix.BPF_JA:
			place[i+1+int(in.K)] = 1
		default: // jt and jf are 0 in what is no jump
			place[i+1+int(in.Jt)] = 1
			place[i+1+int(in.Jf)] = 1
		}
	}
	for i, in := range p {
		here := place[i]
		if here == 0 {
			continue
		}
		switch in.Code {
		case unix.BPF_RET | unix.BPF_K:
		case unix.BPF_JMP | unix.BPF_JA:
			in.K = uint32(place[i+1+int(in.K)] - here - 1)
		default:
			in.Jt = uint8(place[i+1+int(in.Jt)] - here - 1)
			in.Jf = uint8(place[i+1+int(in.Jf)] - here - 1)
		}
		p[here-1] = in // at or before i, which is no longer needed
	}
	return p[:kept]
}
