// Package supervise is the parent while the command lives: it passes signals
// on and waits for the end.
package supervise

import (
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/child"
)

// forwardAfter is when the command has surely been executed. To take signals in
// hand costs the runtime a change of threads for each, which would compete with the
// child's last steps. Those that cannot wait (child.Held) are taken in hand before: most
// would end sbx, and everything in the sandbox by SIGKILL.
const forwardAfter = 15 * time.Millisecond

// Signals are the signals of sbx, taken in hand.
type Signals struct {
	come chan os.Signal
}

// Take takes those signals in hand that cannot wait. From then on they do not end sbx,
// and wait for Wait. A command must not be executed before; the last steps of a child take
// longer than this.
func Take() *Signals {
	s := &Signals{make(chan os.Signal, 16)}
	s.take(false)
	return s
}

// take takes those in hand that are held, or the others. There is no signal.Stop: it
// takes as long, and sbx mostly exits when the command has. Until then the signals
// have no effect.
func (s *Signals) take(held bool) {
	for _, sig := range child.Forwarded {
		if child.Held(sig) == held && !signal.Ignored(sig) {
			signal.Notify(s.come, sig)
		}
	}
}

// Wait passes signals to the sandbox until the command has ended and
// everything in it is gone.
//
// The command is in a session of its own, so Ctrl-C at the terminal reaches sbx
// alone, and the command exactly once, through here. Ctrl-Z stops the command
// and then sbx; SIGCONT resumes both. around, if not nil, is called with what stops sbx,
// which it must call: it may let go before of what others wait for.
func Wait(p *child.Process, signals *Signals, around func(stop func())) (child.Ending, error) {
	defer rememberTerminals().restore()
	var over sync.Mutex // held while the pid may be used, and for good at the end
	done := make(chan struct{})
	go func() {
		later := time.After(forwardAfter)
		for {
			select {
			case <-done:
				return
			case <-later:
				signals.take(true)
			case s := <-signals.come:
				sig := s.(unix.Signal)
				over.Lock()
				select {
				case <-done:
				default:
					p.Signal(sig)
					if sig == unix.SIGTSTP && around != nil {
						around(stop)
					} else if sig == unix.SIGTSTP {
						stop()
					}
				}
				over.Unlock()
			}
		}
	}()
	return p.Wait(func() {
		over.Lock()
		close(done)
		over.Unlock()
	})
}

func stop() { unix.Kill(os.Getpid(), unix.SIGSTOP) }
