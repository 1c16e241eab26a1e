# Needs make and Python >= 3.11; everything else goes into .venv here. A second run installs nothing.
#
#   make demo                        the exporter at work on a simulated server; Ctrl-C ends it
#   make demo ARGS="--duration 60"   likewise, ends by itself
#   make stack                       the same with Prometheus, Alertmanager and the alerts
#   make test                        linters, types, all tests with the coverage gate
#   make test ARGS="-k tracker"      pytest alone, with these arguments
#   make oldest                      unit and integration tests with every dependency at its lower bound
#   make lint | format | docs | truth | keepalive | bench | bench-proxy | bench-watch | bench-fleet | clean
#   make bench-all                   every figure of speed beside its goal, in one table (below 20 min)
#   make dashboards                  build dashboards/grafana/ anew
#   make dashboard-schemas           hold them against the types that Grafana publishes (npm)
#   make dashboard-pictures          draw them with Grafana's components (npm, 421 MB)
#   make pictures                    take the pictures of the live page (chromium)
#   make image                       build the container image and run it (root, Debian's podman; some 3 min)
#   make packages                    try deb and rpm in clean roots, then build them into dist/ (root, Go; some 6 min)
#   make chart                       lint and render the Helm chart, hold it against all schemas (Go; some 4 min)
#   make site                        build the documentation as a site into build/site (some 20 s)
#   make release-check               build wheel and source package, install them, check what PyPI and a BOM need
#   make fuzz                        fuzz every parser of foreign bytes for a minute (atheris; some 12 min)
#   make fuzz ARGS="600 log_lines"   one of them for ten minutes
#   make workflows                   actionlint and zizmor on .github (Go; some 30 s)
#   make dist                        what a release publishes, into dist/ (Go; some 2 min)
#   make release-prepare VERSION=1.2.3  write the version everywhere, move the changelog
#   make release VERSION=1.2.3       check, build, verify and tag (docs/releasing.md); DRY_RUN=1: all but the tag
#   make ship-check                  release-check, workflows, packages, site, chart, image
#   make conformance SERVER=http://127.0.0.1:11434 MODEL=name MODEL2=name
#
# PYTHON=python3.13 chooses the interpreter, VENV=dir another environment than .venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

ARGS ?=
VENV ?= .venv
PY := $(VENV)/bin/python
# promtool, prometheus, alertmanager, nginx may be in there
WITH_PATH := PATH="$(abspath $(VENV)/bin):$$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Each of the hundreds of processes that the tests start would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

SETUP = .ci/setup $(1) "$(VENV)" "$(if $(filter undefined,$(origin PYTHON)),,$(PYTHON))"

.PHONY: run-env dev-env monitoring programs clients pictures dashboards dashboard-schemas dashboard-pictures dashboard-units
.PHONY: help demo stack test oldest image packages chart chart-base site release-check release-prepare release dist dist-check workflows fuzz ship-check lint format docs truth keepalive conformance bench bench-all bench-proxy bench-watch clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

# -- environment -----------------------------------------------------------------------------------

run-env:
	@$(call SETUP,run)

dev-env:
	@$(call SETUP,develop)

monitoring: run-env
	@.ci/get-prometheus "$(VENV)/bin"
	@.ci/get-alertmanager "$(VENV)/bin"

programs: monitoring
	@.ci/get-program "$(VENV)/bin" nginx -v nginx=/usr/sbin/nginx
	@.ci/get-chromium

clients: dev-env
	@.ci/get-clients "$(VENV)/clients"
	@! command -v npm >/dev/null 2>&1 || $(MAKE) $(SCHEMAS)/node_modules \
		|| echo "make: npm could not get it: the test that needs it will be skipped" >&2

# -- what one does ---------------------------------------------------------------------------------

demo: run-env
	@exec $(PY) -m ollama_exporter demo $(ARGS)

# Simulated Ollama with clients, exporter, Prometheus with the rules, Alertmanager: without containers.
stack: monitoring
	@$(WITH_PATH); export PATH; exec $(PY) -m deploy.stack $(ARGS)

