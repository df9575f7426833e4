"""A network as a graph whose sparse layers hand maps to one another."""

import operator
from collections.abc import Container
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from sparselearning.cpu.layers import SparseConvolution, zeros_around
from sparselearning.cpu.steps import Affine, Flat, LinearOnPixels, Mean, Plain, Pool, as_convolution

RELU = (F.relu, torch.relu, torch.relu_, "relu", "relu_")
ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
FLATTEN = (torch.flatten, "flatten")


def on_maps(graph: fx.GraphModule, chosen: Container[str]) -> fx.GraphModule:
    """The graph with the chosen layers sparse, and maps instead of tensors between them wherever that can be.

    Args:
        chosen: names of layers that `fits` says can be sparse.
    """
    modules = dict(graph.named_modules())
    zeros = [zeros_around(x) or (0, 0) for name, x in modules.items() if name in chosen and type(x) is nn.Conv2d]
    builder = _Builder(graph, modules, chosen, edge=max(map(max, zeros), default=0))
    for node in list(graph.graph.nodes):
        builder.visit(node)
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return graph


class _Builder:
    """Goes through a graph in its order and replaces what can work on maps."""

    def __init__(self, graph: fx.GraphModule, modules: dict[str, nn.Module], chosen: Container[str], edge: int) -> None:
        self.graph, self.modules, self.chosen, self.edge = graph, modules, chosen, edge
        self.steps: dict[fx.Node, Any] = {}  # the nodes that make maps
        self.flat: set[fx.Node] = set()  # those of them whose maps of one pixel stand for tensors of shape (N, C)

    def visit(self, node: fx.Node) -> None:
        """Replace one node, or give it tensors."""
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        maps = [x for x in node.all_input_nodes if x in self.steps]
        if module is not None and str(node.target) in self.chosen:
            if isinstance(module, nn.Linear) and maps and maps[0] in self.flat:
                self.replace(node, SparseConvolution(as_convolution(module)))
            elif isinstance(module, nn.Linear):
                self.plain_inputs(node, maps)
                self.graph.set_submodule(str(node.target), LinearOnPixels(module))
            else:
                self.replace(node, SparseConvolution(module, edge=self.edge))  # type: ignore[arg-type]
        elif maps and (type(module) is nn.ReLU or node.target in RELU):
            self.rectify(node, maps[0])
        elif maps and takes_mean(node, module):
            self.replace(node, Mean())
        elif maps and flattens(node, module) and maps[0] not in self.flat:
            self.flat.add(self.replace(node, Flat()))
        elif maps and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
            self.replace(node, Affine(module, edge=self.edge))
        elif maps and module is not None and Pool.fits(module):
            self.pool(node, maps[0], Pool(module, edge=self.edge))  # type: ignore[arg-type]
        elif len(maps) == 2 and node.target in ADD and not node.kwargs and len(self.flat.intersection(maps)) != 1:
            self.add(node, *maps)
        else:
            self.plain_inputs(node, maps)

    def replace(self, node: fx.Node, step: nn.Module, *arguments: fx.Node) -> fx.Node:
        """Let a step make what the node made, of the same inputs if no others are given."""
        name = f"step_{len(self.steps)}"
        self.graph.add_submodule(name, step)
        with self.graph.graph.inserting_after(node):
            new = self.graph.graph.call_module(name, arguments or tuple(node.all_input_nodes))
        node.replace_all_uses_with(new)
        self.graph.graph.erase_node(node)
        self.steps[new] = step
        if not self.flat.isdisjoint(new.all_input_nodes):
            self.flat.add(new)
        return new

    def rectify(self, node: fx.Node, x: fx.Node) -> None:
        """ReLU: by the step before it, if nothing else reads what that makes."""
        step = self.steps[x]
        if len(x.users) == 1 and isinstance(step, SparseConvolution | Affine):
            step.least = 0.0
            node.replace_all_uses_with(x)
            self.graph.graph.erase_node(node)
        else:
            step, order = Affine(edge=self.edge), self.order()
            step.least = 0.0
            if self.in_place(node):
                for user in [user for user in x.users if order[user] > order[node]]:
                    user.replace_input_with(x, node)
            self.replace(node, step)

    def pool(self, node: fx.Node, x: fx.Node, pool: Pool) -> None:
        """By the convolution before it, if nothing else reads what that makes, and no later ReLU changes the result."""
        step = self.steps[x]
        alone = (
            isinstance(step, SparseConvolution) and step.pool is None and len(x.users) == len(x.all_input_nodes) == 1
        )
        if alone and not pool.pooling.mean:
            step.pool = pool.pooling
            node.replace_all_uses_with(x)
            self.graph.graph.erase_node(node)
        else:
            self.replace(node, pool)

    def in_place(self, node: fx.Node) -> bool:
        """Does a ReLU write over what it reads?"""
        if node.op == "call_module":
            return bool(self.modules[str(node.target)].inplace)
        return node.target in ("relu_", torch.relu_) or bool(node.kwargs.get("inplace"))

    def order(self) -> dict[fx.Node, int]:
        """Each node's place."""
        return {node: i for i, node in enumerate(self.graph.graph.nodes)}

    def add(self, node: fx.Node, first: fx.Node, second: fx.Node) -> None:
        """A sum: by the convolution that made the later summand, in the place of the earlier one if that is free."""
        order = self.order()
        earlier, later = sorted((first, second), key=order.__getitem__)
        step = self.steps[later]
        own = isinstance(step, SparseConvolution) and step.least != 0 and step.pool is None and len(later.users) == 1
        free = all(x in self.steps and order[x] < order[later] for x in earlier.users if x is not node)
        if own and free:
            later.args = (later.args[0], earlier)
            node.replace_all_uses_with(later)
            self.graph.graph.erase_node(node)
        else:
            self.replace(node, Affine(edge=self.edge), first, second)

    def plain_inputs(self, node: fx.Node, maps: list[fx.Node]) -> None:
        """Give a node that knows no maps tensors."""
        for x in maps:
            name, step = ("flat", Plain(1)) if x in self.flat else ("plain", Plain())
            self.graph.add_submodule(name, step)
            with self.graph.graph.inserting_before(node):
                node.replace_input_with(x, self.graph.graph.call_module(name, (x,)))


def takes_mean(node: fx.Node, module: nn.Module | None) -> bool:
    """Does it take the mean of all pixels?"""
    size = module.output_size if type(module) is nn.AdaptiveAvgPool2d else options(node).get("output_size")
    return (type(module) is nn.AdaptiveAvgPool2d or node.target is F.adaptive_avg_pool2d) and size in (1, (1, 1))


def flattens(node: fx.Node, module: nn.Module | None) -> bool:
    """Does it make one dimension of all but the first?"""
    if type(module) is nn.Flatten:
        return (module.start_dim, module.end_dim) == (1, -1)
    return node.target in FLATTEN and options(node) in ({"start_dim": 1}, {"start_dim": 1, "end_dim": -1})


def options(node: fx.Node) -> dict[str, Any]:
    """All but the input, by name."""
    names = ("output_size",) if node.target is F.adaptive_avg_pool2d else ("start_dim", "end_dim")
    return {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
