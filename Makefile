# Every target stands alone: `make demo` and `make test` install what they need first.
VENV ?= .venv
BIN := $(VENV)/bin
# cpu, or `auto` for the CUDA build that fits this machine's driver: make install TORCH_BACKEND=auto
TORCH_BACKEND ?= cpu
WORKERS ?= 2
MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: help install format lint type layers test test-slow study study-quick torture check demo model clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.installed ## make the environment .venv and install nmt in it

$(VENV)/.installed: pyproject.toml .constraints.txt
	python3 -m venv $(VENV)
	@$(BIN)/python -c 'import torch' 2>/dev/null || sh .install-torch $(BIN) $(TORCH_BACKEND)
	$(BIN)/pip install --quiet --constraint .constraints.txt --editable '.[dev]'
	@touch $@

format: install ## format the code and mend what the linter can
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: install ## formatting, lint, and help texts in the README
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/python -m nmt.cli.readme --check README.md

type: install ## strict types
	$(BIN)/mypy

layers: install ## who may import whom
	$(BIN)/lint-imports

test: install ## the tests, without the slow ones
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS)

test-slow: install ## all tests that need no GPU and no network
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) -m 'not gpu and not network'

study: install ## train the ladder and the attention family, some hours: make study DATA=folder-with-multi30k
	$(BIN)/nmt data prepare --train $(DATA)/multi30k/train --train $(DATA)/europarl/train --train $(DATA)/news/train \
	    --valid $(DATA)/multi30k/val --test $(DATA)/europarl/test --vocab-size 8000 --out data/study --force
	$(BIN)/python -m nmt.study data/study --out checkpoints/study --test $(DATA)/multi30k/test_2016_flickr \
	    --test $(DATA)/europarl/test --gold $(DATA)/hansards-align/trial --gold $(DATA)/alibi-align/dev

study-quick: install ## the same, tiny, on the sample corpus: minutes
	$(BIN)/nmt data prepare --train sample --valid sample --test sample --out data/study-quick --force
	$(BIN)/python -m nmt.study data/study-quick --out checkpoints/study-quick --quick

torture: install ## kills, flipped bytes and fuzz, counted: make torture MINUTES=10
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.torture --minutes $(MINUTES) $(if $(PLANTED),--planted)

check: lint type layers test ## formatting, lint, types, layers, tests

demo: install ## sample corpus to BLEU report in a few minutes
	$(BIN)/nmt data prepare --train sample --valid sample --test sample --out data/demo --force
	$(BIN)/nmt train data/demo --arch transformer --preset tiny --out checkpoints/demo --force
	echo "Où est la gare ?" | $(BIN)/nmt translate -m checkpoints/demo
	$(BIN)/nmt eval -m checkpoints/demo --data data/demo --split test

model: install ## train the model that ships: make model DATA=folder-with-tatoeba
	$(BIN)/nmt data prepare --train $(DATA)/tatoeba/train.tsv.gz --valid $(DATA)/tatoeba/dev.tsv \
	    --test $(DATA)/tatoeba/test.tsv --vocab-size 8000 --out data/tatoeba --force \
	    --licence 'CC BY 2.0, sentences from tatoeba.org by way of manythings.org/anki'
	$(BIN)/nmt train data/tatoeba --arch transformer --max-updates 4400 --out checkpoints/tatoeba --force
	$(BIN)/nmt average checkpoints/tatoeba --half --out checkpoints/fr-en --force
	$(BIN)/nmt eval -m checkpoints/fr-en --data data/tatoeba --record

clean: ## remove what was built, but no data and no models
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
