package host

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// Probe looks at the machine, as far as a policy needs it. It reads and never
// writes, and touches no path that the policy does not name: a dead automount
// must not hang a run that has nothing to do with it.
func Probe(p policy.Policy) (Facts, error) {
	f := Facts{
		UID:     uint32(os.Geteuid()),
		GID:     uint32(os.Getegid()),
		Paths:   map[string]Path{},
		Targets: map[string]Kind{},
		Hides:   map[string]string{},
	}
	data, err := readFile("/proc/self/mountinfo")
	if err != nil {
		return f, fmt.Errorf("cannot read the table of mounts: %w", err)
	}
	mounts, err := ParseMountinfo(bytes.NewReader(data))
	if err != nil {
		return f, err
	}
	f.account()
	if err := f.maps(p); err != nil {
		return f, err
	}
	if err := f.paths(p, mounts); err != nil {
		return f, err
	}
	f.HomeMounts = p.Home != "" && len(MountsBelow(mounts, p.Home)) > 0
	f.etc(p, mounts)
	f.conf(p)
	f.logical(p)
	dirs, warnings := gitDirs(p, mounts)
	f.GitDirs, f.Warnings = dirs, append(f.Warnings, warnings...)
	if p.Relayed() {
		f.network(p)
	}
	f.Landlock = LandlockABI()
	f.IgnoreHUP = signal.Ignored(unix.SIGHUP)
	f.IgnoreINT = signal.Ignored(unix.SIGINT)
	return f, nil
}

// etcSecrets are names below /etc that hold keys, password hashes or the
// configuration of the host's network. Most are closed to ordinary users
// anyway; a caller that is root could read them.
var etcSecrets = []string{
	"shadow", "shadow-", "gshadow", "gshadow-", "passwd-", "group-", "subuid-", "subgid-",
	"sudoers", "sudoers.d", "security/opasswd", "krb5.keytab", "crypttab", "fstab",
	"ssh/ssh_host_rsa_key", "ssh/ssh_host_ecdsa_key", "ssh/ssh_host_ed25519_key", "ssh/ssh_host_dsa_key",
	"ssl/private", "letsencrypt", "NetworkManager", "wireguard", "openvpn", "ppp", "wpa_supplicant", "ipsec.secrets", "ipsec.d",
	"samba", "cups", "docker", "containers/auth.json", "kubernetes", "rancher", "mysql/debian.cnf", "exim4/passwd.client", "postfix/sasl_passwd", "apt/auth.conf", "apt/auth.conf.d",
}

func (f *Facts) etc(p policy.Policy, mounts []Mount) {
	f.EtcMounts = len(MountsBelow(mounts, "/etc")) > 0
	for _, name := range etcSecrets {
		if k := kindAt("/etc/" + name); k != Absent {
			f.EtcSecrets = append(f.EtcSecrets, name)
			f.Targets["/etc/"+name] = k
		}
	}
	if f.EtcMounts {
		entries, _ := os.ReadDir("/etc")
		for _, e := range entries {
			entry := Entry{Name: e.Name(), Kind: kindAt("/etc/" + e.Name())}
			if entry.Kind == Symlink {
				entry.Link, _ = os.Readlink("/etc/" + e.Name())
			}
			f.Etc = append(f.Etc, entry)
		}
	}
	if p.Network == policy.Host {
		data, _ := os.ReadFile("/etc/resolv.conf")
		f.Resolv = string(data)
	}
}

// logical finds the symlinks by which the caller's shell came to the working
// directory. Each is made inside where it really is, with its real target.
func (f *Facts) logical(p policy.Policy) {
	path := ""
	for name := range strings.SplitSeq(strings.TrimPrefix(p.LogicalDir, "/"), "/") {
		path += "/" + name
		if kindAt(path) != Symlink {
			continue
		}
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return
		}
		f.Targets[path] = Symlink
		f.Paths[path] = Path{Kind: Symlink, Real: real}
		path = real
	}
}

// gitDirs finds git directories outside the tree, and leaves out those that an
// overlay cannot show.
func gitDirs(p policy.Policy, mounts []Mount) (dirs []GitDir, warnings []string) {
	hidden := func(path string) bool {
		return policy.Secret(path, p.Home) || path == p.Home || policy.Below(p.Home, path)
	}
	found, errs := GitDirs(p.Tree, hidden)
	for _, err := range errs {
		warnings = append(warnings, err.Error())
	}
	for _, g := range found {
		if g.Kind == GitAlternate {
			// Nothing points back from there: a tarball's .git could name
			// any repository of the user's.
			if !asked(p, g.Path) {
				warnings = append(warnings, fmt.Sprintf("git borrows objects from %q, which is not shown; --ro %s shows it", g.Path, policy.Escape(g.Path)))
			}
			continue
		}
		if len(MountsBelow(mounts, g.Path)) > 0 {
			warnings = append(warnings, fmt.Sprintf("the git directory %q has mounts below it and is not shown", g.Path))
			continue
		}
		dirs = append(dirs, g)
	}
	return dirs, warnings
}

// asked says whether a rule shows path anyway.
func asked(p policy.Policy, path string) bool {
	for _, r := range p.Rules {
		if r.Access != policy.Hidden && (r.Target == path || policy.Below(path, r.Target)) {
			return true
		}
	}
	return false
}

// readFile is os.ReadFile without the runtime's poller, which costs six system
// calls a file.
func readFile(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 4<<10)
	n := 0
	for {
		m, err := unix.Read(fd, buf[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case m == 0:
			return buf[:n], nil
		}
		if n += m; n == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

// LandlockABI is the version of the kernel's Landlock, 0 where it is not there
// or not enabled (landlock(7)).
func LandlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}
