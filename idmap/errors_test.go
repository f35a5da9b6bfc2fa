package idmap

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInstallCommand(t *testing.T) {
	for _, tt := range []struct{ release, want string }{
		{"PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n", "sudo apt install uidmap"},
		{"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "sudo apt install uidmap"},
		{"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "sudo dnf install shadow-utils"},
		{"ID=opensuse-tumbleweed\nID_LIKE='opensuse suse'\n", "sudo zypper install shadow"},
		{"VERSION_ID=debian\nID=unheard-of\n", ""},
		{"", ""},
	} {
		if got := installCommand(tt.release); got != tt.want {
			t.Errorf("installCommand(%q) = %q, want %q", tt.release, got, tt.want)
		}
	}
}

func TestUsermodCommand(t *testing.T) {
	both := []string{"--add-subuids", "--add-subgids"}
	for _, tt := range []struct {
		user  string
		flags []string
		taken []span
		want  string
	}{
		{"dev", both, nil, "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 dev"},
		{"dev", both[1:], nil, "sudo usermod --add-subgids 100000-165535 dev"},
		{"dev", both[:1], []span{{165536, 231072}, {100000, 165536}}, "sudo usermod --add-subuids 231072-296607 dev"},
		{"dev", both[:1], []span{{165535, 165536}, {0, 5}}, "sudo usermod --add-subuids 165536-231071 dev"},
		{"dev", both[:1], []span{{300000, 400000}}, "sudo usermod --add-subuids 100000-165535 dev"},
		{"dev", both, []span{{1, 4294967295}}, ""},
		{`DOM\a 'user`, both[:1], nil, `sudo usermod --add-subuids 100000-165535 'DOM\a '\''user'`},
	} {
		if got := usermodCommand(tt.user, tt.flags, tt.taken); got != tt.want {
			t.Errorf("usermodCommand(%q, %v, %v) = %q, want %q", tt.user, tt.flags, tt.taken, got, tt.want)
		}
	}
}

func TestAllSubIDs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(file, []byte("a:100000:5\nb:1:x\nc:4294967295:1\nd:200000:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]bool{"a": true, "b": false, "c": false, "d": true} {
		if taken, has := allSubIDs(file, user); len(taken) != 2 || has != want {
			t.Errorf("allSubIDs(%q) = %v, %v, want 2 ranges and %v", user, taken, has, want)
		}
	}
	if taken, has := allSubIDs(file+".none", "a"); taken != nil || has {
		t.Errorf("allSubIDs without a file = %v, %v", taken, has)
	}
}

func TestErrorTexts(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&HelperMissingError{Name: "newuidmap"}, "cannot map a range of ids: the program newuidmap is not installed"},
		{
			&NoSubIDsError{User: "dev", File: "/etc/subuid"},
			`cannot map a range of ids for "dev": no subordinate ids are given to this user in "/etc/subuid"`,
		},
		{
			&HelperError{Name: "newuidmap", Output: "newuidmap: uid range [0-1) -> [5-6) not allowed\n", why: "because"},
			"cannot map a range of ids: newuidmap: uid range [0-1) -> [5-6) not allowed (because)",
		},
		{&HelperError{Name: "newgidmap", Err: os.ErrPermission}, "cannot map a range of ids: newgidmap: permission denied"},
		{&HelperError{Name: "newgidmap", Err: os.ErrPermission, why: "because"}, "cannot map a range of ids: newgidmap: because"},
		{
			&WriteError{File: "uid_map", PID: 7, Err: os.ErrPermission, why: "because"},
			"cannot write uid_map of process 7: because (permission denied)",
		},
		{&WriteError{File: "uid_map", PID: 7, Err: os.ErrPermission}, "cannot write uid_map of process 7: permission denied"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%T: %q, want %q", tt.err, got, tt.want)
		}
	}
}
