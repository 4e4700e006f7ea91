"""The newest complete checkpoint: what a run goes on from when the one that was asked for is not whole."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perceiver.checkpoints.folder import PART, PREVIOUS, check_complete, load, part_of, previous_of
from perceiver.checkpoints.manifest import MANIFEST, Damaged, read_manifest
from perceiver.checkpoints.single_file import load_file

SUFFIXES = (".ckpt", f".ckpt{PART}", f".ckpt{PREVIOUS}")


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, a folder of this library or a file of `torch.save`: tensors and plain data. Nothing in it is run.

    Raises:
        Damaged: when it is not complete, not what was written, or holds anything else.
        ValueError: when there is none.
    """
    check_local(path)
    if not path.exists():
        raise ValueError(f"there is no checkpoint {path}{hint(path)}")
    content = load(path) if path.is_dir() else load_file(path)
    if not isinstance(content, dict):
        raise Damaged(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def check_local(path: Path) -> None:
    """Refuses addresses: what is fetched from one is to be looked at before it is read, and a folder of that name is not what is meant to be written.

    Raises:
        ValueError: when it is one.
    """
    if "://" in str(path) or str(path).startswith(("http:", "https:", "s3:", "gs:")):
        address = re.sub("^([a-z0-9]+):/+", r"\1://", str(path))  # a path keeps one of two slashes
        raise ValueError(f"{address} is an address: checkpoints are read from and written to this machine. Fetch or send them yourself")


def resumable(path: Path) -> Path:
    """The checkpoint that a run goes on from.

    Args:
        path: a checkpoint, or the folder of a run, or of its checkpoints, whose newest is meant.

    Returns:
        The one that was asked for if it is complete; else the newest complete one beside it, with a warning that says which and why.

    Raises:
        ValueError: when there is none.
        Damaged: when none is complete.
    """
    check_local(path)
    if path.is_dir() and not is_checkpoint(path):
        return newest_in(path / "checkpoints" if (path / "checkpoints").is_dir() else path)
    if not path.exists():
        found = [one for one in (part_of(path), previous_of(path)) if one.exists()]
        if not found:
            raise ValueError(f"there is no checkpoint {path}: give one that a run wrote, or the folder of a run")
        return fall_back(f"{path} is missing", found)
    why = fault(path)
    return path if why is None else fall_back(why, [one for one in candidates(path.parent) if one != path])


def newest_in(folder: Path) -> Path:
    """The newest complete checkpoint in a folder, with a warning when there is a newer one that is not complete.

    Raises:
        ValueError: when there is none.
        Damaged: when none is complete.
    """
    found = by_step(candidates(folder))
    if not found:
        raise ValueError(f"there is no checkpoint in {folder}: give one that a run wrote, or the folder of a run")
    # One whose step cannot be read may be newer than all others.
    first = next((one for one in found if step_of(one) < 0 and fault(one) is not None), found[0])
    why = fault(first)
    return first if why is None else fall_back(why, [one for one in found if one != first])


def fall_back(why: str, others: list[Path]) -> Path:
    """The newest complete one of some checkpoints, said aloud."""
    for one in by_step(others):
        if fault(one) is None:
            warnings.warn(f"{why}: resuming from {one}, step {step_of(one)}, the newest complete checkpoint", stacklevel=3)
            return one
    raise Damaged(f"{why}, and no other checkpoint beside it is complete: train again, or give another one")


def candidates(folder: Path) -> Iterator[Path]:
    """All that looks like a checkpoint in a folder."""
    return (one for one in sorted(folder.iterdir()) if one.name.endswith(SUFFIXES) and (is_checkpoint(one) or one.is_file()))


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is one of a checkpoint, complete or not."""
    return path.is_dir() and ((path / MANIFEST).exists() or path.name.endswith(SUFFIXES))


def fault(path: Path) -> str | None:
    """What is wrong with a checkpoint; None when it is complete."""
    try:
        if path.is_dir():
            check_complete(path)
        else:
            load_file(path)
    except (Damaged, OSError) as error:  # a disk that cannot be read any more, or no right to: then another one is looked for
        return str(error)
    return None


def step_of(path: Path) -> int:
    """The step of the training at which a checkpoint was written; -1 where it does not say."""
    try:
        return read_manifest(path).step if path.is_dir() else int(read(path).get("global_step", -1))
    except (ValueError, TypeError, OSError):
        return -1


def by_step(paths: Any) -> list[Path]:
    """The newest first; of those of one step, the one that was written last."""
    return sorted(paths, key=lambda path: (step_of(path), path.stat().st_mtime_ns), reverse=True)


def hint(path: Path) -> str:
    """Where to look instead, when there is no checkpoint at a place."""
    beside = [one.name for one in candidates(path.parent)] if path.parent.is_dir() else []
    return f": beside it are {', '.join(beside)}" if beside else ""
