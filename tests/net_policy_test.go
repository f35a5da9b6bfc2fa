package tests

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// TestNetPolicyInternet: the public internet, and nothing of the host and its networks.
func TestNetPolicyInternet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nameserver(zone())
	public := []string{"93.184.216.1", "2600:1::1"}
	inner := []string{"10.1.2.3", "100.64.1.1", "169.254.169.254", "172.16.1.1", "192.168.1.1", "198.51.100.1", "fd00:88::1", "10.77.0.1", "10.77.0.9", "fd00:77::1"}
	own := []string{"10.77.0.2", "fd00:77::2", "127.0.0.1", "::1"}
	var all []string
	for _, a := range append(append([]string{}, public...), inner...) {
		w.listen(w.wan, net.JoinHostPort(a, "7"), named("there"))
	}
	for _, a := range own {
		w.listen(w.host, net.JoinHostPort(a, "7"), named("there"))
	}
	for _, a := range append(append(append([]string{}, public...), inner...), own...) {
		all = append(all, "said "+net.JoinHostPort(a, "7")+" x")
	}
	w.control(t, "caller", all...).all(t)
	w.devices(t, func(t *testing.T) {
		for _, flags := range [][]string{nil, {"--net=internet"}, {"--root"}} {
			o := w.inside(t, flags, all...)
			for i, call := range all {
				switch {
				case i < len(public):
					o.is(t, call, `done "there\n"`)
				default:
					o.refused(t, call)
				}
			}
			for _, c := range w.contacts(t) {
				if (c.Denied == "") != (c.Address == public[0] || c.Address == public[1]) {
					t.Errorf("the record says %+v", c)
				}
			}
		}
		w.inside(t, []string{"--net=none"}, all...).refused(t, all...)
		w.inside(t, []string{"--net", "none"}, all[0], "lookup www.example.com").refused(t, all[0], "lookup www.example.com")
	})
	// A range, and single addresses that are typed; never by a range what is the host's.
	for _, c := range []struct {
		flag, reached, not string
	}{
		{"10.1.0.0/16", "10.1.2.3:7", "192.168.1.1:7"},
		{"10.1.2.3:7", "10.1.2.3:7", "10.77.0.9:7"},
		{"10.77.0.0/24", "10.77.0.9:7", "10.77.0.2:7"},
		{"10.77.0.2:7", "10.77.0.2:7", "10.77.0.1:7"},
		{"fd00:88::/64", "[fd00:88::1]:7", "[fd00:77::2]:7"},
		{"[fd00:77::2]:7", "[fd00:77::2]:7", "[fd00:88::1]:7"},
		{"93.184.216.0/24:7", "93.184.216.1:7", "[2600:1::1]:7"},
	} {
		t.Run(c.flag, func(t *testing.T) {
			yes, no := "said "+c.reached+" x", "said "+c.not+" x"
			o := w.inside(t, []string{"--net=none", "--net-allow", c.flag}, yes, no)
			o.is(t, yes, `done "there\n"`)
			o.refused(t, no)
		})
	}
}

