package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Publish makes a port of the sandbox one of the host.
type Publish struct {
	// Flag is what was typed.
	Flag string
	// Addr is the host's address that is listened on.
	Addr netip.Addr
	// Host is the port of it; 0 is any that is free.
	Host uint16
	// Sandbox is the port inside, to which a server may listen on any address.
	Sandbox uint16
	// Auto publishes every port that is listened on inside, under its own number;
	// Host and Sandbox are 0.
	Auto bool
}

// String is the rule as a flag, which ParsePublish reads back.
func (p Publish) String() string {
	if p.Auto {
		return "--publish auto"
	}
	return fmt.Sprintf("--publish %s:%d", netip.AddrPortFrom(p.Addr, p.Host), p.Sandbox)
}

// ParsePublish reads the value of --publish: [ADDR:]HOST:SANDBOX, where both are
// ports, or PORT for PORT:PORT, or auto. An IPv6 address is in brackets. Without
// an address only the host itself can connect.
func ParsePublish(value string) (Publish, error) {
	p := Publish{Flag: "--publish " + value, Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if value == "auto" {
		p.Auto = true
		return p, nil
	}
	if reason := p.read(value); reason != "" {
		return Publish{}, &RuleError{Flag: p.Flag, Reason: reason}
	}
	return p, nil
}

// publishForm is what to write.
const publishForm = "write PORT, HOST:SANDBOX or ADDR:HOST:SANDBOX; an IPv6 address is in brackets"

func (p *Publish) read(value string) (reason string) {
	addr, ports := "", value
	switch at := strings.IndexByte(value, ']') + 1; {
	case at > 0 && !strings.HasPrefix(value[at:], ":"):
		return publishForm
	case at > 0:
		addr, ports = value[:at], value[at+1:]
	case strings.Count(value, ":") > 1:
		addr, ports, _ = strings.Cut(value, ":")
	}
	host, inside, both := strings.Cut(ports, ":")
	switch {
	case value == "":
		return "it is empty; " + publishForm
	case addr == "" && ports != value, addr != "" && !both, strings.Contains(inside, ":"):
		return publishForm
	case strings.Contains(inside, "/"):
		return "only TCP ports can be published, without a protocol"
	case !both:
		inside = host
	}
	if p.Sandbox, reason = parsePort(inside); reason != "" {
		return reason
	}
	if n, err := strconv.ParseUint(host, 10, 16); err == nil {
		p.Host = uint16(n)
	} else {
		return fmt.Sprintf("%q is no port; ports are 1 to 65535, and 0 any that is free", host)
	}
	if addr == "" {
		return ""
	}
	return p.readAddr(addr)
}

// readAddr reads the address to listen on.
func (p *Publish) readAddr(typed string) (reason string) {
	s, bracket := strings.CutPrefix(typed, "[")
	s = strings.TrimSuffix(s, "]")
	if typed == "localhost" {
		return ""
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil || a.Is6() != bracket:
		return fmt.Sprintf("%q is no address of the host; an IPv6 address is in brackets", typed)
	case a.Zone() != "" || a.Is4In6() || a.IsMulticast():
		return fmt.Sprintf("%s is no address to listen on", s)
	}
	p.Addr = a
	return ""
}
