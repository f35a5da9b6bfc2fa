package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/state"
)

func TestWriteAnswers(t *testing.T) {
	var b bytes.Buffer
	err := writeAnswers(&b, []sandbox.Answer{
		{Subject: "a\x1b[1m", Text: "hidden"},
		{Subject: "~/my key", Text: "not in the sandbox", Purpose: "show it", Flags: []string{"--ro", "~/my key"}},
	})
	want := `a\x1b[1m: hidden
~/my key: not in the sandbox
to show it: sbx --ro '~/my key' -- COMMAND
`
	if got := b.String(); got != want || err != nil {
		t.Errorf("got %v\n%swant\n%s", err, got, want)
	}
}

// The real thing, on a home and a layer as runs leave them.
func TestWhy(t *testing.T) {
	c := newCaller(t)
	layer := state.Store{Root: c.state}.Tree(c.tree).Layer("default")
	for path, text := range map[string]string{
		c.home + "/.ssh/id_rsa":       "key",
		c.home + "/go/pkg/mod/x":      "",
		c.home + "/sdk/go/bin/gofmt":  "",
		c.tree + "/x.c":               "",
		c.tree + "/gone.c":            "",
		c.tree + "/own.c":             "host",
		c.tree + "/dir/f":             "",
		layer.Upper() + "/own.c":      "layer",
		layer.Upper() + "/new.o":      "",
		layer.Dir + "/home/.bash_rc":  "",
		c.home + "/tools/bin/mytool":  "#!/bin/sh\n",
		c.home + "/tools/etc/private": "",
	} {
		write(t, path, text)
	}
	if err := os.Chmod(c.home+"/tools/bin/mytool", 0o755); err != nil {
		t.Fatal(err)
	}
	// A build has made dir a link to what it would like to be told about.
	if err := os.Symlink(c.home+"/.ssh", layer.Upper()+"/dir"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(layer.Upper()+"/gone.c", unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	c.own(t)

	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"~/.ssh/id_rsa"}, "~/.ssh/id_rsa: not in the sandbox: nothing of $HOME is shown; it holds credentials or private data\nto show it: sbx --ro '~/.ssh/id_rsa' -- COMMAND\n"},
		{[]string{"--ro", "~/.ssh", "~/.ssh/id_rsa"}, "~/.ssh/id_rsa: read-only (--ro ~/.ssh)\n"},
		{[]string{"--ro", "~/.ssh:/srv/keys", "~/.ssh/id_rsa"}, "~/.ssh/id_rsa: not in the sandbox by this path, but as \"/srv/keys/id_rsa\" (--ro ~/.ssh:/srv/keys)\n"},
		{[]string{"~/.bash_rc"}, "~/.bash_rc: the file of the private home of the layer \"default\"; the host's is not shown\n"},
		{[]string{"~/go/pkg/mod/x"}, "~/go/pkg/mod/x: copy-on-write (built in: cache), layer \"default\"\n"},
		{[]string{"~/sdk/go/bin/gofmt"}, "~/sdk/go/bin/gofmt: read-only (built in: toolchain)\n"},
		{[]string{"x.c"}, "./x.c: the source tree, copy-on-write, layer \"default\"\n"},
		{[]string{"./x.c"}, "./x.c: the source tree, copy-on-write, layer \"default\"\n"},
		{[]string{"--layer", "other", "own.c"}, "./own.c: the source tree, copy-on-write, layer \"other\"\n"},
		{[]string{"own.c"}, "./own.c: the source tree, copy-on-write, layer \"default\", which has its own version of it (sbx path)\n"},
		{[]string{"new.o"}, "./new.o: the source tree, copy-on-write, layer \"default\", which alone has it (sbx path)\n"},
		{[]string{"gone.c"}, "./gone.c: the source tree, copy-on-write, layer \"default\", where a build has deleted or replaced it\n"},
		{[]string{"dir/f"}, "dir/f: the source tree, copy-on-write, layer \"default\", where a build has deleted or replaced it\n"},
		{[]string{"dir/id_rsa"}, "dir/id_rsa: the source tree, copy-on-write, layer \"default\", where a build has deleted or replaced it\n"},
		{[]string{"--hide", "dir", "dir/f"}, "dir/f: hidden (--hide dir)\n"},
		{[]string{"--rw", "dir", "dir/f"}, "dir/f: writable, writes go to the host (--rw dir)\n"},
		{[]string{"/usr/nothing"}, "/usr/nothing: read-only (built in: system); the host has nothing there\n"},
		{[]string{"/proc/1/environ"}, "/proc/1/environ: the sandbox's own /proc, with its processes alone\n"},
		{[]string{"/tmp"}, "/tmp: the sandbox's own, empty at the start of each run\n"},
		{[]string{"HOME"}, "HOME: set by sbx to \"" + c.home + "\"\n"},
		{[]string{"LANG"}, "LANG: passed to the command (allowed)\n"},
		{[]string{"SBX_TEST_MAIN"}, "SBX_TEST_MAIN: not passed to the command: not on the allow-list\nto pass it: sbx --env SBX_TEST_MAIN -- COMMAND\n"},
		{[]string{"--env", "SBX_TEST*", "SBX_TEST_MAIN"}, "SBX_TEST_MAIN: passed to the command (--env SBX_TEST*)\n"},
		{[]string{"MY_TOKEN"}, "MY_TOKEN: not set; if it were, it would not be passed: not on the allow-list\nto set it inside: sbx --env MY_TOKEN=VALUE -- COMMAND\n"},
		{[]string{"CFLAGS"}, "CFLAGS: not set; if it were, it would be passed (allowed)\nto set it inside: sbx --env CFLAGS=VALUE -- COMMAND\n"},
	} {
		stdout, stderr, status := c.sbx(t, append([]string{"why"}, tt.args...)...)
		if stdout != tt.want || status != 0 {
			t.Errorf("sbx why %q: status %d, stderr %q, got\n%swant\n%s", tt.args, status, stderr, stdout, tt.want)
		}
	}

	// A command is looked up as the sandbox does.
	cmd := c.command(c.bin+"/sbx", "why", "mytool")
	cmd.Env = append(cmd.Env, "PATH="+c.bin+":"+c.home+"/tools/bin:/usr/bin:/bin")
	if stdout, _, status := finish(t, cmd); status != 0 || stdout != "mytool -> "+c.home+"/tools/bin/mytool: read-only (built in: toolchain)\n" {
		t.Errorf("sbx why mytool: status %d, %s", status, stdout)
	}
	// c.bin is on $PATH, and no rule shows it.
	write(t, c.bin+"/onlyhere", "#!/bin/sh\n")
	if err := os.Chmod(c.bin+"/onlyhere", 0o755); err != nil {
		t.Fatal(err)
	}
	stdout, _, status := c.sbx(t, "why", "onlyhere")
	if want := "to show it: sbx --ro " + c.bin + " -- COMMAND\n"; status != 0 || !strings.HasPrefix(stdout, "onlyhere -> "+c.bin+"/onlyhere: not in the sandbox") || !strings.HasSuffix(stdout, want) {
		t.Errorf("sbx why onlyhere: status %d, %s", status, stdout)
	}
}

func TestWhyRefuses(t *testing.T) {
	c := newCaller(t)
	for _, tt := range []struct {
		args   []string
		status int
		text   string
	}{
		{nil, 2, "no path or name is given"},
		{[]string{"a", "--ro"}, 2, `cannot explain "--ro": why takes one path or name`},
		{[]string{"no-such-thing"}, 125, `cannot explain "no-such-thing": there is no such file here`},
		{[]string{""}, 125, `cannot explain "": it is empty`},
		{[]string{"a\x1b[1m"}, 125, `a\x1b[1m`},
	} {
		stdout, stderr, status := c.sbx(t, append([]string{"why"}, tt.args...)...)
		if stdout != "" || status != tt.status || !strings.Contains(stderr, tt.text) {
			t.Errorf("sbx why %q: status %d, stdout %q, stderr %q; want %d and %q", tt.args, status, stdout, stderr, tt.status, tt.text)
		}
	}
}
