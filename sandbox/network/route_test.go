package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRouter asks the kernel, about what every machine has.
func TestRouter(t *testing.T) {
	r, err := OpenRouter()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for s, want := range map[string]Route{
		"127.0.0.1":          {Own: true},
		"127.5.6.7":          {Own: true},
		"::ffff:127.0.0.1":   {Own: true},
		"255.255.255.255":    {Broadcast: true},
		"224.0.0.251":        {Broadcast: true},
		"64:ff9b::127.0.0.1": {Own: true},
	} {
		got, err := r.Lookup(netip.MustParseAddr(s))
		got.Unreachable = 0 // there may be no route to the address around it
		if got != want || err != nil {
			t.Errorf("%s: %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("fe80::1%lo")} {
		if got, err := r.Lookup(a); err == nil {
			t.Errorf("%v: %+v", a, got)
		}
	}
	r.Close()
	if got, err := r.Lookup(netip.MustParseAddr("1.1.1.1")); err == nil {
		t.Errorf("a router that is closed says %+v", got)
	}
}

// TestRouterTables is about routes of every kind, in a network namespace.
func TestRouterTables(t *testing.T) {
	inNamespace(t, `
		link set lo up
		link add near type veth peer name far
		link set near up
		link set far up
		address add 198.51.100.2/24 dev near
		address add 10.9.0.1/32 peer 10.9.0.2 dev near
		address add 2600:1::2/64 dev near nodad
		route add default via 198.51.100.1
		link add wg type veth peer name wgfar
		link set wg up
		link set wgfar up
		route add 0.0.0.0/1 dev wg
		route add 2000::/4 dev wg
		route add 192.0.2.0/24 dev wg proto static
		route add 10.20.0.0/16 dev near proto dhcp scope link
		route add unreachable 10.30.0.0/16
		route add prohibit 10.40.0.0/16
		route add blackhole 10.50.0.0/16
		route add local 10.60.0.0/16 dev lo
		route add 10.70.0.0/16 via inet6 2600:1::1 dev near
		route add 10.80.0.0/16 nexthop via 198.51.100.1 nexthop via 198.51.100.3
		route add unreachable 2600:30::/32`)
	r, err := OpenRouter()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// The kernel makes the routes of a new IPv6 address at the side.
	for range 500 {
		if got, err := r.Lookup(netip.MustParseAddr("2600:1::2")); err != nil || got.Own {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for s, want := range map[string]Route{
		"127.0.0.1":             {Own: true},
		"::1":                   {Own: true},
		"198.51.100.2":          {Own: true},
		"10.9.0.1":              {Own: true},
		"10.60.1.2":             {Own: true},
		"2600:1::2":             {Own: true},
		"::ffff:198.51.100.2":   {Own: true},
		"64:ff9b::198.51.100.2": {Own: true, Unreachable: unix.ENETUNREACH},
		"64:ff9b::198.51.100.9": {OnLink: true, Unreachable: unix.ENETUNREACH},
		"198.51.100.9":          {OnLink: true},
		"10.9.0.2":              {OnLink: true},
		"10.20.0.1":             {OnLink: true},
		"2600:1::9":             {OnLink: true},
		"fe80::9":               {OnLink: true},
		"198.51.100.255":        {Broadcast: true},
		"8.8.8.8":               {}, // 0.0.0.0/1 through the tunnel
		"192.0.2.1":             {},
		"200.1.1.1":             {}, // the default route
		"10.70.0.1":             {},
		"10.80.0.1":             {},
		"2600::1":               {},
		"10.30.0.1":             {Unreachable: unix.EHOSTUNREACH},
		"10.40.0.1":             {Unreachable: unix.EACCES},
		"10.50.0.1":             {Unreachable: unix.EINVAL},
		"2600:30::1":            {Unreachable: unix.EHOSTUNREACH},
		"fd00::1":               {Unreachable: unix.ENETUNREACH},
	} {
		got, err := r.Lookup(netip.MustParseAddr(s))
		if got != want || err != nil {
			t.Errorf("%s: %+v, %v; want %+v", s, got, err, want)
		}
	}
	// Without the entry of the table more is thought to be near, never less.
	for s, want := range map[string]Route{"198.51.100.2": {Own: true}, "198.51.100.9": {OnLink: true}, "8.8.8.8": {OnLink: true}, "200.1.1.1": {}, "10.30.0.1": {Unreachable: unix.EHOSTUNREACH}} {
		got, err := r.ask(netip.MustParseAddr(s), 0)
		if got != want || err != nil {
			t.Errorf("%s, resolved: %+v, %v; want %+v", s, got, err, want)
		}
	}
}

// inNamespace puts the rest of the test into a network namespace of its own, where it
// runs lines of ip(8).
func inNamespace(t *testing.T, script string) {
	t.Helper()
	ip, err := exec.LookPath("ip")
	if err == nil {
		runtime.LockOSThread() // and never unlocked: the thread ends with the test
		err = unix.Unshare(unix.CLONE_NEWNET)
	}
	if err != nil {
		if os.Getenv("SBX_MUST_WORK") == "1" && os.Getuid() == 0 {
			t.Fatal(err)
		}
		t.Skipf("needs ip(8) and a network namespace: %v", err)
	}
	for line := range strings.Lines(script) {
		if args := strings.Fields(line); len(args) > 0 {
			if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
				t.Fatalf("ip %q: %v: %s", args, err, out)
			}
		}
	}
}

// TestRouterForgets holds that an answer to an earlier question is not taken for one
// to a later.
func TestRouterForgets(t *testing.T) {
	r, err := OpenRouter()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 3 { // as if they had timed out
		req := routeRequest(netip.MustParseAddr("8.8.8.8"), 77, 0)
		if err := unix.Sendto(r.fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := r.Lookup(netip.MustParseAddr("127.0.0.1")); !got.Own || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// entry makes a message with a route: its kind, and what is in it.
func entry(seq uint32, family, length, protocol, scope, kind byte, attrs ...byte) []byte {
	e := binary.NativeEndian
	b := e.AppendUint32(nil, uint32(16+12+len(attrs)))
	b = e.AppendUint16(b, unix.RTM_NEWROUTE)
	b = e.AppendUint16(b, 0)
	b = e.AppendUint32(b, seq)
	b = e.AppendUint32(b, 0)
	b = append(b, family, length, 0, 0, 0, protocol, scope, kind, 0, 0, 0, 0)
	return append(b, attrs...)
}

func routeError(seq uint32, errno unix.Errno) []byte {
	b := entry(seq, 0, 0, 0, 0, 0)[:20]
	e := binary.NativeEndian
	e.PutUint32(b, 20)
	e.PutUint16(b[4:], unix.NLMSG_ERROR)
	e.PutUint32(b[16:], uint32(-int32(errno)))
	return b
}

func TestParseRoute(t *testing.T) {
	const four, six = unix.AF_INET, unix.AF_INET6
	const link, universe = unix.RT_SCOPE_LINK, unix.RT_SCOPE_UNIVERSE
	gateway := []byte{8, 0, unix.RTA_GATEWAY, 0, 10, 0, 0, 1}
	unicast := func(family, length, protocol, scope byte, attrs ...byte) []byte {
		return entry(1, family, length, protocol, scope, unix.RTN_UNICAST, attrs...)
	}
	tests := []struct {
		name  string
		in    []byte
		want  Route
		found bool
		fault bool
	}{
		{"kernel", unicast(four, 24, unix.RTPROT_KERNEL, link), Route{OnLink: true}, true, false},
		{"kernel, gateway", unicast(four, 24, unix.RTPROT_KERNEL, link, gateway...), Route{}, true, false},
		{"default", unicast(four, 0, unix.RTPROT_KERNEL, link), Route{}, true, false},
		{"boot", unicast(four, 1, unix.RTPROT_BOOT, link), Route{}, true, false},
		{"static", unicast(four, 24, unix.RTPROT_STATIC, link), Route{}, true, false},
		{"scope", unicast(four, 24, unix.RTPROT_KERNEL, universe), Route{}, true, false},
		{"ra", unicast(six, 64, unix.RTPROT_RA, universe), Route{OnLink: true}, true, false},
		{"six, static", unicast(six, 1, unix.RTPROT_STATIC, universe), Route{}, true, false},
		{"local", entry(1, four, 32, 0, 0, unix.RTN_LOCAL), Route{Own: true}, true, false},
		{"anycast", entry(1, six, 128, 0, 0, unix.RTN_ANYCAST), Route{Own: true}, true, false},
		{"unspec", entry(1, four, 32, 0, 0, unix.RTN_UNSPEC), Route{}, false, true},
		{"xresolve", entry(1, four, 32, 0, 0, unix.RTN_XRESOLVE), Route{}, false, true},
		{"after another", append(entry(9, four, 32, 0, 0, unix.RTN_LOCAL), unicast(four, 24, unix.RTPROT_KERNEL, link)...), Route{OnLink: true}, true, false},
		{"another's", entry(9, four, 32, 0, 0, unix.RTN_LOCAL), Route{}, false, false},
		{"nothing", nil, Route{}, false, false},
		{"short", unicast(four, 24, 0, 0)[:27], Route{}, false, true},
		{"attribute of no length", unicast(four, 24, 2, link, 0, 0, 0, 0), Route{}, false, true},
		{"attribute too long", unicast(four, 24, 2, link, 9, 0, 1, 0, 0, 0, 0, 0), Route{}, false, true},
		{"no network", routeError(1, unix.ENETUNREACH), Route{Unreachable: unix.ENETUNREACH}, true, false},
		{"permission", routeError(1, unix.EPERM), Route{}, false, true},
		{"an acknowledgement", routeError(1, 0), Route{}, false, true},
		{"short error", func() []byte { b := routeError(1, 1)[:18]; b[0] = 18; return b }(), Route{}, false, true},
	}
	for _, test := range tests {
		got, found, err := parseRoute(test.in, 1)
		if got != test.want || found != test.found || (err != nil) != test.fault {
			t.Errorf("%s: %+v, %v, %v; want %+v, %v", test.name, got, found, err, test.want, test.found)
		}
	}
}

func FuzzParseRoute(f *testing.F) {
	f.Add(entry(1, unix.AF_INET, 24, 2, 253, unix.RTN_UNICAST, 8, 0, 5, 0, 1, 2, 3, 4))
	f.Add(routeError(1, unix.ENETUNREACH))
	f.Add(append(entry(2, unix.AF_INET6, 64, 9, 0, 1), entry(1, unix.AF_INET, 0, 0, 0, 2)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		route, found, err := parseRoute(b, 1)
		if err != nil && found || (err != nil || !found) && route != (Route{}) {
			t.Errorf("%+v, %v, %v", route, found, err)
		}
	})
}

func BenchmarkRouterLookup(b *testing.B) {
	r, err := OpenRouter()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for _, s := range []string{"127.0.0.1", "1.1.1.1"} {
		b.Run(fmt.Sprint(s), func(b *testing.B) {
			a := netip.MustParseAddr(s)
			for b.Loop() {
				if _, err := r.Lookup(a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
