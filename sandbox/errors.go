package sandbox

import (
	"errors"
	osexec "os/exec"
	"syscall"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// The errors that a caller may want to tell apart.
type (
	// ExecError is a command that could not be executed.
	ExecError = child.ExecError
	// StepError is a step of the plan that failed.
	StepError = child.StepError
	// CloneError is a sandbox that could not be made at all.
	CloneError = child.CloneError
	// RuleError is a rule that cannot be meant.
	RuleError = policy.RuleError
)

// DirError is a working directory that the sandbox does not have.
type DirError struct {
	Err *StepError
	Fix string
}

func (e *DirError) Error() string { return e.Err.Error() }
func (e *DirError) Unwrap() error { return e.Err }

// Hint is a command line that helps.
func (e *DirError) Hint() string { return e.Fix }

// withoutDir makes an error a DirError if it is of the working directory.
func withoutDir(err error, fix string) error {
	var step *StepError
	if errors.As(err, &step) && step.Call == "chdir" && (step.Errno == syscall.ENOENT || step.Errno == syscall.ENOTDIR) {
		return &DirError{step, fix}
	}
	return err
}

// Hints are commands that may help after an error, found by looking at the
// machine once more.
func Hints(err error) []string {
	var clone *CloneError
	var step *StepError
	var exec *ExecError
	switch {
	case errors.As(err, &exec):
		return execHints(exec)
	case errors.As(err, &clone), errors.As(err, &step):
		return host.Explain(err)
	}
	return nil
}

// execHints say why a command that works outside is not found inside.
func execHints(e *ExecError) []string {
	switch e.Errno {
	case syscall.ENOENT, syscall.ENOTDIR:
		if path, err := osexec.LookPath(e.Command); err == nil {
			return []string{"sbx why " + path + "   (it exists on the host)"}
		}
		return []string{"sbx why " + e.Command}
	case syscall.EACCES:
		return []string{"chmod +x " + e.Command + "   (or run it by its interpreter: sbx -- sh " + e.Command + ")"}
	}
	return nil
}
