package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/toolconf"
)

// TestConf: what exists is read, also by way of the user's own symlinks; what cannot
// be read or understood is left out and said; a rule of the user's is left alone.
func TestConf(t *testing.T) {
	home := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("dotfiles/npmrc", "registry=https://u:hunter2@npm.example.com/\n_authToken=hunter2\n")
	os.Symlink("dotfiles/npmrc", home+"/.npmrc")
	write(".gitconfig", "[user]\n\tname = Me\n")
	write(".cargo/config.toml", "not TOML hunter2")
	write(".config/go/env", "GOAUTH=hunter2\n")
	write(".yarnrc.yml", strings.Repeat("# hunter2\n", toolconf.MaxSize/10+1))
	write(".pip/pip.conf", "[global]\nindex-url = hunter2\n")
	os.MkdirAll(home+"/.m2", 0o755)
	unix.Mkfifo(home+"/.m2/settings.xml", 0o644)
	os.MkdirAll(home+"/.yarnrc", 0o755)
	os.Symlink(".composer", home+"/.composer")
	write("src/.config/pip/pip.conf", "")
	p := policy.Policy{Home: home, Tree: home + "/src", Conf: toolconf.Files(home, func(string) string { return "" })}
	p.Rules = []policy.Rule{{Access: policy.ReadOnly, Source: home + "/.gitconfig", Target: home + "/.gitconfig", Origin: policy.Origin{Flag: "--ro ~/.gitconfig"}}}
	var f Facts
	f.conf(p)
	if len(f.Conf) != 1 || f.Conf[0].Path != home+"/.npmrc" || f.Conf[0].Data != "registry=https://npm.example.com/\n" || !slices.Equal(f.Conf[0].Dropped, []string{"_authToken"}) {
		t.Errorf("%+v", f.Conf)
	}
	for _, name := range []string{".cargo/config.toml\" is not in the sandbox: it is not valid TOML", ".yarnrc.yml\" is not in the sandbox: it is larger than 1024 KiB", ".m2/settings.xml\" is not in the sandbox: it is not a regular file", ".yarnrc\" is not in the sandbox: it is not a regular file", ".pip/pip.conf\" appears without what is not understood in it, so that requests may go elsewhere than outside: index-url"} {
		if !slices.ContainsFunc(f.Warnings, func(w string) bool { return strings.Contains(w, name) }) {
			t.Errorf("no warning says %s: %q", name, f.Warnings)
		}
	}
	if len(f.Warnings) != 5 || strings.Contains(strings.Join(f.Warnings, ""), "hunter2") {
		t.Errorf("%q", f.Warnings)
	}
}
