package tests

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// listing is a directory: for each path its type, mode and content.
type listing map[string]string

// list reads a tar of the working directory, which a command writes; that
// directory's own mode and .git are left out.
func list(t *testing.T, out string) listing {
	t.Helper()
	l := listing{}
	for r := tar.NewReader(strings.NewReader(out)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return l
		}
		if err != nil {
			t.Fatalf("cannot read the listing: %v", err)
		}
		name := path.Clean(h.Name)
		if name == "." || name == ".git" || strings.HasPrefix(name, ".git/") {
			continue
		}
		var data bytes.Buffer
		io.Copy(&data, r)
		mode := fmt.Sprintf("%o", h.Mode&0o7777)
		if h.Typeflag == tar.TypeSymlink {
			mode = ""
		}
		l[name] = fmt.Sprintf("%c %s %q %q", h.Typeflag, mode, h.Linkname, data.String())
	}
}

var tarArgs = []string{"tar", "-c", "--format=pax", "--hard-dereference", "-f", "-", "."}

func (a account) listHost(t *testing.T, dir string) listing {
	t.Helper()
	r := finish(t, a.command(dir, nil, tarArgs[0], tarArgs[1:]...))
	if r.Status > 1 { // 1: the time of an overlay's directory changed meanwhile
		t.Fatalf("tar: %s", r.Stderr)
	}
	return list(t, r.Stdout)
}

func (a account) listInside(t *testing.T, dir string) listing {
	t.Helper()
	r := a.sbx(t, dir, append([]string{"--"}, tarArgs...)...)
	if r.Status > 1 {
		t.Fatalf("tar inside: %s", r.Stderr)
	}
	return list(t, r.Stdout)
}

// randomTree is a tree on the host to which as much has been done.
func (a account) randomTree(t *testing.T, r *rand.Rand) string {
	t.Helper()
	tree := a.tree(t, map[string]string{".git/HEAD": "ref: refs/heads/main\n", "a/a": "1\n", "a/b/x.c": "22\n", "b": "1\n", "é/c d/a": "", "x.c": "old\n"})
	if got := finish(t, a.command(tree, nil, "sh", "-c", randomOps(r, 30))); got.Status != 0 {
		t.Fatal(got)
	}
	return tree
}

// randomOps is a shell script of random operations; some fail, which is as good.
func randomOps(r *rand.Rand, n int) string {
	names := []string{"a", "b", "a-b", "c d", "x.c", "é"}
	file := func() string {
		p := names[r.IntN(len(names))]
		for range r.IntN(3) {
			p += "/" + names[r.IntN(len(names))]
		}
		return "'" + p + "'"
	}
	var b strings.Builder
	for range n {
		f, g := file(), file()
		op := []string{
			"echo 1 >" + f, "echo 22 >" + f, "echo more >>" + f, "truncate -s 0 " + f, "truncate -s 3 " + f,
			"mkdir " + f, "mkdir -p " + f, "mv " + f + " " + g, "mv -T " + f + " " + g, "rm " + f, "rm -rf " + f, "rmdir " + f,
			"rm -rf " + f + "; mkdir " + f, "rm -rf " + f + "; echo file >" + f, "rm -rf " + f + "; ln -s a " + f,
			"ln " + f + " " + g, "ln -s ../b " + f, "test -d " + f + " || chmod 600 " + f, "chmod 755 " + f, "chmod 4711 " + f, "touch -d 2001-01-01 " + f,
			"mkfifo pipe", "mv pipe a/pipe", "rm a/pipe", "cp -a " + f + " " + g, "cp " + f + " tmp && cat tmp >" + f + "; rm -f tmp",
			"setfattr -n user.x -v y " + f, "setfattr -n user.overlay.opaque -v y " + f, "find " + f + " -type f -exec sh -c 'echo x >\"$0\"' {} \\;",
		}
		fmt.Fprintf(&b, "{ %s; } 2>/dev/null || :\n", op[r.IntN(len(op))])
	}
	return b.String()
}

