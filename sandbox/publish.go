package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/live"
	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/relay"
	"github.com/sbx-build/sbx/sandbox/share"
	"github.com/sbx-build/sbx/sandbox/state"
)

// publishAfter is when a run makes itself known to others. One that takes less
// time is over before they could want it: whoever starts on the same layer
// meanwhile waits for its lock.
const publishAfter = 15 * time.Millisecond

// published is a run that others can find, or is about to be.
type published struct {
	mu     sync.Mutex
	timer  *time.Timer
	ended  bool
	dir    state.RunDir
	server *share.Server
	lender *lender
	live   []*live.Watcher
	ports  []*relay.Published
	relay  *relay.Relay
	done   chan struct{}
}

// publish makes the run known, after a while and at the side.
func (s *Session) publish(o Options, process *child.Process, p plan.Plan, f host.Facts, lock *state.Lock, others *borrowed, ports []*relay.Published) *published {
	pub := &published{done: make(chan struct{}), ports: ports}
	pub.timer = time.AfterFunc(publishAfter, func() {
		pub.mu.Lock()
		defer pub.mu.Unlock()
		if pub.ended {
			return
		}
		child.UseProcessors()
		if err := pub.begin(s, o, process, p, f, lock, others); err != nil && !o.Throwaway {
			o.warn("other runs cannot share the layer with this one: %v", err)
		}
	})
	return pub
}

func (pub *published) begin(s *Session, o Options, process *child.Process, p plan.Plan, f host.Facts, lock *state.Lock, others *borrowed) error {
	lent, err := process.Lent()
	if err != nil {
		return nil // the sandbox has ended, which is told elsewhere
	}
	// First: the command may be waiting for it.
	ports := pub.ports
	pub.ports = nil
	if pub.relay, err = s.connect(o, process, p, f, lent, ports); err != nil {
		o.warn("the sandbox has no network: %v", err)
	}
	pub.lender = newLender(lent, p.Lent(), others)
	if pub.dir, err = s.Store.MakeRun(s.Run); err != nil {
		return err
	}
	if !o.NoLive {
		pub.live = s.watch(o, p, pub.lender)
	}
	pub.server, err = share.Serve(pub.dir.Path, s.describe(o, p), pub.now, pub.lender)
	if err != nil {
		return err
	}
	go func() {
		pub.server.Answer()
		close(pub.done)
	}()
	if lock.Live && !p.Brings() {
		return nil
	}
	// Not before: others must find all mounts of the layer, as they would make
	// those that they do not find.
	return lock.Share()
}

// around calls what stops this process, and continues it: meanwhile another run of the
// layer may watch the host's tree.
func (pub *published) around(stop func()) {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	for _, w := range pub.live {
		w.Suspend()
	}
	stop()
	for _, w := range pub.live {
		w.Resume()
	}
}

// end takes the run back, and lets go of its mounts. It says what was done.
func (pub *published) end() (sum outcome) {
	pub.timer.Stop()
	pub.mu.Lock()
	defer pub.mu.Unlock()
	pub.ended = true
	closePorts(pub.ports)
	if pub.relay != nil {
		sum.contacts = pub.relay.Close().Contacts()
	}
	if pub.server != nil {
		pub.server.Close()
		<-pub.done
	}
	for _, w := range pub.live {
		w.Stop()
		s := w.Status()
		sum.refreshes += s.Refreshes
		sum.mirrors += s.Mirrors
	}
	if pub.lender != nil {
		pub.lender.close()
	}
	pub.dir.Remove()
	return sum
}

// now is what is done to show what is edited on the host, and which ports are published.
func (pub *published) now(run *share.Run) {
	for _, w := range pub.live {
		run.Live = append(run.Live, w.Status())
	}
	if pub.relay != nil {
		run.Published = pub.relay.Published()
	}
}

// describe is what others learn of the run.
func (s *Session) describe(o Options, p plan.Plan) share.Run {
	terms, _ := json.Marshal(terms{Root: o.Root, AllowUserns: o.AllowUserns, IDs: p.SetsIDs(), Processes: o.Processes, Net: s.Policy.Network})
	return share.Run{
		ID: s.Run, PID: os.Getpid(), Tree: s.Tree.Root, Layer: s.Layer.Name, Command: o.Args, Dir: s.Policy.Dir, Started: s.started.Unix(),
		LayerDir: s.Layer.Dir, Uppers: p.Lent(), Protected: s.protected(), Policy: terms,
	}
}

// lender is what this run lends.
type lender struct {
	mu         sync.Mutex
	namespaces []int
	mounts     []int
	// owners are the user namespaces that own the mounts: this run's own, or that of
	// the run that the mount was borrowed from first.
	owners []int
	// ready are second copies of the mounts, -1 where there is none: to make them
	// takes as long as starting a run.
	ready  []int
	timer  *time.Timer
	closed bool
}

