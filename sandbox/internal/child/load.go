//go:build !race

package child

import "sync/atomic"

// load is an atomic load that the child can make.
//
//go:norace
//go:nosplit
func load(p *uint32) uint32 { return atomic.LoadUint32(p) }
