package sandbox

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/network"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/state"
	"github.com/sbx-build/sbx/sandbox/toolconf"
)

// Session is what the options mean here: which tree, which layer, which policy.
type Session struct {
	Tree   host.Tree
	Store  state.Store
	Layer  state.Layer
	Policy policy.Policy
	// Vars is the caller's environment and what becomes of it.
	Vars []policy.Var
	Run  string

	options Options
	started time.Time
	// ticked is the same by the clock that files have their times of, which stands still
	// for up to ten milliseconds (CLOCK_REALTIME_COARSE in clock_getres(2)).
	ticked time.Time
	// joined is the run whose namespaces the command enters.
	joined string
	// seeds and news are what look has found.
	seeds *state.Seeds
	news  []string
	// warned is done when what is shadowed has been said.
	warned *sync.Once
}

// Open finds out what the options mean. It changes nothing on disk.
func Open(o Options) (*Session, error) {
	dir, logical, err := workingDir(o)
	if err != nil {
		return nil, err
	}
	s := &Session{Run: newRun(), options: o, started: time.Now(), ticked: tick(), warned: new(sync.Once)}
	h := o.Home()
	s.Store, err = state.Find(o.State, dir, o.Getenv)
	if err != nil {
		return nil, err
	}
	s.Tree, err = host.FindTree(host.TreeOptions{
		Dir: dir, Source: o.Source, Env: o.Getenv("SBX_SOURCE"), Home: h, HasState: s.Store.HasTree,
	})
	if err != nil {
		return nil, err
	}
	name := o.Layer
	switch {
	case o.Throwaway:
		name = "tmp-" + s.Run
	case name == "" && o.Root:
		name = "root"
	case name == "":
		name = state.DefaultLayer
	}
	if err := policy.CheckLayer(name); err != nil {
		return nil, err
	}
	s.Layer = s.Store.Tree(s.Tree.Root).Layer(name)

	for _, d := range append([]string{s.Tree.Root}, sources(o.With)...) {
		if err := s.Store.Contains(d); err != nil {
			return nil, err
		}
	}
	rules := policy.System()
	absent := host.AbsentBelow(h)
	for _, r := range policy.Toolchains(h, strings.Split(o.Getenv("PATH"), ":"), o.Getenv, absent) {
		// A toolchain in the tree (.venv/bin, node_modules/.bin) is the tree's.
		if !within(r.Target, s.Tree.Root, o.With) {
			rules = append(rules, r)
		}
	}
	s.Policy = policy.Policy{
		Tree: s.Tree.Root, With: o.With, Home: h, Rules: append(rules, o.Rules...),
		Conf:    slices.DeleteFunc(toolconf.Files(h, o.Getenv), func(f toolconf.File) bool { return absent(f.Source) }),
		Network: o.Network, NetAllow: o.NetAllow, Publish: o.Publish, Dir: dir, LogicalDir: logical,
		Root: o.Root, AllowUserns: o.AllowUserns, TmpSize: o.TmpSize, Processes: o.Processes,
	}
	for _, r := range o.Rules {
		if r.Access == policy.Hidden {
			continue
		}
		if err := s.Store.Contains(r.Source); err != nil && r.Access != policy.ReadOnly {
			return nil, err
		}
	}
	s.Vars = policy.Environment(o.Environ, o.Env, s.set(dir, logical), s.Tree.Root)
	return s, nil
}

// tick is the time that a file would get now.
func tick() time.Time {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts) != nil {
		return time.Now()
	}
	return time.Unix(ts.Unix())
}

