package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A snapshot of a btrfs subvolume, which its owner may make, has what is hidden in
// the subvolume, and all that --ro was to keep as it is can be had in writable.
func TestEscapeSnapshot(t *testing.T) {
	needRoot(t)
	needUserNS(t)
	a := newAccount(t)
	disk := btrfs(t, a)
	shown, tree := filepath.Join(disk, "shown"), filepath.Join(disk, "tree")
	if r := finish(t, a.command(disk, nil, "btrfs", "subvolume", "create", shown)); r.Status != 0 {
		t.Fatal(r)
	}
	a.mkTree(t, shown, map[string]string{"secret": "canary\n"})
	a.mkTree(t, tree, map[string]string{".git/HEAD": ""})
	a.Home = filepath.Join(disk, "home") // with the layer in it
	a.mkTree(t, a.Home, nil)
	a.arm(t, tree)

	attack := "snapshot " + shown + " copy"
	a.outside(t, disk, attack).did(t, attack)
	flags := []string{"--ro", shown, "--hide", shown + "/secret", "-C", a.Home}
	r := a.sbx(t, tree, append(flags, "--source", tree, "--", tree+"/victim", attack, "read copy/secret")...)
	parse(t, r, []string{attack}).is(t, attack, "ENOTTY")
	if r := a.sbx(t, tree, "--", "sh", "-c", "cp victim ~/a && cp --reflink=always ~/a ~/b && cmp ~/a ~/b"); r.Status != 0 {
		t.Errorf("files cannot be cloned: %v", r)
	}
}

// btrfs is a small file system of that kind, the account's own.
func btrfs(t *testing.T, a account) string {
	t.Helper()
	needTool(t, "mkfs.btrfs", "btrfs", "mount")
	top := tempDir(t)
	image, disk := filepath.Join(top, "image"), filepath.Join(top, "disk")
	a.mkTree(t, disk, nil)
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 256<<20); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command("mkfs.btrfs", "-q", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.btrfs: %v\n%s", err, text)
	}
	if text, err := exec.Command("mount", "-o", "loop", image, disk).CombinedOutput(); err != nil {
		t.Skipf("btrfs cannot be mounted on this machine, even by root: %v\n%s", err, text)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	if err := os.Chown(disk, a.UID, a.GID); err != nil {
		t.Fatal(err)
	}
	return disk
}
