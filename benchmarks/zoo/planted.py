"""Are the right modules named? One value after another is lost on purpose, in networks that people train.

Twice for each network: a NaN in one weight of each module that has weights of its own, and a division by zero in place
of each module that has none and takes one tensor to another of its shape. Right is the module of the weight, or, where
it is never called (its parent uses the weight, or it runs inside of TorchScript), the innermost module above it that
is. The cause is to be told, too: `cause` counts where another one was. `make zoo` runs this.
"""

import sys
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write  # noqa: E402
from networks import ZOO, build  # noqa: E402

from painn_nb.modules import tensors  # noqa: E402
from painn_nb.sites import Site, by_name  # noqa: E402
from painn_nb.post_mortem import post_mortem  # noqa: E402
from painn_nb.watch import culprits, watch  # noqa: E402


class Divided(nn.Module):
    "Loses what it is given."
    def forward(self, x, *others): return x / 0


def outputs(model, loss):
    "What each module is given and returns in one pass, in the order of the calls: (path, inputs, outputs)."
    calls, paths = [], {m: path for path, m in model.named_modules()}
    def record(m, args, kwargs, out): calls.append((paths[m], (args, kwargs), out)) if m in paths else None
    hook = register_module_forward_hook(record, with_kwargs=True)  # TorchScript refuses hooks of a single module
    try: loss()
    finally: hook.remove()
    return calls


def holds(m, weight): return any(weight is p for p in m.parameters(recurse=False))


def weights(model, loss):
    "Each module with weights of its own, as paths of those that hold this weight; meanwhile the weight is lost."
    for _, m in model.named_modules():
        for p in m.parameters(recurse=False):
            if p.numel() == 0: continue
            kept, data = p.detach().clone(), p.detach()
            data.view(-1)[0] = torch.nan
            if loss().isfinite(): data.fill_(torch.nan)
            effect = not loss().isfinite()
            if effect: yield [path for path, m in model.named_modules() if holds(m, p)]
            data.copy_(kept)
            if effect: break


def operations(model, loss):
    "Each module without weights that takes a tensor to one of its shape; meanwhile it divides by zero."
    calls = outputs(model, loss)
    def only(x): return (found := tensors(x)) and len(found) == 1 and found[0].shape
    changed = {path for path, given, out in calls if not only(given) or only(given) != only(out)}
    for path in dict.fromkeys(path for path, _, _ in calls):
        m = model.get_submodule(path)
        if path in changed or [*m.children(), *m.parameters()] or isinstance(m, Site): continue
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, Divided())
        if not loss().isfinite(): yield [path]
        setattr(model.get_submodule(parent), child, m)


def right_paths(model, loss, paths):
    """Each path, or the innermost above it that is called.

    Of a network with sites also the first site, and the first of sites and other children, that is lost: PaiNN is read
    there."""
    calls = outputs(model, loss)
    called, right = {path for path, _, _ in calls}, set()
    for path in paths:
        while path not in called: path = path.rpartition(".")[0]
        right.add(path)
    at = [path for path, m in model.named_modules() if isinstance(m, Site)]
    read = [path for path in at if not model.get_submodule(path).optional]  # by `watch`; `post_mortem` sees all
    beside = [path for path, m in model.named_children() if not any(isinstance(part, Site) for part in m.modules())]
    lost = [path for path, _, out in calls if not all(x.isfinite().all() for x in tensors(out))]
    for among in (at, at + beside, read, read + beside) if at else ():
        right |= set([path for path in lost if path in among][:1])
    return right


def state(model):
    "All that no question may change."
    def buffers(m): return [name for name, _ in m.named_buffers(recurse=False)]
    marks = [(path, len(m._forward_hooks), len(m._forward_pre_hooks), buffers(m)) for path, m in model.named_modules()]
    marks += [(path, len(p._backward_hooks or ()), p.grad is None) for path, p in model.named_parameters()]
    values = model.state_dict()
    return [*marks, list(values)], [x.detach().clone() for x in (*values.values(), torch.get_rng_state())]


def same(a, b):
    return a[0] == b[0] and all(torch.equal(x.nan_to_num(7), y.nan_to_num(7)) for x, y in zip(a[1], b[1]))


def watched(model, loss):
    with watch(model) as w:
        loss()
        return culprits(w.capture(0))


QUESTIONS = {"culprits": watched, "post_mortem": post_mortem}


def ask(model, loss, question, start):
    "The answer and whether the model was left alone: by `watch` as by a pass without it, by `post_mortem` as it was."
    def begin():
        torch.set_rng_state(start["random"])
        for name, b in model.named_buffers():
            if name in start: b.copy_(start[name])
    begin()
    if question == "culprits":
        loss()
        before = state(model)
        begin()
    else: before = state(model)
    try: answer = QUESTIONS[question](model, loss)
    except Exception as error: answer = {"site": f"{type(error).__name__}: {str(error)[:300]}", "crash": True}
    left_alone = same(before, state(model))
    begin()
    return answer, left_alone


def told(answer): return answer and answer.get("produced_by", [answer["site"]])


def examined(network):
    "A row of counts, and what was answered wrongly."
    model, loss = build(network)
    start = {"random": torch.get_rng_state()} | {name: b.clone() for name, b in model.named_buffers()}
    names = {path: name for name, path in by_name(model, ((path, path) for path, _ in model.named_modules())).items()}
    names[""] = f"{type(model).__name__}()"
    has_sites = any(isinstance(m, Site) for m in model.modules())
    counts, wrong = Counter(), []
    def count(planted, right):
        for question in QUESTIONS:
            answer, left_alone = ask(model, loss, question, start)
            said, crash = told(answer), bool(answer and "crash" in answer)
            named = said and said[: 1 if has_sites else None]  # of our own PaiNN, the first site
            ok = said is None if right is None else named in [[path] for path in right]
            counts.update({f"{question} {planted[0]}": ok, "crashes": crash, "changed": not left_alone})
            sites_only = has_sites and question == "culprits"  # a site does not see what it was made from
            if ok and right is not None and not sites_only:
                ok = answer["cause"] == planted[0]
                counts[f"{question} cause"] += not ok  # another one is told
            if not ok:
                expected = right and sorted(right)
                wrong.append({"network": network, "planted": " ".join(planted), "question": question, "right": expected,
                              "told": said, "cause": answer and answer.get("cause")})
    count(("healthy",), None)
    for kind, plants in {"weight": weights, "operation": operations}.items():
        for paths in plants(model, loss):
            counts[kind] += 1
            count((kind, names[paths[0]]), {names[path] for path in right_paths(model, loss, paths)})
    return {"network": network, **counts}, wrong


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rows, wrong = zip(*map(examined, ZOO))
    table = pd.DataFrame(rows).fillna(0)
    print(table.to_string(index=False))
    packages = "torch schnetpack torch_geometric egnn-pytorch gotennet-pytorch mace-torch e3nn transformers".split()
    write("zoo_planted", versions={name: version(name) for name in packages}, rows=rows, wrong=sum(wrong, []))
