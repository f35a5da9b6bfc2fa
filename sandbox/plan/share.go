package plan

import (
	"path"
	"slices"
	"strings"

	"github.com/sbx-build/sbx/idmap"
)

// BuildJoin runs a command in the namespaces of another run, with the limits and
// the filter of its own plan, and no more than that. ids says that the run has other
// ids than the caller's, which have no name there: root's above all must not get in.
func BuildJoin(of Plan, kinds []string, ids bool, c Exec) Plan {
	p := Plan{Namespaces: Namespaces{Shared: true}, Exec: c, Steps: []Step{Join{Kinds: kinds}}}
	if ids {
		p.Steps = append(p.Steps, SetIDs{UID: 0, GID: 0})
	}
	for _, s := range of.Steps {
		switch s.(type) {
		case Scope:
			// In a scope of its own the command could neither signal nor trace the
			// run's processes. Abstract sockets are the network namespace's, where
			// the run has one.
			if !of.Namespaces.Net {
				p.Steps = append(p.Steps, Scope{SocketsOnly: true})
			}
		case Keyring, Bound, ChangeDir, Limits, Capabilities, TieToParent, Undumpable, NoNewPrivs, Filter:
			p.Steps = append(p.Steps, s)
		}
	}
	return p
}

// Joins says whether the command gets into the pid namespace of another run.
func (p Plan) Joins() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool {
		j, ok := s.(Join)
		return ok && slices.Contains(j.Kinds, "pid")
	})
}

// BuildCopy makes copies of a detached mount, in the user namespace that owns it.
func BuildCopy(count int) Plan {
	return Plan{Namespaces: Namespaces{Shared: true}, Steps: []Step{Join{Kinds: []string{"user"}}, Copy{Count: count}}}
}

// BuildPick picks the file system of a mount, in the user namespace that owns it.
func BuildPick() Plan {
	return Plan{Namespaces: Namespaces{Shared: true}, Steps: []Step{Join{Kinds: []string{"user"}}, Pick{}}}
}

// Lent are the upper directories whose mounts the plan lends, relative to the
// layer, in the order of its steps.
func (p Plan) Lent() []string {
	var list []string
	for _, m := range p.LentOverlays() {
		list = append(list, m.Upper)
	}
	return list
}

// LentOverlay is an overlay of which the plan lends the mount.
type LentOverlay struct {
	// Lower is the host's directory, Upper the layer's, relative to the layer.
	Lower, Upper string
	// Below are the paths in it at which the plan mounts something else. What a mount
	// stands on must not be renamed or unlinked by anybody: the kernel would detach it.
	Below []string
	// Borrowed says that another run has mounted it.
	Borrowed bool
}

// LentOverlays are the overlays whose mounts the plan lends.
func (p Plan) LentOverlays() []LentOverlay {
	var list []LentOverlay
	for _, s := range p.Steps {
		if o, ok := s.(Overlay); ok && o.Lend && o.Upper != "" {
			list = append(list, LentOverlay{o.Lower[0], path.Clean(strings.TrimPrefix(o.Upper, Scratch+"/"+LayerName+"/")), p.mountedBelow(o.Place.Path), o.Borrowed > 0})
		}
	}
	return list
}

// mountedBelow are the paths below one at which something is mounted.
func (p Plan) mountedBelow(dir string) []string {
	var list []string
	for _, s := range p.Steps {
		var at string
		switch s := s.(type) {
		case Mask:
			at = s.Place.Path
		case Bind:
			at = s.Place.Path
		case Overlay:
			at = s.Place.Path
		case Device:
			at = s.Place.Path
		case ReadOnlyBelow:
			at = s.Path
		}
		if rel, ok := strings.CutPrefix(at, dir+"/"); ok {
			list = append(list, rel)
		}
	}
	return list
}

// SetsIDs says whether the command has ids that are not the caller's, 0 inside.
func (p Plan) SetsIDs() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { _, ok := s.(SetIDs); return ok })
}

// Brings says whether the plan mounts an upper directory itself, and borrows not
// all of them.
func (p Plan) Brings() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool {
		o, ok := s.(Overlay)
		return ok && o.Upper != "" && o.Borrowed == 0
	})
}

// BuildProbe asks the kernel whether the upper directories that a plan mounts
// are free. It succeeds if all of them are, and fails with EBUSY if one is
// mounted.
func BuildProbe(p Plan) Plan {
	probe := Plan{LayerDirs: p.LayerDirs}
	root := len(p.Idmapped) > 0 // then the layer is reached as the host's root
	for _, s := range p.Steps {
		switch s := s.(type) {
		case MapIDs:
			if root {
				s = MapIDs{UIDs: idmap.Identity(0), GIDs: idmap.Identity(0)}
			}
			probe.Steps = append(probe.Steps, s)
		case SetIDs:
			if !root {
				probe.Steps = append(probe.Steps, s)
			}
		case Private, NewRoot:
			probe.Steps = append(probe.Steps, s)
		case Open:
			s.Idmapped = 0
			probe.Steps = append(probe.Steps, s)
		case Overlay:
			if s.Upper != "" && s.Borrowed == 0 {
				probe.Steps = append(probe.Steps, ProbeUpper{Upper: s.Upper})
			}
		}
	}
	return probe
}
