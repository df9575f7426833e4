"""The examples of the READMEs, as they stand there."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sparselearning

LIBRARY = Path(sparselearning.__file__).parent
READMES = LIBRARY.parent / "README.md", LIBRARY / "README.md"
LIBRARIES = ("timm", "transformers", "lightning")


def examples() -> list[str]:
    return [text for file in READMES for text in re.findall(r"```python\n(.*?)```", file.read_text(), re.DOTALL)]


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_example_trains_a_sparse_network(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    (example,) = (text for text in examples() if re.search(rf"^(import|from) {library}\b", text, re.MULTILINE))
    names: dict[str, Any] = {}
    exec(example, names)
    masking = names["masking"] if library == "timm" else names["masking"].masking
    assert masking.step > 0
    parameters = dict(masking.model.named_parameters())
    assert sum(int(parameters[name].count_nonzero()) for name in masking.masks) <= masking.nnz == masking.target_nnz
    assert masking.nnz / masking.num_weights == pytest.approx(0.1, abs=1e-3)


def test_the_loop_and_its_tickets_give_a_sparse_network() -> None:
    loop, tickets = (next(t for t in examples() if line in t) for line in ("in loader:", "superposition.add("))
    torch.manual_seed(0)
    model = nn.Linear(20, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batch = torch.randn(4, 20), torch.randint(10, (4,))

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        for _ in range(epochs):
            F.cross_entropy(model(batch[0]), batch[1]).backward()
            optimizer.step()
            optimizer.zero_grad()

    names: dict[str, Any] = {"model": model, "optimizer": optimizer, "loader": [batch] * 3, "F": F, "train": train}
    exec(loop, names)
    exec(tickets, names)
    assert names["masking"].step == 3 + 3 * 8
    assert names["masking"].updates == names["superposition"].tickets == 3
    assert model.weight.count_nonzero() == round(0.1 * 200)


def test_no_library_is_imported_that_is_not_asked_for() -> None:
    check = f"import sys, sparselearning; sys.exit(bool({{*{LIBRARIES}}} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", check], cwd=LIBRARY.parent, check=False).returncode == 0
