"""Checkpoints: complete or not at all, verified before they are read, and without anything that could run.

    checkpoints.save(content, folder)       # beside its place, verified, renamed; the one before is kept
    checkpoints.read(path)                  # tensors and plain data, or an error that names the file
    checkpoints.resumable("runs/mixed")     # the newest complete one

`perceiver.resume.WholeCheckpoints` gives them to Lightning. docs/reliability.md says what can go wrong and what happens then.
"""

from perceiver.checkpoints.folder import load, remove, save
from perceiver.checkpoints.manifest import Damaged, verify
from perceiver.checkpoints.newest import check_local, read, resumable
from perceiver.checkpoints.room import bytes_needed, check_room

__all__ = ["Damaged", "bytes_needed", "check_local", "check_room", "load", "read", "remove", "resumable", "save", "verify"]
