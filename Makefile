# Shortcuts: each target prints the command that it runs. `make help` lists them. Programs are started by
# `python -m`, which still works after the project's folder was renamed.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Recipes read it as a variable of the shell, so that blanks and quotes in it are kept.
export CONFIG ADD STUDIES RUN PHOTOS BACKBONES NAME OUT
# faiss-gpu on machines with an NVIDIA driver, else faiss-cpu; never both.
KIND ?= $(shell if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then echo gpu; else echo cpu; fi)
CODE := workflow/scripts tests benchmarks containers docs
# Test files run in parallel, in the order of pytest.ini; more processes than this only use memory.
WORKERS := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
SMK := Snakefile workflow
# A program that fails ends with a sentence that says why. make would print "Error 1" below it, so a
# failed recipe ends make by a signal of which it says nothing.
OR_END := || { kill -s PIPE $$PPID; exit 1; }

.PHONY: help demo study quick check-data estimate watch benchmark results compare-studies export test test-pages test-faults test-containers serve lint format docs lock env ready env-fiftyone container clean

help:
	@echo "make demo       the whole study with small synthetic data, without a GPU"
	@echo "make study      the published study (downloads CUB-200-2011 and ImageNet weights)"
	@echo "make quick PHOTOS=path/to/photos    which features and which way of answering serve your photographs, without training"
	@echo "make check-data CONFIG=my.yaml    list all problems of your images, before any training"
	@echo "make estimate   estimate how long the study takes on this machine (CONFIG=my.yaml: your study)"
	@echo "make watch      show a study while it runs: jobs, curves, time left (CONFIG=my.yaml: your study)"
	@echo "make benchmark  measure speed for a few minutes; results go to results/benchmarks"
	@echo "make results    write docs/results.md, its pictures and the README's answer from docs/results/"
	@echo "make results ADD=results/cub    the same, after copying the small tables of that finished study"
	@echo "make compare-studies STUDIES=\"results/cub results/flowers102\"    does a conclusion hold on each data set, and over all"
	@echo "make serve RUN=results/…    a page and an HTTP API that name photographs with a finished run"
	@echo "make export RUN=results/…    write a finished run as ONNX, torch.export and safetensors, with a model card"
	@echo "make test       test the library, whole runs and, if Chromium is installed, pages"
	@echo "make test-pages test only the pages (needs Chromium)"
	@echo "make test-faults        test kills, full disks (needs root) and lost nodes (needs SLURM)"
	@echo "make test-containers    test container images and runs in them (needs apptainer or podman)"
	@echo "make lint       ruff, snakefmt, import rules, snakemake --lint"
	@echo "make format     format the code with ruff and snakefmt"
	@echo "make docs       write the reference of keys and the diagram of the pipeline from the code"
	@echo "make container  build the container image for the rules (KIND=cpu or gpu; apptainer, podman or docker)"
	@echo "make env        install only the environment, in $(VENV)"
	@echo "make env-fiftyone    install FiftyOne in a separate environment, .venv-fiftyone"
	@echo "make lock       compile the hash-pinned lock files again (needs uv)"

env: ready
	@echo "environment: $(VENV) ($(KIND)); activate it with: source $(BIN)/activate"

# Nothing is done if the environment holds the packages of the lock files.
ready:
	@$(PYTHON) envs/environment.py --venv "$(VENV)" --kind $(KIND)

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

demo: ready
	@echo '$$ $(BIN)/python -m snakemake --cores all --configfile config/demo.yaml'
	@begun=$$(date +%s); $(BIN)/python -m snakemake --cores all --configfile config/demo.yaml \
		&& $(BIN)/python workflow/scripts/time_spent.py --since $$begun \
		&& echo "done in $$(( $$(date +%s) - begun )) s: open results/demo/comparison/index.html" $(OR_END)

study: ready
	@echo '$$ $(BIN)/python -m snakemake --cores all --resources gpu=1'
	@$(BIN)/python -m snakemake --cores all --resources gpu=1 $(OR_END)

quick: ready
	@$(BIN)/python workflow/scripts/quick.py --photos "$$PHOTOS" $${BACKBONES:+--backbones "$$BACKBONES"} \
		$${CONFIG:+--config "$$CONFIG"} $${NAME:+--name "$$NAME"} $(OR_END)

check-data: ready
	@test -n "$$CONFIG" || { echo "give a configuration file: make check-data CONFIG=my.yaml"; exit 2; } $(OR_END)
	@printf '$$ $(BIN)/python -m snakemake --cores all check_data --configfile %q\n' "$$CONFIG"
	@$(BIN)/python -m snakemake --cores all check_data --configfile "$$CONFIG" $(OR_END)

estimate: ready
	@echo "$$ $(BIN)/python workflow/scripts/estimate.py$${CONFIG:+ --configfile $$(printf %q "$$CONFIG")}"
	@$(BIN)/python workflow/scripts/estimate.py $${CONFIG:+--configfile "$$CONFIG"} $(OR_END)

