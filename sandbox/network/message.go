package network

import (
	"errors"

	"golang.org/x/net/dns/dnsmessage"
)

// Types that package dnsmessage has no name for.
const (
	typeSSHFP dnsmessage.Type = 44
	typeTLSA  dnsmessage.Type = 52
	typeIXFR  dnsmessage.Type = 251
	typeAXFR  dnsmessage.Type = 252
	typeCAA   dnsmessage.Type = 257
)

const (
	// maxRecords bounds the answers of a reply that are looked at.
	maxRecords = 512
	// maxChain bounds a chain of CNAMEs.
	maxChain = 16
	// maxTTL bounds how long a program may keep an answer, in seconds.
	maxTTL = 3600
)

// forwarded says whether name servers are asked for a type. Others could have
// names in them that cannot be written anew, or make sense to resolvers alone.
func forwarded(t dnsmessage.Type) bool {
	switch t {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeCNAME, dnsmessage.TypeMX, dnsmessage.TypeNS,
		dnsmessage.TypePTR, dnsmessage.TypeSOA, dnsmessage.TypeSRV, dnsmessage.TypeTXT, typeCAA, typeSSHFP, typeTLSA:
		return true
	}
	return false
}

// Reply is what a name server says, as far as it was asked: the records of the name,
// and those of the names that it is an alias of.
type Reply struct {
	RCode   dnsmessage.RCode
	Answers []dnsmessage.Resource

	truncated bool
}

// newQuery writes a query, with EDNS (RFC 6891) or without.
func newQuery(id uint16, q dnsmessage.Question, edns bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 0, 300), dnsmessage.Header{ID: id, RecursionDesired: true})
	err := errors.Join(b.StartQuestions(), b.Question(q))
	if edns {
		var h dnsmessage.ResourceHeader
		err = errors.Join(err, h.SetEDNS0(maxUDP, dnsmessage.RCodeSuccess, false), b.StartAdditionals(), b.OPTResource(h, dnsmessage.OPTResource{}))
	}
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

var errNoReply = errors.New("it is no reply to the query")

// parseReply reads a reply to the query with the id and the question. The error
// is errNoReply for what may be another's.
func parseReply(b []byte, id uint16, q dnsmessage.Question) (Reply, error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.ID != id || !h.Response || h.OpCode != 0 {
		return Reply{}, errNoReply
	}
	got, err := p.Question()
	if err == dnsmessage.ErrSectionDone && h.RCode == dnsmessage.RCodeFormatError {
		return Reply{RCode: h.RCode}, nil // a server that cannot read EDNS may repeat nothing
	}
	if err != nil || got.Type != q.Type || got.Class != q.Class || !sameName(got.Name, q.Name) {
		return Reply{}, errNoReply
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return Reply{}, errNoReply
	}
	r := Reply{RCode: h.RCode, truncated: h.Truncated}
	if h.Truncated {
		return r, nil
	}
	all, err := parseAnswers(&p, q.Type)
	if err != nil {
		return Reply{}, err
	}
	r.Answers = chain(all, q)
	return r, nil
}

// parseAnswers reads the answers of the type, and CNAMEs.
func parseAnswers(p *dnsmessage.Parser, t dnsmessage.Type) ([]dnsmessage.Resource, error) {
	var all []dnsmessage.Resource
	for range maxRecords {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Class != dnsmessage.ClassINET || h.Type != t && h.Type != dnsmessage.TypeCNAME || !forwarded(h.Type) {
			if err := p.SkipAnswer(); err != nil {
				return nil, err
			}
			continue
		}
		r, err := p.Answer()
		if err != nil {
			return nil, err
		}
		r.Header.TTL = min(r.Header.TTL, maxTTL)
		all = append(all, r)
	}
	return nil, errors.New("it has too many records")
}

// chain picks what answers the question: a reply may have records of any name.
func chain(all []dnsmessage.Resource, q dnsmessage.Question) []dnsmessage.Resource {
	var picked []dnsmessage.Resource
	name := q.Name
	for range maxChain {
		next, alias := dnsmessage.Name{}, false
		for _, r := range all {
			if !sameName(r.Header.Name, name) {
				continue
			}
			if len(picked) >= maxRecords {
				return picked
			}
			picked = append(picked, r)
			if c, ok := r.Body.(*dnsmessage.CNAMEResource); ok && q.Type != dnsmessage.TypeCNAME {
				next, alias = c.CNAME, true
			}
		}
		if !alias {
			break
		}
		name = next
	}
	return picked
}

func sameName(a, b dnsmessage.Name) bool {
	return a.Length == b.Length && lower(string(a.Data[:a.Length])) == lower(string(b.Data[:b.Length]))
}
