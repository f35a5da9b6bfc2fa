package overlay

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestClone(t *testing.T) {
	p := everything(t)
	fill(t, p.Upper, "suid:4755=x\npipe|\nro/:555\ndir/f=1\n")
	must(t, os.Link(p.Upper+"/mod", p.Upper+"/new/linked"))
	must(t, unix.Setxattr(p.Upper+"/mod", "user.mine", []byte("v"), 0))
	must(t, unix.Setxattr(p.Upper+"/new", "user.mine", []byte("v"), 0))
	when := time.Unix(1_234_567_890, 987_654_321)
	for _, f := range []string{"mod", "new/a", "ro"} {
		must(t, os.Chtimes(p.Upper+"/"+f, time.Time{}, when))
	}
	to := t.TempDir()
	fd, err := unix.Open(to, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, os.Chmod(p.Upper, 0o750))
	must(t, Clone(p.Upper, fd, false, nil))
	if st, err := StatFd(fd); err != nil || st.Perm() != 0o750 {
		t.Errorf("the copy has the mode %o, %v", st.Perm(), err)
	}
	checkListing(t, to, listing(t, p.Upper))
	if a, b := changes(t, p, Options{All: true}), changes(t, Pair{Lower: p.Lower, Upper: to}, Options{All: true}); a != b {
		t.Errorf("the changes are\n%sand of the copy\n%s", a, b)
	}
	var a, b unix.Stat_t
	must(t, unix.Lstat(to+"/mod", &a))
	must(t, unix.Lstat(to+"/new/linked", &b))
	if a.Ino != b.Ino || a.Mtim.Nano() != when.UnixNano() {
		t.Errorf("%+v, %+v", a, b)
	}
	x := make([]byte, 8)
	for _, f := range []string{"mod", "new"} {
		if n, _ := unix.Getxattr(to+"/"+f, "user.mine", x); n != 1 {
			t.Errorf("an attribute of %s is missing", f)
		}
	}
	// A copy is as old as what it is of: a host's edit since is noticed.
	tick()
	fill(t, p.Lower, "wd/a/b=edited\n")
	checkPull(t, Pair{Lower: p.Lower, Upper: to}, newNotes(t), PullOptions{Selection: named("wd")}, "D wd: "+Drifted+"\n")
	files, alloc, err := Usage(p.Upper)
	if err != nil || files != 28 || alloc < 40<<10 {
		t.Errorf("%d files, %d bytes, %v", files, alloc, err)
	}
}
