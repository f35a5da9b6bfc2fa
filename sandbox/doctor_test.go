package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// TestHintsOfRealErrors makes the errors that the child reports, and looks
// whether package host, which knows them by their text alone, still understands
// them.
func TestHintsOfRealErrors(t *testing.T) {
	overlay := plan.Overlay{Lower: []string{"/a"}, Upper: "/b", Place: plan.Place{Path: "/home/x(2): y", Dir: true}}
	tests := []struct {
		err  error
		want string
	}{
		{&CloneError{Errno: unix.ENOSPC}, "user.max_"},
		{&CloneError{Errno: unix.EAGAIN}, "ulimit -u"},
		{&StepError{Step: overlay, Call: "mount", Errno: unix.ENODEV}, "modprobe overlay"},
		{&StepError{Step: overlay, Call: "mount", Errno: unix.ENOSPC}, "df -h"},
		{&StepError{Step: overlay, Call: "mount", Errno: unix.ESTALE}, "sbx reset --all"},
		{&StepError{Step: plan.Keyring{}, Call: "keyctl", Errno: unix.EDQUOT}, "kernel.keys.maxkeys"},
		{&StepError{Step: plan.NewRoot{}, Call: "mount", Errno: unix.ENOSPC}, "fs.mount-max"},
		{&StepError{Step: plan.Bind{Source: "/x"}, Call: "mount", Errno: unix.EIO}, "sbx doctor"},
	}
	for _, test := range tests {
		hints := Hints(test.err)
		if !slices.ContainsFunc(hints, func(h string) bool { return strings.Contains(h, test.want) }) {
			t.Errorf("%v\ngives the hints %q, want %q in one", test.err, hints, test.want)
		}
	}
	for _, errno := range []syscall.Errno{unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOSYS} {
		for _, step := range []plan.Step{plan.MapIDs{}, plan.Private{}, plan.NewRoot{}, plan.Proc{}, plan.Seal{}, overlay} {
			err := &StepError{Step: step, Call: "mount", Errno: errno}
			if len(Hints(err)) == 0 {
				t.Errorf("%v gives no hint", err)
			}
		}
	}
}

func TestMissing(t *testing.T) {
	dir := t.TempDir()
	got := missing(filepath.Join(dir, "a/b/c"))
	want := []string{filepath.Join(dir, "a/b/c"), filepath.Join(dir, "a/b"), filepath.Join(dir, "a")}
	if !slices.Equal(got, want) {
		t.Errorf("missing are %q, want %q", got, want)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, there := range []string{dir, filepath.Join(dir, "link")} {
		if got := missing(there); len(got) != 0 {
			t.Errorf("missing of %q are %q, want none: it is not ours to remove", there, got)
		}
	}
}
