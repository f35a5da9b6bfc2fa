package relay

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sbx-build/sbx/sandbox/network"
)

// Contact is what a run had to do with one port of one host.
type Contact struct {
	// Name is the name that was asked for, and Addr the address, where it is known.
	Name string `json:"name,omitempty"`
	Addr string `json:"address,omitempty"`
	Port uint16 `json:"port,omitempty"`
	// Proto is tcp, udp or ping, "" for a name that was only looked up.
	Proto string `json:"protocol,omitempty"`
	// Up and Down are the bytes that the sandbox has sent and got.
	Up   uint64 `json:"up"`
	Down uint64 `json:"down"`
	// Count is how many connections were made or tried; with Denied, refused.
	Count int       `json:"connections"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Denied is why it is not allowed, "" if it is; Fix the flag that would allow it.
	Denied string `json:"denied,omitempty"`
	Fix    string `json:"fix,omitempty"`
}

// Place is NAME:PORT or ADDR:PORT.
func (c *Contact) Place() string {
	d := network.Denied{Flow: network.Flow{Name: c.Name, Port: c.Port}}
	if addr, err := netip.ParseAddr(c.Addr); err == nil {
		d.Addr = addr
	}
	return d.Place()
}

// Record is what a run has reached of the network, and what not.
type Record struct {
	mu   sync.Mutex
	list map[contactKey]*Contact
	// ports are how many ports of a host are in it, by its key with port 0.
	ports map[contactKey]int
	// denials are how many of them are denied.
	denials int
	// told is told of each denial the first time.
	told func(*network.Denied)
}

type contactKey struct {
	host   string
	port   uint16
	proto  string
	denied bool
}

// allPorts is the key of a host, whatever the port.
func (k contactKey) allPorts() contactKey {
	k.port = 0
	return k
}

// maxContacts bounds the record, of what is allowed and of what is not: a build can look
// up any number of names, and must not hide by that whom it reaches. maxPorts bounds the
// ports of one host. What is beyond is counted together: the ports of a host as port 0,
// further hosts under Others.
const (
	maxContacts = 4096
	maxPorts    = 64
)

// Others is the name of what there are too many of.
const Others = "(others)"

func newRecord(told func(*network.Denied)) *Record {
	return &Record{list: map[contactKey]*Contact{}, ports: map[contactKey]int{}, told: told}
}

// note finds the entry, or makes it.
func (r *Record) note(key contactKey, name string, addr netip.Addr) *Contact {
	now := time.Now()
	c := r.list[key]
	if c == nil && key.port != 0 {
		if all := key.allPorts(); r.ports[all] >= maxPorts {
			key = all
			c = r.list[key]
		}
	}
	if c == nil {
		n := len(r.list) - r.denials
		if key.denied {
			n = r.denials
		}
		if n >= maxContacts {
			key, name, addr = contactKey{host: Others, denied: key.denied}, Others, netip.Addr{}
			c = r.list[key]
		}
	}
	if c == nil {
		c = &Contact{Name: name, Port: key.port, Proto: key.proto, First: now}
		if addr.IsValid() {
			c.Addr = addr.String()
		}
		if key.denied {
			r.denials++
		}
		if key.port != 0 {
			r.ports[key.allPorts()]++
		}
		r.list[key] = c
	}
	c.Count++
	c.Last = now
	return c
}

// allowed notes a connection that is made. The counts of the entry are the loop's.
func (r *Record) allowed(f network.Flow) *Contact {
	r.mu.Lock()
	defer r.mu.Unlock()
	host := f.Name
	if host == "" {
		host = f.Addr.String()
	}
	return r.note(contactKey{host, f.Port, f.Proto.String(), false}, f.Name, f.Addr)
}

// Denied notes what is not allowed.
func (r *Record) Denied(d *network.Denied) {
	r.mu.Lock()
	host, proto := d.Name, d.Proto.String()
	if host == "" {
		host = d.Addr.String()
	}
	if !d.Addr.IsValid() && d.Port == 0 {
		proto = ""
	}
	before := len(r.list)
	c := r.note(contactKey{host, d.Port, proto, true}, d.Name, d.Addr)
	if c.Denied = d.Reason; c.Name != Others && c.Port == d.Port {
		c.Fix = d.Hint()
	}
	first := len(r.list) > before
	r.mu.Unlock()
	if first && r.told != nil {
		r.told(d)
	}
}

// Resolved is of no interest: what is connected to is noted then.
func (r *Record) Resolved(string, []netip.Addr) {}

// Contacts are all, in the order in which they began.
func (r *Record) Contacts() []Contact {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Contact
	for _, c := range r.list {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Contact) int { return a.First.Compare(b.First) })
	return list
}
