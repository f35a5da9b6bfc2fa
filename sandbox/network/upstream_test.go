package network

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// upstream is a name server on the host's loopback.
type upstream struct {
	t   testing.TB
	udp *net.UDPConn
	tcp net.Listener

	mu sync.Mutex
	// zone has records by "NAME TYPE"; a name of which there are none does not exist.
	zone map[string][]dnsmessage.ResourceBody
	// reply, if not nil, makes the datagrams or messages that are sent instead.
	reply func(query []byte, tcp bool) [][]byte
	// asked are the questions, as "NAME TYPE", of TCP as "NAME TYPE tcp".
	asked []string
}

// startUpstream starts one on an address of loopback, and the port or any.
func startUpstream(t testing.TB, addr string, port uint16) *upstream {
	t.Helper()
	u := &upstream{t: t, zone: map[string][]dnsmessage.ResourceBody{}}
	var err error
	for range 20 { // the port may be taken for TCP
		if u.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), port))); err != nil {
			break
		}
		if u.tcp, err = net.Listen("tcp", u.udp.LocalAddr().String()); err == nil {
			break
		}
		u.udp.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.udp.Close(); u.tcp.Close() })
	go u.serveUDP()
	go u.serveTCP()
	return u
}

func (u *upstream) port() uint16 { return u.udp.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

func (u *upstream) serveUDP() {
	buf := make([]byte, 65536)
	for {
		n, from, err := u.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		for _, b := range u.answer(buf[:n], false) {
			u.udp.WriteToUDPAddrPort(b, from)
		}
	}
}

func (u *upstream) serveTCP() {
	for {
		c, err := u.tcp.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var size [2]byte
			if _, err := io.ReadFull(c, size[:]); err != nil {
				return
			}
			query := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(c, query); err != nil {
				return
			}
			for _, b := range u.answer(query, true) {
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
			}
		}()
	}
}

func (u *upstream) answer(query []byte, tcp bool) [][]byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		u.t.Errorf("the upstream was asked %x: %v", query, err)
		return nil
	}
	q := m.Questions[0]
	name := lower(strings.TrimSuffix(q.Name.String(), "."))
	what := name + " " + typeName(q.Type)
	if tcp {
		what += " tcp"
	}
	u.asked = append(u.asked, what)
	if u.reply != nil {
		return u.reply(query, tcp)
	}
	r := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
	r.RCode = dnsmessage.RCodeNameError
	for range 8 {
		for key := range u.zone {
			if strings.HasPrefix(key, name+" ") {
				r.RCode = dnsmessage.RCodeSuccess
			}
		}
		for _, body := range u.zone[name+" "+typeName(q.Type)] {
			r.Answers = append(r.Answers, record(name, 300, body))
		}
		alias := u.zone[name+" CNAME"]
		if len(alias) == 0 || q.Type == dnsmessage.TypeCNAME {
			break
		}
		r.Answers = append(r.Answers, record(name, 300, alias[0]))
		name = canonical(alias[0].(*dnsmessage.CNAMEResource).CNAME.String())
	}
	b, err := r.Pack()
	if err != nil {
		u.t.Error(err)
	}
	if !tcp && len(b) > maxUDP {
		r.Truncated, r.Answers = true, nil
		b, _ = r.Pack()
	}
	return [][]byte{b}
}

// set puts records into the zone, from "NAME A ADDR" or "NAME CNAME NAME" and so on.
func (u *upstream) set(lines ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fresh := map[string]bool{}
	for _, line := range lines {
		f := strings.Fields(line)
		key := f[0] + " " + f[1]
		if !fresh[key] {
			u.zone[key] = nil
		}
		fresh[key] = true
		var body dnsmessage.ResourceBody
		switch f[1] {
		case "A":
			body = &dnsmessage.AResource{A: netip.MustParseAddr(f[2]).As4()}
		case "AAAA":
			body = &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(f[2]).As16()}
		case "CNAME":
			body = &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(f[2] + ".")}
		case "PTR":
			body = &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(f[2] + ".")}
		case "MX":
			body = &dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName(f[2] + ".")}
		case "SRV":
			body = &dnsmessage.SRVResource{Port: 80, Target: dnsmessage.MustNewName(f[2] + ".")}
		case "TXT":
			body = &dnsmessage.TXTResource{TXT: f[2:]}
		case "CAA":
			body = &dnsmessage.UnknownResource{Type: typeCAA, Data: []byte(f[2])}
		case "HTTPS":
			body = &dnsmessage.HTTPSResource{SVCBResource: dnsmessage.SVCBResource{Priority: 1, Target: dnsmessage.MustNewName(".")}}
		}
		u.zone[key] = append(u.zone[key], body)
	}
}

// instead has it answer so.
func (u *upstream) instead(reply func(query []byte, tcp bool) [][]byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reply = reply
}

// seen gives the questions since the last call, in order of the alphabet.
func (u *upstream) seen() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	asked := slices.Sorted(slices.Values(u.asked))
	u.asked = nil
	return strings.Join(asked, ", ")
}

func record(name string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Class: dnsmessage.ClassINET, TTL: ttl}, Body: body}
}

func typeName(t dnsmessage.Type) string {
	if t == typeCAA {
		return "CAA"
	}
	return strings.TrimPrefix(t.String(), "Type")
}

// resolver makes one that asks the servers, which have the same port.
func resolver(t testing.TB, hosts string, servers ...*upstream) *Resolver {
	t.Helper()
	dir := t.TempDir()
	conf := "options timeout:1 attempts:1\n"
	for _, u := range servers {
		conf += fmt.Sprintf("nameserver %s\n", u.udp.LocalAddr().(*net.UDPAddr).AddrPort().Addr())
	}
	write(t, filepath.Join(dir, "resolv.conf"), conf)
	write(t, filepath.Join(dir, "hosts"), hosts)
	r := NewResolver(filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts"))
	if len(servers) > 0 {
		r.port = servers[0].port()
	}
	return r
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
