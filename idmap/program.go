package idmap

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// maxOutput is how many bytes of a program's output are kept.
const maxOutput = 64 << 10

// programDirs returns where newuidmap(1), newgidmap(1) and getsubids(1) are
// looked for: first where distributions put them (/run/wrappers is that of
// NixOS), so that a PATH which is empty or odd does not matter, then in PATH.
func programDirs() []string {
	dirs := []string{"/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"}
	return append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
}

// findProgram returns the path of the executable file name in the first of dirs
// that has it. Directories that are not absolute are passed over.
func findProgram(name string, dirs []string) (path string, ok bool) {
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}

// runProgram runs the program at path until it ends or ctx does, and returns
// what it wrote, standard output and error together and at most 64 KiB of it.
// The program gets no input, and an environment in which messages are English.
func runProgram(ctx context.Context, path string, args ...string) (string, error) {
	var out headBuffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // a grandchild may hold the pipe open
	err := cmd.Run()
	return out.String(), err
}

// headBuffer keeps the first maxOutput bytes and drops the others: its writer
// is to see no error, which would end the program with SIGPIPE. The buffer is
// not embedded, as its ReadFrom would be used instead of Write.
type headBuffer struct{ head bytes.Buffer }

func (b *headBuffer) Write(p []byte) (int, error) {
	b.head.Write(p[:min(len(p), maxOutput-b.head.Len())])
	return len(p), nil
}

func (b *headBuffer) String() string { return b.head.String() }
