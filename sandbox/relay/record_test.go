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
	if len(list) != maxContacts+1 || list[maxContacts].Name != "example.com" || r.denials != maxContacts {
		t.Errorf("%d contacts, %d of them denied", len(list), r.denials)
	}
}
