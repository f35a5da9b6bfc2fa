package toolconf

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// tomlItem is a value with the keys that lead to it. It is a string (decoded), a
// bare word (a number, a boolean, a date) or an array of these; inline tables have
// become items of their own.
type tomlItem struct {
	path []string
	// array says that the table is one of an array of tables, and table which one.
	array bool
	table int
	value tomlValue
}

type tomlValue struct {
	text string
	bare bool
	list []tomlValue
	// array tells an empty list from a string.
	array bool
}

// tomlParser reads TOML 1.0. It is strict: what it does not understand is an
// error, after which nothing of the file can be trusted.
type tomlParser struct {
	text   string
	at     int
	items  []tomlItem
	path   []string
	array  bool
	table  int
	failed bool
}

// maxDepth bounds nesting, maxItems what one file may have.
const (
	maxDepth = 16
	maxItems = 20000
)

// parseTOML lists the values of a file; ok is false where it is not TOML.
func parseTOML(text string) (items []tomlItem, ok bool) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, false
	}
	p := tomlParser{text: strings.ReplaceAll(text, "\r\n", "\n")}
	for p.space(true); p.at < len(p.text) && !p.failed; p.space(true) {
		if p.peek("[") {
			p.header()
		} else {
			p.pair(p.path, 0)
		}
		p.space(false)
		if p.at < len(p.text) && p.text[p.at] != '\n' {
			p.failed = true
		}
	}
	return p.items, !p.failed
}

func (p *tomlParser) peek(s string) bool { return strings.HasPrefix(p.text[p.at:], s) }

func (p *tomlParser) accept(s string) bool {
	if !p.peek(s) {
		return false
	}
	p.at += len(s)
	return true
}

func (p *tomlParser) expect(s string) {
	if !p.accept(s) {
		p.failed = true
	}
}

// space skips white space and comments, and, if asked to, ends of lines.
func (p *tomlParser) space(ends bool) {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == ' ' || c == '\t' || ends && c == '\n':
			p.at++
		case c == '#':
			for p.at < len(p.text) && p.text[p.at] != '\n' {
				p.at++
			}
		default:
			return
		}
	}
}

// header reads [a.b] or [[a.b]].
func (p *tomlParser) header() {
	p.at++
	p.array = p.accept("[")
	p.path = p.key()
	p.space(false)
	p.expect("]")
	if p.array {
		p.expect("]")
	}
	p.table++
}

// key reads a dotted key.
func (p *tomlParser) key() []string {
	var key []string
	for !p.failed {
		p.space(false)
		start := p.at
		switch {
		case p.peek(`"`) || p.peek("'"):
			key = append(key, p.str())
		default:
			for p.at < len(p.text) && (alnum(p.text[p.at]) || p.text[p.at] == '_' || p.text[p.at] == '-') {
				p.at++
			}
			if p.at == start {
				p.failed = true
			}
			key = append(key, p.text[start:p.at])
		}
		p.space(false)
		if len(key) > maxDepth {
			p.failed = true
		}
		if !p.accept(".") {
			break
		}
	}
	return key
}

// pair reads "key = value".
func (p *tomlParser) pair(table []string, depth int) {
	path := append(table[:len(table):len(table)], p.key()...)
	p.space(false)
	p.expect("=")
	p.space(false)
	if p.failed || depth > maxDepth || len(p.items) >= maxItems {
		p.failed = true
		return
	}
	if p.accept("{") {
		p.inline(path, depth)
		return
	}
	v := p.value(depth)
	p.items = append(p.items, tomlItem{path: path, array: p.array, table: p.table, value: v})
}

// inline reads an inline table.
func (p *tomlParser) inline(path []string, depth int) {
	p.space(false)
	if p.accept("}") {
		return
	}
	for !p.failed {
		p.pair(path, depth+1)
		p.space(false)
		if p.accept("}") {
			return
		}
		p.expect(",")
		p.space(false)
	}
}

func (p *tomlParser) value(depth int) (v tomlValue) {
	switch {
	case p.failed || p.at >= len(p.text) || depth > maxDepth:
		p.failed = true
	case p.accept("["):
		v.array = true
		for !p.failed {
			p.space(true)
			if p.accept("]") {
				return v
			}
			if p.peek("{") {
				// A table in an array: none of what is kept has one.
				p.at++
				kept := len(p.items)
				p.inline(nil, depth+1)
				p.items = p.items[:min(kept, len(p.items))]
				v.list = append(v.list, tomlValue{text: "{", bare: true})
			} else {
				v.list = append(v.list, p.value(depth+1))
			}
			p.space(true)
			if !p.accept(",") && !p.peek("]") {
				p.failed = true
			}
		}
	case p.peek(`"`) || p.peek("'"):
		v.text = p.str()
	default:
		start := p.at
		for p.at < len(p.text) && (alnum(p.text[p.at]) || strings.IndexByte("+-_.:", p.text[p.at]) >= 0) {
			p.at++
		}
		v.text, v.bare = p.text[start:p.at], true
		if v.text == "" {
			p.failed = true
		}
	}
	return v
}

// str reads a string of any of the four kinds.
func (p *tomlParser) str() string {
	quote := p.text[p.at : p.at+1]
	if p.accept(quote + quote + quote) {
		p.accept("\n")
		return p.body(quote+quote+quote, quote == `"`, true)
	}
	p.at++
	return p.body(quote, quote == `"`, false)
}

func (p *tomlParser) body(end string, escapes, multi bool) string {
	var b strings.Builder
	for p.at < len(p.text) {
		if p.accept(end) {
			// Up to two more quotes belong to the text.
			for i := 0; multi && i < 2 && p.accept(end[:1]); i++ {
				b.WriteByte(end[0])
			}
			return b.String()
		}
		c := p.text[p.at]
		p.at++
		switch {
		case c == '\n' && !multi:
			p.failed = true
			return ""
		case c == '\\' && escapes:
			p.escape(&b, multi)
		default:
			b.WriteByte(c)
		}
	}
	p.failed = true
	return ""
}

func (p *tomlParser) escape(b *strings.Builder, multi bool) {
	if p.at >= len(p.text) {
		p.failed = true
		return
	}
	c := p.text[p.at]
	p.at++
	if i := strings.IndexByte(`btnfre"\`, c); i >= 0 {
		b.WriteByte("\b\t\n\f\r\x1b\"\\"[i])
		return
	}
	size := 0
	switch {
	case c == 'x':
		size = 2
	case c == 'u':
		size = 4
	case c == 'U':
		size = 8
	case multi && (c == ' ' || c == '\t' || c == '\n'):
		for p.at < len(p.text) && strings.IndexByte(" \t\n", p.text[p.at]) >= 0 {
			p.at++
		}
		return
	}
	if size == 0 || p.at+size > len(p.text) {
		p.failed = true
		return
	}
	r, err := strconv.ParseUint(p.text[p.at:p.at+size], 16, 32)
	if err != nil || !utf8.ValidRune(rune(r)) {
		p.failed = true
		return
	}
	p.at += size
	b.WriteRune(rune(r))
}

// tomlString writes a basic string. What is written is printable.
func tomlString(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\t", `\t`).Replace(s) + `"`
}
