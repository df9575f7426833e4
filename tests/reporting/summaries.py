"""Finished runs for the report, made of nothing but their summaries."""

import json
from pathlib import Path

import yaml

PLAIN = {
    "data": "cifar10", "model": "vgg16", "method": "rigl", "sup_tickets": False, "seed": 0, "epochs": 250,
    "density": 0.05, "maskable": 100, "nnz": 5, "nnz_per_layer": {"a": 5},
    "test": {"final": {"accuracy": 93.0, "nll": 0.25, "ece": 0.03}, "tickets": []},
    "flops": {"train_ratio": 0.21, "test_ratio": 0.22}, "images_per_second": 1.0, "train_seconds": 1.0,
}  # fmt: skip


def metrics(accuracy: float, nll: float = 0.5) -> dict[str, float]:
    return {"accuracy": accuracy, "nll": nll, "ece": 0.02}


def sup_tickets(seed: int, superposed: float, **other: object) -> dict[str, object]:
    test = {"normal": metrics(90.0 + seed), "tickets": [metrics(91.0 + seed), metrics(92.0 + seed)],
            "final": metrics(92.0 + seed), "superposed": metrics(superposed, nll=0.4)}  # fmt: skip
    return {**PLAIN, "sup_tickets": True, "seed": seed, "test": test, **other}


def write(folder: Path, summary: object, **args: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    if args:
        (folder / "args.yaml").write_text(yaml.safe_dump(args))
    return folder
