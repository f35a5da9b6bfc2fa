package state

import "time"

// Tests hold locks for ever.
func init() { patience = 100 * time.Millisecond }
