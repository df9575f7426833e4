"""How fast a sparse network answers on a CPU: `sparse_inference` against what runs the same network dense."""

import copy
import io
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import models
from models import classifiers
from sparselearning import Masking, sparse_inference
from utils.benchmarks.step import images_per_second, result, take_turns
from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.data.recipes import SIDE

CIFAR_CLASSES, IMAGENET_CLASSES = 10, 1000
PAUSE = 0.02  # seconds, after which the threads of the way before no longer wait for work and take a core

Runs = dict[str, Callable[[], object]]


def inference(options: BenchmarkOptions) -> dict[str, float]:
    """How many times as fast a sparse network is as torch, which runs it dense in the faster of its memory formats.

    The connections lie at random at ERK's densities. All ways to run the network take turns, with torch's number of
    threads, which OMP_NUM_THREADS sets; `torch_compile` (with --compile) and `onnx_runtime` (where it is installed)
    are ratios likewise.
    """
    side = SIDE if options.data == "cifar" else options.image_size
    if options.data == "cifar":
        model = models.build(options.model, CIFAR_CLASSES)
    else:
        model = classifiers.build(options.model, IMAGENET_CLASSES, side)
    Masking(model, torch.optim.SGD(model.parameters(), 0.1), "static", options.density)
    model.eval()
    images = torch.randn(options.batch_size, 3, side, side)
    sparse = sparse_inference(model, images)
    runs: Runs = {"sparse": lambda: sparse(images), **dense_runs(model, images, options.compile)}
    with torch.inference_mode():
        times = take_turns(options, {name: partial(milliseconds, run) for name, run in runs.items()})
    own = times.pop("sparse")
    dense = min(times["contiguous"], times["channels_last"], key=lambda column: column.median().item())
    ratios = {name: (column / own).quantile(0.5).item() for name, column in times.items()}
    return images_per_second(result(dense / own, own, dense), options.batch_size) | ratios


def dense_runs(model: nn.Module, images: Tensor, compiled: bool) -> Runs:
    """The ways to run the network dense that are there, by name."""
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    last_images = images.to(memory_format=torch.channels_last)
    runs: Runs = {"contiguous": lambda: model(images), "channels_last": lambda: last(last_images)}
    if compiled:
        fast = torch.compile(model)
        runs["torch_compile"] = lambda: fast(images)
    try:
        import onnx  # noqa: F401  # torch's exporter needs it
        import onnxruntime
    except ImportError:
        return runs
    file = io.BytesIO()
    torch.onnx.export(model, (images,), file, input_names=["images"], dynamo=False)  # type: ignore[arg-type]
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.add_session_config_entry("session.force_spinning_stop", "1")  # not while others have their turn
    session = onnxruntime.InferenceSession(file.getvalue(), settings, providers=["CPUExecutionProvider"])
    runs["onnx_runtime"] = lambda: session.run(None, {"images": images.numpy()})
    return runs


def milliseconds(run: Callable[[], object]) -> float:
    """How long the second of two calls takes, which finds its threads awake and its weights in the cache."""
    time.sleep(PAUSE)
    run()
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)
