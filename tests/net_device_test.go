package tests

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNetDevice: with a device node, without one, and without IPv6, there is a network.
func TestNetDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nameserver(zone())
	w.listen(w.wan, "93.184.216.1:80", named("there"))
	for _, six := range []string{"0", "1"} {
		w.in(w.host, func() {
			os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte(six), 0)
			os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte(six), 0)
		})
		for _, device := range []string{"tun", "closed", "missing"} {
			t.Run(device+" disable_ipv6="+six, func(t *testing.T) {
				w.device = device
				r := w.sbx("--", "./caller", "said www.example.com:80 x", "local")
				if !strings.Contains(r.Stdout, `x: done "there\n"`) || strings.Contains(r.Stderr, "warning") {
					t.Error(r)
				}
				kind := map[bool]string{true: "tun", false: "veth"}[device == "tun"]
				if r := w.sbx("plan", "--", "true"); !strings.Contains(r.Stdout, "sbx0 "+kind) {
					t.Errorf("the plan has no %s: %v", kind, r)
				}
				r = w.sbx("--", "sh", "-c", "cat /proc/net/dev /proc/net/if_inet6")
				for line := range strings.Lines(r.Stdout) {
					if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && !strings.Contains("lo sbx0 sbx1", name) {
						t.Errorf("there is an interface %s", name)
					}
				}
				if six == "1" && strings.Contains(r.Stdout, "fd736278") {
					t.Errorf("there is IPv6: %v", r)
				}
			})
		}
	}
}

// TestNetDeviceOffline: a host without a network of its own is no reason to fail.
func TestNetDeviceOffline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ip(w.host, "link set h0 down")
	w.devices(t, func(t *testing.T) {
		for call, want := range map[string]string{"dial tcp 93.184.216.1:80": "ENETUNREACH", "local": "done", "datagram 93.184.216.1:7 10": "ENETUNREACH"} {
			w.inside(t, nil, call).is(t, call, want)
		}
		call := "lookup www.example.com"
		if got := w.inside(t, nil, call)[call]; strings.HasPrefix(got, "done") {
			t.Error(got)
		}
	})
}

// TestNetDeviceRoot: root can open a node that is closed to others. The sandbox, which
// then has ids that nobody has, cannot.
func TestNetDeviceRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.a = rootAccount(t)
	w.newTree()
	w.nameserver(zone())
	w.listen(w.wan, "93.184.216.1:80", named("there"))
	for device, kind := range map[string]string{"tun": "tun", "closed": "veth", "missing": "veth"} {
		t.Run(device, func(t *testing.T) {
			w.device = device
			for _, flags := range [][]string{nil, {"--root"}} {
				r := w.sbx(append(flags, "--", "./caller", "said www.example.com:80 x", "datagram 93.184.216.1:7 10")...)
				if !strings.Contains(r.Stdout, `x: done "there\n"`) {
					t.Errorf("%q: %v", flags, r)
				}
				if r := w.sbx("plan", "--", "true"); !strings.Contains(r.Stdout, "sbx0 "+kind) {
					t.Errorf("%q: the plan has no %s: %v", flags, kind, r)
				}
			}
		})
	}
}

// TestNetDeviceNeither: without a device node and without packet sockets there is one line
// that says so, with commands that work, and what needs no interface runs.
func TestNetDeviceNeither(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	without := func(args ...string) result {
		all := append([]string{callerPath, "without", fmt.Sprint(unix.AF_PACKET), sbxPath}, args...)
		return finish(t, w.command(nil, all...))
	}
	for _, device := range []string{"closed", "missing"} {
		w.device = device
		for _, flags := range [][]string{nil, {"--net=none", "--net-allow", "www.example.com"}} {
			r := without(append(flags, "--", "touch", "ran")...)
			lines := strings.Split(strings.TrimSpace(r.Stderr), "\n")
			if r.Status != 125 || strings.Count(r.Stderr, "sbx: cannot ") != 1 || !strings.Contains(lines[0], "cannot make the sandbox's network interface") || !strings.Contains(lines[0], "/dev/net/tun") {
				t.Errorf("%s, %q: %v", device, flags, r)
			}
			last := lines[len(lines)-1]
			if !strings.HasPrefix(last, "sbx: hint: sbx --net none -- COMMAND") {
				t.Errorf("%s, %q: the last line is %q", device, flags, last)
			}
		}
		if r := without("--net", "none", "--", "test", "!", "-e", "ran"); r.Status != 0 {
			t.Errorf("%s: the command of a run without its network has run: %v", device, r)
		}
		for _, flags := range [][]string{{"--net", "none"}, {"--net=host"}, {"--net=none", "-p", "0:3000"}} {
			if r := without(append(flags, "--", "echo", "works")...); r.Status != 0 || r.Stdout != "works\n" {
				t.Errorf("%s, %q: %v", device, flags, r)
			}
		}
		if r := without("doctor"); !strings.Contains(r.Stdout, "network interface") || strings.Contains(r.Stdout, "ok   network ") {
			t.Errorf("%s: the doctor does not see it: %v", device, r)
		}
	}
	w.device = "tun"
	if r := without("--", "echo", "works"); r.Status != 0 || r.Stdout != "works\n" {
		t.Errorf("with a device node: %v", r)
	}
}
