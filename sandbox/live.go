package sandbox

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/live"
	"github.com/sbx-build/sbx/sandbox/overlay"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// watch has the overlays of what the user edits show what is saved on the host: the
// source tree, what is joined to it, and git directories outside it.
func (s *Session) watch(o Options, p plan.Plan, l *lender) []*live.Watcher {
	var list []*live.Watcher
	for i, m := range p.LentOverlays() {
		dir := filepath.Dir(m.Upper)
		if dir != "." && !strings.HasPrefix(dir, "with/") && !strings.HasPrefix(dir, "git/") {
			continue
		}
		fds, err := duplicate(l.owners[i], l.mounts[i])
		if err != nil {
			continue // for want of descriptors, which others tell
		}
		var notes func() (overlay.Notes, error)
		if key := dir; !strings.HasPrefix(dir, "git/") {
			notes = func() (overlay.Notes, error) {
				j, err := s.Layer.Journal()
				return overlay.Notes{Journal: j, Pair: key}, err
			}
		}
		since := s.started
		if m.Borrowed {
			since = time.Time{} // nobody may have watched until now
		}
		w, err := live.Start(live.Target{
			Pair:  overlay.Pair{Lower: m.Lower, Upper: filepath.Join(s.Layer.Dir, m.Upper)},
			Lock:  filepath.Join(s.Layer.Dir, dir, "watch"),
			Skip:  s.writtenThrough(m.Lower),
			Owner: fds[0], Mount: fds[1], Since: since,
			Pick:  func(owner, mount int) (live.Overlay, error) { return child.Pick(owner, mount) },
			Notes: notes, Below: m.Below,
			Warn: o.warn,
		})
		if err != nil {
			child.CloseAll(fds)
			continue
		}
		list = append(list, w)
	}
	return list
}

// writtenThrough are the directories below one of the host's that rules show as they
// are: what the build writes there is no news to it.
func (s *Session) writtenThrough(dir string) []string {
	var list []string
	for _, r := range s.Policy.Rules {
		if r.Access != policy.ReadWrite || r.Device {
			continue
		}
		if rel, err := filepath.Rel(dir, realParent(r.Source)); err == nil && filepath.IsLocal(rel) {
			list = append(list, rel)
		}
	}
	return list
}
