package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// aboutOverlay tells why an overlay could not be mounted.
func (m Machine) aboutOverlay(errno syscall.Errno) []advice {
	switch errno {
	case syscall.ENODEV:
		return []advice{{"the kernel has no overlayfs loaded", m.sudo() + "modprobe overlay"}}
	case syscall.EINVAL, syscall.EOPNOTSUPP, syscall.EROFS:
		if why := m.State.unfit(); why != "" {
			return []advice{m.elsewhere(why)}
		}
	case syscall.ESTALE, syscall.EUCLEAN:
		return []advice{{"the layer was made for another directory or file system", "sbx reset --all"}}
	case syscall.EPERM, syscall.EACCES:
		return m.aboutPowers()
	case syscall.ENOSPC:
		return []advice{{"the file system of the state directory is full, or the limit fs.mount-max is reached", "df -h " + shellWord(m.State.Dir)}}
	}
	return []advice{m.doctor()}
}

// unfit says why the file system of a state directory cannot hold an overlay's
// upper directory, in words; "" if nothing is known against it. The rules are
// those of fs/overlayfs/super.c, ovl_get_upper and ovl_make_workdir.
func (v Volume) unfit() string {
	on := fmt.Sprintf("the state directory %q is on %s", v.Dir, v.Type)
	base, _, _ := strings.Cut(v.Type, ".")
	switch {
	case v.Type == "":
		return ""
	case v.ReadOnly:
		return on + ", mounted read-only"
	case v.Type == "overlay", v.Type == "overlayfs", v.Type == "aufs":
		return on + " (as in a container), and an overlay cannot hold the upper directory of another"
	case slices.Contains([]string{"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "glusterfs", "virtiofs"}, v.Type):
		return on + ", a network file system, and overlayfs takes only local ones"
	case base == "fuse", base == "fuseblk":
		return on + ", which FUSE serves, and overlayfs needs whiteouts and xattrs that it lacks"
	case slices.Contains([]string{"vfat", "msdos", "exfat", "ntfs", "ntfs3", "hfsplus", "iso9660", "squashfs"}, v.Type):
		return on + ", which holds no user xattrs or no whiteouts"
	case v.Type == "ecryptfs", v.Type == "zfs", v.Type == "ramfs":
		return on + ", which in many versions cannot hold an overlay's upper directory"
	}
	return ""
}

// elsewhere moves the state to a place that can hold it.
func (m Machine) elsewhere(why string) advice {
	if m.Spare != "" {
		return advice{why, "export SBX_STATE=" + shellWord(m.Spare)}
	}
	switch m.Container {
	case "docker", "podman":
		return advice{why, m.Container + " run --volume sbx-state:/var/lib/sbx --env SBX_STATE=/var/lib/sbx IMAGE COMMAND"}
	}
	return advice{why, "sbx --state DIR -- COMMAND   (a directory on ext4, xfs, btrfs or tmpfs)"}
}

// shellWord quotes for sh(1) where that is needed.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./@%+") == "" {
		return s
	}
	return shellQuote(s)
}

// state is the check of the state directory as such.
func (m Machine) state(t Trials) Check {
	c := Check{Name: "state_directory", Detail: fmt.Sprintf("%q on %s", m.State.Dir, m.State.Type)}
	switch {
	case t.State != nil && m.State.ReadOnly:
		return c.fail(t.State, m.elsewhere(m.State.unfit()))
	case t.State != nil:
		return c.fail(t.State, advice{"", "sbx --state DIR -- COMMAND"})
	case t.Xattr == syscall.EOPNOTSUPP:
		why := fmt.Sprintf("%s holds no user xattrs, without which an overlay cannot replace a directory", c.Detail)
		if m.State.Type == "tmpfs" {
			why += " (tmpfs has them since Linux 6.6)"
		}
		a := m.elsewhere(why)
		c.Status, c.Detail, c.Fix = Fail, a.why, a.fix
		return c
	case t.Xattr != nil && t.Xattr != ErrNotTried:
		return c.fail(fmt.Errorf("%s: cannot set a user xattr: %w", c.Detail, t.Xattr), m.elsewhere(""))
	}
	c.Status = OK
	c.Detail += ", holds user xattrs"
	return c
}

// overlay is the check of an overlay with its upper in the state directory.
func (m Machine) overlay(t Trials) Check {
	c := Check{Name: "overlay", Detail: "can be mounted, with its upper in the state directory"}
	if done := c.tried(t.Overlay); done {
		return c
	}
	return c.fail(t.Overlay, m.adviseOn(t.Overlay))
}

// live is the check of what shows inside what is saved on the host. A run works
// without it.
func (m Machine) live(t Trials) Check {
	c := Check{Name: "live", Detail: "what is saved on the host is seen inside at once"}
	if done := c.tried(t.Live); done {
		return c
	}
	a := advice{fix: "sbx --no-live -- COMMAND"}
	if errors.Is(t.Live, syscall.EMFILE) || errors.Is(t.Live, syscall.ENOSPC) {
		a = advice{"other programs of this user, such as editors, have all that there are", m.sudo() + "sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=524288"}
	}
	c = c.fail(fmt.Errorf("what is saved on the host is not seen inside: %w", t.Live), a)
	c.Status = Warn
	return c
}
