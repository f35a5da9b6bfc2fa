package overlay

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

var plenty = ImportOptions{Limits: DefaultLimits(1 << 30)}

// unpack imports an archive into a fresh directory.
func unpack(t testing.TB, in io.Reader, opts ImportOptions) (string, error) {
	t.Helper()
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	return dir, Import(in, fd, opts)
}

// What is exported and imported is the same layer.
func TestArchiveRoundTrip(t *testing.T) {
	p := everything(t)
	fill(t, p.Upper, "odd \xff\xfe=1\npipe|\nzero=\nro:400=1\ndir/:555\nl->/etc/passwd\n"+strings.Repeat("deep/", 400)+"f=1\n")
	must(t, os.WriteFile(p.Upper+"/line\nbreak", []byte("1"), 0o644))
	must(t, os.Link(p.Upper+"/mod", p.Upper+"/new/linked"))
	must(t, unix.Setxattr(p.Upper+"/mod", "user.mine", []byte("v\x00\n"), 0))
	must(t, unix.Setxattr(p.Upper+"/md", "user.mine", []byte("d"), 0))
	must(t, unix.Setxattr(p.Upper+"/mod", "user.overlay.redirect", []byte("/etc"), 0))
	must(t, os.Chmod(p.Upper+"/md/g", 0o755|os.ModeSetuid))
	when := time.Unix(1_234_567_890, 987_654_321)
	for _, f := range []string{"mod", "md", "new/a"} {
		must(t, os.Chtimes(p.Upper+"/"+f, time.Time{}, when))
	}
	with, home := t.TempDir(), t.TempDir()
	fill(t, with, "a=1\ngone%\n")
	fill(t, home, ".wh.x=1\n.config/f=1\n")
	var buf bytes.Buffer
	parts := []Part{{Dir: p.Upper}, {Dir: with, Prefix: ".sbx-layer/with/0123456789abcdef/upper/", Source: "/src/li b"}, {Dir: home, Prefix: ".sbx-layer/home/", Home: true}}
	must(t, Export(&buf, parts, ExportOptions{}))
	dir, err := unpack(t, bytes.NewReader(buf.Bytes()), plenty)
	must(t, err)
	must(t, os.Chmod(p.Upper+"/md/g", 0o755))
	checkListing(t, dir+"/upper", listing(t, p.Upper))
	checkListing(t, dir+"/with/0123456789abcdef/upper", listing(t, with))
	checkListing(t, dir+"/home", listing(t, home))
	// An archive does not choose to which directory of the host a pull writes.
	if _, err := os.Lstat(dir + "/with/0123456789abcdef/source"); err == nil {
		t.Error("the source of a joined directory came along")
	}
	for _, f := range []string{"mod", "md", "new/a"} {
		if st, err := os.Stat(dir + "/upper/" + f); err != nil || !st.ModTime().Equal(when) {
			t.Errorf("%s: %v", f, err)
		}
	}
	var a, b unix.Stat_t
	must(t, unix.Lstat(dir+"/upper/mod", &a))
	must(t, unix.Lstat(dir+"/upper/new/linked", &b))
	if a.Ino != b.Ino {
		t.Error("a hard link has become a file of its own")
	}
	x := make([]byte, 10)
	if n, err := unix.Getxattr(dir+"/upper/mod", "user.mine", x); err != nil || string(x[:n]) != "v\x00\n" {
		t.Errorf("xattr: %v", err)
	}
	if _, err := unix.Getxattr(dir+"/upper/mod", "user.overlay.redirect", x); err == nil {
		t.Error("an attribute of overlayfs came along")
	}
	// The same bytes each time.
	var again bytes.Buffer
	must(t, os.Chmod(p.Upper+"/md/g", 0o755|os.ModeSetuid))
	must(t, Export(&again, parts, ExportOptions{}))
	if !bytes.Equal(buf.Bytes(), again.Bytes()) {
		t.Error("two exports differ")
	}
}

// GNU tar reads it, and finds what an OCI layer has.
func TestArchiveForOthers(t *testing.T) {
	tool, err := exec.LookPath("tar")
	if err != nil {
		t.Skip(err)
	}
	p := everything(t)
	var buf bytes.Buffer
	must(t, Export(&buf, []Part{{Dir: p.Upper}}, ExportOptions{}))
	z, err := zstd.NewReader(&buf)
	must(t, err)
	defer z.Close()
	cmd := exec.Command(tool, "-tf", "-")
	cmd.Stdin = z
	out, err := cmd.CombinedOutput()
	must(t, err)
	want := strings.Fields("dtof .wh.gone link md/ md/g mod mode new/ new/a/ new/a/b/ new/a/b/c new/empty/ new/l op/ op/.wh..wh..opq op/a op/c op/s/ op/s/y todir/ todir/f tolink .wh.wd")
	if got := strings.Fields(string(out)); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("tar lists\n%q, want\n%q", got, want)
	}
}

