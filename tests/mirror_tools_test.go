package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMirrorTools: programs that wait for changes see what is saved on the host, with
// no flags.
func TestMirrorTools(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	needTool(t, "npm", "node")
	a := newAccount(t)
	npmCache(t, a)
	files := map[string]string{
		"tsconfig.json": `{"compilerOptions": {"outDir": "out", "strict": true}, "include": ["ts"]}`,
		"ts/a.ts":       "export const a: string = 'first'\n",
		"js/b.js":       "console.log('first')\n",
		"index.html":    "<script type=module src=/web/main.js></script>\n",
		"web/main.js":   "import { a } from './a.js'\nconsole.log(a)\n",
		"web/a.js":      "export const a = 1\n",
		"watch.js":      "require('chokidar').watch('js').on('all', (event, path) => console.log(event, path))\n",
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		data, err := os.ReadFile(filepath.Join("testdata/watchers", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(data)
	}
	tree := a.tree(t, files)
	a.edit(t, tree, "npm ci --offline --no-audit --no-fund --no-update-notifier --ignore-scripts >/dev/null")
	for _, tool := range []struct {
		name    string
		command []string
		ready   string
		// edits are what is done on the host, and what is printed then.
		edits [][2]string
	}{
		{"tsc", []string{"node_modules/.bin/tsc", "-w", "--preserveWatchOutput"}, "Watching for file changes", [][2]string{
			{`echo "export const a: string = 1" >ts/a.ts`, "error TS2322"},
			{`echo "export const a: string = 'third'" >t; mv t ts/a.ts`, "Found 0 errors"},
			{`echo "export const c: string = 2" >ts/c.ts`, "ts/c.ts(1,14): error TS2322"},
			{`rm ts/c.ts`, "Found 0 errors"},
			{`mkdir ts/d; echo "export const d: string = 3" >ts/d/d.ts`, "ts/d/d.ts(1,14): error TS2322"},
			{`echo "export const d: string = 'fourth'" >ts/d/d.ts`, "Found 0 errors"},
			{`mv ts/d ts/e; echo "export const d: string = 5" >ts/e/d.ts`, "ts/e/d.ts(1,14): error TS2322"},
			{`rm -r ts/e`, "Found 0 errors"},
		}},
		{"nodemon", []string{"node_modules/.bin/nodemon", "-w", "js", "js/b.js"}, "first\n", [][2]string{
			{`echo "console.log('second')" >js/b.js`, "second\n"},
			{`echo "console.log('third')" >t; mv t js/b.js`, "third\n"},
			{`sed -i s/third/fourth/ js/b.js`, "fourth\n"},
		}},
		{"chokidar", []string{"node", "watch.js"}, "add js/b.js\n", [][2]string{
			{`echo "// in place" >js/b.js`, "change js/b.js\n"},
			{`echo "// over" >t; mv t js/b.js`, "change js/b.js\n"},
			{`echo "// new" >js/d.js`, "add js/d.js\n"},
			{`rm js/d.js`, "unlink js/d.js\n"},
			{`mkdir js/e; echo "// deep" >js/e/f.js`, "add js/e/f.js\n"},
			{`echo "// deeper" >js/e/f.js`, "change js/e/f.js\n"},
			{`mv js/e js/g`, "add js/g/f.js\n"},
			{`rm -r js/g`, "unlink js/g/f.js\n"},
		}},
		{"vite", []string{"node_modules/.bin/vite", "build", "--watch", "--outDir", "out/vite"}, "built in", [][2]string{
			{`echo "export const a = 2" >web/a.js`, "built in"},
			{`echo "export const a = 3" >t; mv t web/a.js`, "built in"},
		}},
		{"webpack", []string{"node_modules/.bin/webpack", "--watch", "--mode", "development", "--entry", "./web/main.js", "--output-path", "out/webpack"}, "compiled", [][2]string{
			{`echo "export const a = 4" >web/a.js`, "compiled"},
			{`echo "export const a = 5" >t; mv t web/a.js`, "compiled"},
		}},
	} {
		run := a.background(t, tree, append([]string{"--"}, tool.command...)...)
		soon(t, tool.name+" is ready", func() bool { return strings.Contains(run.out.String(), tool.ready) })
		a.watched(t, tree)
		for _, e := range tool.edits {
			// chokidar passes over two edits at once, on any file system.
			time.Sleep(250 * time.Millisecond)
			seen := len(run.out.String())
			a.edit(t, tree, e[0])
			soon(t, tool.name+" sees "+e[0], func() bool { return strings.Contains(run.out.String()[seen:], e[1]) })
		}
		run.Process.Signal(os.Interrupt)
		run.ends(t)
	}
	if r := a.sbx(t, tree, "status", "--porcelain"); r.Status != 0 || strings.Contains(r.Stdout, "ts/") || strings.Contains(r.Stdout, "js/") || strings.Contains(r.Stdout, "web/") {
		t.Errorf("the layer has changes: %v", r)
	}
}

// TestMirrorFsnotify: a Go program sees them, too. Where a file that it watches itself is
// replaced, fsnotify also gives an error: it takes back the watch of a file that has
// moved, which is gone with the file by then.
func TestMirrorFsnotify(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/a": "a\n", "src/b": "b\n"})
	if err := goBuild(filepath.Join(tree, "notify"), "./notify"); err != nil {
		t.Fatal(err)
	}
	run := a.background(t, tree, "--", "./notify", "src", "src/b")
	soon(t, "it watches", func() bool { return strings.Contains(run.out.String(), "ready\n") })
	a.watched(t, tree)
	for _, e := range [][2]string{
		{`echo x >src/a`, "WRITE src/a\n"},
		{`echo y >t; mv t src/a`, "CREATE src/a\n"},
		{`sed -i s/y/z/ src/a`, "CREATE src/a\n"},
		{`echo n >src/n`, "CREATE src/n\n"},
		{`rm src/n`, "REMOVE src/n\n"},
		{`echo y >t; mv t src/b`, "CREATE src/b\n"},
		{`chmod 600 src/a`, "CHMOD src/a\n"},
		{`mkdir src/d`, "CHMOD src/d\n"},
		{`rmdir src/d`, "REMOVE src/d\n"},
		{`rm src/a`, "REMOVE src/a\n"},
	} {
		seen := len(run.out.String())
		a.edit(t, tree, e[0])
		soon(t, e[0]+" is seen", func() bool { return strings.Contains(run.out.String()[seen:], e[1]) })
	}
	run.Process.Signal(os.Interrupt)
	run.ends(t)
}
