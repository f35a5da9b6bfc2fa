package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// Probe looks at the machine, as far as a policy needs it. It reads and never
// writes, and touches no path that the policy does not name: a dead automount
// must not hang a run that has nothing to do with it.
func Probe(p policy.Policy) (Facts, error) {
	f := Facts{
		UID:     uint32(os.Geteuid()),
		GID:     uint32(os.Getegid()),
		Paths:   make(map[string]Path, len(p.Rules)+len(p.With)+1),
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
	f.logical(p)
	f.GitDirs, f.Warnings = gitDirs(p, mounts)
	f.Landlock = LandlockABI()
	f.IgnoreHUP = signal.Ignored(unix.SIGHUP)
	f.IgnoreINT = signal.Ignored(unix.SIGINT)
	return f, nil
}

// account reads the caller's lines of passwd(5) and group(5). Users of a
// directory service have none; the environment then names them.
func (f *Facts) account() {
	f.User, f.Group, f.Shell = os.Getenv("USER"), "", "/bin/sh"
	if l := lineByID("/etc/passwd", f.UID); len(l) >= 7 {
		f.User, f.Gecos, f.Shell = l[0], l[4], l[6]
	}
	if l := lineByID("/etc/group", f.GID); len(l) >= 3 {
		f.Group = l[0]
	}
	if !plainName(f.User) {
		f.User = "user"
	}
	if !plainName(f.Group) {
		f.Group = f.User
	}
	if strings.ContainsAny(f.Shell+f.Gecos, ":\n") || f.Shell == "" {
		f.Shell, f.Gecos = "/bin/sh", ""
	}
}

// plainName refuses what would change the shape of a generated passwd(5).
func plainName(s string) bool { return s != "" && !strings.ContainsAny(s, ":\n\t /") }

// lineByID returns the fields of the line whose third field is id.
func lineByID(file string, id uint32) []string {
	data, err := readFile(file)
	if err != nil {
		return nil
	}
	want := strconv.FormatUint(uint64(id), 10)
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) >= 3 && fields[2] == want {
			return fields
		}
	}
	return nil
}

// maps chooses the id maps.
func (f *Facts) maps(p policy.Policy) error {
	f.UIDs, f.GIDs = idmap.Identity(f.UID), idmap.Identity(f.GID)
	if f.UID == 0 {
		if m, ok := unusedRange(); ok {
			f.UIDs, f.GIDs, f.Idmapped = m, m, true
			return nil
		}
	}
	if !p.Root {
		return nil
	}
	uids, gids, err := idmap.SubIDs(f.User, f.UID)
	if err != nil {
		return err
	}
	um, uok := idmap.Root(f.UID, uids)
	gm, gok := idmap.Root(f.GID, gids)
	if uok && gok {
		f.UIDs, f.GIDs = um, gm
		return nil
	}
	f.UIDs, f.GIDs = idmap.Map{{Inside: 0, Outside: f.UID, Length: 1}}, idmap.Map{{Inside: 0, Outside: f.GID, Length: 1}}
	f.Warnings = append(f.Warnings,
		fmt.Sprintf("%s has no subordinate ids, so root inside is the only user: chown, su and packages with users of their own will fail", f.User))
	return nil
}

// unusedBase begins a range of ids that no system gives to users: they fit an
// int, which some programs need, and lie above the ranges for subordinate ids
// and of dynamic users.
const unusedBase = 0x7fff0000

// unusedRange maps the ids up to 65534 to ids that nobody has, if the caller's
// own namespace has these: real root has, root in a container mostly not.
func unusedRange() (idmap.Map, bool) {
	for _, file := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		data, err := readFile(file)
		if err != nil {
			return nil, false
		}
		own, err := idmap.ParseMap(bytes.NewReader(data))
		if err != nil {
			return nil, false
		}
		first, ok1 := own.Lookup(unusedBase)
		last, ok2 := own.Lookup(unusedBase + 65534)
		if !ok1 || !ok2 || last-first != 65534 {
			return nil, false
		}
	}
	return idmap.Map{{Inside: 0, Outside: unusedBase, Length: 65535}}, true
}

