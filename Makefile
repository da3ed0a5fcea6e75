# One environment, .venv, with the pinned versions of constraints.txt.
PYTHON ?= python3.11
RUN ?= R2
ARGS ?=
BIN := .venv/bin

.PHONY: run test reproduce bench lab notebooks readme

run: .venv/.ready  ## one ablation: make run RUN=R2 ARGS="-p seed 1"
	@out=$$(mktemp -d)/run.ipynb && $(BIN)/papermill nbs/run.ipynb $$out -p run $(RUN) $(ARGS) && \
	$(BIN)/python -c "import nbformat, sys; print(nbformat.read(sys.argv[1], 4).cells[-1].outputs[0].text)" $$out

test: .venv/.ready  ## all notebooks, then tests/
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2
	$(BIN)/python -m pytest

reproduce: .venv/.ready  ## the runs behind the analysis pages, on all cores; goes on where it was stopped
	$(BIN)/python -c "from painn_nb.ablation import REPRODUCTION, sweep; sweep(REPRODUCTION, 'runs/reproduction')"

bench: .venv/.ready  ## what capturing every step costs, beside other monitors; writes benchmarks/results/
	$(BIN)/python benchmarks/diagnostics.py

lab: .venv/.ready  ## JupyterLab on the notebooks
	$(BIN)/jupyter lab nbs

notebooks: .venv/.ready  ## execute all source notebooks in place, clean, export, README
	cd nbs && for nb in [0-9]*.ipynb index.ipynb; do ../$(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --inplace $$nb || exit 1; done
	$(BIN)/nbdev_clean && $(BIN)/nbdev_export
	$(MAKE) readme

readme: .venv/.ready  ## README.md from nbs/index.ipynb
	$(BIN)/jupyter nbconvert --log-level WARN --to markdown --stdout nbs/index.ipynb > README.md

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
