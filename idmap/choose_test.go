package idmap

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestRoot(t *testing.T) {
	full := []SubRange{{100000, 65536}}
	for _, tt := range []struct {
		name string
		id   uint32
		sub  []SubRange
		want Map
	}{
		{"usual", 1001, full, Map{{0, 100000, 1001}, {1001, 1001, 1}, {1002, 101001, 64534}}},
		{"root", 0, full, Map{{0, 0, 1}, {1, 100000, 65535}}},
		{"id 1", 1, full, Map{{0, 100000, 1}, {1, 1, 1}, {2, 100001, 65534}}},
		{"last of 16 bits", 65535, full, Map{{0, 100000, 65535}, {65535, 65535, 1}}},
		{"65536", 65536, full, Map{{0, 100000, 65536}, {65536, 65536, 1}}},
		{"of a directory service", 1893400001, full, Map{{0, 100000, 65536}, {1893400001, 1893400001, 1}}},
		{"more than needed", 5, []SubRange{{100000, 1000000}}, Map{{0, 100000, 5}, {5, 5, 1}, {6, 100005, 65530}}},
		{"short", 1001, []SubRange{{100000, 10}}, Map{{0, 100000, 10}, {1001, 1001, 1}}},
		{"up to the id", 10, []SubRange{{100000, 10}}, Map{{0, 100000, 10}, {10, 10, 1}}},
		{"one more than the id", 10, []SubRange{{100000, 11}}, Map{{0, 100000, 10}, {10, 10, 1}, {11, 100010, 1}}},
		{
			"several ranges", 1001, []SubRange{{200000, 1000}, {100000, 500}, {300000, 100000}},
			Map{{0, 200000, 1000}, {1000, 100000, 1}, {1001, 1001, 1}, {1002, 100001, 499}, {1501, 300000, 64035}},
		},
		{"own id among them", 1001, []SubRange{{1000, 10}}, Map{{0, 1000, 1}, {1, 1002, 8}, {1001, 1001, 1}}},
		{"overlapping ranges", 50, []SubRange{{100, 10}, {105, 10}, {100, 20}}, Map{{0, 100, 10}, {10, 110, 5}, {15, 115, 5}, {50, 50, 1}}},
		{"root among them", 50, []SubRange{{0, 3}}, Map{{0, 1, 2}, {50, 50, 1}}},
		{"past the last id", 50, []SubRange{{4294967290, 100}}, Map{{0, 4294967290, 5}, {50, 50, 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Root(tt.id, tt.sub)
			if !ok || !slices.Equal(got, tt.want) {
				t.Errorf("Root(%d, %v) = %v, %v, want %v", tt.id, tt.sub, got, ok, tt.want)
			}
			checkRoot(t, tt.id, tt.sub)
		})
	}
}

func TestRootWithoutRanges(t *testing.T) {
	for _, sub := range [][]SubRange{nil, {{1001, 1}}, {{0, 1}}, {{5, 0}}, {{4294967295, 1}}} {
		got, ok := Root(1001, sub)
		if want := (Map{{0, 1001, 1}}); ok || !slices.Equal(got, want) {
			t.Errorf("Root(1001, %v) = %v, %v, want %v, false", sub, got, ok, want)
		}
	}
}

// The text of a map has to stay below one page, whatever /etc/subuid has.
func TestRootOfManyRanges(t *testing.T) {
	var sub []SubRange
	for i := range uint32(5000) {
		sub = append(sub, SubRange{4000000000 + i*100, 50})
	}
	checkRoot(t, 4000000020, sub)
	checkRoot(t, 333, sub)
}

func TestRootProperties(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, seed))
	// Numbers of all sizes, and often near each other, near 0, 65536 and the end.
	number := func() uint32 {
		n := random.Uint32() >> random.IntN(32)
		switch random.IntN(4) {
		case 0:
			n = n%64 + 65536 - 32
		case 1:
			n = 4294967295 - n%64
		}
		return n
	}
	for range 20000 {
		id := min(number(), 4294967294)
		sub := make([]SubRange, random.IntN(6))
		for i := range sub {
			sub[i] = SubRange{number(), number()}
		}
		checkRoot(t, id, sub)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// checkRoot checks what holds for the map of Root, whatever the ranges are.
func checkRoot(t *testing.T, id uint32, sub []SubRange) {
	t.Helper()
	m, ok := Root(id, sub)
	if err := m.Validate(); err != nil {
		t.Errorf("Root(%d, %v) = %v: %v", id, sub, m, err)
	}
	owns, next := 0, uint64(0)
	for _, e := range m {
		if e.outside().holds(id) {
			owns++
			if e.Length != 1 || ok && e.Inside != id {
				t.Errorf("Root(%d, %v) = %v: own id in %v", id, sub, m, e)
			}
			if uint64(e.Inside) == next {
				next++
			}
			continue
		}
		if e.outside().holds(0) {
			t.Errorf("Root(%d, %v) = %v: maps 0 outside", id, sub, m)
		}
		if e.inside().end > 65536 || uint64(e.Inside) != next {
			t.Errorf("Root(%d, %v) = %v: %v does not follow, or is past 65535", id, sub, m, e)
		}
		next = e.inside().end
		given := slices.ContainsFunc(sub, func(r SubRange) bool {
			s := newSpan(r.Start, r.Length)
			return s.first <= e.outside().first && e.outside().end <= s.end
		})
		if !given {
			t.Errorf("Root(%d, %v) = %v: %v is not within one range", id, sub, m, e)
		}
	}
	if owns != 1 {
		t.Errorf("Root(%d, %v) = %v: maps the own id %d times", id, sub, m, owns)
	}
	if again, _ := Root(id, sub); !slices.Equal(again, m) {
		t.Errorf("Root(%d, %v) is not the same twice", id, sub)
	}
}

func TestIdentity(t *testing.T) {
	m := Identity(1001)
	if got, want := m.String(), "1001 1001 1\n"; got != want || !m.Single() {
		t.Errorf("Identity(1001) = %q, want %q", got, want)
	}
}

func TestUnprivileged(t *testing.T) {
	for _, tt := range []struct {
		name string
		own  Map
		want uint32 // 0 for none
	}{
		{"initial namespace", Map{{0, 0, 4294967295}}, 2147483646},
		{"container of 16 bits", Map{{0, 100000, 65536}}, 65533},
		{"rootless container", Map{{0, 1000, 1}, {1, 100000, 65536}}, 65536},
		{"extents in disorder", Map{{500, 0, 10}, {0, 100000, 400}}, 509},
		{"short", Map{{0, 100000, 10}}, 9},
		{"single root", Map{{0, 1000, 1}}, 0},
		{"single id", Map{{1000, 1000, 1}}, 0},
		{"only what is not to be used", Map{{0, 1000, 1}, {65534, 100000, 2}}, 0},
		{"the other is root outside", Map{{0, 1000, 1}, {5, 0, 1}}, 0},
		{"signed numbers only", Map{{0, 1000, 1}, {2147483647, 100000, 5}}, 0},
		{"not known", nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Unprivileged(tt.own)
			if got != tt.want || ok != (tt.want != 0) {
				t.Errorf("Unprivileged(%v) = %d, %v, want %d", tt.own, got, ok, tt.want)
			}
		})
	}
}