// TestNetPolicyNames: names alone, on their ports alone.
func TestNetPolicyNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	z := zone()
	z["A registry.corp.internal"], z["A up.example.org"] = []string{"10.1.2.3"}, []string{"10.1.2.3"}
	w.nameserver(z)
	for _, a := range []string{"93.184.216.1:80", "93.184.216.1:81", "93.184.216.3:80", "93.184.216.4:80", "10.1.2.3:80", "10.77.0.9:80"} {
		w.listen(w.wan, a, named("there"))
	}
	w.listen(w.host, "10.77.0.2:80", named("there"))
	cases := []struct {
		flags, call string
		reached     bool
	}{
		{"www.example.com", "www.example.com:80", true},
		{"www.example.com", "www.example.com:81", true},
		{"www.example.com", "93.184.216.1:80", false},
		{"www.example.com", "other.example.com:80", false},
		{"WWW.Example.Com.:80", "www.example.com:80", true},
		{"www.example.com:80", "www.example.com:81", false},
		{"*.example.com", "www.example.com:80", true},
		{"*.example.com", "deep.sub.example.com:80", true},
		{"*.sub.example.com", "www.example.com:80", false},
		{"*.example.com", "private.example.com:80", false},
		{"private.example.com", "private.example.com:80", true},
		{"registry.corp.internal", "registry.corp.internal:80", true},
		{"lan.example.com", "lan.example.com:80", true},
		{"own.example.com", "own.example.com:80", false},
		{"loop.example.com", "loop.example.com:80", false},
		{"meta.example.com", "meta.example.com:80", false},
		{"mixed.example.com", "mixed.example.com:80", true},
	}
	for _, base := range []string{"none", "internet"} {
		for _, c := range cases {
			if base == "internet" && !strings.Contains(c.flags, "corp") && !strings.Contains(c.flags, "lan.") && !strings.Contains(c.flags, "own") && !strings.Contains(c.flags, "loop") && !strings.Contains(c.flags, "meta") {
				continue
			}
			t.Run(base+" "+c.flags+" "+c.call, func(t *testing.T) {
				call := "said " + c.call + " x"
				got := w.inside(t, []string{"--net", base, "--net-allow", c.flags}, call)[call]
				if (got == `done "there\n"`) != c.reached {
					t.Errorf("%s", got)
				}
			})
		}
	}
	// A fake address is of one name, and of its ports.
	for _, call := range []string{"said 198.18.1.1:80 x", "said 198.18.1.2:80 x", "said 198.19.1.1:80 x", "datagram 198.18.1.1:80 10"} {
		w.inside(t, []string{"--net=none", "--net-allow", "www.example.com"}, call).refused(t, call)
	}
	o := w.inside(t, []string{"--net=none", "--net-allow", "www.example.com:80"}, "said www.example.com:80 x", "said 198.18.1.1:80 x", "said 198.18.1.1:81 x", "said 198.18.1.2:80 x")
	o.is(t, "said www.example.com:80 x", `done "there\n"`)
	o.is(t, "said 198.18.1.1:80 x", `done "there\n"`)
	o.refused(t, "said 198.18.1.1:81 x", "said 198.18.1.2:80 x")
}

// TestNetPolicyLocalhost: the host's localhost is reached at the sandbox's, by a rule for
// a port.
func TestNetPolicyLocalhost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.listen(w.host, "127.0.0.1:5432", named("v4"))
	w.listen(w.host, "[::1]:5433", named("v6"))
	w.listen(w.host, "127.0.0.1:5434", named("v4"))
	flags := []string{"--net=none", "--net-allow", "localhost:5432", "--net-allow", "localhost:5433", "--net-allow", "localhost:5435"}
	calls := []string{"said 127.0.0.1:5432 x", "said localhost:5432 x", "said [::1]:5432 x", "said 127.0.0.1:5433 x", "said [::1]:5433 x", "said 127.0.0.1:5434 x", "said 127.0.0.1:5435 x"}
	w.devices(t, func(t *testing.T) {
		for _, base := range []string{"none", "internet"} {
			flags[0] = "--net=" + base
			o := w.inside(t, flags, calls...)
			for _, call := range calls[:3] {
				o.is(t, call, `done "v4\n"`)
			}
			for _, call := range calls[3:5] {
				o.is(t, call, `done "v6\n"`)
			}
			o.refused(t, calls[5:]...)
		}
	})
}

