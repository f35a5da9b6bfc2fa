package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// A view is the plan read as a map: what stands at which path inside. The rules
// alone would not do: an optional one may have come to nothing.
type view struct {
	policy  policy.Policy
	hides   map[string]string // as of host.Facts
	layer   string            // its name
	dir     string            // the working directory
	home    string            // $HOME as the flags take it
	sockets []string          // of the caller's session
	stands  []stand
	disk    disk
}

// A stand is one step that put something at a path inside.
type stand struct {
	path string
	step plan.Step
}

// disk is what a view asks of the host and of the layer.
type disk struct {
	// stat follows symlinks; readlink fails for what is none.
	stat     func(path string) (fs.FileMode, bool)
	readlink func(path string) (string, error)
	// version is the state of a path in a directory of the layer.
	version func(dir, rel string) version
}

func newView(s *Session, p plan.Plan, f host.Facts, o Options) view {
	v := view{
		policy: s.Policy, hides: f.Hides, layer: s.Layer.Name, dir: s.Policy.Dir, home: o.Getenv("HOME"),
		sockets: []string{o.Getenv("SSH_AUTH_SOCK"), o.Getenv("GPG_AGENT_INFO")},
		stands:  stands(p),
	}
	v.disk = disk{
		stat: func(path string) (fs.FileMode, bool) {
			st, err := os.Stat(path)
			if err != nil {
				return 0, false
			}
			return st.Mode(), true
		},
		readlink: os.Readlink,
		version:  func(dir, rel string) version { return versionIn(filepath.Join(s.Layer.Dir, dir), rel) },
	}
	return v
}

// stands lists the steps that put something somewhere, in order.
func stands(p plan.Plan) []stand {
	var list []stand
	add := func(path string, s plan.Step) {
		// Host goes and Proc covers Scratch before the command runs. Of what
		// is made there only the layer over /etc is seen through a mount.
		if below, ok := strings.CutPrefix(path, plan.Scratch+"/etc/"); ok {
			if _, dir := s.(plan.MkDir); dir {
				return // merged with the host's
			}
			path = "/etc/" + below
		} else if policy.Below(path, plan.Scratch) || policy.Below(path, plan.Host) {
			return
		}
		list = append(list, stand{path, s})
	}
	for i, s := range p.Steps {
		switch s := s.(type) {
		case plan.MkDir:
			add(s.Path, s)
		case plan.WriteFile:
			add(s.Path, s)
		case plan.Whiteout:
			add(s.Path, s)
		case plan.Seed:
			add(s.Place.Path, s)
		case plan.Writable:
			add(s.Path, s)
		case plan.Symlink:
			add(s.Place.Path, s)
		case plan.Device:
			add(s.Place.Path, s)
		case plan.Bind:
			add(s.Place.Path, s)
		case plan.Overlay:
			add(s.Place.Path, s)
		case plan.Mask:
			add(s.Place.Path, s)
		case plan.Devpts:
			add("/dev/pts", s)
		case plan.Sysfs:
			add("/sys", s)
		case plan.Proc:
			list = append(list, stand{"/proc", s})
			for _, s := range p.Steps[i+1:] {
				switch s := s.(type) {
				case plan.ReadOnlyBelow:
					list = append(list, stand{s.Path, s})
				case plan.Mask:
					list = append(list, stand{s.Place.Path, s})
				}
			}
			return list
		}
	}
	return list
}

// find returns what decides over a path: the nearest thing at it or above it;
// of two at one place the later one covers the other. rest is the path below it,
// with a slash in front, or empty.
func (v view) find(path string) (at stand, rest string, ok bool) {
	for _, s := range v.stands {
		_, dir := s.step.(plan.MkDir)
		exact := s.path == path
		if !exact && (dir || !policy.Below(path, s.path)) || len(s.path) < len(at.path) {
			continue
		}
		if dir && at.path == s.path {
			continue // a mount point, or made in what covers it
		}
		at, rest, ok = s, path[len(s.path):], true
	}
	return at, rest, ok
}

// source is the host path that a path inside shows, "" where it shows none.
func source(at stand, rest string) string {
	switch s := at.step.(type) {
	case plan.Bind:
		if s.Staged != plan.LayerName+"/home" {
			return s.Source + rest
		}
	case plan.Overlay:
		return s.Lower[len(s.Lower)-1] + rest
	case plan.Device:
		return s.Source + rest
	}
	return ""
}

// resolve follows the symlinks in a path as they are inside: the sandbox's own,
// and those of the host in what is shown of it. What a build has made a symlink
// in the layer is not followed.
func (v view) resolve(path string) string {
	done, rest := "/", strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = filepath.Dir(done)
			continue
		}
		next := filepath.Join(done, name)
		target := v.link(next)
		if target == "" || links == 40 { // path_resolution(7)
			done = next
			continue
		}
		links++
		if filepath.IsAbs(target) {
			done = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done
}

// link is the text of the symlink that a path inside is, or "".
func (v view) link(path string) string {
	at, rest, ok := v.find(path)
	if !ok {
		return ""
	}
	if s, ok := at.step.(plan.Symlink); ok && rest == "" {
		return s.Target
	}
	if from := source(at, rest); from != "" {
		if target, err := v.disk.readlink(from); err == nil {
			return target
		}
	}
	return ""
}

// among adds what is shown below a path that is not shown itself.
func (v view) among(text, path string) string {
	var names []string
	for _, s := range v.stands {
		switch s.step.(type) {
		case plan.Bind, plan.Overlay:
			if policy.Below(s.path, path) {
				names = append(names, v.typed(s.path))
			}
		}
	}
	if len(names) == 0 {
		return text
	}
	if len(names) > 4 {
		names = append(names[:3], fmt.Sprintf("%d more", len(names)-3))
	}
	return text + "; below it are shown: " + strings.Join(names, ", ")
}

// typed is a path as the value of a flag, and short: ~ is $HOME there.
func (v view) typed(path string) string {
	if v.home != "" && policy.Below(path, v.home) {
		return "~" + policy.Escape(path[len(v.home):])
	}
	return policy.Escape(path)
}
