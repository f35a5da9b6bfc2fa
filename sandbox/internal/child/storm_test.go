package child

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// storm keeps the garbage collector and the scheduler busy: goroutines that
// allocate, grow their stacks, and spin so that they have to be preempted by
// signals.
func storm(t *testing.T) {
	t.Helper()
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		var keep [64][]byte
		for i := 0; !stop.Load(); i++ {
			keep[i%len(keep)] = make([]byte, 4096)
			grow(64)
		}
		runtime.KeepAlive(keep)
	})
	wg.Go(func() {
		x := 1
		for !stop.Load() {
			for range 1 << 20 {
				x *= 3 // no call, no safe point
			}
		}
		runtime.KeepAlive(x)
	})
	wg.Go(func() {
		for !stop.Load() {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	})
	t.Cleanup(func() { stop.Store(true); wg.Wait() })
}

//go:noinline
func grow(n int) int {
	var page [512]byte
	if n == 0 {
		return int(page[0])
	}
	return grow(n-1) + int(page[n])
}

// TestStorm starts sandboxes while the runtime is at its busiest. A child in
// which a preemption request, a lock of the runtime's or a write barrier counts
// for anything would hang or crash in some of them.
func TestStorm(t *testing.T) {
	needUserNS(t)
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	storm(t)
	watchdog := time.AfterFunc(4*time.Minute, func() { panic("a start hangs") })
	defer watchdog.Stop()
	first := plan.First(uint32(os.Geteuid()), uint32(os.Getegid()), 0, &plan.Interface{IPv6: true})
	p := plan.Plan{Namespaces: plan.Namespaces{Net: true}, Steps: append(first, plan.Seal{}, plan.Capabilities{}, plan.TieToParent{}, plan.Undumpable{}, plan.NoNewPrivs{})}
	for i := range rounds {
		// A third each: launched before it is known, abandoned, with a command.
		switch i % 3 {
		case 0:
			if _, err := run(p, len(first)); err != nil {
				t.Fatalf("start %d: %v", i, err)
			}
		case 1:
			process, err := Launch(p.Namespaces, p.Steps)
			if err != nil {
				t.Fatalf("start %d: %v", i, err)
			}
			process.Abandon()
		case 2:
			end, err := run(sh("exit 3"), 0)
			if err != nil || end.Status.ExitStatus() != 3 {
				t.Fatalf("start %d: %v, %#x", i, err, end.Status)
			}
		}
	}
}
