"""Every regime of the papers runs to its end, counts what it trained, and ends in the same bits when it is cut."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import main_cifar
from models import build
from sparselearning.layers import maskable_weights
from tests.outcomes import differences, outcome
from tests.scripts import end_of
from tests.tiny import NETWORKS, SPARSE, load_images, main, restored
from utils.data.cifar import load_cifar
from utils.training.metrics import METRICS, per_sample, summarize
from utils.training.saved import predict

EPOCH, MASKABLE, NNZ = 3, 1528, round(0.2 * 1528)  # steps of an epoch; weights of the network
MACS = {"0.weight": 27 * 8 * 8 * 8, "4.weight": 72 * 16 * 3 * 3, "8.weight": 160}  # of one image through it
DENSE = ("--data", "tiny", "--batch-size", "16", "--model", "tiny")
OF = (*SPARSE, "--model", "tiny")
CYCLES = ("--epochs", "6", "--sup-tickets", "--cycle-epochs", "1", "--num-tickets", "3", "--save-tickets")
REGIMES: dict[str, tuple[str, ...]] = {
    "edst": (*OF, "--edst", "--epochs", "9", "--exploration-epochs", "3", "--refine-epochs", "2"),
    "snapshot": (*DENSE, "--snapshot", "--epochs", "5", "--num-tickets", "2"),  # 8 steps and 7, not whole epochs
    "fge": (*DENSE, "--fge", "--epochs", "8", "--cycle-epochs", "3", "--num-tickets", "2"),  # 4 steps down, 5 up
    "pf": (*OF, "--method", "pf", "--epochs", "6"),
    "dst": (*OF, "--epochs", "3", "--ensemble", "2", "--seed", "1"),
    "dense ensemble": (*DENSE, "--epochs", "2", "--ensemble", "2"),
    "gmp": (*OF, "--method", "gmp", "--prune-end", "0.5", "--epochs", "6", "--save-early", "0.05"),
    "ltr": (*OF, "--method", "static", "--epochs", "3", "--rewind", "GMP", "--ensemble", "2"),
    "distilled": (*OF, "--method", "set", "--epochs", "4", "--distill", "TICKETS", "--temperature", "2"),
    "swa 1": (*OF, *CYCLES, "--method", "pf", "--growth", "none", "--cycle-lr", "swa"),
    "swa 2": (*OF, *CYCLES, "--method", "static", "--growth", "none", "--cycle-lr", "swa"),
    "fge cycles": (*OF, *CYCLES, "--cycle-lr", "fge", "--include-normal"),
    "high variance": (*OF, *CYCLES, "--explore-drop", "largest", "smallest", "smallest",
                      "--explore-growth", "gradient", "random", "random"),
    "snfs": (*OF, *CYCLES, "--method", "snfs"),
    "dsr": (*OF, *CYCLES, "--method", "dsr"),
}  # fmt: skip
ENSEMBLES = ("dst", "dense ensemble", "ltr")


class World:
    """Finished runs by name, each trained once, those that others need before them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def options(self, name: str) -> list[str]:
        words: list[str] = []
        for word in REGIMES[name]:
            words += [str(self("gmp"))] if word == "GMP" else [word] if word != "TICKETS" else self.teachers()
        return words

    def teachers(self) -> list[str]:
        return [str(path) for path in tickets_of(self("edst"))]

    def __call__(self, name: str) -> Path:
        if not (self.root / name).exists():
            assert main(self.root / name, *self.options(name))[0] == 0
        return self.root / name


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("finished"))


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def tickets_of(folder: Path) -> list[Path]:
    """Those whose predictions are averaged."""
    members = sorted(folder.glob("member-*/ticket.safetensors"))
    return members or sorted(folder.glob("tickets/ticket-*.safetensors"))


def count(ticket: dict[str, Tensor]) -> int:
    return sum(int(ticket[name].count_nonzero()) for name in MACS)


def share(ticket: dict[str, Tensor]) -> float:
    """FLOPs of one image, of those of the dense network."""
    density = {name: int(ticket[name].count_nonzero()) / ticket[name].numel() for name in MACS}
    return sum(density[name] * macs for name, macs in MACS.items()) / sum(MACS.values())


