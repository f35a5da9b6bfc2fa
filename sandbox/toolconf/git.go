package toolconf

import "strings"

// gitConfig reads git-config(1): sections, with names in them and escapes, values
// with quotes, escapes, comments and continued lines.
func gitConfig(w writer, text string) Result {
	p := gitParser{writer: w, text: strings.ReplaceAll(text, "\r\n", "\n")}
	for p.skipSpace(); p.at < len(p.text); p.skipSpace() {
		switch c := p.text[p.at]; {
		case c == '#' || c == ';':
			p.skipLine()
		case c == '[':
			if !p.header() {
				p.section, p.name = "", ""
				p.drop(lineName(p.line()))
				p.skipLine()
			}
		default:
			p.variable()
		}
	}
	return p.result()
}

type gitParser struct {
	writer
	text string
	at   int
	// lines counts those before counted.
	lines, counted int
	section, name  string
	hasName        bool
	written        string
}

func (p *gitParser) line() int {
	p.lines += strings.Count(p.text[p.counted:p.at], "\n")
	p.counted = p.at
	return p.lines + 1
}

func (p *gitParser) skipSpace() {
	for p.at < len(p.text) && strings.IndexByte(" \t\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *gitParser) skipLine() {
	i := strings.IndexByte(p.text[p.at:], '\n')
	if i < 0 {
		p.at = len(p.text)
		return
	}
	p.at += i
}

// header reads [section], [section "name"] or [section.name]. What follows may be
// a variable on the same line.
func (p *gitParser) header() bool {
	rest := p.text[p.at+1:]
	i := 0
	for i < len(rest) && (alnum(rest[i]) || rest[i] == '-' || rest[i] == '.') {
		i++
	}
	section := strings.ToLower(rest[:i])
	p.section, p.name, p.hasName = section, "", false
	if before, after, ok := strings.Cut(section, "."); ok { // deprecated
		p.section, p.name, p.hasName = before, after, true
	}
	j := i
	for i < len(rest) && (rest[i] == ' ' || rest[i] == '\t') {
		i++
	}
	if i < len(rest) && rest[i] == '"' && i > j {
		i++
		var b strings.Builder
		for {
			if i >= len(rest) || rest[i] == '\n' {
				return false
			}
			if rest[i] == '"' {
				break
			}
			if rest[i] == '\\' {
				if i++; i >= len(rest) || rest[i] == '\n' {
					return false
				}
			}
			b.WriteByte(rest[i])
			i++
		}
		i++
		p.name, p.hasName = b.String(), true
	}
	if section == "" || i >= len(rest) || rest[i] != ']' {
		return false
	}
	p.at += 1 + i + 1
	return true
}

// variable reads "name = value", or "name" alone, which is true.
func (p *gitParser) variable() {
	start := p.at
	for p.at < len(p.text) && (alnum(p.text[p.at]) || p.text[p.at] == '-') {
		p.at++
	}
	key := strings.ToLower(p.text[start:p.at])
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t') {
		p.at++
	}
	line := p.line()
	value, ok := "", key != ""
	switch {
	case p.at >= len(p.text) || p.text[p.at] == '\n':
		value = "true"
	case p.text[p.at] == '=':
		p.at++
		var good bool
		value, good = p.value()
		ok = ok && good
	default:
		ok = false
		p.skipLine()
	}
	if ok {
		value, ok = p.keep(key, value)
	}
	if !ok {
		name := p.section + "." + key
		if p.hasName {
			name = p.section + ".*." + key
		}
		if p.section == "" || key == "" {
			name = ""
		}
		k := none
		if p.section == "url" {
			k = address
		}
		p.refuse(k, name, line)
		return
	}
	p.write(key, value)
}

// value reads to the end of the value. A value that git would not take is read to
// the end of its line.
func (p *gitParser) value() (value string, ok bool) {
	var b strings.Builder
	quoted := false
	end := 0 // of b without space at the end
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t') {
		p.at++
	}
	for ; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		switch {
		case c == '\n':
			return b.String()[:end], !quoted
		case (c == '#' || c == ';') && !quoted:
			p.skipLine()
			return b.String()[:end], true
		case c == '"':
			quoted = !quoted
			end = b.Len()
			continue
		case c == '\\':
			if p.at++; p.at >= len(p.text) {
				return "", false
			}
			i := strings.IndexByte("\ntbn\"\\", p.text[p.at])
			if i < 0 {
				p.skipLine()
				return "", false
			}
			if i > 0 {
				b.WriteByte("\n\t\b\n\"\\"[i])
			}
			end = b.Len()
			continue
		}
		b.WriteByte(c)
		if quoted || c != ' ' && c != '\t' {
			end = b.Len()
		}
	}
	return b.String()[:end], !quoted
}

// keep says what becomes of a variable of the section.
func (p *gitParser) keep(key, value string) (string, bool) {
	name := p.name
	if p.section == "url" && p.hasName {
		base, ok := remote(name)
		if !ok || key != "insteadof" && key != "pushinsteadof" {
			return "", false
		}
		p.name = base
		return remote(value)
	}
	if p.section == "http" && p.hasName {
		base, ok := URL(name)
		if !ok {
			return "", false
		}
		p.name = base
	}
	if p.section == "filter" && p.hasName && name == "lfs" {
		return value, isLFS(key, value)
	}
	if p.hasName && p.section != "http" && (p.section != "protocol" || !only(name, alnum)) {
		return "", false
	}
	return gitKeys(p.section + "." + key).clean(value)
}

func (p *gitParser) write(key, value string) {
	header := "[" + p.section
	if p.hasName {
		header += ` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p.name) + `"`
	}
	if header += "]\n"; header != p.written {
		p.b.WriteString(header)
		p.written = header
	}
	p.b.WriteString("\t" + key + ` = "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\t", `\t`).Replace(value) + "\"\n")
}
