"""Processes for tests, from a fork server that has imported everything, so that a new one costs milliseconds."""

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.tiny"])


def start(task: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A new process that does `task`; the exit status of the run it returns becomes its own."""
    process = _SERVER.Process(target=_child, args=(task, args, kwargs))
    process.start()
    return process


def _child(task: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    torch.set_num_threads(1)
    result = task(*args, **kwargs)
    if isinstance(result, tuple):
        print(*result[1:], flush=True)
        sys.exit(result[0])


def launch(world: int, task: Callable[..., Any], *args: Any, timeout: float = 120, **kwargs: Any) -> list[int]:
    """Do `task` in `world` processes of one gloo group, as torchrun would start them; returns their exit statuses."""
    port = free_port()
    group = [start(_ranked, rank, world, port, task, args, kwargs) for rank in range(world)]
    return finish(group, timeout)


def finish(processes: Sequence[Any], timeout: float = 120) -> list[int]:
    deadline = time.monotonic() + timeout
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0.1))
    statuses = [process.exitcode for process in processes]
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    return statuses


def _ranked(rank: int, world: int, port: int, task: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",  # such a group is one of CPUs
    }  # fmt: skip
    return task(*args, **kwargs)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
