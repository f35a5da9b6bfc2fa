package network

import "encoding/binary"

// State is how far the beginning of a connection tells for whom it is.
type State uint8

const (
	// Bad is a TLS handshake that no client begins with.
	Bad State = iota
	// NeedMore is the beginning of one.
	NeedMore
	// NotTLS is something else.
	NotTLS
	// NoSNI is a ClientHello without a name.
	NoSNI
	// HasName is a ClientHello with a name.
	HasName
)

// String is for tests and messages.
func (s State) String() string {
	switch s {
	case NeedMore:
		return "need more"
	case NotTLS:
		return "not TLS"
	case NoSNI:
		return "no server name"
	case HasName:
		return "server name"
	}
	return "bad"
}

// MaxHello bounds a ClientHello with its records. With post-quantum keys it has
// some two thousand bytes.
const MaxHello = 16 << 10

// ClientHello reads the server's name from the first bytes that a TLS client sends
// (RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3). It is called again with
// more bytes for as long as it says NeedMore, which it does not for MaxHello ones.
//
// A ClientHello may be spread over records, and its name encrypted (RFC 9849): then the
// name is the outer one. Browsers send an extension that looks so with every outer name
// (GREASE), so that it cannot be refused.
func ClientHello(b []byte) (name string, state State) {
	b = b[:min(len(b), MaxHello)]
	full := len(b) == MaxHello
	var message []byte
	for first := true; len(b) > 0; first = false {
		switch {
		case first && !tlsRecord(b[0]):
			return "", NotTLS
		case b[0] != 22 || len(b) > 1 && b[1] != 3:
			return "", Bad // something else before the handshake, or within it
		case len(b) < 5:
			return "", more(full)
		}
		size := int(binary.BigEndian.Uint16(b[3:]))
		if size == 0 || size > 1<<14 {
			return "", Bad
		}
		part := b[5:min(len(b), 5+size)]
		message = append(message, part...)
		length, ok := helloLength(message)
		switch {
		case !ok:
			return "", Bad
		case len(part) < size:
			return "", more(full)
		case length > 0 && len(message) > length:
			return "", Bad // nothing may follow in the same record
		case length > 0 && len(message) == length:
			return serverName(message[4:])
		}
		b = b[5+size:]
	}
	return "", more(full)
}

// tlsRecord says whether a TLS record may begin so, of any type and version: some servers
// do not look at the version of the first, and skip alerts before the ClientHello.
func tlsRecord(first byte) bool { return first >= 20 && first <= 24 }

// more is the state when the ClientHello has not ended.
func more(full bool) State {
	if full {
		return Bad
	}
	return NeedMore
}

// helloLength is how long the message is of which this is the beginning, 0 if that is
// not known yet; ok is false for one that is no ClientHello, or that nobody needs.
func helloLength(message []byte) (length int, ok bool) {
	r := reader(message)
	if kind, ok := r.uint8(); ok && kind != 1 {
		return 0, false
	}
	size, ok := r.take(3)
	if !ok {
		return 0, true
	}
	length = 4 + int(size[0])<<16 + int(size[1])<<8 + int(size[2])
	return length, length <= MaxHello
}

// serverName reads the ClientHello itself.
func serverName(body []byte) (name string, state State) {
	r := reader(body)
	_, ok := r.take(2 + 32) // version, random
	_, ok1 := r.vector(1)   // session
	_, ok2 := r.vector(2)   // cipher suites
	_, ok3 := r.vector(1)   // compression
	if !ok || !ok1 || !ok2 || !ok3 {
		return "", Bad
	}
	if len(r) == 0 { // TLS 1.0 without extensions
		return "", NoSNI
	}
	extensions, ok := r.vector(2)
	if !ok || len(r) > 0 {
		return "", Bad
	}
	state = NoSNI
	for r = extensions; len(r) > 0; {
		kind, ok := r.uint16()
		data, ok1 := r.vector(2)
		if !ok || !ok1 {
			return "", Bad
		}
		if kind != 0 {
			continue
		}
		if state == HasName {
			return "", Bad // twice: server and we could take different ones
		}
		if name, ok = hostName(data); !ok {
			return "", Bad
		}
		state = HasName
	}
	return name, state
}

// hostName reads the extension server_name: a list of one name, of the only kind
// that there is.
func hostName(data []byte) (string, bool) {
	r := reader(data)
	list, ok := r.vector(2)
	kind, ok1 := list.uint8()
	name, ok2 := list.vector(2)
	if !ok || !ok1 || !ok2 || len(r) > 0 || len(list) > 0 || kind != 0 || len(name) == 0 || len(name) > 255 {
		return "", false
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return "", false
		}
	}
	return string(name), true
}

// MatchSNI says whether the name in a ClientHello is the one that was connected to.
func MatchSNI(sni, name string) bool { return canonical(sni) == canonical(name) }

// reader takes bytes from the front of a slice.
type reader []byte

func (r *reader) take(n int) ([]byte, bool) {
	if len(*r) < n {
		return nil, false
	}
	b := (*r)[:n]
	*r = (*r)[n:]
	return b, true
}

func (r *reader) uint8() (uint8, bool) {
	b, ok := r.take(1)
	if !ok {
		return 0, false
	}
	return b[0], true
}

func (r *reader) uint16() (uint16, bool) {
	b, ok := r.take(2)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint16(b), true
}

// vector takes bytes that have their number in front, in so many bytes.
func (r *reader) vector(size int) (reader, bool) {
	b, ok := r.take(size)
	n := 0
	for _, c := range b {
		n = n<<8 | int(c)
	}
	if !ok {
		return nil, false
	}
	v, ok := r.take(n)
	return v, ok
}
