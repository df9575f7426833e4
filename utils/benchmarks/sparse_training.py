"""What FLOPs that are not computed are worth in seconds: training steps on a CPU by sparse kernels and dense ones."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

import sparselearning
from sparselearning.flops import forward_flops, layer_costs
from utils.benchmarks.step import Network, augmented_batches, result, take_turns
from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.data.recipes import SIDE


def sparse_training(options: BenchmarkOptions) -> dict[str, object]:
    """How many times as fast a whole training step is by sparse kernels as the dense network's, in float32 and bf16.

    One network of each density, the dense one and the dense one under bf16 autocast take turns, on one batch over and
    over, with torch's number of threads, which OMP_NUM_THREADS sets. Connections lie at random at ERK's densities and
    stay where they are. The results of the first density, and `densities` with those of all; `flops` are the counted
    ones of a step, of the dense network's.
    """
    options = replace(options, device="cpu", mixed_precision="no", compile=False)
    batches = itertools.repeat(next(augmented_batches(options)))
    dense = Network(options, batches, sparse=False)
    networks = {"fp32": dense, "bf16": Network(replace(options, mixed_precision="bf16"), batches, sparse=False)}
    costs = layer_costs(dense.model, (3, SIDE, SIDE))
    flops = {}
    for density in options.densities:
        network = networks[f"{density:g}"] = Network(replace(options, density=density), batches, sparse=True)
        parts = {name: network.masking.active[name] / w.numel() for name, w in network.masking.weights.items()}
        flops[f"{density:g}"] = forward_flops(costs, parts) / forward_flops(costs)
        sparselearning.sparse_training(network.masking)
    times = take_turns(options, {name: network.steps for name, network in networks.items()})
    results = {name: _against(times[name], times) | {"flops": part} for name, part in flops.items()}
    if options.plot is not None:
        _draw(options.plot, results)
    return next(iter(results.values())) | {"densities": results}


def _against(own: torch.Tensor, times: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """The numbers of one density; its ratio is the dense network's time in float32 over its own."""
    found = result(times["fp32"] / own, own, times["fp32"])
    bf16 = {"bf16": (times["bf16"] / own).quantile(0.5).item(), "bf16_ms": times["bf16"].quantile(0.5).item()}
    return found | {"fp32": found["ratio"]} | bf16


def _draw(path: Path, results: Mapping[str, Mapping[str, float]]) -> None:
    """A picture: the measured time of a step and its counted FLOPs over density, both of the dense network's."""
    from utils.reporting.style import ACCENT, COLORS, FAINT, bare, plt, save

    densities = sorted(results, key=float)
    x = [100 * float(density) for density in densities]
    found = [results[density] for density in densities]
    figure, axis = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    axis.plot(x, [r["ms"] / r["against_ms"] for r in found], "o-", color=ACCENT, label="measured time, sparse kernels")
    axis.plot(x, [r["flops"] for r in found], "s--", color=COLORS[0], label="counted FLOPs")
    bf16 = found[0]["bf16_ms"] / found[0]["against_ms"]
    for level, name in ((1.0, "dense, float32"), (bf16, "dense, bf16")):
        axis.axhline(level, color=FAINT, linewidth=1)
        axis.annotate(name, (x[0], level), xytext=(0, 3), textcoords="offset points", color=FAINT)
    axis.set(xscale="log", xlabel="density (%)", ylabel="of the dense step in float32", ylim=(0, 1.15))
    axis.set_xticks(x, [f"{value:g}" for value in x])
    axis.minorticks_off()
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 0.86))
    bare(axis)
    save(figure, path)
