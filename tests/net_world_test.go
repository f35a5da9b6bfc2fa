package tests

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// world is a small internet: a network namespace for a host, on which sbx runs, and
// another for all the rest, with the addresses of whoever a test needs.
//
//	host                                wan
//	10.77.0.2, fd00:77::2  ──veth──  10.77.0.1, fd00:77::1   the router, which is a neighbour
//	                                 10.77.0.53              the name server
//	                                 93.184.216.N, 2600:1::N public servers
//	                                 10.1.2.3, 100.64.1.1, 169.254.169.254 …
//
// Only root can make it. Ordinary users have the machine's own addresses as the
// servers', which they allow by name.
type world struct {
	t         testing.TB
	a         account
	tree      string
	host, wan int // namespaces; -1 where there are none
	v4, v6    netip.Addr
	// allow are the flags by which v4 and v6 are reached.
	allow      []string
	dir        string // with files for the host's /etc
	hosts      string
	verdict    chan string // of servers that cannot tell the client
	device     string      // tun; closed or missing, where its node cannot be opened
	resolvConf string
}

const (
	routerAddr, resolverAddr = "10.77.0.1", "10.77.0.53"
	blackhole                = "93.184.216.99" // takes packets, and answers none
	noHost, noNet            = "93.184.216.98", "8.8.8.8"
	noNet6                   = "2600:2::1"
)

// newWorld makes one of root's. Its account has an armed tree.
func newWorld(t testing.TB) *world {
	t.Helper()
	needRoot(t)
	needUserNS(t)
	needTool(t, "ip", "nsenter", "unshare", "setpriv")
	w := &world{t: t, a: newAccount(t), verdict: make(chan string, 100), device: "tun"}
	w.host, w.wan = newNetns(t), newNetns(t)
	w.v4, w.v6 = netip.MustParseAddr("93.184.216.1"), netip.MustParseAddr("2600:1::1")
	path := func(fd int) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd) }
	w.ip(w.wan, "link set lo up", "link add w0 type veth peer name h0 netns "+path(w.host))
	var wan []string
	for _, a := range []string{"10.77.0.1/24", "10.77.0.53/24", "10.77.0.9/24", "fd00:77::1/64 nodad"} {
		wan = append(wan, "addr add "+a+" dev w0")
	}
	for n := 1; n <= 40; n++ {
		wan = append(wan, fmt.Sprintf("addr add 93.184.216.%d/32 dev lo", n), fmt.Sprintf("addr add 2600:1::%x/128 dev lo nodad", n))
	}
	for _, a := range []string{"10.1.2.3/32", "100.64.1.1/32", "169.254.169.254/32", "172.16.1.1/32", "192.168.1.1/32", "198.51.100.1/32", "fd00:88::1/128 nodad"} {
		wan = append(wan, "addr add "+a+" dev lo")
	}
	w.ip(w.wan, append(wan, "link set w0 up", "route add blackhole "+blackhole, "route add unreachable "+noHost)...)
	w.ip(w.host, "link set lo up", "addr add 10.77.0.2/24 dev h0", "addr add fd00:77::2/64 dev h0 nodad", "link set h0 up",
		"route add default via "+routerAddr, "-6 route add default via fd00:77::1")
	w.in(w.wan, func() {
		os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
		os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0)
		os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0)
		os.WriteFile("/proc/sys/net/ipv6/icmp/ratelimit", []byte("0"), 0)
	})
	w.dir = tempDir(t)
	w.resolvConf, w.hosts = "nameserver "+resolverAddr+"\noptions timeout:1 attempts:1\n", "127.0.0.1 localhost\n"
	w.newTree()
	return w
}

// anyWorld is newWorld, or that of an ordinary user.
func anyWorld(t testing.TB) *world {
	t.Helper()
	if os.Getuid() == 0 {
		return newWorld(t)
	}
	needUserNS(t)
	w := &world{t: t, a: newAccount(t), host: -1, wan: -1, verdict: make(chan string, 100), device: "tun"}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		switch {
		case err != nil || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast():
		case p.Addr().Is4() && !w.v4.IsValid():
			w.v4 = p.Addr()
		case p.Addr().Is6() && !w.v6.IsValid():
			w.v6 = p.Addr()
		}
	}
	if !w.v4.IsValid() {
		missing(t, "this machine has no address but loopback")
	}
	for _, a := range []netip.Addr{w.v4, w.v6} {
		if a.IsValid() {
			w.allow = append(w.allow, "--net-allow", a.String())
		}
	}
	w.newTree()
	return w
}

