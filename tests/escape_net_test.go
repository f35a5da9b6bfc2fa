package tests

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// guarded is a world whose host has services at all of its addresses, which count who
// comes.
type guarded struct {
	*world
	came    atomic.Int32
	own     []string // spellings of the host by which the host itself gets there
	foreign []string // and by which it need not
}

const guardedPort = "7654"

func newGuarded(t *testing.T) *guarded {
	g := &guarded{world: newWorld(t)}
	z := zone()
	g.nameserver(z)
	secret := func(c net.Conn) {
		g.came.Add(1)
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "SECRET\n")
	}
	for _, at := range []string{"0.0.0.0:" + guardedPort, "[::]:" + guardedPort, "0.0.0.0:1", "[::]:1"} {
		network := "tcp6"
		if strings.HasPrefix(at, "0") {
			network = "tcp4"
			g.packets(g.host, at, func(c net.PacketConn, b []byte, from net.Addr) { g.came.Add(1); c.WriteTo([]byte("SECRET"), from) })
		}
		var l net.Listener
		var err error
		g.in(g.host, func() { l, err = net.Listen(network, at) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				secret(c)
				c.Close()
			}
		}()
	}
	g.listen(g.wan, "93.184.216.1:80", named("public"))
	linkLocal := ""
	g.in(g.host, func() {
		if i, err := net.InterfaceByName("h0"); err == nil {
			addrs, _ := i.Addrs()
			for _, a := range addrs {
				if ip, _, _ := net.ParseCIDR(a.String()); ip.IsLinkLocalUnicast() {
					linkLocal = ip.String()
				}
			}
		}
	})
	g.own = []string{"127.0.0.1", "127.1.2.3", "127.255.255.254", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:10.77.0.2]", "10.77.0.2", "[fd00:77::2]"}
	g.foreign = []string{"0.1.2.3", "[64:ff9b::7f00:1]", "[64:ff9b::a4d:2]", "[64:ff9b:1::7f00:1]", "[::127.0.0.1]", "[::10.77.0.2]", "[2002:7f00:1::1]", "[2002:a4d:2::1]",
		"10.77.0.255", "10.77.0.0", "255.255.255.255", "224.0.0.1", "239.255.255.250", "[ff02::1%sbx0]", "[fe80::1%sbx0]", "[fe80::1%lo]", "169.254.1.1", "169.254.169.254",
		"198.18.0.0", "198.18.0.1", "198.18.0.2", "198.18.0.3", "198.18.0.255", "198.18.1.1", "198.19.255.254", "240.0.0.1", "247.255.255.255", "254.1.1.1",
		"[fd73:6278::1]", "[fd73:6278::2]", "[fd73:6278::3]", "[fd73:6278:0:1::1]", "10.77.0.1", "[fd00:77::1]", "[::ffff:0.0.0.0]", "[::ffff:198.18.0.3]", "[fec0::1]", "[100::1]"}
	if linkLocal != "" {
		g.foreign = append(g.foreign, "["+linkLocal+"%sbx0]")
	}
	return g
}

// closed demands that attacks get no answer of the host's, and that nobody came there.
func (g *guarded) closed(t *testing.T, flags []string, attacks ...string) outcomes {
	t.Helper()
	g.came.Store(0)
	args := append(append([]string{}, flags...), "--", "./victim", "together")
	o := parse(t, g.sbx(append(args, attacks...)...), attacks)
	o.refused(t, attacks...)
	if n := g.came.Load(); n != 0 {
		t.Errorf("%d times somebody came to the host's services, with %q: %v", n, flags, o)
	}
	return o
}

// flagSets are ways to run in which the host stays closed.
var flagSets = [][]string{nil, {"--root"}, {"--allow-userns"}, {"--net=none", "--net-allow", "www.example.com"},
	{"--net=none", "--net-allow", "0.0.0.0/0", "--net-allow", "::/0"}, {"--net-allow", "10.77.0.0/16", "--net-allow", "fd00:77::/64", "--net-allow", "*.example.com"}}

// TestEscapeNetAddresses: the host by every address and spelling.
func TestEscapeNetAddresses(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	var own, all []string
	for _, a := range g.own {
		own = append(own, "talk tcp - "+a+":"+guardedPort)
	}
	for _, a := range append(append([]string{}, g.own...), g.foreign...) {
		for _, port := range []string{guardedPort, "1"} {
			all = append(all, "talk tcp - "+a+":"+port, "talk udp - "+a+":"+port)
		}
	}
	g.control(t, "victim", own...).did(t, own...)
	g.control(t, "victim", "talk udp - 127.0.0.1:"+guardedPort, "talk udp - 10.77.0.2:"+guardedPort).did(t, "talk udp - 127.0.0.1:"+guardedPort)
	g.devices(t, func(t *testing.T) {
		for i, flags := range flagSets {
			if i%2 == 1 && testing.Short() {
				continue
			}
			attacks := all
			if strings.Contains(fmt.Sprint(flags), "10.77.0.0/16") || strings.Contains(fmt.Sprint(flags), "0.0.0.0/0") {
				attacks = nil
				for _, a := range all { // the router and others are allowed then
					if !strings.Contains(a, "10.77.0.1:") && !strings.Contains(a, "fd00:77::1]") && !strings.Contains(a, ".169.254") {
						attacks = append(attacks, a)
					}
				}
			}
			g.closed(t, flags, attacks...)
		}
	})
}

