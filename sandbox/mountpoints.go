package sandbox

import (
	"strings"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// dropMountPoints removes from a layer at rest what sbx itself has made in it for what a
// rule shows or hides there, if nothing is in it: it is no change of the build's.
func (s *Session) dropMountPoints(o Options) {
	var targets []string
	for _, r := range o.Rules {
		targets = append(targets, r.Target)
	}
	for _, w := range s.Policy.With {
		targets = append(targets, w.Target)
	}
	if len(targets) == 0 {
		return
	}
	for _, p := range s.Directories() {
		opened, err := p.Open()
		if err != nil {
			continue
		}
		for _, target := range targets {
			if policy.Below(target, p.Lower) {
				opened.DropEmpty(strings.TrimPrefix(target, p.Lower+"/"))
			}
		}
		opened.Close()
	}
}
