"""The table of options: groups with their help, what they may be, and the recipes of the papers as defaults."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sparselearning.distributions import DISTRIBUTIONS
from sparselearning.initialization import SCORED
from sparselearning.methods import GROWTH, METHODS
from sparselearning.phases import CYCLES
from sparselearning.superposition import AVERAGES, PRUNINGS
from utils.command_line.paths import place
from utils.data.recipes import FLIPS

PRECISIONS = ("no", "bf16", "fp16")
SWITCHES = ("sup_tickets", "edst", "snapshot", "fge")  # the phases of a run; without any, one normal phase
# an option does nothing without one of these
NEEDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("method", "density", "init_density", "sparse_init", "update_frequency", "prune_rate",
                     "prune_rate_decay", "growth", "prune_end", "exempt", "sup_tickets", "edst", "update_limit",
                     "rewind", "fine_tune_epochs", "fine_tune_lr"), ("sparse",)),
    **dict.fromkeys(("cycle_epochs", "ticket_fraction", "lr_low", "lr_high"), ("sup_tickets", "fge")),
    **dict.fromkeys(("explore_rate", "explore_drop", "explore_growth", "cycle_lr", "superpose", "cima_beta", "bn",
                     "include_normal", "prune_average"), ("sup_tickets",)),
    **dict.fromkeys(("exploration_epochs", "refine_epochs", "global_explore_rate"), ("edst",)),
    **dict.fromkeys(("num_tickets", "save_tickets"), SWITCHES),
    "temperature": ("distill",),
}  # fmt: skip
# or with one of these, and why
IDLE: tuple[tuple[Sequence[str], Sequence[str], str], ...] = (
    (SWITCHES, ("fine_tune_epochs", "fine_tune_lr"), "whose own phases follow the pruning"),
    (("snapshot",), ("lr_drops", "lr_parts", "warmup"), "whose learning rate is its own"),
    (("edst",), ("lr_drops",), "whose learning rate is its own"),
    (("rewind",), ("sparse_init",), "which says which connections exist: leave one out"),
)
# or without a method that prunes like this
PRUNING = {
    **dict.fromkeys(("init_density", "prune_end"), "gradual"),
    **dict.fromkeys(("fine_tune_epochs", "fine_tune_lr"), "one-shot"),
}
# NaN fits nowhere: every comparison with it is false
RANGES: tuple[tuple[Sequence[str], Callable[[float], bool], str], ...] = (
    (("epochs", "batch_size", "gradient_accumulation_steps", "update_frequency", "update_limit", "cycle_epochs",
      "num_tickets", "limit_train", "limit_test", "exploration_epochs", "refine_epochs", "fine_tune_epochs",
      "image_size"), lambda v: v >= 1, "a positive number"),
    (("ensemble",), lambda v: v >= 2, "at least 2"),
    (("lr", "lr_low", "lr_high", "fine_tune_lr", "clip_grad_norm", "checkpoint_minutes", "temperature", "width"),
     lambda v: 0 < v < math.inf, "a positive number"),
    (("weight_decay", "norm_weight_decay", "workers"), lambda v: 0 <= v < math.inf, "zero or a positive number"),
    (("momentum", "valid_fraction", "label_smoothing", "warmup", "cima_beta"), lambda v: 0 <= v < 1, "in [0, 1)"),
    (("lr_drops", "ticket_fraction", "save_early"), lambda v: 0 < v < 1, "in (0, 1)"),
    (("prune_rate", "explore_rate", "global_explore_rate"), lambda v: 0 <= v <= 1, "in [0, 1]"),
    (("mean",), lambda v: 0 <= v <= 1, "in [0, 1]"),
    (("density", "init_density", "prune_end", "std"), lambda v: 0 < v <= 1, "in (0, 1]"),
    (("seed",), lambda v: 0 <= v < 2**63, "between 0 and 2^63"),
    # far beyond any use, and before anything is made of that size
    (("epochs", "cycle_epochs", "exploration_epochs", "refine_epochs", "fine_tune_epochs"), lambda v: v <= 100_000,
     "100,000 or less"),
    (("num_tickets", "ensemble", "workers"), lambda v: v <= 1000, "1,000 or less"),
    (("batch_size", "gradient_accumulation_steps", "temperature", "clip_grad_norm"), lambda v: v <= 1_000_000,
     "1,000,000 or less"),
    (("update_frequency", "update_limit", "limit_train", "limit_test"), lambda v: v <= 10**9, "1,000,000,000 or less"),
    (("image_size",), lambda v: v <= 2048, "2,048 or less"),
    (("width",), lambda v: v <= 10, "10 or less"),
    (("lr", "lr_low", "lr_high", "fine_tune_lr", "weight_decay", "norm_weight_decay"), lambda v: v <= 1000,
     "1,000 or less"),
)  # fmt: skip

_SWITCH = {"action": "store_true"}
GROUPS: tuple[tuple[str, str | None, dict[str, dict[str, Any]]], ...] = (
    ("data", None, {
        "data": {"metavar": "NAME", "help": "main_cifar.py: cifar10, cifar100, digits, which needs no download, or "
                 "any name with --data-dir; main_imagenet.py: a data set of the Hub, else ILSVRC/imagenet-1k"},
        "data_dir": {"type": place, "metavar": "FOLDER", "help": "read the data here instead of from the Hub: "
                     "parquet, ImageFolder, save_to_disk or torchvision's CIFAR files"},
        "label_column": {"metavar": "NAME", "help": "the column of a table that holds the labels, where several may"},
        "limit_train": {"type": int, "metavar": "N", "help": "use the first N training images only; of a folder per "
                        "class, one of each class in turn"},
        "limit_test": {"type": int, "metavar": "N", "help": "use the first N test images only"},
        "valid_fraction": {"type": float, "metavar": "F", "help": "hold out this part of the training images, to tune "
                           "on it instead of on the test set"},
    }),
    ("model and optimiser", "SGD with momentum; the learning rate falls to a tenth at each of --lr-drops.", {
        "model": {"metavar": "NAME", "help": "main_cifar.py: vgg16, resnet50, wrn28-10 or resnet20; "
                  "main_imagenet.py: any classifier of torchvision"},
        "epochs": {"type": int, "metavar": "N", "help": "length of the whole run, tickets included"},
        "width": {"type": float, "metavar": "F", "help": "channels of every layer, times the usual: 0.34 makes the "
                  "Small-Dense network of 90 %% sparsity"},
        "batch_size": {"type": int, "metavar": "N", "help": "images per process and backward pass"},
        "lr": {"type": float, "help": "learning rate at the start"},
        "lr_drops": {"type": float, "nargs": "+", "metavar": "F",
                     "help": "when it falls to a tenth, in parts of the normal phase or the run; to "
                     "whole epochs"},
        "lr_parts": {"choices": ["normal", "run"], "help": "what --lr-drops and --warmup are parts of"},
        "warmup": {"type": float, "metavar": "F", "help": "length of a linear warm-up, to whole optimizer steps"},
        "scale_lr": {**_SWITCH, "help": "all learning rates times the images per optimizer step / 128"},
        "momentum": {"type": float, "help": "of SGD"},
        "clip_grad_norm": {"type": float, "metavar": "N",
                           "help": "scale gradients down to this norm, of the connections that exist"},
        "weight_decay": {"type": float, "help": "on all parameters"},
        "norm_weight_decay": {"type": float, "help": "on those of norm layers, where it is to be another"},
        "label_smoothing": {"type": float, "metavar": "F", "help": "part of a label that goes to all classes alike"},
        "distill": {"type": place, "nargs": "+", "metavar": "TICKET", "help": "learn from these teachers too, each as "
                    "much as from the labels"},
        "temperature": {"type": float, "metavar": "T", "help": "by which the logits of teachers and student are "
                        "divided"},
    }),
    ("sparse training", "Without --sparse the network is dense and the options below are refused.", {
        "sparse": {**_SWITCH, "help": "train a sparse network"},
        "method": {"choices": list(METHODS), "help": "how connections are chosen and moved"},
        "density": {"type": float, "metavar": "D", "help": "fraction of convolution and linear weights that is kept"},
        "init_density": {"type": float, "metavar": "D", "help": "granet: the density it starts from"},
        "sparse_init": {"choices": [*DISTRIBUTIONS, *SCORED], "help": "which connections exist at first: at random, "
                        "or by SNIP's scores, of all layers together or of each (the method's: erk; uniform for snfs "
                        "and dsr; snip)"},
        "update_frequency": {"type": int, "metavar": "STEPS", "help": "optimizer steps between topology updates, ΔT "
                             "(--update-limit, or a twentieth of the normal phase where that is less)"},
        "update_limit": {"type": int, "metavar": "STEPS", "help": "the longest ΔT without --update-frequency"},
        "prune_rate": {"type": float, "metavar": "P", "help": "part of a layer's connections exchanged per update, p "
                       "(0.5; dsr 0.08)"},
        "prune_rate_decay": {"choices": ["constant", "cosine", "linear"], "help": "how p falls over a phase"},
        "growth": {"choices": [*GROWTH, "none"], "help": "score by which connections grow (the method's; static, snip, "
                   "gmp and pf grow only at the start of a cycle: by gradient, or none)"},
        "prune_end": {"type": float, "metavar": "F", "help": "granet, gmp: part of the run after which the final "
                      "density is reached, with the next topology update"},
        "fine_tune_epochs": {"type": int, "metavar": "N", "help": "pf: epochs after pruning (half of them all)"},
        "fine_tune_lr": {"type": float, "metavar": "LR", "help": "pf: learning rate after pruning"},
        "rewind": {"type": place, "metavar": "RUN", "help": "lottery ticket rewinding: start from the connections of "
                   "this run's ticket, and from its weights of --save-early"},
        "exempt": {"nargs": "+", "metavar": "PATTERN", "help": "weights to leave dense, by name: 'classifier.*'"},
    }),
    ("Sup-tickets", "The end of the run in short cycles: explore once, train, take a ticket; superpose them.", {
        "sup_tickets": {**_SWITCH, "help": "end with cheap tickets and superpose them"},
        "cycle_epochs": {"type": int, "metavar": "C", "help": "length of a cycle"},
        "ticket_fraction": {"type": float, "metavar": "F", "help": "part of the epochs for cycles, rounded down to "
                            "whole cycles; 0.1 without"},
        "num_tickets": {"type": int, "metavar": "M", "help": "number of tickets (as many cycles as fit the fraction; "
                        "edst 3, snapshot 12, fge 5)"},
        "explore_rate": {"type": float, "metavar": "P", "help": "part of the connections exchanged at a cycle's start"},
        "explore_drop": {"nargs": "+", "choices": ["smallest", "largest"], "help": "whose magnitude goes then; "
                         "several take turns with the cycles"},
        "explore_growth": {"nargs": "+", "choices": [*GROWTH, "none"], "help": "and by which score connections come "
                           "(--growth, else the method's); likewise"},
        "cycle_lr": {"choices": list(CYCLES), "help": "learning rate of a cycle: up and down; down and up, with the "
                     "ticket between; or up at once and down"},
        "lr_low": {"type": float, "metavar": "LR", "help": "learning rate at both ends of a cycle"},
        "lr_high": {"type": float, "metavar": "LR", "help": "learning rate in the middle of a cycle"},
        "superpose": {"choices": list(AVERAGES), "help": "averaging: connection independent, aware, or moving"},
        "cima_beta": {"type": float, "metavar": "B", "help": "cima: weight of the tickets before the newest"},
        "prune_average": {"choices": list(PRUNINGS), "help": "back to the density: after every averaging, and the next "
                          "goes on from there, as in the papers; or only the last, of the plain mean"},
        "bn": {"choices": ["average", "recompute"], "help": "batch-norm statistics of the superposed ticket: mean and "
               "variance averaged, or one more pass over the training data, as in SWA"},
        "include_normal": {**_SWITCH, "help": "average the model at the end of the normal phase in too, as the "
                           "released code does"},
        "save_tickets": {**_SWITCH, "help": "keep each ticket as tickets/ticket-N.safetensors, and evaluate their "
                         "ensemble"},
    }),
    ("ensembles", "Tickets whose predictions are averaged. They are kept, and summary.json has test.ensemble.", {
        "edst": {**_SWITCH, "help": "FreeTickets in one run: explore, then refine again and again, a ticket each time"},
        "exploration_epochs": {"type": int, "metavar": "N", "help": "length of the exploration phase"},
        "refine_epochs": {"type": int, "metavar": "N", "help": "length of each refinement"},
        "global_explore_rate": {"type": float, "metavar": "Q", "help": "part of the connections exchanged between "
                                "refinements"},
        "snapshot": {**_SWITCH, "help": "dense: the run in cosine cycles, a ticket after each (Huang et al. 2017)"},
        "fge": {**_SWITCH, "help": "dense: the end of the run in cycles, a ticket in each (Garipov et al. 2018)"},
        "ensemble": {"type": int, "metavar": "M", "help": "train M independent runs and evaluate the ensemble of "
                     "their tickets (with rigl: FreeTickets' DST ensemble)"},
    }),
    ("runtime", None, {
        "seed": {"type": int, "help": "of weights, connections, data order and augmentation"},
        "mixed_precision": {"choices": PRECISIONS, "help": "(the launcher's; else no)"},
        "gradient_accumulation_steps": {"type": int, "metavar": "N", "help": "backward passes per optimizer step"},
        "compile": {**_SWITCH, "help": "torch.compile the model"},
        "deterministic": {**_SWITCH, "help": "on a GPU: only kernels that give the same bits in every run, which is "
                          "slower; a CPU gives them without, with the same number of threads"},
    }),
    ("output", None, {
        "config": {"type": place, "metavar": "FILE.yaml", "help": "options from a file; the command line goes before"},
        "output_dir": {"type": place, "metavar": "FOLDER", "help": "(runs/<data>-<model>-<method>-…)"},
        "overwrite": {**_SWITCH, "help": "replace the run that --output-dir holds"},
        "resume": {"type": place, "metavar": "auto|PATH", "help": "go on from the newest complete checkpoint, or "
                   "from this one"},
        "checkpoint_minutes": {"type": float, "metavar": "T", "help": "time between checkpoints"},
        "save_early": {"type": float, "metavar": "F", "help": "keep the weights after this part of the run as "
                       "early.safetensors, to --rewind to"},
        "dry_run": {**_SWITCH, "help": "print the plan, densities, parameters and FLOPs, and exit"},
    }),
)  # fmt: skip
SMALL: tuple[str, str | None, dict[str, dict[str, Any]]] = ("small images", None, {
    "image_size": {"type": int, "metavar": "PIXELS", "help": "side of the images; those of one's own are resized to it "
                   "(32)"},
    "mean": {"type": float, "nargs": 3, "metavar": ("R", "G", "B"), "help": "of the channels, in units of 0..1 (the "
             "data set's; of one's own, that of the training images)"},
    "std": {"type": float, "nargs": 3, "metavar": ("R", "G", "B"), "help": "standard deviation, likewise"},
    "flip": {"choices": list(FLIPS), "help": "how half of the training images are mirrored (horizontal; digits: none)"},
})  # fmt: skip
PHOTOS: tuple[str, str | None, dict[str, dict[str, Any]]] = ("photographs", None, {
    "image_size": {"type": int, "metavar": "PIXELS", "help": "side of a training or test crop"},
    "streaming": {**_SWITCH, "help": "read parquet files, on the Hub or in --data-dir, as they are needed, and keep no "
                  "copy"},
    "workers": {"type": int, "metavar": "N", "help": "processes that load images, for each process of the run; 0: "
                "none (its cores but one, at most 8)"},
    "eval_only": {**_SWITCH, "help": "evaluate --ticket on the test images, and exit"},
    "ticket": {"type": place, "metavar": "FILE", "help": "a ticket.safetensors of this model"},
})  # fmt: skip

COMMON: dict[str, Any] = {
    "data_dir": None, "label_column": None, "limit_train": None, "limit_test": None, "valid_fraction": 0.0,
    "momentum": 0.9, "lr": 0.1, "lr_parts": "normal", "warmup": 0.0, "scale_lr": False, "clip_grad_norm": None,
    "norm_weight_decay": None, "label_smoothing": 0.0,
    "sparse": False, "method": "rigl", "density": 0.05, "init_density": None, "sparse_init": None,
    "update_frequency": None, "update_limit": 1000, "prune_rate": None, "growth": None, "exempt": (),
    "rewind": None, "fine_tune_epochs": None, "fine_tune_lr": 0.001, "width": 1.0, "distill": (), "temperature": 1.0,
    "sup_tickets": False, "ticket_fraction": None, "num_tickets": None, "explore_rate": 0.5,
    "explore_drop": (), "explore_growth": (), "cycle_lr": "triangle", "superpose": "cia",
    "cima_beta": 0.8, "prune_average": "every", "bn": "average", "include_normal": False, "save_tickets": False,
    "edst": False, "global_explore_rate": 0.8, "snapshot": False, "fge": False, "ensemble": None,
    "seed": 0, "mixed_precision": None, "gradient_accumulation_steps": 1, "compile": False,
    "deterministic": False,
    "config": None, "output_dir": None, "overwrite": False, "resume": None, "checkpoint_minutes": 10.0,
    "save_early": None, "dry_run": False,
}  # fmt: skip
CIFAR: dict[str, Any] = {
    **COMMON, "data": "cifar10", "model": "vgg16", "epochs": 250, "batch_size": 128, "lr_drops": (0.5, 0.75),
    "image_size": None, "mean": None, "std": None, "flip": None,
    "weight_decay": 5e-4, "prune_rate_decay": "constant", "prune_end": 110 / 250,
    "cycle_epochs": 8, "lr_low": 0.001, "lr_high": 0.005, "exploration_epochs": 150, "refine_epochs": 100,
}  # fmt: skip
IMAGENET: dict[str, Any] = {
    **COMMON, "data": None, "model": "resnet50", "epochs": 100, "batch_size": 128,
    "lr_drops": (0.3, 0.6, 0.85), "lr_parts": "run", "warmup": 0.05,
    "weight_decay": 1e-4, "norm_weight_decay": 0.0, "label_smoothing": 0.1,
    "update_limit": 4000, "prune_rate_decay": "cosine", "prune_end": 30 / 100,
    "cycle_epochs": 2, "ticket_fraction": 0.08, "lr_low": 1e-4, "lr_high": 5e-4,
    "exploration_epochs": 30, "refine_epochs": 70,
    "image_size": 224, "streaming": False, "workers": None, "eval_only": False, "ticket": None,
}  # fmt: skip
# what the papers change in a recipe for other phases; for the dense ones as with WRN-28-10 in FreeTickets, Table 6
REGIMES: dict[str, dict[str, Any]] = {
    "edst": {"num_tickets": 3, "save_tickets": True},
    "snapshot": {"epochs": 200, "num_tickets": 12, "save_tickets": True},
    "fge": {"epochs": 200, "cycle_epochs": 4, "num_tickets": 5, "lr_low": 5e-4, "lr_high": 0.05, "save_tickets": True},
}


def recipe_of(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe that the recorded options of a run are changes of."""
    return IMAGENET if "eval_only" in options else CIFAR
