# run, test, lint, bench: each sets up what it needs on a fresh machine, and does nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL ?= LLMSeqRec
DATASET ?= ml-100k
ARGS ?=
TEST_WORKERS ?= 2
BENCHMARKS ?= main_job engine growth

# Without a GPU the CPU build of torch does, at a tenth of the download; where PyTorch's own index, which has it, cannot
# be reached, pip takes what the usual one has.
TORCH := torch==2.13.0
CPU_INDEX := https://download.pytorch.org/whl/cpu
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check install

.PHONY: run setup test test-all lint bench clean
run: setup
	$(BIN)/python run_recbole_llm.py --model=$(MODEL) --dataset=$(DATASET) $(ARGS)

setup: $(VENV)/ready

$(VENV)/ready: setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.13 is needed, found " + sys.version.split()[0] + "; set PYTHON=python3.11" if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	if ! command -v nvidia-smi >/dev/null && $(PYTHON) -c 'from urllib.request import urlopen; urlopen("$(CPU_INDEX)/torch/", timeout=10)' 2>/dev/null; \
	then $(PIP) $(TORCH) --extra-index-url $(CPU_INDEX); else $(PIP) $(TORCH); fi
	$(PIP) -c constraints.txt -e '.[serve,server,tune,test]'
	$(PIP) --no-deps recbole==1.2.1
	touch $@

test: setup lint
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadscope

test-all: setup
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadscope -m ''

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: setup
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
