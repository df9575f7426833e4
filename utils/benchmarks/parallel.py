"""How many runs side by side on one device train most images: 1, 2, 4, 8 or 16 processes, plain and compiled."""

import multiprocessing
import os
import time
from dataclasses import replace
from multiprocessing.connection import Connection

import torch

from utils.benchmarks.step import Network, augmented_batches
from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.training.build import choose_kernels

COUNTS = {"cuda": (1, 2, 4, 8, 16), "cpu": (1, 2)}
KINDS = ("plain", "compiled")
WARM_UP = 12  # steps, in which kernels are chosen and graphs recorded
PATIENCE = 240.0  # seconds for a process to start, or to compile
AHEAD = 0.1  # seconds from an order to its start, for all to have it

Rates = dict[str, dict[str, float | str]]  # {"plain": {"2": images per second of 2 processes, or why there are none}}


class Worker:
    """A process that trains networks of its own when told to; `errors` says why a kind of them cannot.

    Args:
        cores: that it compiles with.
    """

    def __init__(self, options: BenchmarkOptions, cores: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=_serve, args=(end, options, cores))
        self.process.start()
        end.close()
        self.errors: dict[str, str] = {}

    def order(self, kind: str, *what: object) -> None:
        """Tell it to build a network of the kind, `build`, or to train it, `train start seconds threads`."""
        if kind not in self.errors:
            try:
                self.pipe.send((kind, *what))
            except OSError:
                self._lose("the process ended")

    def answer(self, kind: str, patience: float = PATIENCE) -> float:
        """Images per second, of an order to train; 0 where it failed."""
        if kind in self.errors:
            return 0.0
        try:
            if self.pipe.poll(patience):
                error, rate = self.pipe.recv()
                self.errors |= {kind: error} if error else {}
                return rate
            self._lose("no answer")
        except (EOFError, OSError):
            self._lose("the process ended")
        return 0.0

    def _lose(self, why: str) -> None:
        self.errors = dict.fromkeys(KINDS, why)
        self.process.kill()


def parallel(options: BenchmarkOptions) -> Rates:
    """Images per second of all processes together, by their number; with `--compile` compiled too.

    The processes start once. The first one compiles while the others start; these find its kernels in torch's cache.
    """
    counts = [n for n in COUNTS[options.device] if n <= (os.cpu_count() or 1)]
    workers = [Worker(options, cores=1 if i else os.cpu_count() or 1) for i in range(counts[-1])]
    try:
        for worker in workers:
            worker.order("plain", "build")
        kinds = KINDS if options.compile else KINDS[:1]
        if options.compile:
            workers[0].order("compiled", "build")
        for worker in workers:
            worker.answer("plain")
        if options.compile:
            workers[0].answer("compiled")
            for worker in workers[1:]:
                if workers[0].errors.keys() == {"compiled"}:  # what one process cannot compile, none can
                    worker.errors = workers[0].errors | worker.errors
                worker.order("compiled", "build")
            for worker in workers[1:]:
                worker.answer("compiled")
        return {kind: {str(n): _together(workers, kind, n, options.seconds) for n in counts} for kind in kinds}
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()


def _together(workers: list[Worker], kind: str, number: int, seconds: float) -> float | str:
    """Images per second of so many processes that train at the same time; why not, where too few are left."""
    able = [worker for worker in workers if kind not in worker.errors][:number]
    if len(able) == number:
        start, threads = time.monotonic() + AHEAD, max((os.cpu_count() or 1) // number, 1)
        for worker in able:
            worker.order(kind, "train", start, seconds, threads)
        rates = [worker.answer(kind, seconds + PATIENCE) for worker in able]
        if all(rates):
            return sum(rates)
    return next(worker.errors[kind] for worker in workers if kind in worker.errors)


def table(rates: Rates) -> str:
    """A line for each number of processes."""
    lines = [f"{'processes':<10}" + "".join(f"{kind + ' images/s':>24}" for kind in rates)]
    for number in next(iter(rates.values())):
        cells = [rates[kind][number] for kind in rates]
        shown = [f"{cell:,.0f}" if isinstance(cell, float) else cell[:40] for cell in cells]
        lines.append(f"{number:<10}" + "".join(f"{cell:>24}" for cell in shown))
    return "\n".join(lines)


def _serve(pipe: Connection, options: BenchmarkOptions, cores: int) -> None:
    """The process of a worker: orders in, (error, images per second) out."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(cores)  # read at the first compilation
    choose_kernels(deterministic=False)
    torch.set_num_threads(max((os.cpu_count() or 1) // COUNTS[options.device][-1], 1))
    networks: dict[str, Network] = {}
    while True:
        try:
            kind, what, *how = pipe.recv()
        except EOFError:  # the benchmark is over
            return
        try:
            if what == "build":
                own = replace(options, compile=kind == "compiled")
                networks[kind] = Network(own, augmented_batches(own), sparse=True)
                for _ in range(WARM_UP):
                    networks[kind].step()
                _wait_for_device(options)
                pipe.send(("", 0.0))
            else:
                pipe.send(("", _train(networks[kind], options, *how)))
        except Exception as error:  # the others go on
            networks.pop(kind, None)
            pipe.send((f"{type(error).__name__}: {' '.join(str(error).split())}"[:200], 0.0))


def _train(network: Network, options: BenchmarkOptions, start: float, seconds: float, threads: int) -> float:
    """Images per second of the time from `start` on, a moment of time.monotonic, until the device is done."""
    torch.set_num_threads(threads)
    time.sleep(max(start - time.monotonic(), 0))
    steps = 0
    while time.monotonic() < start + seconds:  # the host goes ahead of a GPU as far as that takes orders
        network.step()
        steps += 1
    _wait_for_device(options)
    return steps * options.batch_size / (time.monotonic() - start)


def _wait_for_device(options: BenchmarkOptions) -> None:
    if options.device == "cuda":
        torch.cuda.synchronize()
