package network

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// Proto is what is sent. The zero value is TCP.
type Proto uint8

const (
	TCP Proto = iota
	UDP
	// Ping is an ICMP echo request. It has no port.
	Ping
)

// String is the word for it in a message.
func (p Proto) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case Ping:
		return "ping"
	}
	return fmt.Sprintf("Proto(%d)", uint8(p))
}

// Flow is a connection, or packets without one, to a concrete address.
type Flow struct {
	Proto Proto
	// Name is the name that was connected to, empty where only the address is known.
	Name string
	Addr netip.Addr
	// Port is 0 where it is not known yet; then it is asked whether any is allowed.
	Port uint16
}

// Denied is what the policy does not allow: a look-up, which has a name alone, or
// a connection.
type Denied struct {
	Flow
	// Reason says why, as the end of a sentence.
	Reason string
	// fix is the flag that would allow it.
	fix string
}

func (d *Denied) Error() string {
	var b strings.Builder
	b.WriteString("cannot ")
	switch {
	case !d.Addr.IsValid() && d.Port == 0:
		b.WriteString("look up ")
	case d.Proto == Ping:
		b.WriteString("ping ")
	case d.Proto == UDP:
		b.WriteString("send UDP to ")
	default:
		b.WriteString("connect to ")
	}
	b.WriteString(d.Place())
	if d.Name != "" && d.Addr.IsValid() {
		b.WriteString(" (" + d.Addr.String() + ")")
	}
	b.WriteString(": " + d.Reason)
	return b.String()
}

// Place is NAME:PORT or ADDR:PORT. A name may be anything that fits a DNS message.
func (d *Denied) Place() string {
	host := d.Name
	if host == "" {
		host = d.Addr.String()
		if d.Addr.Is6() && d.Port != 0 {
			host = "[" + host + "]"
		}
	} else if !policy.ValidName(host) {
		host = strconv.Quote(host)
	}
	if d.Port != 0 {
		host += ":" + strconv.Itoa(int(d.Port))
	}
	return host
}

// Allow is the flag that would allow it, or "" where none would.
func (d *Denied) Allow() string { return d.fix }

// Hint is the flag that can be pasted, unless that would be unwise: what asks for
// credentials of the machine, or for its neighbours, need not mean well.
func (d *Denied) Hint() string {
	if c := Classify(d.Addr); c == Metadata || c == LinkLocal {
		return ""
	}
	return d.fix
}

// Deny makes a denial that a rule for the name would lift.
func Deny(f Flow, reason string) *Denied {
	return &Denied{Flow: f, Reason: reason, fix: flag(f.Name, f.Port)}
}

// flag is "--net-allow HOST:PORT" if that is a rule that could be typed.
func flag(host string, port uint16) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() && port != 0 {
		host = "[" + host + "]"
	}
	if port != 0 {
		host += ":" + strconv.Itoa(int(port))
	}
	if _, err := policy.ParseNetAllow(host); err != nil {
		return ""
	}
	return "--net-allow " + host
}
