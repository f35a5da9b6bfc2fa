package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/early"
)

// Machine is what Diagnose and Explain go by: facts that decide whether a
// sandbox can be made here, and why not. Look fills it, and only after a
// failure or for `sbx doctor`: a run needs none of it.
type Machine struct {
	UID  uint32
	User string
	// Release is the kernel's, as uname(2) gives it.
	Release string
	// Executable is the path of this program. AppArmor attaches profiles to it,
	// and the sandbox's first process never executes another.
	Executable string
	// Sysctls holds those of sysctlNames that this kernel has.
	Sysctls map[string]int64
	// AppArmor is the label of this process, "" where AppArmor is not enabled;
	// SELinux says that a policy is enforced.
	AppArmor string
	SELinux  bool
	// Filtered says that a seccomp filter is in force already (a container's),
	// NoNewPrivs that setuid programs such as newuidmap(1) have no effect.
	Filtered, NoNewPrivs bool
	// Missing are the capabilities that a caller with uid 0 does not have;
	// Extra those that an ordinary user has.
	Missing, Extra []string
	// Container names what seems to run this process, "" for nothing; Nested
	// says that the user namespace is not the first one.
	Container string
	Nested    bool
	// Inside says that this is the inside of a sandbox of sbx.
	Inside bool
	// Chroot says that the root directory is no mount: chroot(2).
	Chroot bool
	// ProcMounts and EtcMounts are the mount points below /proc and /etc.
	ProcMounts, EtcMounts []string
	// State is the state directory, Spare a directory on another file system
	// that could be one, or "".
	State Volume
	Spare string
	// Landlock is the kernel's Landlock ABI.
	Landlock int
	// TUN is nil where /dev/net/tun can be opened.
	TUN error
	// Earlier and Later are other programs of our name in $PATH, before and
	// after this one; OnPath says that this one is there.
	Earlier, Later []string
	OnPath         bool
	// Nofile is the caller's RLIMIT_NOFILE; Processes and FileSize are the soft
	// limits RLIMIT_NPROC and RLIMIT_FSIZE (getrlimit(2)).
	Nofile              [2]uint64
	Processes, FileSize uint64
}

// A Volume is a directory and the file system that it is on. The directory need
// not exist.
type Volume struct {
	Dir, Type, Point string
	ReadOnly         bool
}

// sysctlNames are the sysctls that can keep a user from making namespaces:
// namespaces(7), and two that are patches of distributions.
var sysctlNames = []string{
	"kernel.unprivileged_userns_clone",             // Debian, Arch
	"kernel.apparmor_restrict_unprivileged_userns", // Ubuntu
	"user.max_user_namespaces",
	"user.max_mnt_namespaces", "user.max_pid_namespaces", "user.max_ipc_namespaces",
	"user.max_uts_namespaces", "user.max_cgroup_namespaces", "user.max_net_namespaces",
	"fs.mount-max", "kernel.keys.maxkeys",
}

// Look reads the facts. state is the state directory, "" if there is none.
func Look(state string) Machine {
	m := Machine{
		UID: uint32(os.Geteuid()), Release: release(), Executable: executable(),
		Sysctls: map[string]int64{}, Landlock: LandlockABI(), TUN: openTUN(),
		Inside: os.Getenv("SBX") == "1",
	}
	var f Facts
	f.UID = m.UID
	f.account()
	m.User = f.User
	for _, name := range sysctlNames {
		if v, ok := sysctl(name); ok {
			m.Sysctls[name] = v
		}
	}
	m.security()
	m.Missing, m.Extra = capabilities(m.UID)
	m.Container, m.Nested = container(), nested()
	mounts := m.mounts()
	m.State = volume(mounts, state)
	m.Spare = spare(mounts, m.State, m.UID)
	m.Earlier, m.Later, m.OnPath = namesakes(os.Getenv("PATH"), m.Executable)
	m.limits()
	return m
}

func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// executable is proc(5)'s /proc/self/exe; a program that was replaced while it
// ran has a note behind its name there.
func executable() string {
	path, err := os.Executable()
	if err != nil {
		return "sbx"
	}
	return strings.TrimSuffix(path, " (deleted)")
}

func sysctl(name string) (int64, bool) {
	data, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return 0, false
	}
	v, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64)
	return v, err == nil
}

// security reads what of seccomp(2) and of the security modules is in force.
func (m *Machine) security() {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t"); key {
		case "Seccomp":
			m.Filtered = value == "2"
		case "NoNewPrivs":
			m.NoNewPrivs = value == "1"
		}
	}
	if on, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled"); strings.HasPrefix(string(on), "Y") {
		for _, file := range []string{"/proc/self/attr/apparmor/current", "/proc/self/attr/current"} {
			if label, err := os.ReadFile(file); err == nil {
				m.AppArmor = strings.TrimRight(string(label), "\x00\n")
				break
			}
		}
	}
	enforce, _ := os.ReadFile("/sys/fs/selinux/enforce")
	m.SELinux = strings.HasPrefix(string(enforce), "1")
}

