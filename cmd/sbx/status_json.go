package main

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/overlay"
)

// jsonStatus prints one object, a change in each line of it.
type jsonStatus struct {
	out     *output
	session *sandbox.Session
	begun   bool
	alloc   int64
}

// jsonChange is a change as `sbx status --json` prints it. Names are not changed
// in later versions.
type jsonChange struct {
	Path string `json:"path"`
	// Raw has the bytes of a path that is no UTF-8.
	Raw []byte `json:"raw,omitempty"`
	// Root is the joined directory that Path is in.
	Root     string     `json:"root,omitempty"`
	Kind     string     `json:"kind"`
	Host     *jsonFile  `json:"host,omitempty"`
	Layer    *jsonFile  `json:"layer,omitempty"`
	Entries  int64      `json:"entries,omitempty"`
	Bytes    int64      `json:"bytes,omitempty"`
	Shadowed bool       `json:"shadowed,omitempty"`
	Refused  bool       `json:"refused,omitempty"`
	Reasons  []jsonNote `json:"reasons,omitempty"`
}

type jsonFile struct {
	Type string `json:"type"`
	Mode string `json:"mode"`
	Size int64  `json:"size"`
}

type jsonNote struct {
	Refused bool   `json:"refused"`
	Text    string `json:"text"`
}

func (f *jsonStatus) begin() {
	if f.begun {
		return
	}
	f.begun = true
	tree, _ := json.Marshal(f.session.Tree.Root)
	layer, _ := json.Marshal(f.session.Layer.Name)
	fmt.Fprintf(f.out.buf, "{\"tree\":%s,\"layer\":%s,\"changes\":[", tree, layer)
}

func (f *jsonStatus) change(p *picked, c overlay.Change, reasons []overlay.Reason) {
	f.alloc += max(c.Alloc, c.Upper.Alloc)
	if c.Kind == overlay.Same {
		return
	}
	first := !f.begun
	f.begin()
	if !first {
		f.out.buf.WriteByte(',')
	}
	j := jsonChange{
		Path: c.Path, Root: p.Name, Kind: c.Kind.String(), Host: fileOf(c.Lower), Layer: fileOf(c.Upper),
		Entries: c.Count, Bytes: c.Size, Shadowed: c.Shadowed, Refused: isRefused(c, reasons),
	}
	if !utf8.ValidString(c.Path) {
		j.Raw = []byte(c.Path)
	}
	for _, r := range reasons {
		j.Reasons = append(j.Reasons, jsonNote{r.Level >= overlay.Refuse, r.Text})
	}
	data, err := json.Marshal(j)
	if err != nil {
		return // of these types it cannot be
	}
	f.out.buf.WriteByte('\n')
	f.out.buf.Write(data)
}

func (f *jsonStatus) end(complete bool) {
	f.begin()
	fmt.Fprintf(f.out.buf, "\n],\"allocated\":%d,\"complete\":%t}\n", f.alloc, complete)
}

func fileOf(s overlay.Stat) *jsonFile {
	if !s.Exists() {
		return nil
	}
	return &jsonFile{s.TypeName(), fmt.Sprintf("%04o", s.Perm()), s.Size}
}
