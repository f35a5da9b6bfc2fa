package toolconf

import (
	"slices"
	"strings"
	"testing"
)

// secret stands for every credential in the tests.
const secret = "hunter2"

func TestURL(t *testing.T) {
	good := map[string]string{
		"https://registry.example.com/":                             "https://registry.example.com/",
		"https://me:hunter2@registry.example.com:8443/npm/@corp/x":  "https://registry.example.com:8443/npm/@corp/x",
		"https://hunter2@registry.example.com":                      "https://registry.example.com",
		"https://a@b:hunter2@registry.example.com/":                 "https://registry.example.com/",
		"https://registry.example.com/simple?token=hunter2#hunter2": "https://registry.example.com/simple",
		"sparse+https://me:hunter2@registry.example.com/index/":     "sparse+https://registry.example.com/index/",
		"http://[2001:db8::1]:80/x":                                 "http://[2001:db8::1]:80/x",
		"http://u:hunter2@[::1]/x":                                  "http://[::1]/x",
		"ssh://git@git.example.com:22/a.git":                        "ssh://git@git.example.com:22/a.git",
		"ssh://git:hunter2@git.example.com/a.git":                   "ssh://git.example.com/a.git",
		"file:///srv/wheels":                                        "file:///srv/wheels",
		"https://${HOST}:${PORT}/npm/${REPO}/":                      "https://${HOST}:${PORT}/npm/${REPO}/",
		"https://${USER}:${hunter2}@registry.example.com/":          "https://registry.example.com/",
		"https://registry.example.com/a%2fb/~me/x;y=1":              "https://registry.example.com/a%2fb/~me/x;y=1",
		"${NPM_REGISTRY}":                                           "${NPM_REGISTRY}",
	}
	for in, want := range good {
		if got, ok := URL(in); got != want || !ok {
			t.Errorf("URL(%q) = %q, %v, want %q", in, got, ok, want)
		}
	}
	bad := []string{
		"", "hunter2", "registry.example.com", "//u:hunter2@registry.example.com/", "https:u:hunter2@registry.example.com/", "https:/u:hunter2@registry.example.com/", "https:///u:hunter2@registry.example.com/",
		"https://u:hunter2/@registry.example.com/", "https://u:hun/ter2@registry.example.com/", "https://u:12?hunter2@registry.example.com/", "https://u:12#hunter2@registry.example.com/", `https://u:12\hunter2@registry.example.com/`,
		`https://registry.example.com\@hunter2/`, "https://u%3ahunter2%40registry.example.com/", "https://registry.example.com/ hunter2", "https://registry.example.com/\nhunter2", "https://registry.example.com/\x00", "https://registry.example.com/é",
		"https://proxy.example.com/https://u:hunter2@registry.example.com/", "https://registry.example.com:hunter2/", "https://:hunter2@/", "https://", "1https://x.example.com/", "javascript:hunter2", "https://x.example.com/\"hunter2", "${A}hunter2", "${", "${}", "https://${A", "https://x.example.com/token=hunter2",
		"https://registry.example.com/npm_" + strings.Repeat("a", 36),
	}
	for _, in := range bad {
		if got, ok := URL(in); ok {
			t.Errorf("URL(%q) = %q", in, got)
		}
	}
}

// sample is a file of the host's, and what must be inside.
type sample struct {
	format   Format
	in, want string
	dropped  []string
	lost     []string
	bad      bool
}

