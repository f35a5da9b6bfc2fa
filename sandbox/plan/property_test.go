package plan

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// randomSituation has rules in all combinations over few names, so that they
// meet each other.
func randomSituation(r *rand.Rand) *situation {
	s := desk()
	names := []string{"a", "b.c", "b", "a:,\\", "etc\xff"}
	path := func(tops ...string) string {
		p := tops[r.IntN(len(tops))]
		for range 1 + r.IntN(3) {
			p += "/" + names[r.IntN(len(names))]
		}
		return p
	}
	if r.IntN(2) == 0 {
		s.move(path("/home/me", "/opt", "/var", "/srv", "/tmp", "/home/me/go/pkg"))
	}
	if r.IntN(6) == 0 {
		s.policy.Home = ""
	}
	if r.IntN(4) == 0 {
		goldens["caller_root_idmapped"](s)
	}
	s.facts.HomeMounts = r.IntN(3) == 0
	s.policy.Network = policy.Network(r.IntN(2))
	s.facts.EtcMounts = r.IntN(4) == 0
	s.facts.Landlock = r.IntN(8)
	for range r.IntN(3) {
		p := path("/home/me", "/data", s.policy.Tree)
		s.dirs(p)
		s.policy.With = append(s.policy.With, policy.With{Source: p, Target: path("/home/me", "/data", s.policy.Tree, "/usr"), Flag: "--with x"})
	}
	for range r.IntN(8) {
		target := path("/home/me", "/data", "/usr", "/etc", "/var", "/tmp", s.policy.Tree)
		rule := policy.Rule{Access: policy.Access(r.IntN(4)), Target: target, Dir: r.IntN(2) == 0, Origin: policy.Origin{Flag: "--rule " + target}}
		if rule.Access == policy.Hidden {
			s.facts.Targets[target] = []host.Kind{host.Absent, host.File, host.Dir, host.Socket}[r.IntN(4)]
		} else {
			rule.Source = path("/home/me", "/data", "/opt")
			kind := []host.Kind{host.File, host.Dir, host.Dir, host.Socket}[r.IntN(4)]
			if rule.Access == policy.CopyOnWrite {
				kind = host.Dir
			}
			if old, ok := s.facts.Paths[rule.Source]; ok {
				if kind = old.Kind; rule.Access == policy.CopyOnWrite && kind != host.Dir {
					continue
				}
			}
			s.facts.Paths[rule.Source] = host.Path{Kind: kind, Real: rule.Source}
		}
		s.policy.Rules = append(s.policy.Rules, rule)
	}
	for range r.IntN(4) {
		s.facts.Conf = append(s.facts.Conf, host.Conf{Path: path("/home/me", "/home/me/a"), Data: "x"})
	}
	for range r.IntN(2) {
		s.facts.EtcConf = append(s.facts.EtcConf, host.Conf{Path: []string{"npmrc", "a", "a/b", "maven/settings.xml"}[r.IntN(4)], Data: "x"})
	}
	return s
}

// TestProperties holds checkPlan for plans of random policies, that no rule of
// the user's is dropped in silence, and that Build is a function.
func TestProperties(t *testing.T) {
	rounds, refused := 3000, 0
	if testing.Short() {
		rounds = 500
	}
	for seed := range uint64(rounds) {
		s := randomSituation(rand.New(rand.NewPCG(seed, 7)))
		p, err := s.build()
		again, err2 := s.build()
		if !reflect.DeepEqual(p, again) || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("seed %d: two builds differ: %v, %v\n%s", seed, err, err2, diff(text(p), text(again)))
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "cannot apply ") {
				t.Errorf("seed %d: %v", seed, err)
			}
			refused++
			continue
		}
		checkPlan(t, s, p)
		checkRules(t, s, p)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if refused == 0 || refused > rounds/2 {
		t.Errorf("%d of %d policies are refused: the cases have lost their point", refused, rounds)
	}
}

// checkRules holds that at the target of each of the user's rules stands what
// the last rule for it says.
func checkRules(t *testing.T, s *situation, p Plan) {
	t.Helper()
	last := map[string]policy.Rule{}
	for _, r := range s.policy.Rules {
		if r.Origin.Flag != "" {
			last[r.Target] = r
		}
	}
	for target, r := range last {
		i := slices.IndexFunc(placedSteps(p), func(m placed) bool { return m.place.Path == target })
		if i < 0 {
			t.Errorf("nothing stands at the target of %s\n%s", r, text(p))
			continue
		}
		ok := false
		switch step := p.Steps[placedSteps(p)[i].index].(type) {
		case Mask:
			ok = r.Access == policy.Hidden
		case Overlay:
			ok = r.Access == policy.CopyOnWrite && step.Lower[0] == r.Source && step.Upper != ""
		case Bind:
			readOnly := step.Staged == "" || slices.ContainsFunc(p.Steps, func(s Step) bool {
				stage, ok := s.(Stage)
				return ok && stage.Name == step.Staged && stage.ReadOnly && stage.Idmapped > 0
			})
			ok = step.Source == r.Source && (r.Access == policy.ReadOnly && readOnly || r.Access == policy.ReadWrite && !readOnly)
		}
		if !ok {
			t.Errorf("%s became %s", r, p.Steps[placedSteps(p)[i].index])
		}
	}
}
