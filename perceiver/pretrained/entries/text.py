"""Texts for the published language model, and the bytes that it answers.

Letters: b texts, l places, v ids.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from perceiver.tokenizer import CLS, MASK, PAD, SEP, decode, encode

LENGTH = 2048  # places of the published model


def text_entries(
    texts: Sequence[str], masked: Sequence[Sequence[tuple[int, int]]] = (), *, semantics: str = "hf", length: int = LENGTH
) -> dict[str, Tensor]:
    """`text` (b, l) and `text_mask` (b, l) for `perceiver.models.masked_bytes.MaskedBytes`.

    Args:
        texts: any; one byte of UTF-8 is one place.
        masked: for each text, spans of bytes `(first, one behind the last)` that the model shall fill in.
        semantics: transformers (`hf`) puts an id before and one after each text, DeepMind (`deepmind`) does not. Spans are counted in the
            text alone, either way.
        length: places that are padded to.

    Raises:
        ValueError: when a text is longer than that, a span lies outside its text, or semantics are not known.
    """
    if semantics not in ("hf", "deepmind"):
        raise ValueError(f"semantics={semantics!r}: choose one of hf, deepmind")
    if masked and len(masked) != len(texts):
        raise ValueError(f"{len(texts)} texts and spans for {len(masked)}: give a list of spans for each text")
    ids = torch.full((len(texts), length), PAD)
    mask = torch.zeros(len(texts), length, dtype=torch.bool)
    for row, text in enumerate(texts):
        found = encode(text)
        for first, end in masked[row] if masked else ():
            if not 0 <= first < end <= len(found):
                raise ValueError(f"span {first} to {end} does not lie in text {row}, which has {len(found)} bytes")
            found[first:end] = [MASK] * (end - first)
        if semantics == "hf":
            found = [CLS, *found, SEP]
        if len(found) > length:
            raise ValueError(f"text {row} takes {len(found)} places of {length}: cut it, or resize the model (perceiver.pretrained.rebuild)")
        ids[row, : len(found)] = torch.tensor(found)
        mask[row, : len(found)] = True
    return {"text": ids, "text_mask": mask}


def bytes_of(scores: Float[Tensor, "b l v"], mask: Bool[Tensor, "b l"] | None = None) -> list[bytes]:
    """The likeliest bytes of each text; special ids are left out.

    Args:
        scores: what the model gives.
        mask: which places count; all when not given. `entries["text"] == MASK` asks for what was masked alone.
    """
    best = scores.argmax(-1)
    return [decode(row.tolist() if mask is None else row[mask[i]].tolist()) for i, row in enumerate(best)]