var samples = map[string]sample{
	"npmrc": {format: Npmrc, in: "\ufeff; npm\r\nregistry = https://me:hunter2@registry.example.com/npm/\r\n" +
		"@corp:registry=\"https://npm.example.com/\" \n@other:registry='https://other.example.com/'\n" +
		"//npm.example.com/:_authToken=hunter2\n//npm.example.com/:username=me\n//npm.example.com/:_password=hunter2\n_auth=hunter2\n_authToken = hunter2\nemail=hunter2@example.com\nusername=hunter2\n" +
		"always-auth=true\nstrict-ssl=false\nsave-exact\nproxy=http://u:hunter2@proxy.example.com\nhttps-proxy=http://proxy.example.com/\nkey=\"-----BEGIN PRIVATE KEY-----\\nhunter2\"\ncert=hunter2\notp=123456\n" +
		"hunter2 is no key\n=hunter2\n#//npm.example.com/:_authToken=hunter2\nca=\"-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\"\nca[]=\"-----BEGIN PRIVATE KEY-----hunter2\"\nloglevel=warn ; hunter2\ncache=/tmp/\x00hunter2\nprefix=\xffhunter2\nignore-scripts=true\n" +
		"hoist-pattern[]=*eslint*\ntag=npm_0123456789abcdefhunter2\n@corp:registry=hunter2\n[section]\nregistry=https://hunter2.example.com/\n",
		want: "registry=https://registry.example.com/npm/\n@corp:registry=https://npm.example.com/\n@other:registry=https://other.example.com/\n" +
			"strict-ssl=false\nsave-exact=true\nca=\"-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\"\nloglevel=warn\nignore-scripts=true\nhoist-pattern[]=*eslint*\n",
		dropped: []string{"//npm.example.com/:_authToken", "_auth", "line 20", "what follows line 32"}, lost: []string{"@corp:registry"}},
	"yarnrc": {format: Yarnrc, in: "# yarn\nregistry \"https://u:hunter2@registry.example.com\"\n\"@corp:registry\" \"https://npm.example.com/\"\nnpmAuthToken hunter2\nemail hunter2\n--install.x hunter2\nhunter2\n",
		want: "\"registry\" \"https://registry.example.com\"\n\"@corp:registry\" \"https://npm.example.com/\"\n", dropped: []string{"npmAuthToken", "email"}},
	"yarnrc.yml": {format: YarnrcYML, in: "# yarn\nnodeLinker: node-modules\nnpmRegistryServer: \"https://u:hunter2@registry.example.com\" # main\nnpmAuthToken: hunter2\nnpmScopes:\n  corp:\n    npmRegistryServer: https://npm.example.com\n    npmAuthToken: hunter2\n    npmAlwaysAuth: true\n  other:\n    npmRegistryServer: 'https://other.example.com'\n" +
		"npmRegistries:\n  //npm.example.com:\n    npmAuthToken: hunter2\n    npmRegistryServer: https://hunter2.example.com\nhttpsProxy: http://u:hunter2@proxy\nlogFilters:\n  - code: hunter2\nenableTelemetry: false\nyarnPath: |\n  npmRegistryServer: https://hunter2.example.com\n",
		want:    "nodeLinker: \"node-modules\"\nnpmRegistryServer: \"https://registry.example.com\"\nenableTelemetry: \"false\"\nnpmScopes:\n  corp:\n    npmRegistryServer: \"https://npm.example.com\"\n  other:\n    npmRegistryServer: \"https://other.example.com\"\n",
		dropped: []string{"npmAuthToken", "npmScopes.corp.npmAuthToken", "npmRegistries"}},
	"pip.conf": {format: Pip, in: "# pip\n[global]\nindex-url = https://u:hunter2@pypi.example.com/simple\nextra_index_url =\n    https://me:hunter2@one.example.com/simple\n    # hunter2\n\n    https://two.example.com/simple\ntrusted-host: pypi.example.com\n  one.example.com:8443\nproxy = http://u:hunter2@proxy\n  registry.example.com\nclient-cert = /hunter2\ntimeout = 60\nno-index = false\n" +
		"find-links =\n  /srv/wheels\n  https://hunter2@wheels.example.com/?hunter2\n  ~/wheels\nhunter2\n   index-url = https://hunter2.example.com/\n[install]\nno-binary = :all:\n[bad section!]\nindex-url = https://hunter2.example.com/\n[hunter2\nindex-url = https://hunter2.example.com/\n",
		want:    "[global]\nindex-url = https://pypi.example.com/simple\nextra_index_url = https://one.example.com/simple https://two.example.com/simple\ntrusted-host = pypi.example.com one.example.com:8443\ntimeout = 60\nno-index = false\nfind-links = /srv/wheels https://wheels.example.com/ ~/wheels\n[install]\nno-binary = :all:\n",
		dropped: []string{"proxy", "client-cert", "line 20"}},
	"pip without one place": {format: Pip, in: "[global]\nextra-index-url = https://one.example.com/ u:hunter2@two.example.com\n", want: "", dropped: []string{"extra-index-url"}, lost: []string{"extra-index-url"}},
	"go env": {format: GoEnv, in: "GOPROXY=https://u:hunter2@proxy.example.com/go,https://two.example.com|direct\nGOPRIVATE=*.example.com,example.com/x\nGONOSUMDB=*.example.com\nGOSUMDB=sum.example.com+abc+hunterkey https://u:hunter2@sum.example.com/\nGOAUTH=netrc hunter2\nGOFLAGS=-mod=mod -ldflags=-X=main.token=hunter2\nGOTOOLCHAIN=local\nGOINSECURE=*.corp\n#GOAUTH=hunter2\nGOPATH=/home/me/go\nhunter2\nGONOPROXY=hunter2@x\nGOVCS=private:git,public:git\n",
		want:    "GOPROXY=https://proxy.example.com/go,https://two.example.com|direct\nGOPRIVATE=*.example.com,example.com/x\nGONOSUMDB=*.example.com\nGOSUMDB=sum.example.com+abc+hunterkey https://sum.example.com/\nGOTOOLCHAIN=local\nGOINSECURE=*.corp\nGOPATH=/home/me/go\nGOVCS=private:git,public:git\n",
		dropped: []string{"GOAUTH", "GOFLAGS", "GONOPROXY"}, lost: []string{"GONOPROXY"}},
	"cargo": {format: Cargo, in: "\ufeff# cargo\r\n[source.crates-io]\r\nreplace-with = 'corp' # hunter2\n[source.corp]\nregistry = \"sparse+https://u:hunter2@crates.example.com/index/\"\n[registries.corp]\nindex = \"https://crates.example.com/git/index\"\ntoken = \"hunter2\"\ncredential-provider = [\"cargo:token-from-stdout\", \"hunter2\"]\nsecret-key = \"hunter2\"\n[registries]\nother = { index = 'ssh://git@git.example.com/index.git', token = \"hunter2\" }\n[registry]\ndefault = \"corp\"\ntoken = '''\nindex = \"https://hunter2.example.com/\"\nhunter2'''\nglobal-credential-providers = [\n  \"hunter2\", # [net]\n]\n" +
		"[net]\ngit-fetch-with-cli = true\nretry = 3\n[http]\nproxy = \"u:hunter2@proxy\"\ncainfo = \"/etc/ca.pem\"\ncheck-revoke = false\n[build]\njobs = 2\nrustflags = [\"-C\", \"link-arg=-fuse-ld=lld\"]\n[target.'cfg(unix)']\nlinker = \"clang\"\n[env]\nTOKEN = \"hunter2\"\nX = { value = \"hunter2\", force = true }\n[alias]\nb = \"build --token hunter2\"\n[profile.dev.package.\"*\"]\nopt-level = 2\n[profile.release]\nlto = \"thin\"\n[patch.crates-io]\nfoo = { git = \"https://hunter2@git.example.com/foo\", branch = \"main\" }\nbar.path = \"../bar\"\n[[x]]\ny = [{ z = \"hunter2\" }]\n",
		want: "source.crates-io.replace-with = \"corp\"\nsource.corp.registry = \"sparse+https://crates.example.com/index/\"\nregistries.corp.index = \"https://crates.example.com/git/index\"\nregistries.other.index = \"ssh://git@git.example.com/index.git\"\nregistry.default = \"corp\"\nnet.git-fetch-with-cli = true\nnet.retry = 3\nhttp.cainfo = \"/etc/ca.pem\"\nhttp.check-revoke = false\nbuild.jobs = 2\nbuild.rustflags = [\"-C\", \"link-arg=-fuse-ld=lld\"]\ntarget.\"cfg(unix)\".linker = \"clang\"\nprofile.release.lto = \"thin\"\n" +
			"patch.crates-io.foo.git = \"https://git.example.com/foo\"\npatch.crates-io.foo.branch = \"main\"\npatch.crates-io.bar.path = \"../bar\"\n",
		dropped: []string{"registries.corp.token", "registries.corp.credential-provider", "registry.token", "http.proxy", "env.TOKEN", "alias.b"}},
	"cargo, not TOML": {format: Cargo, in: "[source.crates-io]\nreplace-with = corp corp\n", bad: true},
	"cargo, open":     {format: Cargo, in: "[registries.corp]\nindex = \"https://crates.example.com/\"\nx = \"\"\"hunter2", bad: true},
	"git": {format: Git, in: "\ufeff# git\n[user]\n\tname = Me \"von\" Me ; hunter2\n\temail = me@example.com\n\tsigningkey = hunter2\n[core] autocrlf = input\n\tsshCommand = ssh -i hunter2\n\thooksPath = /hunter2\n\tpager = less\n[url \"https://oauth2:hunter2@git.example.com/\"]\n\tinsteadOf = https://git.example.com/\n[url \"git@git.example.com:\"]\n\tinsteadOf = gh:\n\tpushInsteadOf = \"https://u:hunter2@git.example.com/\"\n[url \"https://\"]\n\tinsteadOf = git://\n[url \"hunter2:x@git.example.com\"]\n\tinsteadOf = x:\n" +
		"[credential]\n\thelper = store --file hunter2\n[credential \"https://hunter2.example.com\"]\n\tusername = hunter2\n[http]\n\tproxy = http://u:hunter2@proxy\n\tsslVerify\n\textraHeader = \"Authorization: hunter2\"\n\tcookieFile = ~/hunter2\n[http \"https://u:hunter2@git.example.com/\"]\n\tsslVerify = false\n\textraHeader = hunter2\n[alias]\n\tco = checkout\n\tx = !curl hunter2\n[include]\n\tpath = ~/hunter2\n[includeIf \"gitdir:~/w/\"]\n\tpath = ~/hunter2\n[safe]\n\tdirectory = *\n" +
		"[init]\n\tdefaultBranch = ma\\\nin\n[commit]\n\tgpgsign = true\n[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n\tsmudge = git-lfs smudge -- %f\n\tprocess = sh -c hunter2\n\trequired = true\n[merge \"x\"]\n\tdriver = hunter2\n[sendemail]\n\tsmtppass = hunter2\n[github]\n\ttoken = hunter2\n[broken\n\tname = hunter2\n[pull]\n\trebase = true\n\tff = \"unterminated hunter2\n[push] default=simple\r\n[color]\n\tui = bad\\q\n[color \"hunter2\"]\n\tui = auto\n[user]\n\tname = line\\nhunter2\n",
		want: "[user]\n\tname = \"Me von Me\"\n\temail = \"me@example.com\"\n[core]\n\tautocrlf = \"input\"\n[url \"https://git.example.com/\"]\n\tinsteadof = \"https://git.example.com/\"\n[url \"git@git.example.com:\"]\n\tinsteadof = \"gh:\"\n\tpushinsteadof = \"https://git.example.com/\"\n[url \"https://\"]\n\tinsteadof = \"git://\"\n[http]\n\tsslverify = \"true\"\n[http \"https://git.example.com/\"]\n\tsslverify = \"false\"\n[safe]\n\tdirectory = \"*\"\n[init]\n\tdefaultbranch = \"main\"\n" +
			"[filter \"lfs\"]\n\tclean = \"git-lfs clean -- %f\"\n\tsmudge = \"git-lfs smudge -- %f\"\n\trequired = \"true\"\n[pull]\n\trebase = \"true\"\n[push]\n\tdefault = \"simple\"\n",
		dropped: []string{"user.signingkey", "core.sshcommand", "credential.helper", "http.extraheader", "http.*.extraheader", "alias.co", "include.path", "includeif.*.path"}, lost: []string{"url.*.insteadof"}},
	"maven": {format: Maven, in: "<?xml version=\"1.0\"?>\n<!-- hunter2 -->\n<settings xmlns=\"http://maven.example.com/SETTINGS\" x='>hunter2'>\n<localRepository>${user.home}/.m2/repository</localRepository><!-- <server>hunter2</server> -->\n<servers><server><id>corp</id><username>me</username><password>hunter2</password></server></servers>\n<proxies><proxy><host>p</host><password>hunter2</password></proxy></proxies>\n" +
		"<mirrors><mirror><id>corp</id><name>a &amp; b</name><url>https://u:hunter2@maven.example.com/repo</url><mirrorOf>*,!x</mirrorOf></mirror></mirrors>\n<profiles><profile><id>p</id><activation><activeByDefault>true</activeByDefault></activation><properties><pass>hunter2</pass></properties><repositories><repository><id>r</id><url><![CDATA[https://r.example.com/]]></url><snapshots><enabled>false</enabled></snapshots></repository></repositories></profile></profiles>\n<activeProfiles><activeProfile>p</activeProfile></activeProfiles>\n<hunter2/>\n</settings>\n",
		want:    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<settings>\n  <localRepository>${user.home}/.m2/repository</localRepository>\n  <mirrors>\n    <mirror>\n      <id>corp</id>\n      <name>a &amp; b</name>\n      <url>https://maven.example.com/repo</url>\n      <mirrorOf>*,!x</mirrorOf>\n    </mirror>\n  </mirrors>\n  <profiles>\n    <profile>\n      <id>p</id>\n      <activation>\n        <activeByDefault>true</activeByDefault>\n      </activation>\n      <repositories>\n        <repository>\n          <id>r</id>\n          <url>https://r.example.com/</url>\n          <snapshots>\n            <enabled>false</enabled>\n          </snapshots>\n        </repository>\n      </repositories>\n    </profile>\n  </profiles>\n  <activeProfiles>\n    <activeProfile>p</activeProfile>\n  </activeProfiles>\n</settings>\n",
		dropped: []string{"servers", "proxies", "profiles.profile.properties"}},
	"maven, entities": {format: Maven, in: "<!DOCTYPE settings [<!ENTITY x \"hunter2\">]><settings><localRepository>&x;</localRepository></settings>", bad: true},
	"maven, open":     {format: Maven, in: "<settings><mirrors>", bad: true},
	"composer": {format: Composer, in: `{"repositories": {"corp": {"type": "composer", "url": "https://u:hunter2@composer.example.com", "options": {"http": {"header": ["X: hunter2"]}}}, "g": {"type": "vcs", "url": "git@git.example.com:a/b.git"}, "bad": {"type": "vcs", "url": "u:hunter2@x"}, "main.example.com": false},
		"config": {"http-basic": {"x": {"username": "me", "password": "hunter2"}}, "github-oauth": {"github.com": "hunter2"}, "bearer": {"x": "hunter2"}, "gitlab-token": {"x": "hunter2"}, "sort-packages": true, "allow-plugins": {"a/b": true}, "platform": {"php": "8.2"}, "cache-dir": "~/c"}, "http-basic": {"x": "hunter2"}, "minimum-stability": "dev"}`,
		want: `{
    "config": {
        "allow-plugins": {
            "a/b": true
        },
        "cache-dir": "~/c",
        "platform": {
            "php": "8.2"
        },
        "sort-packages": true
    },
    "minimum-stability": "dev",
    "repositories": {
        "corp": {
            "type": "composer",
            "url": "https://composer.example.com"
        },
        "g": {
            "type": "vcs",
            "url": "git@git.example.com:a/b.git"
        },
        "main.example.com": false
    }
}
`, dropped: []string{"config.http-basic", "config.github-oauth", "http-basic", "repositories.options"}},
	"composer, list": {format: Composer, in: `{"repositories": [{"type": "composer", "url": "https://hunter2@composer.example.com/?a=hunter2"}, {"main.example.com": false}, "hunter2"]}`,
		want: "{\n    \"repositories\": [\n        {\n            \"type\": \"composer\",\n            \"url\": \"https://composer.example.com/\"\n        },\n        {\n            \"main.example.com\": false\n        }\n    ]\n}\n"},
	"uv": {format: UV, in: "index-url = \"https://me:hunter2@pypi.example.com/simple\"\nextra-index-url = [\"https://hunter2@one.example.com/simple\"]\nkeyring-provider = \"hunter2\"\ncache-dir = \"/data\"\nunknown = \"hunter2\"\n[pip]\nindex-url = \"https://pypi.example.com/simple\"\n[[index]]\nname = \"corp\"\nurl = \"https://me:hunter2@corp.example.com/simple\"\ndefault = true\n[[index]]\nname = \"bad\"\nurl = \"hunter2\"\n[[index]]\nurl = \"https://two.example.com/\"\ncache-control = { api = \"hunter2\" }\n[[other]]\nurl = \"https://hunter2.example.com\"\n[index.x]\nurl = \"https://hunter2.example.com\"\n",
		want:    "index-url = \"https://pypi.example.com/simple\"\nextra-index-url = [\"https://one.example.com/simple\"]\npip.index-url = \"https://pypi.example.com/simple\"\n[[index]]\nname = \"corp\"\nurl = \"https://corp.example.com/simple\"\ndefault = true\n[[index]]\nurl = \"https://two.example.com/\"\n",
		dropped: []string{"keyring-provider", "cache-dir", "unknown", "index.url"}, lost: []string{"index.url"}},
	"uv, inline":         {format: UV, in: "index = [{ name = \"corp\", url = \"https://hunter2@corp.example.com/\" }]\n", lost: []string{"index"}},
	"composer, not JSON": {format: Composer, in: `["hunter2"]`, bad: true},
}