watch: ready
	@echo "$$ $(BIN)/python workflow/scripts/watch.py$${CONFIG:+ --configfile $$(printf %q "$$CONFIG")}"
	@$(BIN)/python workflow/scripts/watch.py $${CONFIG:+--configfile "$$CONFIG"} $(OR_END)

# Small sizes for a CPU. Without options the programs use full sizes, also on a GPU.
BENCHMARKS := "training --batch-size 64 --images 128" "simclr --sizes 32 --images 256" "pack --images 1000 --rounds 2" "evaluation" "small_maps" "start_up --rounds 1"

benchmark: ready
	@failed=0; for program in $(BENCHMARKS); do \
		set -- $$program; name=$$1; shift; \
		echo "$$ $(BIN)/python benchmarks/$$name.py $$*"; \
		$(BIN)/python benchmarks/$$name.py $$* || failed=1; echo; \
	done; exit $$failed

results: ready
	@echo "$$ $(BIN)/python workflow/scripts/write_results.py$${ADD:+ --add $$(printf %q "$$ADD")}"
	@$(BIN)/python workflow/scripts/write_results.py $${ADD:+--add "$$ADD"} $(OR_END)

compare-studies: ready
	@test -n "$$STUDIES" || { echo 'name finished studies: make compare-studies STUDIES="results/cub results/flowers102"'; exit 2; } $(OR_END)
	@echo "$$ $(BIN)/python workflow/scripts/compare_studies.py $$STUDIES"
	@$(BIN)/python workflow/scripts/compare_studies.py $$STUDIES $(OR_END)

serve: ready
	@test -n "$$RUN" || { echo 'name a finished run: make serve RUN=results/experiments/NAME/seed42/all_classes'; exit 2; } $(OR_END)
	@printf '$$ $(BIN)/python workflow/scripts/serve.py --run %q\n' "$$RUN"
	@$(BIN)/python workflow/scripts/serve.py --run "$$RUN" $(OR_END)

export: ready
	@test -n "$$RUN" || { echo 'name a finished run: make export RUN=results/experiments/NAME/seed42/all_classes'; exit 2; } $(OR_END)
	@echo "$$ $(BIN)/python workflow/scripts/export.py --run $$(printf %q "$$RUN")$${OUT:+ --out $$(printf %q "$$OUT")}"
	@$(BIN)/python workflow/scripts/export.py --run "$$RUN" $${OUT:+--out "$$OUT"} $(OR_END)

test: ready
	@echo '$$ $(BIN)/python -m pytest $(WORKERS)'
	@$(BIN)/python -m pytest $(WORKERS)
	@echo "not included: make test-faults, make test-containers"

test-pages: ready
	@echo '$$ DML_REQUIRE_CHROMIUM=1 $(BIN)/python -m pytest -m pages'
	@DML_REQUIRE_CHROMIUM=1 $(BIN)/python -m pytest -m pages

test-faults: ready
	@echo '$$ $(BIN)/python -m pytest $(WORKERS) tests/faults'
	@$(BIN)/python -m pytest $(WORKERS) tests/faults

test-containers: ready
	@echo '$$ $(BIN)/python -m pytest tests/containers'
	@$(BIN)/python -m pytest tests/containers

# Values of a configuration become parameters of rules, which are checked as well. All at once: each takes seconds.
LINTED := $(addprefix config/,config.yaml demo.yaml extended.yaml fine_tuning.yaml cub_on_two_cores.yaml quick.yaml)

lint: ready
	$(BIN)/python -m ruff check $(CODE) envs
	$(BIN)/python -m ruff format --check $(CODE) envs
	PYTHONPATH=workflow/scripts $(BIN)/python -c 'from importlinter.cli import lint_imports_command as lint; lint()' --no-cache --no-logo
	$(BIN)/python -m snakefmt --line-length 100 --check $(SMK)
	printf '%s\n' $(LINTED) | xargs -P 0 -I {} $(BIN)/python -m snakemake --lint --configfile {} >/dev/null

format: ready
	$(BIN)/python -m ruff check --fix $(CODE) envs
	$(BIN)/python -m ruff format $(CODE) envs
	$(BIN)/python -m snakefmt --line-length 100 $(SMK)

docs: ready
	$(BIN)/python workflow/scripts/write_reference.py
	$(BIN)/python docs/draw_pipeline.py

lock:
	cd envs && for kind in cpu gpu fiftyone installer; do uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --custom-compile-command "make lock" $$kind.in -o $$kind.lock; done
	cd envs && uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --custom-compile-command "make lock" dev.in -c cpu.lock -o dev.lock
	$(PYTHON) envs/write_conda.py

clean:
	rm -rf "$(VENV)" .venv-fiftyone .snakemake results/demo
