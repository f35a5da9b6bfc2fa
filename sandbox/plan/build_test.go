package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// TestFirst: what is begun before the policy is known is how every plan of an
// ordinary run begins, else each would be begun twice.
func TestFirst(t *testing.T) {
	extraordinary := map[string]bool{"net_host": true, "root_ranges": true, "root_single": true, "caller_root": true, "caller_root_idmapped": true, "limits": true}
	for name, change := range goldens {
		s := desk()
		change(s)
		p := s.built(t)
		first := First(1000, 1000, s.facts.Landlock, s.wire())
		if HasPrefix(p.Steps, first) == extraordinary[name] {
			t.Errorf("%s: the plan begins with First: %v", name, !extraordinary[name])
		}
	}
	s := desk()
	p := s.built(t)
	for what, first := range map[string][]Step{
		"uid": First(1001, 1000, 6, s.wire()), "gid": First(1000, 1001, 6, s.wire()), "landlock": First(1000, 1000, 5, s.wire()),
		"network": First(1000, 1000, 6, &Interface{TUN: !s.facts.TUN, IPv6: s.facts.IPv6}),
	} {
		if HasPrefix(p.Steps, first) {
			t.Errorf("another %s makes no difference", what)
		}
	}
	first := First(1000, 1000, 6, s.wire())
	if HasPrefix(first[:len(first)-1], first) {
		t.Error("a list begins with a longer one")
	}
}

// wire is what is begun before the policy is known where the guess is right.
func (s *situation) wire() *Interface {
	if !s.policy.Relayed() {
		return nil
	}
	return &Interface{TUN: s.facts.TUN, IPv6: s.facts.IPv6}
}

// TestOutside: sbx makes the layer ready while these steps are done, so that none may
// need it; and all that can be done meanwhile is among them.
func TestOutside(t *testing.T) {
	for name, change := range goldens {
		s := desk()
		change(s)
		p := s.built(t)
		n := p.Outside()
		if _, ok := p.Steps[n].(Open); !ok {
			t.Errorf("%s: %v is the first that needs the layer", name, p.Steps[n])
		}
		var usr bool
		for _, step := range p.Steps[:n] {
			switch b, ok := step.(Bind); {
			case strings.Contains(step.String(), s.layer.Dir), strings.Contains(step.String(), Scratch+"/"+LayerName), strings.Contains(step.String(), Host+"/dev"):
				t.Errorf("%s: %v comes before the layer is ready", name, step)
			case ok && (strings.HasPrefix(b.Staged, LayerName+"/") || strings.HasPrefix(b.Staged, homeName+"/")):
				t.Errorf("%s: %v comes before the layer is ready", name, step)
			case ok && b.Place.Path == "/usr":
				usr = true
			}
		}
		if !usr {
			t.Errorf("%s: /usr waits for the layer", name)
		}
	}
	if p := (Plan{Steps: []Step{Private{}}}); p.Outside() != 1 {
		t.Error("a plan without a layer waits for one")
	}
}

// TestRefused are contradictions; each is said in words that name both sides.
func TestRefused(t *testing.T) {
	tests := []struct {
		name   string
		change func(*situation)
		want   []string
	}{
		{"rule at the tree", func(s *situation) { s.dirs("/data"); s.rules("ro /data:/home/me/src/app") }, []string{"--ro /data:/home/me/src/app", "replace the source tree"}},
		{"hide the tree", func(s *situation) {
			s.rules("hide /home/me/src/app")
			s.facts.Targets["/home/me/src/app"] = host.Dir
		}, []string{"--hide /home/me/src/app", "replace the source tree"}},
		{"rule below a hidden directory", func(s *situation) {
			s.dirs("/data/x")
			s.facts.Targets["/data"] = host.Dir
			s.rules("hide /data", "ro /data/x")
		}, []string{"--ro /data/x", "--hide /data"}},
		{"tree below a hidden directory", func(s *situation) { s.facts.Targets["/home/me/src"] = host.Dir; s.rules("hide ~/src") }, []string{"the source tree", "--hide ~/src"}},
		{"with at the tree", func(s *situation) {
			s.dirs("/data")
			s.policy.With = []policy.With{{Source: "/data", Target: "/home/me/src/app", Flag: "--with /data:."}}
		}, []string{"--with /data:.", "replace the source tree"}},
	}
	for _, test := range tests {
		s := desk()
		test.change(s)
		_, err := s.build()
		for _, w := range test.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q", test.name, err, w)
			}
		}
	}
}

// TestBelowSymlink: a target below a symlink of the system's, such as /bin, is
// shown where that leads, or refused; it is not dropped.
func TestBelowSymlink(t *testing.T) {
	for _, rule := range []string{"ro /data:/bin/tool", "rw /data:/bin/tool", "cow /data:/lib/x/y"} {
		s := desk()
		s.dirs("/data")
		s.rules(rule)
		p, err := s.build()
		if err == nil && !strings.Contains(p.String(), "/data") {
			t.Errorf("--%s does nothing, and nobody says so", rule)
		}
	}
}

// TestRuleOverEtcSecret: what is asked for by name is shown, also in /etc; a
// whiteout has no mount point.
func TestRuleOverEtcSecret(t *testing.T) {
	s := desk()
	s.files("/etc/shadow")
	s.dirs("/etc/ssl/private")
	s.rules("ro /etc/shadow", "ro /etc/ssl/private")
	p := s.built(t)
	for _, step := range p.Steps {
		if w, ok := step.(Whiteout); ok {
			t.Errorf("%s where a rule is to stand", w)
		}
	}
}

