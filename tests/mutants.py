"""Do the tests notice when the code is wrong? Changes one line at a time, and sees whether something fails.

`make mutants ARGS="--module data --count 5 --seed 0"` draws lines of the exported code at random. In a private copy of
the project each is changed as a hurried hand might have done, in the package and in its notebook alike; then that
notebook is tested, and if it passes, the quick tests. A failure, or a test that hangs, means that somebody noticed.
"""

import argparse
import ast
import collections
import contextlib
import copy
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

BIN = Path(sys.executable).parent
QUICK = "-m 'not slow' --ignore=tests/test_project.py"  # not what finds drift: notebook and package change alike
SECTION = re.compile(r"^# %% \.\./nbs/(\S+) #(\w+)\n", re.M)  # nbdev's mark above what a cell exported

TALK = {"print", "tqdm", "cast", "TypeVar"}  # what they are told changes no behaviour ...
LOOKS = {"alpha", "color", "cmap", "dpi", "figsize", "fontsize", "height", "layout", "lw", "marker", "ms", "palette",
         "style", "width"}  # ... and how a figure looks is judged by eye
COMPARISONS = dict(Lt="LtE Gt", LtE="Lt GtE", Gt="GtE Lt", GtE="Gt LtE", Eq="NotEq", NotEq="Eq", Is="IsNot", IsNot="Is",
                   In="NotIn", NotIn="In")
ARITHMETIC = dict(Add="Sub", Sub="Add", Mult="Div", Div="Mult", FloorDiv="Mult", Mod="FloorDiv", Pow="Mult",
                  MatMult="Mult", BitAnd="BitOr", BitOr="BitAnd", BitXor="BitOr", LShift="RShift", RShift="LShift")
PAIRS = """min max, amin amax, argmin argmax, minimum maximum, clamp_min clamp_max, any all, sum mean, zeros ones,
           zeros_like ones_like, sin cos, floor ceil, sqrt square, isnan isinf, head tail, startswith endswith,
           removeprefix removesuffix"""
OTHER = {a: b for pair in PAIRS.split(",") for a, b in (pair.split(), pair.split()[::-1])}
LEFT_OUT = {"abs", "sorted", "reversed", "float", "int", "sqrt", "square", "detach", "clone"}  # f(x), x.f() → x


class Mutant(NamedTuple):
    module: str
    notebook: str
    line: int
    shown: str  # the line, with what was written ⟦before → after⟧
    files: dict[str, str]  # the changed text of module and notebook


def like(node: ast.AST, **changed) -> ast.AST: return type(node)(**dict(ast.iter_fields(node)) | changed)


def joins(x: ast.AST) -> bool:
    "Whether this is text or a list, where another operator would be an error at once."
    return isinstance(x, ast.JoinedStr | ast.List | ast.ListComp) or isinstance(getattr(x, "value", None), str)


def relevant(node: ast.AST) -> Iterator[ast.AST]:
    "What behaves, below a node: no imports, docstrings, annotations, looks of figures, nor what is merely said."
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(ast.Constant()) | ast.Assign([ast.Name("__all__")]): return
        case ast.keyword(arg) if arg in LOOKS: return
        case ast.Call(ast.Name(name) | ast.Attribute(attr=name)) if name in TALK: return
    yield node
    if isinstance(node, ast.JoinedStr): return  # up to Python 3.11 what is inside has no position
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"): continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST): yield from relevant(child)


