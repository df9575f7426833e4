"""Masking in any training loop: as its docstring says, in any memory format, with a model that is copied and saved."""

import copy
import re

import torch
from torch import nn

from sparselearning import Masking
from sparselearning.layers import maskable_weights
from tests.exact import bits, check_sparse
from tests.networks import batch, network, sgd, train


def test_the_loop_of_the_docstring_trains() -> None:
    assert Masking.__doc__ is not None
    lines = re.findall(r"^ {8}(.*)\n", Masking.__doc__, re.MULTILINE)
    loop = "\n".join(line for line in lines if line)
    loop = loop[loop.index("masking = ") : loop.index("optimizer.zero_grad()") + len("optimizer.zero_grad()")]
    assert len(loop.splitlines()) == 5
    model = network()
    x, y = batch(0)
    loss_fn = nn.CrossEntropyLoss()
    scope = {"Masking": Masking, "model": model, "optimizer": sgd(model), "loader": [(x, y)] * 40, "loss_fn": loss_fn}
    before = loss_fn(model(x), y).item()
    exec(loop, scope)
    check_sparse(scope["masking"], 65)
    assert loss_fn(model(x), y).item() < 0.8 * before


def test_channels_last_is_the_same_network() -> None:
    masks = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = network().to(memory_format=memory_format)
        optimizer = sgd(model, lr=0.0)  # convolutions round differently in the two formats; selection must not
        masking = Masking(model, optimizer, "rigl", 0.2, update_frequency=1)
        for step in range(4):
            rng = torch.Generator().manual_seed(step)
            for weight in model.parameters():
                weight.grad = torch.randn(weight.shape, generator=rng).round().to(memory_format=memory_format) \
                    if weight.dim() == 4 else torch.randn(weight.shape, generator=rng)  # fmt: skip
            optimizer.step()
        check_sparse(masking)
        masks.append((bits(masking.masks), bits(masking.weights)))
    assert masks[0] == masks[1]


def test_weights_and_masks_stay_where_they_are_in_memory() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "granet", 0.1, update_frequency=1, prune_end=3)
    tensors = (*masking.masks.values(), *masking.ever_active.values(), *model.parameters())
    where = [tensor.data_ptr() for tensor in tensors]
    masking.explore(0.5)
    train(model, optimizer, range(4))
    masking.load_state_dict(copy.deepcopy(masking.state_dict()))
    tensors = (*masking.masks.values(), *masking.ever_active.values(), *model.parameters())
    assert where == [tensor.data_ptr() for tensor in tensors]


def test_the_model_can_be_copied_and_saved_as_if_it_were_dense() -> None:
    model = network()
    keys = list(model.state_dict())
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "rigl", 0.1, update_frequency=1)
    train(model, optimizer, range(2))
    copied = copy.deepcopy(model)
    assert list(model.state_dict()) == keys
    assert bits(copied.state_dict()) == bits(model.state_dict())
    before = bits(copied.state_dict())
    train(model, optimizer, [2])
    assert bits(copied.state_dict()) == before
    outside = {name: ~mask for name, mask in masking.masks.items()}
    train(copied, sgd(copied), range(3))  # nothing of Masking clings to the copy
    assert all(weight[outside[name]].any() for name, weight in maskable_weights(copied).items())
