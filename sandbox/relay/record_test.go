package relay

import (
	"net/netip"
	"strconv"
	"testing"

	"github.com/sbx-build/sbx/sandbox/network"
)

// What is denied, however much, does not keep what is reached from being noted.
func TestRecordBounds(t *testing.T) {
	r := newRecord(nil)
	for i := range 3 * maxContacts {
		r.Denied(&network.Denied{Flow: network.Flow{Name: strconv.Itoa(i) + ".invalid"}})
	}
	r.allowed(network.Flow{Name: "example.com", Addr: netip.MustParseAddr("93.184.216.1"), Port: 443})
	list := r.Contacts()
	if len(list) != maxContacts+2 || list[maxContacts+1].Name != "example.com" || r.denials != maxContacts+1 {
		t.Errorf("%d contacts, %d of them denied", len(list), r.denials)
	}
}

// Whatever is reached is counted somewhere, however much it is.
func TestRecordOthers(t *testing.T) {
	r := newRecord(nil)
	reach := func(host string, port uint16) {
		r.allowed(network.Flow{Addr: netip.MustParseAddr(host), Port: port}).Up += 10
	}
	for port := range uint16(4200) {
		reach("93.184.216.2", port+1)
	}
	reach("93.184.216.3", 10)
	list := r.Contacts()
	if len(list) != maxPorts+2 || list[maxPorts].Port != 0 || list[maxPorts].Up != 10*(4200-maxPorts) || list[maxPorts].Place() != "93.184.216.2" || list[maxPorts+1].Up != 10 {
		t.Errorf("%d contacts, the last %+v", len(list), list[len(list)-1])
	}
	for i := range 2 * maxContacts {
		reach(netip.AddrFrom4([4]byte{1, 1, byte(i >> 8), byte(i)}).String(), 443)
	}
	list = r.Contacts()
	up := uint64(0)
	for _, c := range list {
		up += c.Up
	}
	if len(r.ports) > maxContacts {
		t.Errorf("%d hosts are remembered", len(r.ports))
	}
	if len(list) != maxContacts+1 || up != 10*(4201+2*maxContacts) || list[maxContacts].Name != Others {
		t.Errorf("%d contacts with %d bytes, the last %+v", len(list), up, list[len(list)-1])
	}
	r.Denied(&network.Denied{Flow: network.Flow{Name: "a.invalid"}})
	for port := range uint16(100) {
		r.Denied(&network.Denied{Flow: network.Flow{Name: "b.invalid", Port: port + 1}})
	}
	many := 0
	for _, c := range r.Contacts() {
		if c.Name == "b.invalid" && c.Port == 0 {
			many = c.Count
		}
	}
	if many != 100-maxPorts {
		t.Errorf("%d denials of further ports", many)
	}
}
