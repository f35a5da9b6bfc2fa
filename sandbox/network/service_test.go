package network

import "testing"

// TestIsService: of the labels in front of a name none is the program's choice.
func TestIsService(t *testing.T) {
	for name, want := range map[string]bool{
		"_http._tcp.example.com": true, "_kerberos._udp.example.com": true, "_etcd-client-ssl._tcp": true,
		"_http._tcp2.example.com": false, "_http.example.com": false, "_http": false, "http._tcp.example.com": false, "_._tcp.example.com": false,
		"_http https._tcp.example.com": false, "_._tcp": false, "": false, "_ttp._tcp.example.com": false, "_data._tcp.example.com": false, "_http._tcp": true,
	} {
		if got := isService(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// TestBeginsQUIC: what servers of QUIC answer, and what they do not.
func TestBeginsQUIC(t *testing.T) {
	for _, test := range []struct {
		begin string
		size  int
		want  bool
	}{
		{"\xc0\x00\x00\x00\x01", 1200, true}, {"\x80\x00\x00\x00\x01", 1252, true}, {"\xd0\x6b\x33\x43\xcf", 1500, true},
		{"\xc0\xff\x00\x00\x1d", 1200, true}, {"\xc0Q050", 1200, true}, {"\xc0\xfa\xce\xb0\x02", 1200, true},
		{"\xc0\x00\x00\x00\x01", 1199, false}, {"\x40\x00\x00\x00\x01", 1200, false}, {"\xc0\x00\x00\x00\x00", 1200, false}, {"", 1200, false}, {"", 0, false},
	} {
		b := make([]byte, test.size)
		copy(b, test.begin)
		if got := BeginsQUIC(b); got != test.want {
			t.Errorf("%q, %d bytes: %v", test.begin, test.size, got)
		}
	}
}
