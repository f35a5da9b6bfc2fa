package sandbox

import (
	"os"
	"strings"

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
	var wire *plan.Interface
	if relayed(os.Args[1:]) {
		tun, ipv6 := host.Wire()
		wire = &plan.Interface{TUN: tun, IPv6: ipv6}
	}
	first := plan.First(uint32(os.Geteuid()), uint32(os.Getegid()), host.LandlockABI(), wire)
	process, err := child.Launch(plan.Namespaces{Net: true}, first)
	return &Begun{process, err}
}

// relayed guesses from the command line whether the run will have a network. A wrong
// guess costs the time of a second clone.
func relayed(args []string) bool {
	relayed := true
	for _, a := range args {
		switch {
		case a == "--":
			return relayed
		case a == "--net=none":
			relayed = false
		case strings.HasPrefix(a, "--net-allow"):
			return true
		}
	}
	return relayed
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
	process, err := b.advance(p, given)
	if err == nil {
		process.Go()
	}
	return process, err
}

// advance is start, but the child waits where it comes to the layer.
func (b *Begun) advance(p plan.Plan, given []int) (*child.Process, error) {
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
	return process, process.Advance(p)
}
