.PHONY: help demo bench test faults drill fuzz docs beam chromium frames promtool spin model simulate lint types contracts checkov terraform workflows package sbom mutation audit format lock check
.DEFAULT_GOAL := help

help: ## Show what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/local-ready: tools/environment.sh pyproject.toml requirements-local.txt
	@sh tools/environment.sh local

# It has all of the former, and makes both files.
.venv/ready: tools/environment.sh pyproject.toml requirements-local.txt requirements-dev.txt
	@sh tools/environment.sh

.venv/checkov/ready: requirements-checkov.txt | .venv/ready
	@echo "installing checkov into .venv/checkov" >&2
	@.venv/bin/python -m venv --clear .venv/checkov
	@.venv/checkov/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-checkov.txt
	@touch $@

.venv/docs/ready: requirements-docs.txt | .venv/ready
	@echo "installing MkDocs into .venv/docs" >&2
	@.venv/bin/python -m venv --clear .venv/docs
	@.venv/docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.txt
	@touch $@

.venv/beam/ready: requirements-beam.txt | .venv/ready
	@echo "installing Apache Beam into .venv/beam: 138 packages, 830 MB" >&2
	@.venv/bin/python -m venv --clear .venv/beam
	@.venv/beam/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-beam.txt
	@touch $@

.venv/mutation/ready: requirements-mutation.txt | .venv/ready
	@echo "installing mutmut into .venv/mutation" >&2
	@rm -rf .venv/mutation
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --target .venv/mutation -r requirements-mutation.txt
	@touch $@

.venv/frames/ready: requirements-frames.txt | .venv/ready
	@echo "installing pandas and Polars into .venv/frames" >&2
	@rm -rf .venv/frames
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target .venv/frames -r requirements-frames.txt
	@touch $@

.venv/promtool/promtool: tools/promtool.sh | .venv/ready
	@sh tools/promtool.sh

# Without it the tests of the alerts are skipped, with the reason.
.venv/promtool/tried: | .venv/ready
	@sh tools/promtool.sh || mkdir -p .venv/promtool
	@touch $@

# Without it the models are not checked, with the reason.
.venv/spin-tried: | .venv/ready
	@sh tools/spin.sh || true
	@touch $@

# Without it the tests of the console are skipped, with the reason.
.venv/chromium-tried: | .venv/ready
	@sh tools/chromium.sh || true
	@touch $@

demo: .venv/local-ready ## Run everything once on this machine, and prove that no event got lost.
	@.venv/bin/sluice demo

# A module is run by one worker, the longest ones first: tests/durations.json.
PYTEST = .venv/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: .venv/ready ## Run the tests but for those that take long, in some ten minutes.
	@$(PYTEST) -m "not check"

bench: .venv/ready ## Measure Sluice against the plain way, and write docs/performance.md.
	@.venv/bin/python -m benchmarks --docs
	@.venv/bin/python -m benchmarks.scale --docs
	@.venv/bin/python -m benchmarks.beam --docs

faults: .venv/ready ## Break all that may break, for an hour, and prove that no event got lost.
	@SLUICE_FAULTS=long SLUICE_PATIENCE=5 .venv/bin/pytest tests/faults/test_matrix.py
	@SLUICE_PATIENCE=5 .venv/bin/python -m tests.faults.soak
	@SLUICE_PATIENCE=5 .venv/bin/python -m tests.faults.batch_soak

SEEDS ?= 10000
FIRST ?= 0
simulate: .venv/ready ## Simulate scenarios of many seeds: make simulate SEEDS=100000
	@.venv/bin/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

drill: .venv/ready ## Lose a region on this machine, rebuild it from its archive, and prove that no event got lost.
	@.venv/bin/python -m tools.drill

beam: .venv/beam/ready ## Install Apache Beam, with which dataflow/ runs.

frames: .venv/frames/ready ## Install pandas and Polars, which some tests of docs/your-own-client.md need.

promtool: .venv/promtool/promtool ## Get Prometheus' promtool, with which the tests evaluate the alerts.

spin: .venv/ready ## Get Spin, which checks the models of the durability protocol.
	@sh tools/spin.sh

