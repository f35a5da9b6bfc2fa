package sandbox

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/toolconf"
)

// path explains a path that was typed as word.
func (v view) path(word, path string) Answer {
	a, _ := v.look(path)
	if real, ok := strings.CutPrefix(a.Subject, path); ok {
		a.Subject = word + real
	}
	return a
}

// look explains an absolute path. shown says that the host's file, or the
// layer's version of it, is there.
func (v view) look(path string) (a Answer, shown bool) {
	real := v.resolve(path)
	a.Subject = path
	if real != path {
		a.Subject += " -> " + real
	}
	at, rest, ok := v.find(real)
	if !ok {
		if v.elsewhere(&a, path) {
			return a, false
		}
		a.Text = v.among("not in the sandbox: no rule shows it", real)
		if real == "/" {
			a.Text = v.among("the sandbox's own root", real)
		}
		v.offer(&a, path)
		return a, false
	}
	switch s := at.step.(type) {
	case plan.Bind:
		return v.bound(a, at, rest, s)
	case plan.Overlay:
		return v.overlaid(a, at, rest, s)
	case plan.Mask:
		a.Text = "hidden (" + v.origin(at) + ")"
		if strings.HasPrefix(v.origin(at), "built in") && !policy.Below(real, "/proc") {
			v.offer(&a, at.path)
		}
	case plan.Whiteout:
		a.Text = "hidden (built in: secrets of /etc)"
		v.offer(&a, at.path)
	case plan.Device:
		a.Text, shown = "the host's device", true
		if o := v.origin(at); !strings.HasPrefix(o, "built in") {
			a.Text += " (" + o + ")"
		}
		a.Text += v.from(at, rest)
	case plan.Seed:
		return v.seeded(a, s)
	case plan.WriteFile:
		if slices.ContainsFunc(toolconf.Etc, func(f toolconf.File) bool { return f.Source == at.path }) {
			return v.etcConf(a, real)
		}
		a.Text = "written by sbx for the sandbox: the host's is not shown"
		v.offer(&a, real)
	default:
		a.Text, shown = v.own(at, rest)
		if !shown && !v.elsewhere(&a, path) {
			v.offer(&a, path)
		}
	}
	return a, shown
}

// own describes what the sandbox makes itself. made says that it is not there
// in place of something that a rule could show.
func (v view) own(at stand, rest string) (text string, made bool) {
	switch s := at.step.(type) {
	case plan.Symlink:
		return "a symlink of the sandbox's own to " + strconv.Quote(s.Target), true
	case plan.Proc:
		return "the sandbox's own /proc, with its processes alone", true
	case plan.ReadOnlyBelow:
		return "of the sandbox's own /proc, read-only", true
	case plan.Sysfs:
		return "the sandbox's own /sys, with its network alone, read-only", true
	case plan.Devpts:
		return "the sandbox's own terminals", true
	case plan.Writable:
		if rest == "" {
			return v.among("the sandbox's own, empty at the start of each run", at.path), true
		}
		return v.among(fmt.Sprintf("not in the sandbox: %s is its own, empty at the start of each run", at.path), at.path+rest), false
	}
	return v.among("a directory of the sandbox's own, not the host's", at.path+rest), false
}

func (v view) onHost(path string) bool {
	_, ok := v.disk.stat(path)
	return ok
}

// bound describes a bind mount.
func (v view) bound(a Answer, at stand, rest string, s plan.Bind) (Answer, bool) {
	switch {
	case s.Staged == plan.LayerName+"/home":
		return v.privateHome(a, at, rest)
	case policy.Below(s.Source, plan.Scratch):
		return v.etcConf(a, at.path)
	}
	switch v.access(at) {
	case policy.CopyOnWrite:
		// A part of an overlay that several rules share.
		name, below, _ := strings.Cut(s.Staged, "/")
		return v.copied(a, at, rest, name+"/upper", below+rest)
	case policy.ReadWrite:
		a.Text = "writable, writes go to the host"
	default:
		a.Text = "read-only"
	}
	a.Text += v.because(at) + v.from(at, rest)
	if !v.onHost(source(at, rest)) {
		a.Text += "; the host has nothing there"
		return a, false
	}
	return a, true
}

// privateHome describes what lies in $HOME and no rule shows.
func (v view) privateHome(a Answer, at stand, rest string) (Answer, bool) {
	path := at.path + rest
	switch {
	case rest == "":
		a.Text = v.among(fmt.Sprintf("a private home of the layer %q; nothing of the host's is shown in it", v.layer), path)
		return a, true
	case v.elsewhere(&a, path):
		return a, false
	}
	switch v.disk.version("home", rest) {
	case file:
		a.Text = fmt.Sprintf("the file of the private home of the layer %q; the host's is not shown", v.layer)
	case changes:
		a.Text = v.among(fmt.Sprintf("the directory of the private home of the layer %q; the host's is not shown", v.layer), path)
	default:
		a.Text = v.among("not in the sandbox: nothing of $HOME is shown", path)
		v.offer(&a, path)
		return a, false
	}
	if v.onHost(path) {
		v.offer(&a, path)
	}
	return a, true
}

