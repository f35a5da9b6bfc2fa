package tests

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nameserver is the host's, with records as a test wants them.
type nameserver struct {
	mu      sync.Mutex
	records map[string][]string // "TYPE name" -> data; more than 500 bytes do not fit UDP
	turns   map[string][][]string
	log     []string
}

// nameserver serves records, of which keys are "TYPE name" and values data as in a zone
// file.
func (w *world) nameserver(records map[string][]string) *nameserver {
	s := &nameserver{records: records, turns: map[string][][]string{}}
	w.packets(w.wan, resolverAddr+":53", func(c net.PacketConn, b []byte, from net.Addr) {
		c.WriteTo(s.answer(b, false), from)
	})
	w.listen(w.wan, resolverAddr+":53", func(c net.Conn) {
		for {
			var n [2]byte
			if _, err := io.ReadFull(c, n[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint16(n[:]))
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			a := s.answer(b, true)
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
		}
	})
	return s
}

// take makes a record have other values, one after the other; the last one stays.
func (s *nameserver) take(key string, turns ...[]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turns[key] = turns
}

// asked are the queries since the last call.
func (s *nameserver) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.log = nil }()
	return slices.Clone(s.log)
}

// onlyAsked demands that queries were for these names alone.
func (s *nameserver) onlyAsked(t *testing.T, names ...string) {
	t.Helper()
	for _, q := range s.asked() {
		if _, name, _ := strings.Cut(q, " "); !slices.Contains(names, name) {
			t.Errorf("the name server was asked for %q", q)
		}
	}
}

func (s *nameserver) answer(b []byte, tcp bool) []byte {
	var m dnsmessage.Message
	if m.Unpack(b) != nil || len(m.Questions) != 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := m.Questions[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	key := strings.TrimPrefix(q.Type.String(), "Type") + " " + name
	s.log = append(s.log, key)
	r := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
	if turns := s.turns[key]; len(turns) > 0 {
		s.records[key] = turns[0]
		s.turns[key] = turns[1:]
	}
	exists := false
	for k := range s.records {
		if _, n, _ := strings.Cut(k, " "); n == name {
			exists = true
		}
	}
	if !exists {
		r.RCode = dnsmessage.RCodeNameError
	}
	s.add(&r, q.Type, name)
	out, err := r.Pack()
	if err != nil {
		return nil
	}
	if len(out) > 500 && !tcp {
		r.Answers, r.Truncated = nil, true
		out, _ = r.Pack()
	}
	return out
}

func (s *nameserver) add(r *dnsmessage.Message, t dnsmessage.Type, name string) {
	for depth := 0; depth < 8; depth++ {
		for _, data := range s.records[strings.TrimPrefix(t.String(), "Type")+" "+name] {
			r.Answers = append(r.Answers, record(t, name, data))
		}
		alias := s.records["CNAME "+name]
		if len(alias) == 0 || t == dnsmessage.TypeCNAME {
			return
		}
		r.Answers = append(r.Answers, record(dnsmessage.TypeCNAME, name, alias[0]))
		name = alias[0]
	}
}

func record(t dnsmessage.Type, name, data string) dnsmessage.Resource {
	r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Class: dnsmessage.ClassINET, TTL: 0}}
	switch t {
	case dnsmessage.TypeA:
		r.Body = &dnsmessage.AResource{A: [4]byte(net.ParseIP(data).To4())}
	case dnsmessage.TypeAAAA:
		r.Body = &dnsmessage.AAAAResource{AAAA: [16]byte(net.ParseIP(data).To16())}
	case dnsmessage.TypeCNAME:
		r.Body = &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(data + ".")}
	case dnsmessage.TypePTR:
		r.Body = &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(data + ".")}
	case dnsmessage.TypeMX:
		r.Body = &dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName(data + ".")}
	case dnsmessage.TypeSRV:
		r.Body = &dnsmessage.SRVResource{Priority: 1, Weight: 2, Port: 443, Target: dnsmessage.MustNewName(data + ".")}
	default:
		var texts []string
		for ; len(data) > 255; data = data[255:] {
			texts = append(texts, data[:255])
		}
		r.Body = &dnsmessage.TXTResource{TXT: append(texts, data)}
	}
	return r
}