// TestEscapeNetNames: the host by names that resolve to it, and by numbers that
// getaddrinfo(3) takes for addresses.
func TestEscapeNetNames(t *testing.T) {
	t.Parallel()
	needTool(t, "curl")
	g := newGuarded(t)
	names := []string{"loop.example.com", "loop6.example.com", "own.example.com", "zero.example.com", "mapped.example.com", "nat64.example.com", "fake.example.com",
		"localhost", "localhost.", "x.localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "0x0a4d0002", "10.77.2", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:10.77.0.2]",
		"ip6-localhost", "host.docker.internal", "gateway", "_gateway", "$(hostname)"}
	g.devices(t, func(t *testing.T) {
		for _, flags := range append(flagSets, []string{"--net=none", "--net-allow", "loop.example.com", "--net-allow", "own.example.com", "--net-allow", "loop6.example.com", "--net-allow", "zero.example.com"}) {
			g.came.Store(0)
			script := ""
			for _, n := range names {
				script += fmt.Sprintf("curl -s -m 2 --http0.9 \"http://%s:%s/\";", n, guardedPort)
			}
			r := g.sbx(append(append([]string{}, flags...), "--", "sh", "-c", script+"echo end")...)
			if strings.Contains(r.Stdout, "SECRET") || g.came.Load() != 0 || !strings.Contains(r.Stdout, "end") {
				t.Errorf("%q: %d came: %v", flags, g.came.Load(), r)
			}
		}
	})
}

// TestEscapeNetSources: with a source of its own choice a build reaches neither the host
// nor the relay's listener.
func TestEscapeNetSources(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	var attacks []string
	for _, from := range []string{"240.1.2.3:4000", "198.18.0.3:4000", "198.18.0.3:1", "198.18.0.1:53", "127.0.0.1:4000", "10.77.0.2:4000", "93.184.216.1:80", "198.18.0.9:4000"} {
		for _, to := range []string{"198.18.0.3:1", "10.77.0.2:" + guardedPort, "127.0.0.1:" + guardedPort, "240.1.2.3:4001"} {
			for _, options := range []string{"freebind", "freebind device=sbx0", "freebind device=lo", "freebind reuse"} {
				attacks = append(attacks, "talk tcp "+from+" "+to+" "+options)
			}
		}
		host, _, _ := strings.Cut(from, ":")
		attacks = append(attacks, "talk udp "+from+" 10.77.0.2:"+guardedPort+" freebind", "pktinfo "+host+" 10.77.0.2:"+guardedPort, "pktinfo "+host+" 198.18.0.3:1")
	}
	for _, from := range []string{"[fd73:6278:0:1::5]:4000", "[fd73:6278::3]:4000", "[fd73:6278::3]:1", "[::1]:4000", "[fd00:77::2]:4000", "[2600:1::1]:80"} {
		for _, to := range []string{"[fd73:6278::3]:1", "[fd00:77::2]:" + guardedPort, "[::1]:" + guardedPort} {
			for _, options := range []string{"freebind", "freebind device=sbx0"} {
				attacks = append(attacks, "talk tcp "+from+" "+to+" "+options)
			}
		}
		attacks = append(attacks, "pktinfo "+from[1:strings.Index(from, "]")]+" [fd00:77::2]:"+guardedPort)
	}
	for _, option := range []string{"transparent", "mark", "source=10.77.0.2", "source=127.0.0.1", "device=sbx0", "device=lo", "fastopen"} {
		attacks = append(attacks, "talk tcp - 198.18.0.3:1 "+option, "talk tcp - 10.77.0.2:"+guardedPort+" "+option)
	}
	for _, option := range []string{"rthdr=fd00:77::2", "dstopts", "transparent6"} {
		attacks = append(attacks, "talk udp - [2600:1::1]:"+guardedPort+" "+option, "talk tcp - [fd00:77::2]:"+guardedPort+" "+option)
	}
	attacks = append(attacks, "guess tcp 300", "guess tcp6 300")
	g.devices(t, func(t *testing.T) {
		for _, flags := range [][]string{nil, {"--root"}, {"--net=none", "--net-allow", "93.184.216.0/24"}} {
			for attack, got := range g.closed(t, flags, attacks...) {
				if (strings.HasSuffix(attack, " mark") || strings.Contains(attack, "transparent")) && !strings.HasPrefix(got, "EPERM") {
					t.Errorf("%q ends with %q", attack, got)
				}
			}
		}
		// After all that it still works, and a source of one's own gets nowhere else.
		o := g.victim(t, nil, "talk tcp - 93.184.216.1:80", "talk tcp 198.18.0.3:4000 93.184.216.1:80", "talk tcp 198.18.0.9:4000 93.184.216.1:80 freebind")
		o.is(t, "talk tcp - 93.184.216.1:80", `done "public\n"`)
		o.refused(t, "talk tcp 198.18.0.3:4000 93.184.216.1:80", "talk tcp 198.18.0.9:4000 93.184.216.1:80 freebind")
	})
}

