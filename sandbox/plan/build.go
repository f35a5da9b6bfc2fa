package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/seccomp"
)

// Layer is what the plan needs to know of the layer on disk.
type Layer struct {
	// Dir is its directory on the host.
	Dir string
	// ID is a hex string of the layer's own, from which the machine-id comes.
	ID string
	// Borrowed are the upper directories, relative to Dir, that other runs have
	// mounted and lend, in the order in which sbx hands the mounts on.
	Borrowed []string
	// Lend says that other runs may want the mounts of this one.
	Lend bool
	// Home is what the private home has in the place of files that sbx puts there.
	Home map[string]Have
}

// Build turns what is wanted into what will be done. It is pure: it looks at
// nothing but its arguments. An error names a contradiction between them.
func Build(p policy.Policy, f host.Facts, l Layer, filter seccomp.Program, c Exec) (Plan, error) {
	b := &builder{policy: p, facts: f, layer: l, made: map[string]bool{}}
	b.plan.Namespaces.Net = p.Network != policy.Host
	b.plan.Exec = c

	mounts, err := b.mounts()
	if err != nil {
		return Plan{}, err
	}
	if f.Idmapped {
		b.idmap(mounts)
	}
	b.plan.Watch = []string{"/tmp"}
	var wire *Interface
	if p.Relayed() {
		wire = &Interface{TUN: f.TUN, IPv6: f.IPv6}
	}
	b.first(f.UIDs, f.GIDs, p.Root && !f.UIDs.Single(), f.Idmapped, b.plan.Namespaces.Net, f.Landlock, wire)
	if n := len(l.Borrowed); n > 0 {
		b.add(Borrow{Count: n})
	}
	b.localPorts()
	b.devices()
	b.stage(mounts)
	b.add(Seal{})
	b.scratch(mounts)
	// What needs the layer comes last: it may not be ready yet.
	grounds := grounds(mounts)
	late := ofLayer(mounts, grounds)
	for _, layer := range []bool{false, true} {
		if layer {
			b.add(b.open())
			if b.home != nil {
				b.mount(*b.home, Place{Path: b.home.path, Dir: true}, mounts)
			}
		}
		for i := range mounts {
			if late[i] == layer {
				if err := b.place(mounts, i, grounds[i]); err != nil {
					return Plan{}, err
				}
			}
		}
	}
	b.seed(mounts)
	b.kernel()
	b.restrict(filter)
	return b.plan, nil
}

type builder struct {
	policy policy.Policy
	facts  host.Facts
	layer  Layer
	plan   Plan
	// home is the one overlay from which caches and toolchains in $HOME are
	// bound.
	home *mount
	// made are the directories that steps so far have created.
	made map[string]bool
}

func (b *builder) add(steps ...Step) { b.plan.Steps = append(b.plan.Steps, steps...) }

// mkdir creates a directory and its parents on a tmpfs of ours, once each.
func (b *builder) mkdir(path string, mode uint32) {
	if path == "/" || b.made[path] {
		return
	}
	b.mkdir(parent(path), 0o755)
	b.made[path] = true
	b.add(MkDir{Path: path, Mode: mode})
}

// first does what is the same in every run: ids, what can be restricted at
// once, the root and its usual directories, the network. It must not depend on the
// policy, apart from who is root and whether there is a network.
func (b *builder) first(uids, gids idmap.Map, root, idmapped, net bool, landlock int, wire *Interface) {
	b.add(MapIDs{UIDs: uids, GIDs: gids})
	var keep []int
	if root || idmapped {
		b.add(SetIDs{UID: 0, GID: 0})
	}
	if root {
		keep = rootCapabilities
	}
	b.add(Keyring{}, Bound{Keep: keep}, Hostname{Name: hostname})
	if landlock >= 6 {
		b.add(Scope{})
	}
	b.add(Private{}, NewRoot{Size: b.policy.TmpSize})
	b.made[Host], b.made[Scratch] = true, true
	b.mkdir("/dev", 0o755)
	for _, name := range deviceNodes {
		p := "/dev/" + name
		b.add(Device{Source: p, Place: Place{Path: p}})
	}
	for _, l := range [][2]string{{"fd", "/proc/self/fd"}, {"stdin", "fd/0"}, {"stdout", "fd/1"}, {"stderr", "fd/2"}, {"ptmx", "pts/ptmx"}} {
		b.add(Symlink{Place: Place{Path: "/dev/" + l[0]}, Target: l[1]})
	}
	b.mkdir("/dev/pts", 0o755)
	b.add(Devpts{})
	b.furnish()
	if net {
		b.add(Sysfs{}, Loopback{})
	}
	if wire != nil {
		b.network(*wire) // before Seal, after which no device can be opened
	}
}

