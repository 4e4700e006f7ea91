"""Masking of bytes: whole words, untouched surroundings, the shares that were asked for; and noise that keeps what it promises."""

import re
from collections import Counter
from itertools import groupby

import numpy as np
import pytest
import torch
from builders import bounded
from hypothesis import example, given
from hypothesis import strategies as st

from perceiver.data.text.masking import Spans, WholeWords, words
from perceiver.data.text.noise import ByteNoise, WordDropout
from perceiver.tokenizer import CLS, MASK, NUM_SPECIALS, PAD, SEP, VOCAB_SIZE, decode, encode

TEXT = "To be, or not to be:\tthat is the\r\nquestion \u00fcber \u65e5\u672c\u8a9e \U0001f600 caf\u00e9. " * 23
MASKINGS = [WholeWords(), WholeWords(0.7, mask=0.2, replace=0.5), Spans(), Spans(0.5, mean_bytes=3.0)]


def array(text):
    return np.array(encode(text), dtype=np.int64)


def within(successes, trials, share):
    """Whether a count lies within five standard deviations of its binomial mean."""
    return abs(successes - trials * share) <= 5 * np.sqrt(trials * share * (1 - share)) + 1e-9


@bounded
@given(st.binary(max_size=211))
@example(b"")
@example(b" \t\n\r\v\f")
@example(bytes(range(256)))
@example(b"\xc2\xa0\xe3\x80\x80 x")
def test_words_are_those_that_a_regular_expression_finds(data):
    starts, stops = words(array(data))
    assert list(zip(starts.tolist(), stops.tolist(), strict=True)) == [match.span() for match in re.finditer(rb"[^ \t\n\r\v\f]+", data)]


def test_a_special_id_ends_a_word_and_is_none():
    starts, stops = words(np.array([CLS, *encode("ab"), SEP, *encode("c d"), PAD, PAD]))
    assert (starts.tolist(), stops.tolist()) == ([1, 4, 6], [3, 5, 7])


@pytest.mark.parametrize("masking", MASKINGS)
@bounded
@given(data=st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=307), seed=st.integers(0, 99))
def test_targets_are_the_original_ids_and_all_else_is_untouched(masking, data, seed):
    ids = np.array(data, dtype=np.int64)
    before = ids.copy()
    masked, targets = masking(ids, np.random.default_rng(seed))
    asked = targets != PAD
    assert (ids == before).all() and masked.dtype == targets.dtype == np.int64
    assert (targets[asked] == ids[asked]).all() and (masked[~asked] == ids[~asked]).all()
    assert (ids[asked] >= NUM_SPECIALS).all(), "a special id was hidden"
    assert ((masked[asked] >= NUM_SPECIALS) | (masked[asked] == MASK)).all()


@bounded
@given(text=st.text(max_size=97), seed=st.integers(0, 99))
def test_words_are_chosen_whole_and_treated_alike(text, seed):
    ids = array(text)
    masked, targets = WholeWords(0.4, mask=0.5, replace=0.2)(ids, np.random.default_rng(seed))
    starts, stops = words(ids)
    for start, stop in zip(starts, stops, strict=True):
        assert len(set((targets[start:stop] != PAD).tolist())) == 1
        assert len(set((masked[start:stop] == MASK).tolist())) == 1
    assert len(starts) == 0 or (targets != PAD).any(), "no word was chosen"


def test_characters_of_several_bytes_are_never_torn():
    ids = array(TEXT)
    for seed in range(19):
        _, targets = WholeWords()(ids, np.random.default_rng(seed))
        decode(targets[targets != PAD].tolist()).decode()  # raises where a character is not whole


