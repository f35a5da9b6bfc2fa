package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/state"
)

// Doctor tries everything that a run needs, each in a tiny sandbox of its own,
// so that one missing thing does not hide the others; and then a whole run. It
// leaves nothing behind.
func Doctor(o Options) host.Diagnosis {
	o.Args, o.Warn = []string{"true"}, nil
	store, err := state.Find(o.State, o.Dir, o.Getenv)
	d := doctor{options: o, store: store, t: host.Untried()}
	m := host.Look(store.Root)
	d.uids, d.gids = idmap.Identity(m.UID), idmap.Identity(uint32(os.Getegid()))

	d.namespaces(m)
	if err != nil {
		d.t.State = err
	} else {
		d.inState()
		_, _, d.t.Tree = Prepare(o)
		d.t.Run = d.run()
	}
	return host.Diagnose(m, d.t)
}

type doctor struct {
	options    Options
	store      state.Store
	uids, gids idmap.Map
	t          host.Trials
}

// newRoot are the first steps of every plan after the maps.
var newRoot = []plan.Step{plan.Private{}, plan.NewRoot{}}

// namespaces makes the trials that need no directory.
func (d *doctor) namespaces(m host.Machine) {
	var clone *CloneError
	var step *StepError
	err := d.try()
	if d.t.Clone = err; err != nil && !errors.As(err, &clone) {
		d.t.Clone, d.t.Maps = nil, err
	}
	if err != nil {
		return
	}
	d.t.Maps = nil
	d.t.SubIDs = d.subIDs(m)
	d.t.Network = d.tryNet(plan.Loopback{})
	err = d.try(newRoot...)
	if d.t.Tmpfs = err; errors.As(err, &step) && step.Call == "pivot_root" {
		d.t.Tmpfs, d.t.Pivot = nil, err
	}
	if err != nil {
		return
	}
	d.t.Pivot = nil
	d.t.Interface = d.tryNet(with(newRoot, plan.Interface{TUN: m.TUN == nil})...)
	d.t.Setattr = d.try(with(newRoot, plan.Seal{})...)
	d.t.Proc = d.try(with(newRoot, plan.Proc{})...)
	if d.t.Network == nil {
		// Without a sysfs, which the step tolerates, the directory is empty.
		d.t.Sysfs = d.tryNet(with(newRoot, plan.MkDir{Path: "/sys", Mode: 0o755}, plan.Sysfs{}, plan.ChangeDir{Path: "/sys/class/net"})...)
	}
	filter, err := Filter(d.options)
	if err == nil {
		err = d.try(plan.NoNewPrivs{}, plan.Filter{Name: "build", Program: filter})
	}
	d.t.Filter = err
	if m.Landlock >= 6 {
		d.t.Scope = d.try(plan.NoNewPrivs{}, plan.Scope{})
	}
}

// subIDs maps the caller's subordinate ids, as --root does.
func (d *doctor) subIDs(m host.Machine) error {
	uids, gids, err := idmap.SubIDs(m.User, m.UID)
	if err != nil {
		return err
	}
	um, uok := idmap.Root(m.UID, uids)
	gm, gok := idmap.Root(uint32(os.Getegid()), gids)
	switch {
	case !uok:
		return &idmap.NoSubIDsError{User: m.User, File: "/etc/subuid"}
	case !gok:
		return &idmap.NoSubIDsError{User: m.User, File: "/etc/subgid"}
	}
	return start(plan.Plan{Steps: []plan.Step{plan.MapIDs{UIDs: um, GIDs: gm}, plan.SetIDs{}}})
}

// inState makes the trials in the state directory, in a directory of their own.
func (d *doctor) inState() {
	made := missing(d.store.Root)
	defer func() {
		for _, dir := range made {
			os.Remove(dir) // but not where something is in it
		}
	}()
	dir, err := d.workshop()
	if d.t.State = err; err != nil {
		return
	}
	defer state.Delete(dir)
	d.t.Xattr = host.TryXattr(filepath.Join(dir, "upper"))
	if d.t.Setattr != nil {
		return
	}
	d.t.Overlay = d.try(with(overlayIn(dir, false),
		plan.WriteFile{Path: "/overlay/file", Mode: 0o644, Data: "written\n"},
	)...)
	if d.t.Overlay == nil {
		d.t.Live = d.live()
	}
}

// overlayIn are the steps that mount an overlay of what workshop has made.
func overlayIn(dir string, lend bool) []plan.Step {
	return with(newRoot,
		plan.Stage{Source: dir, Name: plan.LayerName, Dir: true},
		plan.Seal{},
		plan.MkDir{Path: "/overlay", Mode: 0o755},
		plan.Overlay{
			Lower: []string{filepath.Join(dir, "lower")},
			Upper: plan.Scratch + "/" + plan.LayerName + "/upper", Work: plan.Scratch + "/" + plan.LayerName + "/work",
			Place: plan.Place{Path: "/overlay", Dir: true}, Lend: lend,
		})
}