// seeded describes the configuration of a tool.
func (v view) seeded(a Answer, s plan.Seed) (Answer, bool) {
	a.Text = fmt.Sprintf("a copy of the host's with credentials removed, in the private home of the layer %q", v.layer)
	switch {
	case s.Have == plan.HasOther:
		a.Text = fmt.Sprintf("the file of the private home of the layer %q, where a build has made or changed it; if it were removed there, the host's would appear with credentials removed", v.layer)
	case len(s.Dropped) > 0:
		list := slices.Compact(slices.Clone(s.Dropped))
		if len(list) > 8 {
			list = append(list[:8], "…")
		}
		a.Text += "; left out: " + strings.Join(list, ", ")
	}
	v.offer(&a, s.Place.Path)
	a.Purpose = "show it as it is"
	return a, true
}

// etcConf describes the configuration of a tool in /etc.
func (v view) etcConf(a Answer, path string) (Answer, bool) {
	a.Text = "read-only, the host's with credentials removed"
	v.offer(&a, path)
	a.Purpose = "show it as it is"
	return a, true
}

// overlaid describes a copy-on-write directory, and /etc.
func (v view) overlaid(a Answer, at stand, rest string, s plan.Overlay) (Answer, bool) {
	if s.Upper == "" {
		there := v.onHost(source(at, rest))
		a.Text = "read-only" + v.because(at)
		if !there {
			a.Text += "; the host has nothing there"
		}
		return a, there
	}
	return v.copied(a, at, rest, strings.TrimPrefix(s.Upper, plan.Scratch+"/"+plan.LayerName+"/"), rest)
}

// copied describes a copy-on-write path. upper and rel are where the layer has
// its own version.
func (v view) copied(a Answer, at stand, rest, upper, rel string) (Answer, bool) {
	there := v.onHost(source(at, rest))
	a.Text = "copy-on-write" + v.because(at) + v.from(at, rest)
	tree := at.path == v.policy.Tree
	if tree {
		a.Text = "the source tree, copy-on-write"
	}
	a.Text += fmt.Sprintf(", layer %q", v.layer)
	where := ""
	if tree && rest != "" {
		where = " (sbx path)"
	}
	switch has := v.disk.version(upper, rel); {
	case has == deleted:
		a.Text += ", where a build has deleted or replaced it"
		return a, false
	case has == file && there:
		a.Text += ", which has its own version of it" + where
	case has == file:
		a.Text += ", which alone has it" + where
	case has == changes && !there:
		a.Text += ", which alone has it"
	case has == changes && rest != "":
		a.Text += ", which has changes in it"
	case !there:
		a.Text += "; neither the host nor the layer has anything there"
		return a, false
	}
	return a, true
}

// from tells where a path comes from, if that is another path.
func (v view) from(at stand, rest string) string {
	if from := source(at, rest); from != at.path+rest {
		return ", from " + strconv.Quote(from)
	}
	return ""
}

// elsewhere tells that a rule shows a host path at another place inside.
func (v view) elsewhere(a *Answer, path string) bool {
	for _, s := range slices.Backward(v.stands) {
		from := source(s, "")
		if from == "" || from == s.path || from != path && !policy.Below(path, from) {
			continue
		}
		at, rest, _ := v.find(s.path + path[len(from):])
		if source(at, rest) != path {
			continue // covered
		}
		a.Text = fmt.Sprintf("not in the sandbox by this path, but as %q%s", s.path+path[len(from):], v.because(s))
		return true
	}
	return false
}

// offer adds the flag that shows a path of the host, if there can be one, and
// what the user should know before using it.
func (v view) offer(a *Answer, path string) {
	mode, there := v.disk.stat(path)
	if !there {
		a.Text += "; the host has nothing there, or nothing that you may see"
		return
	}
	flag := "--ro"
	switch {
	case mode&fs.ModeDevice != 0 && policy.Below(path, "/dev"):
		flag = "--dev"
	case path == "/", path == "/dev", policy.Below(path, "/dev"):
		return
	}
	switch {
	case path == v.policy.Home:
	case policy.Secret(path, v.policy.Home):
		a.Text += "; it holds credentials or private data"
	case mode&fs.ModeSocket != 0:
		a.Text += "; it is a socket: a build that sees it can use what listens there"
	default:
		if s := policy.Exposes(path, v.policy.Home, v.sockets); s != "" && s != v.policy.Home {
			a.Text += fmt.Sprintf("; %s would be in it, a place of credentials or private data", v.typed(s))
		}
	}
	a.Purpose, a.Flags = "show it", []string{flag, v.typed(path)}
}
