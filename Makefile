# The commands a person types. `make` alone lists them. Set-up lives in scripts/setup/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test test-long test-statistics test-cluster lint bench soak sbom docs screenshots setup setup-dev \
	lint-at-once lint-types lint-others tests serve-env crate-env sbom-env export-env docs-env axe-env train-env train-demo \
	clean cluster-up cluster-prefetch cluster-run cluster-status cluster-fetch cluster-down

# Tools of the virtual environment come first, for the rules' shell commands too.
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
# Files of tests that run at once. Most wait for servers and pods; each takes up to 4 GiB.
WORKERS ?= 4

help: ## This list
	@echo "Grace runs pragmatics experiments on language models. Start with: make run"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 26
	@echo
	@echo 'Arguments for Snakemake, pytest or the benchmark go into ARGS:'
	@echo '  make run ARGS="-n"        make test ARGS="-k prompts"      make bench ARGS="--quick"'

run: setup ## Set up what is missing and run the workflow: results/report.html
	$(IN_VENV) snakemake $(ARGS)

PYTEST := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
# Per cent of the lines of Grace that the tests have to reach, where no ARGS choose among them.
COVERAGE := 88
# Linters that take long run beside the tests, which wait for servers some of the time.
test: setup-dev lint-at-once serve-env crate-env sbom-env export-env train-env ## Set up what is missing, lint, and run all tests
	@$(MAKE) --no-print-directory --jobs=3 tests lint-types lint-others

# Tests call make, which is to know nothing of the jobs here.
tests: export MAKEFLAGS :=
tests:
ifdef ARGS
	$(IN_VENV) pytest $(PYTEST) $(ARGS)
else
	$(IN_VENV) python -m slipcover --json --out .coverage.json -m pytest $(PYTEST)
	$(IN_VENV) python -m slipcover --fail-under $(COVERAGE) --out .coverage.json --merge .coverage.json
endif

test-long: setup-dev serve-env train-env docs-env axe-env ## Every architecture, trainings; 100,000 inputs to each property
	$(IN_VENV) GRACE_EXAMPLES=100000 pytest tests/long tests/unit/test_journal_crashes.py \
		tests/properties $(ARGS)

test-statistics: setup ## 500 simulated runs of intervals, tests and fits: the report's table
	$(IN_VENV) Rscript --vanilla tests/statistics/run.R --write $(ARGS)

soak: setup-dev ## 200 times kill -9 at random moments, at most 20 minutes: results/soak.json
	$(IN_VENV) PYTHONPATH=workflow/lib:tests/support python tests/support/soak.py $(ARGS)

test-cluster: setup-dev ## On a real Kubernetes, built from Debian's source (root; Debian 12 only)
	$(IN_VENV) tests/cluster/inside.sh python -m pytest tests/cluster/real_words.py \
		tests/cluster/real_runs.py $(if $(filter no,$(GRACE_TEST_PODS)),,tests/cluster/real_cluster.py) $(ARGS)

lint: setup-dev ## Formatters, linters and types, without changing a file
	@$(MAKE) --no-print-directory --jobs=2 --output-sync lint-at-once lint-types lint-others

lint-at-once:
	$(IN_VENV) ruff check .
	$(IN_VENV) ruff format --check .
	$(IN_VENV) snakefmt --check Snakefile workflow

lint-types:
	$(IN_VENV) mypy

lint-others:
	Rscript --vanilla -e 'found <- lapply(c("scripts", "studies", "workflow"), lintr::lint_dir)' \
		-e 'invisible(lapply(found, print)); quit(status = 1L * any(lengths(found) > 0))'
	shellcheck -x scripts/lib/*.sh scripts/setup/*.sh scripts/cluster/*.sh tests/cluster/*.sh .ci/run
	$(IN_VENV) snakemake --lint

bench: serve-env ## Measure Grace's speed beside other ways: results/benchmarks/
	@scripts/setup/python.sh --bench
	PYTHONPATH=scripts .venv-bench/bin/python -m bench $(ARGS)

sbom: setup sbom-env ## What Grace consists of here, as CycloneDX: sbom/
	.venv-sbom/bin/python scripts/tools/sbom.py $(ARGS)

docs: docs-env ## The documentation as a site that opens from disk: site/index.html
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet $(ARGS)
	@echo "Wrote site/index.html"

screenshots: setup ## Pictures of results/ in docs/images, by Debian's chromium
	$(IN_VENV) python scripts/tools/screenshots.py $(ARGS)

setup: ## The environment that `make run` needs: .venv and R
	@scripts/setup/python.sh
	@scripts/setup/r.sh

setup-dev: # And the tools of tests and linters
	@scripts/setup/python.sh --dev
	@scripts/setup/r.sh --dev

serve-env: ## The model server vLLM in .venv-serve, for --config engine=vllm
	@scripts/setup/serve.sh

crate-env: # roc-validator in .venv-crate, which the tests check an archive with
	@scripts/setup/python.sh --crate

sbom-env: # cyclonedx-bom in .venv-sbom
	@scripts/setup/python.sh --sbom

docs-env: # MkDocs Material in .venv-docs
	@scripts/setup/python.sh --docs

axe-env: # axe-core in .venv-axe, for the browser tests
	@scripts/setup/axe.sh

export-env: # Inspect and the validator of Every Eval Ever in .venv-export, which the tests check exports with
	@scripts/setup/python.sh --export

train-env: ## TRL, PEFT and torch in .venv-train, for training adapters
	@scripts/setup/python.sh --train

train-demo: setup train-env ## Train a tiny base to follow instructions: results-demo/report.html
	$(IN_VENV) snakemake --config 'models=[pico-base, demo.sft-1, demo.dpo-1]' limit=24 \
		replications=1 on_invalid=warn results=results-demo $(ARGS)

cluster-up: ## Kubernetes: apply volumes, rights and Secret of config.yaml's `cluster`
	@scripts/cluster/up.sh $(ARGS)

cluster-prefetch: ## Bring the models' weights to the cluster's volume
	@scripts/cluster/run.sh --prefetch $(ARGS)

cluster-run: ## Copy this checkout to the cluster and run the workflow there
	@scripts/cluster/run.sh $(ARGS)

cluster-status: ## Its pods by model and replication, progress, and use of GPUs
	@scripts/cluster/status.sh $(ARGS)

cluster-fetch: ## Copy its results here; ARGS=--replace over results made here, too
	@scripts/cluster/fetch.sh $(ARGS)

cluster-down: ## Stop all of Grace there; ARGS=--everything deletes volumes, rights, Secrets
	@scripts/cluster/down.sh $(ARGS)

clean: ## Remove results, logs and caches; keeps the environments
	[ ! -d results ] || find results -mindepth 1 -maxdepth 1 -not -name README.md -exec rm -rf {} +
	rm -rf sbom logs benchmarks .grace .snakemake .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .coverage.json
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
