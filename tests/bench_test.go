package tests

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkStartFirst and BenchmarkStartShared are a run that has the layer alone,
// and one beside a run that lives. The second takes at most 1.3 times as long until
// its command starts (start-ms, the median), and until it has ended (ns/op).
func BenchmarkStartFirst(b *testing.B) { benchmarkStart(b, false) }

func BenchmarkStartShared(b *testing.B) { benchmarkStart(b, true) }

func benchmarkStart(b *testing.B, shared bool) {
	needUserNS(b)
	a := newAccount(b)
	tree := a.tree(b, map[string]string{"f": "host\n"})
	if shared {
		run := a.background(b, tree, "--", "sleep", "1000")
		a.lives(b, tree, 1)
		defer func() {
			run.Process.Kill()
			run.ends(b)
		}()
	}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		r := a.sbx(b, tree, "--", "date", "+%s%N")
		at, err := strconv.ParseInt(strings.TrimSpace(r.Stdout), 10, 64)
		if r.Status != 0 || err != nil {
			b.Fatal(r)
		}
		took = append(took, time.Unix(0, at).Sub(began))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "start-ms")
}
