"""An archive of a dataset leads out of the folder that it is unpacked in."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from perceiver.data.archive import unpack
from tests.faults.scoreboard import Fell

FAULT = "an archive with .., an absolute path, a link or a device in it"
EXPECTED = "refused, and nothing is written outside of its folder, or left in it"
NOT_APPLICABLE = dict.fromkeys(("lightning", "transformers", "accelerate"), "it unpacks no archives")


def ours(folder: Path) -> str:
    """`perceiver.data.archive.unpack`, which all datasets that come as archives go through."""
    outside, secret = folder / "outside", folder / "secret"
    outside.mkdir()
    secret.write_text("secret")
    check_live(folder)
    said = []
    for what, members in hostile(folder):
        archive, place = folder / "archive.tar.gz", folder / "datasets" / what
        with tarfile.open(archive, "w:gz") as tar:
            for member in (file("right/1.txt"), *members):
                tar.addfile(member, io.BytesIO(b"written") if member.isreg() else None)
        try:
            unpack(archive, ".", place, lambda found: None)
        except ValueError as error:
            said.append(str(error))
        else:
            raise Fell(f"{what}: it was unpacked")
        left = [path for path in (*outside.iterdir(), *(folder / "datasets").iterdir())]
        if left or secret.read_text() != "secret":
            raise Fell(f"{what}: it wrote {left or secret}")
    return f"{len(said)} archives refused, the first: {said[0]}"


def check_live(folder: Path) -> None:
    """Makes sure that such an archive writes outside where nothing is done about it."""
    with tarfile.open(folder / "live.tar", "w") as tar:
        tar.addfile(file("../live.txt"), io.BytesIO(b"written"))
    (folder / "live").mkdir()
    with tarfile.open(folder / "live.tar") as tar:
        tar.extractall(folder / "live", filter="fully_trusted")
    if not (folder / "live.txt").exists():
        raise RuntimeError("the archive does nothing, so that this row shows nothing")


def hostile(folder: Path) -> Iterator[tuple[str, list[tarfile.TarInfo]]]:
    """What is wrong with an archive, and what is in it."""
    outside = folder / "outside"
    yield "up", [file("../../outside/1.txt")]
    yield "up and down", [file("right/../../../outside/1.txt")]
    yield "absolute", [file(str(outside / "1.txt"))]
    yield "a link up", [link("right/up", "../../../outside")]
    yield "a link to the top", [link("right/top", str(outside))]
    yield "through a link", [link("right/up", str(outside)), file("right/up/1.txt")]
    yield "a hard link", [link("right/hard", str(folder / "secret"), tarfile.LNKTYPE)]
    yield "a hard link up", [link("right/hard", "../../secret", tarfile.LNKTYPE)]
    for kind in (tarfile.FIFOTYPE, tarfile.CHRTYPE):
        device = tarfile.TarInfo("right/device")
        device.type = kind
        yield f"a device {kind!r}", [device]


def file(name: str) -> tarfile.TarInfo:
    """A file in an archive."""
    member = tarfile.TarInfo(name)
    member.size = len(b"written")
    return member


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """A link in an archive."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member
