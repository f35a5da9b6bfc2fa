package toolconf

import "strings"

// pipKeys is what an option of pip's may hold.
func pipKeys(key string) kind {
	switch key {
	case "cache-dir":
		return directory
	case "index-url", "index", "pypi-url":
		return address
	case "extra-index-url", "find-links":
		return places
	case "trusted-host":
		return hosts
	case "cert":
		return file
	case "no-index", "timeout", "default-timeout", "retries", "resume-retries", "break-system-packages", "disable-pip-version-check", "format",
		"prefer-binary", "pre", "no-build-isolation", "no-cache-dir", "no-clean", "no-color", "no-compile", "no-deps", "no-input",
		"no-python-version-warning", "no-warn-script-location", "progress-bar", "quiet", "require-hashes", "require-virtualenv", "root-user-action",
		"upgrade-strategy", "use-deprecated", "use-pep517", "user", "verbose", "exists-action", "ignore-installed", "ignore-requires-python":
		return word
	case "no-binary", "only-binary", "use-feature":
		return text
	}
	return none
}

// pipKind is the same for an option as it is written: pip takes "_" for "-".
func pipKind(key string) kind { return pipKeys(strings.ReplaceAll(strings.ToLower(key), "_", "-")) }

// pipConf reads the grammar of Python's configparser, which pip takes: a line that
// is indented deeper than its option continues the value.
func pipConf(w writer, text string) Result {
	p := pipParser{writer: w}
	for i, line := range lines(text) {
		body := strings.TrimLeft(line, " \t\v\f")
		deep := len(line) - len(body)
		body = strings.TrimSpace(body)
		switch {
		case body == "" || body[0] == '#' || body[0] == ';':
		case p.key != "" && deep > p.indent:
			p.value = append(p.value, body)
		default:
			p.end()
			p.indent = deep
			p.begin(body, i+1)
		}
	}
	p.end()
	return p.result()
}

type pipParser struct {
	writer
	section, written string
	// The option that is being read, its line and its indentation.
	key          string
	value        []string
	line, indent int
}

// begin reads a line that continues nothing.
func (p *pipParser) begin(body string, line int) {
	if body[0] == '[' {
		// Without the bracket it is an error to pip; then no option is known.
		name, rest, ok := strings.Cut(body[1:], "]")
		if p.section = ""; ok && rest == "" && name != "" && len(name) <= 40 && only(name, func(c byte) bool { return alnum(c) || c == '-' || c == '_' }) {
			p.section = name
		} else {
			p.drop(lineName(line))
		}
		return
	}
	i := strings.IndexAny(body, "=:")
	if i <= 0 {
		p.drop(lineName(line))
		// What is indented below it must not be taken for options.
		p.key, p.value, p.line = "?", nil, 0
		return
	}
	p.key, p.value, p.line = strings.TrimSpace(body[:i]), []string{strings.TrimSpace(body[i+1:])}, line
}

// end writes the option that has been read.
func (p *pipParser) end() {
	key := p.key
	p.key = ""
	if key == "" || p.line == 0 {
		return
	}
	clean, ok := p.clean(pipKind(key), strings.TrimSpace(strings.Join(p.value, " ")))
	if !ok || p.section == "" {
		p.refuse(pipKind(key), key, p.line)
		return
	}
	if p.section != p.written {
		p.b.WriteString("[" + p.section + "]\n")
		p.written = p.section
	}
	p.b.WriteString(strings.ToLower(key) + " = " + clean + "\n")
}
