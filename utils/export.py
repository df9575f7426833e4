"""The network of a ticket as one file that runs without this project: ONNX, or torch.export's form.

python -m utils.export --ticket runs/NAME/ticket.safetensors                       ticket.onnx beside it
python -m utils.export --ticket hf://OWNER/NAME --to pt2 --batch-size 1            NAME.pt2, for one image at a time
python -m utils.export --ticket runs/NAME/ticket.packed.safetensors --output vgg16.onnx

The network is written in its dense form, absent connections as zeros. Its input `images` are normalized as the ticket's
data are; how, stands in the file's metadata too. What was written is read again, and must compute the same.
"""

from utils.command_line.commands.export import ExportOptions
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(ExportOptions, __doc__)

import io
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sparselearning.errors import UsageError
from sparselearning.tickets import located
from utils.command_line.errors import one_line_errors
from utils.command_line.paths import writing
from utils.data.large_images import MEAN, STD
from utils.data.recipes import RECIPES, Recipe
from utils.files.whole import write_whole
from utils.run_folder.headers import TicketHeader, parse_header, preprocessing_of, required
from utils.run_folder.tickets import read_ticket
from utils.training.networks import Builder, builder_for

OPSET = 18  # of ONNX
TOLERANCE = 1e-4  # of outputs, relative to the largest of them
METADATA = "metadata.json"  # of a .pt2, in its `extra_files`
Network = Callable[[Tensor], Tensor]


def built(path: Path, header: TicketHeader, options: ExportOptions) -> tuple[nn.Module, Builder]:
    """The network with the values of the ticket, for evaluation. Raises UsageError where there is none."""
    if header.efficient_ensemble:
        raise UsageError(f"{path} is {header.efficient_ensemble.title}, which has no such form: give a plain ticket")
    ticket = read_ticket(path)
    builder = builder_for(path, ticket, header, options.model, options.image_size)
    model = builder.build()
    model.load_state_dict(ticket)
    return model.eval(), builder


def about(header: TicketHeader, builder: Builder, options: ExportOptions) -> dict[str, str]:
    """What the file says of itself, above all how to feed it. Raises UsageError where the ticket does not say that."""
    data = options.data or header.data
    mean: Sequence[float] | None = MEAN
    std: Sequence[float] | None = STD
    if not builder.large:  # main_imagenet.py has no other
        data = required("data", data)
        recipe = RECIPES.get(data, Recipe()).changed(preprocessing_of([header], data))
        mean, std = recipe.mean, recipe.std
    if mean is None or std is None:
        raise UsageError("the ticket says only one of the mean and the deviation of its images: its header is damaged")
    return {
        "model": builder.name,
        "data": data or "unknown",
        "classes": str(builder.num_classes),
        "image_size": str(builder.image_size),
        "mean": " ".join(map(str, mean)),
        "std": " ".join(map(str, std)),
        "input": "images: float32 (N, 3, side, side), RGB in 0..1, minus mean, divided by std",
        "output": "logits: float32 (N, classes)",
    }


def traced(model: nn.Module, side: int, batch_size: int | None) -> ExportedProgram:
    """The network as a graph; of one batch size, or of any."""
    example = torch.zeros(batch_size or 2, 3, side, side)  # a batch of one would be taken for a constant
    shapes = None if batch_size else ({0: Dim("batch")},)
    return torch.export.export(model, (example,), dynamic_shapes=shapes)


def onnx(program: ExportedProgram, said: Mapping[str, str]) -> bytes:
    """The content of an ONNX file. Raises UsageError where the versions of what makes it do not go together."""
    inputs, outputs = ["images"], ["logits"]
    try:
        exported = torch.onnx.export(
            program, (), dynamo=True, opset_version=OPSET, verbose=False, input_names=inputs, output_names=outputs
        )
        assert exported is not None  # as of older exporters
        exported.model.metadata_props.update(said)
        content: bytes = exported.model_proto.SerializeToString()
    except RuntimeError as error:  # of the exporter, and of the library that writes
        found = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnx", "onnxscript", "protobuf"))
        raise UsageError(f"no ONNX by {found}: install versions as old as this torch, or --to pt2") from error
    return content


def pt2(program: ExportedProgram, said: Mapping[str, str]) -> bytes:
    """The content of a file of torch.export."""
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={METADATA: json.dumps(said)})
    return content.getvalue()


def read_onnx(path: Path) -> Network | None:
    """What an ONNX file computes; None: nothing here runs it."""
    try:
        import onnxruntime
    except ImportError:
        return None
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def read_pt2(path: Path) -> Network:
    return torch.export.load(path).module()


FORMS = {"onnx": (onnx, read_onnx), "pt2": (pt2, read_pt2)}


def difference(network: Network, model: nn.Module, side: int, batch_sizes: Iterable[int]) -> float:
    """The largest of the outputs for random images, relative to the largest output."""
    worst = 0.0
    for size in batch_sizes:
        images = torch.randn(size, 3, side, side, generator=torch.Generator().manual_seed(size))
        expected = model(images)
        worst = max(worst, ((network(images) - expected).abs().max() / expected.abs().max()).item())
    return worst


@one_line_errors()
@torch.no_grad()
def main(options: ExportOptions) -> None:
    missing = [name for name in ("onnx", "onnxscript") if options.to == "onnx" and find_spec(name) is None]
    if missing:
        raise UsageError(f"--to onnx needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    path = located(options.ticket)
    header = parse_header(path)
    model, builder = built(path, header, options)
    said, (write, read), side = about(header, builder, options), FORMS[options.to], builder.image_size
    with warnings.catch_warnings(action="ignore"):  # of torch and its libraries to one another
        content = write(traced(model, side, options.batch_size), said)
    with writing("--output", options.target):
        write_whole(options.target, content)
    network = read(options.target)
    checked = "not checked, for which: pip install onnxruntime"
    if network is not None:
        found = difference(network, model, side, [options.batch_size] if options.batch_size else [1, 5])
        if not found <= TOLERANCE:
            options.target.unlink()
            raise UsageError(f"{options.target} would differ by {found:.1e} of the largest logit: it is not kept")
        checked = f"{found:.1e} of the largest, the largest difference of the file, read again, from the network"
    form = f"ONNX, opset {OPSET}" if options.to == "onnx" else f"torch.export of torch {torch.__version__}"
    count = options.batch_size or "N"
    print(f"{options.target}: {len(content) / 1e6:.2f} MB, {form}, {builder.name}, {builder.num_classes} classes")
    print(f"images: float32 ({count}, 3, {side}, {side}), RGB in 0..1, minus {said['mean']}, divided by {said['std']}")
    print(f"logits: float32 ({count}, {builder.num_classes}), {checked}")


if __name__ == "__main__":
    main(OPTIONS)
