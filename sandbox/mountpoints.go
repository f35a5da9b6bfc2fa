package sandbox

import (
	"strings"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// mountPoints are what sbx itself makes in a layer for what rules show or hide there, by
// the uppers of the pairs: what neither the layer nor the host has before the run.
type mountPoints map[string][]string

// toMount finds them. Where there is no such rule it costs nothing.
func (s *Session) toMount(o Options) mountPoints {
	var targets []string
	for _, r := range o.Rules {
		targets = append(targets, r.Target)
	}
	for _, w := range s.Policy.With {
		targets = append(targets, w.Target)
	}
	if len(targets) == 0 {
		return nil
	}
	made := mountPoints{}
	for _, p := range s.Directories() {
		opened, err := p.Open()
		if err != nil {
			continue
		}
		for _, target := range targets {
			if policy.Below(target, p.Lower) {
				made[p.Upper] = append(made[p.Upper], opened.Absent(strings.TrimPrefix(target, p.Lower+"/"))...)
			}
		}
		opened.Close()
	}
	return made
}

// drop removes from a layer at rest what of them is empty: it is no change of the build's.
// What a run has made that is not the last one, or was killed, stays.
func (m mountPoints) drop(s *Session) {
	if len(m) == 0 {
		return
	}
	for _, p := range s.Directories() {
		if len(m[p.Upper]) == 0 {
			continue
		}
		if opened, err := p.Open(); err == nil {
			opened.DropEmpty(m[p.Upper])
			opened.Close()
		}
	}
}
