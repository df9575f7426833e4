"""The house: which rooms may import which, how long a file may be, and that no signature says Any."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("sparselearning", "models", "utils")
SOURCES = sorted([*(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")), *ROOT.glob("main_*.py")])
TREES = {".".join(file.relative_to(ROOT).with_suffix("").parts): ast.parse(file.read_text()) for file in SOURCES}

ROOMS = (  # each imports those before it alone; on top of them are commands and scripts
    "sparselearning", "models", "utils.files", "utils.data", "utils.command_line", "utils.run_folder", "utils.training",
    "utils.evaluations", "utils.reporting", "utils.benchmarks",
)  # fmt: skip
FLOORS = {room: floor for floor, room in enumerate(ROOMS)}

GENERATORS = "sparselearning.cpu."  # its functions write kernels: their values are Numba's and LLVM's, without types
# where else no other type fits, and why
EXCEPTIONS = {
    "sparselearning.flops.__torch_function__": "torch gives it whatever any of its functions takes",
    "sparselearning.flops._attention_outputs": "the arguments of a function of torch, by name",
    "sparselearning.callbacks.lightning.on_load_checkpoint": "Lightning's checkpoint",
    "sparselearning.callbacks.transformers.on_train_begin": "the Trainer's keywords",
    "sparselearning.callbacks.transformers.on_pre_optimizer_step": "the Trainer's keywords",
    "utils.command_line.rows.option": "keywords of Row, which checks them",
    "utils.command_line.rows.derived": "keywords of Row, which checks them",
    "utils.command_line.rows.required": "keywords of Row, and as dataclasses.field it is of the type of any field",
}


def imports(module: str) -> Iterator[str]:
    """The modules of the project that one imports."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from {name if name in TREES else node.module for name in names} & {*TREES, *PACKAGES}
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & {*TREES, *PACKAGES}


PACKAGES = {name.removesuffix(".__init__") for name in TREES if name.endswith(".__init__")}


def room(module: str) -> str | None:
    """None: a command or an entry script, on top of all."""
    return next((name for name in FLOORS if module == name or module.startswith(f"{name}.")), None)


def goes_back(module: str, other: str) -> bool:
    """Does an import lead to a room that is not below?"""
    here, there = room(module), room(other)
    return here != there and FLOORS.get(here or "", len(ROOMS)) <= FLOORS.get(there or "", len(ROOMS))


def test_no_import_goes_to_a_room_above() -> None:
    assert [(module, other) for module in TREES for other in imports(module) if goes_back(module, other)] == []


def circle(module: str, graph: dict[str, set[str]], path: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Modules that import each other, where the search from this one meets such; it empties the graph on its way."""
    if module in path:
        return (*path[path.index(module) :], module)
    for other in graph.get(module, set()):
        if found := circle(other, graph, (*path, module)):
            return found
    graph[module] = set()  # no circle goes through it
    return ()


def test_no_modules_import_each_other() -> None:
    graph = {module: {*imports(module)} - {module} for module in TREES if not module.endswith("__init__")}
    assert [found for module in [*graph] if (found := circle(module, graph))] == []


@pytest.mark.parametrize("file", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda file: file.name)
def test_a_file_has_at_most_250_lines(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 250


def annotations(node: ast.AST) -> list[ast.expr | None]:
    """Those of a signature, or of an attribute."""
    if isinstance(node, ast.AnnAssign):
        return [node.annotation]
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    given = node.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [node.returns, *(argument.annotation for argument in every if argument is not None)]


def says_any(annotation: ast.expr | None) -> bool:
    nodes = ast.walk(annotation) if annotation is not None else ()
    return any("Any" in (getattr(node, "id", ""), getattr(node, "attr", "")) for node in nodes)


def with_any(module: str) -> Iterator[str]:
    for node in ast.walk(TREES[module]):
        if any(map(says_any, annotations(node))):
            yield f"{module}.{getattr(node, 'name', getattr(node, 'lineno', ''))}"


def test_no_signature_says_any() -> None:
    """mypy sees to that too, but not where arrays of NumPy are, which are generic in Any."""
    modules = [module for module in TREES if not module.startswith(GENERATORS)]
    assert {name for module in modules for name in with_any(module)} == {*EXCEPTIONS}


def test_scikit_learn_is_imported_by_the_functions_that_use_it() -> None:
    """It takes more than a second, and most runs use none of it."""
    tops = [(module, node.module) for module, tree in TREES.items() for node in tree.body
            if isinstance(node, ast.ImportFrom)]  # fmt: skip
    assert [module for module, name in tops if (name or "").startswith("sklearn")] == []


def test_the_checks_find_what_they_look_for() -> None:
    assert goes_back("utils.files.whole", "utils.data.rows")
    assert goes_back("utils.data.cifar", "utils.command_line.rows")
    assert goes_back("models.vgg", "utils.pack") and goes_back("utils.training.run", "main_cifar")
    assert not goes_back("main_cifar", "utils.training.run") and not goes_back("utils.data.cifar", "utils.data.rows")
    ring = ["a", "b", "c", "a"]
    graph = {"d": {"a"}} | {one: {other} for one, other in pairwise(ring)}
    assert circle("d", graph) == tuple(ring)
    (function,) = ast.parse("def f(x: int, **more: dict[str, Any]) -> None: ...").body
    assert [says_any(annotation) for annotation in annotations(function)] == [False, False, True]