// What the format cannot say is left out, and said: one name that a build makes is no
// reason that the layer cannot be moved.
func TestExportSkips(t *testing.T) {
	for name, want := range map[string]string{
		".wh.x=1": ".wh.x", "d/.wh.x/": "d/.wh.x", "d/.wh.x/f=1": "d/.wh.x d/.wh.x/f", ".wh.%": ".wh.", ".sbx-layer=1": ".sbx-layer",
		".sbx-layer/with/x=1": ".sbx-layer .sbx-layer/with .sbx-layer/with/x",
	} {
		p := newPair(t)
		fill(t, p.Upper, name+"\nkept=1\n")
		var out bytes.Buffer
		var lost []string
		must(t, Export(&out, []Part{{Dir: p.Upper}}, ExportOptions{Skip: func(path, why string, is bool) {
			if is {
				lost = append(lost, path)
			}
		}}))
		if got := strings.Join(lost, " "); got != want {
			t.Errorf("%s: lost %q, want %q", name, got, want)
		}
		dir, err := unpack(t, &out, plenty)
		must(t, err)
		if got := listing(t, dir); !strings.Contains(got, "kept=1") || strings.Contains(got, ".wh") || strings.Contains(got, ".sbx") {
			t.Errorf("%s: the archive has\n%s", name, got)
		}
	}
	p := newPair(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: p.Upper + "/sock"}))
	skipped := ""
	must(t, Export(io.Discard, []Part{{Dir: p.Upper}}, ExportOptions{Skip: func(path, why string, lost bool) { skipped = path + ": " + why }}))
	if skipped != "sock: it is a socket" {
		t.Errorf("skipped %q", skipped)
	}
}

// archive makes a tar file of headers; a regular file has its name as content.
func archive(t testing.TB, list ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range list {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg && h.Size == 0 && !strings.Contains(h.Name, ".wh.") {
			h.Size = int64(len(h.Name))
		}
		must(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg && h.Size > 0 {
			_, err := w.Write([]byte(strings.Repeat(h.Name, int(h.Size)/len(h.Name)+1))[:h.Size])
			must(t, err)
		}
	}
	must(t, w.Close())
	return buf.Bytes()
}

func reg(name string) tar.Header { return tar.Header{Name: name, Mode: 0o644} }
func directory(name string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}
}
func link(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
}
func symlink(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
}

// Each of these is an attack, and an error that names the entry.
func TestImportRefuses(t *testing.T) {
	for _, tt := range []struct {
		list []tar.Header
		want string
	}{
		{[]tar.Header{reg("/etc/passwd")}, `cannot import "/etc/passwd": it is absolute`},
		{[]tar.Header{reg("../x")}, `cannot import "../x": it has .. in it`},
		{[]tar.Header{reg("a/../../x")}, "it has .."},
		{[]tar.Header{symlink("l", "/tmp"), reg("l/x")}, "goes through something that is no directory"},
		{[]tar.Header{symlink("l", "."), reg("l/x")}, "goes through"},
		{[]tar.Header{symlink("l", ".."), directory("l/x/y/")}, "goes through"},
		{[]tar.Header{reg("f"), reg("f/x")}, "goes through"},
		{[]tar.Header{symlink("l", "/"), reg("l/.wh.etc")}, "goes through"},
		{[]tar.Header{symlink("l", "/etc/passwd"), link("h", "l")}, "which is no file"},
		{[]tar.Header{symlink("l", "/etc"), link("h", "l/passwd")}, "it is a link to"},
		{[]tar.Header{link("h", "/etc/passwd")}, "it is absolute"},
		{[]tar.Header{link("h", "../../x")}, "it has .."},
		{[]tar.Header{link("h", "nothing")}, "which is no file"},
		{[]tar.Header{link("h", "")}, "something else"},
		{[]tar.Header{directory("d"), link("h", "d")}, "which is no file"},
		{[]tar.Header{reg(".sbx-layer/home/x"), link("h", ".sbx-layer/home/x")}, "something else"},
		{[]tar.Header{{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}, "it is a device"},
		{[]tar.Header{{Name: "dev", Typeflag: tar.TypeBlock}}, "it is a device"},
		{[]tar.Header{{Name: ".sbx-layer/home/dev", Typeflag: tar.TypeChar}}, "it is a device"},
		{[]tar.Header{reg(".wh.")}, "it deletes nothing"},
		{[]tar.Header{reg(".wh.d/x")}, "begins with .wh."},
		{[]tar.Header{reg("a/.wh..wh..opq/b/x")}, "begins with .wh."},
		{[]tar.Header{reg(".wh...")}, "it deletes nothing"},
		{[]tar.Header{reg(".wh..")}, "it deletes nothing"},
		{[]tar.Header{reg(".wh..wh..opq")}, "the root of the tree"},
		{[]tar.Header{reg(".sbx-layer/lock")}, "knows nothing"},
		{[]tar.Header{reg(".sbx-layer/with/../../x")}, "it has .."},
		{[]tar.Header{reg(".sbx-layer/with/xyz/upper/f")}, "not the key"},
		{[]tar.Header{reg(".sbx-layer/with/0123456789abcdef/index/f")}, "knows nothing"},
		{[]tar.Header{symlink(".sbx-layer/with/0123456789abcdef/sourc", "x")}, "knows nothing"},
		{[]tar.Header{reg(strings.Repeat("x", 256))}, "file name too long"},
		{[]tar.Header{reg(strings.Repeat("a/", 200_000) + "f")}, "directories deep"},
		{[]tar.Header{link("h", "a/../b")}, `a link to "a/../b"`},
		{[]tar.Header{symlink("l", strings.Repeat("x", 5000))}, "file name too long"},
	} {
		if _, err := unpack(t, bytes.NewReader(archive(t, tt.list...)), plenty); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.list, err, tt.want)
		}
	}
}

