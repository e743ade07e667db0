# Every task of this project, one verb each. The scripts are in ops/local/.
SHELL := /bin/bash
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo up down psql dsn logs build lint test test-upstream fuzz bench bench-peers bench-pipeline bench-search bench-insight bench-operators soak verify-model check-cuda clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: up ## install what is missing, start everything, load the sample deal room and show a tour
	@ops/local/demo.sh

up: build ## start PostgreSQL and the sidecar; the data of the last time are there
	@ops/local/sidecar.sh start
	@ops/local/server.sh start
	@echo "==> Ready: make psql"

down: ## stop both; nothing is lost
	@ops/local/server.sh stop
	@ops/local/sidecar.sh stop

psql: export SALESAI_SQL = $(value SQL)
psql: ## SQL prompt, or one statement: make -s psql SQL='select 1'
	@ops/local/server.sh psql

dsn: ## the connection string for libpq and drivers
	@ops/local/server.sh dsn

logs: ## follow the logs of both servers
	@ops/local/logs.sh

build: ## fetch PostgreSQL and the models, build and install the extension and the sidecar
	@ops/local/packages.sh
	@ops/local/home.sh
	@ops/local/fetch.sh
	@ops/local/build.sh sidecar 18

lint: build ## check format, clippy and the shell scripts
	@ops/local/lint.sh

test: ## run every test layer
	@ops/local/test.sh

fuzz: ## feed damaged files to the readers of models, documents and texts, each for FUZZ_SECONDS (3600) in all
	@ops/local/packages.sh
	@ops/local/home.sh
	@ops/local/fuzz.sh

test-upstream: ## route to two real llama.cpp servers and kill one; builds them first (many minutes)
	@ops/local/packages.sh
	@ops/local/test_upstream.sh

bench: ## measure speed, cancel latency and memory; the log goes to .salesai/bench/
	@ops/local/packages.sh
	@ops/local/home.sh
	@ops/local/bench.sh

bench-peers: ## measure the engines beside llama.cpp, ONNX Runtime and candle; builds them first (an hour)
	@ops/local/packages.sh
	@ops/local/bench_peers.sh

bench-pipeline: ## measure backfill, freshness and the queue, and kill processes at random (three hours)
	@ops/local/packages.sh
	@ops/local/home.sh
	@ops/local/bench_system.sh pipeline

bench-search: ## measure what search finds and how fast, beside BM25 alone and queries by hand (half an hour)
	@ops/local/packages.sh
	@ops/local/home.sh
	@ops/local/bench_system.sh retrieval

bench-insight: ## measure answers to the sample questions (five minutes)
	@ops/local/packages.sh
	@ops/local/home.sh
	@ops/local/bench_system.sh insight

bench-operators: ## measure semantic operators row by row beside one call for all, and cascades (an hour)
	@ops/local/packages.sh
	@ops/local/home.sh
	@ops/local/bench_system.sh operators

soak: ## 64 streams with cancels, deadlines, schemas and adapter swaps for SOAK_MINUTES (10)
	@ops/local/packages.sh
	@ops/local/home.sh
	@ops/local/soak.sh

verify-model: export SALESAI_MODEL = $(value MODEL)
verify-model: ## check Llama weights of your own: make verify-model MODEL=model.gguf (or a Hugging Face directory)
	@ops/local/packages.sh
	@ops/local/verify_model.sh

check-cuda: ## compile the sidecar for CUDA where no GPU exists; LINK=1 links it too
	@ops/local/packages.sh
	@ops/local/home.sh
	@ops/local/check_cuda.sh $(if $(LINK),link)

clean: ## delete the database, what was fetched and the build (asks; YES=1 does not)
	@ops/local/clean.sh
