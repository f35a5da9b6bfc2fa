package sandbox

import (
	"os"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/plan"
)

// Begun is a sandbox that was begun before its policy was known. Making
// namespaces takes the kernel as long as parsing the command line and looking at
// the machine takes sbx, so both go on at once. nil is a valid Begun: nothing
// has begun.
type Begun struct {
	process *child.Process
	err     error
}

// Begin takes up what was begun before the runtime, or nothing. It must be called
// by the goroutine that calls Run, best as the first thing in main.
func Begin() *Begun {
	if !child.Early() {
		return nil
	}
	child.Unpin()
	first := plan.First(uint32(os.Geteuid()), uint32(os.Getegid()), host.LandlockABI())
	process, err := child.Launch(plan.Namespaces{Net: true}, first)
	return &Begun{process, err}
}

// Abandon ends what was begun, unless it has been run.
func (b *Begun) Abandon() {
	if b != nil && b.process != nil {
		b.process.Abandon()
		b.process = nil
	}
}

// start runs the plan in the child that was begun, or in a new one where it does
// not fit.
func (b *Begun) start(p plan.Plan, given []int) (*child.Process, error) {
	if b == nil || b.err == nil && (b.process == nil || !b.process.Fits(p)) {
		b.Abandon()
		process, err := child.Launch(p.Namespaces, nil, given...)
		b = &Begun{process, err}
	}
	if b.err != nil {
		return nil, b.err
	}
	process := b.process
	b.process = nil
	return process, process.Start(p)
}
