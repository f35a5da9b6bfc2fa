package plan

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// mount is one thing that will stand at a path inside. Mounts are collected
// from the policy, then sorted so that parents come before children.
type mount struct {
	path string
	kind mountKind
	dir  bool
	// source is the host path of a bind or the lower of an overlay.
	source string
	// staged names the place of a writable bind in Scratch.
	staged string
	// layer is the layer's directory that holds upper and work, relative.
	layer string
	// target is the text of a symlink.
	target string
	// system says that it is the system's and not the caller's.
	system bool
	// idmapped and readOnly are as in Stage.
	idmapped int
	readOnly bool
	// why is shown where the mount contradicts another.
	why string
}

type mountKind uint8

const (
	bindMount mountKind = iota
	writableMount
	overlayMount
	maskMount
	etcMount
	symlink
)

// toStage says that Stage makes what staged names, not another step.
func (m mount) toStage() bool {
	return !strings.HasPrefix(m.staged, LayerName+"/") && !strings.HasPrefix(m.staged, homeName+"/")
}

// mounts collects what stands where, sorted. Of two at one path the later wins,
// which is a user's rule over a built-in one.
func (b *builder) mounts() ([]mount, error) {
	p, f := b.policy, b.facts
	list := []mount{{path: "/etc", kind: etcMount, dir: true, source: "/etc"}}
	for _, w := range writable {
		list = append(list, mount{path: w, kind: writableMount, dir: true})
	}
	if p.Network == policy.Host {
		// A new sysfs needs a network namespace of one's own.
		list = append(list, mount{path: "/sys", kind: bindMount, dir: true, source: "/sys", system: true})
	}
	if p.Home != "" && p.Home != "/" {
		list = append(list, mount{path: p.Home, kind: bindMount, dir: true, source: b.layer.Dir + "/home", staged: LayerName + "/home", why: "the private home"})
		b.plan.LayerDirs = append(b.plan.LayerDirs, "home")
	}
	list = append(list, b.overlay(p.Tree, p.Tree, ".", "the source tree"))
	for _, w := range p.With {
		list = append(list, b.overlay(f.Paths[w.Source].Real, w.Target, "with/"+key(w.Target), w.Flag))
	}
	for _, g := range f.GitDirs {
		list = append(list, b.overlay(g.Path, g.Path, gitLayer(g.Path), "the git directory"))
	}
	staged := 0
	for _, r := range p.Rules {
		if r.Device {
			continue
		}
		if b.inCache(r) {
			continue
		}
		m, ok := b.fromHome(r)
		if !ok {
			m, ok = b.rule(r, &staged)
		}
		if ok {
			list = append(list, m)
		}
	}
	if p.LogicalDir != "" {
		list = append(list, b.logical()...)
	}
	if b.home != nil {
		b.home.path = b.homeMount(list)
	}
	return sorted(list)
}

// overlay is a copy-on-write directory, with its upper in the layer.
func (b *builder) overlay(source, target, dir, why string) mount {
	if slices.Contains(b.layer.Borrowed, join(dir, "upper")) {
		return mount{path: target, kind: overlayMount, dir: true, source: source, layer: dir, why: why}
	}
	for _, sub := range []string{"upper", "work"} {
		b.plan.LayerDirs = append(b.plan.LayerDirs, join(dir, sub))
	}
	b.plan.WorkDirs = append(b.plan.WorkDirs, join(dir, "work"))
	return mount{path: target, kind: overlayMount, dir: true, source: source, layer: dir, why: why}
}

// homeName names the overlay of $HOME in Scratch and in the layer.
const homeName = "caches"

// homeMount is where it is mounted: on the host's /dev, from which nothing is bound
// after Seal, so that it goes with the host's root. Where a tree or the layer is in
// /dev/shm, it is the host's devpts.
func (b *builder) homeMount(list []mount) string {
	shm := policy.Below(b.layer.Dir, "/dev")
	for _, m := range list {
		shm = shm || policy.Below(m.source, "/dev")
	}
	if shm {
		return Host + "/dev/pts"
	}
	return Host + "/dev"
}

