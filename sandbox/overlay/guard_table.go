package overlay

import (
	"iter"
	"strings"
)

// row is a name that something on the host acts upon. Names are compared
// without regard to case, because a tree may move to where it has none.
type row struct {
	// dir is the directory that name must be in, "" for any; it may be several
	// names. Without name it is the directory itself and everything below.
	// A * in name stands for any characters.
	dir, name string
	level     Level
	why       string
}

const (
	byGit      = "git runs programs that it names"
	byEditor   = "an editor runs or obeys it when the directory is opened"
	byAgent    = "an agent obeys it when it is started here"
	byShell    = "a shell runs it on cd, or when it starts"
	byTool     = "a tool runs or obeys it whenever it is started here"
	byPython   = "Python runs it at every start"
	byDesktop  = "a file manager starts what it names"
	inCI       = "it runs in CI"
	byBuild    = "it runs when you build"
	byPlugin   = "a plug-in of an editor may run it"
	ofGit      = "it belongs to a git repository"
	ofVC       = "it belongs to a version control system, which runs hooks"
	ofSbx      = "it sets sbx's own rules"
	ofKeys     = "it decides who may log in"
	ofPython   = "an editor runs the interpreter of a virtual environment"
	byWrapper  = "a wrapper or an editor runs it whenever the tool is started"
	gitHookRun = "git runs the hooks that it installs"
)

