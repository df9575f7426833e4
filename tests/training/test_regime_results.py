"""What a run of each regime leaves behind: tickets of exactly its density, and the numbers of its models."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import main_cifar
from models import build
from sparselearning.layers import maskable_weights
from tests.outcomes import differences, outcome
from tests.scripts import end_of
from tests.tiny import NETWORKS, main, restored
from tests.training.regimes import (
    DENSE,
    ENSEMBLES,
    EPOCH,
    LABELS,
    MACS,
    MASKABLE,
    NNZ,
    OF,
    REGIMES,
    Runs,
    count,
    logits,
    summary,
    tickets_of,
)
from utils.data.cifar import load_cifar
from utils.training.metrics import METRICS, per_sample, summarize
from utils.training.saved import predict


@pytest.mark.parametrize("name", REGIMES)
def test_every_ticket_has_exactly_its_density(name: str, finished: Runs) -> None:
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
def test_the_summary_has_the_models_of_the_regime(name: str, finished: Runs) -> None:
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
def test_the_ensemble_is_the_mean_of_the_softmax_of_the_saved_tickets(name: str, finished: Runs) -> None:
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


def test_only_the_normal_phase_is_kept_beside_the_tickets(finished: Runs) -> None:
    names = {path.name for path in finished("fge cycles").glob("tickets/*")}
    assert names == {"normal.safetensors", *(f"ticket-{j}.safetensors" for j in (1, 2, 3))}


def test_the_normal_phase_and_the_tickets_are_averaged_and_no_rise_between_them(finished: Runs) -> None:
    folder = finished("fge cycles")
    kept, superposed = [load_file(path) for path in folder.glob("tickets/*")], load_file(folder / "ticket.safetensors")
    for name in ("4.bias", "8.bias", "1.weight", "1.running_var"):  # never pruned
        torch.testing.assert_close(superposed[name], torch.stack([ticket[name] for ticket in kept]).mean(0))


def test_a_network_of_an_ensemble_is_the_run_of_its_seed(finished: Runs, tmp_path: Path) -> None:
    assert main(tmp_path, *OF, "--epochs", "3", "--seed", "3")[0] == 0
    assert differences(outcome(tmp_path), outcome(finished("dst") / "member-2")) == []


def test_networks_of_an_ensemble_have_their_own_seeds(finished: Runs) -> None:
    """Those of another --seed share none of them."""
    seeds = [summary(folder)["seed"] for folder in sorted(finished("dst").glob("member-*"))]
    assert seeds == [2, 3] and summary(finished("dst"))["seed"] == 1
    said = [summary(finished("dst") / part)["test"]["final"] for part in ("", "member-1", "member-2")]
    assert said[0] == said[2] != said[1]  # the final one is the last
    first, second = (load_file(path) for path in tickets_of(finished("dst")))
    assert all(not torch.equal(first[name] != 0, second[name] != 0) for name in MACS)


def test_rewound_networks_share_their_connections_and_start_from_the_early_weights(finished: Runs) -> None:
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


def test_a_cycle_of_one_step_has_its_ticket_after_that_step(tmp_path: Path) -> None:
    words = ("--fge", "--epochs", "4", "--cycle-epochs", "1", "--num-tickets", "2", "--limit-train", "16")
    assert main(tmp_path, *DENSE, *words)[0] == 0
    assert len(tickets_of(tmp_path)) == 2


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
