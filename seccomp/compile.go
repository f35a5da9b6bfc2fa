package seccomp

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// The words of the data that a filter sees:
//
//	struct seccomp_data {
//		int nr;                      // offset 0
//		__u32 arch;                  // offset 4: AUDIT_ARCH_*
//		__u64 instruction_pointer;   // offset 8
//		__u64 args[6];               // offset 16
//	};
//
// All machines known here are little endian: the low half of an argument is first.
const (
	offsetNr   = 0
	offsetArch = 4
	offsetArgs = 16
)

// Compile translates the profile for all ABIs of a machine. Calls from any ABI
// that the machine should not have kill the process, and x32 calls fail with
// ENOSYS.
//
// The error lists all mistakes of the profile: unknown names, actions and
// comparisons, conditions that cannot be met as written; or the program has more
// than the kernel's 4096 instructions (BPF_MAXINSNS).
//
// Compile is pure. It runs at the start of every sandbox, and takes some tens of
// microseconds for Default.
func (p Profile) Compile(a Arch) (Program, error) {
	abis := a.abis()
	if abis == nil {
		return nil, fmt.Errorf("cannot compile a seccomp profile for %s: not a machine known here", a)
	}
	var verdicts [callCount]verdict
	links, err := p.resolve(&verdicts)
	if err != nil {
		return nil, fmt.Errorf("cannot compile the seccomp profile: %w", err)
	}

	as := assembler{out: make([]unix.SockFilter, 0, 512), returns: make([]returned, 0, 16)}
	as.action(KillProcess) // any other arch
	entries := make([]label, len(abis))
	// Written back to front, so that the first ABI is next to the test for it.
	for i := len(abis) - 1; i >= 0; i-- {
		g := generator{assembler: &as, profile: p, abi: &abis[i], links: links, chains: make([]placed, 0, 16)}
		entries[i] = g.table(abis[i].segments(&verdicts, verdict{action: p.Default}))
	}
	next := as.action(KillProcess)
	for i := len(abis) - 1; i >= 0; i-- {
		next = as.branch(unix.BPF_JEQ, abis[i].audit, entries[i], next)
	}
	as.load(offsetArch)

	program := as.program()
	if len(program) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("cannot compile the seccomp profile: %d instructions are more than the kernel's %d",
			len(program), unix.BPF_MAXINSNS)
	}
	return program, nil
}

// verdict is what happens to one call: an action, or a chain of rules that look
// at arguments. Calls with equal verdicts share their code.
type verdict struct {
	action Action
	chain  int // index+1 into the links of the first rule, or 0: the action holds
}

// link is a rule in the chain of a call.
type link struct {
	rule int
	next int // index+1
}

// resolve sorts the rules by call. It keeps their order, drops the ones that a
// rule without conditions stands before, and gives calls without any the default.
func (p Profile) resolve(verdicts *[callCount]verdict) ([]link, error) {
	var problems []error
	if err := p.check(); err != nil {
		problems = append(problems, err)
	}
	for i := range verdicts {
		verdicts[i].action = p.Default
	}
	var (
		links  = make([]link, 0, 64)
		last   [callCount]int // index+1 of the last link of a call
		closed [callCount]bool
	)
	for i, r := range p.Rules {
		for _, name := range r.Calls {
			c, found := lookup(name)
			if !found {
				problems = append(problems, fmt.Errorf("rule %d: unknown system call %q", i, name))
				continue
			}
			if closed[c] || last[c] > 0 && links[last[c]-1].rule == i {
				continue
			}
			closed[c] = len(r.Args) == 0
			if closed[c] && last[c] == 0 {
				verdicts[c].action = r.Action
				continue
			}
			links = append(links, link{rule: i})
			if last[c] == 0 {
				verdicts[c].chain = len(links)
			} else {
				links[last[c]-1].next = len(links)
			}
			last[c] = len(links)
		}
	}
	if problems != nil {
		return nil, errors.Join(problems...)
	}
	share(verdicts, links)
	return links, nil
}

// share gives calls whose chains have the same rules the same chain.
func share(verdicts *[callCount]verdict, links []link) {
	equal := func(a, b int) bool {
		for a != 0 && b != 0 && links[a-1].rule == links[b-1].rule {
			a, b = links[a-1].next, links[b-1].next
		}
		return a == 0 && b == 0
	}
	distinct := make([]int, 0, 16)
	for i := range verdicts {
		chain := verdicts[i].chain
		if chain == 0 {
			continue
		}
		verdicts[i].action = 0 // lies in the chain, and must not make a difference
		k := slices.IndexFunc(distinct, func(c int) bool { return equal(c, chain) })
		if k < 0 {
			distinct = append(distinct, chain)
		} else {
			verdicts[i].chain = distinct[k]
		}
	}
}

