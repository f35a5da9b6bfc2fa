package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// placed is a step that puts something at a path which the command sees.
type placed struct {
	index int
	place Place
}

// placedSteps are the mounts and symlinks from Seal on that the command sees,
// without those in /proc.
func placedSteps(p Plan) []placed {
	var list []placed
	add := func(i int, at Place) {
		// What is not in the host's root, which goes, nor covered by /proc.
		if !policy.Below(at.Path, Host) && !policy.Below(at.Path, Scratch) {
			list = append(list, placed{i, at})
		}
	}
	for i, s := range p.Steps[indexOf[Seal](p):] {
		i += indexOf[Seal](p)
		switch s := s.(type) {
		case Bind:
			add(i, s.Place)
		case Overlay:
			add(i, s.Place)
		case Symlink:
			add(i, s.Place)
		case Mask:
			add(i, s.Place)
		}
	}
	return list
}

// indexOf is the place of the only step of a kind, or -1.
func indexOf[T Step](p Plan) int {
	found := -1
	for i, s := range p.Steps {
		if _, ok := s.(T); ok {
			if found >= 0 {
				return -2
			}
			found = i
		}
	}
	return found
}

var layerPath = regexp.MustCompile(`^/proc/layer(/\.|/caches|/(with|git|cow)/[0-9a-f]{16})?/(upper|work)$`)

// inLayer is a directory of the layer, relative to it.
func inLayer(path string) string {
	return strings.TrimPrefix(strings.Replace(path, "/./", "/", 1), Scratch+"/"+LayerName+"/")
}

// checkPlan holds what must be true of every plan, whatever the policy.
func checkPlan(t *testing.T, s *situation, p Plan) {
	t.Helper()
	fail := func(format string, a ...any) {
		t.Helper()
		t.Errorf("%s\npolicy: %+v\n%s", fmt.Sprintf(format, a...), s.policy, text(p))
	}
	seal, leave := indexOf[Seal](p), indexOf[LeaveHost](p)
	order := []int{indexOf[MapIDs](p), indexOf[Bound](p), indexOf[Private](p), indexOf[NewRoot](p), seal, indexOf[Proc](p), leave, indexOf[ChangeDir](p),
		indexOf[Limits](p), indexOf[Capabilities](p), indexOf[TieToParent](p), indexOf[Undumpable](p), indexOf[NoNewPrivs](p), indexOf[Filter](p)}
	if order[0] != 0 || !slices.IsSorted(order) || slices.Contains(order, -1) || slices.Contains(order, -2) {
		fail("the steps that stand once are in the order %v", order)
	}
	if _, ok := p.Steps[len(p.Steps)-1].(Filter); !ok {
		fail("the filter is not last")
	}
	made := map[string]bool{"/": true, Scratch: true, Host: true}
	staged := map[string]bool{}
	uppers := map[string]bool{}
	covered := "" // of the host, by the overlay of $HOME
	masks := false
	for i, step := range p.Steps {
		mounts := true
		switch step := step.(type) {
		case MkDir:
			mounts = false
			if !made[parent(step.Path)] {
				fail("%s before its parent", step)
			}
			made[step.Path] = true
		case WriteFile:
			mounts = false
			made[step.Path] = true
			masks = masks || step.Path == maskDir+"/file"
		case Stage:
			staged[step.Name] = true
			if i > seal {
				fail("%s after seal", step)
			}
		case Device:
			if i > seal {
				fail("%s after seal", step)
			}
			if !policy.Below(step.Place.Path, "/dev") || !policy.Below(step.Source, "/dev") {
				fail("%s is not in /dev", step)
			}
		case Open:
			staged[step.Name] = true
			if i < seal {
				fail("%s before seal, which would close it again", step)
			}
		case Bind:
			if i < seal {
				fail("%s before seal", step)
			}
			if covered != "" && policy.Below(step.Source, covered) {
				fail("%s of what is covered by the overlay of $HOME", step)
			}
			name, _, _ := strings.Cut(step.Staged, "/")
			if step.Staged != "" && !staged[name] {
				fail("%s of %q, which is not staged", step, step.Staged)
			}
		case Overlay:
			if i < seal {
				fail("%s before seal", step)
			}
			if at, onHost := strings.CutPrefix(step.Place.Path, Host+"/"); onHost {
				staged[homeName] = true
				covered = "/" + at
			}
			if covered != "" && policy.Below(step.Lower[0], covered) {
				fail("%s of what is covered by the overlay of $HOME", step)
			}
			if step.Upper == "" && step.Work == "" {
				break
			}
			if !layerPath.MatchString(step.Upper) || !layerPath.MatchString(step.Work) {
				fail("%s: upper %q and work %q go into mount options", step, step.Upper, step.Work)
			}
			if uppers[step.Upper] {
				fail("two overlays have the upper %s", step.Upper)
			}
			uppers[step.Upper] = true
			for _, d := range []string{step.Upper, step.Work} {
				if !slices.Contains(p.LayerDirs, inLayer(d)) {
					fail("nobody makes %s", d)
				}
			}
			if !slices.Contains(p.WorkDirs, inLayer(step.Work)) {
				fail("nobody empties %s", step.Work)
			}
		case Seed:
			mounts = false
			if step.Place.Ground != s.policy.Home || !policy.Below(step.Place.Path, s.policy.Home) {
				fail("%s is not in the private home", step)
			}
			for _, at := range placedSteps(p) {
				path := at.place.Path
				if path != s.policy.Home && policy.Below(path, s.policy.Home) && (path == step.Place.Path || policy.Below(step.Place.Path, path) || policy.Below(path, step.Place.Path)) || at.index > i {
					fail("%s, where %q stands", step, path)
				}
			}
		case Mask:
			if !step.Optional && !masks && !policy.Below(step.Place.Path, "/proc") {
				fail("%s, and nothing has made what it is of", step)
			}
		case Writable, ReadOnlyBelow, Sysfs, Devpts, Proc:
		default:
			mounts = false
		}
		if mounts && i > leave {
			fail("%s after leave_host", step)
		}
	}
	for i, step := range p.Steps {
		var at int
		var want Idmapped
		switch step := step.(type) {
		case Stage:
			at, want = step.Idmapped, Idmapped{step.Source, step.ReadOnly}
		case Open:
			at, want = step.Idmapped, Idmapped{step.Source, false}
		}
		if at > len(p.Idmapped) || at > 0 && p.Idmapped[at-1] != want {
			fail("step %d, %s, takes mount %d of %v", i, step, at, p.Idmapped)
		}
	}
	for _, name := range s.facts.EtcSecrets {
		if !s.hidden(p, name) {
			fail("/etc/%s is not hidden", name)
		}
	}
	checkPlaces(t, p, made, fail)
}