func (w *world) newTree() {
	w.tree = w.a.tree(w.t, nil)
	for _, program := range []string{victimPath, callerPath} {
		data, err := os.ReadFile(program)
		if err == nil {
			err = os.WriteFile(filepath.Join(w.tree, filepath.Base(program)), data, 0o755)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.a.mkTree(w.t, w.tree, nil)
}

// newNetns makes a network namespace, and gives a descriptor of it.
func newNetns(t testing.TB) int {
	t.Helper()
	made := make(chan int)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		fd := -1
		if unix.Unshare(unix.CLONE_NEWNET) == nil {
			fd, _ = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
		}
		made <- fd
	}()
	fd := <-made
	if fd < 0 {
		missing(t, "cannot make a network namespace")
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// in calls f in a network namespace.
func (w *world) in(ns int, f func()) {
	if ns < 0 {
		f()
		return
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(ns, unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

// ip runs ip(8) in a namespace.
func (w *world) ip(ns int, lines ...string) {
	w.t.Helper()
	for _, family := range []string{"-4", "-6"} {
		var batch strings.Builder
		for _, line := range lines {
			rest, six := strings.CutPrefix(line, "-6 ")
			if six == (family == "-6") {
				batch.WriteString(rest + "\n")
			}
		}
		if batch.Len() == 0 {
			continue
		}
		args := []string{"--net=/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(ns), "ip"}
		if family == "-6" {
			args = append(args, family)
		}
		cmd := exec.Command("nsenter", append(args, "-batch", "-")...)
		cmd.Stdin = strings.NewReader(batch.String())
		if text, err := cmd.CombinedOutput(); err != nil {
			w.t.Fatalf("ip: %v\n%s%s", err, text, batch.String())
		}
	}
}

// enter gives files of /etc and devices their place, then runs the rest as the account.
const enter = `set -e
dir=$1 device=$2 uid=$3 gid=$4; shift 4
mount --make-rprivate /
for f in resolv.conf hosts; do mount --bind $dir/$f "$(readlink -f /etc/$f)"; done
mount -t tmpfs -o mode=755 tmpfs /dev/net
if [ $device = tun ]; then mknod -m 666 /dev/net/tun c 10 200; fi
if [ $device = closed ]; then mknod -m 600 /dev/net/tun c 10 200; fi
exec setpriv --reuid=$uid --regid=$gid --clear-groups "$@"`

// command prepares a program that runs on the host, as the account.
func (w *world) command(env []string, args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := w.a.command(w.tree, env, args[0], args[1:]...)
	if w.host < 0 {
		return cmd
	}
	for name, text := range map[string]string{"resolv.conf": w.resolvConf, "hosts": w.hosts} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	ns := fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), w.host)
	all := []string{ns, "unshare", "--mount", "sh", "-c", enter, "sh", w.dir, w.device, strconv.Itoa(w.a.UID), strconv.Itoa(w.a.GID)}
	wrapped := w.a.command(w.tree, env, "nsenter", append(all, args...)...)
	wrapped.SysProcAttr.Credential = nil
	return wrapped
}

// sbx runs sbx on the host, with the flags that allow the servers.
func (w *world) sbx(args ...string) result {
	w.t.Helper()
	return w.sbxEnv(nil, args...)
}

func (w *world) sbxEnv(env []string, args ...string) result {
	w.t.Helper()
	return finish(w.t, w.command(env, append([]string{sbxPath}, args...)...))
}

// inside runs what the caller does, in the sandbox.
func (w *world) inside(t *testing.T, flags []string, calls ...string) outcomes {
	t.Helper()
	args := append(append([]string{}, flags...), "--", "./caller")
	return parse(t, w.sbx(append(args, calls...)...), calls)
}

// victim runs attacks in the sandbox, and control on the host.
func (w *world) victim(t *testing.T, flags []string, attacks ...string) outcomes {
	t.Helper()
	args := append(append([]string{}, flags...), "--", "./victim")
	return parse(t, w.sbx(append(args, attacks...)...), attacks)
}

func (w *world) control(t *testing.T, program string, calls ...string) outcomes {
	t.Helper()
	return parse(t, finish(t, w.command(nil, append([]string{"./" + program}, calls...)...)), calls)
}

// devices calls f for each way in which the sandbox can have an interface: the ordinary
// user takes what there is.
func (w *world) devices(t *testing.T, f func(t *testing.T)) {
	if w.host < 0 {
		f(t)
		return
	}
	for _, device := range []string{"tun", "closed"} {
		name := map[string]string{"tun": "tun", "closed": "veth"}[device]
		t.Run(name, func(t *testing.T) {
			w.device = device
			f(t)
		})
	}
}

// all demands that everything was done.
func (o outcomes) all(t *testing.T) {
	t.Helper()
	for call, got := range o {
		if got != "done" && !strings.HasPrefix(got, "done ") {
			t.Errorf("%q ends with %q", call, got)
		}
	}
}

// contact is what the record of a run says of a host.
type contact struct {
	Name, Address, Protocol string
	Port                    int
	Up, Down                int64
	Connections             int
	Denied, Fix             string
}

// contacts are those of the last run.
func (w *world) contacts(t *testing.T) []contact {
	t.Helper()
	r := w.sbx("log", "--json", "last")
	var record struct{ Network []contact }
	if err := json.Unmarshal([]byte(r.Stdout), &record); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	return record.Network
}

// find is the entry for a name or address, and a port.
func find(list []contact, host string, port int) *contact {
	for i, c := range list {
		if (c.Name == host || c.Address == host) && c.Port == port {
			return &list[i]
		}
	}
	return nil
}
