package host

import "github.com/sbx-build/sbx/idmap"

// Kind is what a path is, as lstat(2) or stat(2) tells.
type Kind uint8

const (
	// Absent: nothing is there, or nothing that the caller may see.
	Absent Kind = iota
	// Dir is a directory.
	Dir
	// File is a regular file.
	File
	// Symlink is a symbolic link; only rules that are literal see one.
	Symlink
	// Device is a character or block device.
	Device
	// Socket is a socket; binding one gives the build its service.
	Socket
	// Other is a fifo or something newer.
	Other
)

// Path is what is known of one source path.
type Path struct {
	Kind Kind
	// Real is the path with symlinks resolved.
	Real string
	// Link is a symlink's text, for Kind Symlink.
	Link string
	// Below are the mount points strictly below Real.
	Below []string
}

// Entry is one entry of the host's /etc, needed where that cannot be a lower
// layer.
type Entry struct {
	Name string
	Kind Kind
	Link string
}

// Conf is a file of a tool's configuration, without what authenticates.
type Conf struct {
	// Path is where it appears: absolute, or a name below /etc.
	Path string
	Data string
	// Dropped names what was left out (toolconf.Result).
	Dropped []string
}

// Facts is what the machine is, as far as one run needs to know. It is filled
// by Probe, once, and is all that package plan sees of the host.
type Facts struct {
	// UID and GID are the caller's, User its name, Group its group's name.
	UID, GID    uint32
	User, Group string
	// Shell and Gecos are the caller's passwd(5) fields.
	Shell, Gecos string
	// UIDs and GIDs are the maps of the run: identity, or what --root got.
	UIDs, GIDs idmap.Map
	// Idmapped says that the caller is root and its files are to come in by
	// idmapped mounts, so that the sandbox runs as an unprivileged user of
	// the host. UIDs and GIDs then map to ids that nobody has.
	Idmapped bool
	// Paths has an entry for every rule's source, for the tree, and for every
	// directory joined to it.
	Paths map[string]Path
	// HomeMounts says that $HOME has mounts below it.
	HomeMounts bool
	// Targets are paths below the tree or another shown directory that rules
	// hide or bind over, with what stands there on the host.
	Targets map[string]Kind
	// Hides has the real path for rules that hide by way of a symlink: the
	// file has to be hidden where it is.
	Hides map[string]string
	// EtcMounts says that /etc has mounts below it: overlayfs then refuses it
	// as a lower layer (EINVAL), and Etc lists its entries instead.
	EtcMounts bool
	Etc       []Entry
	// EtcSecrets are the names below /etc, of a fixed list, that exist and must
	// not be seen.
	EtcSecrets []string
	// Conf are the files of policy.Policy.Conf that exist, without credentials, and
	// EtcConf those of the system that have some, by their names below /etc.
	Conf, EtcConf []Conf
	// Resolv is the host's resolv.conf(5), for the host's network.
	Resolv string
	// TUN says that the caller can open /dev/net/tun, IPv6 that the host has a way to
	// the IPv6 internet, Ping that the caller may send echo requests (icmp(7)). They
	// are looked at where the run has a network of its own.
	TUN, IPv6, Ping bool
	// Landlock is the kernel's Landlock ABI, 0 where there is none
	// (landlock(7)); 6, Linux 6.12, brings scopes.
	Landlock int
	// Nofile is the caller's RLIMIT_NOFILE, soft and hard; zero if unknown.
	Nofile [2]uint64
	// IgnoreHUP and IgnoreINT say that the caller ignores these signals
	// (nohup(1), background jobs): the command must, too.
	IgnoreHUP, IgnoreINT bool
	// GitDirs are git directories outside the tree that it points to and that
	// point back.
	GitDirs []GitDir
	// Warnings are lines for the user, in words.
	Warnings []string
}
