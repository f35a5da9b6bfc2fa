package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/internal/nofile"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/state"
	"github.com/sbx-build/sbx/sandbox/supervise"
	"github.com/sbx-build/sbx/seccomp"
)

// Run runs a command in the sandbox and waits for it. It must be called on the
// main thread, locked (runtime.LockOSThread in an init function): the sandbox
// lives as long as the thread that made it.
func Run(o Options) (Status, error) {
	if err := checkDescriptors(); err != nil {
		return Status{}, err
	}
	s, err := Open(o)
	if err != nil {
		return Status{}, err
	}
	p, facts, err := s.plan(o)
	if err != nil {
		return Status{}, err
	}
	for _, line := range append(s.Warnings(o), facts.Warnings...) {
		o.warn("%s", line)
	}
	lock, err := s.Layer.Lock(fmt.Sprintf("pid %d: %s", os.Getpid(), brief(o.Args)), facts.UIDs.String()+facts.GIDs.String())
	if err != nil {
		return Status{}, err
	}
	defer lock.Unlock()
	if o.Throwaway {
		defer s.throwAway(lock)
	}
	if lock.Unclean {
		if err := awaitUnmounted(p); err != nil {
			return Status{}, err
		}
	}
	if err := lock.Prepare(p.LayerDirs, p.WorkDirs); err != nil {
		return Status{}, err
	}
	return s.start(o, p, lock)
}

// start runs the plan, with the layer in hand.
func (s *Session) start(o Options, p plan.Plan, lock *state.Lock) (Status, error) {
	prog, err := child.Compile(p)
	if err != nil {
		return Status{}, err
	}
	if err := lock.Mounting(); err != nil {
		return Status{}, err
	}
	process, err := prog.Start()
	if err != nil {
		lock.Unmounted()
		return Status{}, err
	}
	end, err := supervise.Wait(process)
	lock.Unmounted()
	if err != nil {
		return Status{}, err
	}
	for _, dir := range end.Full {
		o.warn("%s in the sandbox is full; --tmp-size SIZE gives it more room", dir)
	}
	return Status{Wait: end.Status}, nil
}

// Prepare makes the plan that Run would run.
func Prepare(o Options) (*Session, plan.Plan, error) {
	s, err := Open(o)
	if err != nil {
		return nil, plan.Plan{}, err
	}
	p, _, err := s.plan(o)
	return s, p, err
}

func (s *Session) plan(o Options) (plan.Plan, host.Facts, error) {
	facts, err := host.Probe(s.Policy)
	if err != nil {
		return plan.Plan{}, facts, err
	}
	if soft, hard, ok := nofile.Original(); ok {
		facts.Nofile = [2]uint64{soft, hard}
	}
	filter, err := Filter(o)
	if err != nil {
		return plan.Plan{}, facts, err
	}
	command := plan.Exec{Args: o.Args, Env: s.Environ(), Path: searchPath(s.Vars), KeepIgnored: ignored(facts)}
	p, err := plan.Build(s.Policy, facts, plan.Layer{Dir: s.Layer.Dir, ID: s.Layer.ID()}, filter, command)
	return p, facts, err
}

// Filter is the system call filter for the options.
func Filter(o Options) (seccomp.Program, error) {
	arch, err := seccomp.Native()
	if err != nil {
		return nil, err
	}
	return seccomp.Default(seccomp.Options{AllowUserns: o.AllowUserns, Root: o.Root}).Compile(arch)
}

// searchPath is where execvp(3) looks, inside.
func searchPath(vars []policy.Var) []string {
	for _, v := range vars {
		if v.Name == "PATH" && v.Pass {
			return strings.Split(v.Value, ":")
		}
	}
	return []string{"/bin", "/usr/bin"} // confstr(3), _CS_PATH
}

// ignored are the signals that stay ignored. Of SIGQUIT the Go runtime keeps no
// record; shells ignore it together with SIGINT, for background jobs.
func ignored(f host.Facts) []int {
	var list []int
	if f.IgnoreHUP {
		list = append(list, int(unix.SIGHUP))
	}
	if f.IgnoreINT {
		list = append(list, int(unix.SIGINT), int(unix.SIGQUIT))
	}
	return list
}

// awaitUnmounted waits until no mount has the layer's upper directories any
// more. A run that was killed may take a moment to end, and two mounts of one
// upper would damage it.
func awaitUnmounted(p plan.Plan) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := runProbe(plan.BuildProbe(p))
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func runProbe(p plan.Plan) error {
	prog, err := child.Compile(p)
	if err != nil {
		return err
	}
	process, err := prog.Start()
	if err != nil {
		return err
	}
	_, err = process.Wait(nil)
	return err
}

// throwAway deletes a layer that was made for one run.
func (s *Session) throwAway(lock *state.Lock) {
	dir, err := lock.Discard()
	if err == nil {
		state.Delete(dir)
	}
}

// brief is a command for people: short, and harmless to a terminal.
func brief(args []string) string {
	s := strings.Join(args, " ")
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strings.Trim(fmt.Sprintf("%q", s), `"`)
}