// container goes by the marks that container engines leave. A guess: only
// words of advice depend on it.
func container() string {
	exists := func(path string) bool { return unix.Access(path, unix.F_OK) == nil }
	named, _ := os.ReadFile("/run/systemd/container")
	switch {
	case os.Getenv("KUBERNETES_SERVICE_HOST") != "" && os.Getenv("KUBERNETES_PORT") != "":
		return "kubernetes"
	case exists("/run/.containerenv"):
		return "podman"
	case exists("/.dockerenv"):
		return "docker"
	case exists("/.flatpak-info"):
		return "flatpak"
	case len(bytes.TrimSpace(named)) > 0:
		return string(bytes.TrimSpace(named))
	}
	return os.Getenv("container") // systemd's container interface: lxc, systemd-nspawn
}

// nested says that the user namespace does not hold all ids
// (user_namespaces(7)).
func nested() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !slices.Equal(strings.Fields(string(data)), []string{"0", "0", "4294967295"})
}

func (m *Machine) mounts() []Mount {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer file.Close()
	mounts, err := ParseMountinfo(file)
	if err != nil {
		return nil
	}
	m.Chroot = !slices.ContainsFunc(mounts, func(m Mount) bool { return m.Point == "/" })
	for _, b := range MountsBelow(mounts, "/proc") {
		if b.FSType != "binfmt_misc" && b.FSType != "autofs" && b.FSType != "nfsd" {
			m.ProcMounts = append(m.ProcMounts, b.Point)
		}
	}
	for _, b := range MountsBelow(mounts, "/etc") {
		m.EtcMounts = append(m.EtcMounts, b.Point)
	}
	return mounts
}

// volume finds the file system of a directory, or of where it would be made.
func volume(mounts []Mount, dir string) Volume {
	v := Volume{Dir: dir}
	if dir == "" {
		return v
	}
	at := dir
	for {
		real, err := filepath.EvalSymlinks(at)
		if err == nil {
			at = real
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || at == "/" {
			break
		}
		at = filepath.Dir(at)
	}
	if mount, ok := MountOf(mounts, at); ok {
		v.Type, v.Point = mount.FSType, mount.Point
		_, ro := MountOption(mount.Options, "ro")
		_, superRO := MountOption(mount.Super, "ro")
		v.ReadOnly = ro || superRO
	}
	return v
}

// upperTypes are file systems that are known to hold an overlay's upper
// directory: local, with user xattrs (tmpfs since Linux 6.6) and whiteouts.
var upperTypes = []string{"ext4", "xfs", "btrfs", "f2fs", "bcachefs", "tmpfs"}

// spare finds another place for the state directory.
func spare(mounts []Mount, bad Volume, uid uint32) string {
	for _, dir := range []string{"/var/tmp", "/tmp", "/dev/shm"} {
		v := volume(mounts, dir)
		if v.ReadOnly || v.Point == bad.Point || !slices.Contains(upperTypes, v.Type) || unix.Access(dir, unix.W_OK|unix.X_OK) != nil {
			continue
		}
		return fmt.Sprintf("%s/sbx-%d", dir, uid)
	}
	return ""
}

func openTUN() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// namesakes finds other programs of the name sbx in a search path.
func namesakes(path, self string) (earlier, later []string, found bool) {
	own, ownErr := os.Stat(self)
	for dir := range strings.SplitSeq(path, ":") {
		file := filepath.Join(dir, "sbx")
		info, err := os.Stat(file)
		switch {
		case !filepath.IsAbs(dir) || err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		case ownErr == nil && os.SameFile(own, info):
			found = true
		case found:
			later = append(later, file)
		default:
			earlier = append(earlier, file)
		}
	}
	return earlier, later, found
}

func (m *Machine) limits() {
	read := func(resource int) unix.Rlimit {
		l := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		unix.Getrlimit(resource, &l)
		return l
	}
	m.Processes, m.FileSize = read(unix.RLIMIT_NPROC).Cur, read(unix.RLIMIT_FSIZE).Cur
	files := read(unix.RLIMIT_NOFILE)
	m.Nofile = [2]uint64{files.Cur, files.Max}
	if soft, hard, ok := early.Nofile(); ok {
		m.Nofile = [2]uint64{soft, hard}
	}
}

// TryXattr sets a user xattr (xattr(7)) on a directory, as overlayfs does to mark
// a directory as opaque. Without it the overlay can be mounted, but a build
// that replaces a directory gets EIO.
func TryXattr(dir string) error {
	return unix.Setxattr(dir, "user.sbx.doctor", []byte("y"), 0)
}
