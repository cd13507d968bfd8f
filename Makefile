# make run and make test are all there is to set up. CI calls nothing but these targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

VERSION   = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS   = -X main.version=$(VERSION)
PACKAGES  = $(shell go list ./... | grep -v '^martlet/test')
FUZZTIME ?= 5s
BENCH    ?= .
BENCHTIME ?= 1s
RUN      ?= .
KILLS    ?= 500
CUTS     ?= 200
SEED     ?=
CHECK    ?= 3m
MIXED    ?= 1m
MIXED_FAULTS ?= upgrade,kill,proxy,pause,flip,ring
SUITE    ?=
PREVIOUS ?=
FRAGMENTS ?= 50000
# How many packages, or clusters, are tested at once. More than there are cores is faster, as tests wait for the disk for
# much of their time, and has those fail now and then that go by real clocks.
AT_ONCE  ?= $(shell nproc)
# The tests that the race detector leaves out: they take minutes there, or count allocations.
UNRACED   = $(shell grep -rl --include='*_test.go' '^//go:build .*!race' .)
# All that is not for the race detector is compiled in one way, which is that of `make build`: what one target has
# compiled the next finds in the cache.
PLAIN     = CGO_ENABLED=0 GOFLAGS='$(strip $(shell go env GOFLAGS) -trimpath)'
LINT      = $(PLAIN) go tool -modfile=tools.mod golangci-lint
# Where tests have their files: in memory, if there is plenty. Most of the time of those that write is waiting for the disk,
# the more so where others use it, and none of them cuts its power. Those of the built binary (e2e) and those that do cut
# it (crash) stay on the disk.
SCRATCH   = bash test/scratch.sh

.PHONY: build lab lab-up lab-down lab-packages run dev test clients clients-long unit race lint vet edges fuzz e2e functional crash soak planted check checked check-soak mixed written bench bench-rings bench-rebalance bench-rebuild compare deb clean

## build: compile bin/martlet
build:
	$(PLAIN) go build -ldflags '$(LDFLAGS)' -o bin/martlet ./cmd/martlet

## lab: compile bin/lab and bin/martlet
lab: build
	$(PLAIN) go build -ldflags '$(LDFLAGS)' -o bin/lab ./deploy/lab

## lab-up, lab-down: a cluster on three networks of its own, as root (docs/lab.md); ARGS='--nodes 6' and the like
lab-up:
	@bash deploy/lab/lab up $(ARGS)

lab-down:
	@bash deploy/lab/lab down $(ARGS)

# What the lab wants and a fresh Debian machine lacks.
lab-packages:
	@bash deploy/lab/packages.sh

## run: build, and start a whole cluster in one process on loopback (ARGS='--nodes 6' and the like)
run dev: build
	exec bin/martlet dev $(ARGS)

## test: everything that CI demands; what a fresh Debian machine lacks for it is installed first
# The linters take minutes of a processor. They have what the tests leave idle, who wait for disks and for each other. The check lasts for
# minutes by itself and works for a quarter of them, so it is beside the tests as well, from the beginning on, while those are compiled; not at a
# lower priority, since what it breaks has to come back within its bounds. Of it there is a line, and all that it said if it fails.
test: clients
	@log=$$(mktemp); nice -n 19 $(MAKE) lint >"$$log" 2>&1 & lint=$$!; \
	said=$$(mktemp); $(MAKE) checked >"$$said" 2>&1 & check=$$!; \
	failed=; $(MAKE) race e2e crash || failed=tests; \
	if wait $$check && grep -F verdict: "$$said"; then :; else failed="$$failed check"; cat "$$said"; fi; rm -f "$$said"; \
	wait $$lint || failed="$$failed lint"; cat "$$log"; rm -f "$$log"; \
	if [ -n "$$failed" ]; then echo "failed: $$failed" >&2; exit 1; fi

## clients: swift, rclone, curl, Swift's own code and a C compiler, where they are missing
clients:
	@bash test/clients.sh

## unit: the tests without the race detector
unit:
	$(SCRATCH) go test -timeout 5m $(PACKAGES)

## race: the tests under the race detector (lint has vetted them)
race: clients
	CGO_ENABLED=1 $(SCRATCH) go test -race -vet off -p $(AT_ONCE) -timeout 15m $(PACKAGES)
	$(PLAIN) $(SCRATCH) go test -vet off -p $(AT_ONCE) -timeout 10m -run "^($$(sed -nE 's/^func ((Test|Fuzz|Example)[A-Za-z0-9_]*)\(.*/\1/p' $(UNRACED) | paste -sd '|'))$$" $(sort $(dir $(UNRACED)))

## lint: the edges between packages, and the linters of .golangci.yml at the version that tools.mod pins, go vet's among them
lint: edges
	$(LINT) run ./...

## vet: go vet by itself, which is quicker than lint
vet:
	$(PLAIN) go vet ./...

# Never from the cache, which doesn't know what the go command read.
edges:
	$(PLAIN) go test -vet off -count 1 ./test/architecture

