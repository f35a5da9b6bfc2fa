package child

import (
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// CloneError is a clone(2) that failed: no sandbox was made.
type CloneError struct{ Errno syscall.Errno }

func (e *CloneError) Error() string {
	cause := e.Errno.Error()
	switch e.Errno {
	case unix.ENOSPC:
		cause = "the limit on user namespaces, or on those of another kind, is reached (namespaces(7), /proc/sys/user)"
	case unix.EPERM:
		cause += " (this system does not let you make user namespaces here)"
	}
	return "cannot create the sandbox's namespaces: clone(2): " + cause
}

func (e *CloneError) Unwrap() error { return e.Errno }

// StepError is a step that failed. Nothing of the command has run.
type StepError struct {
	Step plan.Step
	// Call is the system call, as in section 2 of the manual.
	Call  string
	Errno syscall.Errno
}

func (e *StepError) Error() string {
	cause := "an unexpected result"
	if e.Errno != 0 {
		cause = e.Errno.Error()
	}
	if m := meaning(e.Step, e.Call, e.Errno); m != "" {
		cause += " (" + m + ")"
	}
	return fmt.Sprintf("cannot %s: %s(2): %s", task(e.Step), e.Call, cause)
}

func (e *StepError) Unwrap() error { return e.Errno }

// ExecError is a command that could not be executed.
type ExecError struct {
	Command string
	Errno   syscall.Errno
}

func (e *ExecError) Error() string {
	cause := e.Errno.Error()
	switch e.Errno {
	case unix.ENOENT:
		cause = "command not found in the sandbox"
	case unix.EACCES:
		cause = "it is not executable"
	case unix.E2BIG:
		cause = "the arguments and the environment are too long together (see execve(2), \"Limits\")"
	}
	return fmt.Sprintf("cannot run %q: %s", e.Command, cause)
}

func (e *ExecError) Unwrap() error { return e.Errno }

// fault turns a record back into the step.
func (p *Process) fault(r record) error {
	errno := syscall.Errno(r.errno)
	if r.kind == recordExec {
		return &ExecError{Command: p.plan.Exec.Args[0], Errno: errno}
	}
	i := int(r.index)
	ops := slices.Concat(p.table.first, p.table.outside, p.table.setup, []op{{nr: unix.SYS_CLONE}}, p.table.command)
	if i >= len(ops) {
		return fmt.Errorf("internal error: the sandbox reports a failure of call %d, which does not exist", i)
	}
	e := &StepError{Step: starting{}, Call: callName(uintptr(ops[i].nr)), Errno: errno}
	if e.Errno == 0 {
		e.Errno = p.refused(ops[i])
	}
	steps := p.plan.Steps
	if steps == nil {
		steps = p.launched
	}
	if i >= p.begin && i < len(ops)-1-len(p.table.command) && int(ops[i].step) < len(steps) {
		e.Step = steps[ops[i].step]
	}
	return e
}

// starting stands for what belongs to no step of the plan.
type starting struct{ plan.Private }

func (starting) String() string { return "start" }