// What other tools put into an OCI layer.
func TestImportForeign(t *testing.T) {
	setuid := tar.Header{Name: "suid", Mode: 0o6755, Uname: "root", Uid: 0}
	attr := tar.Header{Name: "attr", Mode: 0o644, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"SCHILY.xattr.user.overlay.redirect": "/etc", "SCHILY.xattr.security.capability": "x", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.ok": "1",
	}}
	data := archive(t, directory("./"), directory("./d/"), reg("./d/.wh..wh..opq"), reg("./d/f"), reg("no/dir/entry"),
		reg(".wh.gone"), reg(".wh.dir"), directory("dir"), reg("kept"), reg(".wh.kept"), reg("twice"), tar.Header{Name: "twice", Mode: 0o600, Size: 2},
		directory("todir"), reg("todir/x"), reg("todir"), reg("tofile"), directory("tofile"), link("hard", "./twice"),
		setuid, attr, reg(".wh..wh.plnk"), tar.Header{Name: "cdev", Typeflag: tar.TypeChar}, tar.Header{Name: "none/", Typeflag: tar.TypeDir, Mode: 0}, reg("none/x"))
	want := `
		attr=attr
		cdev%
		d!/
		d/f=./d/f
		dir!/
		gone%
		hard:600=tw
		kept=kept
		no/
		no/dir/
		no/dir/entry=no/dir/entry
		none/:0
		none/x=none/x
		suid:755=suid
		todir=todir
		tofile/
		twice:600=tw
	`
	var gz bytes.Buffer
	g := gzip.NewWriter(&gz)
	g.Write(data)
	g.Close()
	if _, err := unpack(t, &gz, plenty); err == nil || !strings.Contains(err.Error(), "gzip") {
		t.Errorf("gzip: %v", err)
	}
	var zs bytes.Buffer
	z, err := zstd.NewWriter(&zs)
	must(t, err)
	z.Write(data)
	z.Close()
	for _, in := range [][]byte{data, zs.Bytes()} {
		dir, err := unpack(t, bytes.NewReader(in), plenty)
		must(t, err)
		if os.Geteuid() == 0 {
			checkListing(t, dir+"/upper", want)
		}
		buf := make([]byte, 8)
		for _, x := range []string{"user.overlay.redirect", "security.capability", "trusted.overlay.opaque"} {
			if _, err := unix.Getxattr(dir+"/upper/attr", x, buf); err == nil {
				t.Errorf("the attribute %s came along", x)
			}
		}
		if n, _ := unix.Getxattr(dir+"/upper/attr", "user.ok", buf); n != 1 {
			t.Error("an attribute is missing")
		}
		os.Chmod(dir+"/upper/none", 0o755)
	}
}

func TestImportLimits(t *testing.T) {
	many := archive(t, reg("a"), reg("b"), reg("c"))
	large := archive(t, tar.Header{Name: "x", Size: 100_000})
	for _, tt := range []struct {
		data   []byte
		limits Limits
		want   string
	}{
		{many, Limits{2, 1 << 20, 1 << 20}, "more than 2 files"},
		{large, Limits{10, 50_000, 1 << 20}, "more than 50000 bytes"},
		{large, Limits{10, 1 << 20, 50_000}, "more than the 50000 bytes"},
		{large, Limits{10, 100_000, 100_000}, ""},
	} {
		_, err := unpack(t, bytes.NewReader(tt.data), ImportOptions{Limits: tt.limits})
		if got := fmt.Sprint(err); tt.want == "" != (err == nil) || !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %v", tt.limits, err)
		}
	}
}

