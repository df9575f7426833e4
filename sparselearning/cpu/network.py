"""A network as a graph whose sparse layers hand maps to one another."""

import operator
from collections.abc import Container
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from sparselearning.cpu.layers import SparseConvolution, zeros_around
from sparselearning.cpu.steps import Affine, Plain, Pool, SparseLinear

RELU = (F.relu, torch.relu, torch.relu_, "relu", "relu_")
ADD = (operator.add, operator.iadd, torch.add, "add", "add_")


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

    def visit(self, node: fx.Node) -> None:
        """Replace one node, or give it tensors."""
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        maps = [x for x in node.all_input_nodes if x in self.steps]
        if module is not None and str(node.target) in self.chosen:
            if isinstance(module, nn.Linear):
                self.plain_inputs(node, maps)
                self.graph.set_submodule(str(node.target), SparseLinear(module))
            else:
                self.replace(node, SparseConvolution(module, edge=self.edge))  # type: ignore[arg-type]
        elif maps and (type(module) is nn.ReLU or node.target in RELU):
            self.rectify(node, maps[0])
        elif maps and type(module) is nn.BatchNorm2d and module.running_mean is not None:
            self.replace(node, Affine(module, edge=self.edge))
        elif maps and module is not None and Pool.fits(module):
            self.replace(node, Pool(module, edge=self.edge))  # type: ignore[arg-type]
        elif len(maps) == 2 and node.target in ADD and not node.kwargs:
            self.add(node, *maps)
        else:
            self.plain_inputs(node, maps)

    def replace(self, node: fx.Node, step: nn.Module, *arguments: fx.Node) -> None:
        """Let a step make what the node made, of the same inputs if no others are given."""
        name = f"step_{len(self.steps)}"
        self.graph.add_submodule(name, step)
        with self.graph.graph.inserting_after(node):
            new = self.graph.graph.call_module(name, arguments or tuple(node.all_input_nodes))
        node.replace_all_uses_with(new)
        self.graph.graph.erase_node(node)
        self.steps[new] = step

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
        own = isinstance(step, SparseConvolution) and step.least != 0 and len(later.users) == 1
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
            self.graph.add_submodule("plain", Plain())
            with self.graph.graph.inserting_before(node):
                node.replace_input_with(x, self.graph.graph.call_module("plain", (x,)))
