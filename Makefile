# `make` lists the targets. Needs Go, a C compiler and npm; everything else is fetched, pinned and kept in a cache folder.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 20s
CIFAR10 ?=
TEACHERS ?=
NETWORKS ?=

.PHONY: help setup build demo test test-short test-qemu test-webgpu test-arm64 race long fuzz lint results results-losses results-students results-teachers bench bench-pytorch bench-epoch bench-sweep clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## fetch ONNX Runtime's library and the Go modules
	@scripts/onnxruntime.sh
	@go mod download

build: setup ## build bin/distill
	go build -o bin/ ./cmd/distill

demo: build ## distil ResNet-56 into a small student, and compare it with one trained on labels alone
	bin/distill train --recipe cmd/distill/recipes/demo.yaml --baseline --overwrite

test: setup ## run the tests, 10 minutes at most on 2 cores
	go test -timeout 10m ./...

test-short: setup ## run the tests that take no time, under 2 minutes
	go test -short -timeout 5m ./...

test-qemu: setup ## run the tests of images in blocks as on CPUs without AVX-512 and without AVX (needs qemu-user)
	go test -c -o bin/runtime.test ./runtime
	cd runtime && for cpu in max Nehalem; do \
		qemu-x86_64 -cpu $$cpu ../bin/runtime.test -test.short -test.v -test.run 'InBlocks|Winograd|Probe|Specialize|GivenWeights' | grep -E '^(---|PASS|FAIL)|usable|_test.go'; \
	done

test-webgpu: build ## try the WebGPU provider on Vulkan in software, in some minutes; VK_DRIVER_FILES= on this machine's GPU
	scripts/webgpu.sh

test-arm64: build ## try distill on arm64, emulated (needs qemu-user and gcc-aarch64-linux-gnu)
	scripts/arm64.sh

race: setup ## run the short tests under the race detector
	go test -race -short -timeout 20m ./...

long: setup ## run all tests, the long ones too
	DISTILL_LONG=1 go test -timeout 2h ./...

fuzz: setup ## fuzz every decoder, each for FUZZTIME (20s)
	@grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sort | while IFS=: read -r file target; do \
		go test -run '^$$' -fuzz "^$${target#func }\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; \
	done

lint: ## check formatting, go vet and staticcheck
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt-formatted:"; echo "$$unformatted"; exit 1; } >&2
	go vet ./...
	go run $(STATICCHECK) ./...

results: build ## train the README's table; CIFAR10=folder with data_batch_1..3.bin and valid_10000.bin
	@[ -n "$(CIFAR10)" ] || { printf 'distill: error: %s\ndistill: hint: %s\n' "make results needs the CIFAR-10 data" \
		"make results CIFAR10=folder with data_batch_1..3.bin and valid_10000.bin" >&2; exit 2; }
	bin/distill train --recipe cmd/distill/recipes/results.yaml --baseline --overwrite --data "cifar10:$(CIFAR10)"

results-losses: build ## compare losses, 3 seeds each, in about an hour; stopped, it goes on; CIFAR10=folder as for results
	@[ -n "$(CIFAR10)" ] || { printf 'distill: error: %s\ndistill: hint: %s\n' "make results-losses needs the CIFAR-10 data" \
		"make results-losses CIFAR10=folder with data_batch_1.bin and valid_10000.bin" >&2; exit 2; }
	bin/distill compare cmd/distill/recipes/losses.yaml --data "cifar10:$(CIFAR10)"

results-students: build ## three kinds of teachers, two students, 3 seeds each; stopped, it goes on; TEACHERS=folder of the other two
	@[ -n "$(CIFAR10)" ] && [ -n "$(TEACHERS)" ] || { printf 'distill: error: %s\ndistill: hint: %s\n' "make results-students needs CIFAR-10 and two teachers" \
		"make results-students CIFAR10=folder TEACHERS=folder with cifar10_efficientnet_small.onnx and cifar10_vit_small.onnx" >&2; exit 2; }
	mkdir -p runs && ln -sfn "$(abspath $(TEACHERS))" runs/from
	bin/distill compare cmd/distill/recipes/students.yaml --data "cifar10:$(CIFAR10)"

results-teachers: build ## a cache that changes nothing, teachers judged, and three of them combined and chosen; TEACHERS=folder of all
	@[ -n "$(CIFAR10)" ] && [ -n "$(TEACHERS)" ] || { printf 'distill: error: %s\ndistill: hint: %s\n' "make results-teachers needs CIFAR-10 and teachers" \
		"make results-teachers CIFAR10=folder TEACHERS=folder with cifar10_resnet56.onnx, cifar10_efficientnet_small.onnx and cifar10_vit_small.onnx" >&2; exit 2; }
	scripts/teachers.sh "$(CIFAR10)" "$(TEACHERS)"

bench: setup ## print where a training step's time goes, by operator; NETWORKS="resnet-20 wide" for some
	go run ./bench profile $(NETWORKS)

bench-pytorch: setup ## time training steps beside PyTorch's, installed if missing; NETWORKS="resnet-20 wide" for some
	@scripts/pytorch.sh
	go run ./bench compare $(NETWORKS)

bench-epoch: setup ## time an epoch with a teacher, live and cached, beside PyTorch's; CIFAR10=folder with data_batch_1..3.bin and valid_10000.bin
	@[ -n "$(CIFAR10)" ] || { printf 'bench: error: %s\nbench: hint: %s\n' "make bench-epoch needs the CIFAR-10 data" \
		"make bench-epoch CIFAR10=folder with data_batch_1..3.bin and valid_10000.bin" >&2; exit 2; }
	@scripts/pytorch.sh
	go run ./bench epoch "$(CIFAR10)"

bench-sweep: setup ## time our step by batch, depth and threads: a table and a plot in bench/results
	go run ./bench sweep -steps 18

clean: ## remove what was built; the cache folder stays
	rm -rf bin
