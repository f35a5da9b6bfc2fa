package child

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// CloneError is a clone(2) that failed: no sandbox was made.
type CloneError struct{ Errno syscall.Errno }

func (e *CloneError) Error() string {
	return "cannot create the sandbox's namespaces: clone(2): " + e.Errno.Error()
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
func (g *Program) fault(r record) error {
	errno := syscall.Errno(r.errno)
	if r.kind == recordExec {
		return &ExecError{Command: g.plan.Exec.Args[0], Errno: errno}
	}
	i := int(r.index)
	switch {
	case i < len(g.setup):
		o := g.setup[i]
		e := &StepError{Step: starting{}, Call: callName(o.nr), Errno: errno}
		if i >= 4 && int(o.step) < len(g.plan.Steps) { // begin has four ops
			e.Step = g.plan.Steps[o.step]
		}
		return e
	case i == len(g.setup):
		return &StepError{Step: starting{}, Call: "clone", Errno: errno}
	case i-len(g.setup) < len(g.command):
		return &StepError{Step: starting{}, Call: callName(g.command[i-len(g.setup)].nr), Errno: errno}
	}
	return fmt.Errorf("internal error: the sandbox reports a failure of step %d, which does not exist", i)
}

// starting stands for what belongs to no step of the plan.
type starting struct{ plan.Private }

func (starting) String() string { return "start" }