// fromHome takes a built-in rule for something in $HOME. All of them together
// are one overlay of $HOME, of which only these places are bound, caches
// writable and toolchains not: an overlay of its own for each would cost as much
// as a whole start, and a bind would leave the host's sockets there open.
func (b *builder) fromHome(r policy.Rule) (m mount, ok bool) {
	home := b.policy.Home
	path := b.facts.Paths[r.Source]
	if home == "" || r.Origin.Builtin == "" || r.Literal || path.Kind != host.Dir && path.Kind != host.File || b.facts.HomeMounts ||
		path.Real != r.Source || r.Target != r.Source || !policy.Below(r.Source, home) {
		return mount{}, false
	}
	m = mount{path: r.Target, kind: bindMount, dir: path.Kind == host.Dir, source: r.Source, staged: homeName + r.Target[len(home):], why: r.Origin.String()}
	switch r.Access {
	case policy.ReadOnly:
		m.readOnly = true
	case policy.CopyOnWrite:
		if !m.dir {
			return mount{}, false
		}
	default:
		return mount{}, false
	}
	if b.home == nil {
		all := b.overlay(home, "", homeName, "the home directory")
		b.home = &all
	}
	return m, true
}

// inCache says whether a built-in rule lies below a cache, which shows it
// anyway: a build may have put anything in its place there.
func (b *builder) inCache(r policy.Rule) bool {
	if r.Origin.Builtin == "" {
		return false
	}
	for _, c := range b.policy.Rules {
		if c.Origin.Builtin == "cache" && policy.Below(r.Target, c.Target) && b.facts.Paths[c.Source].Kind == host.Dir {
			return true
		}
	}
	return false
}

// rule turns a rule into what stands at its target; ok is false where there is
// nothing to do.
func (b *builder) rule(r policy.Rule, staged *int) (m mount, ok bool) {
	path := b.facts.Paths[r.Source]
	m = mount{path: r.Target, source: path.Real, dir: path.Kind == host.Dir, why: r.Origin.String(), system: r.Origin.Builtin == "system"}
	switch r.Access {
	case policy.Hidden:
		m.kind = maskMount
		m.dir = r.Dir
		if real, ok := b.facts.Hides[r.Target]; ok {
			m.path = real
		}
		switch b.facts.Targets[m.path] {
		case host.Dir:
			m.dir = true
		case host.Absent:
			if r.Optional {
				return mount{}, false
			}
		default:
			m.dir = false
		}
		return m, true
	case policy.CopyOnWrite:
		if path.Kind != host.Dir || r.Optional && len(path.Below) > 0 {
			return mount{}, false
		}
		return b.overlay(path.Real, r.Target, "cow/"+key(r.Target), m.why), true
	case policy.ReadWrite:
		*staged++
		m.staged = fmt.Sprintf("rw%d", *staged)
	}
	switch {
	case path.Kind == host.Absent:
		return mount{}, false
	case path.Kind == host.Symlink:
		m.kind, m.target = symlink, path.Link
	}
	return m, true
}

// logical makes the way that the caller's shell took to the working directory
// exist inside: $PWD goes through a symlink, and scripts use $PWD.
func (b *builder) logical() []mount {
	var list []mount
	for link, k := range b.facts.Targets {
		if k == host.Symlink {
			list = append(list, mount{path: link, kind: symlink, target: b.facts.Paths[link].Real})
		}
	}
	return list
}

// sorted puts parents before children and drops what a later mount at the same
// path replaces.
func sorted(list []mount) ([]mount, error) {
	sort.SliceStable(list, func(i, j int) bool { return order(list[i].path) < order(list[j].path) })
	out := list[:0]
	for i, m := range list {
		if i+1 < len(list) && list[i+1].path == m.path {
			if m.kind == overlayMount && m.layer == "." {
				return nil, fmt.Errorf("cannot apply %s: it would replace the source tree %q; a rule below the tree is allowed", list[i+1].why, m.path)
			}
			continue
		}
		out = append(out, m)
	}
	return out, nil
}

