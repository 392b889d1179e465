# Thin: each target prints the command that it runs. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# faiss-gpu where there is an NVIDIA driver, faiss-cpu elsewhere; never both.
KIND ?= $(shell if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then echo gpu; else echo cpu; fi)
CODE := workflow/scripts tests benchmarks containers
# Test files side by side; more processes than this only take memory.
WORKERS := --numprocesses auto --maxprocesses 4 --dist loadfile
SMK := Snakefile workflow

.PHONY: help demo study check-data estimate benchmark test test-pages test-faults test-containers lint format lock env env-fiftyone container clean

help:
	@echo "make demo       the whole study in miniature, on drawn birds, without a GPU"
	@echo "make study      the published study (downloads CUB-200-2011 and ImageNet weights)"
	@echo "make check-data CONFIG=my.yaml    all that is wrong with your pictures, before any training"
	@echo "make estimate   how long the study takes on this machine (CONFIG=my.yaml: yours)"
	@echo "make benchmark  a few minutes of measuring, into results/benchmarks"
	@echo "make test       tests of the library, of whole runs and, where there is a Chromium, of pages"
	@echo "make test-pages only those of pages, in Chromium, which they need"
	@echo "make test-faults        kills, full disks, lost nodes; those of disks need root, those of clusters SLURM"
	@echo "make test-containers    images and runs in them; need apptainer or podman"
	@echo "make lint       ruff, snakefmt, snakemake --lint"
	@echo "make format     let ruff and snakefmt format the code"
	@echo "make container  the image that rules can run in (KIND=cpu or gpu; apptainer, podman or docker)"
	@echo "make env        only the environment, in $(VENV)"
	@echo "make env-fiftyone    FiftyOne, in an environment of its own, .venv-fiftyone"
	@echo "make lock       compile the hash-pinned locks anew (needs uv)"

# The stamp's name holds the kind of environment and its content the lock: either change installs anew.
STAMP := $(VENV)/.installed-$(KIND)

env: $(STAMP)
	@echo "environment: $(VENV) ($(KIND)); activate it with: source $(BIN)/activate"

$(STAMP): envs/$(KIND).lock envs/dev.lock
	@$(PYTHON) envs/check_python.py
	@if [ -e "$(VENV)" ] && [ ! -e "$@" ] && ls $(VENV)/.installed-* >/dev/null 2>&1; then \
		echo "$(VENV) was made for other hardware; making it anew"; rm -rf "$(VENV)"; fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/$(KIND).lock -r envs/dev.lock
	@touch $@

env-fiftyone: .venv-fiftyone/.installed
	@echo "FiftyOne: .venv-fiftyone/bin/python workflow/scripts/to_fiftyone.py --run results/experiments/…"

.venv-fiftyone/.installed: envs/fiftyone.lock
	@$(PYTHON) envs/check_python.py
	$(PYTHON) -m venv .venv-fiftyone
	.venv-fiftyone/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/fiftyone.lock
	@touch $@

container:
	@echo '$$ $(PYTHON) containers/build.py $(KIND)'
	@$(PYTHON) containers/build.py $(KIND)

demo: $(STAMP)
	@echo '$$ $(BIN)/snakemake --cores all --configfile config/demo.yaml'
	@begun=$$(date +%s); $(BIN)/snakemake --cores all --configfile config/demo.yaml \
		&& $(BIN)/python workflow/scripts/time_spent.py --since $$begun \
		&& echo "done in $$(( $$(date +%s) - begun )) s: open results/demo/comparison/index.html"

study: $(STAMP)
	@echo '$$ $(BIN)/snakemake --cores all --resources gpu=1'
	@$(BIN)/snakemake --cores all --resources gpu=1

check-data: $(STAMP)
	@test -n "$(CONFIG)" || { echo "say which configuration: make check-data CONFIG=my.yaml"; exit 2; }
	@echo '$$ $(BIN)/snakemake --cores all check_data --configfile $(CONFIG)'
	@$(BIN)/snakemake --cores all check_data --configfile $(CONFIG)

estimate: $(STAMP)
	@echo '$$ $(BIN)/python workflow/scripts/estimate.py$(if $(CONFIG), --configfile $(CONFIG))'
	@$(BIN)/python workflow/scripts/estimate.py $(if $(CONFIG),--configfile $(CONFIG))

# Sizes for a CPU; without options the programs have full size, on a GPU too.
BENCHMARKS := "training --batch-size 64 --images 128" "simclr --sizes 32 --images 256" "pack --pictures 1000 --rounds 2" "evaluation" "small_maps" "start_up --rounds 1"

benchmark: $(STAMP)
	@failed=0; for program in $(BENCHMARKS); do \
		set -- $$program; name=$$1; shift; \
		echo "$$ $(BIN)/python benchmarks/$$name.py $$*"; \
		$(BIN)/python benchmarks/$$name.py $$* || failed=1; echo; \
	done; exit $$failed

test: $(STAMP)
	@echo '$$ $(BIN)/python -m pytest $(WORKERS)'
	@$(BIN)/python -m pytest $(WORKERS)
	@echo "not among them: make test-faults, make test-containers"

test-pages: $(STAMP)
	@echo '$$ DML_REQUIRE_CHROMIUM=1 $(BIN)/python -m pytest -m pages'
	@DML_REQUIRE_CHROMIUM=1 $(BIN)/python -m pytest -m pages

test-faults: $(STAMP)
	@echo '$$ $(BIN)/python -m pytest $(WORKERS) tests/faults'
	@$(BIN)/python -m pytest $(WORKERS) tests/faults

test-containers: $(STAMP)
	@echo '$$ $(BIN)/python -m pytest tests/containers'
	@$(BIN)/python -m pytest tests/containers

lint: $(STAMP)
	$(BIN)/ruff check $(CODE) envs
	$(BIN)/ruff format --check $(CODE) envs
	PYTHONPATH=workflow/scripts $(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/snakefmt --line-length 100 --check $(SMK)
	$(BIN)/snakemake --lint >/dev/null
	$(BIN)/snakemake --lint --configfile config/demo.yaml >/dev/null
	$(BIN)/snakemake --lint --configfile config/extended.yaml >/dev/null

format: $(STAMP)
	$(BIN)/ruff check --fix $(CODE) envs
	$(BIN)/ruff format $(CODE) envs
	$(BIN)/snakefmt --line-length 100 $(SMK)

lock:
	cd envs && for kind in cpu gpu fiftyone; do uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --custom-compile-command "make lock" $$kind.in -o $$kind.lock; done
	cd envs && uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --custom-compile-command "make lock" dev.in -c cpu.lock -o dev.lock

clean:
	rm -rf $(VENV) .venv-fiftyone .snakemake results/demo
