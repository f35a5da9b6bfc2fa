package tests

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// BenchmarkNet compares what a program gets of the network in a sandbox with the host's
// own loopback, and with two other user-mode networks where they are installed. All take
// turns, since what else the machine does would favour one of them. The metrics are of
// the median: MB/s, connections and requests a second; and ratios to the loopback.
//
//	go test ./tests -run '^$' -bench Net -benchtime 5x
func BenchmarkNet(b *testing.B) {
	w := newWorld(b)
	const own = "10.77.0.2"
	allow := []string{"--net=none", "--net-allow", "10.77.0.2", "--", "./caller"}
	modes := []struct {
		name, device, address string
		command               []string
	}{
		{"loopback", "tun", "127.0.0.1", []string{"./caller"}},
		{"tun", "tun", own, append([]string{sbxPath}, allow...)},
		{"veth", "closed", own, append([]string{sbxPath}, allow...)},
		{"slirp4netns", "tun", "10.0.2.2", []string{"sh", "-c", slirp, "sh", "./caller"}},
		{"pasta", "tun", "10.77.0.1", []string{"pasta", "-q", "--config-net", "-t", "none", "-u", "none", "--", "./caller"}},
	}
	for _, m := range []struct {
		name, unit string
		call       string
		amount     float64
	}{
		{"up", "MB/s", "up %s 300000000", 300},
		{"down", "MB/s", "down %s 300000000", 300},
		{"connect", "1/s", "connects %s 4000", 4000},
		{"request", "1/s", "requests %s 20000", 20000},
	} {
		b.Run(m.name, func(b *testing.B) {
			rates := map[string][]float64{}
			for b.Loop() {
				for _, mode := range modes {
					if _, err := exec.LookPath(mode.name); err != nil && mode.address != own && mode.name != "loopback" {
						continue
					}
					w.device = mode.device
					// Another port each time: those of the client's side are used up else.
					server := w.listen(w.host, "0.0.0.0:0", w.serveProtocol)
					call := fmt.Sprintf(m.call, mode.address+server[strings.LastIndexByte(server, ':'):])
					r := finish(b, w.command(nil, append(append([]string{"timeout", "-k", "1", "20"}, mode.command...), call)...))
					var seconds float64
					at := strings.Index(r.Stdout, call+": done ")
					if at < 0 {
						b.Logf("%s: %v", mode.name, r) // pasta of Debian 12 stalls while it sends
						continue
					}
					fmt.Sscanf(r.Stdout[at+len(call):], ": done %f", &seconds)
					rates[mode.name] = append(rates[mode.name], m.amount/seconds)
				}
			}
			median := func(name string) float64 {
				list := rates[name]
				slices.Sort(list)
				if len(list) == 0 {
					return 0
				}
				return list[len(list)/2]
			}
			b.ReportMetric(0, "ns/op")
			for _, mode := range modes {
				if v := median(mode.name); v > 0 {
					b.ReportMetric(v, mode.name+"-"+m.unit)
					b.ReportMetric(v/median("loopback"), mode.name+"-ratio")
				}
			}
		})
	}
}

// slirp runs a program in namespaces that slirp4netns(1) connects with the host.
const slirp = `exec unshare --user --map-root-user --net sh -c '
	echo $$ > "$PWD/.slirp"
	until ip route 2>/dev/null | grep -q default; do sleep 0.02; done
	"$@"; echo over > "$PWD/.slirp"' sh "$@" &
until pid=$(cat .slirp 2>/dev/null) && [ -n "$pid" ]; do sleep 0.02; done
sleep 0.1
slirp4netns --configure --mtu=65520 "$pid" tap0 >/dev/null 2>&1 &
s=$!
wait %1
kill $s; rm -f .slirp`
