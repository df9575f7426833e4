"""The library installs by itself, typed, with torch as all that it needs; the scripts run from a checkout."""

import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOOP = """
import torch
from torch import nn
from sparselearning import Masking, take_ticket

model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
masking = Masking(model, optimizer, method="rigl", density=0.25, update_frequency=2)
for step in range(6):
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
ticket = take_ticket(model.state_dict(), masking.masks)
print(sum(int(ticket[name].count_nonzero()) for name in masking.masks), masking.updates)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools leaves a build folder behind."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "pyproject.toml", "sparselearning", "utils", "models", "main_cifar.py", "LICENSE"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_library_alone_and_says_that_it_is_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith("METADATA")]
        requires = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist")
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"sparselearning"}
    assert "sparselearning/py.typed" in names
    assert {f"sparselearning/{path.name}" for path in (ROOT / "sparselearning").glob("*.py")} <= {*names}
    assert {"sparselearning/callbacks/transformers.py", "sparselearning/cpu/kernels.py"} <= {*names}
    assert [line for line in requires if "extra" not in line] == ["torch>=2.6"]


def with_requirements(name: str) -> set[str]:
    """A distribution and all that it needs, as far as it is installed."""
    found, new = set(), {name}
    while new:
        found |= new
        needs = [Requirement(line) for one in new for line in metadata.requires(one) or ()]
        names = {need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})}
        new = {name for name in names - found if any(metadata.distributions(name=name))}
    return {name.lower().replace("_", "-") for name in found}


def test_the_installed_library_trains_outside_of_the_checkout_with_torch_alone(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    torch = with_requirements("torch")
    others = {
        module for module, owners in metadata.packages_distributions().items()
        if module != "sparselearning" and not torch & {owner.lower().replace("_", "-") for owner in owners}
    }  # fmt: skip
    assert {"numpy", "accelerate", "safetensors"} <= others
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
    code += f"sys.modules |= dict.fromkeys({others!r})\n"  # importing one of them is an error
    code += LOOP + "import sparselearning; print(sparselearning.__file__)"
    command = [sys.executable, "-I", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    counts, place = result.stdout.split("\n")[:2]
    assert counts == "48 3"  # round(0.25·192)
    assert Path(place).is_relative_to(tmp_path)


def test_names_are_there_before_torch_is_imported() -> None:
    """Command lines read the tables of names, and torch takes seconds."""
    tables = "methods, averages, distributions, phases"
    code = f"""
import sys, sparselearning
from sparselearning import {tables}
assert "torch" not in sys.modules
names = {{*sparselearning.__all__}}
assert names <= {{*dir(sparselearning)}} and not hasattr(sparselearning, "Maskin")
from sparselearning import *
assert names <= {{*globals()}} and Masking is sparselearning.masking.Masking
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