// NotIdmapped makes the facts of a caller that is root those of one whose files
// cannot be idmapped.
func (f *Facts) NotIdmapped(reason error) {
	f.Idmapped = false
	f.UIDs, f.GIDs = idmap.Identity(f.UID), idmap.Identity(f.GID)
	f.Warnings = append(f.Warnings, fmt.Sprintf("the sandbox runs as root of this machine, without capabilities, because its files cannot be idmapped (%v): run sbx as an ordinary user for full protection", reason))
}

// paths looks at every source and at what stands where rules hide or bind below
// shown directories.
func (f *Facts) paths(p policy.Policy, mounts []Mount) error {
	absent := absentBelow(p.Home)
	for _, r := range p.Rules {
		if r.Optional && absent(r.Source) {
			continue
		}
		if r.Access == policy.Hidden {
			if r.Optional && kindAt(r.Target) == Absent {
				continue
			}
			real := realTarget(r.Target)
			if real != r.Target {
				f.Hides[r.Target] = real
			}
			f.Targets[real] = kindAt(real)
			continue
		}
		path, err := look(r.Source, r.Literal, mounts)
		if err != nil || path.Kind == Absent {
			if r.Optional {
				continue
			}
			return &SourceError{Flag: r.Origin.Flag, Path: r.Source, Err: err}
		}
		if r.Access == policy.CopyOnWrite && !r.Optional {
			if path.Kind != Dir {
				return &SourceError{Flag: r.Origin.Flag, Path: r.Source, Err: errors.New("copy-on-write is for directories; --ro shows a file")}
			}
			if err := overlayable(path); err != nil {
				return &SourceError{Flag: r.Origin.Flag, Path: r.Source, Err: err}
			}
		}
		if r.Device && path.Kind != Device && path.Kind != Dir {
			return &SourceError{Flag: r.Origin.Flag, Path: r.Source, Err: errors.New("it is not a device")}
		}
		if path.Kind == Socket && r.Origin.Flag != "" {
			f.Warnings = append(f.Warnings, fmt.Sprintf("%s shows a socket: the build reaches the program behind it, also where the rule is read-only", r.Origin))
		}
		f.Paths[r.Source] = path
	}
	tree, err := look(p.Tree, false, mounts)
	if err != nil {
		return &SourceError{Path: p.Tree, Err: err}
	}
	if err := overlayable(tree); err != nil {
		return &SourceError{Path: p.Tree, Err: err, Fix: "sbx --source DIR -- COMMAND"}
	}
	f.Paths[p.Tree] = tree
	for _, w := range p.With {
		path, err := look(w.Source, false, mounts)
		switch {
		case err != nil || path.Kind == Absent:
			return &SourceError{Flag: w.Flag, Path: w.Source, Err: err}
		case path.Kind != Dir:
			return &SourceError{Flag: w.Flag, Path: w.Source, Err: errors.New("it is not a directory")}
		}
		if err := overlayable(path); err != nil {
			return &SourceError{Flag: w.Flag, Path: w.Source, Err: err}
		}
		f.Paths[w.Source] = path
	}
	return nil
}

// absentBelow answers for the many optional rules below $HOME, most of which
// name nothing that exists: each directory on the way is read once, instead of
// a look at each path.
func absentBelow(home string) func(path string) bool {
	read := map[string]map[string]bool{}
	names := func(dir string) map[string]bool {
		n, known := read[dir]
		if !known {
			n = entries(dir)
			read[dir] = n
		}
		return n
	}
	return func(path string) bool {
		if home == "" || !policy.Below(path, home) {
			return false
		}
		dir := home
		for name := range strings.SplitSeq(path[len(home)+1:], "/") {
			if n := names(dir); n == nil {
				return false // too large to read, or not readable
			} else if !n[name] {
				return true
			}
			dir += "/" + name
		}
		return false
	}
}

