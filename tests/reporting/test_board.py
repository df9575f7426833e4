"""What TensorBoard finds in the folder of a run."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from tests.tiny import SPARSE, SUP_TICKETS, main
from utils.command_line.paths import SINGLE_TICKETS
from utils.training.metrics import METRICS

RUNS = {
    "sup": (*SPARSE, *SUP_TICKETS, "--model", "tiny", "--save-tickets"),
    "edst": (*SPARSE, "--model", "tiny", "--edst", "--exploration-epochs", "2", "--refine-epochs", "2", "--epochs", "6",
             "--num-tickets", "2"),
    "plain": (*SPARSE, "--model", "tiny", "--epochs", "3", "--valid-fraction", "0.3"),
    "pf": (*SPARSE, "--model", "tiny", "--epochs", "4", "--method", "pf"),
    "dense": ("--data", "tiny", "--batch-size", "16", "--epochs", "2", "--model", "tiny"),
}  # fmt: skip


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Call it with a name of RUNS: returns its folder and what TensorBoard reads there."""
    found: dict[str, tuple[Path, EventAccumulator]] = {}

    def read(name: str) -> tuple[Path, EventAccumulator]:
        if name not in found:
            folder = tmp_path_factory.mktemp("runs") / name
            assert main(folder, *RUNS[name])[0] == 0
            found[name] = folder, EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
        return found[name]

    return read


def scalars(board: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value, rel=1e-6)) for event in board.Scalars(tag)]


def text(board: EventAccumulator, tag: str) -> str:
    (event,) = board.Tensors(f"{tag}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def session(board: EventAccumulator) -> dict[str, object]:
    """The hyperparameters that TensorBoard's table of runs has of this one."""
    content = board.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    values = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


@pytest.mark.parametrize("name", RUNS)
def test_the_groups_of_curves_begin_with_test_and_train(name, board):
    groups = sorted({tag.partition("/")[0] for tag in board(name)[1].Tags()["scalars"]})
    sparse, valid = ["updates"] * (name != "dense"), ["valid"] * (name == "plain")
    assert groups == ["test", "train", *sparse, *valid, "weights"]


def test_superposed_and_single_tickets_are_two_lines_of_one_chart(board):
    folder, run = board("sup")
    test = json.loads((folder / "summary.json").read_text())["test"]
    single = EventAccumulator(str(folder / SINGLE_TICKETS)).Reload()
    for name in METRICS:
        superposed = scalars(run, f"test/{name}")
        assert [step for step, _ in superposed] == [12, 18, 24]  # the end of the normal phase and of the cycles
        assert (superposed[0][1], superposed[-1][1]) == (test["normal"][name], test["superposed"][name])
        assert superposed[1][1] == test["tickets"][0][name]  # a superposition of one
        assert scalars(single, f"test/{name}") == [(18, test["tickets"][0][name]), (24, test["tickets"][1][name])]


@pytest.mark.parametrize("name", RUNS)
def test_the_last_test_point_is_that_of_the_model_to_use(name, board):
    """Which TensorBoard's table of runs shows."""
    folder, run = board(name)
    test = json.loads((folder / "summary.json").read_text())["test"]
    use = test.get("superposed") or test.get("ensemble") or test["final"]
    assert {metric: scalars(run, f"test/{metric}")[-1][1] for metric in METRICS} == {m: use[m] for m in METRICS}
    steps = [step for step, _ in scalars(run, "test/accuracy")]
    assert steps == sorted(set(steps))


def test_hyperparameters_are_the_options_that_made_a_difference(board):
    told = session(board("sup")[1])
    assert told["density"] == 0.2 and told["method"] == "rigl" and told["sup_tickets"] == "True"
    assert told["lr_drops"] == "0.5 0.75" and not {"distill", "fine_tune_lr", "checkpoint_minutes"} & {*told}
    assert "cycle_epochs" not in session(board("plain")[1])


def test_arguments_plan_and_models_are_texts(board):
    _, run = board("sup")
    assert "| method " in text(run, "arguments") and "| rigl " in text(run, "arguments")
    assert all(line.startswith("    ") for line in text(run, "plan").splitlines())
    titles = [line.split("|")[1].strip() for line in text(run, "models").splitlines()]
    assert titles[2:] == ["end of normal phase", "ticket 1", "ticket 2", "superposed", "ensemble"]


def test_every_topology_update_has_a_point_of_its_own(board):
    _, run = board("sup")
    steps = [2, 4, 6, 8, 10, 13, 19]  # every second one of the normal phase, and the first of each cycle
    grown, overlap = scalars(run, "updates/connections_grown"), scalars(run, "updates/overlap_with_topology_before")
    assert [step for step, _ in grown] == [step for step, _ in overlap] == steps
    assert grown == scalars(run, "updates/connections_dropped")  # RigL keeps the density
    assert max(event.value for event in run.Scalars("updates/connections_grown")) < 2 * min(
        event.value for event in run.Scalars("updates/connections_grown")
    )  # of an update, not of all so far
    assert all(0.3 < event.value < 1 for event in run.Scalars("updates/overlap_with_topology_before"))


def test_densities_of_layers_are_one_histogram_with_a_bar_for_each(board):
    folder, run = board("sup")
    summary = json.loads((folder / "summary.json").read_text())
    histogram = run.Histograms("weights/density_by_layer")[-1].histogram_value
    assert list(histogram.bucket_limit) == [0, 1, 2, 3] and histogram.bucket[0] == 0
    sizes = summary["weights_per_layer"]
    connections = sum(bar * size for bar, size in zip(histogram.bucket[1:], sizes.values(), strict=True))
    assert connections == pytest.approx(summary["nnz"]) and sum(sizes.values()) == summary["maskable"]
    assert not [tag for tag in run.Tags()["scalars"] if "layer" in tag]
