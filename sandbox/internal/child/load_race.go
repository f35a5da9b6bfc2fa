//go:build race

package child

// load is an atomic load that the child can make: there package atomic is the race
// detector's, which needs a g. A call in between keeps the loop from reading once.
//
//go:noinline
//go:norace
//go:nosplit
func load(p *uint32) uint32 { return *p }