// TestEscapeNetChange: the sandbox's network is not to be changed from inside, and what
// speaks past it is not there.
func TestEscapeNetChange(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	var requests []string
	for _, what := range []string{"newaddr", "deladdr", "newroute", "dellink", "setlink", "newlink", "newrule", "newneigh", "newqdisc"} {
		requests = append(requests, "netlink "+what)
	}
	sockets := []string{"socket 2 3 1", "socket 2 3 255", "socket 10 3 58", "socket 17 3 768", "socket 17 2 768", "socket 40 1 0", "socket 40 2 0", "socket 44 3 0", "socket 38 5 0"}
	others := []string{"socket 2 1 132", "socket 2 5 132", "socket 2 6 33", "socket 2 2 136", "socket 31 3 1", "socket 29 3 1", "socket 30 1 0", "socket 21 5 0", "socket 43 1 0"}
	writes := []string{"write /proc/sys/net/ipv4/ip_forward", "write /proc/sys/net/ipv4/conf/all/route_localnet", "write /proc/sys/net/ipv4/ip_nonlocal_bind",
		"write /proc/sys/net/ipv4/conf/sbx0/rp_filter", "write /proc/sys/net/ipv4/ping_group_range", "write /proc/sys/net/ipv4/ip_unprivileged_port_start"}
	g.devices(t, func(t *testing.T) {
		for _, flags := range [][]string{nil, {"--root"}, {"--allow-userns"}} {
			o := g.victim(t, flags, requests...)
			for _, r := range requests {
				o.is(t, r, "EPERM", "EACCES")
			}
			g.victim(t, flags, sockets...).refused(t, sockets...)
			g.victim(t, flags, writes...).refused(t, writes...)
			t.Logf("%q: %v", flags, g.victim(t, flags, others...))
		}
		// In a user namespace of its own a build has every capability, but not here.
		script := `unshare -Ur sh -c 'ip link del sbx0; ip addr add 10.9.9.9/8 dev sbx0; ip route add 10.0.0.0/8 dev sbx0; ./victim "socket 2 3 1" "talk tcp - 10.77.0.2:7654 mark" "talk tcp - 10.77.0.2:7654 transparent" "talk tcp - 10.77.0.2:7654"'
			unshare -Urn ./victim "talk tcp - 10.77.0.2:7654" "talk tcp - 127.0.0.1:7654"
			ip -br addr; ./victim "talk tcp - 93.184.216.1:80"`
		g.came.Store(0)
		r := g.sbx("--allow-userns", "--", "sh", "-c", script)
		if strings.Contains(r.Stdout, "SECRET") || strings.Contains(r.Stdout, "socket 2 3 1: done") || strings.Contains(r.Stdout, "10.9.9.9") || g.came.Load() != 0 || !strings.Contains(r.Stdout, "public") {
			t.Errorf("%d came: %v", g.came.Load(), r)
		}
	})
}

// TestEscapeNetOthers: another run's network, with what it listens at and has published.
func TestEscapeNetOthers(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	other := g.start(t, "--layer", "other", "-p", "4001:4000", "-p", "10.77.0.2:4002:4000", "--", "./caller", "serve tcp :4000")
	other.until(t, "ready")
	g.eventually(t, "127.0.0.1:4001", visited, 3*time.Second)
	g.eventually(t, "10.77.0.2:4002", visited, 3*time.Second)
	var attacks []string
	for _, at := range []string{"127.0.0.1:4000", "127.0.0.1:4001", "198.18.0.2:4000", "10.77.0.2:4002", "10.77.0.2:4001", "[::1]:4000", "[fd73:6278::2]:4000", "198.18.0.3:1"} {
		attacks = append(attacks, "talk tcp - "+at)
	}
	g.devices(t, func(t *testing.T) {
		for _, flags := range [][]string{nil, {"-p", "auto"}, {"--net=none", "--net-allow", "0.0.0.0/0"}} {
			g.victim(t, flags, attacks...).refused(t, attacks...)
		}
	})
}

// TestEscapeNetQueries: what is no DNS, or almost, stops nobody's names.
func TestEscapeNetQueries(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	count := 3000
	if testing.Short() {
		count = 600
	}
	g.devices(t, func(t *testing.T) {
		for _, flags := range [][]string{nil, {"--net=none", "--net-allow", "www.example.com"}} {
			script := fmt.Sprintf(`./victim "queries 198.18.0.1:53 %d" "queries 198.18.0.1:54 50"; ./caller "lookup www.example.com" "said www.example.com:80 x"`, count)
			r := g.sbx(append(append([]string{}, flags...), "--", "sh", "-c", script)...)
			if !strings.Contains(r.Stdout, "lookup www.example.com: done") || !strings.Contains(r.Stdout, `done "public\n"`) || strings.Contains(r.Stderr, "goroutine") {
				t.Error(r)
			}
		}
	})
}
