"""The runs of a table's script counted and not trained, and the report of them.

Where connections are after pruning depends on the weights: there, the share of the FLOPs that is left is the paper's.
"""

import contextlib
import io
import json
from collections.abc import Callable
from functools import cache
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from torch import nn

from models import build, classifiers
from models.ensembles import Ensemble
from sparselearning.distributions import DISTRIBUTIONS
from sparselearning.flops import Counting
from sparselearning.layers import maskable_weights
from sparselearning.methods import METHODS
from tests.commands import run_command
from tests.launches import commands, trained
from utils.command_line.options import Options, effective
from utils.report import main
from utils.training.costs import COUNTINGS, Costs, together, trained_epochs
from utils.training.plan import make_plan, one_training

STEPS = 10  # of an epoch; only when the density changes matters
IMAGENET = "ILSVRC/imagenet-1k"
IMAGES = {"cifar10": 50_000, "cifar100": 50_000, IMAGENET: 1_281_167}
# shares of the FLOPs that pruned networks keep: GraNet's and DSR's of Table 3; those of PF and LTR follow from
# 3.75 = 3 · (1 + 0.25) and 1.75 = 1 + 3 · 0.25
KEPT = {("granet", 0.2): 0.35, ("granet", 0.1): 0.20, ("dsr", 0.2): 0.40, ("dsr", 0.1): 0.30,
        ("pf", 0.2): 0.25, ("gmp", 0.2): 0.25}  # fmt: skip


@cache
def network(data: str, model: str, width: float, ensemble: Ensemble | None = None) -> nn.Module:
    with torch.device("meta"):
        if data == IMAGENET:
            return classifiers.build(model, 1000, 224, width, ensemble)
        return build(model, {"cifar10": 10, "cifar100": 100}[data], width, ensemble=ensemble)


def layered(weights: dict[str, nn.Parameter], init: str, density: float) -> dict[str, float]:
    """Connections of every layer."""
    init = {"snip-layerwise": "uniform"}.get(init, init)
    return {**DISTRIBUTIONS[init]({name: weight.shape for name, weight in weights.items()}, density)}


def mixed(first: dict[str, float], second: dict[str, float], part: float) -> dict[str, float]:
    return {name: first[name] + part * (second[name] - first[name]) for name in first}


def pruned_to(
    share: float, costs: Costs, weights: dict[str, nn.Parameter], density: float, counting: Counting
) -> dict[str, float]:
    """Connections between uniform and ERK ones, such that inference costs this share."""
    ends = [layered(weights, init, density) for init in ("uniform", "erk")]
    shares = [costs.test_ratio({name: end[name] / weights[name].numel() for name in end}, counting) for end in ends]
    return mixed(*ends, (share - shares[0]) / (shares[1] - shares[0]))


def counted(args: Options, rewound: dict[str, Any] | None) -> tuple[Costs, dict[str, float]]:
    """The costs of one run of these options, and the densities that it ends with."""
    model = network(args.data, args.model, args.width, args.of_members)
    before = {c: trained_epochs(rewound, {}, c) for c in COUNTINGS} if rewound else None
    shape = (3, 224, 224) if args.data == IMAGENET else (3, 32, 32)
    costs = Costs(model, None, shape, rewound=before, repetitions=args.batch_repetitions or 1)
    if not args.sparse:
        for _ in range(STEPS * args.epochs):
            costs.add_step()
        return costs, {}
    method, weights = METHODS[args.method], maskable_weights(model, args.exempt)
    init = args.sparse_init or method.sparse_init
    share = KEPT.get(("gmp" if args.rewind else args.method, args.density))
    counting: Counting = "rigl" if args.data == IMAGENET else "plain"
    end = pruned_to(share, costs, weights, args.density, counting) if share else layered(weights, init, args.density)
    start = layered(weights, init, method.init_density) if method.pruning else end
    one_shot = make_plan(args, STEPS, 128)[0].end
    over = round(args.prune_end * one_training(args) * STEPS)
    growth = args.growth or method.growth
    masking: Any = SimpleNamespace(
        weights=weights, growth=growth, dense_momentum=growth == "momentum", update_frequency=args.update_limit
    )
    costs.masking = masking
    to_go: Callable[[int], float] = {  # from the density at the start, 1, to the last, 0
        "one-shot": lambda step: float(step < one_shot),
        "gradual": lambda step: (1 - min(step / over, 1)) ** 3,
    }.get(method.pruning or "", lambda step: 0.0)
    for left, steps in groupby(map(to_go, range(STEPS * args.epochs))):
        masking.active = mixed(end, start, left)
        for _ in steps:
            costs.add_step()
    return costs, {name: end[name] / weight.numel() for name, weight in weights.items()}


def write_run(args: Options) -> None:
    """The folder of a run, as if it were finished."""
    folder, metrics = Path(args.output_dir), {"accuracy": 90.0, "nll": 0.3, "ece": 0.02}
    rewound = json.loads((Path(args.rewind) / "summary.json").read_text()) if args.rewind else None
    costs, densities = counted(args, rewound)
    tickets = args.num_tickets if args.edst or args.snapshot or args.fge else 1
    flops = costs.summary(args.epochs, STEPS, IMAGES[args.data], densities, tickets)
    summary = {
        "data": args.data, "model": args.model, "method": args.method if args.sparse else "dense",
        "sup_tickets": args.sup_tickets, "seed": args.seed, "epochs": args.epochs,
        "density": args.density if args.sparse else 1.0, "test": {"final": metrics, "tickets": []},
        "flops": together([flops] * (args.ensemble or 1)),
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "args.yaml").write_text(yaml.safe_dump(effective(args)))


class Table:
    """What the report says at the end of a script: `rows` by title, density (or width) and epochs, and what 1× is."""

    def __init__(self, script: str, folder: Path) -> None:
        name, *options = script.split()
        lines, said = commands(name, *options, "--seeds", "0", "--output-dir", str(folder)), io.StringIO()
        for args in trained(lines):
            if (args.sparse_init or args.method) != "snip":  # where its connections are depends on the weights
                write_run(args)
        runs = [word for word in lines[-1][3:] if Path(word).is_dir()]
        options = lines[-1][lines[-1].index("--dense-epochs") :]
        with contextlib.redirect_stdout(said):
            run_command(main, *runs, *options, "--json", folder / "table.json")
        self.unit = said.getvalue().split("\n\n")[1]
        self.rows: dict[tuple[str, float, int], tuple[float, float]] = {}
        for row in json.loads((folder / "table.json").read_text()):
            part = float(row.get("width", 1.0)) if row["density"] == 1 else row["density"]
            key = row["title"], part, row["epochs"]
            assert key not in self.rows
            self.rows[key] = row["train FLOPs"], row["test FLOPs"]