def changes(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    "Pairs of a node, this one or a part of it, and what might have been there by mistake."
    match node:
        case ast.Compare(ops=ops):
            for k, op in enumerate(ops):
                for other in COMPARISONS[type(op).__name__].split():
                    yield node, like(node, ops=[*ops[:k], getattr(ast, other)(), *ops[k + 1:]])
        case ast.BinOp(left, op, right):
            yield from ((node, left), (node, right))
            if not joins(left) and not joins(right):
                yield node, like(node, op=getattr(ast, ARITHMETIC[type(op).__name__])())
        case ast.AugAssign(op=op):
            yield from ((node, ast.Pass()), (node, like(node, op=getattr(ast, ARITHMETIC[type(op).__name__])())))
        case ast.BoolOp(op): yield node, like(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(ast.Not() | ast.USub(), operand): yield node, operand
        case ast.IfExp(_, body, other): yield node, like(node, body=other, orelse=body)
        case ast.If(test) if not isinstance(test, ast.Compare | ast.UnaryOp): yield test, ast.UnaryOp(ast.Not(), test)
        case ast.comprehension(ifs=[test, *_]): yield test, ast.Constant(True)
        case ast.Constant(bool(value)): yield node, ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            if isinstance(value, int) and value < 100: yield node, ast.Constant(value + 1)
            if value: yield from ((node, ast.Constant(10 * value)), (node, ast.UnaryOp(ast.USub(), node)))
        case ast.Constant(str(value)) if re.search(r"\w", value) and "\n" not in value:
            words = value.split(" ")
            yield node, ast.Constant(value[:-1] if len(words) < 3 else " ".join(words[:1] + words[2:]))
        case ast.JoinedStr(parts):
            inner = (x for p in parts for x in (relevant(p.value) if isinstance(p, ast.FormattedValue) else [p]))
            for old, new in chain.from_iterable(map(changes, inner)): yield node, copy.deepcopy(node, {id(old): new})
        case ast.Slice():
            for end in ("lower", "upper", "step"):
                if getattr(node, end): yield node, like(node, **{end: None})
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in OTHER: yield node, like(node, attr=OTHER[name])
        case ast.Call(func, args, keywords):
            if (name := getattr(func, "id", "")) in OTHER: yield func, like(func, id=OTHER[name])
            if name in LEFT_OUT and args: yield node, args[0]
            if getattr(func, "attr", "") in LEFT_OUT: yield node, args[0] if args else func.value
            if len(args) > 1: yield node, like(node, args=[args[1], args[0], *args[2:]])
            for k, word in enumerate(keywords):
                if word.arg and word.arg not in LOOKS: yield node, like(node, keywords=keywords[:k] + keywords[k + 1:])
        case ast.Expr(ast.Call()) | ast.Assign([ast.Attribute() | ast.Subscript()]): yield node, ast.Pass()
        case ast.Raise() | ast.Assert() | ast.Continue(): yield node, ast.Pass()
        case ast.FunctionDef(decorator_list=decorators) | ast.ClassDef(decorator_list=decorators):
            for decorator in decorators: yield decorator, ast.parse("lambda x: x", mode="eval").body


def written(source: str, tree: ast.Module, old: ast.AST, new: ast.AST) -> tuple[int, int, str] | None:
    "Where a change stands, and its text; None where it does not read as meant, or means the same."
    lines = source.splitlines(keepends=True)
    def position(line, column): return len("".join(lines[:line - 1])) + len(lines[line - 1].encode()[:column].decode())

    start, end = position(old.lineno, old.col_offset), position(old.end_lineno, old.end_col_offset)
    meant = ast.dump(copy.deepcopy(tree, {id(old): new}))
    try: text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(new)))
    except ValueError: return None  # quotes within quotes
    for form in (text.replace("'", '"'), text, f"({text})"):
        try: read = ast.dump(ast.parse(source[:start] + form + source[end:]))
        except SyntaxError: continue
        if read == meant != ast.dump(tree): return start, end, form
    return None


