package sandbox

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/overlay"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/state"
)

// mappedIDs are the ids of the layer's files, if they are more than the
// caller's own, as those of --root are.
func (s *Session) mappedIDs() (uids, gids idmap.Map, ok bool) {
	uids, gids, ok = state.ParseIDs(s.Layer.IDs())
	if !ok || len(uids)+len(gids) <= 2 {
		return nil, nil, false
	}
	return uids, gids, true
}

// Mapped says whether the layer's files belong to more ids than the caller's.
func (s *Session) Mapped() bool {
	_, _, ok := s.mappedIDs()
	return ok
}

// fileCapabilities open the files of all ids of a user namespace to the caller.
var fileCapabilities = []int{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID}

// Within runs sbx itself, which sees the host as it is, in a user namespace with the
// ids of the layer, where every file of the layer is open to it. It stays the caller:
// what it makes, on the host or beside the layer's files, belongs to that. And it stays
// in the caller's pid namespace, as runs do not talk to what is in another.
func (s *Session) Within(args, env []string) (Status, error) {
	uids, gids, _ := s.mappedIDs()
	self, err := os.Executable()
	if err != nil {
		return Status{}, err
	}
	p := plan.Plan{
		Namespaces: plan.Namespaces{User: true},
		Steps:      []plan.Step{plan.MapIDs{UIDs: uids, GIDs: gids}, plan.Ambient{Keep: fileCapabilities}, plan.TieToParent{}},
		Exec:       plan.Exec{Args: append([]string{self}, args[1:]...), Env: env},
	}
	process, err := (*Begun)(nil).start(p, nil)
	if err != nil {
		return Status{}, err
	}
	end, err := process.Wait(nil)
	return Status{Wait: end.Status}, err
}

// settleWithin settles the layer in the map: what --root leaves, in directories of ids
// that the caller is not, is not the caller's to remove. The caller has the lock, and
// the process that does it ends with the caller. It prints what it has found.
func (s *Session) settleWithin(atRest bool) (found overlay.Found, err error) {
	args := []string{"sbx", "settle", "--state", s.Store.Root, "--source", s.Tree.Root, "--layer", s.Layer.Name}
	if atRest {
		args = append(args, "--at-rest")
	}
	r, w, err := os.Pipe() // has room for it
	if err != nil {
		return found, err
	}
	defer r.Close()
	err = withStdout(w, func() error {
		_, err := s.Within(args, os.Environ())
		return err
	})
	w.Close()
	if err == nil {
		err = json.NewDecoder(r).Decode(&found)
	}
	return found, err
}

// withStdout has standard output lead to a file while a process is started.
func withStdout(to *os.File, start func() error) error {
	was, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	defer unix.Close(was)
	if err := unix.Dup3(int(to.Fd()), 1, 0); err != nil {
		return err
	}
	defer unix.Dup3(was, 1, 0)
	return start()
}

// owner makes directories of the layer the caller's own again, as root inside can. It is
// nil for a layer of the caller's own ids.
func (s *Session) owner() state.Own {
	uids, gids, ok := s.mappedIDs()
	if !ok {
		return nil
	}
	return func(path string) error {
		chown := plan.Plan{
			Steps: []plan.Step{plan.MapIDs{UIDs: uids, GIDs: gids}, plan.SetIDs{UID: 0, GID: 0}, plan.TieToParent{}, plan.NoNewPrivs{}},
			Exec:  plan.Exec{Args: []string{"chown", "-h", "--", fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid()), path}, Path: []string{"/bin", "/usr/bin"}},
		}
		process, err := (*Begun)(nil).start(chown, nil)
		if err != nil {
			return err
		}
		end, err := process.Wait(nil)
		if err == nil && end.Status.ExitStatus() != 0 {
			err = fs.ErrPermission
		}
		return err
	}
}
