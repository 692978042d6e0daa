.PHONY: help demo test lint types contracts package fuzz audit format lock check
.DEFAULT_GOAL := help

help: ## Show what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/ready: ops/environment.sh pyproject.toml requirements-dev.txt
	@sh ops/environment.sh

demo: .venv/ready ## Run everything once on this machine, and prove that no event got lost.
	@.venv/bin/sluice demo

test: .venv/ready ## Run all tests.
	@.venv/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: .venv/ready ## Check style and format.
	.venv/bin/ruff check
	.venv/bin/ruff format --check

types: .venv/ready ## Check types.
	.venv/bin/mypy

contracts: .venv/ready ## Check that contracts agree with their tables and are compatible with git's HEAD.
	@.venv/bin/sluice contract check

package: .venv/ready ## Build dist/sluice.zip, exactly what is deployed.
	@.venv/bin/sluice package

fuzz: .venv/ready ## Try the core with hostile events for SECONDS (600).
	@SLUICE_FUZZ_SECONDS=$(or $(SECONDS),600) .venv/bin/pytest tests/fuzz --log-cli-level=INFO

audit: .venv/ready ## Ask for known vulnerabilities of what is deployed, and look for risky code.
	@.venv/bin/python -m ops.audit

check: lint types contracts test demo ## All that CI runs.

format: .venv/ready ## Format the code.
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

lock: ## Pin the dependencies of pyproject.toml again.
	.venv/bin/uv pip compile pyproject.toml --quiet --universal --generate-hashes \
	  --custom-compile-command "make lock" --output-file requirements.txt
	.venv/bin/uv pip compile pyproject.toml --quiet --universal --generate-hashes --all-extras \
	  --custom-compile-command "make lock" --constraint requirements.txt --output-file requirements-dev.txt
