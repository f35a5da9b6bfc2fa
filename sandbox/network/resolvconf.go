package network

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-build/sbx/sandbox/policy"
)

const (
	// maxServers is how many name servers are used, as in the C library (MAXNS).
	maxServers = 3
	// maxSearch is how many domains are searched, as in old C libraries (MAXDNSRCH).
	maxSearch = 6
	// maxConfig bounds a configuration file: some have a hundred thousand lines of
	// /etc/hosts against advertisements.
	maxConfig = 16 << 20
)

// servers are the host's name servers and how they are asked: resolv.conf(5).
type servers struct {
	addrs []netip.Addr
	// search are the domains in which a name without a dot is looked for.
	search   []string
	timeout  time.Duration
	attempts int
	// tcp asks by TCP alone (use-vc).
	tcp bool
}

// parseServers reads resolv.conf. What it does not understand it leaves out, as
// the C library does; without a name server it is the one of the host itself.
func parseServers(b []byte) servers {
	s := servers{timeout: 5 * time.Second, attempts: 2}
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		switch {
		case len(f) < 2:
		case f[0] == "nameserver" && len(s.addrs) < maxServers:
			if a, err := netip.ParseAddr(f[1]); err == nil {
				s.addrs = append(s.addrs, a)
			}
		case f[0] == "search" || f[0] == "domain": // the last one counts
			s.search = nil
			for _, domain := range f[1:min(len(f), 1+maxSearch)] {
				if domain = canonical(domain); policy.ValidName(domain) {
					s.search = append(s.search, domain)
				}
			}
		case f[0] == "options":
			for _, o := range f[1:] {
				s.option(o)
			}
		}
	}
	if len(s.addrs) == 0 {
		s.addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return s
}

func (s *servers) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	switch {
	case name == "use-vc":
		s.tcp = true
	case err != nil || n < 1:
	case name == "timeout":
		s.timeout = time.Duration(min(n, 30)) * time.Second
	case name == "attempts":
		s.attempts = min(n, 5)
	}
}

// parseHosts reads /etc/hosts, hosts(5). Names that are given to localhost there, as
// some are so that nobody reaches them, keep that address: the policy denies it.
func parseHosts(b []byte) map[string][]netip.Addr {
	hosts := map[string][]netip.Addr{}
	for line := range bytes.Lines(b) {
		line, _, _ := bytes.Cut(line, []byte("#"))
		f := strings.Fields(string(line))
		if len(f) < 2 {
			continue
		}
		a, err := netip.ParseAddr(f[0])
		if err != nil || Classify(a) == Invalid {
			continue
		}
		for _, name := range f[1:] {
			name = canonical(name)
			hosts[name] = append(hosts[name], a.Unmap())
		}
	}
	return hosts
}

// canonical is a name as rules have it: lower case, without a dot at its end.
func canonical(name string) string {
	return lower(strings.TrimSuffix(name, "."))
}

// file is a configuration file that is read again when it has changed.
type file struct {
	path    string
	changed time.Time
	size    int64
	read    bool
}

// fresh gives the content if it is not the one that was read last. A file that is
// not there is empty.
func (f *file) fresh() (content []byte, changed bool) {
	fi, err := os.Stat(f.path)
	if err != nil {
		changed = !f.read || !f.changed.IsZero()
		f.read, f.changed, f.size = true, time.Time{}, 0
		return nil, changed
	}
	if f.read && fi.ModTime().Equal(f.changed) && fi.Size() == f.size {
		return nil, false
	}
	r, err := os.Open(f.path)
	if err != nil {
		return nil, !f.read
	}
	defer r.Close()
	content, err = io.ReadAll(io.LimitReader(r, maxConfig))
	if err != nil {
		return nil, !f.read
	}
	f.read, f.changed, f.size = true, fi.ModTime(), fi.Size()
	return content, true
}
