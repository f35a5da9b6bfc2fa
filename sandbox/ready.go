package sandbox

import (
	"errors"
	"strings"
	"syscall"
	"time"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/state"
)

// awaitLayer waits until nobody has the layer's upper directories mounted that does not
// lend them.
func (s *Session) awaitLayer(o Options, lock *state.Lock, p plan.Plan) error {
	s.warnLost(o, lock)
	if lock.Unclean || lock.Live && p.Brings() {
		// Among the runs that have the layer may be one that does not answer, or that
		// was killed, and has what this run is about to mount.
		return awaitUnmounted(p, awaitKilled)
	}
	return nil
}

// ready makes the layer ready to be mounted, and gives the child what others lend. It
// returns the state of git's indexes, see state.Lock.KeepIndexes.
func (s *Session) ready(o Options, process *child.Process, p plan.Plan, facts host.Facts, lock *state.Lock, others *borrowed) (indexes map[state.GitDir]string, err error) {
	if err := process.Give(others.fds...); err != nil {
		return nil, err
	}
	others.closeMounts() // a mount lives for as long as a descriptor of it does
	killed := lock.Unclean
	if err := lock.Prepare(p.LayerDirs, p.WorkDirs); err != nil {
		return nil, err
	}
	if s.Layer.Mapped() {
		// Many short runs in a row.
		if list, crowded := s.Store.Asides(); crowded {
			deleteAll(list)
		}
	}
	if err := s.keepSeeds(o, lock, p); err != nil {
		return nil, err
	}
	for _, step := range p.Steps {
		if key, ok := joined(step); ok {
			if err := lock.Join(key, step.(plan.Overlay).Lower[0]); err != nil {
				return nil, err
			}
		}
	}
	if killed {
		s.settle(true)
	}
	if !lock.Live {
		return lock.DropIndexes(s.gitDirs(facts)), nil
	}
	if !p.Brings() {
		return nil, lock.Share()
	}
	return nil, nil
}

// joined is the layer's directory for a directory that is joined to the tree.
func joined(step plan.Step) (key string, ok bool) {
	o, ok := step.(plan.Overlay)
	if !ok {
		return "", false
	}
	key, ok = strings.CutPrefix(o.Upper, plan.Scratch+"/"+plan.LayerName+"/")
	return strings.TrimSuffix(key, "/upper"), ok && strings.HasPrefix(key, "with/")
}

// gitDirs are the git directories that overlays show: the tree's own, and those
// of a worktree or submodule outside it.
func (s *Session) gitDirs(f host.Facts) []state.GitDir {
	list := []state.GitDir{{Lower: s.Tree.Root + "/.git", Upper: s.Layer.Upper() + "/.git"}}
	for _, g := range f.GitDirs {
		upper := s.Layer.Dir + "/" + plan.GitUpper(g.Path)
		list = append(list, state.GitDir{Lower: g.Path, Upper: upper})
		if admin := g.Admin; admin != "" {
			list = append(list, state.GitDir{Lower: g.Path + "/" + admin, Upper: upper + "/" + admin})
		}
	}
	return list
}

func (s *Session) warnLost(o Options, lock *state.Lock) {
	if lock.Lost {
		o.warn("the machine went down while a run had the layer %q: files that it wrote last may be incomplete; sbx reset%s wipes them", s.Layer.Name, s.Layer.Flag())
	}
}

// bury sees to what is left of runs that were killed while this one had the layer, which
// is at rest if nothing is. Otherwise the next run does it.
func (s *Session) bury(o Options, lock *state.Lock, facts host.Facts) (atRest bool) {
	p, err := s.build(o, facts, nil)
	if err != nil || awaitUnmounted(p, buryFor) != nil {
		return false
	}
	lock.Buried()
	return true
}

const (
	// awaitKilled is how long a run that was killed may take to end, of which there may
	// be gigabytes to free.
	awaitKilled = 10 * time.Second
	// buryFor is how long the end of a run waits for that.
	buryFor = 500 * time.Millisecond
)

// awaitUnmounted waits until no mount has the layer's upper directories any
// more. A run that was killed may take a moment to end, and two mounts of one
// upper would damage it.
func awaitUnmounted(p plan.Plan, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		err := runProbe(plan.BuildProbe(p))
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// runProbe runs a plan without a command.
func runProbe(p plan.Plan) error {
	process, err := (*Begun)(nil).start(p, nil)
	if err != nil {
		return err
	}
	_, err = process.Wait(nil)
	return err
}
