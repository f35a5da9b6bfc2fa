package policy

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestSplitPair goes through the quoting of --ro and the like: only `\:` and
// `\\` are escapes, so that a path with another backslash needs no care.
func TestSplitPair(t *testing.T) {
	tests := []struct{ in, source, target, fault string }{
		{in: "a", source: "a"},
		{in: "a:b", source: "a", target: "b"},
		{in: `a\:b`, source: "a:b"},
		{in: `a\:b:c\:d`, source: "a:b", target: "c:d"},
		{in: `a\\:b`, source: `a\`, target: "b"},
		{in: `a\\\:b`, source: `a\:b`},
		{in: `a\b\n`, source: `a\b\n`},
		{in: `a\`, source: `a\`},
		{in: `a\\`, source: `a\`},
		{in: "a b,c\n:\xff\xfe", source: "a b,c\n", target: "\xff\xfe"},
		{in: "", fault: "a path is empty"},
		{in: ":", fault: "a path is empty"},
		{in: "a:", fault: "a path is empty"},
		{in: ":b", fault: "a path is empty"},
		{in: "a:b:c", fault: "it has 2 colons"},
		{in: "a:b:", fault: "it has 2 colons"},
		{in: "a\x00b", fault: "NUL"},
		{in: "a:b\x00", fault: "NUL"},
	}
	for _, test := range tests {
		source, target, err := SplitPair(test.in)
		if source != test.source || target != test.target || (err == nil) != (test.fault == "") {
			t.Errorf("SplitPair(%q) = %q, %q, %v; want %q, %q, %s", test.in, source, target, err, test.source, test.target, test.fault)
		}
		if err != nil && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("SplitPair(%q): %v, want %q", test.in, err, test.fault)
		}
	}
}

// hostilePath is a path of bytes that mean something somewhere.
func hostilePath(r *rand.Rand) string {
	const bytes = "a/\\:,;\n\t \"'%\x7f\xff~.=*"
	b := make([]byte, 1+r.IntN(12))
	for i := range b {
		b[i] = bytes[r.IntN(len(bytes))]
	}
	return string(b)
}

// TestEscapeRoundTrip holds that what sbx prints as a flag can be pasted.
func TestEscapeRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		source, target := hostilePath(r), hostilePath(r)
		s, d, err := SplitPair(Escape(source))
		if s != source || d != "" || err != nil {
			t.Fatalf("SplitPair(Escape(%q)) = %q, %q, %v", source, s, d, err)
		}
		s, d, err = SplitPair(Escape(source) + ":" + Escape(target))
		if s != source || d != target || err != nil {
			t.Fatalf("SplitPair of %q and %q = %q, %q, %v", source, target, s, d, err)
		}
	}
}

func TestParseRule(t *testing.T) {
	const dir, home = "/srv/tree", "/home/me"
	tests := []struct {
		access Access
		device bool
		in     string
		want   Rule
		fault  string
	}{
		{access: ReadOnly, in: "lib", want: Rule{Source: "/srv/tree/lib", Target: "/srv/tree/lib"}},
		{access: ReadOnly, in: "../lib/", want: Rule{Source: "/srv/lib", Target: "/srv/lib", Dir: true}},
		{access: ReadOnly, in: "/a//b/./c/../d", want: Rule{Source: "/a/b/d", Target: "/a/b/d"}},
		{access: ReadOnly, in: "../../../../..", fault: "the target is /"},
		{access: ReadOnly, in: "/:/x", fault: "/ would show everything"},
		{access: ReadWrite, in: "/a:/", fault: "the target is /"},
		{access: ReadWrite, in: "/a:/x/../..", fault: "the target is /"},
		{access: CopyOnWrite, in: "~/a:~/b", want: Rule{Source: "/home/me/a", Target: "/home/me/b"}},
		{access: ReadOnly, in: "~", want: Rule{Source: "/home/me", Target: "/home/me"}},
		{access: ReadOnly, in: "~you/a", want: Rule{Source: "/srv/tree/~you/a", Target: "/srv/tree/~you/a"}},
		{access: ReadOnly, in: `a\:b`, want: Rule{Source: "/srv/tree/a:b", Target: "/srv/tree/a:b"}},
		{access: ReadOnly, in: "a:b:c", fault: "2 colons"},
		{access: ReadOnly, in: "a\x00", fault: "NUL"},
		{access: Hidden, in: "~/.ssh/", want: Rule{Target: "/home/me/.ssh", Dir: true}},
		{access: Hidden, in: ".env", want: Rule{Target: "/srv/tree/.env"}},
		{access: Hidden, in: "a:b", fault: "takes one path"},
		{access: Hidden, in: "/", fault: "the target is /"},
		{access: Hidden, in: "/proc/cpuinfo", fault: "/proc is the sandbox's own"},
		{access: Hidden, in: "/dev/tty", fault: "/dev is the sandbox's own"},
		{access: ReadOnly, in: "/dev/kvm", fault: "--dev PATH adds a device"},
		{access: ReadWrite, in: "/dev/kvm:/x", fault: "/dev of the host"},
		{access: ReadWrite, in: "/proc:/x", fault: "/proc of the host"},
		{access: ReadOnly, in: "/sys/class:/x", fault: "/sys of the host"},
		{access: ReadWrite, in: "/x:/sys", fault: "/sys is the sandbox's own"},
		{access: ReadWrite, in: "/x:/proc/self", fault: "/proc is the sandbox's own"},
		{access: ReadOnly, in: "/procs", want: Rule{Source: "/procs", Target: "/procs"}},
		{access: ReadWrite, device: true, in: "/dev/kvm", want: Rule{Source: "/dev/kvm", Target: "/dev/kvm"}},
		{access: ReadWrite, device: true, in: "/dev/../dev/dri:/dev/x", want: Rule{Source: "/dev/dri", Target: "/dev/x"}},
		{access: ReadWrite, device: true, in: "/dev", fault: "a device is below /dev"},
		{access: ReadWrite, device: true, in: "/dev/../etc", fault: "a device is below /dev"},
		{access: ReadWrite, device: true, in: "/dev/kvm:/tmp/kvm", fault: "a device is below /dev"},
		{access: ReadWrite, device: true, in: "/devil", fault: "a device is below /dev"},
	}
	for _, test := range tests {
		got, err := ParseRule(test.access, test.device, test.in, dir, home)
		flag := "--" + test.access.String() + " " + test.in
		if test.device {
			flag = "--dev " + test.in
		}
		if test.fault != "" {
			var re *RuleError
			if !errors.As(err, &re) || re.Flag != flag || !strings.Contains(err.Error(), test.fault) {
				t.Errorf("%s: %v, want a RuleError of this flag with %q", flag, err, test.fault)
			}
			continue
		}
		test.want.Access, test.want.Device, test.want.Origin.Flag = test.access, test.device, flag
		if err != nil || got != test.want {
			t.Errorf("%s: %+v, %v; want %+v", flag, got, err, test.want)
		}
	}
}

// TestParseRuleNoHome holds that `~` without a home is refused, or at least
// stays absolute: what the plan does with a relative path is undefined.
func TestParseRuleNoHome(t *testing.T) {
	for _, in := range []string{"~", "~/x", "/a:~/x", "~/x:/a"} {
		r, err := ParseRule(ReadOnly, false, in, "/tree", "")
		if err == nil && (!strings.HasPrefix(r.Source, "/") || !strings.HasPrefix(r.Target, "/")) {
			t.Errorf("--ro %s without a home: a path that is not absolute: %+v", in, r)
		}
	}
}

// TestParseRuleOwnPlaces holds that no rule can stand where package plan keeps
// the host's root meanwhile: LeaveHost would detach the rule's mount instead.
func TestParseRuleOwnPlaces(t *testing.T) {
	for _, in := range []string{"/usr:/.host", "/usr:/.host/x"} {
		if _, err := ParseRule(ReadOnly, false, in, "/tree", "/home/me"); err == nil {
			t.Errorf("--ro %s is accepted", in)
		}
	}
}

// TestRuleString holds that a rule prints as the flag that makes it.
func TestRuleString(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		access := Access(r.IntN(4))
		source, target := "/s/"+hostilePath(r)+"x", "/t/"+hostilePath(r)+"x"
		in := Escape(source)
		if access != Hidden && r.IntN(2) == 0 {
			in += ":" + Escape(target)
		}
		rule, err := ParseRule(access, false, in, "/tree", "/home/me")
		if err != nil {
			continue // `..` led out, to a place that is refused
		}
		name, value, _ := strings.Cut(rule.String(), " ")
		if name != "--"+access.String() {
			t.Fatalf("%q is the flag of %+v", name, rule)
		}
		again, err := ParseRule(access, false, value, "/elsewhere", "/home/other")
		again.Origin, again.Dir = rule.Origin, rule.Dir
		if err != nil || again != rule {
			t.Fatalf("%q reads back as %+v, %v; was %+v", rule, again, err, rule)
		}
	}
}

func TestBelow(t *testing.T) {
	tests := []struct {
		path, dir string
		want      bool
	}{
		{"/a/b", "/a", true},
		{"/a", "/a", false},
		{"/ab", "/a", false},
		{"/a", "/a/b", false},
		{"/a", "/", true},
		{"/", "/", false},
		{"/a/b/c", "/a", true},
		{"", "/", false},
	}
	for _, test := range tests {
		if got := Below(test.path, test.dir); got != test.want {
			t.Errorf("Below(%q, %q) = %v", test.path, test.dir, got)
		}
	}
}

func FuzzSplitPair(f *testing.F) {
	for _, s := range []string{"", "a", "a:b", `a\:b`, `\\:\`, "a:b:c", "\x00", "é:\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		source, target, err := SplitPair(s)
		if err != nil {
			if source+target != "" {
				t.Errorf("SplitPair(%q) fails and gives %q, %q", s, source, target)
			}
			return
		}
		if source == "" || strings.ContainsRune(source+target, 0) {
			t.Errorf("SplitPair(%q) = %q, %q", s, source, target)
		}
		again := Escape(source)
		if target != "" {
			again += ":" + Escape(target)
		}
		s2, t2, err := SplitPair(again)
		if s2 != source || t2 != target || err != nil {
			t.Errorf("%q reads as %q, %q; printed as %q that reads as %q, %q, %v", s, source, target, again, s2, t2, err)
		}
	})
}

func FuzzParseRule(f *testing.F) {
	for i, s := range []string{"a", "/", "~/a:~", "/dev/kvm", "../..:/x", "/proc/1/root", "/a/../proc", `\:`, "/.host"} {
		f.Add(uint8(i), s)
	}
	f.Fuzz(func(t *testing.T, kind uint8, s string) {
		access, device := Access(kind%5%4), kind%5 == 4
		if device {
			access = ReadWrite // as --dev does
		}
		r, err := ParseRule(access, device, s, "/tree", "/home/me")
		if err != nil {
			if r != (Rule{}) || !strings.HasPrefix(err.Error(), "cannot use the rule ") {
				t.Errorf("%q gives %+v and %q", s, r, err)
			}
			return
		}
		for _, p := range []string{r.Source, r.Target} {
			if p == "" && r.Access == Hidden {
				continue
			}
			if !strings.HasPrefix(p, "/") || p == "/" || strings.Contains(p+"/", "/../") || strings.Contains(p, "//") || strings.ContainsRune(p, 0) {
				t.Errorf("%q gives the path %q", s, p)
			}
			for _, k := range kernelPlaces {
				if (p == k || Below(p, k)) && !r.Device {
					t.Errorf("%q names %q, which is in %s", s, p, k)
				}
			}
			if r.Device && !Below(p, "/dev") {
				t.Errorf("%q is a device at %q", s, p)
			}
		}
	})
}
