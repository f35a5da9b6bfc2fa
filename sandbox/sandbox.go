package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/internal/early"
	"github.com/sbx-build/sbx/sandbox/overlay"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/relay"
	"github.com/sbx-build/sbx/sandbox/state"
	"github.com/sbx-build/sbx/sandbox/supervise"
	"github.com/sbx-build/sbx/seccomp"
)

// Run runs a command in the sandbox and waits for it.
func Run(o Options) (Status, error) { return Begin().Run(o) }

// Run runs a command in the sandbox that was begun, or in a new one where that
// does not fit or is nil, and waits for it.
func (b *Begun) Run(o Options) (Status, error) {
	modes, err := checkDescriptors()
	if err != nil {
		return Status{}, err
	}
	defer b.Abandon()
	defer modes.disarm(o)
	s, err := Open(o)
	if err != nil {
		return Status{}, err
	}
	if o.Join != "" {
		return s.join(o)
	}
	facts, err := s.probe()
	if err != nil {
		return Status{}, err
	}
	warnings := s.Warnings(o)
	lock, err := s.Layer.Lock(fmt.Sprintf("pid %d: %s", os.Getpid(), brief(o.Args)), state.FormatIDs(facts.UIDs, facts.GIDs))
	if err != nil {
		return Status{}, err
	}
	defer lock.Unlock()
	if o.Throwaway {
		defer s.throwAway(lock)
	}
	others, err := s.borrow(lock, facts)
	if err != nil {
		return Status{}, err
	}
	defer others.close()
	s.sayReplaced(o, others.runs)
	if changed, err := s.agree(others.runs); err != nil {
		return Status{}, err
	} else if changed {
		if facts, err = s.probe(); err != nil {
			return Status{}, err
		}
	}
	p, err := s.build(o, facts, others.uppers)
	if err != nil {
		return Status{}, err
	}
	for _, line := range append(warnings, facts.Warnings...) {
		o.warn("%s", line)
	}
	if err := s.awaitLayer(o, lock, p); err != nil {
		return Status{}, err
	}
	given, err := child.IdmappedMounts(p.Idmapped, facts.UIDs, facts.GIDs)
	if err != nil {
		return Status{}, err
	}
	defer child.CloseAll(given)
	ports, err := s.publishPorts()
	if err != nil {
		return Status{}, err
	}
	made := s.toMount(o)
	process, err := b.advance(p, given)
	if err != nil {
		closePorts(ports)
		return Status{}, err
	}
	indexes, err := s.ready(o, process, p, facts, lock, others)
	if err != nil {
		process.Abandon()
		closePorts(ports)
		return Status{}, err
	}
	var signals *supervise.Signals
	process.Go(func() { signals = supervise.Take() })
	end, done, err := s.wait(o, process, signals, p, facts, lock, others, ports)
	if err != nil {
		return Status{}, err
	}
	var found *overlay.Found
	atRest, err := lock.Leave()
	if err == nil && !o.Throwaway {
		if lock.Bereft() {
			atRest = s.bury(o, lock, facts)
		}
		if atRest {
			lock.KeepIndexes(indexes)
			made.drop(s)
		}
		if found = s.settle(atRest); found != nil {
			s.sayShadowed(o, *found)
		}
	}
	s.sayDenied(o, done)
	for _, dir := range end.Full {
		o.warn("%s in the sandbox is full; --tmp-size SIZE gives it more room", dir)
	}
	status := Status{Wait: end.Status}
	if !o.Throwaway {
		status.Manifests, status.LayerFlag = s.changedManifests(), s.Layer.Flag()
	}
	if !o.Trial {
		s.record(o, status, end, found, done)
	}
	if status.ExitCode() != 0 {
		s.explain(o, facts)
	}
	return status, nil
}

