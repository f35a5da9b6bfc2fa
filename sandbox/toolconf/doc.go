// Package toolconf knows the configuration of build tools: where a user has it,
// and how it reads without its credentials.
//
// A private $HOME without ~/.npmrc would have npm ask the public registry for the
// packages of a company, whose names anybody can take there. So what routes
// requests appears inside, and what authenticates them does not:
//
//	file                    kept                             never
//	npmrc, pnpm's rc        registry, @scope:registry, …     _authToken, _auth, username, key
//	.yarnrc, .yarnrc.yml    the same                         npmAuthToken, npmAuthIdent
//	pip.conf                index-url, find-links, …         proxy, client-cert
//	uv.toml                 index, index-url, …              what is not known
//	go/env                  GOPROXY, GOPRIVATE, …            GOAUTH
//	cargo config.toml       source, registries, net, …       token, credential-provider, env
//	git config              user, url.*.insteadOf, …         credential, http.extraHeader, include
//	maven settings.xml      mirrors, repositories, …         servers, proxies, properties
//	composer config.json    repositories, …                  http-basic, *-oauth, bearer
//
// Each filter is an allow-list: it parses the format, writes anew what it knows,
// and leaves out all else, comments too, which may hold what was commented out.
// URLs lose user info, query and fragment. What cannot be parsed is left out: a
// line where lines are independent of each other, else the whole file. Proxies are
// left out, because the network inside is sbx's own, and so are commands (aliases,
// pagers, hooks), because what they run is mostly not inside, and directories outside
// $HOME that a tool would write to. A token that is part
// of a URL's path cannot be told from a path, and stays.
//
// The package is data and pure functions: it reads nothing itself.
package toolconf
