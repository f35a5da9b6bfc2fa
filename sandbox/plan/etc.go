package plan

import (
	"fmt"
	"strings"

	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// etcFiles are the files of /etc that are the sandbox's own: they would name
// the host, its users or its resolver.
func (b *builder) etcFiles() []WriteFile {
	f := b.facts
	files := []WriteFile{
		{Path: "hostname", Data: hostname + "\n"},
		{Path: "hosts", Data: "127.0.0.1\tlocalhost " + hostname + "\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
		{Path: "machine-id", Data: machineID(b.layer)},
		{Path: "resolv.conf", Data: resolvConf(b.policy, f)},
	}
	if !f.UIDs.Single() {
		// Package managers look up the system's users, which are mapped.
		return withMode(files)
	}
	uid, gid := f.UID, f.GID
	if b.policy.Root {
		uid, gid = 0, 0
	}
	passwd := "root:x:0:0:root:" + rootHome(b.policy, uid) + ":/bin/sh\n"
	group := "root:x:0:\n"
	if uid != 0 {
		passwd += fmt.Sprintf("%s:x:%d:%d:%s:%s:%s\n", f.User, uid, gid, f.Gecos, field(b.policy.Home), f.Shell)
	}
	if gid != 0 {
		group += fmt.Sprintf("%s:x:%d:\n", f.Group, gid)
	}
	if uid != 65534 {
		passwd += "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	}
	if gid != 65534 {
		group += "nogroup:x:65534:\n"
	}
	return withMode(append(files, WriteFile{Path: "passwd", Data: passwd}, WriteFile{Path: "group", Data: group}))
}

// rootHome is /root, unless the caller is root inside: then it is the caller's.
func rootHome(p policy.Policy, uid uint32) string {
	if uid == 0 && p.Home != "" {
		return field(p.Home)
	}
	return "/root"
}

// field keeps a path from adding fields or lines to passwd(5).
func field(s string) string {
	if s == "" || strings.ContainsAny(s, ":\n") {
		return "/"
	}
	return s
}

func withMode(files []WriteFile) []WriteFile {
	for i := range files {
		files[i].Mode = 0o644
	}
	return files
}

// etcLayer fills the layer that lies over the host's /etc: files of the
// sandbox's own, whiteouts for secrets, and mount points for rules below /etc,
// which the read-only overlay could not take later.
func (b *builder) etcLayer(dir string, mounts []mount) {
	b.mkdir(dir, 0o755)
	for _, w := range b.etcFiles() {
		w.Path = dir + "/" + w.Path
		b.add(w)
	}
	for _, w := range b.etcConf(mounts) {
		w.Path = dir + "/" + w.Path
		b.mkdir(parent(w.Path), 0o755)
		b.add(w)
	}
	for _, name := range b.facts.EtcSecrets {
		if asked(mounts, "/etc/"+name) {
			continue
		}
		b.mkdir(parent(dir+"/"+name), 0o755)
		b.add(Whiteout{Path: dir + "/" + name})
	}
	for _, m := range mounts {
		if !policy.Below(m.path, "/etc") {
			continue
		}
		at := dir + strings.TrimPrefix(m.path, "/etc")
		b.mkdir(parent(at), 0o755)
		if m.dir {
			b.mkdir(at, 0o755)
		} else {
			b.add(WriteFile{Path: at, Mode: 0o644})
		}
	}
}

// asked says whether a rule shows path or something below it.
func asked(mounts []mount, path string) bool {
	for _, m := range mounts {
		if m.kind != maskMount && (m.path == path || policy.Below(m.path, path)) {
			return true
		}
	}
	return false
}

// etc mounts /etc: the layer over the host's, or, where overlayfs refuses the
// host's because of mounts below it, a directory with a bind for each entry.
func (b *builder) etc(mounts []mount) {
	if !b.facts.EtcMounts {
		b.add(Overlay{Lower: []string{Scratch + "/etc", "/etc"}, Place: Place{Path: "/etc", Dir: true}})
		return
	}
	b.mkdir("/etc", 0o755)
	own := map[string]bool{}
	for _, w := range b.etcFiles() {
		own[w.Path] = true
		w.Path = "/etc/" + w.Path
		b.add(w)
	}
	for _, w := range b.etcConf(mounts) {
		if !strings.Contains(w.Path, "/") {
			own[w.Path] = true
			w.Path = "/etc/" + w.Path
			b.add(w)
		}
	}
	secrets := map[string]bool{}
	for _, s := range b.facts.EtcSecrets {
		secrets[s] = true
	}
	for _, e := range b.facts.Etc {
		at := Place{Path: "/etc/" + e.Name, Dir: e.Kind == host.Dir}
		switch {
		case own[e.Name] || secrets[e.Name]:
		case e.Kind == host.Symlink:
			b.add(Symlink{Place: at, Target: e.Link})
		case e.Kind == host.Dir:
			b.mkdir(at.Path, 0o755)
			b.add(Bind{Source: at.Path, System: true, ReadOnly: true, Fleeting: true, Place: at})
		case e.Kind == host.File:
			b.add(WriteFile{Path: at.Path, Mode: 0o644}, Bind{Source: at.Path, System: true, ReadOnly: true, Fleeting: true, Place: at})
		}
	}
	// What lies below a directory that is bound is replaced and hidden there.
	for _, w := range b.etcConf(mounts) {
		if dir, _, below := strings.Cut(w.Path, "/"); below {
			b.add(Bind{Source: confFile(w.Path), System: true, ReadOnly: true, Place: Place{Path: "/etc/" + w.Path, Ground: "/etc/" + dir}})
		}
	}
	for _, s := range b.facts.EtcSecrets {
		if strings.Contains(s, "/") {
			b.add(Mask{Place: Place{Path: "/etc/" + s, Ground: "/etc/" + s[:strings.IndexByte(s, '/')], Dir: b.facts.Targets["/etc/"+s] == host.Dir}})
		}
	}
}
