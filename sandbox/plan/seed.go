package plan

import (
	"fmt"
	"path"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// Have is what the private home has in the place of a file that sbx puts there.
type Have uint8

const (
	// HasNothing: to be written.
	HasNothing Have = iota
	// HasEarlier is what sbx wrote in an earlier run: to be replaced.
	HasEarlier
	// HasSame is the same already.
	HasSame
	// HasOther is something that a build has put there, or changed: it stays.
	HasOther
)

// String says what it is.
func (h Have) String() string {
	switch h {
	case HasNothing:
		return "nothing"
	case HasEarlier:
		return "what sbx wrote earlier"
	case HasSame:
		return "the same"
	case HasOther:
		return "its own"
	}
	return fmt.Sprintf("Have(%d)", uint8(h))
}

// seed puts the configuration of tools into the private home, where that is what
// the command sees: a rule that shows or hides the place, or one above it, wins.
func (b *builder) seed(mounts []mount) {
	for _, c := range b.facts.Conf {
		if home := b.policy.Home; inHome(mounts, home, c.Path) {
			b.add(Seed{Place: Place{Path: c.Path, Ground: home}, Data: c.Data, Have: b.layer.Home[c.Path], Dropped: c.Dropped})
		}
	}
}

// Seeds says whether the plan has a place for this file.
func (p Plan) Seeds(path string) bool {
	for _, s := range p.Steps {
		if s, ok := s.(Seed); ok && s.Place.Path == path {
			return true
		}
	}
	return false
}

// inHome says whether nothing stands between the private home and a path, at it, or
// below it.
func inHome(mounts []mount, home, path string) bool {
	for _, m := range mounts {
		switch {
		case m.path == path || policy.Below(m.path, path):
			return false
		case policy.Below(path, m.path) && m.path != home && policy.Below(m.path, home):
			return false
		}
	}
	return home != "" && home != "/" && policy.Below(path, home)
}

// etcConf are the files of tools below /etc that have credentials, without them. A
// rule that shows one wins.
func (b *builder) etcConf(mounts []mount) []WriteFile {
	var list []WriteFile
	for _, c := range b.facts.EtcConf {
		if !asked(mounts, "/etc/"+c.Path) && !hiddenAbove(mounts, "/etc/"+c.Path) {
			list = append(list, WriteFile{Path: c.Path, Data: c.Data, Mode: 0o644})
		}
	}
	return list
}

// hiddenAbove says whether a rule stands at or above a path below /etc: then it is
// the rule's.
func hiddenAbove(mounts []mount, path string) bool {
	for _, m := range mounts {
		if m.kind != etcMount && (m.path == path || policy.Below(path, m.path) && policy.Below(m.path, "/etc")) {
			return true
		}
	}
	return false
}

// confFile is where a file below a directory of /etc stands that is bound.
func confFile(name string) string { return maskDir + "/conf-" + path.Base(name) }
