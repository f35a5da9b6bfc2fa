package sandbox

import (
	"slices"

	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// because names the rule that a stand comes from, in brackets.
func (v view) because(at stand) string { return " (" + v.origin(at) + ")" }

// origin finds where a stand comes from. As in the plan, of two rules for one
// path the last counts, and rules come after what sbx mounts itself.
func (v view) origin(at stand) string {
	if r, ok := v.rule(at); ok {
		return r.Origin.String()
	}
	for _, w := range slices.Backward(v.policy.With) {
		if w.Target == at.path {
			return w.Flag
		}
	}
	switch at.step.(type) {
	case plan.Overlay, plan.Bind:
		if at.path != "/etc" && at.path != "/sys" && !policy.Below(at.path, "/etc") {
			return "built in: the git directory of the source tree"
		}
	}
	return "built in: system"
}

// access is what the rule of a bind mount allows; where it is not a rule's, it is
// read-only.
func (v view) access(at stand) policy.Access {
	if r, ok := v.rule(at); ok {
		return r.Access
	}
	return policy.ReadOnly
}

// rule finds the rule that a stand comes from.
func (v view) rule(at stand) (policy.Rule, bool) {
	for _, r := range slices.Backward(v.policy.Rules) {
		target := r.Target
		if real, ok := v.hides[target]; ok && r.Access == policy.Hidden {
			target = real
		}
		if target == at.path && fits(r, at.step) {
			return r, true
		}
	}
	return policy.Rule{}, false
}

// fits says whether a rule can have made a step.
func fits(r policy.Rule, s plan.Step) bool {
	switch s := s.(type) {
	case plan.Mask:
		return r.Access == policy.Hidden && !r.Device
	case plan.Overlay:
		return r.Access == policy.CopyOnWrite && s.Upper != "" || r.Access == policy.ReadOnly && s.Upper == "" && !r.Device
	case plan.Device:
		return r.Device
	case plan.Bind:
		return r.Access != policy.Hidden && !r.Device && (r.Access == policy.ReadOnly || s.Staged != "")
	}
	return false
}
