"""What the peers are given that is broken: rows that cannot be read, workers that die or hang, losses that are none, batches that are too large."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, get_worker_info

from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm
from tests.faults.subjects.faulty_files import check_live, has_run, pack_tight, peak_bytes, save_with_payload
from tests.faults.subjects.faulty_runs import error_in
from tests.faults.subjects.faulty_strikes import limit_memory, strike

ROWS, FEATURES, CLASSES = 40, 16, 4
STRUCK = 17  # the row at which something happens
SPOILED = 5  # the step at which the loss is none
STEPS = 10
SHOWN = re.compile(r"'loss': '?([^',}]+)")  # in what the Trainer of transformers prints
PICTURE = 24  # pixels along a side
MEMORY = 600_000_000  # bytes that a training may take beside what it has when it starts
MANY_ROWS = 80_000  # of a batch that takes more


class Samples(Dataset[dict[str, Tensor]]):
    """Rows of numbers.

    Args:
        rows: how many.
        features: of a row.
    """

    def __init__(self, rows: int = ROWS, features: int = FEATURES) -> None:
        draw = torch.Generator().manual_seed(1)
        self.rows = torch.randn(rows, features, generator=draw)
        self.labels = torch.randint(CLASSES, (rows,), generator=draw)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"rows": self.rows[index], "labels": self.labels[index]}


class StrikingSamples(Samples):
    """Rows, one of which kills the data worker that reads it, or lets it hang.

    Args:
        how: "killed" or "hangs".
        folder: where it is noted when that was.
    """

    def __init__(self, how: str, folder: Path) -> None:
        super().__init__()
        self.how = how
        self.folder = folder

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index == STRUCK and get_worker_info() is not None:
            strike(self.how, self.folder)
        return super().__getitem__(index)


class Pictures(Dataset[dict[str, Tensor]]):
    """Picture files, decoded by Pillow when they are asked for.

    Args:
        folder: that they are in.
    """

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.png"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        with Image.open(self.files[index]) as picture:
            pixels = np.asarray(picture.convert("L"), dtype=np.float32)[:4, :4]
        return {"rows": torch.from_numpy(pixels / 255).flatten(), "labels": torch.tensor(index % CLASSES)}


class Judged(nn.Module):
    """A small network, and how wrong it is.

    Args:
        features: of a row.
        spoiled: what the loss is multiplied with in one step.
    """

    def __init__(self, features: int = FEATURES, spoiled: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 1024), nn.GELU(), nn.Linear(1024, CLASSES))
        self.spoiled = spoiled
        self.steps = 0

    def forward(self, rows: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy of some rows."""
        self.steps += 1
        loss = cross_entropy(self.layers(rows), labels)
        return loss * self.spoiled if self.steps == SPOILED else loss


# Trains a network: its folder, the network, rows, and `batch_size`, `workers`, and `resume`, a checkpoint to go on from.
Train = Callable[..., None]


