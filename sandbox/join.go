package sandbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/share"
	"github.com/sbx-build/sbx/sandbox/state"
	"github.com/sbx-build/sbx/sandbox/supervise"
)

// terms are the options of a run that whoever joins it is held to.
type terms struct {
	Root, AllowUserns bool
	IDs               bool // plan.Plan.SetsIDs
	Processes         uint64
	Net               policy.Network
}

// NoRunError is a run that does not live.
type NoRunError struct{ Run string }

func (e *NoRunError) Error() string {
	if e.Run == "last" {
		return "cannot find a run: none lives"
	}
	return fmt.Sprintf("cannot find the run %q: it does not live", e.Run)
}

// Hint lists the runs.
func (e *NoRunError) Hint() string { return "sbx ps" }

// FindRun finds a run that lives: by its name, the begin of it, or "last", the one
// that was started last.
func FindRun(s state.Store, name string) (share.Run, error) {
	var found []share.Run
	for _, run := range Living(s, "") {
		if name == "last" || strings.HasPrefix(run.ID, name) {
			found = append(found, run)
		}
	}
	if len(found) == 0 || name == "" {
		return share.Run{}, &NoRunError{name}
	}
	if name != "last" && len(found) > 1 {
		return share.Run{}, fmt.Errorf("cannot tell which run %q is: %s and %s begin so", name, found[0].ID, found[1].ID)
	}
	return found[len(found)-1], nil
}

// join runs the command in all namespaces of a run that lives, under the terms of
// that run, until it ends.
func (s *Session) join(o Options) (Status, error) {
	run, err := FindRun(s.Store, o.Join)
	if err != nil {
		return Status{}, err
	}
	run, namespaces, err := share.Namespaces(s.Store.RunPath(run.ID))
	if err != nil {
		return Status{}, fmt.Errorf("cannot join the run %q: %w", run.ID, err)
	}
	defer child.CloseAll(namespaces)
	var t terms
	if err := json.Unmarshal(run.Policy, &t); err != nil || len(namespaces) != len(child.Namespaces) {
		return Status{}, fmt.Errorf("cannot join the run %q: it was started by another version of sbx", run.ID)
	}
	o.Root, o.AllowUserns, o.Processes = t.Root, t.AllowUserns, t.Processes
	s.Policy.Root, s.Policy.AllowUserns, s.Policy.Processes, s.Policy.Network = t.Root, t.AllowUserns, t.Processes, t.Net
	s.Vars = policy.Environment(o.Environ, o.Env, s.joinedVars(run), run.Tree)
	facts, err := s.probe()
	if err != nil {
		return Status{}, err
	}
	p, err := s.build(o, facts, nil)
	if err != nil {
		return Status{}, err
	}
	kinds, fds := child.Namespaces, namespaces
	if t.Net == policy.Host {
		// It is the host's, which nobody may enter again, and has been left never.
		i := slices.Index(kinds, "net")
		kinds, fds = slices.Delete(slices.Clone(kinds), i, i+1), slices.Delete(slices.Clone(fds), i, i+1)
	}
	join := plan.BuildJoin(p, kinds, t.IDs, p.Exec)
	var signals *supervise.Signals
	process, err := child.Launch(join.Namespaces, nil)
	if err == nil {
		err = process.Start(join, func() { signals = supervise.Take() })
	}
	if err != nil {
		return Status{}, err
	}
	if err := process.Give(fds...); err != nil {
		process.Abandon()
		return Status{}, err
	}
	end, err := supervise.Wait(process, signals, nil)
	if err != nil {
		return Status{}, withoutDir(err, "sbx --join "+run.ID+" -C "+quoted(run.Tree)+" -- COMMAND")
	}
	status := Status{Wait: end.Status}
	s.Tree.Root, s.Layer.Name, s.joined = run.Tree, run.Layer, run.ID
	s.record(o, status, end, nil, outcome{})
	return status, nil
}

// joinedVars are the variables that name the run that is joined.
func (s *Session) joinedVars(run share.Run) map[string]string {
	set := s.set(s.Policy.Dir, s.Policy.LogicalDir)
	set["SBX_RUN"], set["SBX_TREE"], set["SBX_LAYER"] = run.ID, run.Tree, run.Layer
	return set
}

// grace is how long a run has to end by itself when it is stopped.
const grace = 10 * time.Second

// Stop ends a run: it and its command get SIGTERM and, when that has not helped
// for a while, SIGKILL.
func Stop(s state.Store, run share.Run, force bool) error {
	sig := unix.SIGTERM
	if force {
		sig = unix.SIGKILL
	}
	if run.PID == 0 {
		return fmt.Errorf("cannot stop the run %q: it does not answer, and its process is not known", run.ID)
	}
	// The descriptor names the process, whatever becomes of its number.
	fd, err := unix.PidfdOpen(run.PID, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot stop the run %q: %w", run.ID, err)
	}
	defer unix.Close(fd)
	again, err := share.Ask(s.RunPath(run.ID))
	switch {
	case err == nil && again.PID != run.PID, share.Gone(err):
		return nil // it has ended
	case err != nil:
		return fmt.Errorf("cannot stop the run %q: %w", run.ID, err)
	}
	for {
		err := unix.PidfdSendSignal(fd, syscall.Signal(sig), nil, 0)
		if err == nil && run.Silent {
			// A process that is stopped takes no signal.
			err = unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0)
		}
		if err != nil {
			if err == unix.ESRCH {
				return nil
			}
			return fmt.Errorf("cannot stop the run %q: %w", run.ID, err)
		}
		if exited(fd) {
			return nil
		}
		if sig == unix.SIGKILL {
			return fmt.Errorf("cannot stop the run %q: the process %d does not end", run.ID, run.PID)
		}
		sig = unix.SIGKILL
	}
}

// exited waits for a process, for the time of grace.
func exited(pidfd int) bool {
	deadline := time.Now().Add(grace)
	for {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
		if err == unix.EINTR {
			continue
		}
		return err == nil && n > 0
	}
}
