package sandbox

import (
	"os"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/state"
)

// mappedIDs are the ids of the layer's files, if they are more than the
// caller's own, as those of --root are.
func (s *Session) mappedIDs() (uids, gids idmap.Map, ok bool) {
	uids, gids, ok = state.ParseIDs(s.Layer.IDs())
	return uids, gids, ok && len(uids)+len(gids) > 2
}

// Mapped says whether the layer's files belong to more ids than the caller's.
func (s *Session) Mapped() bool {
	_, _, ok := s.mappedIDs()
	return ok
}

// Within runs sbx itself, which sees the host as it is, in a user namespace with the
// ids of the layer, as its root, to whom every file of the layer is open.
func (s *Session) Within(args, env []string) (Status, error) {
	uids, gids, _ := s.mappedIDs()
	self, err := os.Executable()
	if err != nil {
		return Status{}, err
	}
	p := plan.Plan{
		Steps: []plan.Step{plan.MapIDs{UIDs: uids, GIDs: gids}, plan.SetIDs{UID: 0, GID: 0}, plan.TieToParent{}},
		Exec:  plan.Exec{Args: append([]string{self}, args[1:]...), Env: env},
	}
	process, err := (*Begun)(nil).start(p, nil)
	if err != nil {
		return Status{}, err
	}
	end, err := process.Wait(nil)
	return Status{Wait: end.Status}, err
}
