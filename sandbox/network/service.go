package network

import (
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// services are those that programs of builds look for at the name that they were told, as
// apt does. There are few, as the label could tell the servers of the name something.
var services = [...]string{"http", "https", "ftp", "git", "ssh", "ldap", "ldaps", "kerberos", "mongodb", "postgresql", "mysql", "etcd-client", "etcd-client-ssl", "grpclb"}

// isService says whether a name is that of such a service (RFC 2782).
func isService(name string) bool {
	service, rest, _ := strings.Cut(name, ".")
	proto, _, _ := strings.Cut(rest, ".")
	label, ok := strings.CutPrefix(service, "_")
	return ok && slices.Contains(services[:], label) && (proto == "_tcp" || proto == "_udp")
}

// Telling says whether a query tells the servers of a name that is allowed exactly more than
// that it is asked for: it has labels in front that are the program's choice. Where all
// names are allowed, or all below one, nothing is gained by refusing it.
func (p *Policy) Telling(name string, kind dnsmessage.Type) bool {
	h := host(name)
	if h == name || p.base == policy.Internet {
		return false
	}
	if _, wildcard := p.named(h); wildcard {
		return false
	}
	return kind != dnsmessage.TypeSRV || !isService(name)
}
