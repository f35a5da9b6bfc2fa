package sandbox

import (
	"path/filepath"
	"strings"

	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/live"
	"github.com/sbx-build/sbx/sandbox/overlay"
	"github.com/sbx-build/sbx/sandbox/plan"
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
		w, err := live.Start(live.Target{
			Pair:  overlay.Pair{Lower: m.Lower, Upper: filepath.Join(s.Layer.Dir, m.Upper)},
			Lock:  filepath.Join(s.Layer.Dir, dir, "watch"),
			Owner: fds[0], Mount: fds[1], Since: s.started,
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