func TestClean(t *testing.T) {
	for name, s := range samples {
		r := Clean(s.format, []byte(s.in), "/home/me")
		if (r.Bad != "") != s.bad {
			t.Errorf("%s: bad: %q", name, r.Bad)
		}
		if r.Data != s.want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, r.Data, s.want)
		}
		for _, d := range s.dropped {
			if !slices.Contains(r.Dropped, d) {
				t.Errorf("%s: %q is not among what was left out: %q", name, d, r.Dropped)
			}
		}
		if s.lost != nil && !slices.Equal(r.Lost, s.lost) {
			t.Errorf("%s: lost are %q, want %q", name, r.Lost, s.lost)
		}
		checkClean(t, s.format, r)
		if strings.Contains(r.Data+r.Bad, secret) {
			t.Errorf("%s: a credential is left", name)
		}
		// What is clean is written the same again.
		if again := Clean(s.format, []byte(r.Data), "/home/me"); r.Data != "" && again.Data != r.Data {
			t.Errorf("%s: the second time it is\n%s", name, again.Data)
		}
	}
}

// checkClean holds what is true of every result.
func checkClean(t *testing.T, f Format, r Result) {
	t.Helper()
	for line := range strings.Lines(r.Data) {
		if strings.ContainsAny(line, "\x00\r") || !strings.Contains(line, "ssh://") && Credential(line) {
			t.Errorf("format %d: %q", f, line)
		}
	}
	for _, d := range r.Dropped {
		if strings.ContainsFunc(d, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			t.Errorf("format %d: the name %q can drive a terminal", f, d)
		}
	}
}

