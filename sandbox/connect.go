package sandbox

import (
	"errors"
	"slices"
	"sync"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/network"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/relay"
)

// outcome is what was done beside the command.
type outcome struct {
	refreshes, mirrors int
	contacts           []relay.Contact
}

// publishPorts listens at the host's ports that are to lead into the sandbox.
func (s *Session) publishPorts() ([]*relay.Published, error) {
	if s.Policy.Network == policy.Host {
		return nil, nil // they are the host's already
	}
	return relay.Publish(s.Policy.Publish)
}

// connect connects the sandbox with the network, by what it has sent. Nil without an
// error: there is nothing to relay.
func (s *Session) connect(o Options, process *child.Process, p plan.Plan, f host.Facts, lent *child.Lent, ports []*relay.Published) (*relay.Relay, error) {
	list := p.Parts()
	auto := slices.ContainsFunc(s.Policy.Publish, func(p policy.Publish) bool { return p.Auto })
	if len(list) == 0 && len(ports) == 0 && !auto || s.Policy.Network == policy.Host {
		return nil, nil
	}
	parts := map[int]plan.Part{}
	wired := !s.Policy.Relayed()
	for i, fd := range lent.Network {
		parts[fd] = list[i]
		wired = wired || list[i].Wire
	}
	if !wired {
		closePorts(ports)
		return nil, errors.New("the sandbox could not hand over its interface: this user has too many descriptors under way (ETOOMANYREFS in unix(7))")
	}
	held := lent.Held
	lent.Network, lent.Held = nil, nil
	namespaces, err := duplicate(lent.Namespaces[slices.Index(child.Namespaces, "user")], lent.Namespaces[slices.Index(child.Namespaces, "net")])
	if err != nil {
		closePorts(ports)
		return nil, err
	}
	var mu sync.Mutex
	return relay.Start(relay.Config{
		Base: s.Policy.Network, Rules: s.Policy.NetAllow, Publish: ports, Auto: auto, PID: process.PID,
		IPv6: f.IPv6, Getenv: o.Getenv, Parts: parts, Held: held,
		Sockets: func(n int) ([]int, error) {
			mu.Lock()
			defer mu.Unlock()
			if n == 0 || namespaces == nil {
				child.CloseAll(namespaces)
				namespaces = nil
				return nil, errors.New("the run ends")
			}
			return child.Sockets(namespaces[0], namespaces[1], n)
		},
		Denied: func(d *network.Denied) {
			if o.Verbose {
				o.say("%s", deniedLine(d.Place(), d.Hint(), d.Reason))
			}
		},
		Published: func(p *relay.Published) { o.say("published %s", p) },
	})
}

// maxDenied bounds the lines at the end of a run.
const maxDenied = 10

// sayDenied says at the end what the command was denied of the network.
func (s *Session) sayDenied(o Options, done outcome) {
	if o.Verbose {
		return // said already
	}
	n := 0
	for _, c := range done.contacts {
		if c.Denied == "" {
			continue
		}
		if n++; n <= maxDenied {
			o.say("%s", deniedLine(c.Place(), c.Fix, c.Denied))
		}
	}
	if n > maxDenied {
		o.say("denied: %d more; sbx log %s", n-maxDenied, s.Run)
	}
}

// deniedLine is what is said of something denied, with what would allow it.
func deniedLine(place, fix, why string) string {
	line := "denied: " + place
	if fix != "" {
		return line + "; " + fix
	}
	return line + ": " + why
}

func closePorts(list []*relay.Published) {
	for _, p := range list {
		p.Close()
	}
}
