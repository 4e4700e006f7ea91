"""One bit of a checkpoint is not what was written."""

import shutil
import signal
import zipfile
from pathlib import Path

from tests.faults.row_04_newest_incomplete import warned
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm, mixture, resume
from tests.faults.subjects.disk import flip
from tests.faults.subjects.trace import same, steps

FAULT = "one bit flipped in the weights"
EXPECTED = "refused, naming the file"

EXPONENT = 4  # bit of the highest byte of a number


def ours(folder: Path) -> str:
    """Bits all over the files of a checkpoint; a training that goes on with the one before it; and one that has no other, and a test."""
    whole, hurt = folder / "whole", folder / "hurt"
    with Warm("ours") as train:
        if (done := train(*mixture(whole))).returncode:
            raise Fell(done.said)
        last = hurt / "checkpoints" / "last.ckpt"
        shutil.copytree(whole, hurt)
        flipped = train("flip", last)
        if flipped.returncode:
            raise Fell(f"read with another bit: {flipped.said}")
        weights = last / "weights.safetensors"
        flip(weights, weights.stat().st_size // 2, EXPONENT)
        done = train(*mixture(hurt, *resume(hurt)))
        if done.returncode or str(weights) not in warned(done, ", step 15, "):
            raise Fell(f"with another one beside it: {done.said}")
        same(whole, hurt, 15)
        weights = last / "weights.safetensors"  # of the checkpoint that was written since
        flip(weights, weights.stat().st_size // 2, EXPONENT)
        for one in [one for one in last.parent.iterdir() if one != last]:
            shutil.rmtree(one)
        made = len(steps(hurt))
        for words in (mixture(hurt, *resume(hurt)), ("test", "-c", str(hurt / "config.yaml"), "--ckpt_path", str(last))):
            refused = train(*words)
            if refused.returncode != 2 or str(weights) not in refused.said or "SHA-256" not in refused.said or len(steps(hurt)) != made:
                raise Fell(f"{words[0]}: exit code {refused.returncode}: {refused.said}")
    return f"{flipped.said} bits all over it, each refused: {refused.said}"


def lightning(folder: Path) -> str:
    """In `last.ckpt`."""
    return peer("lightning", folder, "last.ckpt")


def transformers(folder: Path) -> str:
    """In the weights of the newest folder."""
    return peer("transformers", folder, "checkpoint-10/model.safetensors")


def accelerate(folder: Path) -> str:
    """In the weights of the folder."""
    return peer("accelerate", folder, "last/model.safetensors")


def peer(subject: str, folder: Path, file: str) -> str:
    """A checkpoint at the end of the first epoch, of 10 steps; killed in the second."""
    options = ("--in_order", "--save_every", 10, "--steps", 15)
    whole, hurt = folder / "whole", folder / "hurt"
    with Warm(subject) as train:
        for words, code in (((whole,), 0), ((hurt, "--kill_at", 12), -signal.SIGKILL)):
            if (done := train(*words, *options)).returncode != code:
                raise Fell(done.said)
        weights = hurt / "checkpoints" / file
        flip(weights, in_a_weight(weights), EXPONENT)
        done = train(hurt, "--resume", *options)
    if done.returncode:
        return f"exit code {done.returncode}: {done.said}"
    loss = {name: next(step.loss for step in reversed(steps(one)) if step.number == 10) for name, one in (("whole", whole), ("hurt", hurt))}
    raise Fell(f"it is resumed without a word, and the next loss is {loss['hurt']} instead of {loss['whole']}")


def in_a_weight(file: Path) -> int:
    """The place of the highest byte of a number in the middle of the largest weight: 256 x 256 numbers of 4 bytes."""
    if not zipfile.is_zipfile(file):
        return file.stat().st_size // 2 // 4 * 4 - 1  # little else is in it
    with zipfile.ZipFile(file) as archive:
        weight = next(one for one in archive.infolist() if one.file_size == 4 * 256 * 256)
    with open(file, "rb") as opened:
        opened.seek(weight.header_offset + 26)
        lengths = opened.read(4)
    begin = weight.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    return begin + weight.file_size // 2 + 3
