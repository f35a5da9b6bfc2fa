package idmap

const (
	// rootSpan is how many ids Root fills from 0 on: those of 16 bits, which are
	// all that distributions give to users and services of a system image.
	rootSpan = 1 << 16

	// maxSubExtents keeps the text of a map made by Root below one page: such an
	// extent takes at most 23 bytes, as its ids inside have at most 5 digits.
	maxSubExtents = 170
)

// Identity returns the map in which id is itself and nothing else exists. It
// needs no subordinate ids, no helper and no privilege when id is the caller's.
func Identity(id uint32) Map { return Map{{Inside: id, Outside: id, Length: 1}} }

// Root returns the map in which id, the caller's own, is itself and all other
// ids from 0 to 65535 are subordinate ids, taken from sub in the order given.
// So uid 0 inside is an id that owns nothing outside, and what the caller owns
// keeps its owner. With id 1001 and one range 100000:65536 it is
//
//	0 100000 1001
//	1001 1001 1
//	1002 101001 64534
//
// An id above 65535 gets an extent of its own behind the others. When the ranges
// are too short, the ids from 0 on are mapped as far as they reach, and id; what
// is missing at the upper end can be seen by [Map.Lookup], say of 65534 (nobody).
//
// From the ranges are left out: id itself, 0, ids that an earlier range holds,
// and what goes past the last id. ok is false when nothing remains. The map is
// then the best that can be had without subordinate ids: 0 stands for id, and
// nothing else exists. Call Root for the uids and for the gids apart.
//
// Each extent lies within one range of sub, but the kernel also wants it to lie
// within one extent of the caller's own namespace: else writing it gives EPERM
// (kernel/user_namespace.c:map_write). A caller that is in a user namespace
// itself, whose subordinate ids cross extents of its own map, has to divide them.
func Root(id uint32, sub []SubRange) (m Map, ok bool) {
	pool := usable(id, sub)
	if len(pool) == 0 {
		return Map{{Inside: 0, Outside: id, Length: 1}}, false
	}
	own := Extent{Inside: id, Outside: id, Length: 1}
	next := uint64(0) // the next id inside
	for _, s := range pool {
		for !s.empty() && next < rootSpan {
			if next == uint64(id) {
				m = append(m, own)
				next++
				continue
			}
			room := uint64(rootSpan) - next
			if next < uint64(id) {
				room = min(room, uint64(id)-next)
			}
			n := min(room, s.length())
			m = append(m, Extent{Inside: uint32(next), Outside: uint32(s.first), Length: uint32(n)})
			next += n
			s.first += n
		}
	}
	if next <= uint64(id) {
		m = append(m, own)
	}
	return m, true
}

// usable returns the ids of sub in order, each once, without 0, which is root
// outside and no subordinate of anybody, and without id. It stops when there
// are enough of them for Root.
func usable(id uint32, sub []SubRange) []span {
	var pool []span
	var total uint64
	for _, r := range sub {
		parts := []span{newSpan(r.Start, r.Length).intersect(span{1, noID})}
		if parts[0].empty() {
			continue
		}
		parts = without(parts, newSpan(id, 1))
		for _, used := range pool {
			parts = without(parts, used)
		}
		for _, part := range parts {
			if len(pool) == maxSubExtents-1 || total >= rootSpan {
				return pool
			}
			pool = append(pool, part)
			total += part.length()
		}
	}
	return pool
}

// Unprivileged chooses an id to which a caller that is root can turn the files
// of a sandbox, by an idmapped mount (mount_setattr(2)), so that what runs in
// the sandbox is not uid 0 outside. own is the caller's /proc/self/uid_map, or
// gid_map, and the result an id inside it.
//
// It is the highest id that own holds, up to 2147483646: programs that take an
// id for a signed number go wrong above, and file systems and allocators of ids
// leave that end free. Not chosen are 0 and what stands for 0 outside, 65534
// (nobody: the owner of all that is not mapped) and 65535 (-1 in 16 bits). ok
// is false when nothing else is there, as in a namespace with a single id.
func Unprivileged(own Map) (id uint32, ok bool) {
	pool := []span{}
	for _, e := range own {
		s := e.inside().intersect(span{1, 1<<31 - 1})
		if s.empty() {
			continue
		}
		parts := without([]span{s}, span{65534, 65536})
		if e.Outside == 0 {
			parts = without(parts, newSpan(e.Inside, 1))
		}
		pool = append(pool, parts...)
	}
	for _, s := range pool {
		if last := uint32(s.end - 1); last > id {
			id, ok = last, true
		}
	}
	if own.Single() {
		return 0, false
	}
	return id, ok
}