def act(words: Sequence[str], train: Train) -> None:
    """Trains on what is broken, and tells in the last line whether the weights are numbers still.

    Args:
        words: what is broken, a folder, and what else it takes.
        train: with a subject's default settings.
    """
    folder = Path(words[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    network, rows, options = Judged(), Samples(), {}
    match list(words):
        case ["train", _]:
            pass
        case ["resume", _, checkpoint]:
            options = {"resume": checkpoint, "steps": 2 * STEPS}
        case ["loss", _, value]:
            network = Judged(spoiled=float(value))
        case ["sample", _]:
            rows.rows[STRUCK, 0] = float("inf")
        case ["pictures", _, where]:
            rows = Pictures(Path(where))
        case ["killed" | "hangs" as how, _]:
            rows, options = StrikingSamples(how, folder), {"workers": 2}
        case ["empty", _]:
            rows = Samples(0)
        case ["memory", _]:
            rows, options = Samples(MANY_ROWS), {"batch_size": MANY_ROWS}
            limit_memory(MEMORY)
        case _:
            raise ValueError(f"{words}: nothing that could be broken")
    train(folder, network, rows, **options)
    finite = all(bool(weight.isfinite().all()) for weight in network.parameters())
    print(f"finished after {network.steps} steps, weights {'are finite' if finite else 'are NaN'}")


def resume_from_bomb(words: Sequence[str], train: Train) -> None:
    """Resumes, and tells in the last line how many bytes it took at its peak."""

    def resume() -> None:
        try:
            act(words, train)
        except Exception as error:
            print(f"{type(error).__name__}: {' '.join(str(error).split())}")

    print(peak_bytes(resume))


def spoil(file: Path, how: str, marker: Path) -> bool:
    """Puts code, or a bomb, into a file of a checkpoint, if `torch.save` wrote it.

    Args:
        file: of a checkpoint that is one's own.
        how: "code" or "bomb".
        marker: the folder that appears when code runs.
    """
    try:
        content = torch.load(file, weights_only=False)
    except Exception:
        return False
    content = content if isinstance(content, dict) else {"content": content}
    if how == "code":
        save_with_payload(content, file, marker)
    else:
        pack_tight(content, file)
    return True


def resumed_from_code(subject: str, folder: Path, checkpoint: str) -> str:
    """Resumes from a checkpoint with code in it, one of its files after the other.

    Args:
        subject: a peer.
        folder: for what is written.
        checkpoint: name of the one that its training leaves.

    Raises:
        Fell: when some code runs, naming the files; or none was asked for at all.
    """
    check_live(folder)
    with Warm(f"faulty_{subject}") as run:
        if (done := run("train", folder / "run")).returncode:
            raise Fell(f"exit code {done.returncode}: {done.said}")
        place = folder / "run" / checkpoint
        ran, held, said = [], [], ""
        for file in [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file()):
            whole, marker = file.read_bytes(), folder / f"ran {file.name}"
            if spoil(file, "code", marker):
                done = run("resume", folder / "again", place)
                (ran if has_run(marker, done.text) else held).append(file.name)
                if file.name in held and done.returncode:
                    said = error_in(done.text)
                if file.name in held and subject == "lightning" and has_run(marker, run("load", place).text):
                    ran.append(f"{file.name} by load_from_checkpoint")
            file.write_bytes(whole)
        if ran:
            raise Fell(f"code in {', '.join(ran)} runs; not that in {', '.join(held) or 'any other'}")
    return f"not in {', '.join(held)}: {said}"


def resumed_from_bomb(subject: str, folder: Path, checkpoint: str, most: int) -> str:
    """Resumes from a checkpoint of which one file after the other is packed, and far larger when it is unpacked.

    Args:
        subject: a peer.
        folder: for what is written.
        checkpoint: name of the one that its training leaves.
        most: bytes that it may take beside those of a training.

    Raises:
        Fell: when it takes more, naming the files.
    """
    with Warm(f"faulty_{subject}") as run:
        if (done := run("train", folder / "run")).returncode:
            raise Fell(f"exit code {done.returncode}: {done.said}")
        place = folder / "run" / checkpoint
        usual = int(run("bomb", folder / "again", place).said)
        took, said = {}, ""
        for file in [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file()):
            whole = file.read_bytes()
            if spoil(file, "bomb", file):
                done = run("bomb", folder / "again", place)
                took[file.name] = max(0, int(done.said) - usual)
                said = error_in(done.text)
            file.write_bytes(whole)
    told = ", ".join(f"{name} took {size / 1e6:.0f} MB" for name, size in took.items())
    if max(took.values()) > most:
        raise Fell(told)
    return f"{told}: {said}"


def goes_on_with(subject: str, folder: Path) -> str:
    """Trains with a loss that is none in one step.

    Raises:
        Fell: when the weights are not finite afterwards.
    """
    said, fallen = [], []
    with Warm(f"faulty_{subject}") as run:
        for value in ("nan", "inf"):
            done = run("loss", folder / value, value)
            shown = SHOWN.findall(done.text)
            told = f"{error_in(done.text)} ({value} was shown as {shown[SPOILED - 1]})" if len(shown) >= SPOILED else error_in(done.text)
            (said if done.returncode else fallen).append(told)
    if fallen:
        raise Fell(fallen[0])
    return said[0]


def goes_on_with_sample(subject: str, folder: Path) -> str:
    """Trains with one infinite number in one sample.

    Raises:
        Fell: when it is taken for good.
    """
    with Warm(f"faulty_{subject}") as run:
        done = run("sample", folder)
    if not done.returncode:
        raise Fell(error_in(done.text))
    return error_in(done.text)


def trains_on_pictures(subject: str, folder: Path) -> str:
    """Trains on pictures of which one cannot be decoded.

    Raises:
        Fell: when the training does not go on, or does so without a word.
    """
    draw = np.random.default_rng(3)
    (folder / "pictures").mkdir()
    for index in range(ROWS):
        Image.fromarray(draw.integers(0, 256, (PICTURE, PICTURE), dtype=np.uint8)).save(folder / "pictures" / f"{index}.png")
    broken = folder / "pictures" / f"{STRUCK}.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with Warm(f"faulty_{subject}") as run:
        done = run("pictures", folder / "run", folder / "pictures")
    if done.returncode:
        raise Fell(f"the training ends{'' if broken.name in done.text else ', without the name of the file'}: {error_in(done.text)}")
    if broken.name not in done.text:
        raise Fell(f"it says nothing of it: {error_in(done.text)}")
    return error_in(done.text)


def trains_on_nothing(subject: str, folder: Path) -> str:
    """Trains on a dataset without rows.

    Raises:
        Fell: when it says that it has finished.
    """
    with Warm(f"faulty_{subject}") as run:
        done = run("empty", folder)
    if not done.returncode:
        raise Fell(f"exit code 0, as after a training: {error_in(done.text)}")
    return error_in(done.text)


def trains_on_much(subject: str, folder: Path) -> str:
    """Trains with a batch that does not fit into memory.

    Raises:
        Fell: when it does not go on, and does not say with which batch it would.
    """
    with Warm(f"faulty_{subject}") as run:
        done = run("memory", folder)
    if done.returncode:
        raise Fell(f"it says neither what took the memory nor what would fit: {error_in(done.text)}")
    return error_in(done.text)