// hidden says whether the plan keeps a secret below /etc from the command.
func (s *situation) hidden(p Plan, name string) bool {
	top, _, _ := strings.Cut(name, "/")
	shown := false
	for _, step := range p.Steps {
		switch step := step.(type) {
		case Whiteout:
			if step.Path == Scratch+"/etc/"+name {
				return true
			}
		case Mask:
			if step.Place.Path == "/etc/"+name {
				return true
			}
		case Overlay:
			shown = shown || step.Place.Path == "/etc"
		case Bind:
			shown = shown || step.Place.Path == "/etc/"+top
		}
	}
	return !shown
}

// checkPlaces holds that each mount finds its mount point, that parents come
// before children, and that ground which a build could have written to is
// walked as such.
func checkPlaces(t *testing.T, p Plan, made map[string]bool, fail func(string, ...any)) {
	t.Helper()
	list := placedSteps(p)
	etcOverlay := slices.ContainsFunc(p.Steps, func(s Step) bool { o, ok := s.(Overlay); return ok && o.Place.Path == "/etc" })
	for i, m := range list {
		path := m.place.Path
		ground := ""
		for j, other := range list {
			switch {
			case i == j:
			case other.place.Path == path:
				fail("%s and %s stand at one path", p.Steps[m.index], p.Steps[other.index])
			case policy.Below(path, other.place.Path) && other.index > m.index:
				fail("%s before %s, which covers it", p.Steps[m.index], p.Steps[other.index])
			case policy.Below(path, other.place.Path) && len(other.place.Path) > len(ground):
				ground = other.place.Path
			}
		}
		_, isLink := p.Steps[m.index].(Symlink)
		switch {
		case m.place.Ground != "":
			if m.place.Ground != ground && !policy.Below(path, "/etc") {
				fail("%s walks from %s, and stands on %s", p.Steps[m.index], m.place.Ground, ground)
			}
		case ground == "/etc" && etcOverlay:
			if !made[Scratch+path] && !isLink {
				fail("%s has no mount point in the layer of /etc", p.Steps[m.index])
			}
		case ground != "":
			fail("%s stands on %s, which sbx has not made, and is not walked", p.Steps[m.index], ground)
		case isLink:
			if !made[parent(path)] {
				fail("%s in a directory that nothing has made", p.Steps[m.index])
			}
		case !made[path] && path != "/etc" && path != "/sys":
			fail("%s has no mount point", p.Steps[m.index])
		}
	}
}
