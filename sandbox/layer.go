package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/overlay"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/share"
	"github.com/sbx-build/sbx/sandbox/state"
)

// Pair is a directory of the host with the layer's version over it, and what
// the layer's journal has of it.
type Pair struct {
	overlay.Pair
	Notes overlay.Notes
}

// Pairs are those of the layer: the source tree first, then every directory that
// was ever joined to it.
func (s *Session) Pairs() ([]Pair, error) {
	j, err := s.Layer.Journal()
	if err != nil {
		return nil, err
	}
	list := s.Directories()
	for i := range list {
		list[i].Notes.Journal = j
	}
	return list, nil
}

// Directories are the pairs without a journal, for who asks for nothing in it.
func (s *Session) Directories() []Pair {
	var list []Pair
	for _, p := range s.Layer.Pairs() {
		list = append(list, Pair{
			Pair:  overlay.Pair{Lower: p.Lower, Upper: p.Upper, Name: p.Name},
			Notes: overlay.Notes{Pair: p.Key},
		})
	}
	return list
}

// OutsideError is a path that is in no pair.
type OutsideError struct{ Path, Tree string }

func (e *OutsideError) Error() string {
	return fmt.Sprintf("cannot find %q in the layer: it is not below the source tree %q, nor in a directory joined to it", e.Path, e.Tree)
}

// Locate says in which pair a path is, as typed, and where in it. The last name
// may be anything, on the host or in the layer; what leads to it is taken as the
// host has it.
func (s *Session) Locate(pairs []Pair, typed string) (pair int, rel string, err error) {
	if typed == "" {
		return 0, "", errors.New(`cannot use the path "": it is empty; . is the directory itself`)
	}
	path := policy.Absolute(typed, s.Policy.Dir, s.Policy.Home)
	if pair, rel, ok := longest(pairs, realParent(path)); ok {
		return pair, rel, nil
	}
	if pair, rel, ok := longest(pairs, path); ok {
		return pair, rel, nil
	}
	return 0, "", &OutsideError{typed, s.Tree.Root}
}

// longest is the pair with the longest lower that has the path.
func longest(pairs []Pair, path string) (pair int, rel string, ok bool) {
	best := -1
	for i, p := range pairs {
		if (path == p.Lower || policy.Below(path, p.Lower)) && (best < 0 || len(p.Lower) > len(pairs[best].Lower)) {
			best = i
		}
	}
	if best < 0 {
		return 0, "", false
	}
	return best, strings.Trim(path[len(pairs[best].Lower):], "/"), true
}

// realParent makes the directory of a path real, not its last name: that may be
// missing on the host, or be a symlink.
func realParent(path string) string {
	dir, name := filepath.Split(filepath.Clean(path))
	for d, rest := filepath.Clean(dir), name; ; d, rest = filepath.Dir(d), filepath.Join(filepath.Base(d), rest) {
		if real, err := filepath.EvalSymlinks(d); err == nil {
			return filepath.Join(real, rest)
		}
		if d == "/" {
			return filepath.Clean(path)
		}
	}
}

// quiet takes the layer for something that needs it unmounted, and is a
// state.BusyError while a run has it.
func (s *Session) quiet(what string) (release func(), err error) {
	var lock *state.Lock
	err = s.dying(func() (err error) {
		lock, err = s.Layer.Take(fmt.Sprintf("pid %d: sbx %s", os.Getpid(), what))
		return err
	})
	if err != nil {
		return nil, err
	}
	s.warnLost(s.options, lock)
	if lock.Unclean {
		// A run was killed, and its mount may not have ended yet.
		p, _, err := s.plan(s.options)
		if err == nil {
			err = awaitUnmounted(p, awaitKilled)
		}
		if err != nil {
			lock.Unlock()
			return nil, err
		}
		s.settle(true) // of mirrors nothing may be left in what is exported
	}
	return lock.Unlock, nil
}

// live gives the merged directories of the runs that have the layer; ok is
// false where none can be had.
func (s *Session) live() (merged func(overlay.Pair) (fd int, err error), ok bool) {
	runs := Living(s.Store, s.Layer.Dir)
	if len(runs) == 0 {
		return nil, false
	}
	return func(p overlay.Pair) (int, error) {
		upper, err := filepath.Rel(s.Layer.Dir, p.Upper)
		if err != nil {
			return -1, err
		}
		mounted := false
		for _, run := range runs {
			i := slices.Index(run.Uppers, upper)
			if i < 0 {
				continue
			}
			mounted = true
			m, err := share.Borrow(s.Store.RunPath(run.ID))
			if err != nil {
				continue
			}
			fd := m.FDs[i]
			m.FDs[i] = -1
			m.Close()
			return fd, nil
		}
		if !mounted {
			return -1, errUnmounted
		}
		return -1, &state.BusyError{Layer: s.Layer, Run: "it does not answer"}
	}, true
}

// settle brings the layer into order, if it is at rest: no mount has it. While
// other runs have it only the journal is brought up to date. It is done as well as
// it can be: the next run tries again. It gives what there is, nil if that is not known.
func (s *Session) settle(atRest bool) *overlay.Found {
	found, err := s.Settle(atRest)
	if errors.Is(err, fs.ErrPermission) && s.Mapped() {
		found, err = s.settleWithin(atRest)
	}
	if err != nil {
		return nil
	}
	return &found
}

// Settle is settle for who may open all files of the layer.
func (s *Session) Settle(atRest bool) (found overlay.Found, err error) {
	pairs := s.Layer.Pairs()
	empty := true
	for _, p := range pairs {
		empty = empty && overlay.EmptyDir(p.Upper)
	}
	if empty {
		if atRest {
			s.Layer.DropJournal()
		}
		return found, nil
	}
	more := time.AfterFunc(settleAlone, child.UseProcessors)
	defer more.Stop()
	list, err := s.Pairs()
	if err != nil {
		return found, err
	}
	var all []error
	for _, p := range list {
		o, err := p.Open()
		if err == nil {
			var one overlay.Found
			one, err = o.SettleFind(p.Notes, atRest)
			o.Close()
			found.Add(one)
		}
		all = append(all, err)
	}
	return found, errors.Join(all...)
}

// settleAlone is how long one processor is enough for.
const settleAlone = 5 * time.Millisecond

// errUnmounted is of a joined directory that none of the runs that live has.
var errUnmounted = errors.New("no run that lives has it, and it can be dropped only when they have ended, or by one that has it (--with)")

// dying does what needs the layer for itself again for as long as only a run has it that
// was killed: the kernel needs a moment until all that belonged to it has ended.
func (s *Session) dying(act func() error) error {
	for deadline := time.Now().Add(dyingFor); ; time.Sleep(10 * time.Millisecond) {
		err := act()
		var b *state.BusyError
		if !errors.As(err, &b) || len(Living(s.Store, s.Layer.Dir)) > 0 || time.Now().After(deadline) {
			return err
		}
		var pid int
		if _, err1 := fmt.Sscanf(b.Run, "pid %d", &pid); err1 == nil && unix.Kill(pid, 0) != unix.ESRCH {
			return err
		}
	}
}

// dyingFor is how long that may take.
const dyingFor = 3 * time.Second

// busy says whether an error is that a run has the layer.
func busy(err error) bool {
	var b *state.BusyError
	return errors.As(err, &b)
}
