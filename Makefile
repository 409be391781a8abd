# Two commands: `make demo` runs the main job end to end, `make test` the tests. Both set everything up first.
PYTHON ?= python3
READY := .venv/ready
SKAG := .venv/bin/skag
DEMO := demo

.PHONY: demo test lint clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("skag needs Python 3.11 or newer: make PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch torchvision
	.venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)
	rm -rf $(DEMO)
	$(SKAG) simulate $(DEMO)/recordings
	$(SKAG) convert $(DEMO)/recordings/recordings.pkl $(DEMO)/demo.h5 --classes $(DEMO)/recordings/classes.txt
	$(SKAG) describe $(DEMO)/demo.h5 --llm measured --store $(DEMO)/dialogues.h5
	$(SKAG) train $(DEMO)/demo.h5 --recipe demo --store $(DEMO)/dialogues.h5 --out $(DEMO)/run
	$(SKAG) eval $(DEMO)/run
	$(SKAG) analyze-confusion $(DEMO)/run
	@echo
	@echo 'The demo made, in the folder $(DEMO)/:'
	@echo '  recordings/      simulated recordings of ten actions by twelve people'
	@echo '  demo.h5          the same as a skeleton store'
	@echo '  dialogues.h5     every question and answer about the ten actions'
	@echo '  run/             the trained recogniser: config.json, metrics.jsonl, refreshes.jsonl, best.pt'
	@echo '  run/report.html  open it in a browser: what it confuses, why, and the clips'
	@echo 'Next: the same five commands on your own recordings, see README.md.'

test: $(READY)
	.venv/bin/ruff check skag tests benchmarks
	.venv/bin/mypy
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

clean:
	rm -rf .venv $(DEMO)
