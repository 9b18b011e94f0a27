# make book: environment, one live reproduction, the whole book as a site.   make test: environment, every test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LIVE := dcl.coupling-grey

.PHONY: book test environment clean

book: environment
	@echo "== One claim, reproduced live on real images that come with the book =="
	$(BIN)/python -m cl_lib run $(LIVE) --results runs/live
	@echo "== The whole book =="
	$(BIN)/python -m cl_lib report

test: environment
	$(BIN)/python -m pytest tests
	CL_TIER=smoke $(BIN)/python -m pytest --nbval-lax --nbval-current-env book
	$(BIN)/python -m cl_lib verify

environment: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book,test]'
	@touch $@

clean:
	rm -rf build runs
