package child

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// TestSeed: a file is put into the home, whatever a build has made on the way; what
// has taken its place meanwhile stays; nothing outside is touched.
func TestSeed(t *testing.T) {
	needUserNS(t)
	seed := func(path string, have plan.Have) plan.Step {
		return plan.Seed{Place: plan.Place{Path: path, Ground: "/home"}, Data: "seeded", Have: have}
	}
	for _, test := range []struct {
		name   string
		before func(g ground) error
		step   plan.Step
		want   string // in the home
		file   string // what is in the file, of the home
		text   string
	}{
		{"nothing there", nil, seed("/home/.npmrc", plan.HasNothing), ".npmrc-", ".npmrc", "seeded"},
		{"no directories", nil, seed("/home/.config/go/env", plan.HasNothing), ".configd", ".config/go/env", "seeded"},
		{"an earlier one", func(g ground) error { return os.WriteFile(g.home+"/.npmrc", []byte("old"), 0o400) }, seed("/home/.npmrc", plan.HasEarlier), ".npmrc-", ".npmrc", "seeded"},
		{"the same", func(g ground) error { return os.WriteFile(g.home+"/.npmrc", []byte("old"), 0o644) }, seed("/home/.npmrc", plan.HasSame), ".npmrc-", ".npmrc", "old"},
		{"its own", func(g ground) error { return unix.Mkfifo(g.home+"/.npmrc", 0o644) }, seed("/home/.npmrc", plan.HasOther), ".npmrcp", "", ""},
		// What follows has come between the look and the step.
		{"taken", func(g ground) error { return os.WriteFile(g.home+"/.npmrc", []byte("own"), 0o644) }, seed("/home/.npmrc", plan.HasNothing), ".npmrc-", ".npmrc", "own"},
		{"a symlink", func(g ground) error { return os.Symlink(g.outside+"/new", g.home+"/.npmrc") }, seed("/home/.npmrc", plan.HasNothing), ".npmrcL", "", ""},
		{"a symlink for an earlier one", func(g ground) error { return os.Symlink(g.outside+"/new", g.home+"/.npmrc") }, seed("/home/.npmrc", plan.HasEarlier), ".npmrc-", ".npmrc", "seeded"},
		{"a directory for an earlier one", func(g ground) error { return os.MkdirAll(g.home+"/.npmrc/x", 0o755) }, seed("/home/.npmrc", plan.HasEarlier), ".npmrcd", "", ""},
		{"a fifo for an earlier one", func(g ground) error { return unix.Mkfifo(g.home+"/.npmrc", 0o644) }, seed("/home/.npmrc", plan.HasEarlier), ".npmrc-", ".npmrc", "seeded"},
		{"a symlink on the way", func(g ground) error { return os.Symlink(g.outside, g.home+"/.config") }, seed("/home/.config/f", plan.HasNothing), ".configd .config.asideL", ".config/f", "seeded"},
		{"a fifo on the way", func(g ground) error { return unix.Mkfifo(g.home+"/.config", 0o644) }, seed("/home/.config/f", plan.HasNothing), ".configd .config.asidep", ".config/f", "seeded"},
	} {
		g := newGround(t)
		if test.before != nil {
			if err := test.before(g); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.try(test.step); err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := listing(t, g.home); got != test.want {
			t.Errorf("%s: in the home is now %q, want %q", test.name, got, test.want)
		}
		if test.file != "" {
			data, err := os.ReadFile(g.home + "/" + test.file)
			st, err2 := os.Stat(g.home + "/" + test.file)
			if errors.Join(err, err2) != nil || string(data) != test.text || test.text == "seeded" && st.Mode() != 0o644 {
				t.Errorf("%s: the file has %q, %v %v", test.name, data, st.Mode(), err)
			}
		}
		if got := listing(t, g.outside); got != "" {
			t.Errorf("%s: outside is now %q", test.name, got)
		}
	}
}