// deviceNodes are the devices that every sandbox has.
var deviceNodes = []string{"null", "zero", "full", "random", "urandom", "tty"}

// writable are the places that are the build's own in each run.
var writable = []string{"/tmp", "/var", "/run", "/dev/shm"}

// furnish makes them, and in them what programs take for granted (hier(7)).
func (b *builder) furnish() {
	b.mkdir("/tmp", 0o1777)
	b.mkdir("/dev/shm", 0o1777)
	b.mkdir("/etc", 0o755)
	b.mkdir("/usr", 0o755)
	b.mkdir("/sys", 0o755)
	for _, d := range []string{"cache", "lib", "log", "mail", "opt", "spool"} {
		b.mkdir("/var/"+d, 0o755)
	}
	b.mkdir("/var/tmp", 0o1777)
	// Servers started by tests put their sockets below /run.
	b.mkdir("/run/lock", 0o1777)
	b.mkdir("/run/postgresql", 0o755)
	b.mkdir("/run/mysqld", 0o755)
	b.add(Symlink{Place: Place{Path: "/var/run"}, Target: "/run"}, Symlink{Place: Place{Path: "/var/lock"}, Target: "/run/lock"})
	for _, w := range writable {
		b.add(Writable{Path: w})
	}
}

// devices adds those of --dev.
func (b *builder) devices() {
	for _, r := range b.policy.Rules {
		if !r.Device {
			continue
		}
		b.mkdir(parent(r.Target), 0o755)
		path := b.facts.Paths[r.Source]
		dir := path.Kind == host.Dir
		if dir {
			b.mkdir(r.Target, 0o755)
		}
		b.add(Device{Source: path.Real, Place: Place{Path: r.Target, Dir: dir}})
	}
}

// stage keeps the sources of --rw out of Seal's reach, and brings in what is
// idmapped.
func (b *builder) stage(mounts []mount) {
	if h := b.home; h != nil && h.staged != "" {
		b.add(Stage{Source: h.source, Name: h.staged, Dir: true, Idmapped: h.idmapped, ReadOnly: true})
	}
	for _, m := range mounts {
		if m.staged != "" && m.toStage() {
			b.add(Stage{Source: m.source, Name: m.staged, Dir: m.dir, Idmapped: m.idmapped, ReadOnly: m.readOnly})
		}
	}
}

// open makes the layer writable where it is, below Host: so it is gone with the
// host's root.
func (b *builder) open() Open {
	o := Open{Source: b.layer.Dir, Name: LayerName}
	if b.facts.Idmapped {
		o.Idmapped = 1
	}
	return o
}

// idmap has everything that is the caller's own come in by an idmapped mount.
// The system's directories do not: to them the sandbox is a stranger.
func (b *builder) idmap(mounts []mount) {
	b.plan.Idmapped = []Idmapped{{Source: b.layer.Dir}}
	list := make([]*mount, 0, len(mounts)+1)
	if b.home != nil {
		list = append(list, b.home)
	}
	for i := range mounts {
		list = append(list, &mounts[i])
	}
	for _, m := range list {
		switch {
		case m.system || m.staged != "" && !m.toStage() || m.source == "":
			continue
		case m.kind != bindMount && m.kind != overlayMount:
			continue
		}
		m.readOnly = m.staged == ""
		b.plan.Idmapped = append(b.plan.Idmapped, Idmapped{Source: m.source, ReadOnly: m.readOnly})
		m.idmapped = len(b.plan.Idmapped)
		if m.staged == "" {
			m.staged = fmt.Sprintf("id%d", m.idmapped)
		}
	}
}

