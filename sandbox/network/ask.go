package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

const (
	// maxInFlight bounds the queries that are under way, maxWait how long another
	// waits for its turn.
	maxInFlight = 64
	maxWait     = 2 * time.Second
	// maxTime bounds how long all the tries for one query take together. Programs
	// give up before (resolv.conf(5): 5 seconds, twice).
	maxTime = 12 * time.Second
)

// Query asks the name servers for the records of a name. The error is a
// *ResolveError; that the name does not exist is one, that it has no such records
// is not.
func (r *Resolver) Query(name string, t dnsmessage.Type) (Reply, error) {
	fail := func(code dnsmessage.RCode, cause error) (Reply, error) {
		return Reply{RCode: code}, &ResolveError{Name: name, RCode: code, Cause: cause}
	}
	n, err := dnsmessage.NewName(name + ".")
	if err != nil || name == "" || unasked(name) {
		return fail(dnsmessage.RCodeNameError, nil)
	}
	wait := time.NewTimer(maxWait)
	defer wait.Stop()
	select {
	case r.inFlight <- struct{}{}:
		defer func() { <-r.inFlight }()
	case <-wait.C:
		return fail(dnsmessage.RCodeServerFailure, errors.New("too many names are being resolved"))
	}
	reply, err := r.ask(dnsmessage.Question{Name: n, Type: t, Class: dnsmessage.ClassINET})
	switch {
	case err != nil:
		return fail(dnsmessage.RCodeServerFailure, err)
	case reply.RCode != dnsmessage.RCodeSuccess:
		return fail(reply.RCode, nil)
	}
	return reply, nil
}

// configured is what resolv.conf says now.
func (r *Resolver) configured() servers {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, changed := r.conf.fresh(); changed {
		r.servers = parseServers(b)
	}
	return r.servers
}

// ask goes through the servers, as often as resolv.conf says. One that cannot
// answer is not the last word, except that there is no such name.
func (r *Resolver) ask(q dnsmessage.Question) (reply Reply, err error) {
	s := r.configured()
	end := time.Now().Add(maxTime)
	answered := false
	for range s.attempts {
		for _, server := range s.addrs {
			deadline := time.Now().Add(s.timeout)
			if deadline.After(end) {
				deadline = end
			}
			got, e := r.askOne(server, q, s.tcp, deadline)
			switch {
			case e != nil && !answered:
				err = fmt.Errorf("the name server %s does not answer: %w", server, cause(e))
			case e != nil:
			case got.RCode == dnsmessage.RCodeSuccess || got.RCode == dnsmessage.RCodeNameError:
				return got, nil
			default:
				reply, err, answered = got, nil, true
			}
			if !time.Now().Before(end) {
				return reply, err
			}
		}
		if answered {
			break
		}
	}
	return reply, err
}

// cause takes off an error what package os says around it.
func cause(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// askOne asks one server: by UDP, without EDNS if it does not know that, and by TCP
// for a reply that is too long.
func (r *Resolver) askOne(server netip.Addr, q dnsmessage.Question, tcp bool, deadline time.Time) (Reply, error) {
	var reply Reply
	try := func(edns, tcp bool) error {
		var id [2]byte
		if _, err := unix.Getrandom(id[:], 0); err != nil { // so few bytes come all or not
			return fmt.Errorf("the kernel gives no random numbers: %w", err)
		}
		query, err := newQuery(binary.BigEndian.Uint16(id[:]), q, edns)
		if err != nil {
			return err
		}
		exchange := exchangeUDP
		if tcp {
			exchange = exchangeTCP
		}
		var broken error
		err = exchange(server, r.port, query, deadline, func(b []byte) bool {
			reply, broken = parseReply(b, binary.BigEndian.Uint16(id[:]), q)
			return broken != errNoReply
		})
		if err == nil {
			err = broken
		}
		return err
	}
	err := try(true, tcp)
	if err == nil && !tcp && (reply.RCode == dnsmessage.RCodeFormatError || reply.RCode == dnsmessage.RCodeNotImplemented) {
		err = try(false, false)
	}
	if err == nil && !tcp && reply.truncated {
		err = try(true, true)
	}
	if err == nil && reply.truncated {
		err = errors.New("its reply is cut off")
	}
	return reply, err
}
