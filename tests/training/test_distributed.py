"""One process or many, whole batches or parts of them: the same masks, metrics and checkpoints."""

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
import yaml
from accelerate import Accelerator
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import main_cifar
from sparselearning import Masking, UsageError
from tests.outcomes import differences, last_state, outcome
from tests.processes import free_port, launch
from tests.run_folder.test_resume import METHODS
from tests.tiny import NETWORKS, SPARSE, SUP_TICKETS, Exact, Tiny, load_images, main
from utils.run_folder.checkpoints import load_checkpoint
from utils.training.evaluation import evaluate
from utils.training.run import Run

REPOSITORY = Path(main_cifar.__file__).parent
WHOLE = {  # ways to train on whole batches of 16: processes, images per part, parts per process
    "1 process": (1, 16, 1),
    "accumulation": (1, 8, 2),
    "2 processes": (2, 8, 1),
    "both": (2, 4, 2),
}


@dataclasses.dataclass
class Case:
    """One run of main_cifar.py; the process `rank` gets SIGTERM after step `stop`."""

    folder: Path
    options: Sequence[str]
    stop: int | None = None
    rank: int = 0


def rank() -> int:
    return int(os.environ.get("RANK", 0))


def run_all(cases: Sequence[Case]) -> None:
    """Run the cases one after the other; next to each folder lie the exit statuses and the masks at every update."""
    for case in cases:
        updates: list[dict[str, Any]] = []
        with recorded(updates):
            status, out, err = main(case.folder, *case.options, stop=case.stop if rank() == case.rank else None)
        case.folder.with_suffix(f".{rank()}.json").write_text(json.dumps([status, out, err]))
        torch.save(updates, case.folder.with_suffix(f".{rank()}.pt"))


@contextlib.contextmanager
def recorded(updates: list[dict[str, Any]]) -> Iterator[None]:
    original = Masking.update_topology

    def update_topology(masking: Masking, *args: Any) -> None:
        original(masking, *args)
        updates.append({"step": masking.step} | {name: mask.clone() for name, mask in masking.masks.items()})

    with mock.patch.object(Masking, "update_topology", update_topology):
        yield


def statuses(folder: Path, world: int) -> list[int]:
    results = [json.loads(folder.with_suffix(f".{rank}.json").read_text()) for rank in range(world)]
    assert all("Traceback" not in err for _, _, err in results), results
    return [status for status, _, _ in results]