// FuzzClean tries all formats: no crash, and what is clean stays as it is.
func FuzzClean(f *testing.F) {
	for _, s := range samples {
		f.Add(uint8(s.format), []byte(s.in))
	}
	f.Fuzz(func(t *testing.T, format uint8, data []byte) {
		form := Format(format%10 + 1)
		r := Clean(form, data, "/home/me")
		checkClean(t, form, r)
		if r.Bad != "" && r.Data != "" {
			t.Errorf("bad, and yet: %q", r.Data)
		}
		if again := Clean(form, []byte(r.Data), "/home/me"); r.Data != "" && (again.Data != r.Data || again.Bad != "") {
			t.Errorf("format %d: %q, the second time %q %s", form, r.Data, again.Data, again.Bad)
		}
	})
}

func FuzzURL(f *testing.F) {
	f.Add("https://u:hunter2@registry.example.com/@x")
	f.Fuzz(func(t *testing.T, s string) {
		clean, ok := URL(s)
		if again, ok2 := URL(clean); ok && (again != clean || !ok2) {
			t.Errorf("%q: %q, then %q", s, clean, again)
		}
		if i := strings.Index(clean, "@"); ok && i >= 0 && clean[i-1] != '/' && !strings.Contains(clean[:i], "ssh://") {
			t.Errorf("%q: %q", s, clean)
		}
	})
}

