package sandbox

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/state"
)

// EmptyTrash deletes everything in the trash of the store.
func EmptyTrash(s state.Store) error { return deleteAll(s.Trash()) }

// sweep deletes the work directories that this run and shorter ones have set aside.
func (s *Session) sweep(lock *state.Lock, work []string) {
	lock.Sweep(work)
	if s.Layer.Mapped() {
		list, _ := s.Store.Asides()
		deleteAll(list)
	}
}

func deleteAll(list []string) error {
	var first error
	for _, dir := range list {
		if err := deleteTrash(dir); err != nil && first == nil {
			e := &state.Error{Do: "delete", What: fmt.Sprintf("%q", dir), Err: err}
			if errors.Is(err, fs.ErrPermission) {
				e.Fix = "sudo rm -r " + quoted(dir)
			}
			first = e
		}
	}
	return first
}

// deleteTrash deletes one directory of the trash. Files of a layer with
// subordinate ids belong to ids that the caller is not, so they are deleted by
// root of the user namespace that made them.
func deleteTrash(dir string) error {
	if uids, gids, ok := state.TrashIDs(dir); ok {
		rm := plan.Plan{
			Steps: []plan.Step{plan.MapIDs{UIDs: uids, GIDs: gids}, plan.SetIDs{UID: 0, GID: 0}, plan.TieToParent{}, plan.NoNewPrivs{}},
			// rm(1) goes by descriptors and follows no symlink.
			Exec: plan.Exec{Args: []string{"rm", "-rf", "--", state.Content(dir)}, Path: []string{"/bin", "/usr/bin"}},
		}
		process, err := (*Begun)(nil).start(rm, nil)
		if err != nil {
			return err
		}
		if _, err := process.Wait(nil); err != nil {
			return err
		}
	}
	return state.Delete(dir)
}