@pytest.mark.parametrize("masking", MASKINGS)
def test_masks_are_a_function_of_the_generator(masking):
    ids = array(TEXT)
    one, two, other = (masking(ids, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (one[0] == two[0]).all() and (one[1] == two[1]).all()
    assert (one[1] != other[1]).any()


def by_the_book(text, share, mask, replace, draw):
    """Whole-word masking one word at a time: what becomes of each word, as a list of words."""
    fates = []
    for _ in re.findall(rb"[^ \t\n\r\v\f]+", text):
        if draw.random() >= share:
            fates.append("untouched")
        else:
            fates.append(draw.choice(["mask", "random", "kept"], p=[mask, replace, 1 - mask - replace]))
    return fates


def fates_of(ids, masked, targets):
    """What became of each word."""
    fates = []
    for start, stop in zip(*words(ids), strict=True):
        if targets[start] == PAD:
            fates.append("untouched")
        elif (masked[start:stop] == MASK).all():
            fates.append("mask")
        else:
            fates.append("kept" if (masked[start:stop] == ids[start:stop]).all() else "random")
    return fates


def test_shares_are_those_asked_for_and_of_a_masking_by_the_book():
    # Words of four bytes and more, so that a random one is never the original by chance.
    text = b"alpha  gamma\ndelta\tsigma omega " * 401
    share, mask, replace = 0.23, 0.6, 0.3
    ours, theirs = Counter(), Counter()
    for seed in range(5):
        ours.update(fates_of(array(text), *WholeWords(share, mask=mask, replace=replace)(array(text), np.random.default_rng(seed))))
        theirs.update(by_the_book(text, share, mask, replace, np.random.default_rng(seed + 100)))
    number = 5 * 5 * 401
    wanted = {"untouched": 1 - share, "mask": share * mask, "random": share * replace, "kept": share * (1 - mask - replace)}
    for fate, probability in wanted.items():
        assert within(ours[fate], number, probability) and within(theirs[fate], number, probability), fate


def test_random_bytes_are_all_256_and_equally_likely():
    ids = array("x" * 53 * 256)
    masked, _ = WholeWords(1.0, mask=0.0, replace=1.0)(ids, np.random.default_rng(5))
    counts = np.bincount(masked, minlength=VOCAB_SIZE)
    assert (counts[:NUM_SPECIALS] == 0).all()
    assert all(within(count, len(ids), 1 / 256) for count in counts[NUM_SPECIALS:])


def test_where_no_word_would_be_chosen_one_is_and_each_is_equally_likely():
    ids = array("a b c d e f g")
    draw = np.random.default_rng(7)
    chosen = Counter()
    for _ in range(700):
        _, targets = WholeWords(1e-9)(ids, draw)
        (place,) = np.flatnonzero(targets != PAD)
        chosen[int(place)] += 1
    assert sorted(chosen) == [0, 2, 4, 6, 8, 10, 12]
    assert all(within(count, 700, 1 / 7) for count in chosen.values())


def test_a_text_without_words_has_no_targets():
    for ids in (array(" \n\t "), array(""), np.array([CLS, SEP, MASK])):
        masked, targets = WholeWords(1.0)(ids, np.random.default_rng(0))
        assert (masked == ids).all() and (targets == PAD).all()


@pytest.mark.parametrize(
    ("length", "share", "mean", "hidden", "most_runs"),
    [(1009, 0.15, 20.0, 151, 8), (101, 0.5, 1.0, 50, 50), (1, 0.01, 20.0, 1, 1), (37, 1.0, 5.0, 37, 7)],
)
def test_spans_hide_as_many_bytes_as_asked_in_at_most_as_many_runs(length, share, mean, hidden, most_runs):
    for seed in range(11):
        masked, targets = Spans(share, mean_bytes=mean)(np.full(length, 77), np.random.default_rng(seed))
        assert (targets != PAD).sum() == hidden == (masked == MASK).sum()
        assert sum(is_hidden for is_hidden, _ in groupby((targets != PAD).tolist())) <= most_runs


def test_spans_reach_every_byte_and_have_the_mean_length():
    hidden, runs = np.zeros(503), 0
    for seed in range(400):
        targets = Spans(0.1, mean_bytes=5.0)(np.full(503, 77), np.random.default_rng(seed))[1] != PAD
        hidden += targets
        runs += sum(is_hidden for is_hidden, _ in groupby(targets.tolist()))
    assert hidden.min() > 0
    assert 5 <= hidden.sum() / runs < 6  # a little longer, where two runs touch


def test_two_spans_of_one_byte_are_seldom_neighbours():
    places = [np.flatnonzero(Spans(0.002, mean_bytes=1.0)(np.full(1009, 77), np.random.default_rng(seed))[1]) for seed in range(100)]
    assert all(len(two) == 2 for two in places) and sum(two[1] == two[0] + 1 for two in places) < 5


@pytest.mark.parametrize("wrong", [-1, -100, VOCAB_SIZE])
@pytest.mark.parametrize("masking", [WholeWords(), Spans()])
def test_ids_outside_the_vocabulary_are_refused(masking, wrong):
    with pytest.raises(ValueError, match=rf"id {wrong} .*0 \.\.\. 261"):
        masking(np.array([7, wrong, 8]), np.random.default_rng(0))


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
@pytest.mark.parametrize("masking", [WholeWords, Spans])
def test_impossible_shares_are_refused(masking, share):
    with pytest.raises(ValueError, match=f"share={share}"):
        masking(share)


@pytest.mark.parametrize("options", [{"mask": 0.9, "replace": 0.2}, {"mask": -0.1}, {"replace": float("nan")}])
def test_impossible_treatments_are_refused(options):
    with pytest.raises(ValueError, match="mask=.* replace="):
        WholeWords(**options)
    with pytest.raises(ValueError, match=r"mean_bytes=0.5: give at least 1"):
        Spans(mean_bytes=0.5)


def noisy(noise, text, seed=0):
    """What becomes of a text."""
    before = torch.tensor(encode(text), dtype=torch.int64)
    row = {"text": before.clone(), "target": 3}
    after = noise(row, np.random.default_rng(seed))
    assert torch.equal(row["text"], before), "the row that was given has changed"
    assert after["target"] == 3 and after["text"].dtype == torch.int64 and after["text"].ndim == 1
    return decode(after["text"].tolist())


NONE = {"drop": 0.0, "swap": 0.0, "replace": 0.0, "double": 0.0}
LONG = bytes(range(256)) * 41


def test_noise_of_no_probability_changes_nothing():
    assert noisy(ByteNoise(**NONE), LONG) == LONG
    assert noisy(WordDropout(probability=0.0), TEXT) == TEXT.encode()


def test_each_typing_error_is_as_frequent_as_asked():
    assert within(len(LONG) - len(noisy(ByteNoise(**NONE | {"drop": 0.13}), LONG)), len(LONG), 0.13)
    assert within(len(noisy(ByteNoise(**NONE | {"double": 0.17}), LONG)) - len(LONG), len(LONG), 0.17)
    replaced = np.frombuffer(noisy(ByteNoise(**NONE | {"replace": 0.11}), LONG), np.uint8)
    assert within((replaced != np.frombuffer(LONG, np.uint8)).sum(), len(LONG), 0.11 * 255 / 256)


def test_swaps_are_of_neighbours_and_lose_nothing():
    swapped = np.frombuffer(noisy(ByteNoise(**NONE | {"swap": 0.19}), LONG), np.uint8)
    assert sorted(swapped.tolist()) == sorted(LONG)
    changed = np.flatnonzero(swapped != np.frombuffer(LONG, np.uint8))
    left, right = changed[::2], changed[1::2]
    assert (right == left + 1).all() and (swapped[left] == swapped[right] + np.uint8(1)).all()  # 255 is followed by 0
    assert within(len(left), len(LONG), 0.19 * (1 - 0.19))  # drawn, and the byte before was not


def test_doubled_bytes_stand_beside_themselves():
    text = bytes(range(256))
    assert bytes(key for key, _ in groupby(noisy(ByteNoise(**NONE | {"double": 0.5}), text))) == text


def test_some_byte_is_always_left():
    assert [len(noisy(ByteNoise(**NONE | {"drop": 1.0}), "abcdefg", seed)) for seed in range(5)] == [1] * 5
    assert {noisy(ByteNoise(**NONE | {"drop": 1.0}), "abc", seed) for seed in range(40)} == {b"a", b"b", b"c"}
    assert noisy(ByteNoise(drop=0.97), "") == b""


def test_a_text_that_grows_is_cut_at_its_end():
    assert noisy(ByteNoise(**NONE | {"double": 1.0}, max_bytes=5), "abcdefg") == b"aabbc"


def test_words_are_dropped_whole_with_the_whitespace_behind_them():
    text = " one two\tthree\n\nfour five "
    seen = {noisy(WordDropout(probability=0.5), text, seed) for seed in range(200)}
    pieces = ["one ", "two\t", "three\n\n", "four ", "five "]
    possible = {(" " + "".join(piece for i, piece in enumerate(pieces) if code >> i & 1)).encode() for code in range(1, 32)}
    assert seen <= possible and len(seen) > 20


def test_words_are_dropped_as_often_as_asked_but_never_all():
    text = b"word " * 1009
    assert within(1009 - len(noisy(WordDropout(probability=0.3), text)) // 5, 1009, 0.3)
    assert {noisy(WordDropout(probability=1.0), "a b c", seed) for seed in range(40)} == {b"a ", b"b ", b"c"}
    assert noisy(WordDropout(probability=1.0), " \n") == b" \n"


@pytest.mark.parametrize("noise", [ByteNoise(drop=0.2, swap=0.2, replace=0.2, double=0.2), WordDropout(probability=0.5)])
def test_noise_leaves_special_ids_in_their_order_and_is_a_function_of_the_generator(noise):
    ids = torch.tensor([CLS, *encode("some words "), SEP, *encode("and some more"), SEP, PAD, MASK])
    results = [noise({"text": ids}, np.random.default_rng(seed))["text"] for seed in (*range(30), 0)]
    assert all([i for i in result.tolist() if i < NUM_SPECIALS] == [CLS, SEP, SEP, PAD, MASK] for result in results)
    assert all(result[0] == CLS and result[-1] == MASK for result in results)
    assert torch.equal(results[0], results[-1]) and not torch.equal(results[0], results[1])


def test_no_byte_changes_places_with_a_special_id():
    ids = torch.tensor([CLS, *encode("abc"), SEP, *encode("d"), SEP, *encode("efg"), MASK])
    special = ids < NUM_SPECIALS
    for seed in range(30):
        result = ByteNoise(**NONE | {"swap": 0.7})({"text": ids}, np.random.default_rng(seed))["text"]
        assert torch.equal(result < NUM_SPECIALS, special) and torch.equal(result[special], ids[special])


@pytest.mark.parametrize("noise", [ByteNoise(), WordDropout()])
def test_noise_passes_rows_without_text_and_refuses_those_with_a_target_for_each_byte(noise):
    row = {"image": torch.ones(1, 2, 3), "target": 1}
    assert noise(row, np.random.default_rng(0)) is row
    ids = torch.tensor(encode("ab"))
    with pytest.raises(ValueError, match="text_target, a target for each byte of text"):
        noise({"text": ids, "text_target": ids}, np.random.default_rng(0))


def test_impossible_noise_is_refused():
    with pytest.raises(ValueError, match=r"drop=0.5, swap=0.6.* at most 1 together"):
        ByteNoise(drop=0.5, swap=0.6)
    with pytest.raises(ValueError, match="drop=-0.1"):
        ByteNoise(drop=-0.1)
    with pytest.raises(ValueError, match=r"probability=1.5: give a number in \[0, 1\]"):
        WordDropout(probability=1.5)
