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
	"github.com/sbx-build/sbx/sandbox/share"
)

// watch has the overlays of what the user edits show what is saved on the host: the
// source tree, what is joined to it, and git directories outside it.
func (s *Session) watch(o Options, p plan.Plan, l *lender) []*live.Watcher {
	var list []*live.Watcher
	all := p.LentOverlays()
	trees := 0
	for _, m := range all {
		if edited(filepath.Dir(m.Upper)) {
			trees++
		}
	}
	for i, m := range all {
		dir := filepath.Dir(m.Upper)
		if !edited(dir) {
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
			Pair: overlay.Pair{Lower: m.Lower, Upper: filepath.Join(s.Layer.Dir, m.Upper)},
			Lock: filepath.Join(s.Layer.Dir, dir, "watch"),
			Skip: s.writtenThrough(m.Lower), Budget: live.Budget(trees),
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

// sayReplaced tells of directories that the runs of the layer see, and this one with them,
// though there are others in their places by now.
func (s *Session) sayReplaced(o Options, runs []share.Run) {
	told := map[string]bool{}
	for _, run := range runs {
		for _, l := range run.Live {
			if l.Replaced && !told[l.Dir] {
				told[l.Dir] = true
				o.warn("%q was moved or replaced since the run %s began: this run sees the directory that was there, too; sbx stop %s", l.Dir, run.ID, run.ID)
			}
		}
	}
}

// edited says whether a directory of the layer is over one that the user edits.
func edited(dir string) bool {
	return dir == "." || strings.HasPrefix(dir, "with/") || strings.HasPrefix(dir, "git/")
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
