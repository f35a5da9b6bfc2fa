package toolconf

import (
	"path/filepath"
	"strings"
)

// Format is the grammar of a file, with the keys that are kept.
type Format uint8

const (
	Npmrc Format = iota + 1
	Yarnrc
	YarnrcYML
	Pip
	GoEnv
	Cargo
	Git
	Maven
	Composer
	UV
)

// File is a file of the host's that appears inside.
type File struct {
	Format Format
	// Source is its path on the host, Target the one inside.
	Source, Target string
}

// MaxSize bounds what is read of a file. Real ones have a few kilobytes.
const MaxSize = 1 << 20

// Files are the files of a user with this home directory, which may or may not
// exist. Where a variable that the command does not get names a file
// ($NPM_CONFIG_USERCONFIG), it appears at its default place.
func Files(home string, getenv func(string) string) []File {
	if home == "" || home == "/" {
		return nil
	}
	config := home + "/.config"
	if v := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(v) {
		config = filepath.Clean(v)
	}
	// named is the file that a variable names, instead of the usual one; "" where it
	// says that there is none.
	named := func(usual string, names ...string) string {
		for _, n := range names {
			switch v := getenv(n); {
			case v == "/dev/null":
				return ""
			case filepath.IsAbs(v):
				return filepath.Clean(v)
			}
		}
		return usual
	}
	list := []File{
		{Npmrc, named(home+"/.npmrc", "npm_config_userconfig", "NPM_CONFIG_USERCONFIG"), home + "/.npmrc"},
		{Npmrc, config + "/pnpm/rc", home + "/.config/pnpm/rc"},
		{Yarnrc, home + "/.yarnrc", home + "/.yarnrc"},
		{YarnrcYML, home + "/.yarnrc.yml", home + "/.yarnrc.yml"},
		{UV, named(config+"/uv/uv.toml", "UV_CONFIG_FILE"), home + "/.config/uv/uv.toml"},
		{Git, named(home+"/.gitconfig", "GIT_CONFIG_GLOBAL"), home + "/.gitconfig"},
		{Maven, home + "/.m2/settings.xml", home + "/.m2/settings.xml"},
	}
	if getenv("GIT_CONFIG_GLOBAL") == "" { // else git reads no other
		list = append(list, File{Git, config + "/git/config", home + "/.config/git/config"})
	}
	// Of pip's two files the second counts for less. $PIP_CONFIG_FILE is read besides
	// the user's, and counts for more; /dev/null stands for none at all.
	switch pip := named(config+"/pip/pip.conf", "PIP_CONFIG_FILE"); {
	case pip == config+"/pip/pip.conf":
		list = append(list, File{Pip, pip, home + "/.config/pip/pip.conf"}, File{Pip, home + "/.pip/pip.conf", home + "/.pip/pip.conf"})
	case pip != "":
		list = append(list, File{Pip, pip, home + "/.config/pip/pip.conf"}, File{Pip, config + "/pip/pip.conf", home + "/.pip/pip.conf"})
	}
	if getenv("GOENV") != "off" { // go help environment
		list = append(list, File{GoEnv, named(config+"/go/env", "GOENV"), home + "/.config/go/env"})
	}
	// These variables pass, so the file stays where they say.
	cargo := named(home+"/.cargo", "CARGO_HOME")
	list = append(list, File{Cargo, cargo + "/config.toml", cargo + "/config.toml"}, File{Cargo, cargo + "/config", cargo + "/config"})
	if v := getenv("COMPOSER_HOME"); filepath.IsAbs(v) {
		v = filepath.Clean(v)
		list = append(list, File{Composer, v + "/config.json", v + "/config.json"})
	} else {
		list = append(list,
			File{Composer, config + "/composer/config.json", home + "/.config/composer/config.json"},
			File{Composer, home + "/.composer/config.json", home + "/.composer/config.json"})
	}
	out := list[:0]
	for _, f := range list {
		if strings.HasPrefix(f.Target, home+"/") && f.Source != "" {
			out = append(out, f)
		}
	}
	return out
}

// Etc are the files of the system, by their names below /etc.
var Etc = []File{
	{Npmrc, "/etc/npmrc", "npmrc"},
	{Pip, "/etc/pip.conf", "pip.conf"},
	{Git, "/etc/gitconfig", "gitconfig"},
	{Maven, "/etc/maven/settings.xml", "maven/settings.xml"},
}

// Result is a file without its credentials.
type Result struct {
	// Data is what is left; "" is nothing.
	Data string
	// Dropped names what was left out: keys, or lines where there is no key. It
	// holds no value.
	Dropped []string
	// Lost are keys among them that route requests, and whose value is not
	// understood.
	Lost []string
	// Bad says why nothing of the file was understood, "" if it was.
	Bad string
}

// Clean removes the credentials from a file's text. home is the user's, inside.
func Clean(f Format, data []byte, home string) Result {
	w := writer{home: home}
	text := strings.TrimPrefix(string(data), "\ufeff") // a BOM
	switch f {
	case Npmrc:
		return npmrc(w, text)
	case Yarnrc:
		return yarnrc(w, text)
	case YarnrcYML:
		return yarnrcYML(w, text)
	case Pip:
		return pipConf(w, text)
	case GoEnv:
		return goEnv(w, text)
	case Cargo:
		return cargoConfig(w, text)
	case Git:
		return gitConfig(w, text)
	case Maven:
		return mavenSettings(w, text)
	case Composer:
		return composerConfig(w, text)
	case UV:
		return uvConfig(w, text)
	}
	return Result{Bad: "its format is unknown"}
}