// order makes "/" sort before every other byte, so that what is below a
// directory follows it at once.
func order(path string) string { return strings.ReplaceAll(path, "/", "\x00") }

// grounds finds of each mount what it stands on: the nearest mount above it, or -1.
func grounds(mounts []mount) []int {
	list := make([]int, len(mounts))
	for i, m := range mounts {
		list[i] = -1
		for j := i - 1; j >= 0; j-- {
			if policy.Below(m.path, mounts[j].path) {
				list[i] = j
				break
			}
		}
	}
	return list
}

// ofLayer says of each mount whether it needs the layer, or stands on one that does.
func ofLayer(mounts []mount, grounds []int) []bool {
	list := make([]bool, len(mounts))
	for i, m := range mounts {
		list[i] = m.kind == overlayMount || m.staged != "" && !m.toStage() || grounds[i] >= 0 && list[grounds[i]]
	}
	return list
}

// place emits a mount, on its ground.
func (b *builder) place(mounts []mount, i, ground int) error {
	m := mounts[i]
	at := Place{Path: m.path, Dir: m.dir}
	switch {
	case ground < 0 || mounts[ground].kind == writableMount || mounts[ground].kind == etcMount && b.facts.EtcMounts:
		b.mkdir(parent(m.path), 0o755)
		if m.dir && m.kind != symlink {
			b.mkdir(m.path, 0o755)
		} else if m.kind != symlink {
			b.add(WriteFile{Path: m.path, Mode: 0o644})
		}
	case mounts[ground].kind == etcMount:
		// etcLayer made the mount point.
	case mounts[ground].kind == maskMount:
		return fmt.Errorf("cannot apply %s: %s hides the directory above it", m.why, mounts[ground].why)
	case mounts[ground].kind == symlink && b.policy.LogicalDir != "" && mounts[ground].why == "":
		return nil // the symlink leads to where the path is anyway
	case mounts[ground].kind == symlink:
		return fmt.Errorf("cannot apply %s: %q is a symlink to %q; name the path behind it", m.why, mounts[ground].path, mounts[ground].target)
	default:
		at.Ground = mounts[ground].path
		at.Host = strings.HasPrefix(mounts[ground].staged, "rw")
	}
	b.mount(m, at, mounts)
	return nil
}

func (b *builder) mount(m mount, at Place, all []mount) {
	switch m.kind {
	case bindMount:
		// Below a system directory may be the layer.
		system := m.system && m.source != b.layer.Dir && !policy.Below(b.layer.Dir, m.source)
		b.add(Bind{Source: m.source, Staged: m.staged, System: system, ReadOnly: m.readOnly || m.staged == "", Place: at})
	case overlayMount:
		dir := join(Scratch+"/"+LayerName, m.layer)
		b.add(Overlay{
			Lower: []string{m.source}, Staged: m.staged, Upper: dir + "/upper", Work: dir + "/work", Place: at,
			Borrowed: 1 + slices.Index(b.layer.Borrowed, join(m.layer, "upper")), Lend: b.layer.Lend,
		})
	case maskMount:
		b.add(Mask{Place: at})
	case symlink:
		b.add(Symlink{Place: at, Target: m.target})
	case writableMount:
		// Made by furnish.
	case etcMount:
		b.etc(all)
	}
}

func parent(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i <= 0 {
		return "/"
	}
	return path[:i]
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// gitLayer is the layer's directory for a git directory outside the tree.
func gitLayer(path string) string { return "git/" + key(path) }

// GitUpper is where the layer keeps what the build writes to a git directory
// outside the tree, relative to the layer.
func GitUpper(path string) string { return gitLayer(path) + "/upper" }
