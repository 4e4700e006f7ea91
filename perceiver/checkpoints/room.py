"""Room: whether checkpoints can be written where they are to go, asked before training starts rather than when the first is due."""

import os
import resource
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from torch import nn


def bytes_needed(module: nn.Module) -> int:
    """Bytes of a checkpoint: all weights, and two more numbers for each that learns, as Adam has them."""
    weights = sum(value.nbytes for value in module.state_dict().values())
    return weights + 2 * sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)


def check_room(folder: Path, needed: int, checkpoints: Iterable[str]) -> None:
    """Tries to write into a folder, and compares what is free with what will be kept: two of each checkpoint, and one more while it is written.

    Args:
        folder: made when it is not there.
        needed: bytes of one checkpoint.
        checkpoints: their names, such as `last.ckpt`.

    Raises:
        OSError: when it cannot be written to, or there is no room.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise OSError(f"checkpoints cannot be written to {folder} ({error.strerror}): give a folder that can, or make room") from error
    largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest != resource.RLIM_INFINITY and needed > largest:
        raise OSError(f"a checkpoint takes {needed:,} bytes, and this process may write files of {largest:,} only (ulimit -f): raise it")
    there = sum(file.stat().st_size for name in checkpoints for file in folder.glob(f"{name}*/*") if file.is_file())
    total = (2 * len(set(checkpoints)) + 1) * needed
    free = shutil.disk_usage(folder).free
    if total > free + there:
        raise OSError(
            f"{folder} has {free:,} bytes free, and checkpoints take up to {total:,}: two each of {', '.join(sorted(set(checkpoints)))} "
            f"with {needed:,} bytes, and one that is being written. Make room, or give another folder with --run_dir"
        )
