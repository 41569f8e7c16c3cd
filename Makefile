# Everything starts from nothing but Python 3.11 to 3.13 and make.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PORT ?= 3000
# One more than cores: some tests wait for servers and daemons.
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
READY := .venv/.ready

# Each process of Dagster would compile every module anew: 4 s of CPU instead of 1.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo ui emulators test test-long test-fast test-engines test-integrations test-image faults lint format docs figures site bench bench-peers lock clean

help:            ## what there is
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.13 is needed and was not found; set PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes -r requirements.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

demo: $(READY)   ## a synthetic estate through the whole graph, and the three answers
	$(BIN)/finops demo

ui: $(READY)     ## Dagster's UI on the state of this folder; another port: make ui PORT=3001
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT))).close()' 2>/dev/null || { \
		echo "port $(PORT) is taken, perhaps by another UI (without one only the daemon would run): make ui PORT=3001"; exit 1; }
	@echo "Dagster keeps its state in .dagster; the temporary directory that it speaks of below is not used."
	$(BIN)/dagster dev -p $(PORT)

emulators:       ## Azurite, for the tests on Azure Blob Storage; without it they are skipped
	npm install --silent --no-fund --no-audit --prefix $(HOME)/.cache/finops_assets/azurite azurite@3.35.0

# CI runs all in one session, MARKED= : what is collected and made once for the tests is so for the long ones, too.
MARKED ?= not long

test: $(READY)   ## the tests that take a few seconds each at most; CI runs the long ones, too
	$(BIN)/python -m pytest -n $(WORKERS) -m "$(MARKED)"

test-long: $(READY) ## the long ones: the real daemon, the UI's every button, a month of deliveries, kills, stores that hinder
	$(BIN)/python -m pytest -n $(WORKERS) -m long

test-fast: $(READY) ## those without runs, servers and processes: for the inner loop
	$(BIN)/python -m pytest -n auto -m "not slow and not long"

test-engines: $(READY) ## the work on other engines: chDB, fakesnow, and a Spark cluster where Java is; installs them
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet -e ".[clickhouse,spark]" "chdb==4.4.0"
	# Apart, because it wants another sqlglot than ours.
	test -x .venv/fakesnow/bin/python || { $(BIN)/uv venv --quiet .venv/fakesnow && \
		$(BIN)/uv pip install --quiet -p .venv/fakesnow "fakesnow==0.12.1" "snowflake-connector-python<5" "pyarrow>=24"; }
	FINOPS_TEST_ENGINES=1 $(BIN)/python -m pytest -n 2 -rs finops_assets_tests/cost/engines

test-image: $(READY) ## the image of deploy/image, built by buildah on Debian's packages and run; needs buildah, debootstrap and root
	FINOPS_TEST_IMAGE=1 $(BIN)/python -m pytest -n 0 -rs -m long finops_assets_tests/deploy/test_image.py

SUPERSET := FLASK_APP=superset FINOPS_SUPERSET_DB=$(CURDIR)/.venv/superset/making.db \
	SUPERSET_CONFIG_PATH=$(CURDIR)/finops_assets_tests/integrations/superset_config.py .venv/superset/bin/superset

test-integrations: $(READY) ## the dbt package, the dashboards and layout dlt by the real dbt, dlt and Superset, which it installs
	# Apart, because it pins what we have in other versions.
	test -x .venv/dbt/bin/dbt || { $(BIN)/uv venv --quiet .venv/dbt && \
		$(BIN)/uv pip install --quiet --compile-bytecode -p .venv/dbt "dbt-core==1.11.16" "dbt-duckdb==1.11.1" "dbt-postgres==1.11.0" \
			"dagster-dbt==0.29.27" "dagster==1.13.27" "duckdb==2.0.0"; }
	test -x .venv/dlt/bin/dlt || { $(BIN)/uv venv --quiet .venv/dlt && \
		$(BIN)/uv pip install --quiet --compile-bytecode -p .venv/dlt "dlt[filesystem,parquet,s3]==1.31.0"; }
	test -x .venv/superset/bin/superset || { $(BIN)/uv venv --quiet .venv/superset && \
		$(BIN)/uv pip install --quiet --compile-bytecode -p .venv/superset "apache-superset==6.1.0" "flask-caching==2.3.1" \
			"cachelib==0.13.0" "duckdb-engine==0.17.0" "duckdb==2.0.0" psycopg2-binary rich cachetools; }
	# Its own database takes a minute to make: each test takes a copy.
	test -f .venv/superset/finops_test.db || { $(SUPERSET) db upgrade && $(SUPERSET) init && \
		mv .venv/superset/making.db .venv/superset/finops_test.db; } > .venv/superset/made.log 2>&1
	$(BIN)/python -m pytest -n 2 -rs finops_assets_tests/integrations

faults: $(READY) ## kill, starve, hinder and feed it with bad input: hours; a table, JSON, docs/reference/reliability.md
	$(BIN)/python -m finops_assets_tests.faults --docs docs/reference/reliability.md

lint: $(READY)   ## format, lint, types, and which room may know which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY) ## let the formatter have its way
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)   ## write anew what the code writes of the docs: docs/reference, the coverage of native bills
	$(BIN)/python -m tools.reference
	$(BIN)/python -m finops_assets.ingest.conversion.coverage docs/guides/native-bills.md
	$(BIN)/python -m tools.architecture
	$(BIN)/python -m tools.integrations

figures: $(READY) ## the figures of the docs, from benchmarks/results
	$(BIN)/python -m tools.figures

site: $(READY)   ## the documentation as a site, in site/; a warning is an error
	test -x .venv/site/bin/mkdocs || $(BIN)/python -m venv .venv/site
	$(BIN)/uv pip install --quiet --require-hashes -p .venv/site/bin/python -r requirements-docs.lock
	NO_MKDOCS_2_WARNING=1 .venv/site/bin/mkdocs build --quiet --strict

bench: $(READY)  ## measure against the floor and against the naive way; prints a table, writes JSON
	$(BIN)/python -m benchmarks.attribution
	$(BIN)/python -m benchmarks.deliveries
	$(BIN)/python -m benchmarks.owners
	$(BIN)/python -m benchmarks.forecast
	$(BIN)/python -m benchmarks.budgets
	$(BIN)/python -m benchmarks.anomalies
	$(BIN)/python -m benchmarks.waste
	$(BIN)/python -m benchmarks.gates
	$(BIN)/python -m benchmarks.clusters

bench-peers: $(READY) ## the same answers by dlt with dbt, by scripts of DuckDB and polars, by pandas, and by us; installs them
	# Apart, because dlt and dbt pin what we have in other versions.
	test -x .venv/peers/bin/dbt || { $(BIN)/uv venv --quiet .venv/peers && \
		$(BIN)/uv pip install --quiet --compile-bytecode -p .venv/peers "dbt-core==1.11.16" "dbt-duckdb==1.11.1" \
			"dlt[duckdb,parquet]==1.31.0" "duckdb==2.0.0" "polars==2.1.0"; }
	$(BIN)/python -m benchmarks.peers

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links

lock: $(READY)   ## pin what pyproject.toml asks for
	$(LOCK) --group dev pyproject.toml -o requirements.lock
	$(LOCK) --group pyproject.toml:docs -o requirements-docs.lock

clean:           ## forget the demo's state
	rm -rf .finops .dagster .tmp_dagster_home_*
