package seccomp

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Profile says what happens to system calls. The rules are read in order and the
// first that applies decides; Default answers calls that no rule applies to,
// which includes numbers that have no name here. The zero Profile kills whatever
// makes a call.
type Profile struct {
	Default Action
	Rules   []Rule
}

// Rule applies to a call that is one of Calls and meets all of Args.
type Rule struct {
	// Calls are names as in the kernel's tables: "openat", "_llseek". A name
	// that an ABI does not have is left out there; one that no ABI has is an
	// error of Compile.
	Calls  []string
	Args   []Arg
	Action Action
}

// Arg is a condition on one argument.
//
// The kernel ignores the high half of arguments that are declared as int,
// unsigned int or mode_t, and the caller may leave anything there. Such a
// condition must set Low32, or a rule that refuses a value is evaded by setting
// a high bit, as TIOCSTI was in CVE-2019-10063. ABIs with 32 bit arguments are
// compared on 32 bits in any case.
type Arg struct {
	Index uint8 // 0 to 5
	Op    Op
	Low32 bool   // compare the low 32 bits only
	Mask  uint64 // for MaskedEqual
	Value uint64
}

// Op is a comparison.
type Op uint8

// The comparisons. They are the ones that seccomp_rule_add(3) calls
// SCMP_CMP_EQ, SCMP_CMP_NE and SCMP_CMP_MASKED_EQ.
const (
	Equal       Op = iota // argument == Value
	NotEqual              // argument != Value
	MaskedEqual           // argument & Mask == Value
)

func (o Op) String() string {
	switch o {
	case Equal, MaskedEqual:
		return "=="
	case NotEqual:
		return "!="
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}

func (a Arg) String() string {
	width, mask := "", ""
	if a.Low32 {
		width = " low32"
	}
	if a.Op == MaskedEqual {
		mask = fmt.Sprintf(" & %#x", a.Mask)
	}
	return fmt.Sprintf("arg%d%s%s %s %#x", a.Index, width, mask, a.Op, a.Value)
}

// Action is what the kernel does with a call: the value a filter returns, see
// "SECCOMP_RET_" in seccomp(2). The zero Action kills.
type Action uint32

// The actions that need no second process. Those that do, SECCOMP_RET_TRACE and
// SECCOMP_RET_USER_NOTIF, are refused by Compile: without their process they
// would turn into ENOSYS, and to decide on arguments in memory is unsound.
const (
	KillThread  Action = unix.SECCOMP_RET_KILL_THREAD  // the thread dies as by SIGSYS
	KillProcess Action = unix.SECCOMP_RET_KILL_PROCESS // the process dies as by SIGSYS
	Trap        Action = unix.SECCOMP_RET_TRAP         // SIGSYS, which can be caught
	Log         Action = unix.SECCOMP_RET_LOG          // the call runs and is logged
	Allow       Action = unix.SECCOMP_RET_ALLOW        // the call runs
)

// Errno is the action of not running the call and failing with errno instead.
// The kernel takes numbers up to 4095; Errno(0) pretends success.
func Errno(errno unix.Errno) Action {
	return Action(unix.SECCOMP_RET_ERRNO | uint32(errno)&unix.SECCOMP_RET_DATA)
}

func (a Action) String() string {
	switch a {
	case KillThread:
		return "kill thread"
	case KillProcess:
		return "kill process"
	case Trap:
		return "trap"
	case Log:
		return "log"
	case Allow:
		return "allow"
	}
	if errno, ok := a.errno(); ok {
		if name := unix.ErrnoName(errno); name != "" {
			return "errno " + name
		}
		return fmt.Sprintf("errno %d", uint32(errno))
	}
	return fmt.Sprintf("Action(%#x)", uint32(a))
}

func (a Action) errno() (unix.Errno, bool) {
	errno := unix.Errno(a & unix.SECCOMP_RET_DATA)
	return errno, a&^unix.SECCOMP_RET_DATA == unix.SECCOMP_RET_ERRNO
}

func (a Action) check() error {
	switch a {
	case KillThread, KillProcess, Trap, Log, Allow:
		return nil
	}
	const maxErrno = 4095 // MAX_ERRNO: the kernel would silently take this instead
	if errno, ok := a.errno(); ok && errno <= maxErrno {
		return nil
	}
	return fmt.Errorf("unknown action %#x", uint32(a))
}

func (a Arg) check() error {
	if a.Index > 5 {
		return fmt.Errorf("%s: system calls have arguments 0 to 5", a)
	}
	significant := uint64(math.MaxUint64)
	switch a.Op {
	case Equal, NotEqual:
		if a.Mask != 0 {
			return fmt.Errorf("%s: a mask needs MaskedEqual", a)
		}
	case MaskedEqual:
		significant = a.Mask
	default:
		return fmt.Errorf("%s: unknown comparison", a)
	}
	if a.Low32 {
		if a.Mask > math.MaxUint32 {
			return fmt.Errorf("%s: the mask has more than 32 bits", a)
		}
		significant &= math.MaxUint32
	}
	if a.Value&^significant != 0 {
		return fmt.Errorf("%s: the value has bits that are not compared", a)
	}
	return nil
}

// check reports all mistakes but unknown names, which Compile finds on its way.
func (p Profile) check() error {
	var problems []error
	if err := p.Default.check(); err != nil {
		problems = append(problems, fmt.Errorf("default: %w", err))
	}
	for i, r := range p.Rules {
		if err := r.Action.check(); err != nil {
			problems = append(problems, fmt.Errorf("rule %d: %w", i, err))
		}
		for _, a := range r.Args {
			if err := a.check(); err != nil {
				problems = append(problems, fmt.Errorf("rule %d: %w", i, err))
			}
		}
	}
	return errors.Join(problems...)
}