ifeq ($(strip $(ARGS)),)
test: lint programs clients
	@echo "make: tests"
	@$(WITH_PATH) $(PY) -m pytest -n auto --dist worksteal --cov --cov-report=term -rfEs
else
test: dev-env programs clients
	@$(WITH_PATH) $(PY) -m pytest $(ARGS)
endif

# Every dependency at its lower bound, in an environment of its own. A fresh .venv has the newest. Old
# libraries use what newer ones call deprecated, which is no mistake of ours. The SDKs that fit them may have
# another licence than today's, which are the listed ones.
OLDEST := build/oldest
OLD_TESTS := tests/unit tests/properties tests/docs tests/integration \
	--deselect tests/docs/test_dependencies_doc.py::test_every_tool_is_listed_with_its_licence

oldest: dev-env programs clients
	@$(PY) -m pip install --quiet --group oldest
	@rm -rf $(OLDEST) && $(PY) -m venv --without-pip $(OLDEST)
	@$(PY) -m uv pip compile --quiet --resolution lowest-direct --extra fast pyproject.toml \
		--output-file $(OLDEST)/bounds.txt >/dev/null
	@$(PY) -m uv pip install --quiet --python $(OLDEST)/bin/python --constraints $(OLDEST)/bounds.txt \
		--editable '.[fast]' --group dev
	@ln -s "$(abspath $(VENV))/clients" $(OLDEST)/clients
	@$(WITH_PATH) $(OLDEST)/bin/python -m pytest -n auto --dist worksteal -W ignore::DeprecationWarning \
		$(or $(ARGS),$(OLD_TESTS))

lint: dev-env
	@echo "make: ruff, mypy, import-linter, codespell"
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports
	@$(PY) -m codespell_lib

format: dev-env
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

docs: dev-env
	@$(PY) -m ollama_exporter metrics --format markdown > docs/metrics.md
	@$(PY) -c "from tools.settings_reference import configuration as c; print(c(), end='')" > docs/configuration.md
	@$(PY) -c "from deploy.prometheus.manifest import manifest as m; print(m(), end='')" > deploy/prometheus/prometheusrule.yaml
	@$(PY) -m tools.chart_reference
	@$(PY) -m tools.command_reference
	@$(PY) -m tools.api_reference
	@echo "make: docs/metrics.md, docs/configuration.md, deploy/prometheus/prometheusrule.yaml written"

dashboards: dev-env
	@$(PY) -m dashboards.build
	@echo "make: dashboards/grafana/*.json written"

# Grafana's types, its components: each in a folder of its own, that git does not see.
NPM = npm install --silent --no-audit --no-fund --no-package-lock --legacy-peer-deps --prefix $(1)
SCHEMAS := dashboards/schemas
PAGE := dashboards/pictures/page

$(SCHEMAS)/node_modules: $(SCHEMAS)/package.json
	@echo "make: getting Grafana's types (some 10 s)"
	@$(call NPM,$(SCHEMAS)) && touch $@

$(PAGE)/node_modules: $(PAGE)/package.json
	@echo "make: getting Grafana's components (421 MB, some 60 s)"
	@$(call NPM,$(PAGE)) && touch $@