// Whatever builds do, status names exactly the difference between the host's
// tree and what the next run sees, and the host's tree has not changed.
func TestOverlayProperty(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	git, _ := exec.LookPath("git")
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			r := rand.New(rand.NewPCG(seed, 11))
			tree := a.randomTree(t, r)
			for round := range 3 {
				script := randomOps(r, 25)
				host := a.listHost(t, tree)
				if got := a.sbx(t, tree, "--", "sh", "-c", script); got.Status != 0 {
					t.Fatal(got)
				}
				if now := a.listHost(t, tree); !equal(host, now) {
					t.Fatalf("round %d: the host's tree has changed", round)
				}
				inside := a.listInside(t, tree)
				got := a.sbx(t, tree, "status", "--all", "-z")
				if got.Status != 0 || got.Stderr != "" {
					t.Fatal(got)
				}
				if want, said := expected(host, inside), said(t, got.Stdout, host); !slices.Equal(said, want) {
					t.Fatalf("round %d: status says\n%q\nwant\n%q\nafter\n%s", round, said, want, script)
				}
				if git != "" {
					a.applies(t, tree, inside)
				}
			}
		})
	}
}

func equal(a, b listing) bool { return len(expected(a, b)) == 0 }

// expected is the difference of two listings as letters.
func expected(host, layer listing) []string {
	var list []string
	for p, h := range host {
		l, ok := layer[p]
		hw, lw := strings.SplitN(h, " ", 3), strings.SplitN(l, " ", 3)
		switch {
		case !ok:
			list = append(list, "D "+p)
		case h == l:
		case hw[0] != lw[0]:
			list = append(list, "T "+p)
		case hw[2] == lw[2]:
			list = append(list, "P "+p)
		default:
			list = append(list, "M "+p)
		}
	}
	for p := range layer {
		if _, ok := host[p]; !ok {
			list = append(list, "A "+p)
		}
	}
	slices.Sort(list)
	return list
}

// said is what status says, with what is in deleted directories named too.
func said(t *testing.T, out string, host listing) []string {
	t.Helper()
	var list []string
	for rec := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if rec == "" {
			continue
		}
		f := strings.SplitN(rec, " ", 6)
		if len(f) != 6 {
			t.Fatalf("%q has no six words", rec)
		}
		p := strings.TrimSuffix(f[5], "/")
		list = append(list, f[0]+" "+p)
		if f[0] == "D" || f[0] == "T" {
			for h := range host {
				if strings.HasPrefix(h, p+"/") {
					if f[0] == "D" || f[2] != "d" {
						list = append(list, "D "+h)
					}
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// applies checks that the diff makes a copy of the host's tree into what the
// sandbox sees, as far as git goes: files, symlinks and their executable bit.
func (a account) applies(t *testing.T, tree string, inside listing) {
	t.Helper()
	patch := a.sbx(t, tree, "diff", "--binary")
	if patch.Status != 0 || patch.Stderr != "" {
		t.Fatal(patch)
	}
	if !strings.Contains(patch.Stdout, "diff --git ") {
		return
	}
	dir := a.dir(t)
	cmd := a.command(dir, []string{"SRC=" + tree}, "sh", "-c", `cp -a "$SRC/." . && rm -rf .git && find . -type p -delete && find . -mindepth 1 -type d -empty -delete && git init -q . && git apply --whitespace=nowarn - && rm -rf .git`)
	cmd.Stdin = strings.NewReader(patch.Stdout)
	if got := finish(t, cmd); got.Status != 0 {
		t.Fatalf("git apply: %v\n%s", got, patch.Stdout)
	}
	files := func(l listing) []string {
		var list []string
		for p, is := range l {
			w := strings.SplitN(is, " ", 3)
			if w[0] != "0" && w[0] != "2" {
				continue
			}
			exec := len(w[1]) > 2 && (w[1][len(w[1])-3]-'0')&1 == 1
			list = append(list, fmt.Sprint(p, " ", w[0], exec, w[2]))
		}
		slices.Sort(list)
		return list
	}
	if got, want := files(a.listHost(t, dir)), files(inside); !slices.Equal(got, want) {
		t.Errorf("the patch makes\n%q\nwant\n%q\n%s", got, want, patch.Stdout)
	}
}
