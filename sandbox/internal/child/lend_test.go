package child

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// lender starts a sandbox that mounts an overlay and lends it.
func lender(t testing.TB, script string) (*Process, string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "lower", "f"), []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The kernel leaves directories of mode 000 there.
	t.Cleanup(func() {
		filepath.WalkDir(filepath.Join(dir, "work"), func(path string, d fs.DirEntry, err error) error {
			return os.Chmod(path, 0o700)
		})
	})
	first := root()
	p := plan.Plan{
		Namespaces: plan.Namespaces{Net: true},
		Steps: append(first, plan.Seal{}, plan.Open{Source: dir, Name: plan.LayerName}, plan.MkDir{Path: "/t", Mode: 0o755}, plan.MkDir{Path: "/usr", Mode: 0o755},
			plan.Overlay{Lower: []string{filepath.Join(dir, "lower")}, Upper: "/proc/layer/upper", Work: "/proc/layer/work", Place: plan.Place{Path: "/t", Dir: true}, Lend: true},
			plan.Bind{Source: "/usr", System: true, ReadOnly: true, Place: plan.Place{Path: "/usr", Dir: true}},
			plan.Symlink{Place: plan.Place{Path: "/bin"}, Target: "usr/bin"}, plan.Symlink{Place: plan.Place{Path: "/lib"}, Target: "usr/lib"}, plan.Symlink{Place: plan.Place{Path: "/lib64"}, Target: "usr/lib64"},
			plan.Proc{}, plan.Capabilities{}, plan.TieToParent{}, plan.Undumpable{}),
		Exec: plan.Exec{Args: []string{"/bin/sh", "-c", script}},
	}
	process, err := Launch(p.Namespaces, first)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(p); err != nil {
		t.Fatal(err)
	}
	return process, dir
}

// TestLent: what a sandbox lends can be used from outside, copied as often as
// wanted, and lives on when the sandbox has ended.
func TestLent(t *testing.T) {
	needUserNS(t)
	fds := descriptors(t)
	process, dir := lender(t, "echo inside >/t/g; while [ ! -e /t/end ]; do sleep 0.02; done")
	lent, err := process.Lent()
	if err != nil {
		t.Fatal(err)
	}
	if len(lent.Namespaces) != len(Namespaces) || len(lent.Mounts) != 1 {
		t.Fatalf("lent: %+v", lent)
	}
	for i, kind := range Namespaces {
		link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(lent.Namespaces[i]))
		if own, _ := os.Readlink("/proc/self/ns/" + kind); err != nil || !strings.HasPrefix(link, kind+":[") || link == own {
			t.Errorf("namespace %s is %q, %v", kind, link, err)
		}
	}
	mounts := lent.Mounts
	for range 3 {
		more, err := Copies(lent.Namespaces[0], mounts[len(mounts)-1], 3)
		if err != nil {
			t.Fatal(err)
		}
		mounts = append(mounts[:len(mounts)-1], more...)
	}
	for i, fd := range mounts {
		if err := os.WriteFile("/proc/self/fd/"+strconv.Itoa(fd)+"/from"+strconv.Itoa(i), nil, 0o644); err != nil {
			t.Error(err)
		}
	}
	end, err := unix.Openat(mounts[0], "end", unix.O_CREAT|unix.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(end)
	if end, err := process.Wait(nil); err != nil || end.Status != 0 {
		t.Errorf("the sandbox: %v, %+v", err, end)
	}
	if data, err := os.ReadFile("/proc/self/fd/" + strconv.Itoa(mounts[1]) + "/g"); err != nil || string(data) != "inside\n" {
		t.Errorf("after the sandbox has ended: %q, %v", data, err)
	}
	CloseAll(mounts)
	lent.Mounts = nil
	lent.Close()
	if names, _ := os.ReadDir(filepath.Join(dir, "upper")); len(names) != 2+len(mounts) {
		t.Errorf("the upper has %v", names)
	}
	if now := descriptors(t); now != fds {
		t.Errorf("%d descriptors are open, before %d", now, fds)
	}
}

// TestJoin: a command runs in the namespaces of a sandbox, and ends with it.
func TestJoin(t *testing.T) {
	needUserNS(t)
	process, _ := lender(t, "mkdir /t/d; echo $$ >/t/pid; exec sleep 1000")
	lent, err := process.Lent()
	if err != nil {
		t.Fatal(err)
	}
	defer lent.Close()
	join := func(script string) Ending {
		p := plan.Plan{
			Namespaces: plan.Namespaces{Shared: true},
			Steps:      []plan.Step{plan.Join{Kinds: Namespaces}, plan.ChangeDir{Path: "/t"}, plan.Bound{}, plan.Capabilities{}, plan.TieToParent{}, plan.Undumpable{}, plan.NoNewPrivs{}},
			Exec:       plan.Exec{Args: []string{"/bin/sh", "-c", script}},
		}
		j, err := Launch(p.Namespaces, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Start(p); err != nil {
			t.Fatal(err)
		}
		if err := j.Give(lent.Namespaces...); err != nil {
			t.Fatal(err)
		}
		end, err := j.Wait(nil)
		if err != nil {
			t.Fatal(err)
		}
		return end
	}
	// It sees the other's processes and files, and has no more rights than it.
	end := join(`while [ ! -e pid ]; do sleep 0.02; done
		[ "$(cat /proc/$(cat pid)/comm)" = sleep ] || exit 1
		grep -q "^CapEff:.*0000000000000000$" /proc/self/status || exit 2
		grep -q "^CapBnd:.*0000000000000000$" /proc/self/status || exit 3
		[ ! -e /home ] || exit 4
		[ -z "$(ls -l /proc/1/ns 2>&1 | grep "mnt:")" ] || exit 5
		kill -9 $(cat pid); sleep 1000`)
	if !end.Status.Signaled() {
		t.Errorf("the joined command: %#x", end.Status)
	}
	if end, err := process.Wait(nil); err != nil || !end.Status.Signaled() {
		t.Errorf("the sandbox: %v, %+v", err, end)
	}
}

// TestLentFault: a setup that fails lends nothing, and Wait says why.
func TestLentFault(t *testing.T) {
	needUserNS(t)
	first := root()
	p := plan.Plan{Steps: append(first, plan.ChangeDir{Path: "/nowhere"}, plan.Overlay{Lower: []string{"/"}, Upper: "x", Lend: true}), Exec: plan.Exec{Args: []string{"true"}}}
	process, err := Launch(p.Namespaces, first)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(p); err != nil {
		t.Fatal(err)
	}
	if lent, err := process.Lent(); err == nil {
		t.Errorf("lent: %+v", lent)
	}
	if _, err := process.Wait(nil); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("Wait: %v", err)
	}
}
