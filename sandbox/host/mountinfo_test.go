package host

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const mountTable = `22 27 0:21 / /proc rw,relatime - proc proc rw
24 27 0:6 / /dev rw,relatime shared:3 - devtmpfs devtmpfs rw,size=12334492k,mode=755
26 24 0:24 / /dev/pts rw,relatime shared:4 master:2 - devpts devpts rw,mode=600,ptmxmode=000
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
29 26 0:26 / /dev/pts rw,relatime - devpts second rw
40 27 0:40 /a\040b /mnt/with\040space\011tab\012line\134back ro,nosuid - fuse.sshfs me@host:/a\040b rw
41 27 0:41 / /mnt/empty rw - tmpfs  rw
42 27 0:4 net:[4026531840] /run/netns/x rw - nsfs nsfs rw
43 27 0:43 / /build rw - overlay overlay rw,lowerdir=/a\054b,upperdir=/u,userxattr
`

func TestParseMountinfo(t *testing.T) {
	ms, err := ParseMountinfo(strings.NewReader(mountTable))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mount{
		{22, 27, "0:21", "/", "/proc", "rw,relatime", "", "proc", "proc", "rw"},
		{24, 27, "0:6", "/", "/dev", "rw,relatime", "shared:3", "devtmpfs", "devtmpfs", "rw,size=12334492k,mode=755"},
		{26, 24, "0:24", "/", "/dev/pts", "rw,relatime", "shared:4 master:2", "devpts", "devpts", "rw,mode=600,ptmxmode=000"},
		{27, 1, "254:0", "/", "/", "rw,relatime", "shared:1", "ext4", "/dev/vda", "rw,discard"},
		{29, 26, "0:26", "/", "/dev/pts", "rw,relatime", "", "devpts", "second", "rw"},
		{40, 27, "0:40", "/a b", "/mnt/with space\ttab\nline\\back", "ro,nosuid", "", "fuse.sshfs", "me@host:/a b", "rw"},
		{41, 27, "0:41", "/", "/mnt/empty", "rw", "", "tmpfs", "", "rw"},
		{42, 27, "0:4", "net:[4026531840]", "/run/netns/x", "rw", "", "nsfs", "nsfs", "rw"},
		{43, 27, "0:43", "/", "/build", "rw", "", "overlay", "overlay", `rw,lowerdir=/a\054b,upperdir=/u,userxattr`},
	}
	if !slices.Equal(ms, want) {
		t.Errorf("got\n%+v\nwant\n%+v", ms, want)
	}
	again, err := ParseMountinfo(iotest.OneByteReader(strings.NewReader(mountTable)))
	if err != nil || !slices.Equal(again, want) {
		t.Errorf("read in single bytes: %v, %+v", err, again)
	}
}

func TestParseMountinfoErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"x 1 0:1 / / rw - proc proc rw\n", "no mount number"},
		{"1 -1 0:1 / / rw - proc proc rw\n", "no mount number"},
		{"1 2 0:1 / / rw shared:1 proc proc rw\n", "no separator"},
		{"1 2 0:1 / / rw -\n", "no separator"},
		{"1 2 0:1 / / rw - proc proc\n", "too few fields"},
		{"1 2 0:1 / proc rw - proc proc rw\n", "no mount point"},
		{"\n", "no mount number"},
		{"22 27 0:21 / /proc rw - proc proc rw\n\n", "line 2"},
	} {
		_, err := ParseMountinfo(strings.NewReader(tc.text))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: got %v, want %q", tc.text, err, tc.want)
		}
	}
	if _, err := ParseMountinfo(iotest.ErrReader(os.ErrPermission)); err == nil {
		t.Error("a failing reader gave no error")
	}
}

func TestParseMountinfoHere(t *testing.T) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	ms, err := ParseMountinfo(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := MountOf(ms, "/proc/self"); !ok || m.FSType != "proc" {
		t.Errorf("the mount of /proc/self is %+v", m)
	}
}

func TestMountOption(t *testing.T) {
	const list = `rw,lowerdir=/a\054b\040c,upperdir=/u,userxattr`
	for _, tc := range []struct {
		name, value string
		found       bool
	}{
		{"rw", "", true}, {"lowerdir", "/a,b c", true}, {"userxattr", "", true}, {"user", "", false}, {"ro", "", false},
	} {
		if value, found := MountOption(list, tc.name); value != tc.value || found != tc.found {
			t.Errorf("%s: got %q %v", tc.name, value, found)
		}
	}
}