func TestVariable(t *testing.T) {
	good := map[string]string{
		"GOPROXY=https://u:hunter2@proxy.example.com,direct":                    "https://proxy.example.com,direct",
		"GOPRIVATE=*.example.com":                                               "*.example.com",
		"GOSUMDB=off":                                                           "off",
		"npm_config_registry=https://hunter2@npm.example.com/":                  "https://npm.example.com/",
		"NPM_CONFIG_REGISTRY=https://npm.example.com/":                          "https://npm.example.com/",
		"npm_config_@corp:registry=https://u:p@npm.example.com/":                "https://npm.example.com/",
		"npm_config_strict_ssl=false":                                           "false",
		"PIP_INDEX_URL=https://u:hunter2@pypi.example.com/simple":               "https://pypi.example.com/simple",
		"PIP_EXTRA_INDEX_URL=https://a:b@x.example.com/ https://y.example.com/": "https://x.example.com/ https://y.example.com/",
		"PIP_TRUSTED_HOST=pypi.example.com":                                     "pypi.example.com",
		"PIP_NO_INDEX=1":                                                        "1",
		"UV_DEFAULT_INDEX=https://u:hunter2@pypi.example.com/simple":            "https://pypi.example.com/simple",
		"UV_INDEX=corp=https://u:hunter2@pypi.example.com/simple":               "corp=https://pypi.example.com/simple",
		"CARGO_REGISTRIES_MY_CORP_INDEX=sparse+https://u:p@crates.example.com":  "sparse+https://crates.example.com",
		"CARGO_REGISTRY_DEFAULT=corp":                                           "corp",
		"CARGO_SOURCE_CRATES_IO_REPLACE_WITH=corp":                              "corp",
		"GOPROXY=": "",
	}
	for kv, want := range good {
		name, value, _ := strings.Cut(kv, "=")
		if got, known, ok := Variable(name, value); got != want || !known || !ok {
			t.Errorf("%s: %q, %v, %v", kv, got, known, ok)
		}
	}
	for _, kv := range []string{"GOPROXY=hunter2", "npm_config_registry=hunter2", "PIP_INDEX_URL=u:hunter2@x", "PIP_EXTRA_INDEX_URL=https://a.example.com/ hunter2", "UV_INDEX=hunter2", "CARGO_REGISTRIES_X_INDEX=hunter2", "GOPRIVATE=u:hunter2@x", "PIP_NO_INDEX=\x1b[m", "npm_config_@corp:registry=x"} {
		name, value, _ := strings.Cut(kv, "=")
		if got, known, ok := Variable(name, value); !known || ok {
			t.Errorf("%s: %q, %v, %v", kv, got, known, ok)
		}
	}
	for _, name := range []string{"GOAUTH", "npm_config__auth", "NPM_CONFIG__AUTHTOKEN", "npm_config_//npm.example.com/:_authToken", "npm_config_proxy", "PIP_PROXY", "PIP_CLIENT_CERT", "UV_INDEX_CORP_PASSWORD", "UV_INDEX_CORP_USERNAME", "CARGO_REGISTRY_TOKEN", "CARGO_REGISTRIES_CORP_TOKEN", "CARGO_HTTP_PROXY", "CARGO_REGISTRIES_CORP_CREDENTIAL_PROVIDER", "npm_config_@corp:_authToken"} {
		if _, known, _ := Variable(name, "x"); known {
			t.Errorf("%s passes", name)
		}
	}
}

