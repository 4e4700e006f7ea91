"""The disk runs full while a checkpoint is written."""

from pathlib import Path

from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm, mixture, resume
from tests.faults.subjects.disk import empty, small
from tests.faults.subjects.trace import same, steps

FAULT = "the disk runs full during a save"
EXPECTED = "an error that names the checkpoint; the one before is intact and can be resumed"

MEGABYTES = 8
LEFT = 100_000  # bytes: more than the weights, and less than the rest


def ours(folder: Path) -> str:
    """The whole run folder is on the disk. A run that is started on a full one must not begin."""
    whole, run = folder / "whole", folder / "disk"
    with Warm("ours") as train:
        if (done := train(*mixture(whole))).returncode:
            raise Fell(done.said)
        with small(run, MEGABYTES):
            failed = train(*mixture(run, Fill={"step": 8, "folder": str(run), "left": LEFT}))
            told = failed.said
            if (
                failed.returncode != 2
                or "last.ckpt cannot be written: it takes " not in told
                or " bytes" not in told
                or "as it was before" not in told
            ):
                raise Fell(f"exit code {failed.returncode}: {told}")
            if (run / "filler").exists():  # where a disk could be mounted
                before = len(steps(run))
                refused = train(*mixture(run, *resume(run)))
                if refused.returncode != 2 or len(steps(run)) != before or "bytes free" not in refused.said:
                    raise Fell(f"it was resumed on a full disk: {refused.said}")
            empty(run)
            if (done := train(*mixture(run, *resume(run)))).returncode:
                raise Fell(f"it could not be resumed: {done.said}")
            same(whole, run, 7)
    return told


def lightning(folder: Path) -> str:
    """Temporary files are on another disk, as they are by default where checkpoints are."""
    return peer("lightning", folder)


def transformers(folder: Path) -> str:
    """With `resume_from_checkpoint=True`."""
    return peer("transformers", folder)


def accelerate(folder: Path) -> str:
    """`save_state` into a folder for each save: into one alone it needs no more room than it has."""
    return peer("accelerate", folder)


def peer(subject: str, folder: Path) -> str:
    """Checkpoints at the ends of epochs, of 10 steps each; full in the second. The checkpoints alone are on the disk."""
    options = ("--in_order", "--keep", "--save_every", 10, "--steps", 24)
    whole, run, disk = folder / "whole", folder / "run", folder / "disk"
    with Warm(subject) as train, small(disk, MEGABYTES):
        if (done := train(whole, *options)).returncode:
            raise Fell(done.said)
        failed = train(run, "--checkpoints", disk, "--fill_at", 15, *options)
        if not failed.returncode:
            raise Fell("no error")
        empty(disk)
        done = train(run, "--checkpoints", disk, "--resume", *options)
        if done.returncode:
            raise Fell(f"{failed.said}; with room again it cannot be resumed: {done.said}")
        same(whole, run, 10)
    if str(disk) not in failed.said:
        raise Fell(f"it can be resumed, but the error names no file: {failed.said}")
    return failed.said