// A file of zeros takes no room.
func TestImportSparse(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	must(t, w.WriteHeader(&tar.Header{Name: "z", Size: 32 << 20, Mode: 0o644}))
	_, err := io.CopyN(w, zeroReader{}, 32<<20)
	must(t, err)
	must(t, w.Close())
	dir, err := unpack(t, &buf, ImportOptions{Limits: DefaultLimits(1000)})
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Lstat(dir+"/upper/z", &st))
	if st.Size != 32<<20 || st.Blocks > 16 {
		t.Errorf("%d bytes, %d blocks", st.Size, st.Blocks)
	}
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// An archive that is cut short is an error wherever it was cut.
func TestImportTruncated(t *testing.T) {
	p := everything(t)
	var buf bytes.Buffer
	must(t, Export(&buf, []Part{{Dir: p.Upper}}, ExportOptions{}))
	for cut := 0; cut < buf.Len(); cut += 1 + cut/8 {
		if _, err := unpack(t, bytes.NewReader(buf.Bytes()[:cut]), plenty); err == nil || !strings.Contains(err.Error(), "cannot ") {
			t.Errorf("cut at %d of %d: %v", cut, buf.Len(), err)
		}
	}
}

// FuzzImport: whatever comes in, nothing is written outside the layer, and
// nothing is in it that overlayfs or the host would obey.
func FuzzImport(f *testing.F) {
	f.Add(archive(f, directory("d"), reg("d/f"), symlink("l", "/tmp"), link("h", "d/f"), reg("d/.wh.x"), reg("d/.wh..wh..opq")))
	f.Add(archive(f, reg(".sbx-layer/home/x"), directory(".sbx-layer/with/0123456789abcdef/upper/d"), reg("../x"), reg("/x")))
	f.Add(archive(f, tar.Header{Name: "c", Typeflag: tar.TypeChar}, tar.Header{Name: "p", Typeflag: tar.TypeFifo}, symlink("a/b", ".."), reg("a/b/c")))
	f.Fuzz(func(t *testing.T, data []byte) {
		top := t.TempDir()
		must(t, os.Mkdir(top+"/layer", 0o755))
		must(t, os.WriteFile(top+"/beside", []byte("beside"), 0o644))
		fd, err := unix.Open(top+"/layer", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		defer unix.Close(fd)
		Import(bytes.NewReader(data), fd, ImportOptions{Limits: Limits{1000, 1 << 20, 1 << 20}})
		if entries, _ := os.ReadDir(top); len(entries) != 2 {
			t.Fatalf("beside the layer are %v", entries)
		}
		var st unix.Stat_t
		must(t, unix.Lstat(top+"/beside", &st))
		if text, _ := os.ReadFile(top + "/beside"); string(text) != "beside" || st.Nlink != 1 {
			t.Fatalf("a file outside is %q, links %d", text, st.Nlink)
		}
		filepath.WalkDir(top+"/layer", func(path string, d os.DirEntry, err error) error {
			var st unix.Stat_t
			if unix.Lstat(path, &st) != nil {
				return nil
			}
			if st.Mode&0o7000 != 0 && st.Mode&unix.S_IFMT != unix.S_IFLNK {
				t.Errorf("%q has mode %o", path, st.Mode)
			}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFBLK:
				t.Errorf("%q is a block device", path)
			case unix.S_IFCHR:
				if st.Rdev != 0 {
					t.Errorf("%q is a device", path)
				}
			}
			buf := make([]byte, 64)
			for _, x := range []string{"user.overlay.redirect", "user.overlay.metacopy", "user.overlay.origin"} {
				if _, err := unix.Lgetxattr(path, x, buf); err == nil {
					t.Errorf("%q has %s", path, x)
				}
			}
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				os.Chmod(path, 0o755) // for TempDir; it would follow a symlink
			}
			return nil
		})
	})
}

func BenchmarkExport(b *testing.B) {
	p := newPair(b)
	for d := range 100 {
		for f := range 100 {
			fill(b, p.Upper, fmt.Sprintf("d%d/f%d=%s\n", d, f, strings.Repeat("some text ", 200)))
		}
	}
	b.SetBytes(100 * 100 * 2000)
	for b.Loop() {
		must(b, Export(io.Discard, []Part{{Dir: p.Upper}}, ExportOptions{}))
	}
}

func TestImportTimes(t *testing.T) {
	for sec, want := range map[int64]int64{1: 1, -1: -1, 99999999999: 9223372036, -99999999999: -9223372036} {
		if got := modTime(&tar.Header{ModTime: time.Unix(sec, 0)}) / 1e9; got != want {
			t.Errorf("%d becomes %d", sec, got)
		}
	}
}
