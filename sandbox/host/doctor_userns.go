package host

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// The sysctls that decide whether a user may have a user namespace.
const (
	sysctlClone    = "kernel.unprivileged_userns_clone"
	sysctlAppArmor = "kernel.apparmor_restrict_unprivileged_userns"
	sysctlUsers    = "user.max_user_namespaces"
)

// aboutClone tells why clone(2) made no namespaces.
func (m Machine) aboutClone(errno syscall.Errno) []advice {
	switch errno {
	case syscall.ENOSPC, syscall.EUSERS:
		return m.aboutLimits()
	case syscall.EAGAIN:
		return []advice{{"the limit on processes is reached: RLIMIT_NPROC of this user, or pids.max of the cgroup", "ulimit -u; cat /sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup | tail -1)/pids.max"}}
	case syscall.ENOMEM:
		return []advice{{"the memory, or the limit of the cgroup on it, is used up", "free -m"}}
	case syscall.EINVAL:
		return []advice{{"the kernel was built without one of the namespaces", `zcat /proc/config.gz | grep -E 'CONFIG_(USER|PID|NET|UTS|IPC)_NS|CONFIG_CGROUPS='`}}
	case syscall.ENOSYS:
		return []advice{m.container("a system call filter refuses clone(2)")}
	case syscall.EPERM, syscall.EACCES:
		if v, ok := m.Sysctls[sysctlClone]; ok && v == 0 && m.UID != 0 {
			return []advice{m.set(sysctlClone, 1, sysctlClone+" is 0: only root may create user namespaces")}
		}
		if m.Chroot || !m.Inside && !m.policed() {
			return []advice{{why: "after chroot(2) the kernel allows no user namespaces; enter the directory with pivot_root(2), as containers do"}}
		}
		return m.aboutPowers()
	}
	return []advice{m.doctor()}
}

// aboutLimits tells which limit on namespaces is reached. Limits are per user
// and user namespace, and those of all the namespaces around count as well
// (namespaces(7)).
func (m Machine) aboutLimits() []advice {
	var list []advice
	for _, name := range sysctlNames {
		if v, ok := m.Sysctls[name]; ok && v == 0 && strings.HasPrefix(name, "user.max_") {
			kind := strings.TrimSuffix(strings.TrimPrefix(name, "user.max_"), "_namespaces")
			list = append(list, m.set(name, 15000, fmt.Sprintf("%s is 0: no %s namespace may be created", name, kind)))
		}
	}
	if list == nil && m.Nested {
		list = append(list, advice{"a user namespace around this one allows no more namespaces", "sysctl user.max_user_namespaces   (on the host)"})
	}
	if list == nil {
		list = append(list, m.set(sysctlUsers, 2*max(m.Sysctls[sysctlUsers], 7500), "all user namespaces that this user may have are in use"))
	}
	return list
}

// aboutMaps tells why the id maps could not be written, user_namespaces(7).
func (m Machine) aboutMaps(errno syscall.Errno) []advice {
	if m.UID == 0 && slices.Contains(m.Missing, "cap_setfcap") && errno == syscall.EPERM {
		a := m.container("root without cap_setfcap may not map uid 0")
		if m.Container == "" {
			a = advice{"root without cap_setfcap may not map uid 0: this process was started with a smaller bounding set", "capsh --print"}
		}
		return []advice{a}
	}
	return m.aboutPowers()
}

// aboutPowers is for the namespaces that were made, or refused, for a reason
// that only a security module or a filter can have: the first mount or map
// gives EPERM or EACCES.
func (m Machine) aboutPowers() []advice {
	switch {
	case m.Inside:
		return []advice{{why: "this is the inside of a sandbox already, where sbx cannot run: leave the sbx away"}}
	case m.UID != 0 && m.restricted():
		return []advice{m.profile("AppArmor lets programs without a profile create user namespaces but not use them")}
	case m.Container != "" || m.Filtered:
		return []advice{m.container("the container forbids to create user namespaces, or to mount in them")}
	case m.AppArmor != "" && m.AppArmor != "unconfined":
		return []advice{{fmt.Sprintf("AppArmor confines this process with the profile %q", m.AppArmor), "sudo journalctl -k | grep apparmor.*DENIED"}}
	case m.SELinux:
		return []advice{{"SELinux may forbid user namespaces or mounts", "sudo ausearch -m avc -ts recent"}}
	}
	return []advice{m.doctor()}
}

