package network

import (
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// noAnswer is no code of the protocol: what has no header, or is an answer itself,
	// is not answered.
	noAnswer dnsmessage.RCode = 0xffff
	// badVersion is BADVERS (RFC 6891, section 6.1.3).
	badVersion dnsmessage.RCode = 16
)

// query is what a program in the sandbox wants to know.
type query struct {
	dnsmessage.Question
	// name is that of the question as rules have it.
	name string
	// header is what the answer repeats.
	header dnsmessage.Header
	// asked says that there is a question that the answer repeats.
	asked bool
	// edns says that the program knows EDNS, size is how long its answer may be.
	edns bool
	size int
}

// parseQuery reads a query. The code is RCodeSuccess if it is one that can be
// answered.
func parseQuery(b []byte, tcp bool) (*query, dnsmessage.RCode) {
	q := &query{size: 512}
	if tcp {
		q.size = 65535
	}
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.Response {
		return nil, noAnswer
	}
	q.header = dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true, CheckingDisabled: h.CheckingDisabled}
	if h.OpCode != 0 || h.Truncated {
		return q, dnsmessage.RCodeNotImplemented
	}
	if q.Question, err = p.Question(); err != nil {
		return q, dnsmessage.RCodeFormatError
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return q, dnsmessage.RCodeFormatError
	}
	q.asked = true
	q.name = canonical(q.Name.String())
	return q, q.rest(&p, tcp)
}

// rest reads what comes after the question: nothing but additional records.
func (q *query) rest(p *dnsmessage.Parser, tcp bool) dnsmessage.RCode {
	if _, err := p.AnswerHeader(); err != dnsmessage.ErrSectionDone {
		return dnsmessage.RCodeFormatError
	}
	if _, err := p.AuthorityHeader(); err != dnsmessage.ErrSectionDone {
		return dnsmessage.RCodeFormatError
	}
	for range 4 {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return q.supported()
		}
		if err != nil || h.Type == dnsmessage.TypeOPT && (q.edns || h.Name.Length != 1) || p.SkipAdditional() != nil {
			return dnsmessage.RCodeFormatError
		}
		if h.Type != dnsmessage.TypeOPT {
			continue
		}
		q.edns = true
		if !tcp {
			q.size = min(max(q.size, int(h.Class)), maxUDP)
		}
		if h.TTL>>16&0xff != 0 {
			return badVersion
		}
	}
	return dnsmessage.RCodeFormatError
}

// supported refuses what is no question about one type of records, such as ANY (RFC
// 8482) and transfers of zones.
func (q *query) supported() dnsmessage.RCode {
	if q.Class != dnsmessage.ClassINET || q.Type == 0 || q.Type == dnsmessage.TypeOPT || q.Type >= 128 && q.Type <= 255 {
		return dnsmessage.RCodeRefused
	}
	return dnsmessage.RCodeSuccess
}

// record makes a record of the name that was asked for.
func (q *query) record(ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl}, Body: body}
}

// answer writes the answer. One that is too long says so, and has no records.
func (q *query) answer(code dnsmessage.RCode, records []dnsmessage.Resource) []byte {
	m := dnsmessage.Message{Header: q.header, Answers: records}
	m.Header.RCode = code & 0xf
	if q.asked {
		m.Questions = []dnsmessage.Question{q.Question}
	}
	if q.edns {
		var h dnsmessage.ResourceHeader
		if h.SetEDNS0(maxUDP, code, false) == nil {
			m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
		}
	}
	b, err := m.Pack()
	if err == nil && len(b) <= q.size {
		return b
	}
	m.Answers = nil
	if m.Header.Truncated = err == nil; err != nil {
		m.Header.RCode = dnsmessage.RCodeServerFailure
	}
	if b, err = m.Pack(); err != nil {
		return nil
	}
	return b
}

// reverseAddr reads the name that an address has for PTR: 1.0.0.127.in-addr.arpa
// (RFC 1035, section 3.5), and 32 digits before ip6.arpa (RFC 3596, section 2.5).
func reverseAddr(name string) (netip.Addr, bool) {
	if labels, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		f := strings.Split(labels, ".")
		if len(f) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(f[3] + "." + f[2] + "." + f[1] + "." + f[0])
		return a, err == nil && a.Is4()
	}
	labels, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(labels) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		n, err := strconv.ParseUint(labels[62-2*i:63-2*i], 16, 4)
		if err != nil || i < 31 && labels[61-2*i] != '.' {
			return netip.Addr{}, false
		}
		b[i/2] |= byte(n) << (4 * (1 - i%2))
	}
	return netip.AddrFrom16(b), true
}