// set are the variables that sbx itself gives.
func (s *Session) set(dir, logical string) map[string]string {
	pwd := dir
	if logical != "" {
		pwd = logical
	}
	set := map[string]string{
		"SBX": "1", "SBX_RUN": s.Run, "SBX_TREE": s.Tree.Root, "SBX_LAYER": s.Layer.Name,
		"PWD": pwd,
		// A git status inside must not copy .git/index into the layer, where
		// it would be out of date for ever (git(1)).
		"GIT_OPTIONAL_LOCKS": "0",
	}
	if s.Policy.Home != "" {
		set["HOME"] = s.Policy.Home
	}
	if s.Policy.Network != policy.Host {
		for name, value := range patience(s.Policy.Network) {
			if !s.asked(name) {
				set[name] = value
			}
		}
	}
	return set
}

// patience is how long npm waits before it asks again, twice, in milliseconds: of a
// registry that is denied it would ask for more than a minute, and of one after the other
// for each dependency.
func patience(base policy.Network) map[string]string {
	first, second := "200", "1000"
	if base == policy.None {
		first, second = "100", "500" // what is not on the list stays so
	}
	return map[string]string{"npm_config_fetch_retry_mintimeout": first, "npm_config_fetch_retry_maxtimeout": second}
}

// asked says whether --env is about a variable.
func (s *Session) asked(name string) bool {
	return slices.ContainsFunc(s.options.Env, func(r policy.EnvRule) bool { return r.Matches(name) })
}

// Warnings are what the user should know before the command runs.
func (s *Session) Warnings(o Options) []string {
	var lines []string
	if s.Tree.Said && !s.Store.HasTree(s.Tree.Root) {
		lines = append(lines, fmt.Sprintf("the source tree is %q: it has no version control, so the current directory was taken; --source DIR names another", s.Tree.Root))
	}
	if s.Tree.Passed != "" {
		lines = append(lines, fmt.Sprintf("%q is not taken as the mark of a source tree: another user could have put it there", s.Tree.Passed))
	}
	sockets := []string{o.Getenv("SSH_AUTH_SOCK"), o.Getenv("GPG_AGENT_INFO")}
	for _, r := range o.Rules {
		if r.Access == policy.Hidden {
			continue
		}
		source := r.Source
		if real, err := filepath.EvalSymlinks(source); err == nil {
			source = real
		}
		if p := policy.Exposes(source, s.Policy.Home, sockets); p != "" {
			lines = append(lines, fmt.Sprintf("%s shows %q to the build, which sbx otherwise keeps from it", r.Origin, p))
		} else if r.Access == policy.ReadWrite {
			lines = append(lines, fmt.Sprintf("%s: the build writes to the host there", r.Origin))
		}
	}
	for _, w := range s.Policy.With {
		if p := policy.Exposes(w.Source, s.Policy.Home, sockets); p != "" {
			lines = append(lines, fmt.Sprintf("%s shows %q to the build, which sbx otherwise keeps from it", w.Flag, p))
		}
	}
	for _, v := range s.Vars {
		if v.Why == policy.NotUnderstood {
			lines = append(lines, fmt.Sprintf("$%s is not passed, so that requests may go elsewhere than outside: %s; --env %s passes it as it is", v.Name, v.Why, v.Name))
		}
	}
	if s.Policy.Relayed() {
		if _, err := network.ParseProxies(o.Getenv); err != nil {
			lines = append(lines, err.Error()+"; connections are made without it")
		}
	}
	if s.Policy.Network == policy.Host {
		lines = append(lines, "--net=host: the build reaches the services on this machine's localhost and its network")
	}
	return lines
}

// Environ is the command's environment.
func (s *Session) Environ() []string {
	var env []string
	for _, v := range s.Vars {
		if v.Pass {
			env = append(env, v.Name+"="+v.Value)
		}
	}
	return env
}

// within says whether path is in the tree or in a directory joined to it.
func within(path, tree string, with []policy.With) bool {
	if path == tree || policy.Below(path, tree) {
		return true
	}
	for _, w := range with {
		if path == w.Target || policy.Below(path, w.Target) {
			return true
		}
	}
	return false
}

func sources(with []policy.With) []string {
	var list []string
	for _, w := range with {
		list = append(list, w.Source)
	}
	return list
}
