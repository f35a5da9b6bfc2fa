package child

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/plan"
)

// TestIdmapped: through an idmapped mount the sandbox of a caller that is root
// writes files as an id that nobody has, and they belong to root on disk.
func TestIdmapped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("idmapped mounts are for a caller that is root; root's own run tests them")
	}
	needUserNS(t)
	g := newGround(t)
	m := idmap.Map{{Inside: 0, Outside: 0x7fff0000, Length: 65535}}
	open := descriptors(t)
	fds, err := IdmappedMounts([]plan.Idmapped{{Source: g.home}, {Source: g.data, ReadOnly: true}}, m, m)
	if err != nil {
		missing(t, "$TMPDIR cannot be idmapped: %v", err)
	}
	if len(fds) != 2 || fds[0] < 200 || fds[1] <= fds[0] {
		t.Fatalf("the descriptors are %v", fds)
	}
	steps := []plan.Step{
		plan.MapIDs{UIDs: m, GIDs: m}, plan.SetIDs{}, plan.Private{}, plan.NewRoot{},
		plan.Stage{Source: g.home, Name: "id1", Dir: true, Idmapped: 1}, plan.Stage{Source: g.data, Name: "id2", Dir: true, Idmapped: 2, ReadOnly: true},
		plan.WriteFile{Path: plan.Scratch + "/id1/new", Mode: 0o644, Data: "x"},
	}
	start := func(more ...plan.Step) error {
		process, err := Launch(plan.Namespaces{}, nil, fds...)
		if err == nil {
			err = process.Start(plan.Plan{Steps: append(append([]plan.Step(nil), steps...), more...)})
		}
		if err == nil {
			_, err = process.Wait(nil)
		}
		return err
	}
	// A detached mount can be attached once, so one run has to do.
	err = start(plan.WriteFile{Path: plan.Scratch + "/id2/new", Mode: 0o644, Data: "x"})
	se, ok := err.(*StepError)
	if !ok || se.Errno != unix.EROFS || se.Step != plan.Step(plan.WriteFile{Path: plan.Scratch + "/id2/new", Mode: 0o644, Data: "x"}) {
		t.Errorf("writing to the one that is read-only: %v", err)
	}
	CloseAll(fds)
	var st unix.Stat_t
	if err := unix.Stat(g.home+"/new", &st); err != nil || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("what root's sandbox wrote belongs to %d:%d, %v", st.Uid, st.Gid, err)
	}
	if now := descriptors(t); now != open {
		t.Errorf("%d descriptors are open, before %d", now, open)
	}
	if _, err := IdmappedMounts([]plan.Idmapped{{Source: g.home}, {Source: g.home + "/nothing"}}, m, m); err == nil {
		t.Error("a source that does not exist is mounted")
	}
	if now := descriptors(t); now != open {
		t.Errorf("after a failure %d descriptors are open, before %d", now, open)
	}
	if fds, err := IdmappedMounts(nil, m, m); fds != nil || err != nil {
		t.Errorf("no mounts are %v, %v", fds, err)
	}
}
