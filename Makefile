# The targets that people look for. Everything is the go command's work; see
# .ci/run for what a machine runs.

GO         ?= go
# The tag leaves out a part of the command-line library that makes manual pages
# and takes a third of the time that sbx needs to start.
TAGS        = urfave_cli_no_docs
# With its own entry point sbx begins the sandbox while the Go runtime starts.
PREFIX     ?= /usr/local
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
T          ?= 30s
export CGO_ENABLED = 0

.PHONY: all build lint unit test check bench fuzz golden install clean help

all: build lint unit ## build, lint and the tests that need no sandbox

build: ## build ./sbx
	$(GO) build -tags $(TAGS) -ldflags=-E=sbx_start -o sbx ./cmd/sbx

lint: ## gofmt, go vet, staticcheck
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt -w $$files"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

unit: ## tests of the packages
	$(GO) test $$($(GO) list ./... | grep -v /tests$$)

test: ## all tests; what the machine lacks is skipped, with the reason
	$(GO) test -timeout 30m ./...

check: lint ## lint and all tests; what the machine lacks is a failure
	SBX_MUST_WORK=1 $(GO) test -timeout 30m ./...

bench: ## benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz: ## every fuzz target for T (30s) each
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(T) $$pkg || exit 1; \
		done; \
	done

golden: ## rewrite the golden plans; look at the difference
	$(GO) test ./sandbox/plan ./cmd/sbx -update
	git diff --stat -- '*testdata*'

install: build ## install to PREFIX (/usr/local)
	install -D -m 0755 sbx $(DESTDIR)$(PREFIX)/bin/sbx

clean: ## remove ./sbx
	rm -f sbx

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
