"""How much the networks of an ensemble differ in each layer (FreeTickets, section 5.1, Figure 2 left).

The paper does not say how a feature map becomes a distribution; its code does (`loss_fn_kd` of ensemble_freetickets.py,
whose softmax of a map is that over dimension 1): at each position of the output of a layer, the softmax over the
channels. So a map is as many predictions as it has positions, of as many classes as it has channels; d_KL of two
networks is theirs, and that of the last layer is the d_KL of Table 4. The code adds the positions up, by which a map
counts the more the larger it is; the mean over the positions does not depend on the size, so both are drawn.

Compare the ensembles at a layer, not the layers of an ensemble: how large the outputs of a layer are, which decides how
far apart their softmax can be, is for training to choose wherever a normalization follows. Networks that begin from
weights of their own have their channels in orders of their own too, which is a part of their KL.
"""

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from models.member_layers import Branches, exchange
from sparselearning.errors import UsageError
from sparselearning.layers import maskable_weights
from utils.command_line.commands.picture import PictureOptions
from utils.data.protocol import Images
from utils.pictures.opening import Drawn, distinctive, open_images, open_tickets, run_folder
from utils.reporting.style import COLORS, MARKERS, bare, plt
from utils.training.evaluation import by_image
from utils.training.metrics import DIVERSITY, per_sample, summarize
from utils.training.saved import alone

KL = {"kl": DIVERSITY["kl"]}
NO_LABELS = torch.empty(0)  # which play no part in it
PIECE = 2**22  # numbers of feature maps that become distributions at a time, which limits the memory


class Line(TypedDict):
    """An ensemble.

    Attributes:
        tickets: the files of its networks.
        kl: of each layer in nats, the mean over images, positions and ordered pairs of networks.
    """

    name: str
    tickets: list[str]
    kl: list[float]


class Layers(TypedDict):
    """Of all ensembles, the layers in the order in which images pass them.

    Attributes:
        positions: of the feature map of each layer, by which `kl` times is what the paper's code has.
    """

    images: int
    layers: list[str]
    positions: list[int]
    ensembles: list[Line]


def ensembles(paths: Sequence[Path]) -> dict[Path, list[Path]]:
    """The tickets of each run; where no run has several, all of them together, under the folder of the first.

    Raises:
        UsageError: some runs have several and another has only one.
    """
    found: dict[Path, list[Path]] = {}
    for path in paths:
        run = run_folder(path)
        found.setdefault(run.parent if run.name.startswith("member-") else run, []).append(path)
    if all(len(own) == 1 for own in found.values()):
        return {next(iter(found)): list(paths)}
    for run, own in found.items():
        if len(own) == 1:
            raise UsageError(f"{own[0]} is the only ticket of {run}: give the others of its ensemble, or leave it out")
    return found


def side_by_side(networks: Sequence[nn.Module]) -> nn.Module:
    """One network of several: its batch is a batch for each of them, one after the other, and so is what it returns.

    It is made of the first one, each of whose layers becomes one of every network. They pass the images together, so
    that what they differ in is known at each layer, and no feature map need be kept.
    """
    joint = networks[0]
    own = [name for name, module in joint.named_modules() if module.state_dict() and not [*module.children()]]
    for name in own:
        exchange(joint, name, Branches([network.get_submodule(name) for network in networks], apart=True))
    return joint


def divergence(outputs: Tensor) -> Tensor:
    """d_KL between feature maps, float64 (N,), from the outputs (M, N, C, ...) of a layer of M networks."""
    found, positions = [], outputs[0, 0, 0].numel()
    for part in outputs.split(max(1, PIECE // outputs[:, 0].numel()), dim=1):
        predictions = part.flatten(3).movedim(2, -1).flatten(1, 2) if part.ndim > 3 else part
        found.append(per_sample(predictions, NO_LABELS, KL).view(-1, positions).mean(1))
    return torch.cat(found)


class Watched:
    """Networks side by side, and in which layers they differ.

    Attributes:
        positions: {layer: positions of its feature map}, in the order in which images pass the layers.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.members, self.positions, self.found = len(networks), dict[str, int](), list[Tensor]()
        layers = [name.removesuffix(".weight") for name in maskable_weights(networks[0])]
        self.columns, self.network = len(layers), side_by_side(networks)
        for layer in layers:
            self.network.get_submodule(layer).register_forward_hook(partial(self.see, layer))

    def see(self, layer: str, _: nn.Module, __: tuple[Tensor, ...], outputs: Tensor) -> None:
        outputs = outputs.unflatten(0, (self.members, -1))
        self.positions[layer] = outputs[0, 0, 0].numel()
        self.found.append(divergence(outputs))

    def rows(self, images: Tensor) -> Tensor:
        """d_KL in each layer, float64 (N, layers); takes no more memory than to evaluate one of the networks."""
        parts = []
        for part in images.split(max(1, len(images) // self.members)):
            self.found.clear()
            self.network(part.repeat(self.members, 1, 1, 1))
            parts.append(torch.stack(self.found, 1))
        return torch.cat(parts)

    def over(self, images: Images, title: str) -> list[float]:
        """d_KL in each layer, means over the images."""
        found = by_image(alone(), images, self.columns, lambda inputs, _: self.rows(inputs), title)
        return [*summarize(found, dict.fromkeys(self.positions, KL["kl"])).values()]


def compare(options: PictureOptions) -> Layers:
    """Raises UsageError where a ticket is of an efficient ensemble, whose networks are none of their own."""
    tickets, found = open_tickets(options), ensembles(options.tickets)
    if tickets.efficient_ensemble:
        raise UsageError(f"the tickets are {tickets.efficient_ensemble.title}: features compares plain networks")
    judge = open_images(options, tickets)
    drawn: Layers = {"images": len(judge.test), "layers": [], "positions": [], "ensembles": []}
    for name, paths in zip(distinctive([*found]), found.values(), strict=True):
        networks = [copy.deepcopy(judge.model).eval() for _ in paths]
        for network, path in zip(networks, paths, strict=True):
            network.load_state_dict(tickets.read(path))
        watched = Watched(networks)
        kl = watched.over(judge.test, name.replace("\n", "/"))
        drawn["layers"], drawn["positions"] = [*watched.positions], [*watched.positions.values()]
        drawn["ensembles"].append({"name": name.replace("\n", "/"), "tickets": [*map(str, paths)], "kl": kl})
    return drawn


def draw(found: Layers) -> Figure:
    """A line for each ensemble, on a logarithmic scale, which has no place for a layer that is the same in all."""
    layers, width = found["layers"], max(4.4, 0.22 * len(found["layers"]))
    figure, axes = plt.subplots(1, 2, figsize=(2 * width, 4.6), layout="constrained")
    scales = {"mean over the positions": [1] * len(layers), "added up over the positions": found["positions"]}
    for axis, (title, times) in zip(axes, scales.items(), strict=True):
        for i, line in enumerate(found["ensembles"]):
            color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
            values = [kl * n for kl, n in zip(line["kl"], times, strict=True)]
            axis.plot(values, "-", marker=marker, ms=5, color=color, label=line["name"])
        axis.set_xticks(range(len(layers)), layers, rotation=90, fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.set_yscale("log")
    axes[0].set_ylabel("KL divergence of feature maps (nats)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    bare(*axes)
    return figure


def picture(options: PictureOptions) -> Drawn:
    found = compare(options)
    return Drawn(draw(found), found)
