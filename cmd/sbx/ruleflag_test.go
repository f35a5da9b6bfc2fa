package main

import (
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/policy"
)

func TestParseSize(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int64 // 0: refused
	}{
		{"1", 1}, {"4096", 4096}, {"1K", 1 << 10}, {"1k", 1 << 10}, {"64M", 64 << 20}, {"2g", 2 << 30}, {"3T", 3 << 40},
		{"4194303T", 4194303 << 40}, {"4611686018427387904", 1 << 62},
		{"", 0}, {"0", 0}, {"0G", 0}, {"-1", 0}, {"-1G", 0}, {"K", 0}, {"1KB", 0}, {"1.5G", 0}, {"1 G", 0}, {" 1", 0}, {"1P", 0}, {"0x10", 0}, {"1GG", 0},
		{"99999999999999999999", 0}, {"9223372036854775807T", 0}, {"4194305T", 0},
	} {
		got, err := parseSize(tt.in)
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("parseSize(%q) = %d, %v; want %d", tt.in, got, err, tt.want)
		}
	}
}

// parse gives the options for the flags of run.
func parse(t *testing.T, args ...string) (*sandbox.Options, []string, error) {
	t.Helper()
	o := &sandbox.Options{Dir: t.TempDir(), Environ: []string{"HOME=/home/me"}}
	var rest []string
	app := &cli.App{
		HideHelp: true, HideVersion: true, ErrWriter: io.Discard, Writer: io.Discard, DisableSliceFlagSeparator: true,
		ExitErrHandler: func(*cli.Context, error) {},
		Flags:          runFlags(o),
		Action:         func(c *cli.Context) error { rest = c.Args().Slice(); return nil },
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return err },
	}
	err := app.Run(append([]string{"sbx"}, args...))
	return o, rest, err
}

// Rules keep the order of the command line, over all their flags, and each
// counts once: order has a meaning.
func TestRunFlagsOrder(t *testing.T) {
	o, rest, err := parse(t, "--hide", "/a", "--ro", "/a/b", "--rw=/c:/d", "--hide=~/x", "--dev", "/dev/kvm", "--cow", "/e,f", "--env", "A=1,2", "--env", "MW_*", "--with", "/w", "--", "make", "--ro", "/z")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range o.Rules {
		got = append(got, r.String())
	}
	want := []string{"--hide /a", "--ro /a/b", "--rw /c:/d", "--hide /home/me/x", "--dev /dev/kvm", "--cow /e,f"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("rules %q, want %q", got, want)
	}
	if env := []policy.EnvRule{{Name: "A", Value: "1,2", Set: true}, {Name: "MW_*"}}; !reflect.DeepEqual(o.Env, env) {
		t.Errorf("environment %+v, want %+v", o.Env, env)
	}
	if len(o.With) != 1 || o.With[0].Source != "/w" {
		t.Errorf("with %+v", o.With)
	}
	if want := []string{"make", "--ro", "/z"}; !reflect.DeepEqual(rest, want) {
		t.Errorf("the command is %q, want %q", rest, want)
	}
}

func TestRunFlagsRefuse(t *testing.T) {
	for _, tt := range []struct{ line, text string }{
		{"--net inet", "it is internet, none or host"},
		{"--net-allow https://example.com/", "--net-allow"},
		{"--publish 70000", "--publish"},
		{"--max-processes 0", "a number of processes"},
		{"--max-processes -1", "a number of processes"},
		{"--tmp-size lots", "as a size"},
		{"--layer a/b", "as a layer name"},
		{"--ro a:b:c", "2 colons"},
		{"--dev /etc/passwd", "a device is below /dev"},
		{"--hide /x:/y", "--hide takes one path"},
	} {
		_, _, err := parse(t, strings.Fields(tt.line)...)
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("sbx %s: %v, want %q", tt.line, err, tt.text)
		}
	}
}