// segment is a range of numbers with the same verdict. It ends where the next starts.
type segment struct {
	first   uint32
	verdict verdict
}

// segments covers all numbers from 0 to the highest, in as few ranges as possible.
func (a *abi) segments(verdicts *[callCount]verdict, unknown verdict) []segment {
	list := make([]segment, 0, 256)
	next := uint32(0) // first number not covered yet
	cover := func(s span, v verdict) {
		if s.first > next && (len(list) == 0 || list[len(list)-1].verdict != unknown) {
			list = append(list, segment{next, unknown})
		}
		if len(list) == 0 || list[len(list)-1].verdict != v {
			list = append(list, segment{s.first, v})
		}
		next = s.last + 1
	}
	for _, c := range a.calls {
		cover(span{c.nr, c.nr}, verdicts[c.call])
	}
	for _, s := range a.foreign {
		cover(s, verdict{action: foreignAction})
	}
	if next != 0 { // otherwise the last span reached the highest number
		cover(span{next, math.MaxUint32}, unknown)
	}
	return list
}

// generator writes the code of one ABI.
type generator struct {
	*assembler
	profile Profile
	abi     *abi
	links   []link
	chains  []placed // chains already written
}

// placed says where the code of a chain is.
type placed struct {
	chain int
	at    label
}

// table writes the search for the number and all that it leads to.
func (g *generator) table(segments []segment) label {
	g.falls(g.search(segments)) // a table of one segment may end elsewhere
	return g.load(offsetNr)
}

// search writes a balanced tree of comparisons: some seven for a call, and none
// favoured. Since 5.11 the kernel runs the program once per number beforehand
// and skips it for calls that are allowed whatever their arguments
// (kernel/seccomp.c:seccomp_cache_prepare), so a list of favourites pays little.
func (g *generator) search(segments []segment) label {
	if len(segments) == 1 {
		return g.verdict(segments[0].verdict)
	}
	middle := len(segments) / 2
	above := g.search(segments[middle:])
	below := g.search(segments[:middle])
	return g.branch(unix.BPF_JGE, segments[middle].first, above, below)
}

func (g *generator) verdict(v verdict) label {
	if v.chain == 0 {
		return g.action(v.action)
	}
	for _, c := range g.chains {
		if c.chain == v.chain {
			return c.at
		}
	}
	at := g.chain(v.chain)
	g.chains = append(g.chains, placed{v.chain, at})
	return at
}

// chain writes the rules from this link on.
func (g *generator) chain(from int) label {
	if from == 0 {
		return g.action(g.profile.Default)
	}
	r := g.profile.Rules[g.links[from-1].rule]
	if len(r.Args) == 0 {
		return g.action(r.Action)
	}
	no := g.chain(g.links[from-1].next)
	met := g.action(r.Action)
	for _, a := range slices.Backward(r.Args) {
		met = g.test(a, met, no)
	}
	return met
}

// test writes one condition.
func (g *generator) test(a Arg, yes, no label) label {
	mask := uint64(math.MaxUint64)
	switch a.Op {
	case MaskedEqual:
		mask = a.Mask
	case NotEqual:
		yes, no = no, yes
	}
	if a.Low32 {
		mask &= math.MaxUint32
	}
	if !g.abi.wide {
		// The high half of an argument that has none is zero.
		if a.Value > math.MaxUint32 {
			return no
		}
		mask &= math.MaxUint32
	}
	offset := offsetArgs + 8*uint32(a.Index)
	entry := g.word(offset, uint32(mask), uint32(a.Value), yes, no)
	return g.word(offset+4, uint32(mask>>32), uint32(a.Value>>32), entry, no)
}

// word writes the comparison of 32 bits of an argument.
func (g *generator) word(offset, mask, value uint32, yes, no label) label {
	switch {
	case mask == 0 || yes == no:
		return yes
	case mask == math.MaxUint32:
		g.branch(unix.BPF_JEQ, value, g.loaded(yes, offset), g.loaded(no, offset))
	case value == 0:
		g.branch(unix.BPF_JSET, mask, g.loaded(no, offset), g.loaded(yes, offset))
	default:
		g.branch(unix.BPF_JEQ, value, yes, no)
		g.and(mask)
	}
	return g.load(offset)
}
