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
// child's last steps.
const forwardAfter = 15 * time.Millisecond

// Wait passes signals to the sandbox until the command has ended and
// everything in it is gone.
//
// The command is in a session of its own, so Ctrl-C at the terminal reaches sbx
// alone, and the command exactly once, through here. Ctrl-Z stops the command
// and then sbx; SIGCONT resumes both.
func Wait(p *child.Process) (child.Ending, error) {
	defer rememberTerminals().restore()
	var over sync.Mutex // held while the pid may be used, and for good at the end
	done := make(chan struct{})
	after := time.Duration(0)
	if child.SignalsHeld() {
		after = forwardAfter
	}
	forward := time.AfterFunc(after, func() {
		signals := make(chan os.Signal, 16)
		// There is no signal.Stop: it takes as long, and sbx mostly exits when
		// the command has. Until then the signals have no effect.
		for _, s := range child.Forwarded {
			if !signal.Ignored(s) {
				signal.Notify(signals, s)
			}
		}
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				sig := s.(unix.Signal)
				over.Lock()
				select {
				case <-done:
				default:
					p.Signal(sig)
					if sig == unix.SIGTSTP {
						unix.Kill(os.Getpid(), unix.SIGSTOP)
					}
				}
				over.Unlock()
			}
		}
	})
	defer forward.Stop()
	return p.Wait(func() {
		over.Lock()
		close(done)
		over.Unlock()
	})
}
