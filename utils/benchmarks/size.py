"""How small a ticket is kept: a packed file against a dense one of the same network."""

import tempfile
import time
from pathlib import Path

import torch

from models import build
from sparselearning import Masking, load_ticket
from sparselearning.tickets import packed, plain
from utils.command_line.commands.benchmark import BenchmarkOptions

CLASSES = 10
ROUNDED = ("bf16", "fp16")


def size(options: BenchmarkOptions) -> dict[str, float]:
    """Bytes of a dense file over those of a packed one, both float32, and over those of shorter values.

    The connections lie at random at ERK's densities; their number makes the size, not what they are worth. The times
    are those of writing a file and reading it again, in turns.
    """
    model = build(options.model, CLASSES)
    Masking(model, torch.optim.SGD(model.parameters(), 0.1), "static", options.density)
    ticket = model.state_dict()
    dense, own = (len(write(ticket, {})) for write in (plain, packed))
    with tempfile.TemporaryDirectory() as scratch:
        file, rows = Path(scratch) / "ticket.safetensors", []
        for _ in range(options.warm_up + options.repetitions):
            row = []
            for write in (packed, plain):
                start = time.perf_counter()
                file.write_bytes(write(ticket, {}))
                load_ticket(file)
                row.append(1000 * (time.perf_counter() - start))
            rows.append(row)
    ms, dense_ms = torch.tensor(rows[options.warm_up :]).quantile(0.5, dim=0).tolist()
    rounded = {values: dense / len(packed(ticket, {}, values)) for values in ROUNDED}
    exact = dict.fromkeys(("ratio", "low", "high"), dense / own)
    return {**exact, "n": options.repetitions, "ms": ms, "against_ms": dense_ms, "bytes": own, **rounded}