// rows is what the guard knows by name. Refused is what a program on the host
// acts upon merely because the tree is there: git, a shell that changes into it,
// an editor or an agent that opens it. Noted is what runs when the user builds,
// tests or pushes, as the whole tree does then.
var rows = [...]row{
	// Version control.
	{dir: ".git", level: Refuse, why: ofGit},
	{name: ".gitconfig", level: Refuse, why: byGit},
	{name: ".gitmodules", level: Refuse, why: byGit},
	{name: ".lfsconfig", level: Refuse, why: byGit},
	{dir: ".hg", level: Refuse, why: ofVC},
	{name: ".hgrc", level: Refuse, why: ofVC},
	{dir: ".svn", level: Refuse, why: ofVC},
	{dir: ".bzr", level: Refuse, why: ofVC},
	{dir: ".jj", level: Refuse, why: ofVC},
	{dir: ".pijul", level: Refuse, why: ofVC},
	{dir: "_darcs", level: Refuse, why: ofVC},
	{dir: ".husky", level: Refuse, why: gitHookRun},
	{dir: ".githooks", level: Refuse, why: gitHookRun},
	{name: ".huskyrc*", level: Refuse, why: gitHookRun},
	{name: ".pre-commit-config.y*ml", level: Refuse, why: gitHookRun},
	{name: "prek.toml", level: Refuse, why: gitHookRun},
	{name: "hk.pkl", level: Refuse, why: gitHookRun},
	{dir: ".trunk", level: Refuse, why: gitHookRun},
	{name: ".pre-commit-hooks.yaml", level: Refuse, why: gitHookRun},
	{name: ".overcommit.yml", level: Refuse, why: gitHookRun},
	{name: "lefthook*.yml", level: Refuse, why: gitHookRun},
	{name: "lefthook*.yaml", level: Refuse, why: gitHookRun},
	{name: "lefthook*.toml", level: Refuse, why: gitHookRun},
	{name: ".lefthook*", level: Refuse, why: gitHookRun},
	{name: "captainhook.json", level: Refuse, why: gitHookRun},
	{name: "grumphp.yml*", level: Refuse, why: gitHookRun},
	{name: ".lintstagedrc*", level: Refuse, why: gitHookRun},
	{name: "lint-staged.config.*", level: Refuse, why: gitHookRun},
	{name: ".simple-git-hooks.*", level: Refuse, why: gitHookRun},

	// Editors.
	{dir: ".vscode", level: Refuse, why: byEditor},
	{name: "*.code-workspace", level: Refuse, why: byEditor},
	{dir: ".vs", level: Refuse, why: byEditor},
	{dir: ".idea", level: Refuse, why: byEditor},
	{name: "*.iml", level: Refuse, why: byEditor},
	{name: "*.ipr", level: Refuse, why: byEditor},
	{name: "*.iws", level: Refuse, why: byEditor},
	{dir: ".fleet", level: Refuse, why: byEditor},
	{dir: ".zed", level: Refuse, why: byEditor},
	{dir: ".helix", level: Refuse, why: byEditor},
	{dir: ".nova", level: Refuse, why: byEditor},
	{dir: ".lapce", level: Refuse, why: byEditor},
	{dir: ".theia", level: Refuse, why: byEditor},
	{dir: ".settings", level: Refuse, why: byEditor},
	{name: ".project", level: Refuse, why: byEditor},
	{name: "*.sublime-project", level: Refuse, why: byEditor},
	{name: "*.sublime-workspace", level: Refuse, why: byEditor},
	{name: ".kateproject*", level: Refuse, why: byEditor},
	{dir: ".vim", level: Refuse, why: byEditor},
	{name: ".vimrc*", level: Refuse, why: byEditor},
	{name: "_vimrc*", level: Refuse, why: byEditor},
	{name: ".gvimrc", level: Refuse, why: byEditor},
	{name: ".lvimrc", level: Refuse, why: byEditor},
	{name: ".local.vimrc", level: Refuse, why: byEditor},
	{name: ".vimspector.json", level: Refuse, why: byEditor},
	{name: "Session.vim", level: Refuse, why: byEditor},
	{name: ".exrc", level: Refuse, why: byEditor},
	{name: "_exrc", level: Refuse, why: byEditor},
	{dir: ".nvim", level: Refuse, why: byEditor},
	{name: ".nvimrc", level: Refuse, why: byEditor},
	{name: ".nvim.lua", level: Refuse, why: byEditor},
	{name: ".dir-locals*.el", level: Refuse, why: byEditor},
	{name: ".ycm_extra_conf.py", level: Refuse, why: byEditor},
	{name: ".rust-analyzer.toml", level: Refuse, why: byEditor},
	{name: "rust-analyzer.toml", level: Refuse, why: byEditor},
	{name: ".clangd", level: Refuse, why: byEditor},
	{dir: ".bsp", level: Refuse, why: byEditor},
	{name: "buildServer.json", level: Refuse, why: byEditor},
	{name: "hie.yaml", level: Refuse, why: byEditor},
	{name: ".hie-bios", level: Refuse, why: byEditor},
	{name: ".merlin", level: Refuse, why: byEditor},
	{name: ".factorypath", level: Refuse, why: byEditor},
	{name: ".classpath", level: Refuse, why: byEditor},
	{name: ".cproject", level: Refuse, why: byEditor},
	{name: "omnisharp.json", level: Refuse, why: byEditor},
	{name: ".luarc.json*", level: Refuse, why: byEditor},
	{name: ".lazy.lua", level: Refuse, why: byEditor},
	{name: ".replit", level: Refuse, why: byEditor},
	{dir: ".devcontainer", level: Refuse, why: byEditor},
	{name: ".devcontainer.json", level: Refuse, why: byEditor},
	{name: "devcontainer.json", level: Refuse, why: byEditor},
	{dir: ".idx", level: Refuse, why: byEditor},
	{name: "pyvenv.cfg", level: Refuse, why: ofPython},
	{dir: ".venv/bin", level: Refuse, why: ofPython},
	{dir: "venv/bin", level: Refuse, why: ofPython},

	// Agents.
	{dir: ".claude", level: Refuse, why: byAgent},
	{name: "CLAUDE*.md", level: Refuse, why: byAgent},
	{name: "AGENT.md", level: Refuse, why: byAgent},
	{name: "AGENTS*.md", level: Refuse, why: byAgent},
	{dir: ".agents", level: Refuse, why: byAgent},
	{dir: ".agent", level: Refuse, why: byAgent},
	{name: ".mcp.json", level: Refuse, why: byAgent},
	{name: "mcp.json", level: Refuse, why: byAgent},
	{dir: ".cursor", level: Refuse, why: byAgent},
	{name: ".cursorrules", level: Refuse, why: byAgent},
	{dir: ".codex", level: Refuse, why: byAgent},
	{dir: ".gemini", level: Refuse, why: byAgent},
	{name: "GEMINI.md", level: Refuse, why: byAgent},
	{dir: ".qwen", level: Refuse, why: byAgent},
	{name: "QWEN.md", level: Refuse, why: byAgent},
	{dir: ".opencode", level: Refuse, why: byAgent},
	{name: "opencode.json*", level: Refuse, why: byAgent},
	{dir: ".crush", level: Refuse, why: byAgent},
	{name: ".crush.json", level: Refuse, why: byAgent},
	{name: "crush.json", level: Refuse, why: byAgent},
	{name: ".windsurfrules", level: Refuse, why: byAgent},
	{dir: ".windsurf", level: Refuse, why: byAgent},
	{dir: ".clinerules", level: Refuse, why: byAgent},
	{dir: ".roo", level: Refuse, why: byAgent},
	{name: ".roomodes", level: Refuse, why: byAgent},
	{name: ".roorules*", level: Refuse, why: byAgent},
	{dir: ".kilocode", level: Refuse, why: byAgent},
	{dir: ".continue", level: Refuse, why: byAgent},
	{name: ".aider*", level: Refuse, why: byAgent},
	{dir: ".amp", level: Refuse, why: byAgent},
	{dir: ".goose", level: Refuse, why: byAgent},
	{name: ".goosehints", level: Refuse, why: byAgent},
	{dir: ".junie", level: Refuse, why: byAgent},
	{dir: ".kiro", level: Refuse, why: byAgent},
	{dir: ".amazonq", level: Refuse, why: byAgent},
	{dir: ".augment", level: Refuse, why: byAgent},
	{dir: ".trae", level: Refuse, why: byAgent},
	{dir: ".factory", level: Refuse, why: byAgent},
	{dir: ".openhands", level: Refuse, why: byAgent},
	{name: ".rules", level: Refuse, why: byAgent},
	{name: "WARP.md", level: Refuse, why: byAgent},
	{dir: ".github/agents", level: Refuse, why: byAgent},
	{dir: ".github/chatmodes", level: Refuse, why: byAgent},
	{dir: ".github/hooks", level: Refuse, why: byAgent},
	{dir: ".github/instructions", level: Refuse, why: byAgent},
	{dir: ".github/prompts", level: Refuse, why: byAgent},
	{dir: ".github/skills", level: Refuse, why: byAgent},
	{dir: ".github", name: "copilot-*.md", level: Refuse, why: byAgent},

	// Shells, and what they call at a prompt.
	{name: ".envrc*", level: Refuse, why: byShell},
	{dir: ".direnv", level: Refuse, why: byShell},
	{name: ".mise*.toml", level: Refuse, why: byShell},
	{name: "mise*.toml", level: Refuse, why: byShell},
	{dir: ".mise", level: Refuse, why: byShell},
	{dir: "mise", name: "config*.toml", level: Refuse, why: byShell},
	{name: ".rtx*.toml", level: Refuse, why: byShell},
	{name: ".autoenv*", level: Refuse, why: byShell},
	{name: ".env.leave", level: Refuse, why: byShell},
	{name: ".rvmrc", level: Refuse, why: byShell},
	{name: ".bashrc", level: Refuse, why: byShell},
	{name: ".bash_profile", level: Refuse, why: byShell},
	{name: ".bash_login", level: Refuse, why: byShell},
	{name: ".bash_logout", level: Refuse, why: byShell},
	{name: ".bash_aliases", level: Refuse, why: byShell},
	{name: ".profile", level: Refuse, why: byShell},
	{name: ".zshenv", level: Refuse, why: byShell},
	{name: ".zshrc", level: Refuse, why: byShell},
	{name: ".zprofile", level: Refuse, why: byShell},
	{name: ".zlogin", level: Refuse, why: byShell},
	{name: ".zlogout", level: Refuse, why: byShell},
	{name: "config.fish", level: Refuse, why: byShell},
	{dir: ".ssh", level: Refuse, why: ofKeys},
	{dir: ".gnupg", level: Refuse, why: ofKeys},
	{name: "*.desktop", level: Refuse, why: byDesktop},
	{name: ".directory", level: Refuse, why: byDesktop},

	// Tools that read a file of the working directory before they do anything.
	{name: ".sbx.toml", level: Refuse, why: ofSbx},
	{name: ".npmrc", level: Refuse, why: byTool},
	{name: ".yarnrc*", level: Refuse, why: byTool},
	{dir: ".yarn/releases", level: Refuse, why: byTool},
	{dir: ".yarn/plugins", level: Refuse, why: byTool},
	{name: ".pnpmfile.*", level: Refuse, why: byTool},
	{name: ".pnp.*", level: Refuse, why: byTool},
	{name: "bunfig.toml", level: Refuse, why: byTool},
	{name: ".bunfig.toml", level: Refuse, why: byTool},
	{dir: ".bundle", level: Refuse, why: byTool},
	{dir: ".cargo", name: "config", level: Refuse, why: byTool},
	{dir: ".cargo", name: "config.toml", level: Refuse, why: byTool},
	{name: "rust-toolchain", level: Refuse, why: byTool},
	{name: "rust-toolchain.toml", level: Refuse, why: byTool},
	{name: ".bazelrc", level: Refuse, why: byTool},
	{name: ".bazeliskrc", level: Refuse, why: byTool},
	{name: ".bazelversion", level: Refuse, why: byTool},
	{dir: "tools", name: "bazel", level: Refuse, why: byWrapper},
	{name: ".buckconfig*", level: Refuse, why: byTool},
	{dir: "gradle/wrapper", level: Refuse, why: byWrapper},
	{dir: ".mvn", level: Refuse, why: byWrapper},
	{name: ".sbtopts", level: Refuse, why: byTool},
	{name: ".jvmopts", level: Refuse, why: byTool},
	{name: "sitecustomize.py", level: Refuse, why: byPython},
	{name: "usercustomize.py", level: Refuse, why: byPython},
	{dir: "site-packages", name: "*.pth", level: Refuse, why: byPython},
	{dir: "dist-packages", name: "*.pth", level: Refuse, why: byPython},
	{name: ".pdbrc", level: Refuse, why: byTool},
	{name: ".gdbinit", level: Refuse, why: byTool},
	{name: ".lldbinit", level: Refuse, why: byTool},
	{name: ".ghci", level: Refuse, why: byTool},
	{name: ".ocamlinit", level: Refuse, why: byTool},
	{name: ".Rprofile", level: Refuse, why: byTool},
	{name: ".Renviron", level: Refuse, why: byTool},
	{name: ".RData", level: Refuse, why: byTool},
	{name: ".irbrc", level: Refuse, why: byTool},
	{name: ".pryrc", level: Refuse, why: byTool},
	{name: ".iex.exs", level: Refuse, why: byTool},
	{name: ".octaverc", level: Refuse, why: byTool},
	{name: ".phpdbginit", level: Refuse, why: byTool},
	{name: ".user.ini", level: Refuse, why: byTool},
	{name: ".byebugrc", level: Refuse, why: byTool},
	{name: ".proverc", level: Refuse, why: byTool},
	{name: ".prototools", level: Refuse, why: byTool},
	{name: "ansible.cfg", level: Refuse, why: byTool},

	// CI.
	{dir: ".github/workflows", level: Note, why: inCI},
	{dir: ".github/actions", level: Note, why: inCI},
	{name: "action.yml", level: Note, why: inCI},
	{name: "action.yaml", level: Note, why: inCI},
	{name: ".gitlab-ci*.yml", level: Note, why: inCI},
	{dir: ".gitlab", level: Note, why: inCI},
	{dir: ".circleci", level: Note, why: inCI},
	{dir: ".buildkite", level: Note, why: inCI},
	{dir: ".woodpecker", level: Note, why: inCI},
	{dir: ".forgejo/workflows", level: Note, why: inCI},
	{dir: ".gitea/workflows", level: Note, why: inCI},
	{dir: ".teamcity", level: Note, why: inCI},
	{dir: ".azure-pipelines", level: Note, why: inCI},
	{dir: ".ci", level: Note, why: inCI},
	{name: ".woodpecker.y*ml", level: Note, why: inCI},
	{name: ".drone.yml", level: Note, why: inCI},
	{name: ".travis.yml", level: Note, why: inCI},
	{name: ".cirrus.yml", level: Note, why: inCI},
	{name: ".appveyor.yml", level: Note, why: inCI},
	{name: "appveyor.yml", level: Note, why: inCI},
	{name: "azure-pipelines*.yml", level: Note, why: inCI},
	{name: "bitbucket-pipelines.yml", level: Note, why: inCI},
	{name: ".builds*.yml", level: Note, why: inCI},
	{name: "Jenkinsfile*", level: Note, why: inCI},
	{name: ".gitpod.yml", level: Note, why: inCI},
	{name: "renovate.json*", level: Note, why: inCI},
	{name: "dependabot.yml", level: Note, why: inCI},

	// Builds and tests.
	{name: "Makefile*", level: Note, why: byBuild},
	{name: "GNUmakefile", level: Note, why: byBuild},
	{name: "BSDmakefile", level: Note, why: byBuild},
	{name: "*.mk", level: Note, why: byBuild},
	{name: "Kbuild", level: Note, why: byBuild},
	{name: "CMakeLists.txt", level: Note, why: byBuild},
	{name: "CMakePresets.json", level: Note, why: byBuild},
	{name: "CMakeUserPresets.json", level: Note, why: byBuild},
	{name: "*.cmake", level: Note, why: byBuild},
	{name: "configure", level: Note, why: byBuild},
	{name: "configure.ac", level: Note, why: byBuild},
	{name: "configure.in", level: Note, why: byBuild},
	{name: "autogen.sh", level: Note, why: byBuild},
	{name: "bootstrap.sh", level: Note, why: byBuild},
	{name: "*.m4", level: Note, why: byBuild},
	{name: "meson.build", level: Note, why: byBuild},
	{name: "meson.options", level: Note, why: byBuild},
	{name: "meson_options.txt", level: Note, why: byBuild},
	{name: "build.ninja", level: Note, why: byBuild},
	{name: "SConstruct", level: Note, why: byBuild},
	{name: "SConscript", level: Note, why: byBuild},
	{name: "wscript", level: Note, why: byBuild},
	{name: "Justfile", level: Note, why: byBuild},
	{name: ".justfile", level: Note, why: byBuild},
	{name: "Taskfile.y*ml", level: Note, why: byBuild},
	{name: "magefile.go", level: Note, why: byBuild},
	{name: "build.rs", level: Note, why: byBuild},
	{name: "build.zig", level: Note, why: byBuild},
	{name: "setup.py", level: Note, why: byBuild},
	{name: "setup.cfg", level: Note, why: byBuild},
	{name: "pyproject.toml", level: Note, why: byBuild},
	{name: "conftest.py", level: Note, why: byBuild},
	{name: "noxfile.py", level: Note, why: byBuild},
	{name: "tox.ini", level: Note, why: byBuild},
	{name: "pytest.ini", level: Note, why: byBuild},
	{name: "tasks.py", level: Note, why: byBuild},
	{name: "binding.gyp", level: Note, why: byBuild},
	{name: "Rakefile", level: Note, why: byBuild},
	{name: "Gemfile", level: Note, why: byBuild},
	{name: "*.gemspec", level: Note, why: byBuild},
	{name: "*.gradle", level: Note, why: byBuild},
	{name: "*.gradle.kts", level: Note, why: byBuild},
	{name: "gradle.properties", level: Note, why: byBuild},
	{name: "gradlew*", level: Note, why: byBuild},
	{name: "mvnw*", level: Note, why: byBuild},
	{name: "pom.xml", level: Note, why: byBuild},
	{name: "build.xml", level: Note, why: byBuild},
	{name: "build.sbt", level: Note, why: byBuild},
	{name: "build.sc", level: Note, why: byBuild},
	{name: "*.csproj", level: Note, why: byBuild},
	{name: "*.fsproj", level: Note, why: byBuild},
	{name: "*.vbproj", level: Note, why: byBuild},
	{name: "*.vcxproj", level: Note, why: byBuild},
	{name: "*.targets", level: Note, why: byBuild},
	{name: "pnpm-workspace.yaml", level: Note, why: byBuild},
	{name: "Directory.Build.*", level: Note, why: byBuild},
	{name: "BUILD", level: Note, why: byBuild},
	{name: "BUILD.bazel", level: Note, why: byBuild},
	{name: "WORKSPACE", level: Note, why: byBuild},
	{name: "WORKSPACE.bazel", level: Note, why: byBuild},
	{name: "MODULE.bazel", level: Note, why: byBuild},
	{name: "*.bzl", level: Note, why: byBuild},
	{name: "mix.exs", level: Note, why: byBuild},
	{name: "rebar.config*", level: Note, why: byBuild},
	{name: "dune", level: Note, why: byBuild},
	{name: "Setup.hs", level: Note, why: byBuild},
	{name: "Package.swift", level: Note, why: byBuild},
	{name: "flake.nix", level: Note, why: byBuild},
	{name: "shell.nix", level: Note, why: byBuild},
	{name: "default.nix", level: Note, why: byBuild},
	{name: "devenv.nix", level: Note, why: byBuild},
	{name: "Dockerfile*", level: Note, why: byBuild},
	{name: "Containerfile*", level: Note, why: byBuild},
	{name: "docker-compose*.y*ml", level: Note, why: byBuild},
	{name: "compose*.y*ml", level: Note, why: byBuild},
	{name: "Vagrantfile", level: Note, why: byBuild},
	{name: "Procfile*", level: Note, why: byBuild},
	{name: "gulpfile.*", level: Note, why: byBuild},
	{name: "Gruntfile.*", level: Note, why: byBuild},
	{name: "compile_commands.json", level: Note, why: byPlugin},
	{name: "pyrightconfig.json", level: Note, why: byPlugin},
	{name: "tsconfig*.json", level: Note, why: byPlugin},
	{name: "jsconfig*.json", level: Note, why: byPlugin},
	{name: ".rubocop*.yml", level: Note, why: byPlugin},
	{name: ".pylintrc", level: Note, why: byPlugin},
	{name: "phpstan*.neon*", level: Note, why: byPlugin},
	{name: "phpunit*.xml*", level: Note, why: byPlugin},
	{name: ".php-cs-fixer*.php", level: Note, why: byPlugin},
	{name: ".mocharc.*", level: Note, why: byPlugin},
	{name: ".formatter.exs", level: Note, why: byPlugin},
	{name: ".eslintrc*", level: Note, why: byPlugin},
	{name: "eslint.config.*", level: Note, why: byPlugin},
	{name: ".prettierrc*", level: Note, why: byPlugin},
	{name: "prettier.config.*", level: Note, why: byPlugin},
	{name: ".stylelintrc*", level: Note, why: byPlugin},
	{name: "*.config.js", level: Note, why: byBuild},
	{name: "*.config.cjs", level: Note, why: byBuild},
	{name: "*.config.mjs", level: Note, why: byBuild},
	{name: "*.config.ts", level: Note, why: byBuild},
	{name: "*.config.cts", level: Note, why: byBuild},
	{name: "*.config.mts", level: Note, why: byBuild},
	{name: ".babelrc*", level: Note, why: byBuild},
}

// GuardName is a line of the guard's table, for people.
type GuardName struct {
	Level     Level
	Why, Name string
}

// GuardTable gives the names that the guard knows, the graver level first, and
// of a level those with the same reason together. A directory ends in a slash
// and means all below it.
func GuardTable() iter.Seq[GuardName] {
	return func(yield func(GuardName) bool) {
		for _, level := range [...]Level{Refuse, Note} {
			done := map[string]bool{}
			for i, first := range rows {
				if first.level != level || done[first.why] {
					continue
				}
				done[first.why] = true
				for _, r := range rows[i:] {
					if r.level != level || r.why != first.why {
						continue
					}
					name := strings.TrimPrefix(r.dir+"/"+r.name, "/")
					if !yield(GuardName{r.level, r.why, name}) {
						return
					}
				}
			}
		}
	}
}
