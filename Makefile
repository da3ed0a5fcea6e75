# One environment, .venv, with the pinned versions of constraints.txt.
PYTHON ?= python3.11
RUN ?= R2
GRID ?= original
ARGS ?=
STUDY ?= reproduction
FRESH ?=
GPU_PYTHON ?= $(BIN)/python
BIN := .venv/bin
# each import is compiled once, and not by every process again
unexport PYTHONDONTWRITEBYTECODE
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: run sweep quick test lint faults mutants reproduce bench zoo gpu lab notebooks readme readme-text docs chromium

run: .venv/.ready  ## one ablation: make run RUN=R2 ARGS="-p seed 1"
	@out=$$(mktemp -d); trap 'rm -r $$out' EXIT; \
	trap 'echo "Stopped: $(BIN)/painn_nb run --resume DIRECTORY goes on, with the newest of runs/painn." >&2' INT; \
	$(BIN)/papermill nbs/run.ipynb $$out/run.ipynb -p run $(RUN) $(ARGS) && \
	$(BIN)/python -c "import nbformat, sys; print(nbformat.read(sys.argv[1], 4).cells[-1].outputs[0].text)" $$out/run.ipynb

sweep: .venv/.ready  ## many runs and their comparison: make sweep GRID=leave_one_out ARGS="--seeds 8"
	@$(BIN)/painn_nb sweep $(GRID) $(ARGS)

quick: lint  ## before a commit: style, types, the notebooks of the package, and the tests that are not slow
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --file_glob '[01]*.ipynb' --n_workers 2
	$(PYTEST) -m "not slow"

test: lint chromium  ## everything: style, types, all notebooks, all of tests/
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2
	$(PYTEST)

lint: .venv/.ready  ## style and types
	$(BIN)/ruff check --quiet
	$(BIN)/pyrefly check --summary=none

faults: .venv/.ready  ## runs that are killed and stopped at random moments, for five minutes at most
	FAULTS=$${FAULTS:-10} timeout 300 $(BIN)/python -m pytest -q -rA -k any_moment tests/test_faults.py

mutants: .venv/.ready  ## change the code line by line and see whether a test notices: make mutants ARGS="--module data --count 5"
	@$(BIN)/python tests/mutants.py $(ARGS)

chromium:  # Debian's, for what is tested in a browser, and skipped where it is missing and cannot be installed
	@command -v chromium > /dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium > /dev/null; } || echo "chromium is missing: what needs a browser is skipped"

reproduce: .venv/.ready  ## the runs behind the analysis pages, those that are missing; STUDY=recipe: those of the better recipe, see nbs/16_studies.ipynb for all; FRESH=1: all again, compared
	$(BIN)/python -c "from painn_nb.studies import STUDIES; from painn_nb.sweeps import reproduce; reproduce(STUDIES['$(STUDY)'], 'runs/$(STUDY)', fresh=bool('$(FRESH)'))"

bench: .venv/.ready chromium  ## speed beside peers, see benchmarks/; writes benchmarks/results/
	-$(MAKE) .venv-zoo/.ready
	for b in step diagnostics recipes simulation startup records scale explore; do $(BIN)/python benchmarks/$$b.py || exit 1; done

zoo: .venv-zoo/.ready  ## networks of others: is the right module named, is what is promised true, when do they explode, what does looking cost
	for b in planted promises thresholds cost; do OMP_NUM_THREADS=1 .venv-zoo/bin/python benchmarks/zoo/$$b.py || exit 1; done

gpu:  ## checks and benchmarks on a GPU, with a Python whose torch sees it
	PYTHONPATH=. $(GPU_PYTHON) benchmarks/gpu.py

lab: .venv/.ready  ## JupyterLab: see a network explode, and save it, with sliders
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/nbs/explore.ipynb

notebooks: .venv/.ready  ## execute all source notebooks in place, clean, export, README
	cd nbs && for nb in [0-9]*.ipynb howto.ipynb howto_lightning.ipynb explore.ipynb tour.ipynb index.ipynb; do PAINN_NB_STATIC=1 ../$(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --ExecutePreprocessor.store_widget_state=False --inplace $$nb || exit 1; done
	$(BIN)/nbdev_clean && $(BIN)/nbdev_export
	$(MAKE) readme

readme: .venv/.ready  ## README.md from nbs/index.ipynb
	@$(MAKE) -s readme-text > README.md.tmp && mv README.md.tmp README.md

readme-text: .venv/.ready
	@text=$$($(BIN)/jupyter nbconvert --log-level WARN --to markdown --stdout --TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_cell_tags=site --TagRemovePreprocessor.remove_input_tags=remove-input nbs/index.ipynb) && \
	printf '%s\n' "$$text" | awk '/^```/ && (code = !code) && $$0 == "```" { $$0 = "```python" } 1'  # the notebook's cells name no language

docs: .venv/.ready  ## the site, from the notebooks and the committed runs
	$(BIN)/python site_builder/build.py

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# networks that people train, and the peers of the benchmarks. SchNetPack comes without its dependencies, since it asks
# for a sympy older than torch's.
ZOO_PIP = .venv-zoo/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
.venv-zoo/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-zoo
	$(ZOO_PIP) torch numpy ase h5py pyyaml hydra-core hydra-colorlog pytorch-lightning torchmetrics rich fasteners dirsync \
		torch-ema matscipy tensorboard tensorboardX tqdm -e . \
		mace-torch==0.3.16 torch_geometric==2.8.1 egnn-pytorch==0.2.8 gotennet-pytorch==0.3.1 transformers==5.24.0 torchlens==2.36.1
	$(ZOO_PIP) --no-deps schnetpack==2.1.1
	touch $@