// mounts makes a table of "ID parent point" words.
func mounts(lines ...string) (ms []Mount) {
	for _, line := range lines {
		var m Mount
		if _, err := fmt.Sscan(line, &m.ID, &m.Parent, &m.Point); err != nil {
			panic(err)
		}
		ms = append(ms, m)
	}
	return ms
}

func TestMountOf(t *testing.T) {
	table, err := ParseMountinfo(strings.NewReader(mountTable))
	if err != nil {
		t.Fatal(err)
	}
	covered := mounts("1 0 /", "2 1 /a/b", "3 1 /a", "4 3 /a/c", "5 4 /a/c", "6 1 /ab")
	rootStack := mounts("10 1 /", "12 11 /x", "11 10 /")
	noNumbers := []Mount{{Point: "/"}, {Point: "/a", Source: "first"}, {Point: "/a/b"}, {Point: "/a", Source: "second"}}
	for _, tc := range []struct {
		name string
		ms   []Mount
		path string
		want int // index; -1: none
	}{
		{"root", table, "/", 3},
		{"below root", table, "/usr/bin", 3},
		{"name that only begins alike", table, "/device", 3},
		{"stacked", table, "/dev/pts/0", 4},
		{"between", table, "/dev/shm", 1},
		{"itself", table, "/build", 8},
		{"covered by a mount above", covered, "/a/b/x", 2},
		{"two on one point", covered, "/a/c", 4},
		{"neighbour", covered, "/ab", 5},
		{"two roots", rootStack, "/x", 1},
		{"numbers missing", noNumbers, "/a/x", 3},
		{"numbers missing, longest", noNumbers, "/a/b/x", 2},
		{"no root", mounts("2 1 /a"), "/b", -1},
		{"empty", nil, "/", -1},
		{"circle", mounts("1 2 /", "2 1 /"), "/x", 1},
	} {
		got, ok := MountOf(tc.ms, tc.path)
		if tc.want < 0 {
			if ok {
				t.Errorf("%s: got %+v, want none", tc.name, got)
			}
			continue
		}
		if !ok || got != tc.ms[tc.want] {
			t.Errorf("%s: got %+v %v, want %+v", tc.name, got, ok, tc.ms[tc.want])
		}
	}
}

func TestMountsBelow(t *testing.T) {
	covered := mounts("1 0 /", "2 1 /a/b", "3 1 /a", "4 3 /a/c", "5 4 /a/c/d", "6 1 /ab")
	for _, tc := range []struct {
		name, dir string
		ms        []Mount
		want      string
	}{
		{"covered ones do not count", "/a", covered, "4 5"},
		{"below a mount", "/a/c", covered, "5"},
		{"nothing", "/a/c/d", covered, ""},
		{"of a plain directory", "/x", covered, ""},
		{"all", "/", covered, "2 3 4 5 6"},
		{"no root", "/a", mounts("3 1 /a", "4 3 /a/c"), "4"},
		{"circle", "/", mounts("1 1 /", "2 3 /a", "3 2 /a/b"), ""},
	} {
		var ids []string
		for _, m := range MountsBelow(tc.ms, tc.dir) {
			ids = append(ids, fmt.Sprint(m.ID))
		}
		if got := strings.Join(ids, " "); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add([]byte(mountTable))
	for line := range strings.SplitSeq(mountTable, "\n") {
		f.Add([]byte(line))
	}
	f.Add([]byte("1 1 0:1 / / rw - a  \\777\\"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ms, err := ParseMountinfo(bytes.NewReader(text))
		if err != nil {
			if ms != nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("mounts %v and error %q", ms, err)
			}
			return
		}
		for _, m := range ms {
			if of, ok := MountOf(ms, m.Point); ok && !pathWithin(m.Point, of.Point) {
				t.Errorf("%q is said to be on %q", m.Point, of.Point)
			}
			for _, b := range MountsBelow(ms, m.Point) {
				if b.Point == m.Point || !pathWithin(b.Point, m.Point) {
					t.Errorf("%q is said to be below %q", b.Point, m.Point)
				}
			}
			MountOption(m.Super, "lowerdir")
		}
	})
}

func BenchmarkParseMountinfo(b *testing.B) {
	var text strings.Builder
	for i := range 30 {
		fmt.Fprintf(&text, "%d 27 0:%d / /mnt/some/place/number\\040%d rw,nosuid,nodev,relatime shared:%d - ext4 /dev/mapper/vg-%d rw,discard,errors=remount-ro\n", i+30, i, i, i, i)
	}
	r := strings.NewReader("")
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(text.String())
		if ms, err := ParseMountinfo(r); err != nil || len(ms) != 30 {
			b.Fatal(len(ms), err)
		}
	}
}