## fuzz: each fuzz target for FUZZTIME, what it finds is kept in testdata
fuzz:
	@go list -f '{{.Dir}}' ./... | while read -r dir; do \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$$dir"/*_test.go 2>/dev/null | cut -c6-); do \
			echo "$$target in $${dir#$(CURDIR)/}"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$dir" </dev/null; \
		done; \
	done

## e2e: the built binary as separate processes, driven by curl, swift and rclone; rings compared with Swift's
e2e: build clients
	$(PLAIN) go test -vet off -count 1 -parallel $(AT_ONCE) -timeout 20m -run '$(RUN)' -skip '^TestCheck$$|^TestCrash|^TestLab|^TestBench|^TestLong' ./test

## functional: Swift's functional tests, from its source in SUITE, against a cluster of one's own
functional: build
	@bash test/functional.sh
	go test -count 1 ./cmd/functional
	go run ./cmd/functional -suite '$(SUITE)'

## clients-long: restic and duplicity keep backups on the cluster, and restore them (about two minutes)
clients-long: clients
	@bash test/clients.sh restic duplicity
	go test -count 1 -timeout 20m -v -run '^TestLong' ./test

## crash: processes killed and power cut under load, as root; what was acknowledged must be there. The lab, put up and broken
crash: clients lab-packages
	$(PLAIN) go test -vet off -count 1 -timeout 10m -v -run '^TestCrash|^TestLab' ./test

## soak: the same for KILLS kills and CUTS power cuts (SEED=n makes the same choices again)
soak: clients
	MARTLET_KILLS=$(KILLS) MARTLET_CUTS=$(CUTS) MARTLET_SEED=$(SEED) \
		go test -count 1 -timeout 0 -v -run '^TestCrash(Kill|PowerCut)(WithFragments)?$$' ./test

## check: clients work on a cluster that is broken meanwhile, for CHECK, and no promise may be broken (docs/check.md); SEED=n again
check: build
	bin/martlet check --duration $(CHECK) $(if $(SEED),--seed $(SEED)) $(ARGS)

# With disks in memory, where there is plenty: what a power cut takes away is what was not synced to those.
## checked: martlet check as CI runs it, for CHECK, with all faults that the machine allows (as root also those of disks); SEED=n again
checked: clients
	MARTLET_CHECK=$(CHECK) MARTLET_SEED=$(SEED) $(PLAIN) $(SCRATCH) go test -vet off -count 1 -timeout 20m -v -run '^TestCheck$$' ./test

## check-soak: the same for an hour; at least 500 faults
check-soak:
	$(MAKE) check CHECK=1h

# Of each kind of process some are of one version and some of the other, and each goes over to the other and back, in good order or
# killed. The second check begins the other way round.
## mixed: this version and PREVIOUS, a revision (the last tag without), in one cluster, for MIXED each way round; no promise may be broken
mixed: build
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(PLAIN) bash test/previous.sh '$(PREVIOUS)' "$$dir/martlet"; \
	bin/martlet check --duration $(MIXED) --seed 21 --faults '$(MIXED_FAULTS)' --other "$$dir/martlet" $(ARGS); \
	bin/martlet check --duration $(MIXED) --seed 22 --faults '$(MIXED_FAULTS)' --binary "$$dir/martlet" --other bin/martlet $(ARGS)

## written: a small cluster as PREVIOUS writes it, which tests read ever after: for each release one, made once it is out
written:
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(PLAIN) bash test/previous.sh '$(PREVIOUS)' "$$dir/martlet"; \
	bash test/written.sh "$$dir/martlet" "cmd/internal/cluster/testdata/written-$$(git describe --tags --always '$(or $(PREVIOUS),HEAD)').tar.gz"

## bench: every benchmark, or those that BENCH matches
bench:
	go test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -timeout 30m $(PACKAGES)

## compare: Martlet beside Swift (python3-swift and memcached of Debian's), its floors, and 1 to 256 clients, in one run: 15 minutes, 5 with ARGS=-short
compare: build
	$(PLAIN) go run ./cmd/compare $(ARGS)

## bench-rings: our ring builder beside Swift's, on clusters of up to 10,000 devices (about ten minutes)
bench-rings: clients
	go test -run '^$$' -bench BuilderAgainstSwift -benchtime 1x -timeout 60m ./test

## bench-rebalance: a fifth node joins four while clients are at work: failures, bytes moved, ETA, latency (about four minutes)
bench-rebalance: clients
	go test -count 1 -timeout 15m -v -run '^TestBenchRebalance$$' ./test

## deb: the Debian package, bin/martlet_VERSION_ARCH.deb (a version of Debian's form, made of VERSION)
deb: build
	DEB_ARCH=$$(go env GOARCH) DEB_VERSION=$$(deploy/package/version.sh '$(VERSION)') \
		go tool -modfile=deb.mod nfpm package --config deploy/package/nfpm.yaml --packager deb --target bin/

## bench-rebuild: a device gets its FRAGMENTS again, of 3 KiB and of 64 KiB: rate, what bounds it, ETA (27 GB of disk, some minutes)
bench-rebuild:
	MARTLET_FRAGMENTS=$(FRAGMENTS) go test -run '^$$' -bench FragmentsRebuild -benchtime 1x -timeout 60m ./cmd/internal/node

# What a build with planted bugs is made of, and nothing else is: go vet sees it here.
## planted: every planted bug is noticed, by the tests of its part and by martlet check, and nothing is without one (long)
planted: clients
	go vet -tags planted ./...
	go test -count 1 -tags planted ./internal/planted ./internal/clock
	MARTLET_PLANTED_ALL=1 go test -count 1 -timeout 0 -v -run '^TestPlanted' ./test

clean:
	rm -rf bin