def logits(ticket: dict[str, Tensor]) -> Tensor:
    model = NETWORKS["tiny"](10).eval()
    model.load_state_dict(ticket)
    test = load_images("", None, "cpu").test
    with torch.no_grad():
        return torch.cat([model(images) for images, _ in test.clean_batches([(0, 37)])])


LABELS = torch.arange(37) % 10


# ---- what a run leaves behind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REGIMES)
def test_every_ticket_has_exactly_its_density(name: str, finished: World) -> None:
    folder = finished(name)
    said = summary(folder)
    kept = [path for path in folder.rglob("*.safetensors") if path.name != "early.safetensors"]
    dense = name in ("snapshot", "fge", "dense ensemble")
    assert (said["nnz"], said["maskable"], sum(said["nnz_per_layer"].values())) == (NNZ, MASKABLE, NNZ) or dense
    for path in kept:
        assert count(load_file(path)) == (MASKABLE if dense else NNZ), path
    assert list(maskable_weights(NETWORKS["tiny"](10))) == list(said["nnz_per_layer"]) == list(MACS)


ENTRIES = {
    "edst": ({"explore"}, 3, True), "snapshot": (set(), 2, True), "fge": ({"normal"}, 2, True),
    "pf": ({"normal"}, 0, False), "dst": (set(), 2, True), "dense ensemble": (set(), 2, True), "gmp": (set(), 0, False),
    "ltr": (set(), 2, True), "distilled": (set(), 0, False),
    **{name: ({"normal", "superposed"}, 3, True) for name in REGIMES if "--sup-tickets" in REGIMES[name]},
}  # fmt: skip