// TestEtcFiles: passwd(5) names the user and nobody else, and no field of it can
// add a line.
func TestEtcFiles(t *testing.T) {
	file := func(s *situation, name string) string {
		b := &builder{policy: s.policy, facts: s.facts, layer: s.layer}
		for _, w := range b.etcFiles() {
			if w.Mode != 0o644 {
				t.Errorf("%s has mode %o", w.Path, w.Mode)
			}
			if w.Path == name {
				return w.Data
			}
		}
		return ""
	}
	s := desk()
	if got, want := file(s, "passwd"), "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000:Me:/home/me:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"; got != want {
		t.Errorf("passwd is %q", got)
	}
	if got, want := file(s, "group"), "root:x:0:\nme:x:1000:\nnogroup:x:65534:\n"; got != want {
		t.Errorf("group is %q", got)
	}
	if got := file(s, "resolv.conf"); strings.Contains(got, "nameserver") {
		t.Errorf("without a network there is a resolver: %q", got)
	}
	s.policy.Home = "/home/m:e\nroot2:x:0:0::/:/bin/sh"
	if got := strings.Split(file(s, "passwd"), "\n"); len(got) != 4 || got[1] != "me:x:1000:1000:Me:/:/bin/bash" {
		t.Errorf("a home with a newline makes %q", got)
	}
	s = desk()
	s.policy.Root, s.facts.UIDs, s.facts.GIDs = true, idmap.Map{{Inside: 0, Outside: 1000, Length: 1}}, idmap.Map{{Inside: 0, Outside: 1000, Length: 1}}
	if got := file(s, "passwd"); !strings.HasPrefix(got, "root:x:0:0:root:/home/me:") || strings.Contains(got, "\nme:") {
		t.Errorf("root inside has %q", got)
	}
	s.facts.UIDs = idmap.Map{{Inside: 0, Outside: 100000, Length: 65536}}
	if got := file(s, "passwd"); got != "" {
		t.Errorf("with the system's ids mapped there is a passwd of ours: %q", got)
	}
	s = desk()
	s.facts.UID, s.facts.GID = 65534, 65534
	if got := file(s, "passwd"); strings.Count(got, "\n") != 2 || strings.Contains(got, "/nonexistent") {
		t.Errorf("nobody has two lines: %q", got)
	}
	if a, b := machineID(Layer{ID: "1"}), machineID(Layer{ID: "2"}); a == b || len(a) != 33 {
		t.Errorf("machine-ids are %q and %q", a, b)
	}
}

// TestBuildProbe: the probe asks about each upper, and mounts nothing else.
func TestBuildProbe(t *testing.T) {
	s := desk()
	goldens["with"](s)
	p := s.built(t)
	var uppers, asked []string
	for _, step := range p.Steps {
		if o, ok := step.(Overlay); ok && o.Upper != "" {
			uppers = append(uppers, o.Upper)
		}
	}
	probe := BuildProbe(p)
	for _, step := range probe.Steps {
		switch step := step.(type) {
		case ProbeUpper:
			asked = append(asked, step.Upper)
		case MapIDs, Private, NewRoot:
		case Open:
			if step.Name != LayerName {
				t.Errorf("the probe has %s", step)
			}
		default:
			t.Errorf("the probe has %s", step)
		}
	}
	if len(uppers) != 4 || !slices.Equal(uppers, asked) {
		t.Errorf("of %q the probe asks about %q", uppers, asked)
	}
	if len(probe.Exec.Args) != 0 || probe.Namespaces.Net || !reflect.DeepEqual(probe.LayerDirs, p.LayerDirs) {
		t.Errorf("the probe is %+v", probe)
	}
}

// TestEveryStepPrints: each line of a plan begins with a word in its column and
// is one line, whatever bytes a path has.
func TestEveryStepPrints(t *testing.T) {
	for name, change := range goldens {
		s := desk()
		change(s)
		p := s.built(t)
		lines := strings.Split(strings.TrimSuffix(p.String(), "\n"), "\n")
		if len(lines) != len(p.Steps)+2 {
			t.Errorf("%s: %d lines for %d steps, namespaces and exec", name, len(lines), len(p.Steps))
		}
		for _, l := range lines {
			if len(l) > 14 && l[13] != ' ' || strings.ContainsAny(l, "\x1b\x00\r") || strings.Contains(l, "\xff") || strings.HasSuffix(l, " ") {
				t.Errorf("%s: the line %q", name, l)
			}
		}
	}
	if s := fmt.Sprint(ProbeUpper{Upper: "/proc/layer/upper"}); !strings.HasPrefix(s, "probe ") {
		t.Errorf("a probe prints as %q", s)
	}
}

// TestRootInside keeps the list of capabilities short: each is a decision.
func TestRootInside(t *testing.T) {
	s := desk()
	goldens["root_ranges"](s)
	p := s.built(t)
	for _, step := range p.Steps {
		if c, ok := step.(Capabilities); ok {
			const want = "capabilities  cap_chown cap_dac_override cap_fowner cap_fsetid cap_kill cap_setgid cap_setuid cap_setpcap cap_net_bind_service cap_sys_chroot cap_setfcap"
			if c.String() != want {
				t.Errorf("root keeps %s", c)
			}
		}
	}
	for _, name := range []string{"default", "root_single", "caller_root", "caller_root_idmapped"} {
		s := desk()
		goldens[name](s)
		p := s.built(t)
		for _, step := range p.Steps {
			if c, ok := step.(Capabilities); ok && len(c.Keep) != 0 {
				t.Errorf("%s keeps %s", name, c)
			}
		}
	}
}

// BenchmarkBuild is the plan of an ordinary run with a dozen rules.
func BenchmarkBuild(b *testing.B) {
	s := desk()
	goldens["access"](s)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.build(); err != nil {
			b.Fatal(err)
		}
	}
}