// readyAfter is when a run makes the first copies: one that lives for less is
// rarely asked.
const readyAfter = 200 * time.Millisecond

func newLender(lent *child.Lent, uppers []string, others *borrowed) *lender {
	l := &lender{namespaces: lent.Namespaces, mounts: lent.Mounts}
	for i := range l.mounts {
		l.ready = append(l.ready, -1)
		owner := lent.Namespaces[0]
		if j := slices.Index(others.uppers, uppers[i]); j >= 0 {
			owner = others.owners[j]
		}
		l.owners = append(l.owners, owner)
	}
	l.timer = time.AfterFunc(readyAfter, l.refill)
	return l
}

// refill makes the copies for the next one who asks.
func (l *lender) refill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.mounts {
		l.copy(i) // an error is told who asks
	}
}

// copy makes a copy of a mount, if there is none.
func (l *lender) copy(i int) error {
	if l.ready[i] >= 0 {
		return nil
	}
	if l.closed {
		return fmt.Errorf("the run ends")
	}
	two, err := child.Copies(l.namespaces[0], l.mounts[i], 2)
	if err != nil {
		return err
	}
	l.mounts[i], l.ready[i] = two[0], two[1]
	return nil
}

// Mounts gives copies, and keeps as many.
func (l *lender) Mounts() ([]int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var fds []int
	for i := range l.mounts {
		owner, err := unix.FcntlInt(uintptr(l.owners[i]), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			fds = append(fds, owner)
			err = l.copy(i)
		}
		if err != nil {
			child.CloseAll(fds)
			return nil, err
		}
		fds = append(fds, l.ready[i])
		l.ready[i] = -1
	}
	l.timer.Reset(0)
	return fds, nil
}

// Namespaces gives the namespaces.
func (l *lender) Namespaces() ([]int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return duplicate(l.namespaces...)
}

// duplicate gives other descriptors of the same files (F_DUPFD_CLOEXEC in fcntl(2)).
func duplicate(fds ...int) ([]int, error) {
	var list []int
	for _, fd := range fds {
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			child.CloseAll(list)
			return nil, err
		}
		list = append(list, fd)
	}
	return list, nil
}

func (l *lender) close() {
	l.timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	child.CloseAll(l.ready)
	child.CloseAll(l.namespaces)
	child.CloseAll(l.mounts)
}

// protected are the rules of this run that keep something from the build in a
// directory that runs share, as others learn of them. Without the same rule another
// run could unlink what it stands on, and with that unmount it.
func (s *Session) protected() []string {
	var list []string
	for _, r := range s.Policy.Rules {
		if r.Origin.Flag != "" && (r.Access == policy.Hidden || r.Access == policy.ReadOnly) && within(r.Target, s.Tree.Root, s.Policy.With) {
			rule := r.Access.String() + " "
			if r.Access == policy.ReadOnly {
				rule += strconv.Quote(r.Source) + " "
			}
			rule += r.Target
			if r.Dir {
				rule += "/"
			}
			list = append(list, rule)
		}
	}
	return list
}

// ProtectionError is a run that another one makes impossible.
type ProtectionError struct{ Rule, Run string }

func (e *ProtectionError) Error() string {
	return fmt.Sprintf("cannot run with the rule %q: the run %s has the layer without it, and could undo it", e.Rule, e.Run)
}

// Hint is a command that works.
func (e *ProtectionError) Hint() string { return "sbx --layer OTHER -- COMMAND" }

// agree makes the rules of this run those of the others as well. What others hide
// or show read-only it must, too; what it wants to, they must.
func (s *Session) agree(others []share.Run) (changed bool, err error) {
	own := s.protected()
	for _, run := range others {
		for _, rule := range own {
			if !slices.Contains(run.Protected, rule) {
				return false, &ProtectionError{rule, run.ID}
			}
		}
		for _, rule := range run.Protected {
			if slices.Contains(own, rule) {
				continue
			}
			access, target, _ := strings.Cut(rule, " ")
			r := policy.Rule{Target: strings.TrimSuffix(target, "/"), Dir: strings.HasSuffix(target, "/"), Origin: policy.Origin{Flag: "--" + access + " of the run " + run.ID}}
			if quoted, err := strconv.QuotedPrefix(target); err == nil && access == policy.ReadOnly.String() {
				r.Access, r.Target = policy.ReadOnly, strings.TrimPrefix(target[len(quoted):], " ")
				r.Source, _ = strconv.Unquote(quoted)
			}
			s.Policy.Rules = append(s.Policy.Rules, r)
			own = append(own, rule)
			changed = true
		}
	}
	return changed, nil
}
