package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/share"
	"github.com/sbx-build/sbx/sandbox/state"
)

// Living lists the runs that live, of one layer or of all (layer ""). Of those that
// do not answer it is not known which layer they have.
func Living(s state.Store, layer string) []share.Run {
	var list []share.Run
	for _, dir := range s.Runs() {
		run, err := share.Ask(dir.Path)
		if err == nil && (layer == "" || run.LayerDir == layer) {
			list = append(list, run)
		}
	}
	slices.SortFunc(list, func(a, b share.Run) int { return int(a.Started - b.Started) })
	return list
}

// borrowed are mounts of other runs, and the user namespaces that own them.
type borrowed struct {
	runs        []share.Run
	uppers      []string
	fds, owners []int
}

func (b *borrowed) close() {
	b.closeMounts()
	child.CloseAll(b.owners)
	b.owners = nil
}

// closeMounts lets go of the mounts alone.
func (b *borrowed) closeMounts() {
	child.CloseAll(b.fds)
	b.fds = nil
}

// awaitOther is how long a run that lives and does not answer is waited for: it
// may have begun a moment ago, or end in a moment.
const awaitOther = 10 * time.Second

// borrow takes the mounts that other runs have of the layer. Where it turns out
// that none lives any more, the layer is this run's alone.
func (s *Session) borrow(lock *state.Lock) (*borrowed, error) {
	deadline := time.Now().Add(awaitOther)
	for lock.Live {
		b, err := s.borrowNow()
		if len(b.fds) > 0 {
			return b, nil
		}
		if time.Now().After(deadline) {
			who := "it does not answer"
			if err != nil {
				who = err.Error()
			}
			return nil, &state.BusyError{Layer: s.Layer, Run: who}
		}
		if err := lock.Again(5 * time.Millisecond); err != nil {
			return nil, err
		}
	}
	return &borrowed{}, nil
}

// borrowNow takes what the runs that answer lend, of each upper directory once.
func (s *Session) borrowNow() (b *borrowed, last error) {
	b = &borrowed{runs: Living(s.Store, s.Layer.Dir)}
	for _, run := range b.runs {
		if !slices.ContainsFunc(run.Uppers, func(u string) bool { return !slices.Contains(b.uppers, u) }) {
			continue
		}
		m, err := share.Borrow(s.Store.RunPath(run.ID))
		if err != nil {
			last = err
			continue
		}
		for i, upper := range m.Run.Uppers {
			if !slices.Contains(b.uppers, upper) {
				b.uppers, b.fds, b.owners = append(b.uppers, upper), append(b.fds, m.FDs[i]), append(b.owners, m.Owners[i])
				m.FDs[i], m.Owners[i] = -1, -1
			}
		}
		m.Close()
	}
	return b, last
}

// BusyError is a layer that runs have, where it must be at rest.
type BusyError struct {
	What  string
	Layer state.Layer
	Runs  []share.Run
}

func (e *BusyError) Error() string {
	var names []string
	for _, r := range e.Runs {
		names = append(names, fmt.Sprintf("%s (%s)", r.ID, brief(r.Command)))
	}
	who := "a run has it"
	if len(names) > 0 {
		who = "these runs have it: " + strings.Join(names, ", ")
	}
	return fmt.Sprintf("cannot %s the layer %q: %s", e.What, e.Layer.Name, who)
}

// Hint is a command that helps.
func (e *BusyError) Hint() string {
	if e.What == "reset" {
		return "sbx reset --force   (ends them first)"
	}
	return "sbx ps"
}

// Reset wipes the layer. With force it ends the runs that have it first.
func (s *Session) Reset(w state.Wipe, force bool) error {
	for {
		_, err := s.Layer.Reset(w, s.owner())
		var busy *state.BusyError
		if !errors.As(err, &busy) {
			return err
		}
		runs := Living(s.Store, s.Layer.Dir)
		if !force || len(runs) == 0 {
			return &BusyError{"reset", s.Layer, runs}
		}
		for _, run := range runs {
			if err := Stop(s.Store, run, false); err != nil {
				return err
			}
		}
	}
}

// AtRest is a BusyError while runs have the layer, also those that do not answer.
func (s *Session) AtRest(what string) error {
	if s.Layer.User() == "" {
		return nil
	}
	return &BusyError{what, s.Layer, Living(s.Store, s.Layer.Dir)}
}