// scratch prepares what mounts will be made of.
func (b *builder) scratch(mounts []mount) {
	masks := false
	for _, m := range mounts {
		masks = masks || m.kind == maskMount
	}
	for _, s := range b.facts.EtcSecrets {
		masks = masks || b.facts.EtcMounts && strings.Contains(s, "/")
	}
	var confs []Step
	for _, c := range b.etcConf(mounts) {
		if b.facts.EtcMounts && strings.Contains(c.Path, "/") {
			c.Path = confFile(c.Path)
			confs = append(confs, c)
		}
	}
	if masks || len(confs) > 0 {
		b.add(
			MkDir{Path: maskDir, Mode: 0o755},
			MkDir{Path: maskDir + "/dir", Mode: 0o555},
			WriteFile{Path: maskDir + "/file", Mode: 0o444},
		)
		b.add(confs...)
		b.add(ReadOnlyBelow{Path: maskDir})
	}
	if !b.facts.EtcMounts {
		b.etcLayer(Scratch+"/etc", mounts)
	}
}

// maskDir holds what masks are made of, and files that are bound over others.
const maskDir = Scratch + "/mask"

// What of proc(5) is made read-only or hidden. For an ordinary user everything
// else that could be changed or is worth reading belongs to root and is closed
// by its permissions; a process of kuid 0 passes these even without
// capabilities, so for a caller that is root the lists are longer. Where a
// kernel lacks one of them, there is nothing to close. kallsyms has addresses
// where perf(1) is open to users, and DebugData the servers, users and shares of
// mounts that the sandbox does not have.
var (
	procReadOnly     = []string{"sys"}
	procMasked       = []string{"kcore", "keys", "key-users", "sysrq-trigger", "timer_list", "kallsyms", "fs/cifs/DebugData"}
	procReadOnlyRoot = []string{"irq", "bus", "fs", "acpi", "scsi", "tty", "mtrr", "asound", "driver", "dynamic_debug"}
	procMaskedRoot   = []string{"sched_debug", "latency_stats", "interrupts", "kmsg", "kpagecount", "kpageflags", "kpagecgroup", "vmallocinfo", "slabinfo", "mtrr"}
)

// kernel adds the file systems that show the kernel. A new proc is allowed
// only while the host's is in sight (fs/namespace.c:mount_too_revealing), so it
// comes before LeaveHost; and it comes last, because it covers Scratch.
func (b *builder) kernel() {
	b.add(Proc{})
	b.tcp()
	b.ping()
	readOnly, masked := procReadOnly, procMasked
	if b.facts.UID == 0 {
		readOnly, masked = slices.Concat(readOnly, procReadOnlyRoot), slices.Concat(masked, procMaskedRoot)
	}
	for _, name := range readOnly {
		b.add(ReadOnlyBelow{Path: "/proc/" + name})
	}
	for _, name := range masked {
		b.add(Mask{Place: Place{Path: "/proc/" + name}, Optional: true})
	}
	b.add(LeaveHost{}, ReadOnly{Path: "/"}, ChangeDir{Path: b.policy.Dir})
}

// hostname is the sandbox's own.
const hostname = "sbx"

// rootCapabilities are what uid 0 keeps in its own user namespace: what
// package managers and `make install` need over ids that are its own. Nothing
// that mounts, loads, traces or configures.
var rootCapabilities = []int{0 /* chown */, 1 /* dac_override */, 3 /* fowner */, 4 /* fsetid */, 5 /* kill */, 6 /* setgid */, 7 /* setuid */, 8 /* setpcap */, 10 /* net_bind_service */, 18 /* sys_chroot */, 31 /* setfcap */}

func (b *builder) restrict(filter seccomp.Program) {
	b.add(Limits{Nofile: b.facts.Nofile, Processes: b.policy.Processes})
	var keep []int
	name := "build"
	if b.policy.Root && !b.facts.UIDs.Single() {
		keep, name = rootCapabilities, "root"
	}
	b.add(Capabilities{Keep: keep}, TieToParent{}, Undumpable{}, NoNewPrivs{})
	b.add(Filter{Name: name, Program: filter})
}

// key names the layer's directory for an overlay at target. The path itself
// may hold any byte and be longer than a name.
func key(target string) string {
	sum := sha256.Sum256([]byte(target))
	return hex.EncodeToString(sum[:8])
}

// machineID is the sandbox's own machine-id(5), the same in each run.
func machineID(l Layer) string {
	sum := sha256.Sum256([]byte("machine-id " + l.ID))
	return fmt.Sprintf("%x\n", sum[:16])
}
