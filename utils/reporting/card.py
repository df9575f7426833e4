"""The model card of a ticket on the Hugging Face Hub, from what the ticket says of itself and its run folder of it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from models.ensembles import Ensemble
from sparselearning.errors import UsageError
from sparselearning.hub import PREFIX
from sparselearning.methods import METHODS
from sparselearning.superposition import Ticket
from utils.command_line.options import ImageNetOptions, recipe_of
from utils.command_line.paths import place
from utils.command_line.rows import Setting, defaults, flag, rows, shown
from utils.data.recipes import RECIPES
from utils.reporting.tables import markdown, results
from utils.run_folder.contents import Environment, Numbers, Summary
from utils.run_folder.environment import PACKAGES
from utils.run_folder.finished import FinishedRun, in_words, read_content, read_run
from utils.training.metrics import METRICS, SCORE
from utils.training.networks import builder_of

UNKNOWN = "unknown"  # what the Hub calls a license that nobody has stated
SHARED = ("data", "model", "method", "seed", "density")  # by which a ticket is seen to be of a run


@dataclass(frozen=True)
class Origin:
    """Where a ticket comes from: what its header says, and its run, where it lies in the folder of one."""

    header: Mapping[str, str]
    run: FinishedRun | None = None
    env: Environment = field(default_factory=dict)
    row: str = ""  # of the results, that of this ticket

    @property
    def options(self) -> Mapping[str, Setting]:
        """Those that the run records."""
        return {} if self.run is None else self.run.options

    def says(self, name: str) -> object:
        return self.header.get(name) if self.run is None else self.run.summary.get(name, self.header.get(name))


def origin(file: Path, header: Mapping[str, str]) -> Origin:
    """What is known of a ticket file.

    Raises:
        UsageError: the folder is that of another run, or its files cannot be read.
    """
    folder = file.resolve().parent
    folder = folder.parent if folder.name == "tickets" else folder
    if not (folder / "summary.json").is_file():
        return Origin(header)
    run = read_run(folder / "summary.json")
    for name in SHARED:
        if name in header and header[name] != str(run.summary.get(name)):
            raise UsageError(
                f"{file} is of {name} {header[name]}, but the run in {folder} of {run.summary.get(name)}: keep it in "
                f"the folder of its own run, or in one without a summary.json"
            )
    env = read_content(folder / "env.json", Environment) if (folder / "env.json").is_file() else {}
    stem, test = file.name.split(".")[0], run.summary["test"]
    cycles = len(test.get("tickets", ()))
    used = "superposed" if "superposed" in test else f"ticket {cycles}" if cycles else "final"
    row = {"ticket": used, "normal": "end of normal phase"}.get(stem, stem.replace("-", " "))
    return Origin(header, run, env, row)


def card(name: str, ticket: Ticket, origin: Origin, values: str | None, license: str | None) -> str:
    """README.md of a model repository: YAML for the Hub, Markdown for people.

    Args:
        name: OWNER/NAME of the repository.
        values: what connections were rounded to.
        license: a license identifier of the Hub.

    Raises:
        UsageError: the summary of the run lacks a number, or another one is none.
    """
    try:
        table = results(origin.run.summary["test"]) if origin.run else []
        parts = [
            f"# {name.split('/')[-1]}",
            _what(origin, values),
            "## Use\n\n" + _use(name, ticket, origin),
            "## Results\n\n" + _results(table, origin.row, origin.run.summary, values) if origin.run else "",
            "## Training\n\n" + _training(origin) if origin.options else "",
            f"License: {license or 'not stated by the owner of this repository'}.",
        ]
        return f"---\n{_metadata(name, table, origin, license)}\n---\n\n" + "\n\n".join(filter(None, parts)) + "\n"
    except (KeyError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"the run's files make no model card: {in_words(error)}") from error


def _what(origin: Origin, values: str | None) -> str:
    """What it is, in a sentence or two."""
    method = str(origin.says("method"))
    kind = METHODS[method].title if method in METHODS else method
    if str(origin.says("sup_tickets")) == "True":
        kind += " with Sup-tickets ([Yin et al. 2022](https://arxiv.org/abs/2205.15322))"
    text = f"A {'dense' if method == 'dense' else 'sparse'} {_named(origin)} for {origin.says('data')}"
    if origin.run is not None:
        nnz, maskable = origin.run.summary["nnz"], origin.run.summary["maskable"]
        text += f": {nnz:,} of {maskable:,} connections (density {nnz / maskable:.4f})"
    how = f", trained by {kind}" if method != "None" else ""
    epochs, seed = origin.says("epochs"), origin.says("seed")
    length = "" if epochs is None else f", {epochs} epochs, seed {seed}"
    note = f" The values of its connections are rounded to {values}." if values else ""
    return f"{text}{how}{length}.{note}"


def _named(origin: Origin) -> str:
    """The network, e.g. "MIMO of 3 of resnet20"."""
    said = origin.header.get("efficient_ensemble")
    return (f"{Ensemble.read(said).title}, of " if said else "") + str(origin.says("model"))


def _use(name: str, ticket: Ticket, origin: Origin) -> str:
    """The lines that load it, and what goes in."""
    load = f'load_ticket("{PREFIX}{name}")'
    lines = ["from sparselearning import load_ticket", "", f"state = {load}"]
    said, side = origin.header.get("efficient_ensemble"), origin.options.get("image_size")
    width, kind = float(origin.header.get("width", 1)), Ensemble.read(said) if said else None
    if built := builder_of(ticket, str(origin.says("model")), width, side if isinstance(side, int) else None, kind):
        ensembles = ["from models.ensembles import Ensemble"] if kind else []
        build = [f"model = {built.call}", f"model.load_state_dict({load})"]
        lines = [f"from {built.module} import build", *ensembles, *lines[:2], *build]
    text = "```python\n" + "\n".join(lines) + "\n```"
    if mean := origin.header.get("mean"):
        side, std = origin.header.get("image_size"), origin.header.get("std")
        text += f"\n\nImages are float32 (N, 3, {side}, {side}): pixels in 0..1, minus {mean}, divided by {std}."
    return text


def _results(table: Sequence[tuple[str, Numbers]], this: str, summary: Summary, values: str | None) -> str:
    """A row for each model of the run, `this` one marked."""
    shown_metrics = {key: metric for key, metric in METRICS.items() if all(key in numbers for _, numbers in table)}
    cells = [["model", *(metric.title for metric in shown_metrics.values())]]
    for name, numbers in table:
        own = f"**{name}** (this one)" if name == this else name
        cells.append([own, *(metric.text(numbers[key]) for key, metric in shown_metrics.items())])
    flops = summary["flops"]
    note = f" They were measured before values were rounded to {values}." if values else ""
    return (
        f"On the test images of {summary['data']}.{note}\n\n{markdown(cells)}\n\n"
        f"Training took {flops['train_ratio']:.2f} times the FLOPs of as many dense epochs, inference takes "
        f"{flops['test_ratio']:.2f} times those of the dense network."
    )


def _training(origin: Origin) -> str:
    """The command that trains it again, and with what it was done."""
    kind = recipe_of(origin.options)
    usual, words = defaults(kind), []
    for name, row in rows(kind).items():
        said = origin.options.get(name)
        value = tuple(said) if isinstance(said, list) else said
        # folders and files of one machine are of no use on others, and nobody's business
        if value in (None, False, usual.get(name)) or row.read is place:
            continue
        words += [flag(name)] if value is True else [flag(name), *shlex.split(shown(value))]
    script = "main_imagenet.py" if kind is ImageNetOptions else "main_cifar.py"
    env = origin.env
    versions = ", ".join(f"{name} {env[name]}" for name in ("python", *PACKAGES) if name in env)
    place_of = f"\n\nOn {env['devices']} × {env['device']}; {versions}; commit {env['commit']}." if env else ""
    return f"```\n{shlex.join(['python', script, *words])}\n```{place_of}"


def _metadata(name: str, table: Sequence[tuple[str, Numbers]], origin: Origin, license: str | None) -> str:
    """What the Hub reads: license, data set, tags and the accuracy of this ticket."""
    from huggingface_hub import EvalResult, ModelCardData

    data = str(origin.says("data"))
    hub = RECIPES[data].hub if data in RECIPES else data if data.count("/") == 1 else None
    task = partial(EvalResult, task_type="image-classification", dataset_type=hub or data, dataset_name=data)
    accuracy = [round(numbers[SCORE], 2) for row, numbers in table if row == origin.row]
    found = [task(metric_type="accuracy", metric_value=value) for value in accuracy]
    about = ModelCardData(
        license=license or UNKNOWN,
        datasets=[hub] if hub else None,
        tags=["sparse", "sparse-training", "sup-tickets", str(origin.says("method"))],
        pipeline_tag="image-classification",
        model_name=name.split("/")[-1],
        eval_results=found or None,
    )
    return about.to_yaml()
