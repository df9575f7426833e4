"""`utils.evaluate` with everything on: what it writes, on one process and on two, and into a run's summary."""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState
from PIL import Image

from tests.commands import refused_by, run_command
from tests.evaluations.test_corrupted import write_arrays
from tests.processes import launch
from tests.reporting.summaries import PLAIN, metrics, write
from tests.test_evaluate import ABOUT, ticket
from utils.evaluate import main
from utils.evaluations.table import EVALUATIONS
from utils.run_folder.tickets import save_ticket

SMALL = ("--limit-test", "12", "--workers", "0")
ALL = ("--fgsm", "--ood", "gaussian", "--per-class")


@pytest.fixture(scope="module")
def tickets(tmp_path_factory) -> list[Path]:
    paths = [tmp_path_factory.mktemp("tickets") / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, path in enumerate(paths):
        save_ticket(path, ticket(seed), ABOUT)
    return paths


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Corrupted images in C, and some classes in A."""
    folder = tmp_path_factory.mktemp("data")
    arrays = write_arrays(folder / "C")
    for i, pixels in enumerate(np.load(arrays / "fog.npy")[:8]):
        (folder / "A" / str(3 + i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "A" / str(3 + i % 2) / f"{i}.png")
    return folder


def everything(tickets: list[Path], data: Path, out: Path) -> list[object]:
    others = ("--corruptions", data / "C", "--adversarial", data / "A")
    return ["--tickets", *tickets, *SMALL, *ALL, *others, "--json", out]


def share(words: list[object]) -> None:
    """A process of a launch, with batches so small that both have some."""
    with mock.patch("utils.training.evaluation.BATCH", 4):
        run_command(main, *words)


def test_one_process_and_two_write_the_same_bits(tickets, data, tmp_path):
    outs = {world: tmp_path / f"{world}.json" for world in (1, 2)}
    for world, out in outs.items():
        assert launch(world, share, everything(tickets, data, out)) == world * [0]
    one, two = (out.read_bytes() for out in outs.values())
    assert one == two


@pytest.fixture(scope="module")
def written(tickets, data, tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("out") / "numbers.json"
    run_command(main, *everything(tickets, data, out))
    AcceleratorState._reset_state()
    GradientState._reset_state()
    return json.loads(out.read_text())


def test_every_evaluation_has_its_block_in_every_model_and_the_ensembles_stand_above_all(written):
    for model in (*written["tickets"], written["ensemble"]):
        assert {*EVALUATIONS} - {"per_class"} <= {*model}
    assert {*EVALUATIONS} <= {*written} and "per_class" in written["ensemble"]
    for name in ("accuracy", "nll", "ece", *EVALUATIONS):
        assert written[name] == written["ensemble"][name]
    assert written["fgsm"].keys() >= {"min", "mean", "max"} and [*written["ood"]] == ["gaussian"]
    assert written["corrupted"].keys() >= {"accuracy", "nll", "ece", "ece_pooled", "per_corruption"}
    assert written["adversarial"]["classes"] == 2


def test_they_are_columns_on_the_screen(tickets, data, capsys):
    run_command(main, "--tickets", tickets[0], *SMALL, "--fgsm", "--ood", "gaussian", "--corruptions", data / "C")
    header, line = capsys.readouterr().out.splitlines()
    titles = ("cAcc ↑", "cNLL ↓", "cECE ↓", "AUROC gaussian ↑", "FGSM min ↑", "FGSM mean ↑", "FGSM max ↑")
    assert header.endswith("  ".join(titles)) and line.count("%") == 5


def test_without_them_the_json_is_as_it_was(tickets, tmp_path):
    run_command(main, "--tickets", *tickets, *SMALL, "--json", tmp_path / "numbers.json")
    written = json.loads((tmp_path / "numbers.json").read_text())
    used = {"accuracy", "nll", "ece", "brier"}
    assert {*written} == {"data", "images", "tickets", "ensemble", *used}
    assert {*written["ensemble"]} == {*used, "disagreement", "kl"}
    assert {*written["tickets"][0]} == {"file", "model", "nnz", "maskable", "density", *used}


# ---- a run's summary -------------------------------------------------------------------------------------------------


def run_of(folder: Path, **test: dict[str, float]) -> Path:
    """The summary of a run of the tickets' data and model."""
    summary = {**PLAIN, "data": "digits", "model": "resnet20", "test": {**PLAIN["test"], **test}}
    return write(folder, summary) / "summary.json"


def test_one_ticket_goes_to_the_superposed_or_final_model_and_several_to_the_ensemble(tickets, tmp_path):
    for several, stages in ((0, ()), (0, ("superposed",)), (1, ("superposed", "ensemble"))):
        path = run_of(tmp_path / f"{several}{len(stages)}", **{stage: metrics(90.0) for stage in stages})
        before = json.loads(path.read_text())
        run_command(main, "--tickets", *tickets[: 1 + several], *SMALL, "--fgsm", "--summary", path)
        after, stage = json.loads(path.read_text()), "ensemble" if several else [*stages, "final"][0]
        added = {name: after["test"][stage].pop(name) for name in ("fgsm_min", "fgsm_mean", "fgsm_max")}
        assert after == before and all(0 <= value <= 100 for value in added.values())


def test_a_summary_of_another_run_gets_nothing(tickets, tmp_path, capsys):
    other = write(tmp_path / "other", {**PLAIN, "data": "digits"}) / "summary.json"
    for path, said in ((other, "with model vgg16, and the tickets are of resnet20"),
                       (run_of(tmp_path / "single"), "without an ensemble")):  # fmt: skip
        before = path.read_bytes()
        with pytest.raises(SystemExit):
            run_command(main, "--tickets", *tickets, *SMALL, "--fgsm", "--summary", path)
        assert path.read_bytes() == before and said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ood", "svhn=a", "svhn=b"), "NAME=FOLDER"),
        (("--ood", "=a"), "NAME=FOLDER"),
        (("--per-class",), "--tickets two files"),
        (("--fgsm", "0"), "not in (0, 1]"),
        (("--fgsm", "8"), "not in (0, 1]"),
        (("--image-size", "64"), "for large images"),
        (("--corruptions", "nowhere"), "no folder nowhere"),
        (("--adversarial", "nowhere"), "no folder nowhere"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tickets, words, said):
    assert said in refused_by(main, "--tickets", tickets[0], *SMALL, *words)
