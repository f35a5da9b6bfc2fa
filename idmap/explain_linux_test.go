package idmap

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMeaning(t *testing.T) {
	all := Map{{0, 0, 4294967295}}
	container := Map{{0, 1000, 1}, {1, 100000, 65536}}
	m := Map{{0, 1, 10}}
	for _, tt := range []struct {
		name  string
		file  string
		m     Map
		errno unix.Errno
		f     facts
		want  string
	}{
		{"user", "uid_map", m, unix.EPERM, facts{own: all}, "without CAP_SETUID the"},
		{"group", "gid_map", m, unix.EPERM, facts{own: all}, "without CAP_SETGID the"},
		{"facts not known", "uid_map", m, unix.EPERM, facts{}, "without CAP_SETUID the"},
		{"root outside", "uid_map", Map{{0, 0, 1}}, unix.EPERM, facts{own: all, caps: 1 << unix.CAP_SETUID}, "lacks CAP_SETFCAP"},
		{"root group outside", "gid_map", Map{{0, 0, 1}}, unix.EPERM, facts{own: all}, "without CAP_SETGID"},
		{"all capabilities", "uid_map", m, unix.EPERM, facts{own: all, caps: 1<<41 - 1}, "tells no more"},
		{"written", "uid_map", m, unix.EPERM, facts{own: all, written: true}, "written once"},
		{"inherited", "uid_map", m, unix.EPERM, facts{own: all, written: true, inherited: true}, "namespace of its own"},
		{"setgroups", "setgroups", nil, unix.EPERM, facts{own: all}, "does not own"},
		{"not there", "uid_map", Map{{0, 70000, 1}}, unix.EPERM, facts{own: container}, "id 70000 is not mapped"},
		{"two extents", "uid_map", Map{{0, 0, 5}}, unix.EPERM, facts{own: container}, "ids 0 to 4 do not lie within one extent"},
		{"not dumpable", "uid_map", m, unix.EACCES, facts{}, "not dumpable"},
		{"setgroups of the own namespace", "setgroups", nil, unix.EACCES, facts{inherited: true}, "namespace of its own"},
		{"old kernel", "uid_map", m, unix.EINVAL, facts{}, "4.15"},
		{"speaks for itself", "uid_map", m, unix.ENOMEM, facts{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := meaning(tt.file, tt.m, tt.errno, tt.f)
			if !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("meaning = %q, want %q", got, tt.want)
			}
		})
	}
}
