package idmap_test

import (
	"fmt"

	"github.com/sbx-build/sbx/idmap"
)

// A user with uid 1001 and the line "dev:100000:65536" in /etc/subuid gets all
// ids of 16 bits: files of uid 0 inside belong to 100000 outside, own files stay.
func ExampleRoot() {
	m, ok := idmap.Root(1001, []idmap.SubRange{{Start: 100000, Length: 65536}})
	fmt.Print(ok, "\n", m)
	root, _ := m.Lookup(0)
	own, _ := m.Lookup(1001)
	fmt.Println(root, own)
	// Output:
	// true
	// 0 100000 1001
	// 1001 1001 1
	// 1002 101001 64534
	// 100000 1001
}
