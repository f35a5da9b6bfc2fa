// Package network decides what a sandbox reaches of the network, and by which names.
// Package relay does what is decided here.
//
//	query ──► NameServer.Answer (dns.go) ──Policy.Lookup──► refuse │ real │ fake
//	             │ Resolver (resolve.go, ask.go)       the host's name servers
//	             ▼ Names (names.go)                    a fake address for each name
//	SYN ────► Names.Name: which name
//	          NameServer.Reach (reach.go): its addresses, now
//	             └► Policy.Allow (rules.go): each of them, by
//	                Classify (address.go) and Router.Lookup (route.go)
//	data ───► ClientHello (sni.go): the name in the TLS handshake is the same one
//	behind an HTTP proxy: Proxies.For (proxy.go) ──► Policy.AllowProxied
//	          Proxy.Connect (connect.go), for port 80 RewriteRequest (request.go)
//
// What comes from the sandbox is hostile, and so is what comes from name servers
// and proxies: every parser here has bounds, and no byte of the one side reaches the
// other without having been parsed and written anew.
//
// # What holds
//
//   - Where names are allowed one by one, no query for another leaves the machine, but
//     for some services of theirs, of a list (SRV, RFC 2782).
//   - Each of those has an address of its own inside, so that each connection is
//     by exactly one name. Who else is on the same server does not matter.
//   - The decision is made on the address that is connected to, after the last
//     look-up: a name that changes its addresses in between (rebinding) gains nothing.
//   - The host's loopback, its own addresses, link-local ones and the metadata
//     services of clouds are reached by no name and no range.
//
// # What does not
//
// A server that serves many names by one certificate or behind one front may give
// to a client that asks for an allowed name another one's content, by the Host header
// inside TLS or by Encrypted Client Hello. Only a proxy that breaks TLS could see that.
// A second ClientHello, after a HelloRetryRequest, is not looked at either; it has to be the
// first one again (RFC 8446, section 4.1.2), which the server sees to.
//
// Who serves an allowed name is told when the sandbox asks for it, and for which type of
// records. To whom a build may talk it may tell everything.
//
// With --net=none alone there is no interface, and nobody who would notice that something is
// tried: the sandbox's kernel refuses it at once, and the record has nothing of it.
package network
