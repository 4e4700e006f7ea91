"""Tokenizer: bytes, nothing lost, and the ids of the published language model."""

import pytest
from builders import bounded
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PerceiverConfig, PerceiverTokenizer

from perceiver import tokenizer


@bounded
@given(st.binary())
@example(bytes(range(256)))
@example(b"")
def test_any_bytes_round_trip(data: bytes) -> None:
    ids = tokenizer.encode(data)
    assert len(ids) == len(data) and all(tokenizer.NUM_SPECIALS <= i < tokenizer.VOCAB_SIZE for i in ids)
    assert tokenizer.decode(ids) == data


@bounded
@given(st.text(st.characters()))
@example("\x00 \udc80\ud800 \U0001f600 \u00e9")
def test_any_text_round_trips(text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)).decode("utf-8", "surrogatepass") == text


PUBLISHED = PerceiverTokenizer()


@bounded
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]")))
@example("")
@example("This is an incomplete sentence where some words are missing.\n\t\x00\x7f\u00e9\u4e2d\U0001f600  ")
def test_ids_are_those_of_the_published_tokenizer(text: str) -> None:
    assert tokenizer.encode(text) == PUBLISHED(text, add_special_tokens=False)["input_ids"]


def test_special_ids_are_those_of_the_published_tokenizer() -> None:
    theirs = [PUBLISHED.convert_tokens_to_ids(f"[{name}]") for name in ("PAD", "BOS", "EOS", "MASK", "CLS", "SEP")]
    assert theirs == [tokenizer.PAD, tokenizer.BOS, tokenizer.EOS, tokenizer.MASK, tokenizer.CLS, tokenizer.SEP]
    assert PerceiverConfig().vocab_size == len(PUBLISHED) == tokenizer.VOCAB_SIZE


def test_special_ids_stand_for_no_byte() -> None:
    ids = [tokenizer.CLS, *tokenizer.encode("a\x00"), tokenizer.MASK, *tokenizer.encode(b"\xff"), tokenizer.SEP, tokenizer.PAD]
    assert tokenizer.decode(ids) == b"a\x00\xff"


@pytest.mark.parametrize("i", [-1, 262, 10**9])
def test_ids_outside_the_vocabulary_are_refused_with_its_range(i: int) -> None:
    with pytest.raises(ValueError, match=rf"id {i} .*0 \.\.\. 261"):
        tokenizer.decode([7, i])
