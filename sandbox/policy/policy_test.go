package policy

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckLayer(t *testing.T) {
	good := []string{"default", "a", "A.b_c+d-e@2", strings.Repeat("x", 64), "tmp-0", "-", "@", "+"}
	for _, name := range good {
		if err := CheckLayer(name); err != nil {
			t.Errorf("CheckLayer(%q): %v", name, err)
		}
	}
	bad := map[string]string{
		"":                      "empty",
		".":                     "starts with a dot",
		"..":                    "starts with a dot",
		".hidden":               "starts with a dot",
		"a/b":                   `contains '/'`,
		"/":                     `contains '/'`,
		"../x":                  "starts with a dot",
		"a b":                   `contains ' '`,
		"a\n":                   `contains '\n'`,
		"a\x1b[2J":              `contains '\x1b'`,
		"ä":                     `contains 'ä'`,
		"a\xff":                 "contains",
		"a\x00":                 `contains '\x00'`,
		"a:b":                   `contains ':'`,
		strings.Repeat("x", 65): "longer than 64",
	}
	for name, why := range bad {
		err := CheckLayer(name)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("CheckLayer(%q): %v, want %q", name, err, why)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b\x00") {
			t.Errorf("CheckLayer(%q) prints it raw: %q", name, err)
		}
	}
}

func TestParseNetwork(t *testing.T) {
	for _, n := range []Network{None, Host} {
		if got, err := ParseNetwork(n.String()); got != n || err != nil {
			t.Errorf("ParseNetwork(%q) = %v, %v", n, got, err)
		}
	}
	for _, s := range []string{"", "None", "host ", "internets", "1"} {
		if got, err := ParseNetwork(s); err == nil || got != None {
			t.Errorf("ParseNetwork(%q) = %v, %v", s, got, err)
		}
	}
	if s := Network(9).String(); s != "Network(9)" {
		t.Errorf("the unknown network prints as %q", s)
	}
}

func TestParseWith(t *testing.T) {
	tests := []struct{ in, source, target, fault string }{
		{in: "../lib", source: "/w/lib", target: "/w/lib"},
		{in: "~/ext:extensions/e", source: "/home/me/ext", target: "/w/tree/extensions/e"},
		{in: "a:b:c", fault: "2 colons"},
		{in: "/", fault: "target is /"},
		{in: "/proc:/x", fault: "/proc of the host"},
		{in: "/x:/dev/shm/y", fault: "/dev is the sandbox's own"},
	}
	for _, test := range tests {
		w, err := ParseWith(test.in, "/w/tree", "/home/me")
		if test.fault != "" {
			var re *RuleError
			if !errors.As(err, &re) || re.Flag != "--with "+test.in || !strings.Contains(err.Error(), test.fault) {
				t.Errorf("--with %s: %v, want %q", test.in, err, test.fault)
			}
			continue
		}
		if want := (With{test.source, test.target, "--with " + test.in}); w != want || err != nil {
			t.Errorf("--with %s: %+v, %v; want %+v", test.in, w, err, want)
		}
	}
}

func TestAccessAndOriginString(t *testing.T) {
	for a, want := range map[Access]string{Hidden: "hide", ReadOnly: "ro", CopyOnWrite: "cow", ReadWrite: "rw", 7: "Access(7)"} {
		if a.String() != want {
			t.Errorf("Access %d prints as %q", uint8(a), a)
		}
	}
	if s := (Origin{Builtin: "cache"}).String(); s != "built in: cache" {
		t.Errorf("a built-in origin prints as %q", s)
	}
	if s := (Origin{Flag: "--ro x"}).String(); s != "--ro x" {
		t.Errorf("a typed origin prints as %q", s)
	}
	if s := (Rule{Device: true, Access: ReadWrite, Source: "/dev/kvm", Target: "/dev/kvm"}).String(); s != "--dev /dev/kvm" {
		t.Errorf("a device prints as %q", s)
	}
}
