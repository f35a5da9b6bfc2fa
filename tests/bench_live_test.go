package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkLive is the time from a save on the host until it is seen inside, when
// nothing else happens and during a steady stream of changes: the median, and that of
// the slowest in a hundred.
func BenchmarkLive(b *testing.B) {
	b.Run("quiet", func(b *testing.B) { benchmarkLive(b, false) })
	b.Run("steady", func(b *testing.B) { benchmarkLive(b, true) })
}

func benchmarkLive(b *testing.B, steady bool) {
	needUserNS(b)
	a := newAccount(b)
	tree := a.tree(b, map[string]string{"src/f": "0\n", "noise/": ""})
	g := a.guest(b, tree)
	a.watched(b, tree)
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for i := 0; steady; i++ {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				os.WriteFile(filepath.Join(tree, "noise", fmt.Sprint(i%10)), nil, 0o644)
				os.Remove(filepath.Join(tree, "noise", fmt.Sprint(i%10)))
			}
		}
	}()
	// It asks without holding the file: what is open is not refreshed.
	g.do(`seen() { [ -e src/$1 ]; }`)
	var took []time.Duration
	n := 0
	for b.Loop() {
		n++
		g.do(fmt.Sprintf("seen %d", n))
		path := filepath.Join(tree, "src", fmt.Sprint(n))
		if err := os.WriteFile(path+"~", nil, 0o644); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if err := os.Rename(path+"~", path); err != nil {
			b.Fatal(err)
		}
		g.until("saved", fmt.Sprintf("seen %d && echo yes", n), "yes\n")
		took = append(took, time.Since(began))
	}
	close(stop)
	<-stopped
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "median-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
	g.ends()
}

// BenchmarkWake is the time from a save on the host until a program inside that waits for
// changes is told.
func BenchmarkWake(b *testing.B) {
	needUserNS(b)
	needTool(b, "inotifywait")
	a := newAccount(b)
	tree := a.tree(b, map[string]string{"src/f": "0\n"})
	g := a.guest(b, tree)
	g.do(`inotifywait -m -e moved_to,close_write src >log 2>&1 & while ! grep -q established log; do sleep 0.05; done`)
	a.watched(b, tree)
	log := a.upperFile(b, tree, "log")
	told := func() int64 {
		st, err := os.Stat(log)
		if err != nil {
			b.Fatal(err)
		}
		return st.Size()
	}
	path := filepath.Join(tree, "src/f")
	var took []time.Duration
	for b.Loop() {
		if err := os.WriteFile(path+"~", nil, 0o644); err != nil {
			b.Fatal(err)
		}
		os.Chown(path+"~", a.UID, a.GID)
		time.Sleep(150 * time.Millisecond)
		before, began := told(), time.Now()
		if err := os.Rename(path+"~", path); err != nil {
			b.Fatal(err)
		}
		for told() == before {
			time.Sleep(100 * time.Microsecond)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "median-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
	g.ends()
}

// BenchmarkMake builds something with what live costs, and without, while nobody
// edits.
func BenchmarkMake(b *testing.B) {
	needUserNS(b)
	needTool(b, "make", "cc")
	a := newAccount(b)
	dirs := map[string]string{"Makefile": "all: $(patsubst %.c,%.o,$(wildcard d*/*.c))\n"}
	units := 60
	if testing.Short() {
		units = 4
	}
	for i := range units {
		dirs[fmt.Sprintf("d%d/f%d.c", i%10, i)] = fmt.Sprintf("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint f%d(char *s) { printf(\"%%s\\n\", s); return strlen(s) + %d; }\n", i, i)
	}
	tree := a.tree(b, dirs)
	for _, flags := range [][]string{{"--no-live"}, {}} {
		name := "live"
		if len(flags) > 0 {
			name = "no-live"
		}
		b.Run(name, func(b *testing.B) {
			var cpu time.Duration
			for b.Loop() {
				cmd := a.command(tree, nil, sbxPath, append(append([]string{"run", "--rm"}, flags...), "--", "make", "-s", "-j2")...)
				if r := finish(b, cmd); r.Status != 0 {
					b.Fatal(r)
				}
				cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			}
			b.ReportMetric(cpu.Seconds()*1e3/float64(b.N), "cpu-ms/op")
		})
	}
}