// Where a variable names a file of which the command hears nothing, it appears at
// its usual place.
func TestFiles(t *testing.T) {
	env := map[string]string{"NPM_CONFIG_USERCONFIG": "/data/npmrc", "XDG_CONFIG_HOME": "/home/me/.cfg", "CARGO_HOME": "/home/me/rust", "COMPOSER_HOME": "/opt/composer", "GOENV": "off", "COMPOSER_X": ""}
	got := map[string]string{}
	for _, f := range Files("/home/me", func(n string) string { return env[n] }) {
		got[f.Target] = f.Source
	}
	for target, source := range map[string]string{
		"/home/me/.npmrc": "/data/npmrc", "/home/me/.config/git/config": "/home/me/.cfg/git/config", "/home/me/.gitconfig": "/home/me/.gitconfig", "/home/me/rust/config.toml": "/home/me/rust/config.toml",
		"/home/me/.config/go/env": "", "/opt/composer/config.json": "", "/home/me/.config/pip/pip.conf": "/home/me/.cfg/pip/pip.conf",
	} {
		if got[target] != source {
			t.Errorf("%s is from %q, want %q", target, got[target], source)
		}
	}
	for env, want := range map[string]map[string]string{
		"PIP_CONFIG_FILE=/etc/corp/pip.conf": {"/home/me/.config/pip/pip.conf": "/etc/corp/pip.conf", "/home/me/.pip/pip.conf": "/home/me/.config/pip/pip.conf"},
		"PIP_CONFIG_FILE=/dev/null":          {"/home/me/.config/pip/pip.conf": "", "/home/me/.pip/pip.conf": ""},
		"GIT_CONFIG_GLOBAL=/dev/null":        {"/home/me/.gitconfig": "", "/home/me/.config/git/config": ""},
		"GIT_CONFIG_GLOBAL=/home/me/g":       {"/home/me/.gitconfig": "/home/me/g", "/home/me/.config/git/config": ""},
	} {
		name, value, _ := strings.Cut(env, "=")
		got := map[string]string{}
		for _, f := range Files("/home/me", func(n string) string {
			if n == name {
				return value
			}
			return ""
		}) {
			got[f.Target] = f.Source
		}
		for target, source := range want {
			if got[target] != source {
				t.Errorf("%s: %s is from %q, want %q", env, target, got[target], source)
			}
		}
	}
	for _, home := range []string{"", "/"} {
		if f := Files(home, func(string) string { return "" }); f != nil {
			t.Errorf("%q: %v", home, f)
		}
	}
}

// TestDirectories: where a tool would write outside $HOME, it takes its default.
func TestDirectories(t *testing.T) {
	for path, want := range map[string]bool{
		"/home/me/x": true, "/home/me": true, "~/x": true, "${HOME}/x": true, "${user.home}/.m2": true, "x/y": true, "": true,
		"/data/x": false, "/home/me2": false, "/home/me/../you": false, "~you/x": false, "${X}/y": false, "$HOMEX": false, "/": false,
	} {
		if got := Clean(GoEnv, []byte("GOPATH="+path+"\n"), "/home/me").Data != ""; got != want {
			t.Errorf("GOPATH=%s is kept: %v", path, got)
		}
		if got := Clean(Npmrc, []byte("cache="+path+"\n"), "/home/me").Data != ""; got != want {
			t.Errorf("cache=%s is kept: %v", path, got)
		}
	}
}
