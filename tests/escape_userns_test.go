package tests

import (
	"strings"
	"testing"
)

// With --allow-userns a build has every capability in a namespace of its own.
// The mounts that it inherits are locked there: a mask stays, read-only stays,
// and what lies below /proc, the layer's directory, stays covered.
func TestEscapeUsernsNested(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"secret": "canary-hidden\n"})
	shown := a.dir(t)
	a.mkTree(t, shown, map[string]string{"f": "host"})
	same := unchanged(t, shown)
	script := `
		mount -t tmpfs none /tmp && echo mounted; mkdir /tmp/m /tmp/n
		umount -l secret; umount secret; mount --make-rprivate /; umount -l "$2"; cat secret
		umount -l /proc; ls /proc/layer; mount --bind / /tmp/m && ls /tmp/m/proc/layer; mount --rbind / /tmp/n && umount -l /tmp/n/proc; ls /tmp/n/proc/layer; cat /tmp/n"$2"/secret
		mount -t proc none /tmp/m && echo x >/tmp/m/sys/kernel/hostname && echo newproc
		mount -o remount,rw,bind /usr; mount -o remount,rw "$1"; mount -o remount,bind,rw "$1"; echo pwned >"$1"/f
		mount --move "$2"/secret /tmp/m; cat secret; mount -o remount,bind,suid,dev /tmp
		mkdir /tmp/u /tmp/w; mount -t overlay -o userxattr,lowerdir="$2",upperdir=/tmp/u,workdir=/tmp/w none /tmp/m && cat /tmp/m/secret
		pivot_root . /tmp/n; true`
	// The control: where the same mounts are one's own, they come off.
	control := finish(t, a.command(tree, nil, "unshare", "-Urm", "sh", "-c", "mount --bind /dev/null secret && cat secret && umount secret && cat secret"))
	if control.Stdout != "canary-hidden\n" {
		t.Fatalf("the control cannot take a mask off: %v", control)
	}
	r := a.sbx(t, tree, "--allow-userns", "--hide", "secret", "--ro", shown, "--", "unshare", "-Urm", "sh", "-c", script, "sh", shown, tree)
	if !strings.Contains(r.Stdout, "mounted") {
		t.Errorf("--allow-userns does not let a build mount: %v", r)
	}
	for _, bad := range []string{"canary", "upper", "newproc"} {
		if strings.Contains(r.Stdout, bad) {
			t.Errorf("a nested namespace uncovers %q: %v", bad, r)
		}
	}
	same()
	if r := a.sbx(t, tree, "--", "unshare", "-Urm", "echo", "nested"); strings.Contains(r.Stdout, "nested") {
		t.Errorf("a user namespace can be made without --allow-userns: %v", r)
	}
}