@pytest.mark.parametrize("name", REGIMES)
def test_the_summary_has_the_models_of_the_regime(name: str, finished: World) -> None:
    others, tickets, ensemble = ENTRIES[name]
    folder = finished(name)
    test = summary(folder)["test"]
    assert set(test) == {"final", "tickets"} | others | ({"ensemble"} if ensemble else set())
    assert len(test["tickets"]) == len(tickets_of(folder)) == tickets
    for path, metrics in zip(tickets_of(folder), test["tickets"], strict=True):
        assert summarize(per_sample(logits(load_file(path)), LABELS)) == pytest.approx(metrics, rel=1e-4, abs=1e-4)
    use = test.get("superposed", test["final"])
    if name not in ENSEMBLES:
        ticket = load_file(folder / "ticket.safetensors")
        assert summarize(per_sample(logits(ticket), LABELS)) == pytest.approx(use, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", [name for name, (_, _, ensemble) in ENTRIES.items() if ensemble])
def test_the_ensemble_is_the_mean_of_the_softmax_of_the_saved_tickets(name: str, finished: World) -> None:
    """FreeTickets, section 3.2; how much the tickets differ as in section 5.1."""
    folder = finished(name)
    members = [logits(load_file(path)).double().softmax(1) for path in tickets_of(folder)]
    mean = sum(members) / len(members)
    found = summary(folder)["test"]["ensemble"]
    assert found["accuracy"] == pytest.approx(100 * (mean.argmax(1) == LABELS).double().mean().item())
    assert found["nll"] == pytest.approx(-mean[range(37), LABELS].log().mean().item(), rel=1e-5)
    assert found["ece"] == pytest.approx(summarize(per_sample(mean.log(), LABELS))["ece"], abs=1e-5)
    differ = [(a.argmax(1) != b.argmax(1)).double().mean().item() for a, b in itertools.combinations(members, 2)]
    kl = [(a * (a / b).log()).sum(1).mean().item() for a, b in itertools.permutations(members, 2)]
    assert found["disagreement"] == pytest.approx(sum(differ) / len(differ))
    assert found["kl"] == pytest.approx(sum(kl) / len(kl), rel=1e-4)
    assert found["kl"] > 0


def test_only_the_normal_phase_is_kept_beside_the_tickets(finished: World) -> None:
    names = {path.name for path in finished("fge cycles").glob("tickets/*")}
    assert names == {"normal.safetensors", *(f"ticket-{j}.safetensors" for j in (1, 2, 3))}


def test_the_normal_phase_and_the_tickets_are_averaged_and_no_rise_between_them(finished: World) -> None:
    folder = finished("fge cycles")
    kept, superposed = [load_file(path) for path in folder.glob("tickets/*")], load_file(folder / "ticket.safetensors")
    for name in ("4.bias", "8.bias", "1.weight", "1.running_var"):  # never pruned
        torch.testing.assert_close(superposed[name], torch.stack([ticket[name] for ticket in kept]).mean(0))


def test_a_network_of_an_ensemble_is_the_run_of_its_seed(finished: World, tmp_path: Path) -> None:
    assert main(tmp_path, *OF, "--epochs", "3", "--seed", "3")[0] == 0
    assert differences(outcome(tmp_path), outcome(finished("dst") / "member-2")) == []


def test_networks_of_an_ensemble_have_their_own_seeds(finished: World) -> None:
    """Those of another --seed share none of them."""
    seeds = [summary(folder)["seed"] for folder in sorted(finished("dst").glob("member-*"))]
    assert seeds == [2, 3] and summary(finished("dst"))["seed"] == 1
    said = [summary(finished("dst") / part)["test"]["final"] for part in ("", "member-1", "member-2")]
    assert said[0] == said[2] != said[1]  # the final one is the last
    first, second = (load_file(path) for path in tickets_of(finished("dst")))
    assert all(not torch.equal(first[name] != 0, second[name] != 0) for name in MACS)


def test_rewound_networks_share_their_connections_and_start_from_the_early_weights(finished: World) -> None:
    """FreeTickets, Appendix C: the winning ticket's mask, other seeds; 5 % of 6 epochs is the first that there is."""
    gmp, members = finished("gmp"), [load_file(path) for path in tickets_of(finished("ltr"))]
    winner, early = (load_file(gmp / f"{name}.safetensors") for name in ("ticket", "early"))
    assert count(early) == round(MASKABLE * (0.2 + 0.8 * (1 - 2 / 9) ** 3))  # pruned once, at step 2 of 9
    for name in MACS:
        assert all(torch.equal(member[name] != 0, winner[name] != 0) for member in members)
    assert differences(members[0], members[1]) != []
    tracked = [int(ticket["1.num_batches_tracked"]) for ticket in (early, *members)]
    assert tracked == [EPOCH, EPOCH + 3 * EPOCH, EPOCH + 3 * EPOCH]


@pytest.mark.parametrize(("part", "epochs"), [("0.3", 2), ("0.4", 2), ("0.05", 1)])  # of 6
def test_early_weights_are_those_of_the_nearest_epoch(part: str, epochs: int, tmp_path: Path) -> None:
    assert main(tmp_path, *OF, "--method", "gmp", "--prune-end", "0.5", "--epochs", "6", "--save-early", part)[0] == 0
    assert int(load_file(tmp_path / "early.safetensors")["1.num_batches_tracked"]) == epochs * EPOCH


# ---- what it costs ---------------------------------------------------------------------------------------------------


def rigl(f: float, every: int = 2) -> float:
    return (3 * f * every + 2 * f + 1) / (every + 1) / 3


@pytest.mark.parametrize(
    ("name", "training", "passes"),
    [
        ("edst", rigl, 3),
        ("snapshot", lambda f: 1, 2),
        ("fge", lambda f: 1, 2),
        ("dense ensemble", lambda f: 2, 2),
        ("ltr", None, 2),
        ("swa 2", lambda f: f, 1),
        ("distilled", None, 1),
    ],
)
def test_costs_by_hand(name: str, training: Callable[[float], float] | None, passes: int, finished: World) -> None:
    folder = finished(name)
    paths = tickets_of(folder) or [folder / "ticket.safetensors"]
    f = share(load_file(paths[0]))  # in these regimes a layer keeps its number of connections
    if training is not None:
        expected = training(f)
    elif name == "ltr":  # with the 6 epochs of the run that both of 3 epochs rewind
        expected = 2 * f + 6 / 3 * summary(finished("gmp"))["flops"]["train_ratio"]
    else:  # with the forward passes of the teachers
        expected = f + sum(share(load_file(Path(path))) for path in finished.teachers()) / 3
    flops = summary(folder)["flops"]
    assert flops["train_ratio"] == pytest.approx(expected, rel=1e-6)
    if passes > 1:
        f = sum(share(load_file(path)) for path in paths) / len(paths)
    elif name == "swa 2":
        f = share(load_file(folder / "ticket.safetensors"))
    assert flops["test_ratio"] == pytest.approx(passes * f, rel=1e-6)


@pytest.mark.parametrize(("name", "parts", "whole"), [("pf", 3, 6), ("swa 1", 3, 6)])
def test_pruning_once_costs_a_dense_training_and_a_sparse_one(
    name: str, parts: int, whole: int, finished: World
) -> None:
    """FreeTickets, Table 1: 3.75x of 250 epochs for 3 networks is 1 + f each; Sup-tickets, Table 21: 0.90 + 0.10·f."""
    folder = finished(name)
    f = share(load_file(sorted([*folder.glob("tickets/ticket-1*"), folder / "ticket.safetensors"])[-1]))
    found = summary(folder)["flops"]["train_ratio"]
    assert found == pytest.approx((parts + 3 * f) / whole, abs=1.01 * (1 - f) / (whole * EPOCH))  # a step more or less


def test_an_ensemble_costs_what_its_networks_cost(finished: World) -> None:
    for name in ENSEMBLES:
        whole, parts = summary(finished(name)), [summary(p) for p in sorted(finished(name).glob("member-*"))]
        assert whole["ensemble"] == len(parts) == 2
        again = summary(finished("gmp"))["flops"]["train"] if name == "ltr" else 0.0  # rewound by both, trained once
        for key, twice in (("train", again), ("test_ratio", 0), ("test_ratio_rigl", 0)):
            assert whole["flops"][key] == pytest.approx(sum(part["flops"][key] for part in parts) - twice)
        assert whole["flops"]["rewound"] == again and whole["flops"]["dense_epoch"] == parts[0]["flops"]["dense_epoch"]
        assert whole["train_seconds"] == pytest.approx(sum(part["train_seconds"] for part in parts))


# ---- cut and resumed -------------------------------------------------------------------------------------------------

CUTS = {
    "edst": (9, 11, 16, 21),  # between phases; in the first refinement; in the second, after its exploration
    "fge": (8, 10, 11, 19),  # in a cycle; at its ticket, in the middle of an epoch; on the way up; at the second
    "snapshot": (8, 9),  # at a ticket in the middle of an epoch, and after it
    "pf": (8, 9, 11),  # just before and after pruning
    "distilled": (5,),
    "dsr": (5, 13),
    "snfs": (5, 13),
    "high variance": (12, 13),
    "fge cycles": (11, 13),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_run_that_is_cut_ends_in_the_same_bits(name: str, finished: World, tmp_path: Path) -> None:
    options = finished.options(name)
    for step in CUTS[name]:
        assert main(tmp_path, *options, "--resume", "auto", stop=step)[0] == 143
    assert main(tmp_path, *options, "--resume", "auto")[0] == 0
    assert differences(outcome(finished(name)), outcome(tmp_path)) == []


@pytest.mark.parametrize("name", ["dst", "ltr"])
def test_an_ensemble_that_is_cut_in_both_networks_ends_in_the_same_bits(
    name: str, finished: World, tmp_path: Path
) -> None:
    options = finished.options(name)
    assert main(tmp_path, *options, stop=4)[0] == 143
    assert not (tmp_path / "member-2").exists()
    assert main(tmp_path, *options, "--resume", "auto", stop=4)[0] == 143  # the first goes on from there
    assert (tmp_path / "member-1/summary.json").exists() and not (tmp_path / "summary.json").exists()
    status, out, _ = main(tmp_path, *options, "--resume", "auto")
    assert status == 0 and out.count("resumed from") == 1
    for member in ("member-1", "member-2"):
        assert differences(outcome(finished(name) / member), outcome(tmp_path / member)) == []
    for part in ("test", "nnz_per_layer", "flops"):
        assert summary(tmp_path)[part] == summary(finished(name))[part]
    assert "nothing to resume" in main(tmp_path, *options, "--resume", "auto")[1]


# ---- what cannot be --------------------------------------------------------------------------------------------------


def test_an_ensemble_that_is_being_replaced_is_not_finished(finished: World, tmp_path: Path) -> None:
    folder, options = tmp_path / "run", finished.options("dst")
    shutil.copytree(finished("dst"), folder)
    assert main(folder, *options, "--overwrite", stop=2)[0] == 143
    assert not (folder / "summary.json").exists()
    assert main(folder, *options, "--resume", "auto")[0] == 0
    assert summary(folder)["test"] == summary(finished("dst"))["test"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*DENSE, "--snapshot", "--num-tickets", "7", "--epochs", "2"), "no more than 6"),
        ((*OF, "--method", "pf", "--epochs", "3", "--fine-tune-epochs", "3"), "--fine-tune-epochs 3"),
        ((*OF, *CYCLES, "--explore-growth", "momentum"), "momentum is tracked from the start"),
        ((*OF, *CYCLES, "--method", "dsr", "--explore-drop", "largest"), "DSR drops what is below its threshold"),
        ((*OF, "--edst", "--epochs", "9", "--exploration-epochs", "3", "--refine-epochs", "2", "--method", "granet",
          "--prune-end", "0.9", "--update-frequency", "7"), "before the first ticket is at 7"),
        ((*OF, "--method", "static", "--rewind", "nowhere"), "train the run to rewind with --save-early"),
        ((*OF, "--distill", "nowhere.safetensors"), "there is no ticket nowhere.safetensors"),
    ],
)  # fmt: skip
def test_what_a_regime_cannot_do_is_refused_before_it_trains(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    status, out, err = main(tmp_path / "run", *words)
    assert (status, out) == (2, "") and err.count("\n") == 1 and says in err
    assert not (tmp_path / "run").exists()


def test_a_cycle_of_one_step_has_its_ticket_after_that_step(tmp_path: Path) -> None:
    words = ("--fge", "--epochs", "4", "--cycle-epochs", "1", "--num-tickets", "2", "--limit-train", "16")
    assert main(tmp_path, *DENSE, *words)[0] == 0
    assert len(tickets_of(tmp_path)) == 2


def test_connections_of_another_density_are_no_start(finished: World, tmp_path: Path) -> None:
    words = (*OF, "--method", "static", "--rewind", str(finished("gmp")), "--density", "0.3")
    status, _, err = main(tmp_path, *words)
    assert status == 2 and f"there are {NNZ} connections to start from" in err and err.count("\n") == 1
    assert f"density 0.3 means {round(0.3 * MASKABLE)}" in err


# ---- on images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "tickets"),
    [
        ("--sparse --density 0.1 --edst --exploration-epochs 2 --refine-epochs 1 --num-tickets 2", 2),
        ("--sparse --density 0.1 --method pf --epochs 2 --ensemble 2", 2),
        ("--width 0.5 --snapshot --epochs 2 --num-tickets 2", 2),
    ],
)
def test_an_ensemble_of_resnets_on_digits(words: str, tickets: int, tmp_path: Path) -> None:
    folder, images = tmp_path / "run", "--data digits --model resnet20 --limit-train 16 --limit-test 20 --batch-size 8"
    with restored():
        assert end_of(main_cifar, *images.split(), *words.split(), "--output-dir", str(folder))[0] == 0
    said, test = summary(folder), load_cifar("digits", None, "cpu", limit_test=20).test
    model = build("resnet20", 10, 0.5 if "--width" in words else 1.0)
    names = list(maskable_weights(model))
    probabilities = []
    for path in tickets_of(folder):
        model.load_state_dict(load_file(path))
        nnz = sum(int(model.get_parameter(name).count_nonzero()) for name in names)
        assert nnz == said["nnz"] == round(said["density"] * said["maskable"])
        probabilities.append(predict(model, test).double().softmax(1))
    assert len(probabilities) == len(said["test"]["tickets"]) == tickets
    mean = (sum(probabilities) / tickets).log()
    found = {name: said["test"]["ensemble"][name] for name in METRICS}
    assert summarize(per_sample(mean, test.labels)) == pytest.approx(found, rel=1e-3, abs=1e-3)