// live replaces a file below an overlay, and sees whether that shows it.
func (d *doctor) live() error {
	dir, err := d.workshop()
	if err != nil {
		return err
	}
	defer state.Delete(dir)
	file := filepath.Join(dir, "lower", "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("inotify_init1(2): %w", err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, dir, unix.IN_CREATE); err != nil {
		return fmt.Errorf("inotify_add_watch(2): %w", err)
	}
	process, err := (*Begun)(nil).start(plan.Plan{Steps: with([]plan.Step{plan.MapIDs{UIDs: d.uids, GIDs: d.gids}}, overlayIn(dir, true)...)}, nil)
	if err != nil {
		return err
	}
	lent, err := process.Lent()
	if err == nil {
		defer lent.Close()
	}
	if _, ended := process.Wait(nil); ended != nil {
		err = ended
	}
	if err != nil {
		return err
	}
	size := func() int64 {
		var st unix.Stat_t
		if unix.Fstatat(lent.Mounts[0], "file", &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			return -1
		}
		return st.Size
	}
	size() // the overlay keeps the name
	if err := os.WriteFile(file+".new", []byte("saved"), 0o600); err != nil {
		return err
	}
	if err := os.Rename(file+".new", file); err != nil {
		return err
	}
	o, err := child.Pick(lent.Namespaces[0], lent.Mounts[0])
	if err != nil {
		return err
	}
	defer o.Close()
	if err := o.Refresh(); err != nil {
		return fmt.Errorf("fsconfig(2): %w", err)
	}
	if size() != int64(len("saved")) {
		return errors.New("the kernel goes on to show a file that was replaced")
	}
	return nil
}

// workshop makes a directory with what an overlay needs.
func (d *doctor) workshop() (string, error) {
	fail := func(err error) error {
		return &state.Error{Do: "write", What: fmt.Sprintf("the state directory %q", d.store.Root), Err: err, Fix: "sbx --state DIR -- COMMAND"}
	}
	if err := os.MkdirAll(d.store.Root, 0o700); err != nil {
		return "", fail(err)
	}
	dir, err := os.MkdirTemp(d.store.Root, "doctor-")
	if err != nil {
		return "", fail(err)
	}
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			state.Delete(dir)
			return "", fail(err)
		}
	}
	return dir, nil
}

// missing lists a directory and those above it that do not exist, the deepest
// first.
func missing(dir string) []string {
	var list []string
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			return list
		}
		list = append(list, dir)
	}
}

// run is `sbx --rm -- true` in a source tree of its own.
func (d *doctor) run() error {
	tree, err := os.MkdirTemp("", "sbx-doctor-")
	if err != nil {
		return fmt.Errorf("cannot make a temporary source tree: %w", err)
	}
	defer os.RemoveAll(tree)
	if tree, err = filepath.EvalSymlinks(tree); err != nil {
		return fmt.Errorf("cannot make a temporary source tree: %w", err)
	}
	made := append([]string{filepath.Join(d.store.Root, "trees"), filepath.Join(d.store.Root, "trash")}, missing(d.store.Root)...)
	defer func() {
		state.Delete(d.store.Tree(tree).Dir)
		for _, dir := range made {
			os.Remove(dir) // but not where something is in it
		}
	}()
	o := d.options
	o.Dir, o.Source, o.Layer, o.Throwaway, o.Trial = tree, tree, "", true, true
	status, err := Run(o)
	switch {
	case err != nil:
		return err
	case status.Wait.Signaled():
		return fmt.Errorf("cannot run true: signal %d (%v) killed it", status.Wait.Signal(), status.Wait.Signal())
	case status.ExitCode() != 0:
		return fmt.Errorf("cannot run true: it ended with status %d", status.ExitCode())
	}
	return nil
}

func with(first []plan.Step, more ...plan.Step) []plan.Step {
	return append(append([]plan.Step(nil), first...), more...)
}

// try runs the steps in a sandbox without a command.
func (d *doctor) try(steps ...plan.Step) error { return d.sandbox(false, steps) }

// tryNet is try with a network namespace.
func (d *doctor) tryNet(steps ...plan.Step) error { return d.sandbox(true, steps) }

func (d *doctor) sandbox(net bool, steps []plan.Step) error {
	return start(plan.Plan{
		Namespaces: plan.Namespaces{Net: net},
		Steps:      with([]plan.Step{plan.MapIDs{UIDs: d.uids, GIDs: d.gids}}, steps...),
	})
}

// start runs a plan without a command, and is runProbe that also looks at how
// the sandbox ended.
func start(p plan.Plan) error {
	process, err := (*Begun)(nil).start(p, nil)
	if err != nil {
		return err
	}
	end, err := process.Wait(nil)
	if err == nil && end.Status != unix.WaitStatus(0) {
		err = fmt.Errorf("cannot end the sandbox in order: wait status %#x", uint32(end.Status))
	}
	return err
}
