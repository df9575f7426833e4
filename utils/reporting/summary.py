"""What a run is going to be, and what it has come to: the plan, the closing table and summary.json."""

import math
from collections.abc import Sequence
from typing import cast

from sparselearning.layers import maskable_weights
from sparselearning.masking import Masking
from sparselearning.phases import Phase
from sparselearning.superposition import Ticket
from utils.files.whole import write_json
from utils.reporting.board import PICTURES
from utils.reporting.plots import draw_learning_curve, draw_sparsity
from utils.reporting.tables import markdown, models_cells, models_table, results
from utils.reporting.tracking import Tracker
from utils.run_folder.contents import Summary, to_use
from utils.training.plan import lr_scale, lr_warning
from utils.training.run import Run


def describe(run: Run) -> str:
    """The plan of a run before it starts: model, connections, cost and phases."""
    options, masking = run.options, run.masking
    dense, ratio = run.costs.dense(), run.costs.test_ratio()
    parameters = sum(p.numel() for p in run.model.parameters())
    lines = [
        f"{options.data}: {len(run.data.train):,} training and {len(run.data.test):,} test images, {_epoch(run)}",
        f"{options.model}: {parameters:,} parameters, {dense / 1e9:.3f} GFLOPs per image when dense",
        f"optimizer step: {_step(run)}, learning rate {lr_scale(options, run.batches.size) * options.lr:g}",
    ]
    if options.of_members is not None:
        trained, inferred = run.costs.trained * run.costs.test_ratio({}), run.costs.test_ratio({})
        lines.append(
            f"{options.of_members.title}: a batch has each image {options.batch_repetitions}x; dense, a step "
            f"costs {trained:.2f}x, inference {inferred:.2f}x the FLOPs of {options.model} itself"
        )
    if warning := lr_warning(options, run.batches.size, run.batches.parts):
        lines.append(warning)
    if masking is not None:
        interval = f"{masking.update_frequency} steps" if masking.update_frequency > 1 else "step"
        every = f", connections move every {interval}" if masking.moves else ""
        lines.append(
            f"{masking.method.title}: {masking.target_nnz:,} of {masking.num_weights:,} maskable weights at the end "
            f"(density {masking.density:g}), {masking.nnz:,} and {ratio:.3f}x the FLOPs at the start{every}"
        )
    shown = run.data.train.labels.unique()
    if 0 < len(shown) < run.data.num_classes and shown.min() >= 0:  # -1: not known yet
        lines.append(f"warning: only {len(shown)} of {run.data.num_classes} classes are among the training images")
    return "\n".join([*lines, plan_table(run.phases, run.batches.steps, masking)])


def _epoch(run: Run) -> str:
    """How many steps it has, and what becomes of a rest of the images."""
    steps, rest = run.batches.steps, len(run.data.train) - run.batches.steps * run.batches.size
    fate = f", {rest} images left out" if rest > 0 else f", the last of {run.batches.size + rest}" if rest < 0 else ""
    return f"{steps:,} {'steps' if steps > 1 else 'step'} per epoch{fate}"


def _step(run: Run) -> str:
    """How many images, and how they come together."""
    options = run.options
    factors = [(run.accelerator.num_processes, "processes"), (options.gradient_accumulation_steps, "backward passes")]
    product = "".join(f"{count} {what} × " for count, what in factors if count > 1)
    return f"{product}{options.batch_size} images" + (f" = {run.batches.size:,} images" if product else "")


def layer_table(run: Run) -> str:
    """Shape, weights and density of every masked layer at the start."""
    if run.masking is None:
        return ""
    lines = [f"{'layer':<36s} {'shape':>18s} {'weights':>11s} {'active':>11s} {'density':>8s}"]
    for name, weight in run.masking.weights.items():
        active, shape = run.masking.active[name], "×".join(map(str, weight.shape))
        lines.append(f"{name:<36s} {shape:>18s} {weight.numel():>11,d} {active:>11,d} {active / weight.numel():8.4f}")
    return "\n".join(lines)