// TestNetPolicySNI: where names are allowed one by one, TLS must be for the same name.
func TestNetPolicySNI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nameserver(zone())
	w.listen(w.wan, "93.184.216.1:443", serveTLS(t))
	w.listen(w.wan, "93.184.216.1:22", greet)
	w.listen(w.wan, "93.184.216.1:80", named("plain"))
	flags := []string{"--net=none", "--net-allow", "www.example.com"}
	w.devices(t, func(t *testing.T) {
		for _, piece := range []string{"0", "1000", "100", "50"} {
			call := "tls www.example.com:443 www.example.com " + piece
			w.inside(t, flags, call).all(t)
		}
		for _, c := range w.contacts(t) {
			if c.Denied != "" {
				t.Errorf("the record says %+v", c)
			}
		}
		for _, bad := range []string{"other.example.com 0", "- 0", "other.example.com 100", "secret.other.net 50", "- 20", "www.example.com.evil.net 0"} {
			call := "tls www.example.com:443 " + bad
			o := w.inside(t, flags, call)
			o.is(t, call, "ECONNRESET")
			if c := find(w.contacts(t), "www.example.com", 443); c == nil {
				t.Errorf("%s is not recorded", bad)
			}
			denied := false
			for _, c := range w.contacts(t) {
				denied = denied || strings.Contains(c.Denied, "TLS")
			}
			if !denied {
				t.Errorf("%s: the denial is not recorded: %+v", bad, w.contacts(t))
			}
		}
		// What is no TLS passes, and so does who says nothing.
		calls := []string{"greeting www.example.com:22", "said www.example.com:80 GET / HTTP/1.1", "dial tcp www.example.com:443"}
		r := w.sbx(append(append([]string{}, flags...), append([]string{"--", "./caller"}, calls...)...)...)
		parse(t, r, calls).all(t)
		if strings.Contains(r.Stderr, "denied") {
			t.Errorf("something is said to be denied: %v", r)
		}
	})
	// With all of the internet it does not matter.
	w.inside(t, nil, "tls www.example.com:443 other.example.com 0", "tls 93.184.216.1:443 - 0").all(t)
}

// TestNetPolicyTold: what is denied fails at once, and sbx says what, and what would
// allow it.
func TestNetPolicyTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nameserver(zone())
	w.listen(w.wan, "93.184.216.1:80", named("there"))
	w.devices(t, func(t *testing.T) {
		flags := []string{"--net=none", "--net-allow", "www.example.com:80"}
		r := w.sbx(append(flags, "--", "sh", "-c", `s=$(date +%s%N); ./caller "said 93.184.216.3:443 x" "said other.example.com:443 x" "said www.example.com:81 x" "said 10.77.0.1:80 x"; e=$(date +%s%N); echo took $(( (e-s)/1000000 )); ./caller "said www.example.com:80 hello"`)...)
		var ms int
		if i := strings.Index(r.Stdout, "took "); i >= 0 {
			fmt.Sscanf(r.Stdout[i:], "took %d", &ms)
		}
		if ms == 0 || ms > 1500 {
			t.Errorf("denials take %d ms: %v", ms, r)
		}
		for _, line := range []string{
			"sbx: denied: 93.184.216.3:443; --net-allow 93.184.216.3:443\n", "sbx: denied: other.example.com; --net-allow other.example.com\n",
			"sbx: denied: www.example.com:81; --net-allow www.example.com:81\n", "sbx: denied: 10.77.0.1:80; --net-allow 10.77.0.1:80\n",
		} {
			if strings.Count(r.Stderr, line) != 1 {
				t.Errorf("%q is not there once: %v", line, r)
			}
		}
		list := w.contacts(t)
		c := find(list, "www.example.com", 80)
		if c == nil || c.Denied != "" || c.Up != int64(len("hello\n")) || c.Down != int64(len("there\n")) || c.Connections != 1 || c.Protocol != "tcp" {
			t.Errorf("the record says %+v", c)
		}
		if c := find(list, "93.184.216.3", 443); c == nil || c.Denied == "" || c.Fix != "--net-allow 93.184.216.3:443" {
			t.Errorf("the record says %+v", c)
		}
		text := w.sbx("log", "last").Stdout
		for _, part := range []string{"www.example.com:80", "93.184.216.3:443", "denied"} {
			if !strings.Contains(text, part) {
				t.Errorf("the log does not say %q:\n%s", part, text)
			}
		}
	})
	// --verbose says it at once.
	run := w.start(t, "--net=none", "--net-allow", "www.example.com", "--verbose", "--", "sh", "-c", `./caller "said 93.184.216.3:443 x"; echo now; sleep 2`)
	run.until(t, "now")
	run.wait(t, "line at once", func() bool {
		return strings.Contains(run.stderr.String(), "sbx: denied: 93.184.216.3:443; --net-allow 93.184.216.3:443\n")
	})
	if r := run.end(t); strings.Count(r.Stderr, "93.184.216.3:443;") != 1 {
		t.Errorf("not once: %v", r)
	}
	for args, want := range map[string]string{
		"www.example.com":        "reached",
		"10.77.0.1":              "not reached",
		"127.0.0.1:80":           "localhost",
		"private.example.com:80": "not reached",
		"169.254.169.254":        "not reached",
		"nothing.example.com":    "there is no such name",
		"localhost":              "the sandbox's own localhost, not the host's\nto reach a service of the host's: sbx --net-allow localhost:PORT -- COMMAND\n",
		"app.localhost:3000":     "names below localhost are the sandbox's own",
		"0x7f000001":             "not reached: it is no address in the usual spelling",
		"127.1:80":               "not reached: it is no address in the usual spelling",
		"[::ffff:127.0.0.1]:80":  "not reached: write it as the IPv4 address",
	} {
		if r := w.sbx("why", args); !strings.Contains(r.Stdout, want) {
			t.Errorf("sbx why %s: %v", args, r)
		}
	}
	if r := w.sbx("--net", "none", "why", "www.example.com"); r.Status == 0 && !strings.Contains(r.Stdout, "not reached") {
		t.Error(r)
	}
}

