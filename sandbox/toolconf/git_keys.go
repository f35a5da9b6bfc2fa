package toolconf

import "strings"

// gitKeys is what a variable of git's may hold. Not among them are those that name
// programs (core.sshCommand, core.hooksPath, core.fsmonitor, editors, pagers,
// drivers), which are mostly not inside; aliases, which may hold anything; signing,
// because the keys are not inside and every commit would fail; included files; and
// all that authenticates (credential.*, http.extraHeader, http.cookieFile,
// http.proxy, http.sslKey).
func gitKeys(key string) kind {
	switch key {
	case "safe.directory", "http.sslcainfo", "http.sslcapath":
		return file
	case "user.useconfigonly", "init.defaultbranch", "init.defaultobjectformat", "init.defaultrefformat", "core.abbrev", "core.autocrlf",
		"core.bigfilethreshold", "core.checkstat", "core.compression", "core.eol", "core.filemode", "core.ignorecase", "core.logallrefupdates",
		"core.longpaths", "core.precomposeunicode", "core.preloadindex", "core.protecthfs", "core.protectntfs", "core.quotepath", "core.safecrlf",
		"core.symlinks", "core.trustctime", "core.untrackedcache", "safe.barerepository", "http.sslverify", "http.sslversion", "http.version",
		"http.postbuffer", "http.lowspeedlimit", "http.lowspeedtime", "http.followredirects", "http.maxrequests", "protocol.version", "protocol.allow",
		"transfer.fsckobjects", "fetch.fsckobjects", "receive.fsckobjects", "fetch.parallel", "fetch.prune", "fetch.prunetags", "fetch.recursesubmodules",
		"fetch.writecommitgraph", "pull.rebase", "pull.ff", "pull.octopus", "pull.twohead", "push.default", "push.autosetupremote", "push.followtags",
		"push.recursesubmodules", "merge.conflictstyle", "merge.ff", "merge.log", "merge.renames", "merge.renamelimit", "merge.stat",
		"merge.directoryrenames", "merge.verifysignatures", "diff.algorithm", "diff.colormoved", "diff.context", "diff.dirstat", "diff.ignoresubmodules",
		"diff.indentheuristic", "diff.interhunkcontext", "diff.mnemonicprefix", "diff.noprefix", "diff.renames", "diff.renamelimit", "diff.submodule",
		"diff.suppressblankempty", "diff.wserrorhighlight", "rebase.autosquash", "rebase.autostash", "rebase.updaterefs", "rebase.backend", "rebase.stat",
		"rerere.enabled", "rerere.autoupdate", "branch.autosetupmerge", "branch.autosetuprebase", "branch.sort", "tag.sort", "status.short", "status.branch",
		"status.showuntrackedfiles", "status.submodulesummary", "status.relativepaths", "log.decorate", "log.follow", "log.mailmap", "submodule.recurse",
		"submodule.fetchjobs", "submodule.active", "checkout.defaultremote", "checkout.workers", "checkout.guess", "clone.defaultremotename",
		"commit.cleanup", "commit.verbose", "color.ui", "color.branch", "color.diff", "color.status", "color.interactive", "feature.manyfiles",
		"feature.experimental", "gc.auto", "gc.autodetach", "maintenance.auto", "pack.threads", "pack.windowmemory", "index.threads", "index.version",
		"grep.linenumber", "grep.patterntype", "i18n.commitencoding", "i18n.logoutputencoding", "help.autocorrect", "advice.detachedhead",
		"advice.statushints", "advice.skippedcherrypicks", "apply.whitespace", "lfs.concurrenttransfers", "lfs.fetchrecentalways":
		return word
	case "user.name", "user.email", "author.name", "author.email", "committer.name", "committer.email", "core.commentchar", "core.whitespace", "log.date",
		"column.ui":
		return text
	}
	return none
}

// isLFS says whether a variable of [filter "lfs"] is as `git lfs install` sets it.
// Without them the files of a checkout look changed, and new ones are pointers.
func isLFS(key, value string) bool {
	switch key {
	case "required":
		return value == "true"
	case "clean", "smudge", "process":
		words := strings.Fields(value)
		if len(words) < 2 || words[0] != "git-lfs" || words[1] != key && words[1] != "filter-process" {
			return false
		}
		for _, w := range words[2:] {
			if w != "--" && w != "%f" && w != "--skip" {
				return false
			}
		}
		return true
	}
	return false
}