def summarize_run(run: Run, ticket: Ticket) -> Summary:
    """The content of summary.json, counted from the ticket; an ensemble takes as many passes as it has tickets."""
    masks = run.masks
    names = list(masks) or list(maskable_weights(run.model))
    nnz = {name: int(ticket[name].count_nonzero()) for name in names}
    densities = {name: nnz[name] / ticket[name].numel() for name in masks}
    images = min(len(run.data.train), run.batches.steps * run.batches.size)  # of an epoch
    passes = len(run.results["tickets"]) if "ensemble" in run.results and run.superposition is None else 1
    summary = {
        **run.about(),
        "maskable": sum(ticket[name].numel() for name in names),
        "nnz": sum(nnz.values()),
        "nnz_per_layer": nnz,
        "weights_per_layer": {name: ticket[name].numel() for name in names},
        "flops_per_layer": {name: run.costs.layers[name].flops() for name in names if name in run.costs.layers},
        "test": run.results,
        "flops": run.costs.summary(run.options.epochs, run.batches.steps, images, densities, passes),
        "images_per_second": run.step / run.batches.steps * images / run.seconds,
        "train_seconds": run.seconds,
    }
    return cast(Summary, summary)


def finish(run: Run, ticket: Ticket, tracker: Tracker) -> None:
    """Draw the pictures and write the summary, of the ticket to use; the tracker and the log get them too."""
    if not run.accelerator.is_main_process:
        return
    summary, folder = summarize_run(run, ticket), run.folder
    draw_learning_curve(folder / "learning_curve.png", run.history, run.phases, summary["test"])
    if run.masks:
        draw_sparsity(folder / "sparsity_per_layer.png", summary["nnz_per_layer"], summary["weights_per_layer"])
    pictures = [path for name in PICTURES if (path := folder / name).exists()]
    cells = models_cells("model", results(summary["test"]))
    tracker.finish(to_use(summary["test"]), markdown(cells), pictures)
    write_json(folder / "summary.json", summary)  # last: it says that the run is finished
    tracker.log(
        f"{closing_table(summary)}\n{folder}/ holds ticket.safetensors, learning_curve.png, summary.json and more"
    )


def closing_table(summary: Summary) -> str:
    """Each ticket, their superposition, nnz and FLOPs."""
    flops = summary["flops"]
    return (
        f"{models_table('model', results(summary['test']))}\n"
        f"{summary['nnz']:,} of {summary['maskable']:,} weights (density {summary['nnz'] / summary['maskable']:.4f}), "
        f"training {flops['train']:.3g} FLOPs ({flops['train_ratio']:.2f}x of as many dense epochs), "
        f"inference {flops['test_ratio']:.2f}x, "
        f"{summary['train_seconds'] / 60:.1f} min at {summary['images_per_second']:,.0f} images/s"
    )


def plan_table(plan: Sequence[Phase], steps_per_epoch: int, masking: Masking | None) -> str:
    """The phases of a run, a line each."""
    lines = [f"{'phase':<11s} {'epochs':>13s} {'steps':>17s} {'lr: first, max, last':>29s}  connections"]
    for phase in plan:
        steps = phase.end - phase.start
        rates = [phase.lr(i) for i in [*range(0, steps, math.ceil(steps / 10_000)), steps // 2, steps - 1]]
        epochs = f"{phase.start / steps_per_epoch:.4g}–{phase.end / steps_per_epoch:.4g}"
        lines.append(
            f"{phase.name:<11s} {epochs:>13s} {phase.start:>8d}–{phase.end:<8d} "
            f"{rates[0]:>9.4g} {max(rates):>9.4g} {rates[-1]:>9.4g}  "
            f"{_movement(phase, masking)}{', ends in a ticket' if phase.ticket else ''}"
        )
    return "\n".join(lines)


def _movement(phase: Phase, masking: Masking | None) -> str:
    """How connections move in a phase."""
    if masking is None:
        return "dense"
    moves, explore = [], phase.explore
    if explore is not None and (growth := explore.growth or masking.exploration_growth) != "none":
        moves.append(f"explore {explore.rate:g} of the {explore.drop}, grow by {growth} first")
    if phase.updates and masking.moves:
        moves.append("move every ΔT")
    if masking.method.pruning == "one-shot" and masking.prune_end == phase.end:
        moves.append("pruned at the end")
    return ", ".join(moves) or "fixed"