dashboard-schemas: $(SCHEMAS)/node_modules
	@node $(SCHEMAS)/check.js dashboards/grafana/*.json

dashboard-units: $(PAGE)/node_modules
	@node $(PAGE)/units.cjs > $(SCHEMAS)/units.json
	@echo "make: $(SCHEMAS)/units.json written"

dashboard-pictures: dev-env programs $(PAGE)/node_modules
	@cd $(PAGE) && node_modules/.bin/esbuild main.jsx --bundle --outfile=out/main.js --loader:.js=jsx \
		--loader:.ttf=empty --define:process.env.NODE_ENV='"production"' --log-level=error
	@$(WITH_PATH) $(PY) -m dashboards.pictures

pictures: dev-env
	@.ci/get-chromium
	@$(PY) -m dashboards.pictures.live_page
	@$(PY) -m dashboards.pictures.terminal_view

# Then fitted without the recording that is judged: four minutes of CPU.
truth: run-env
	@$(PY) -m bench.truth $(ARGS)
	@$(PY) -m bench.leave_one_out

# What the advice would have cost on recorded arrivals: some three minutes.
keepalive: run-env
	@$(PY) -m bench.keepalive $(ARGS)

# Loads and unloads the two models on that server, nothing else.
conformance: dev-env
	@$(PY) -m pytest tests/conformance $(if $(SERVER),--server "$(SERVER)") $(if $(MODEL),--model "$(MODEL)") $(if $(MODEL2),--model2 "$(MODEL2)") $(ARGS)

# Without a daemon and without a registry of images: deploy/image/build.
image: dev-env monitoring
	@deploy/image/build --tools
	@.ci/get-helm "$(VENV)/bin"
	@CI=true $(WITH_PATH) $(PY) -m pytest tests/ship/test_image.py tests/ship/test_chart_rehearsal.py $(ARGS)

packages: dev-env
	@deploy/packages/build --tools
	@.ci/get-nfpm "$(VENV)/bin"
	@CI=true $(WITH_PATH) $(PY) -m pytest tests/ship/test_packages.py $(ARGS)
	@for each in amd64 arm64; do $(WITH_PATH) PYTHON=$(PY) deploy/packages/build dist $$each || exit 1; done

dist: dev-env
	@.ci/get-nfpm "$(VENV)/bin"
	@.ci/get-helm "$(VENV)/bin"
	@$(PY) -m pip install --quiet --group release
	@$(WITH_PATH) PYTHON=$(abspath $(PY)) deploy/release/build dist

# The tests of release-check, on the files themselves.
dist-check: dist
	@DIST=dist $(PY) -m pytest -q tests/ship/test_release.py

release: dev-env
	@$(PY) -m tools.release $(if $(DRY_RUN),--dry-run) "$(VERSION)" -- $(MAKE) dist-check

release-prepare: dev-env
	@$(PY) -m tools.release_version "$(VERSION)"

fuzz: dev-env
	@$(PY) -m pip install --quiet --group fuzz
	@$(PY) -m tests.fuzz $(ARGS)

workflows: dev-env
	@.ci/get-actionlint "$(VENV)/bin"
	@$(PY) -m pip install --quiet --group workflows
	@$(WITH_PATH) actionlint
	@$(WITH_PATH) zizmor --quiet --offline --persona=pedantic .github

release-check: dev-env
	@$(PY) -m pip install --quiet --group release
	@$(PY) -m pytest tests/ship/test_release.py $(ARGS)

ship-check: release-check workflows packages site chart image

site: dev-env
	@.ci/get-chromium
	@.ci/get-clients "$(VENV)/clients"
	@$(PY) -m pip install --quiet --group site
	@rm -rf build/site build/site-source
	@$(PY) -m tools.site build/site-source
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@$(PY) -m pytest tests/ship/test_site.py $(ARGS)
	@echo "make: python3 -m http.server --directory build/site"

chart: dev-env
	@.ci/get-helm "$(VENV)/bin"
	@$(PY) -m pip install --quiet --group ship
	@CI=true $(WITH_PATH) $(PY) -m pytest tests/ship/test_chart.py $(ARGS)

chart-base: dev-env
	@.ci/get-helm "$(VENV)/bin"
	@$(WITH_PATH) helm template ollama-exporter deploy/helm/ollama-exporter --kube-version 1.33.0 --skip-tests \
		2>/dev/null | $(PY) -m tools.kustomize_base

bench: dev-env
	@$(PY) -m bench.run $(ARGS)

bench-watch: dev-env
	@$(PY) -m bench.watch $(ARGS)

# One process and 10 to 3,000 simulated servers: some 12 minutes.
bench-fleet: dev-env
	@$(PY) -m bench.fleet $(ARGS)

# Every figure beside its goal: wrk and Go too.
bench-all: dev-env
	@$(PY) -m bench.everything $(ARGS)

bench-proxy: dev-env
	@$(PY) -m bench.proxy.run $(ARGS)

clean:
	@rm -rf $(VENV) build dist htmlcov .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find ollama_exporter tests bench dashboards -name __pycache__ -type d -prune -exec rm -rf {} +
