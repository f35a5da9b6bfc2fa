package toolconf

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// element is one of XML: its name, the text in it, or the elements in it.
type element struct {
	name     string
	text     string
	children []*element
}

// parseXML reads the part of XML that configuration files use: elements, text,
// comments, CDATA, the predefined entities. Attributes are passed over. A document
// type declaration is refused, because entities could be declared there. Package
// encoding/xml does more, and takes reflection along.
func parseXML(text string) (*element, bool) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, false
	}
	root := &element{}
	stack := []*element{root}
	for count := 0; text != ""; {
		top := stack[len(stack)-1]
		i := strings.IndexByte(text, '<')
		if i < 0 {
			i = len(text)
		}
		s, ok := unescapeXML(text[:i])
		if !ok {
			return nil, false
		}
		top.text += s
		if text = text[i:]; text == "" {
			break
		}
		if count++; count > maxItems {
			return nil, false
		}
		inside := ""
		switch {
		case strings.HasPrefix(text, "<!--"):
			_, text, ok = strings.Cut(text[4:], "-->")
		case strings.HasPrefix(text, "<![CDATA["):
			inside, text, ok = strings.Cut(text[9:], "]]>")
			top.text += inside
		case strings.HasPrefix(text, "<?"):
			_, text, ok = strings.Cut(text[2:], "?>")
		case strings.HasPrefix(text, "</"):
			inside, text, ok = strings.Cut(text[2:], ">")
			if len(stack) == 1 || strings.TrimSpace(inside) != top.name {
				return nil, false
			}
			stack = stack[:len(stack)-1]
		default:
			var e *element
			var empty bool
			if e, empty, text, ok = startTag(text[1:]); ok {
				top.children = append(top.children, e)
				if !empty {
					stack = append(stack, e)
				}
			}
		}
		if !ok || len(stack) > maxDepth {
			return nil, false
		}
	}
	if len(stack) != 1 || len(root.children) != 1 {
		return nil, false
	}
	return root.children[0], true
}

// startTag reads what follows "<", up to and with ">".
func startTag(s string) (e *element, empty bool, rest string, ok bool) {
	n := 0
	for n < len(s) && (alnum(s[n]) || strings.IndexByte("_-.:", s[n]) >= 0) {
		n++
	}
	e = &element{name: s[:n]}
	for i := n; i < len(s) && n > 0; i++ {
		switch s[i] {
		case '"', '\'':
			end := strings.IndexByte(s[i+1:], s[i])
			if end < 0 {
				return nil, false, "", false
			}
			i += 1 + end
		case '<':
			return nil, false, "", false
		case '>':
			return e, s[i-1] == '/', s[i+1:], true
		}
	}
	return nil, false, "", false
}

// xmlEntity is a predefined entity, "" for others.
func xmlEntity(name string) string {
	switch name {
	case "amp":
		return "&"
	case "lt":
		return "<"
	case "gt":
		return ">"
	case "quot":
		return `"`
	case "apos":
		return "'"
	}
	return ""
}

func unescapeXML(s string) (string, bool) {
	if !strings.Contains(s, "&") {
		return s, true
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "&")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		name, rest, ok := strings.Cut(after, ";")
		if !ok || len(name) > 10 {
			return "", false
		}
		if number, isNumber := strings.CutPrefix(name, "#"); isNumber {
			base := 10
			if strings.HasPrefix(number, "x") {
				base, number = 16, number[1:]
			}
			r, err := strconv.ParseUint(number, base, 32)
			if err != nil || !utf8.ValidRune(rune(r)) || r == 0 {
				return "", false
			}
			b.WriteRune(rune(r))
		} else if text := xmlEntity(name); text != "" {
			b.WriteString(text)
		} else {
			return "", false
		}
		s = rest
	}
}

func escapeXML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
