package early_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sbx-build/sbx/sandbox/internal/early"
)

// An external test package: an internal one would make early import os.
//
// The limit must be the caller's, not what package syscall made of it.
func TestOriginal(t *testing.T) {
	if os.Getenv("SBX_EARLY_CHILD") == "1" {
		soft, _, ok := early.Nofile()
		if !ok || soft != 321 {
			t.Fatalf("Nofile() = %d, %v; want 321", soft, ok)
		}
		return
	}
	cmd := exec.Command("/bin/sh", "-c", `ulimit -Sn 321; exec "$0" -test.run=TestOriginal`, os.Args[0])
	cmd.Env = append(os.Environ(), "SBX_EARLY_CHILD=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Fatalf("%v: %s", err, out)
	}
}