// wait waits for the end of the command, and does meanwhile what a run does that takes
// its time.
func (s *Session) wait(o Options, process *child.Process, signals *supervise.Signals, p plan.Plan, facts host.Facts, lock *state.Lock, others *borrowed, ports []*relay.Published) (end child.Ending, done outcome, err error) {
	sweep := time.AfterFunc(sweepAfter, func() { s.sweep(lock, p.WorkDirs) })
	defer sweep.Stop()
	if s.Layer.HasJournal() && !o.Throwaway {
		look := time.AfterFunc(lookAfter, func() { s.warnShadowed(o) })
		defer look.Stop()
	}
	var around func(func())
	if !o.Trial {
		pub := s.publish(o, process, p, facts, lock, others, ports)
		defer func() { done = pub.end() }()
		around = pub.around
	}
	end, err = supervise.Wait(process, signals, around)
	fix := "sbx drop" + s.Layer.Flag() + " " + quoted(s.Policy.Dir) + "   (if a build has deleted or replaced it: the host's shows again)"
	return end, done, withoutDir(err, fix)
}

// sweepAfter is when a run has the time to delete what earlier ones have left: a
// command that takes less is not delayed by it.
const sweepAfter = 100 * time.Millisecond

// Prepare makes the plan that Run would run.
func Prepare(o Options) (*Session, plan.Plan, error) {
	s, p, _, err := prepare(o)
	return s, p, err
}

func prepare(o Options) (*Session, plan.Plan, host.Facts, error) {
	s, err := Open(o)
	if err != nil {
		return nil, plan.Plan{}, host.Facts{}, err
	}
	p, facts, err := s.plan(o)
	return s, p, facts, err
}

func (s *Session) plan(o Options) (plan.Plan, host.Facts, error) {
	facts, err := s.probe()
	if err != nil {
		return plan.Plan{}, facts, err
	}
	p, err := s.build(o, facts, nil)
	return p, facts, err
}

// probe looks at the machine.
func (s *Session) probe() (host.Facts, error) {
	facts, err := host.Probe(s.Policy)
	if err != nil {
		return facts, err
	}
	if facts.Idmapped {
		if err := tryIdmapped(s, facts); err != nil {
			facts.NotIdmapped(err)
		}
	}
	if soft, hard, ok := early.Nofile(); ok {
		facts.Nofile = [2]uint64{soft, hard}
	}
	return facts, nil
}

// build makes the plan. uppers are the upper directories of which other runs lend
// the mounts.
func (s *Session) build(o Options, facts host.Facts, uppers []string) (plan.Plan, error) {
	filter, err := Filter(o)
	if err != nil {
		return plan.Plan{}, err
	}
	command := plan.Exec{Args: o.Args, Env: s.Environ(), Path: searchPath(s.Vars), KeepIgnored: ignored(facts)}
	layer := plan.Layer{Dir: s.Layer.Dir, ID: s.Layer.ID(), Borrowed: uppers, Lend: !o.Trial, Home: s.look(facts)}
	return plan.Build(s.Policy, facts, layer, filter, command)
}

// tryIdmapped sees whether the file systems of the tree and of the state can be
// idmapped: not all can, and overlays, as the root of containers, cannot.
func tryIdmapped(s *Session, f host.Facts) error {
	dir := s.Store.Root
	for {
		if _, err := os.Lstat(dir); err == nil || dir == "/" {
			break
		}
		dir = filepath.Dir(dir)
	}
	fds, err := child.IdmappedMounts([]plan.Idmapped{{Source: s.Tree.Root}, {Source: dir}}, f.UIDs, f.GIDs)
	child.CloseAll(fds)
	return err
}

// Filter is the system call filter for the options.
func Filter(o Options) (seccomp.Program, error) {
	arch, err := seccomp.Native()
	if err != nil {
		return nil, err
	}
	return seccomp.CompileDefault(seccomp.Options{AllowUserns: o.AllowUserns, Root: o.Root}, arch)
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

// throwAway deletes a layer that was made for one run.
func (s *Session) throwAway(lock *state.Lock) {
	dir, err := lock.Discard()
	if err == nil && dir != "" {
		deleteTrash(dir)
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
