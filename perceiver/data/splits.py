"""Splits of datasets that come without: by a keyed hash of each sample's name, so that new samples leave the others where they are."""

import hashlib

from perceiver.data.source import Split


def check_shares(val_share: float, test_share: float) -> None:
    """Refuses shares that leave nothing to train on.

    Raises:
        ValueError: when one is negative, or both together are 1 or more.
    """
    if not (val_share >= 0 and test_share >= 0 and val_share + test_share < 1):
        raise ValueError(f"val_share={val_share} and test_share={test_share}: neither below 0, and together below 1")


def split_of(key: str, val_share: float, test_share: float) -> Split:
    """The split of a sample, by a keyed hash of its key: the same on every machine, whatever other samples there are.

    Args:
        key: what tells the sample from others, and will not change.
        val_share: share of the samples that go to validation.
        test_share: share of those that go to the test.
    """
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), key=b"perceiver split", digest_size=7).digest()
    place = int.from_bytes(digest, "big") / 2**56
    if place < test_share:
        return "test"
    return "val" if place < test_share + val_share else "train"
