package seccomp

import (
	"slices"
	"testing"
)

// The program in zdefault.go must be what the compiler makes of the profile.
func TestPrecompiled(t *testing.T) {
	for _, a := range []Arch{AMD64, ARM64} {
		want, err := Default(Options{}).Compile(a)
		if err != nil {
			t.Fatal(err)
		}
		got, err := CompileDefault(Options{}, a)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: zdefault.go is out of date: go generate ./seccomp", a)
		}
	}
}