model: spin ## Check the models of the durability protocol, exhaustively, in two minutes.
	@CI=true .venv/bin/pytest tests/model

chromium: ## Get Chromium, in which the tests visit the console.
	@sh tools/chromium.sh

lint: .venv/ready ## Check style, format, language, and who imports what.
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	@.venv/bin/python -m tools.language
	@.venv/bin/lint-imports --no-logo --no-cache

types: .venv/ready ## Check types.
	.venv/bin/mypy

contracts: .venv/local-ready ## Check that contracts agree with their tables and are compatible with git's HEAD.
	@.venv/bin/sluice contract check

checkov: .venv/ready .venv/checkov/ready ## Check terraform/ against checkov's policies.
	@.venv/bin/python -m tools.checkov

terraform: checkov promtool ## Check terraform/ with Terraform and checkov; what is missing is a failure.
	@CI=true .venv/bin/pytest tests/terraform

docs: .venv/docs/ready ## Build the site of the documentation into site/; a broken link is a failure.
	@NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict

workflows: .venv/ready ## Check .github/ against GitHub's schemas and zizmor's rules.
	@.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@.venv/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@.venv/bin/zizmor --offline --no-progress --quiet --strict-collection .github

package: .venv/local-ready ## Build dist/sluice.zip, exactly what is deployed.
	@.venv/bin/sluice package

sbom: .venv/ready ## Build dist/sluice.zip, and list what is in it: dist/sluice.cdx.json, CycloneDX.
	@.venv/bin/python -m tools.sbom

fuzz: .venv/ready ## Try the core with hostile events for SECONDS (600).
	@SLUICE_FUZZ_SECONDS=$(or $(SECONDS),600) .venv/bin/pytest tests/fuzz --log-cli-level=INFO

mutation: .venv/ready .venv/mutation/ready ## Change the core and ingest in small ways, and count how many changes no unit test notices.
	@.venv/bin/python -m tools.mutation

audit: .venv/ready ## Ask for known vulnerabilities of what is deployed, and look for risky code.
	@.venv/bin/python -m tools.audit

check: lint types contracts checkov workflows docs test .venv/promtool/tried .venv/spin-tried .venv/chromium-tried .venv/beam/ready .venv/frames/ready ## Run all that CI runs, in some 45 minutes: all checks, all tests, the demo.
	@$(PYTEST) -m check
	@.venv/bin/sluice demo

format: .venv/ready ## Format the code.
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

lock: .venv/ready ## Pin the dependencies of pyproject.toml again.
	.venv/bin/uv pip compile pyproject.toml --quiet --universal --generate-hashes \
	  --custom-compile-command "make lock" --output-file requirements.txt
	.venv/bin/uv pip compile pyproject.toml --quiet --universal --generate-hashes --extra local \
	  --custom-compile-command "make lock" --constraint requirements.txt --output-file requirements-local.txt
	.venv/bin/uv pip compile pyproject.toml --quiet --universal --generate-hashes --all-extras \
	  --custom-compile-command "make lock" --constraint requirements-local.txt --output-file requirements-dev.txt
	.venv/bin/uv pip compile --group checkov --quiet --universal --generate-hashes \
	  --custom-compile-command "make lock" --output-file requirements-checkov.txt
	.venv/bin/uv pip compile --group docs --quiet --universal --generate-hashes \
	  --custom-compile-command "make lock" --output-file requirements-docs.txt
	.venv/bin/uv pip compile pyproject.toml --group beam --quiet --universal --generate-hashes \
	  --custom-compile-command "make lock" --output-file requirements-beam.txt
	.venv/bin/uv pip compile --group mutation --quiet --universal --generate-hashes \
	  --custom-compile-command "make lock" --constraint requirements-dev.txt --output-file requirements-mutation.txt
	.venv/bin/uv pip compile --group frames --quiet --universal --generate-hashes \
	  --custom-compile-command "make lock" --constraint requirements-dev.txt \
	  --no-emit-package numpy --no-emit-package pyarrow --output-file requirements-frames.txt
	.venv/bin/uv pip compile --group plain --quiet --universal --generate-hashes \
	  --custom-compile-command "make lock" --constraint requirements-dev.txt --output-file benchmarks/plain/requirements.txt
