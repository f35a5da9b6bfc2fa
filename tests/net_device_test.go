package tests

import (
	"os"
	"strings"
	"testing"
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