// entries are the names in a directory; nil where it cannot be read, or has so
// many that looking at each path is quicker.
func entries(dir string) map[string]bool {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	buf := make([]byte, 16<<10)
	n, err := unix.ReadDirent(fd, buf)
	if err != nil {
		return nil
	}
	var list []string
	_, _, list = unix.ParseDirent(buf[:n], -1, list)
	if n, err = unix.ReadDirent(fd, buf); err != nil || n > 0 {
		return nil
	}
	set := make(map[string]bool, len(list))
	for _, name := range list {
		set[name] = true
	}
	return set
}

// overlayable says whether a directory can be a lower layer: overlayfs gives
// EINVAL for one that has mounts below it, as a user namespace must not uncover
// what they cover (fs/namespace.c:has_locked_children).
func overlayable(p Path) error {
	if len(p.Below) == 0 {
		return nil
	}
	names := make([]string, 0, 3)
	for i, b := range p.Below {
		if i == 3 {
			names = append(names, "…")
			break
		}
		names = append(names, strconv.Quote(b))
	}
	return fmt.Errorf("something is mounted below it, which an overlay cannot hold: %s", strings.Join(names, " "))
}

// look examines one source path.
func look(path string, literal bool, mounts []Mount) (Path, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err != nil {
		if err == unix.ENOENT || err == unix.ENOTDIR {
			return Path{}, nil
		}
		return Path{}, err
	}
	p := Path{Kind: kindOf(st.Mode), Real: path}
	if p.Kind == Symlink && literal {
		p.Link, err = os.Readlink(path)
		return p, err
	}
	p.Real, err = filepath.EvalSymlinks(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Path{}, nil
		}
		return Path{}, err
	}
	if p.Real != path {
		if err := unix.Lstat(p.Real, &st); err != nil {
			return Path{}, err
		}
		p.Kind = kindOf(st.Mode)
	}
	if p.Kind == Dir {
		for _, m := range MountsBelow(mounts, p.Real) {
			p.Below = append(p.Below, m.Point)
		}
	}
	return p, nil
}

// realTarget resolves a path whose last names may not exist.
func realTarget(path string) string {
	for d, rest := path, ""; ; d, rest = filepath.Dir(d), filepath.Join(filepath.Base(d), rest) {
		if real, err := filepath.EvalSymlinks(d); err == nil {
			return filepath.Join(real, rest)
		}
		if d == "/" {
			return path
		}
	}
}

func kindAt(path string) Kind {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return Absent
	}
	return kindOf(st.Mode)
}

func kindOf(mode uint32) Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return Dir
	case unix.S_IFREG:
		return File
	case unix.S_IFLNK:
		return Symlink
	case unix.S_IFCHR, unix.S_IFBLK:
		return Device
	case unix.S_IFSOCK:
		return Socket
	}
	return Other
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
	buf := make([]byte, 16<<10)
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

// SourceError is a path that was asked for and cannot be shown.
type SourceError struct {
	// Flag is what was typed; empty for the source tree.
	Flag string
	Path string
	// Err is nil where the path does not exist.
	Err error
	// Fix is a command, if there is one.
	Fix string
}

func (e *SourceError) Error() string {
	what := "show"
	if e.Flag == "" {
		what = "use the source tree"
	}
	cause := "it does not exist"
	if e.Err != nil {
		cause = e.Err.Error()
	}
	s := fmt.Sprintf("cannot %s %q: %s", what, e.Path, cause)
	if e.Flag != "" {
		s += " (" + e.Flag + ")"
	}
	return s
}

func (e *SourceError) Unwrap() error { return e.Err }

// Hint is a command that avoids the error.
func (e *SourceError) Hint() string {
	switch {
	case e.Fix != "":
		return e.Fix
	case e.Err == nil:
		return "mkdir -p " + e.Path + "   (or leave the rule out)"
	}
	return "sbx why " + e.Path
}
