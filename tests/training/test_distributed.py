"""Several processes have the same masks and metrics, or are stopped; sharded weights are refused."""

import itertools
import json
import os
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from sparselearning import Masking, UsageError
from tests.outcomes import differences
from tests.processes import launch
from tests.tiny import Exact, Tiny, load_images, main
from tests.training.distributed import RUN, evaluated, own_rank
from utils.training.evaluation import evaluate
from utils.training.run import Run


def test_other_seeds_per_process_change_no_mask(tmp_path):
    """In a training loop of one's own; DDP makes the weights equal, and the masks are so from the start."""
    assert launch(2, own_loop, tmp_path) == [0, 0]
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert differences(one, two) == []
    assert len(one) == 6


def own_loop(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(own_rank())
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
    torch.save([{name: tensor.detach() for name, tensor in part.items()} for part in seen], folder / f"{own_rank()}.pt")


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
            part = slice(8 * own_rank() // world, 8 * (own_rank() + 1) // world)
            F.cross_entropy(wrapped(images[part]), torch.arange(8)[part]).backward()
            optimizer.step()
            optimizer.zero_grad()
            masks.append({name: mask.clone() for name, mask in masking.masks.items()})
        seen.append(masks)
    torch.save(seen, path.with_suffix(f".{own_rank()}.pt"))


@pytest.mark.parametrize("mistake", ["one more", "moved", "moved there and back"])
def test_processes_with_other_masks_are_stopped(mistake, tmp_path):
    assert launch(2, break_masks, tmp_path, mistake) == [0, 0]
    for rank in range(2):
        assert (tmp_path / str(rank)).read_text().startswith("the masks of the processes differ at step 0")


def break_masks(folder: Path, mistake: str) -> None:
    def check(run: Run) -> None:
        if own_rank() == 1:
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
    (folder / str(own_rank())).write_text(str(error.value))


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
    (folder / f"{own_rank()}.json").write_text(json.dumps(metrics))


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
    (folder / str(own_rank())).write_text(str(error.value))