// policed says that a security module or a filter could have refused a call.
// Where there is none, the reasons of clone(2) for EPERM are left: chroot(2).
func (m Machine) policed() bool {
	return m.Filtered || m.SELinux || m.restricted() || m.AppArmor != "" && m.AppArmor != "unconfined"
}

// restricted says that AppArmor takes the capabilities away from a user
// namespace of a program that has no profile (Ubuntu 23.10 and later).
func (m Machine) restricted() bool { return m.Sysctls[sysctlAppArmor] == 1 }

// profile gives sbx a profile of its own, under its own path: what runs in the
// new user namespace has executed nothing else yet.
func (m Machine) profile(why string) advice {
	const file = "/etc/apparmor.d/sbx"
	fix := "printf '%s\\n'"
	for line := range strings.Lines(profileText(m.Executable)) {
		fix += " " + shellQuote(strings.TrimSuffix(line, "\n"))
	}
	fix += fmt.Sprintf(" | %stee %s && %sapparmor_parser -r %s", m.sudo(), file, m.sudo(), file)
	return advice{why, fix}
}

// profileText is the profile in the language of apparmor.d(5): all is allowed,
// user namespaces included.
func profileText(executable string) string {
	return "abi <abi/4.0>,\ninclude <tunables/global>\nprofile sbx " + attachment(executable) + " flags=(unconfined) { userns, }\n"
}

// attachment writes a path for apparmor.d(5), where some bytes make a pattern.
func attachment(path string) string {
	var b strings.Builder
	for i := range len(path) {
		if strings.IndexByte(`*?[]{}^,"\@`, path[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(path[i])
	}
	return `"` + b.String() + `"`
}

// set changes a sysctl now and for good.
func (m Machine) set(name string, value int64, why string) advice {
	file := "/etc/sysctl.d/60-sbx-" + name[strings.LastIndexByte(name, '.')+1:] + ".conf"
	fix := fmt.Sprintf("echo '%s = %d' | %stee %s && %ssysctl -p %s", name, value, m.sudo(), file, m.sudo(), file)
	if m.Container != "" {
		why += "; on the host of the container"
	}
	return advice{why, fix}
}

// raise is set for a limit that has a value.
func (m Machine) raise(name string, value int64, why string) advice {
	if v, ok := m.Sysctls[name]; ok {
		why = fmt.Sprintf("%s: %s is %d", why, name, v)
		value = max(value, 2*v)
	}
	return m.set(name, value, why)
}

func (m Machine) sudo() string {
	if m.UID == 0 {
		return ""
	}
	return "sudo "
}

// container tells how the container that we are in is started so that it
// allows a sandbox.
func (m Machine) container(why string) advice {
	const filters = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
	switch m.Container {
	case "docker":
		return advice{why, "docker run " + filters + " IMAGE COMMAND"}
	case "podman":
		return advice{why, "podman run --security-opt unmask=ALL IMAGE COMMAND"}
	case "kubernetes":
		return advice{why + "; put this into the pod's spec", "spec: {hostUsers: false, containers: [{securityContext: {procMount: Unmasked, seccompProfile: {type: Unconfined}}}]}"}
	case "lxc":
		return advice{why, "lxc config set NAME security.nesting true   (on the host)"}
	case "flatpak":
		return advice{why, "flatpak-spawn --host sbx -- COMMAND"}
	case "":
		return advice{why: why}
	}
	return advice{why: fmt.Sprintf("%s; it is run by %s, whose settings decide", why, m.Container)}
}

// shellQuote quotes for sh(1), always.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
