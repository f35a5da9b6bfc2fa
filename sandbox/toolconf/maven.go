package toolconf

import (
	"strings"
	"sync"
)

// xmlRule says what of an element is kept: its text, of a kind, or elements in it.
type xmlRule struct {
	kind kind
	in   map[string]*xmlRule
}

func leaf(k kind) *xmlRule { return &xmlRule{kind: k} }

// mavenRules are the elements of a settings.xml that may pass. Not among them are
// servers and proxies, which authenticate, and properties and the configuration of
// servers, which may hold anything. Properties that activate a profile are names.
var mavenRules = sync.OnceValue(func() *xmlRule {
	update := &xmlRule{in: map[string]*xmlRule{"enabled": leaf(word), "updatePolicy": leaf(word), "checksumPolicy": leaf(word)}}
	repository := &xmlRule{in: map[string]*xmlRule{"id": leaf(text), "name": leaf(text), "url": leaf(address), "layout": leaf(word), "releases": update, "snapshots": update}}
	profile := &xmlRule{in: map[string]*xmlRule{
		"id":                 leaf(text),
		"activation":         {in: map[string]*xmlRule{"activeByDefault": leaf(word), "jdk": leaf(text), "os": {in: map[string]*xmlRule{"name": leaf(text), "family": leaf(word), "arch": leaf(word), "version": leaf(text)}}}},
		"repositories":       {in: map[string]*xmlRule{"repository": repository}},
		"pluginRepositories": {in: map[string]*xmlRule{"pluginRepository": repository}},
	}}
	return &xmlRule{in: map[string]*xmlRule{
		"localRepository": leaf(directory), "interactiveMode": leaf(word), "offline": leaf(word), "usePluginRegistry": leaf(word),
		"pluginGroups":   {in: map[string]*xmlRule{"pluginGroup": leaf(word)}},
		"mirrors":        {in: map[string]*xmlRule{"mirror": {in: map[string]*xmlRule{"id": leaf(text), "name": leaf(text), "url": leaf(address), "mirrorOf": leaf(text), "layout": leaf(word), "mirrorOfLayouts": leaf(text), "blocked": leaf(word)}}}},
		"profiles":       {in: map[string]*xmlRule{"profile": profile}},
		"activeProfiles": {in: map[string]*xmlRule{"activeProfile": leaf(text)}},
	}}
})

// mavenSettings reads the settings.xml of Maven.
func mavenSettings(w writer, text string) Result {
	root, ok := parseXML(text)
	if !ok || root.name != "settings" {
		return Result{Bad: "it is not XML that sbx understands"}
	}
	w.b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<settings>\n")
	w.elements(root, mavenRules(), "", "  ")
	w.b.WriteString("</settings>\n")
	return w.result()
}

func (w *writer) elements(e *element, rule *xmlRule, path, indent string) {
	for _, c := range e.children {
		r := rule.in[c.name]
		name := path + c.name
		switch {
		case r == nil:
			w.dropKey(name, 0)
		case r.in != nil:
			w.b.WriteString(indent + "<" + c.name + ">\n")
			w.elements(c, r, name+".", indent+"  ")
			w.b.WriteString(indent + "</" + c.name + ">\n")
		default:
			clean, ok := w.clean(r.kind, strings.TrimSpace(c.text))
			if !ok || len(c.children) > 0 {
				w.refuse(r.kind, name, 0)
				continue
			}
			w.b.WriteString(indent + "<" + c.name + ">" + escapeXML(clean) + "</" + c.name + ">\n")
		}
	}
}
