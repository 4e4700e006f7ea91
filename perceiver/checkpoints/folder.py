"""Checkpoints as folders: complete or not there, and never without the one before.

    last.ckpt/
      weights.safetensors   the task's weights under their names
      state.safetensors     all other tensors: of the optimizer, of metrics, of random numbers
      state.json            the rest, as plain data
      MANIFEST.json         sizes and SHA-256 of all three, written last

A new one is written beside its place, on the same file system, as `last.ckpt.part`. When it verifies, what is in its place becomes
`last.ckpt.previous`, and it takes the place. So at any moment one of the three is complete, whatever happens to the process or the machine.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from perceiver.checkpoints.content import check_kept, is_name, pack, unpack
from perceiver.checkpoints.manifest import MANIFEST, Damaged, Manifest, seal, sync, verify, write_text

WEIGHTS, TENSORS, STATE = "weights.safetensors", "state.safetensors", "state.json"
PART, PREVIOUS = ".part", ".previous"  # behind the name of a checkpoint


def part_of(folder: Path) -> Path:
    """Where a checkpoint is written before it takes its place."""
    return folder.with_name(folder.name + PART)


def previous_of(folder: Path) -> Path:
    """Where the one goes that was in its place."""
    return folder.with_name(folder.name + PREVIOUS)


def save(content: Mapping[str, Any], folder: Path) -> None:
    """Writes a checkpoint; the one that is there becomes the previous one.

    Args:
        content: as Lightning makes it: `state_dict`, `global_step`, and what else there is.
        folder: its place.

    Raises:
        ValueError: when something in it could only be kept as a pickle; nothing is touched then.
        OSError: when it cannot be written, saying how many bytes it takes and are free; what is there stays.
    """
    tensors: dict[str, Tensor] = {}
    rest, weights = dict(content), {}
    if is_flat(content.get("state_dict")):
        weights = rest.pop("state_dict")
        for name, weight in weights.items():
            check_kept(weight, name)
    state = pack(rest, tensors)
    part = part_of(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        settle(folder)
        part.mkdir()
    except OSError as error:  # what is there as a part may be the newest complete checkpoint: it stays
        raise not_written(folder, bytes_of(content), error) from error
    try:
        write_tensors(weights, part / WEIGHTS)
        write_tensors(tensors, part / TENSORS)
        write_text(part / STATE, json.dumps(state, allow_nan=False))
        seal(part, (WEIGHTS, TENSORS, STATE), int(content.get("global_step", 0)))
        verify(part)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise not_written(folder, bytes_of(content), error) from error
    take_place(folder)


def take_place(folder: Path) -> None:
    """Puts a checkpoint that was written in its place, and what is there in that of the previous one."""
    if os.path.lexists(folder):
        remove_folder(previous_of(folder))
        os.rename(folder, previous_of(folder))
    os.rename(part_of(folder), folder)
    sync(folder.parent)


def settle(folder: Path) -> None:
    """Ends what a process that was killed began: what it wrote completely takes its place, what it did not is removed."""
    part = part_of(folder)
    if not part.exists():
        return
    if not folder.exists():
        try:
            verify(part)
        except Damaged:
            pass
        else:
            os.rename(part, folder)
            return
    remove_folder(part)


def remove(folder: Path) -> None:
    """Removes a checkpoint, and what was written beside it."""
    for one in (folder, part_of(folder), previous_of(folder)):
        remove_folder(one)


def remove_folder(folder: Path) -> None:
    """Removes a folder or file, if it is there; the manifest first, so that half of a folder never passes for a checkpoint."""
    if folder.is_dir() and not folder.is_symlink():
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


def load(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint, all of it verified before any of it is read. Runs nothing that stands in it.

    Raises:
        Damaged: naming the file that is not what was written.
    """
    check_complete(folder)
    try:
        tensors = load_file(folder / TENSORS)
        content = unpack(json.loads((folder / STATE).read_text(encoding="utf-8")), tensors)
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise Damaged(f"{folder} is damaged: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise Damaged(f"{folder / STATE} holds a {type(content).__name__}, not a checkpoint")
    return {"state_dict": weights} | content


def check_complete(folder: Path) -> Manifest:
    """Reads all files of a checkpoint, and compares them with its manifest, which must name all that `save` writes.

    Raises:
        Damaged: naming the file that is missing, or not what was written.
    """
    manifest = verify(folder)
    if missing := {WEIGHTS, TENSORS, STATE} - manifest.files.keys():
        raise Damaged(f"{folder} has no {min(missing)}")
    return manifest


def is_flat(state: Any) -> bool:
    """Whether it is tensors by name, and nothing else."""
    return isinstance(state, Mapping) and all(isinstance(key, str) and is_name(key) and isinstance(value, Tensor) for key, value in state.items())


def write_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Writes tensors, each with memory of its own, as the format wants it, and waits until they are on disk."""
    seen: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        own = tensor.detach().to("cpu").contiguous()
        if own.untyped_storage().data_ptr() in seen or own.untyped_storage().nbytes() != own.nbytes:
            own = own.clone()
        seen.add(own.untyped_storage().data_ptr())
        plain[name] = own
    save_file(plain, file, metadata={"format": "pt"})
    sync(file)


def bytes_of(content: Mapping[str, Any]) -> int:
    """Bytes of the tensors in a checkpoint."""
    tensors: dict[str, Tensor] = {}
    pack(content, tensors)
    return sum(tensor.nbytes for tensor in tensors.values())


def not_written(folder: Path, needed: int, error: Exception) -> OSError:
    """What is said when a checkpoint cannot be written."""
    free = shutil.disk_usage(folder.parent).free if folder.parent.is_dir() else 0
    why = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    kept = f"; {folder} is as it was before" if folder.exists() else ""
    return OSError(
        number_of(error), f"the checkpoint {folder} cannot be written: it takes {needed:,} bytes, and {free:,} are free there ({why}){kept}"
    )


def number_of(error: Exception) -> int:
    """The number of an error of the system, which safetensors only writes into its message."""
    said = re.search(r"os error (\d+)|code: (\d+)", str(error))
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return int(said[1] or said[2]) if said else errno.EIO
