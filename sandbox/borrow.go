package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/share"
	"github.com/sbx-build/sbx/sandbox/state"
)

// Living lists the runs that live, of one layer or of all (layer ""). Those that do
// not answer are among them.
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
func (s *Session) borrow(lock *state.Lock, facts host.Facts) (*borrowed, error) {
	deadline := time.Now().Add(awaitOther)
	said := false
	for lock.Live {
		b, err := s.borrowNow()
		silent := s.silent(b, facts)
		if len(b.fds) > 0 && silent == nil {
			return b, nil
		}
		b.close()
		who, pause := "it does not answer", 5*time.Millisecond
		if silent != nil {
			who, pause = silence(*silent), 100*time.Millisecond
			if !said {
				s.options.say("waiting for a run that has the layer %q: %s", s.Layer.Name, who)
			}
			said = true
		} else if err != nil {
			who = err.Error()
		}
		if time.Now().After(deadline) {
			return nil, &state.BusyError{Layer: s.Layer, Run: who}
		}
		if err := lock.Again(pause); err != nil {
			return nil, err
		}
	}
	return &borrowed{}, nil
}

// silent is a run that does not answer and has what this run needs and no other
// lends.
func (s *Session) silent(b *borrowed, facts host.Facts) *share.Run {
	for i, run := range b.runs {
		if !run.Silent {
			continue
		}
		if len(b.fds) == 0 {
			return &b.runs[i]
		}
		p, err := s.build(s.options, facts, nil)
		if err == nil && slices.ContainsFunc(p.Lent(), func(u string) bool { return slices.Contains(run.Uppers, u) && !slices.Contains(b.uppers, u) }) {
			return &b.runs[i]
		}
	}
	return nil
}

// silence says why a run does not answer, as far as that shows.
func silence(r share.Run) string {
	who := fmt.Sprintf("%s (%s)", r.ID, brief(r.Command))
	if r.Stopped() {
		return fmt.Sprintf("%s is stopped; fg in its shell, or kill -CONT %d, lets it go on", who, r.PID)
	}
	return who + " does not answer"
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
		return "sbx reset --force" + e.Layer.Flag() + "   (ends them first)"
	}
	return "sbx ps"
}

// Reset wipes the layer. With force it ends the runs that have it first.
func (s *Session) Reset(w state.Wipe, force bool) error {
	for {
		err := s.dying(func() error {
			_, err := s.Layer.Reset(w, s.owner())
			return err
		})
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