// TestNetPolicyFlags: what cannot be meant is an error, before anything runs.
func TestNetPolicyFlags(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	for _, flags := range [][]string{
		{"--net=some"}, {"--net="}, {"--net-allow", ""}, {"--net-allow", "*"}, {"--net-allow", "*.com"}, {"--net-allow", "https://example.com/x"}, {"--net-allow", "a b"},
		{"--net-allow", "example.com:0"}, {"--net-allow", "example.com:99999"}, {"--net-allow", "127.0.0.1:80"}, {"--net-allow", "0.0.0.0/0:70000"}, {"--net-allow", "localhost"},
		{"--net-allow", "[::1"}, {"--net-allow", "1.2.3"}, {"--net-allow", "0x7f000001"}, {"--net-allow", "fe80::1%eth0"}, {"--net-allow", "::ffff:127.0.0.1"},
		{"-p", "0"}, {"-p", "x"}, {"-p", "70000"}, {"-p", "1:2:3:4"}, {"-p", "-1"}, {"-p", "nohost:80:80"}, {"-p", "8000:"},
	} {
		r := a.sbx(t, tree, append(append([]string{}, flags...), "--", "touch", "ran")...)
		if r.Status != 2 || !strings.HasPrefix(r.Stderr, "sbx: ") || strings.Contains(r.Stderr, "panic") {
			t.Errorf("%q: %v", flags, r)
		}
	}
}

// TestNetPolicyTime: a connection that is denied does not wait for anything.
func TestNetPolicyTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.devices(t, func(t *testing.T) {
		began := time.Now()
		calls := []string{"dial tcp 10.77.0.1:80", "dial tcp 127.0.0.2:80", "dial tcp 169.254.169.254:80", "dial tcp [fe80::1]:80", "dial tcp [fd00:77::1]:80"}
		o := w.inside(t, nil, calls...)
		for _, call := range calls {
			if got := o[call]; !strings.HasPrefix(got, "E") || got == "ETIMEDOUT" {
				t.Errorf("%q ends with %q", call, got)
			}
		}
		t.Logf("%v for all: %v", time.Since(began), o)
	})
}
