"""A data worker hangs, as when a network file system does not answer."""

import inspect
import json
import math
from pathlib import Path

from perceiver.data import MixedDataModule
from tests.faults.processes import fit_words
from tests.faults.scoreboard import Fell
from tests.faults.subjects.faulty_runs import HANGS, aftermath, worker_lost
from tests.toy_datasets import toy_mixture

FAULT = "a data worker that hangs"
EXPECTED = "an error after a time that is limited by default, naming the samples that are waited for; nothing is left"

LIMIT, WITHIN, WATCHED = 4.0, 20.0, 15.0  # seconds: what is set here, how long that may take, and how long a peer is watched
LONGEST = 600.0  # seconds that a default may be


def ours(folder: Path) -> str:
    """With a limit that is short, and by default one that is not endless."""
    default = inspect.signature(MixedDataModule).parameters["timeout"].default
    data = toy_mixture(num_workers=1)
    data.setup("fit")
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    if not 0 < default <= LONGEST or math.isinf(default) or any(one.loader.timeout != default for one in loaders):
        raise Fell(f"by default it waits for {[one.loader.timeout for one in loaders]} s, where 0 means for ever")
    strike = [{"class_path": "tests.faults.subjects.faulty_ours.StrikeWorker", "init_args": {"how": "hangs", "folder": str(folder)}}]
    limit = (f"--data.init_args.timeout={LIMIT}", "--data.init_args.num_workers=2")
    words = fit_words(folder / "run", *limit, f"--data.init_args.datasets.images.augment={json.dumps(strike)}")
    found = aftermath(folder, *words, within=HANGS)
    said = worker_lost(found, WITHIN, f"timed out after {LIMIT} seconds", ", with rows images/row-")
    if found.returncode != 2:
        raise Fell(f"exit code {found.returncode}: {said}")
    return f"{said}; the limit is {default:g} s by default"


def lightning(folder: Path) -> str:
    """With the limit that there is by default."""
    return peer("lightning", folder)


def transformers(folder: Path) -> str:
    """With the limit that there is by default."""
    return peer("transformers", folder)


def accelerate(folder: Path) -> str:
    """With the limit that there is by default."""
    return peer("accelerate", folder)


def peer(subject: str, folder: Path) -> str:
    """Trains with two workers, one of which hangs."""
    from torch.utils.data import DataLoader

    default = inspect.signature(DataLoader).parameters["timeout"].default
    found = aftermath(folder, "-m", f"tests.faults.subjects.faulty_{subject}", "hangs", str(folder), within=WATCHED)
    if found.returncode is None:
        raise Fell(f"it still waited after {WATCHED:g} s; the limit is {default} by default, which means that there is none")
    return worker_lost(found, WATCHED, "timed out", "row")
