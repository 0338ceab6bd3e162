"""Work that several processes do together, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def _in_a_process(work: Callable[[int], Any], rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    try:
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(work(rank)))
    finally:
        dist.destroy_process_group()


def in_processes(work: Callable[[int], Any], folder: Path, ranks: int = 2) -> list[Any]:
    """What `work(rank)` gave in each of `ranks` forked processes that know each other by gloo."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_in_a_process, args=(work, rank, ranks, folder)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * ranks
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(ranks)]
