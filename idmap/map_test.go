package idmap

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseMap(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       Map
	}{
		{"new namespace", "", nil},
		{"initial namespace", "         0          0 4294967295\n", Map{{0, 0, 4294967295}}},
		{"range", "0 100000 1000\n1000 1000 1\n", Map{{0, 100000, 1000}, {1000, 1000, 1}}},
		{"not visible to the reader", "0 4294967295 1\n", Map{{0, 4294967295, 1}}},
		{"no newline at the end", "0 1000 1", Map{{0, 1000, 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseMap(strings.NewReader(tt.text))
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("ParseMap(%q) = %v, %v, want %v", tt.text, got, err, tt.want)
			}
		})
	}
}

func TestParseMapErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"0 0\n", `line 1: "0 0" has 2 fields`},
		{"0 0 1\n\n", "line 2:"},
		{"0 0 1 2\n", "4 fields"},
		{"0 -1 1\n", `"-1" is not`},
		{"0 4294967296 1\n", `"4294967296" is not`},
		{"0 0x10 1\n", `"0x10" is not`},
		{strings.Repeat("0 0 1\n", 341), "more than 340 lines"},
	} {
		m, err := ParseMap(strings.NewReader(tt.text))
		if err == nil || m != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseMap(%.20q) = %v, %v, want an error with %q", tt.text, m, err, tt.want)
		}
	}
	broken := errors.New("broken")
	if _, err := ParseMap(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("ParseMap of a broken reader = %v", err)
	}
}

func TestValidate(t *testing.T) {
	many := func(n int, step uint32) (m Map) {
		for i := range uint32(n) {
			m = append(m, Extent{i * step, i * step, 1})
		}
		return m
	}
	for _, tt := range []struct {
		name string
		m    Map
		want string // "" for a valid map
	}{
		{"all ids", Map{{0, 0, 4294967295}}, ""},
		{"last id", Map{{4294967294, 4294967294, 1}}, ""},
		{"neighbours", Map{{0, 10, 5}, {5, 15, 5}}, ""},
		{"descending", Map{{5, 0, 1}, {0, 5, 1}}, ""},
		{"340 short extents", many(340, 1), ""},
		{"none", Map{}, "has no extent"},
		{"341", many(341, 1), "341 extents"},
		{"a page of text", many(340, 10000000), "bytes of text"},
		{"empty extent", Map{{0, 0, 0}}, `extent "0 0 0" has no ids`},
		{"no id inside", Map{{4294967295, 0, 1}}, "past the last id"},
		{"no id outside", Map{{0, 4294967295, 1}}, "past the last id"},
		{"overflow", Map{{2, 0, 4294967295}}, "past the last id"},
		{"overlap inside", Map{{0, 0, 2}, {1, 5, 1}}, `extents "0 0 2" and "1 5 1" overlap inside`},
		{"overlap outside", Map{{0, 5, 1}, {1, 4, 2}}, "overlap outside"},
		{"two faults", Map{{0, 0, 0}, {0, 4294967295, 1}}, `no ids; extent "0 4294967295 1" goes past`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.m.Validate()
			if tt.want == "" && err != nil {
				t.Errorf("Validate() = %v, want nil", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Validate() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestLookup(t *testing.T) {
	m := Map{{0, 100000, 1001}, {1001, 1001, 1}, {70000, 4294967295, 9}}
	for _, tt := range []struct {
		inside, outside uint32
		ok              bool
	}{
		{0, 100000, true}, {1000, 101000, true}, {1001, 1001, true}, {1002, 0, false}, {70000, 0, false}, {4294967295, 0, false},
	} {
		if got, ok := m.Lookup(tt.inside); got != tt.outside || ok != tt.ok {
			t.Errorf("Lookup(%d) = %d, %v, want %d, %v", tt.inside, got, ok, tt.outside, tt.ok)
		}
		if !tt.ok {
			continue
		}
		if got, ok := m.Reverse(tt.outside); got != tt.inside || !ok {
			t.Errorf("Reverse(%d) = %d, %v, want %d", tt.outside, got, ok, tt.inside)
		}
	}
	for _, outside := range []uint32{0, 101001, 4294967295} {
		if got, ok := m.Reverse(outside); ok {
			t.Errorf("Reverse(%d) = %d, want none", outside, got)
		}
	}
	// Extents that are not valid must not wrap around.
	if got, ok := (Map{{0, 4294967290, 100}}).Lookup(5); ok {
		t.Errorf("Lookup past the last id = %d, want none", got)
	}
}

func TestSingle(t *testing.T) {
	for _, tt := range []struct {
		m    Map
		want bool
	}{{nil, false}, {Map{{0, 0, 1}}, true}, {Map{{0, 0, 2}}, false}, {Map{{0, 0, 1}, {1, 1, 1}}, false}} {
		if got := tt.m.Single(); got != tt.want {
			t.Errorf("%v.Single() = %v, want %v", tt.m, got, tt.want)
		}
	}
}

func FuzzParseMap(f *testing.F) {
	f.Add("         0          0 4294967295\n")
	f.Add("0 100000 1001\n1001 1001 1\n1002 101001 64534\n")
	f.Add("0 4294967295 1\n0 0 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMap(strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := ParseMap(strings.NewReader(m.String()))
		if err != nil || !slices.Equal(m, again) {
			t.Fatalf("%v read back as %v, %v", m, again, err)
		}
		if m.Validate() != nil {
			for _, e := range m { // it must not panic
				m.Lookup(e.Inside)
				m.Reverse(e.Outside)
			}
			return
		}
		for _, e := range m {
			for _, by := range []uint32{0, e.Length / 2, e.Length - 1} {
				outside, ok := m.Lookup(e.Inside + by)
				if !ok || outside != e.Outside+by {
					t.Fatalf("%v.Lookup(%d) = %d, %v", m, e.Inside+by, outside, ok)
				}
				if inside, ok := m.Reverse(outside); !ok || inside != e.Inside+by {
					t.Fatalf("%v.Reverse(%d) = %d, %v", m, outside, inside, ok)
				}
			}
		}
	})
}
