package policy

import "slices"

// Relayed says whether sbx relays connections: then the sandbox has an interface.
func (p Policy) Relayed() bool {
	if p.Network == Internet {
		return true
	}
	return p.Network == None && slices.ContainsFunc(p.NetAllow, func(r NetRule) bool { return !r.Localhost })
}

// LocalPorts are the ports of the host's localhost that the sandbox may use, sorted.
func (p Policy) LocalPorts() []uint16 {
	var list []uint16
	for _, r := range p.NetAllow {
		if r.Localhost && p.Network != Host {
			list = append(list, r.Port)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
