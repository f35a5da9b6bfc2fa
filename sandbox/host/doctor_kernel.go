package host

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// minimumKernel has all that the child calls, mount_setattr(2) being the
// youngest, and counts RLIMIT_NPROC per user namespace.
const minimumKernel = "5.14"

// newEnough compares the kernel with minimumKernel. A release that cannot be
// read counts as new.
func (m Machine) newEnough() bool {
	have, ok := version(m.Release)
	want, _ := version(minimumKernel)
	return !ok || have[0] > want[0] || have[0] == want[0] && have[1] >= want[1]
}

func version(release string) (v [2]int, ok bool) {
	for i, word := range strings.SplitN(release, ".", 3) {
		if i == len(v) {
			break
		}
		end := strings.IndexFunc(word, func(r rune) bool { return r < '0' || r > '9' })
		if end >= 0 {
			word = word[:end]
		}
		n, err := strconv.Atoi(word)
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

func (m Machine) kernel() Check {
	c := Check{Name: "kernel", Status: OK, Detail: fmt.Sprintf("Linux %s (%s or newer is needed)", m.Release, minimumKernel)}
	if !m.newEnough() {
		// What it lacks, the trials show.
		c.Status = Warn
	}
	return c
}

// surroundings is the check for a container around us.
func (m Machine) surroundings(t Trials) Check {
	c := Check{Name: "container", Status: OK, Detail: "none is noticed"}
	var found []string
	if m.Inside {
		found = append(found, "this is the inside of a sandbox of sbx")
	}
	if m.Container != "" {
		found = append(found, "this looks like a container of "+m.Container)
	}
	if m.Nested {
		found = append(found, "the user namespace is not the first one")
	}
	if m.Filtered {
		found = append(found, "a system call filter is in force")
	}
	if m.Chroot {
		found = append(found, "the root directory was changed by chroot(2)")
	}
	if len(m.ProcMounts) > 0 {
		found = append(found, "parts of /proc are covered: "+brief(m.ProcMounts))
	}
	if found == nil {
		return c
	}
	c.Status, c.Detail = Info, strings.Join(found, "; ")
	return c
}

// brief is a list of at most four.
func brief(list []string) string {
	if len(list) > 4 {
		return strings.Join(list[:4], " ") + fmt.Sprintf(" and %d more", len(list)-4)
	}
	return strings.Join(list, " ")
}

// aboutProc tells why no new proc could be mounted. The kernel gives a user
// namespace a new one only where one is in sight that is not covered anywhere
// (fs/namespace.c:mount_too_revealing).
func (m Machine) aboutProc(errno syscall.Errno) []advice {
	if errno != syscall.EPERM || len(m.ProcMounts) == 0 || m.Inside {
		return m.aboutPowers()
	}
	why := "covered are " + brief(m.ProcMounts)
	if m.Container == "" && !m.Nested {
		fix := m.sudo() + "umount"
		for _, p := range m.ProcMounts {
			fix += " " + shellWord(p)
		}
		return []advice{{why, fix}}
	}
	return []advice{m.container(why)}
}

// sysfs is not needed: a run goes without where it is refused.
func (m Machine) sysfs(t Trials) Check {
	c := Check{Name: "sysfs", Detail: "a new one can be mounted"}
	if c.tried(t.Sysfs) {
		return c
	}
	c.Status, c.Detail = Warn, "no new one can be mounted: /sys is empty in the sandbox"
	if a := m.container(""); m.Container != "" {
		c.Fix = a.fix
	}
	return c
}

// etc tells how the sandbox's /etc is made.
func (m Machine) etc() Check {
	c := Check{Name: "etc", Status: OK, Detail: "nothing is mounted below /etc"}
	if len(m.EtcMounts) > 0 {
		c.Status = Info
		c.Detail = "something is mounted below /etc, so its entries are shown one by one: " + brief(m.EtcMounts)
	}
	return c
}

// landlock needs ABI 6 for what sbx wants of it (landlock(7)).
func (m Machine) landlock(t Trials) Check {
	c := Check{Name: "landlock", Detail: fmt.Sprintf("ABI %d, with scopes for signals and abstract sockets", m.Landlock)}
	switch {
	case m.Landlock == 0:
		c.Status, c.Detail = Info, "not enabled; with --net=host the build can reach the abstract sockets of the host"
	case m.Landlock < 6:
		c.Status, c.Detail = Info, fmt.Sprintf("ABI %d, without scopes (ABI 6, Linux 6.12); with --net=host the build can reach the abstract sockets of the host", m.Landlock)
	case !c.tried(t.Scope):
		return c.fail(t.Scope, m.adviseOn(t.Scope))
	}
	return c
}

// tun is for a network inside that has a way out; no run needs it yet.
func (m Machine) tun() Check {
	c := Check{Name: "tun", Status: OK, Detail: "/dev/net/tun can be opened"}
	if m.TUN == nil {
		return c
	}
	c.Status = Info
	c.Detail = fmt.Sprintf("/dev/net/tun cannot be opened: %v; a veth pair takes its place, which is a little slower", m.TUN)
	if !m.Inside {
		c.Fix = m.openTUN()
	}
	return c
}

// openTUN is a command after which /dev/net/tun can be opened.
func (m Machine) openTUN() string {
	switch {
	case errors.Is(m.TUN, syscall.EACCES), errors.Is(m.TUN, syscall.EPERM):
		return m.sudo() + "chmod 0666 /dev/net/tun"
	case m.Container == "docker", m.Container == "podman":
		return m.Container + " run --device /dev/net/tun IMAGE COMMAND"
	}
	return m.sudo() + "modprobe tun"
}

// network is about the interface of the sandbox.
func (m Machine) network(t Trials) Check {
	c := Check{Name: "network", Detail: "an interface can be made, by which sbx relays connections"}
	if m.TUN != nil {
		c.Detail += " (veth)"
	}
	if c.tried(t.Interface) {
		return c
	}
	a := m.aboutInterface()[0]
	c = c.fail(t.Interface, a)
	c.Status = Warn // runs without a network work
	return c
}

// aboutInterface is for when neither kind of interface can be made.
func (m Machine) aboutInterface() []advice {
	without := advice{"runs without a network", "sbx --net none -- COMMAND"}
	if m.TUN == nil {
		return []advice{without}
	}
	return []advice{{"then a TUN device is used", m.openTUN()}, without}
}