def updates_of(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    return torch.load(folder.with_suffix(f".{rank}.pt"), weights_only=True)


# ---- parts of a batch ----------------------------------------------------------------------------------------------

GROWING = ("set", "rigl", "granet")
PARTS = ("--limit-train", "45", *SUP_TICKETS)  # the last batch of an epoch has 13 images, in unequal parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs named NETWORK-METHOD-WAY for each way to train on the same batches."""
    folder = tmp_path_factory.mktemp("parts")
    for world in (1, 2):
        cases = [
            Case(folder / f"{network}-{method}-{way}", (*SPARSE, *PARTS, *METHODS[method], "--model", network,
                 "--batch-size", str(size), "--gradient-accumulation-steps", str(parts)))
            for way, (processes, size, parts) in WHOLE.items() if processes == world
            for network, methods in (("exact", GROWING), ("norm", GROWING), ("plain", ("rigl",))) for method in methods
        ]  # fmt: skip
        assert launch(world, run_all, cases) == [0] * world
    return folder


@pytest.mark.parametrize("method", GROWING)
@pytest.mark.parametrize("way", [way for way in WHOLE if way != "1 process"])
def test_the_same_masks_at_every_update(way, method, parts):
    """In double precision, where the rounding of differently grouped sums cannot change the order of two scores."""
    whole, cut = parts / f"exact-{method}-1 process", parts / f"exact-{method}-{way}"
    assert len(updates_of(whole)) == 5 + 2
    for rank in range(WHOLE[way][0]):
        assert differences(updates_of(whole), updates_of(cut, rank)) == []
    for name, weight in load_file(whole / "ticket.safetensors").items():
        torch.testing.assert_close(load_file(cut / "ticket.safetensors")[name], weight, rtol=1e-9, atol=1e-12)
    expected, found = (json.loads((folder / "summary.json").read_text()) for folder in (whole, cut))
    assert found["nnz_per_layer"] == expected["nnz_per_layer"]
    assert found["flops"] == pytest.approx(expected["flops"], rel=1e-12)
    assert found["test"]["superposed"] == pytest.approx(expected["test"]["superposed"], rel=1e-6)


@pytest.mark.parametrize("way", [way for way in WHOLE if way != "1 process"])
def test_in_single_precision_masks_differ_at_most_where_scores_tie(way, parts):
    whole, cut = updates_of(parts / "plain-rigl-1 process"), updates_of(parts / f"plain-rigl-{way}")
    assert differences(whole[0], cut[0]) == []
    for one, other in zip(whole, cut, strict=True):
        assert sum((one[name] != other[name]).sum().item() for name in one if name != "step") <= 4


@pytest.mark.parametrize("method", GROWING)
@pytest.mark.parametrize("way", [way for way in WHOLE if way != "1 process"])
def test_with_batch_norm_the_same_counts_at_every_update(way, method, parts):
    """Batch norm sees its part of a batch only: another network, but the same number of connections."""
    whole, cut = updates_of(parts / f"norm-{method}-1 process"), updates_of(parts / f"norm-{method}-{way}")
    for one, other in zip(whole, cut, strict=True):
        assert one["step"] == other["step"]
        assert sum(one[name].sum() for name in one if name != "step") == sum(
            other[name].sum() for name in one if name != "step"
        )
    for rank in range(WHOLE[way][0]):
        assert differences(cut, updates_of(parts / f"norm-{method}-{way}", rank)) == []


# ---- cut and resumed -----------------------------------------------------------------------------------------------

RUN = (*SPARSE, *SUP_TICKETS, "--model", "tiny", "--batch-size", "8", "--resume", "auto")
CUTS = (5, 15, 18)  # mid-epoch, mid-cycle, between two cycles


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of 2 processes named METHOD-straight and METHOD-cut; either process may be the one that gets the signal."""
    folder = tmp_path_factory.mktemp("resumed")
    straight = [Case(folder / f"{method}-straight", (*RUN, *options)) for method, options in METHODS.items()]
    assert launch(2, run_all, straight) == [0, 0]
    for i, stop in enumerate((*CUTS, None)):
        cases = [Case(folder / f"{method}-cut", (*RUN, *options), stop, i % 2) for method, options in METHODS.items()]
        assert launch(2, run_all, cases) == [0, 0]
        for case in cases:
            assert statuses(case.folder, 2) == ([143, 143] if stop else [0, 0])
            assert not stop or last_state(case.folder)["step"] == stop
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_resume_to_the_same_bits(method, resumed):
    assert differences(outcome(resumed / f"{method}-straight"), outcome(resumed / f"{method}-cut")) == []


@pytest.mark.parametrize("method", METHODS)
def test_processes_agree_on_what_is_reported(method, resumed):
    """Accuracy, NLL and ECE belong to the saved ticket, to the last digit: one process that reads it agrees."""
    folder = resumed / f"{method}-straight"
    summary = json.loads((folder / "summary.json").read_text())
    model = NETWORKS["tiny"](10)
    model.load_state_dict(load_file(folder / "ticket.safetensors"))
    assert summary["test"]["superposed"] == evaluated(model)


def evaluated(model: nn.Module) -> dict[str, float]:
    with mock.patch("utils.training.evaluation.BATCH", 8):
        return evaluate(Accelerator(cpu=True), model, load_images("", None, "cpu").test)


def test_a_checkpoint_moves_between_one_process_and_two(tmp_path):
    options = (*SPARSE, *PARTS, "--model", "exact", "--method", "rigl", "--resume", "auto")
    for stop, world in ((5, 2), (9, 1), (15, 2), (18, 1), (None, 2)):
        size = ("--batch-size", str(16 // world))
        assert launch(world, run_all, [Case(tmp_path / "moved", (*options, *size), stop)]) == [0] * world
        assert statuses(tmp_path / "moved", world) == [143 if stop else 0] * world
    run_all([Case(tmp_path / "stayed", options)])
    moved, stayed = last_state(tmp_path / "moved"), last_state(tmp_path / "stayed")
    assert differences(moved["masking"], stayed["masking"]) == []
    for name, weight in stayed["model"].items():
        torch.testing.assert_close(moved["model"][name], weight, rtol=1e-9, atol=1e-12)
    for row, other in zip(moved["history"], stayed["history"], strict=True):
        for key in row.keys() - {"images_per_second", "phase"}:
            assert row[key] == (None if other[key] is None else pytest.approx(other[key], rel=1e-6))


def test_it_does_not_move_where_epochs_would_have_other_steps(tmp_path):
    """A last batch of 10 images is enough for a part, and too small for eight."""
    options = (*SPARSE, *SUP_TICKETS, "--limit-train", "42", "--model", "plain", "--resume", "auto")
    assert main(tmp_path / "run", *options, stop=5)[0] == 143
    parts = ("--batch-size", "2", "--gradient-accumulation-steps", "4")
    launch(2, run_all, [Case(tmp_path / "run", (*options, *parts))])
    status, _, err = json.loads((tmp_path / "run.0.json").read_text())
    assert status == 2
    assert err.count("\n") == 1
    assert "steps_per_epoch" in err


# ---- when processes disagree ---------------------------------------------------------------------------------------


def test_other_seeds_per_process_change_no_mask(tmp_path):
    """In a training loop of one's own; DDP makes the weights equal, and the masks are so from the start."""
    assert launch(2, own_loop, tmp_path) == [0, 0]
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert differences(one, two) == []
    assert len(one) == 6


def own_loop(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(rank())
    seen = []
    for method, growth in (("set", None), ("rigl", None), ("rigl", "momentum")):
        model = Tiny(10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        masking = Masking(model, optimizer, method, 0.2, growth=growth, update_frequency=2)
        wrapped = DistributedDataParallel(model)
        for _ in range(5):
            wrapped(torch.randn(4, 3, 32, 32)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        seen += [dict(masking.masks), dict(model.named_parameters())]
    torch.save([{name: tensor.detach() for name, tensor in part.items()} for part in seen], folder / f"{rank()}.pt")


def test_snfs_and_dsr_share_connections_out_alike_on_parts_of_a_batch(tmp_path):
    """In double precision, on whole batches of 8 and on halves of them."""
    share_out(tmp_path / "whole")
    assert launch(2, share_out, tmp_path / "half") == [0, 0]
    whole = torch.load(tmp_path / "whole.0.pt", weights_only=True)
    for masks in whole:
        assert sum(differences(a, b) != [] for a, b in itertools.pairwise(masks)) == 4  # updates
    for rank in range(2):
        assert differences(whole, torch.load(tmp_path / f"half.{rank}.pt", weights_only=True)) == []


def share_out(path: Path) -> None:
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        torch.distributed.init_process_group("gloo")
    seen = []
    for method in ("snfs", "dsr"):
        torch.manual_seed(0)
        model = Exact(10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        masking = Masking(model, optimizer, method, 0.3, update_frequency=2)
        masking.threshold = masking.threshold and 0.05
        wrapped = DistributedDataParallel(model) if world > 1 else model
        masks = []
        for step in range(8):
            images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(step))
            part = slice(8 * rank() // world, 8 * (rank() + 1) // world)
            F.cross_entropy(wrapped(images[part]), torch.arange(8)[part]).backward()
            optimizer.step()
            optimizer.zero_grad()
            masks.append({name: mask.clone() for name, mask in masking.masks.items()})
        seen.append(masks)
    torch.save(seen, path.with_suffix(f".{rank()}.pt"))


@pytest.mark.parametrize("mistake", ["one more", "moved", "moved there and back"])
def test_processes_with_other_masks_are_stopped(mistake, tmp_path):
    assert launch(2, break_masks, tmp_path, mistake) == [0, 0]
    for rank in range(2):
        assert (tmp_path / str(rank)).read_text().startswith("the masks of the processes differ at step 0")


def break_masks(folder: Path, mistake: str) -> None:
    def check(run: Run) -> None:
        if rank() == 1:
            mask = run.masks["8.weight"].view(-1)
            inactive, active = (~mask).nonzero().flatten().tolist(), mask.nonzero().flatten().tolist()
            if mistake == "one more":
                mask[inactive[0]] = True
            elif mistake == "moved":
                mask[active[0]], mask[inactive[0]] = False, True
            else:  # one connection a place up, another a place down: the sum of their places is as before
                up = next(i for i in active if i + 1 in inactive)
                down = next(i for i in active if i - 1 in inactive and abs(i - up) > 2)
                mask[[up, down]], mask[[up + 1, down - 1]] = False, True
        original(run)

    original = Run.check_masks_agree
    with mock.patch.object(Run, "check_masks_agree", check), pytest.raises(RuntimeError) as error:
        main(folder / "run", *RUN, "--method", "set")
    (folder / str(rank())).write_text(str(error.value))


def test_processes_that_resume_from_different_steps_are_stopped(tmp_path):
    """As where the nodes do not share the file system with the run folder."""
    assert main(tmp_path / "0", *RUN, "--batch-size", "16", "--method", "rigl", stop=5)[0] == 143
    assert launch(2, resume_alone, tmp_path, timeout=20) == [0, 0]
    for rank in range(2):
        status, _, err = json.loads((tmp_path / f"{rank}.{rank}.json").read_text())
        assert status == 2
        assert err.count("\n") == 1 - rank, "the main process speaks for all"
        assert rank or "every process must see" in err


def resume_alone(folder: Path) -> None:
    run_all([Case(folder / str(rank()), (*RUN, "--method", "rigl"))])


# ---- evaluation ----------------------------------------------------------------------------------------------------


def test_evaluation_is_exact_on_any_number_of_processes(tmp_path):
    """37 images in batches of 8, 3 for one process and 2 for the other, the last of them short."""
    torch.manual_seed(0)
    model = Tiny(10).eval()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert launch(2, evaluate_there, tmp_path) == [0, 0]
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == evaluated(model)


def evaluate_there(folder: Path) -> None:
    accelerator, model = Accelerator(cpu=True), Tiny(10)
    assert accelerator.num_processes == 2
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    with mock.patch("utils.training.evaluation.BATCH", 8):
        metrics = evaluate(accelerator, model, load_images("", None, "cpu").test)
    assert model.training
    (folder / f"{rank()}.json").write_text(json.dumps(metrics))


# ---- what is not supported -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_sharded_training_is_refused_in_one_line(kind, tmp_path):
    with mock.patch("utils.training.build.Accelerator", return_value=mock.Mock(distributed_type=kind)):
        status, _, err = main(tmp_path, *RUN)
    assert status == 2
    assert f"{kind.value} shards weights" in err
    assert err.count("\n") == 1


def test_masking_refuses_sharded_weights(tmp_path):
    assert launch(2, try_fsdp, tmp_path) == [0, 0]
    for rank in range(2):
        message = (tmp_path / str(rank)).read_text()
        assert "FSDP and DeepSpeed" in message
        assert "\n" not in message


def try_fsdp(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    model = fully_shard(Tiny(10), mesh=init_device_mesh("cpu", (2,)))
    with pytest.raises(UsageError) as error:
        Masking(model, torch.optim.SGD(model.parameters(), lr=0.1))
    (folder / str(rank())).write_text(str(error.value))


# ---- the launchers -------------------------------------------------------------------------------------------------

CONFIGS = {"gpu1": ("NO", 1, 1), "multi_gpu": ("MULTI_GPU", 1, 8), "multi_node": ("MULTI_GPU", 2, 16),
           "cpu2": ("MULTI_GPU", 1, 2)}  # fmt: skip
DIGITS = ("main_cifar.py", "--data", "digits", "--limit-train", "96", "--limit-test", "37", "--model", "resnet20",
          "--batch-size", "4", "--sparse", "--density", "0.1", "--resume", "auto")  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_launch_configs(name):
    path = REPOSITORY / f"launch/configs/{name}.yaml"
    config = load_config_from_file(str(path))
    assert (config.distributed_type, config.num_machines, config.num_processes) == CONFIGS[name]
    assert config.use_cpu == (name == "cpu2")
    assert set(yaml.safe_load(path.read_text())) <= set(vars(config))


def spawn(*command: str) -> subprocess.Popen[str]:
    """Start a command as a user would on a machine without GPUs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen([sys.executable, *command], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.STDOUT, env=environment)  # fmt: skip


def test_sigterm_to_the_launcher_saves_and_the_run_goes_on(tmp_path):
    """Two processes started by the shipped configuration, and the rest of the run in one."""
    launcher = spawn("-m", "accelerate.commands.launch", "--config_file", "launch/configs/cpu2.yaml",
                     "--main_process_port", str(free_port()), *DIGITS, "--epochs", "200",
                     "--output-dir", str(tmp_path))  # fmt: skip
    try:
        lines: list[str] = []
        for line in launcher.stdout:
            lines.append(line)
            if line.startswith("epoch"):
                break
        launcher.send_signal(signal.SIGTERM)
        lines += launcher.communicate(timeout=60)[0].splitlines(keepends=True)
    finally:
        launcher.kill()
    assert launcher.returncode != 0
    assert any(line.startswith("checkpoint") for line in lines), "".join(lines)
    assert json.loads((tmp_path / "env.json").read_text())["processes"] == 2
    (path,) = (tmp_path / "checkpoints").iterdir()
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["run"]["whole_batch_size"] == 8
    assert load_checkpoint(path, manifest["run"])["step"] == manifest["step"] > 0


def test_two_nodes(tmp_path):
    """As the batch script starts them, but over the loopback."""
    rendezvous = f"127.0.0.1:{free_port()}"
    agents = [
        spawn("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d",
              "--rdzv-id", "tiny", "--rdzv-endpoint", rendezvous, *DIGITS, "--epochs", "2", "--method", "set",
              "--output-dir", str(tmp_path))
        for _ in range(2)
    ]  # fmt: skip
    try:
        logs = [agent.communicate(timeout=120)[0] for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    assert [agent.returncode for agent in agents] == [0, 0], "".join(logs)
    assert json.loads((tmp_path / "env.json").read_text())["processes"] == 2
    (manifest,) = (tmp_path / "checkpoints").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["run"]["whole_batch_size"] == 8, "they know of each other"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["nnz"] == round(0.1 * summary["maskable"])


@pytest.mark.parametrize("status, progress, requeued", [(0, True, False), (1, True, True), (1, False, False)])
def test_the_batch_script_queues_itself_again_if_a_run_got_further(status, progress, requeued, tmp_path):
    folder, commands = tmp_path / "run", tmp_path / "bin"
    (folder / "checkpoints/step-00000010").mkdir(parents=True)
    commands.mkdir()
    step = f"mkdir {folder}/checkpoints/step-00000020; " * progress
    scripts = {
        "srun": f"echo $@ >> {tmp_path}/log; {step} exit {status}",
        "scontrol": f"if [ $1 = show ]; then echo node1; else echo $@ >> {tmp_path}/log; fi",
    }
    for name, script in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    environment = {"PATH": f"{commands}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2",
                   "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_GPUS_ON_NODE": "4"}  # fmt: skip
    command = ["bash", REPOSITORY / "launch/slurm.sbatch", str(folder), "main_cifar.py", "--sparse"]
    code = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True).returncode
    assert code == (0 if requeued else status)
    step, *queue = (tmp_path / "log").read_text().splitlines()
    assert "torchrun --nnodes=2 --nproc-per-node=4" in step
    assert "--rdzv-endpoint=node1:20007" in step
    assert step.endswith(f"main_cifar.py --output-dir {folder} --resume auto --sparse")
    assert queue == ["requeue 7"] * requeued