def mutant(root: Path, module: str, source: str, start: int, end: int, text: str) -> Mutant:
    "The same change in module and notebook, to the lines in which it stands."
    first, last = source.rfind("\n", 0, start) + 1, source.find("\n", end)
    before, after = source[first:last], source[first:start] + text + source[end:last]
    mark = [m for m in SECTION.finditer(source) if m.end() <= first][-1]
    earlier = source.count(before, mark.end(), first)
    notebook = json.loads((root / "nbs" / mark[1]).read_text())
    [cell] = [c for c in notebook["cells"] if c["id"] == mark[2]]
    parts = "".join(cell["source"]).split(before)
    assert len(parts) > earlier + 1, f"nbs/{mark[1]} and {module}.py have drifted apart: export first."
    changed = before.join(parts[:earlier + 1]) + after + before.join(parts[earlier + 1:])
    cell["source"] = changed.splitlines(keepends=True)
    shown = f"{source[first:start].lstrip()}⟦{source[start:end]} → {text}⟧{source[end:last]}"
    files = {f"painn_nb/{module}.py": source[:start] + text + source[end:],
             f"nbs/{mark[1]}": json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"}
    return Mutant(module, mark[1], source.count("\n", 0, start) + 1, " ".join(shown.split()), files)


def draw(root: Path, module: str, count: int, seed: int) -> list[Mutant]:
    "Lines of a module at random, and of each a change at random."
    source, chance = (root / "painn_nb" / f"{module}.py").read_text(), random.Random(f"{seed} {module}")
    tree, lines = ast.parse(source), collections.defaultdict(list)
    for old, new in chain.from_iterable(map(changes, relevant(tree))): lines[old.lineno].append((old, new))
    drawn = []
    for line in chance.sample(sorted(lines), len(lines)):
        chance.shuffle(lines[line])
        place = next(filter(None, (written(source, tree, *change) for change in lines[line])), None)
        if place: drawn.append(mutant(root, module, source, *place))
        if len(drawn) == count: break
    return drawn


class Copy:
    "A private copy of the project, as git sees it, for one worker."

    def __init__(self, root: Path, folder: Path, timeout: float):
        self.folder, self.timeout = folder / "project", timeout
        (folder / "tmp").mkdir(parents=True)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}  # set where a git hook calls
        self.env |= {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}
        listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=root, text=True)
        for name in listed.strip("\0").split("\0"):
            if not (root / name).is_file(): continue
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, self.folder / name)
        for command in ("init -q", "add -fA", "commit -qm unchanged"): self.git(*command.split())  # -f: kept runs, too
        ask = [sys.executable, "-c", "import painn_nb; print(painn_nb.__file__)"]
        imported = Path(subprocess.check_output(ask, cwd=folder, env=self.env, text=True).strip())
        assert self.folder in imported.parents, f"tests in {self.folder} would import {imported}"

    def git(self, *args: str) -> None:
        settings = ("-c", "user.name=mutants", "-c", "user.email=mutants", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *settings, *args], cwd=self.folder, env=self.env, check=True)

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items(): (self.folder / name).write_text(text)

    def fault(self, *command: str | Path) -> str:
        "How it ends: nothing, `fails` or `hangs`."
        process = subprocess.Popen(command, cwd=self.folder, env=self.env, start_new_session=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        RUNNING.add(process)
        try: return "fails" if STOP.is_set() or process.wait(self.timeout) else ""
        except subprocess.TimeoutExpired: return "hangs"
        finally: kill(process)

    def noticed_by(self, files: dict[str, str], notebook: str, tests: str) -> str:
        "`notebook` or `tests`, whichever fails first, and how; empty where neither does."
        self.write(files)
        try:
            how = self.fault(BIN / "nbdev_test", "--path", f"nbs/{notebook}", "--n_workers", "0")
            if how: return f"notebook {how}"
            how = tests and self.fault(sys.executable, "-m", "pytest", "-qx", *shlex.split(tests))
            return how and f"tests {how}"
        finally:
            self.git("checkout", "-qf", "HEAD", "--", ".")
            self.git("clean", "-fdxq")


RUNNING: set[subprocess.Popen] = set()
STOP = threading.Event()


def kill(process: subprocess.Popen) -> None:
    "A test, and what it started."
    with contextlib.suppress(ProcessLookupError): os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    RUNNING.discard(process)


def examine(mutants: list[Mutant], a: argparse.Namespace) -> Iterator[str]:
    "By what each is noticed, in their order, once everything passes without a change."
    free: SimpleQueue[Copy] = SimpleQueue()

    def noticed_by(files: dict[str, str], notebook: str, tests: str) -> str:
        project = free.get()
        try: return project.noticed_by(files, notebook, tests)
        finally: free.put(project)

    with tempfile.TemporaryDirectory(prefix="mutants") as folder, ThreadPoolExecutor(a.workers) as pool:
        try:
            for k in range(a.workers): free.put(Copy(a.root, Path(folder) / str(k), a.timeout))
            notebooks = sorted({m.notebook for m in mutants})
            unchanged = pool.map(noticed_by, repeat({}), notebooks, [a.tests] + [""] * len(notebooks))
            for notebook, by in zip(notebooks, unchanged, strict=True):
                if by: sys.exit(f"without any change: {by} ({notebook}, pytest {a.tests})")
            yield from pool.map(noticed_by, *zip(*((m.files, m.notebook, a.tests) for m in mutants), strict=True))
        except BaseException:
            STOP.set()
            for process in list(RUNNING): kill(process)
            pool.shutdown(cancel_futures=True)
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", nargs="+", help="modules of the package; all, where not given")
    parser.add_argument("--count", type=int, default=5, help="changes to each module")
    parser.add_argument("--seed", type=int, default=0, help="draws other changes")
    parser.add_argument("--tests", default=QUICK, help="arguments of pytest; '' for no tests but the notebook")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for the notebook, and again for the tests")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the project")
    parser.add_argument("--at-least", type=float, default=0, help="the share to be noticed for an exit code of 0")
    a = parser.parse_args()
    modules = a.module or sorted(p.stem for p in (a.root / "painn_nb").glob("[!_]*.py"))
    mutants = [m for module in modules for m in draw(a.root, module, a.count, a.seed)]
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    print(f"{len(mutants)} changes; first all as it is", file=sys.stderr)
    for k, (m, by) in enumerate(zip(mutants, examine(mutants, a), strict=True), 1):
        print(f"{m.module} {m.line}: {m.shown} | {by or 'NOT NOTICED'}", flush=True)
        print(f"{k} of {len(mutants)}", file=sys.stderr)
        for module in (m.module, "all"): counts[module, by.split(" ")[0]] += 1
    print(f"\n{'module':14}{'changes':>9}{'notebook':>10}{'tests':>7}{'noticed':>9}")
    for module in [*modules, "all"]:
        notebook, tests, nothing = (counts[module, by] for by in ("notebook", "tests", ""))
        total = notebook + tests + nothing
        share = (notebook + tests) / max(total, 1)
        print(f"{module:14}{total:9}{notebook:10}{tests:7}{share:9.0%}")
    sys.exit(share < a.at_least)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try: main()
    except KeyboardInterrupt: sys.exit("stopped")
