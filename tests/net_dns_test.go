package tests

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const resolver = "198.18.0.1:53" // the sandbox's

func zone() map[string][]string {
	z := map[string][]string{
		"A www.example.com": {"93.184.216.1", "93.184.216.2"}, "AAAA www.example.com": {"2600:1::1"},
		"CNAME alias.example.com": {"www.example.com"}, "TXT www.example.com": {"some text"}, "MX example.com": {"mx.example.com"},
		"SRV _http._tcp.www.example.com": {"www.example.com"}, "A other.example.com": {"93.184.216.3"}, "A deep.sub.example.com": {"93.184.216.4"},
		"A private.example.com": {"10.1.2.3"}, "A mixed.example.com": {"10.1.2.3", "93.184.216.1"}, "A loop.example.com": {"127.0.0.1"},
		"AAAA loop6.example.com": {"::1"}, "A own.example.com": {"10.77.0.2"}, "A lan.example.com": {"10.77.0.9"}, "A meta.example.com": {"169.254.169.254"},
		"A zero.example.com": {"0.0.0.0"}, "AAAA mapped.example.com": {"::ffff:127.0.0.1"}, "AAAA nat64.example.com": {"64:ff9b::7f00:1"},
		"A fake.example.com": {"198.18.1.1"}, "A empty.example.com": nil, "A secret.other.net": {"93.184.216.5"},
		"PTR 1.216.184.93.in-addr.arpa": {"www.example.com"}, "TXT big.example.com": {strings.Repeat("x", 3000)},
	}
	for n := 1; n <= 40; n++ {
		z["A many.example.com"] = append(z["A many.example.com"], fmt.Sprintf("93.184.216.%d", n))
	}
	return z
}

// TestNetDNS: with all of the internet, what the host's name server says, without
// addresses that are not reached.
func TestNetDNS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nameserver(zone())
	for call, want := range map[string]string{
		"lookup www.example.com":                                    "done 2600:1::1 93.184.216.1 93.184.216.2",
		"lookup alias.example.com":                                  "done 2600:1::1 93.184.216.1 93.184.216.2",
		"lookup nothing.example.com":                                "NXDOMAIN",
		"lookup localhost":                                          "done 127.0.0.1 ::1",
		"lookup mixed.example.com":                                  "done 93.184.216.1",
		"query udp " + resolver + " A WWW.example.COM":              "done Success 93.184.216.1 93.184.216.2",
		"query tcp " + resolver + " A www.example.com":              "done Success 93.184.216.1 93.184.216.2",
		"query udp " + resolver + " AAAA www.example.com":           "done Success 2600:1::1",
		"query udp " + resolver + " CNAME alias.example.com":        "done Success www.example.com.",
		"query udp " + resolver + " A alias.example.com":            "done Success www.example.com. 93.184.216.1 93.184.216.2",
		"query udp " + resolver + " TXT www.example.com":            `done Success "some text"`,
		"query udp " + resolver + " MX example.com":                 "done Success 10:mx.example.com.",
		"query udp " + resolver + " SRV _http._tcp.www.example.com": "done Success 1:2:443:www.example.com.",
		"query udp " + resolver + " TXT big.example.com":            "done truncated Success",
		"query tcp " + resolver + " TXT big.example.com":            `done Success "xxxxxxxxxxxxxxxxxxxx"`,
		"query udp " + resolver + " A many.example.com":             "done truncated Success",
		"query udp " + resolver + " A nothing.example.com":          "done NameError",
		"query udp " + resolver + " A empty.example.com":            "done Success",
		"query udp " + resolver + " PTR 1.216.184.93.in-addr.arpa":  "done Success www.example.com.",
		"query udp " + resolver + " PTR 3.2.1.10.in-addr.arpa":      "done NameError",
		"query udp " + resolver + " A private.example.com":          "done Success",
		"query udp " + resolver + " A loop.example.com":             "done Success",
		"query udp " + resolver + " AAAA loop6.example.com":         "done Success",
		"query udp " + resolver + " A own.example.com":              "done Success",
		"query udp " + resolver + " A lan.example.com":              "done Success",
		"query udp " + resolver + " A meta.example.com":             "done Success",
		"query udp " + resolver + " A zero.example.com":             "done Success",
		"query udp " + resolver + " AAAA mapped.example.com":        "done Success",
		"query udp " + resolver + " AAAA nat64.example.com":         "done Success",
		"query udp " + resolver + " A fake.example.com":             "done Success",
		"query udp " + resolver + " HTTPS www.example.com":          "done Success",
		"query udp " + resolver + " ANY www.example.com":            "done Refused",
		"query udp 198.18.0.1:54 A www.example.com":                 "ECONNREFUSED",
		"query tcp 198.18.0.1:54 A www.example.com":                 "ECONNREFUSED",
		"query tcp 198.18.0.1:1 A www.example.com":                  "ECONNREFUSED",
	} {
		t.Run(call, func(t *testing.T) {
			w.inside(t, nil, call).is(t, call, want, strings.Replace(want, "127.0.0.1 ::1", "::1 127.0.0.1", 1))
		})
	}
	// glibc, and a tool of its own.
	r := w.sbx("--", "sh", "-c", "getent ahostsv4 www.example.com; getent ahostsv6 www.example.com; getent hosts localhost")
	if !strings.Contains(r.Stdout, "93.184.216.1 ") || !strings.Contains(r.Stdout, "2600:1::1") || r.Status != 0 {
		t.Error(r)
	}
	needTool(t, "dig")
	if r := w.sbx("--", "dig", "+short", "TXT", "big.example.com"); !strings.Contains(r.Stdout, "xxxx") {
		t.Errorf("dig does not fall back to TCP: %v", r)
	}
	if r := w.sbx("--", "dig", "+short", "many.example.com"); strings.Count(r.Stdout, "93.184.216.") != 40 {
		t.Error(r)
	}
}

