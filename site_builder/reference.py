"What is documented: functions and classes with their types as written, and every setting of a run."

import ast
import re
from functools import cache

import painn_nb
from painn_nb.recipes import HELP, Config, in_words, project_root

PACKAGE = project_root() / "painn_nb"


@cache
def source_of(module):
    "The lines of a module, and its classes and functions by name."
    text = (PACKAGE / f"{module}.py").read_text()
    kinds = ast.ClassDef, ast.FunctionDef
    return text.splitlines(), {node.name: node for node in ast.parse(text).body if isinstance(node, kinds)}


@cache
def public(module):
    "The names that a module exports."
    [names] = re.findall(r"^__all__ = (\[.*?\])", "\n".join(source_of(module)[0]), flags=re.M | re.S)
    return set(ast.literal_eval(names))


def first_words(node):
    "The first paragraph of what a function or class says of itself; nothing where it says nothing."
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def head(node, lines):
    "The lines of a definition up to its body, decorators too."
    first, body = min([node.lineno, *(d.lineno for d in node.decorator_list)]), node.body[0]
    if body.lineno > node.lineno and ":" in lines[body.lineno - 2]: return lines[first - 1 : body.lineno - 1]
    return [*lines[first - 1 : body.lineno - 1], lines[body.lineno - 1][: body.col_offset].rstrip()]


def signature(node, lines):
    "What is written of a function; of a class its fields and how it is made, too."
    told = head(node, lines)
    if not isinstance(node, ast.ClassDef): return told
    for part in node.body:
        if isinstance(part, ast.AnnAssign): told += lines[part.lineno - 1 : part.end_lineno]
        elif getattr(part, "name", "") == "__init__": told += ["", *head(part, lines)]
    return told


def members(node):
    "The public methods and properties of a class that say what they do."
    rows = ""
    for part in node.body:
        if not isinstance(part, ast.FunctionDef) or part.name.startswith("_"): continue
        is_property = any(getattr(d, "id", "") == "property" for d in part.decorator_list)
        if said := first_words(part): rows += f"- `{part.name}{'' if is_property else '()'}`: {said}\n"
    return rows


def documentation(markdown):
    "A function or class that nbdev documents: a heading, a link to its source, how it is written, what it says."
    at = re.search(r"painn_nb/(\w+)\.py#L(\d+)", markdown)
    name = re.search(r"^#+ (.*)$", markdown, flags=re.M)[1]
    text = markdown.rpartition("```\n")[2].strip()
    first, *more = text.split("\n\n")
    text = "\n\n".join([re.sub(r"^\*(.*)\*$", r"\1", first, flags=re.S), *more])  # no slanted paragraphs
    lines, nodes = source_of(at[1])
    node = nodes[name]
    link = f'<a class="source" href="../source/{at[1]}.html#L-{at[2]}">source</a>'
    written = "\n".join(signature(node, lines))
    listed = members(node) if isinstance(node, ast.ClassDef) else ""
    return f"### {name}\n\n{link}\n\n```python\n{written}\n```\n\n{text}\n\n{listed}"


def expected(name):
    "What a setting must be, in the words of the error that a wrong value gets."
    if name == "device": return "auto, or a device of torch, as cpu or cuda"
    try: Config(**{name: "?" if name == "system" else -1})
    except ValueError as e: return re.search(r"it must be (.*)\.", str(e))[1]
    raise AssertionError(f"{name} can be anything")


UNITS = {
    "cutoff": "length of the system", "warmup": "steps", "epochs": "steps",
    "debug_layer_stats_every": "steps",
}


def settings_page():
    "Every setting of a run: what it means, its unit and range, what a remedy places where, and its default."
    remedies, default = Config.declared(), Config()

    def entry(name):
        meaning, value = HELP[name], in_words(name, getattr(default, name))
        unit = f" Unit: {UNITS[name]}." if name in UNITS else ""
        said = f"{meaning[:1].upper()}{meaning[1:]}.{unit} It must be {expected(name)}. Default: `{value}`."
        text = f"### {name}\n\n{said}"
        if name not in remedies: return text
        places = ", ".join(f"`{place}`" for place in remedies[name].places)
        return f"{text} A `{remedies[name].stabilizer.__name__}` at {places}."

    def section(title, names): return f"## {title}\n\n" + "\n\n".join(map(entry, names)) + "\n"
    about = ("# Settings\n\nWhat a recipe or `-p` can set, by name; they stand in a run's `config.json` as well. "
             "A number without a unit has none: activations of the network have no dimension.\n")
    rest = [name for name in HELP if name not in remedies]
    return "\n".join([about, section("Remedies", remedies), section("Training", rest)])


def imports_page(pages):
    "What `from painn_nb import …` gives: each name, what it is in a sentence, and where it is described."
    rows = ""
    for name in painn_nb.__all__:
        module = getattr(getattr(painn_nb, name), "__module__", "").rpartition(".")[2]
        if module not in pages: module = next(m for m in pages if (PACKAGE / f"{m}.py").exists() and name in public(m))
        if node := source_of(module)[1].get(name):
            said, address = first_words(node), f"{pages[module]}.ipynb#{name.lower()}"
        else: said, address = f"By name: {', '.join(getattr(painn_nb, name))}.", f"{pages[module]}.ipynb"
        rows += f"| [`{name}`]({address}) | {said} |\n"
    return f"# What one imports\n\n`from painn_nb import …` gives these.\n\n| name | what it is |\n|---|---|\n{rows}"
