package sandbox

import (
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/state"
)

// EmptyTrash deletes everything in the trash of the store.
func EmptyTrash(s state.Store) error {
	var first error
	for _, dir := range s.Trash() {
		if err := deleteTrash(dir); err != nil && first == nil {
			first = err
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