// TestNetDNSAllowed: with an allow-list no query for another name leaves the machine,
// by no way of asking.
func TestNetDNSAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.nameserver(zone())
	w.listen(w.wan, "93.184.216.1:53", named("dns"))
	w.packets(w.wan, "93.184.216.1:53", echoPacket)
	w.listen(w.wan, "93.184.216.1:80", named("www"))
	w.listen(w.wan, "93.184.216.4:80", named("deep"))
	flags := []string{"--net=none", "--net-allow", "www.example.com", "--net-allow", "*.sub.example.com:80"}
	calls := []string{
		"said www.example.com:80 x", "said deep.sub.example.com:80 x", "lookup www.example.com",
		"query udp " + resolver + " TXT www.example.com", "query udp " + resolver + " AAAA www.example.com",
		"lookup other.example.com", "lookup secret.other.net", "lookup xn--data.www.example.com", "lookup alias.example.com", "lookup sub.example.com",
		"query udp " + resolver + " TXT aGVsbG8gd29ybGQ.other.net", "query tcp " + resolver + " TXT aGVsbG8.other.net",
		"query tcp " + resolver + " NULL " + strings.Repeat("a", 63) + ".other.net", "query udp " + resolver + " A _x._y.other.net",
		"query udp " + resolver + " PTR 1.216.184.93.in-addr.arpa", "query udp " + resolver + " NS com", "query udp " + resolver + " ANY www.example.com",
		"query udp 93.184.216.1:53 TXT out.other.net", "query tcp 93.184.216.1:53 TXT out.other.net", "query udp " + resolverAddr + ":53 TXT out.other.net",
		"query tcp " + resolverAddr + ":53 TXT out.other.net",
	}
	w.devices(t, func(t *testing.T) {
		o := w.inside(t, flags, calls...)
		o.is(t, calls[0], `done "www\n"`)
		o.is(t, calls[1], `done "deep\n"`)
		if !strings.HasPrefix(o[calls[2]], "done 198.18.1.") {
			t.Errorf("no address of its own: %s", o[calls[2]])
		}
		o.is(t, calls[3], `done Success "some text"`)
		o.is(t, calls[4], "done Success")
		for _, call := range calls[5:] {
			if got := o[call]; strings.Contains(got, "Success") || strings.Contains(got, "93.184") || strings.HasPrefix(got, "done 198") {
				t.Errorf("%q: %s", call, got)
			}
		}
		s.onlyAsked(t, "www.example.com", "deep.sub.example.com")
	})
}

// TestNetDNSExfiltration: below an exact name there is no room for data, as only services
// of a list are asked for; the spelling of an allowed one carries none.
func TestNetDNSExfiltration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.nameserver(zone())
	flags := []string{"--net=none", "--net-allow", "www.example.com"}
	calls := []string{
		"query udp " + resolver + " A WwW.eXaMpLe.CoM", "query udp " + resolver + " TXT data.www.example.com", "query udp " + resolver + " SRV _http._tcp.www.example.com",
		"query udp " + resolver + " TXT _dmarc.secretdata._x.www.example.com", "query udp " + resolver + " SRV _data1._tcp.www.example.com",
		"query udp " + resolver + " TXT _data2._tcp.www.example.com", "query udp " + resolver + " A _data3.www.example.com", "query udp " + resolver + " SRV _http._data4.www.example.com",
	}
	w.inside(t, flags, calls...)
	asked := s.asked()
	for _, q := range asked {
		if strings.Contains(q, "data") {
			t.Errorf("data has left: %q", q)
		}
	}
	if !slices.ContainsFunc(asked, func(q string) bool { return strings.Contains(q, "_http._tcp.www.example.com") }) {
		t.Errorf("a service is not asked for: %q", asked)
	}
}

// TestNetDNSRebinding: that a name had a public address when it was looked up helps
// nothing.
func TestNetDNSRebinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.nameserver(zone())
	for _, addr := range []string{"127.0.0.1:7777", "10.77.0.2:7778"} {
		w.listen(w.host, addr, named("SECRET"))
	}
	w.listen(w.wan, "93.184.216.1:7777", named("public"))
	public, loop, own := []string{"93.184.216.1"}, []string{"127.0.0.1"}, []string{"10.77.0.2"}
	turns := map[string][][]string{
		"first": {public, loop}, "second": {loop, public}, "own": {public, own}, "both": {append(public, loop...), append(loop, public...)},
		"alternating": {loop, public, loop, public, loop},
	}
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	var calls, allowed []string
	for round := range rounds {
		for name := range turns {
			calls = append(calls, fmt.Sprintf("said %s.example.com:7777 %d", name, round), fmt.Sprintf("said %s.example.com:7778 %d", name, round))
		}
		// sbx itself remembers a name for five seconds.
		calls = append(calls, fmt.Sprintf("sleep %d", 2600+round))
	}
	for name := range turns {
		allowed = append(allowed, "--net-allow", name+".example.com")
	}
	for _, flags := range [][]string{nil, append(allowed, "--net=none"), allowed} {
		for name, values := range turns {
			s.take("A "+name+".example.com", values...)
		}
		reached := false
		for call, got := range w.inside(t, flags, calls...) {
			if strings.Contains(got, "SECRET") {
				t.Errorf("%q has reached the host: %s", call, got)
			}
			reached = reached || strings.Contains(got, "public")
		}
		if !reached {
			t.Error("nothing was reached, so that the test shows nothing")
		}
	}
}
