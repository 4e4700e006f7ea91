"""Sinks: each head's own largest key counts, beside an even share, and each key that is one is judged by itself."""

from dataclasses import replace

import pytest
import torch
from test_attention_diagnoses import PIECES, ROWS, examples, sink_of, staring

from perceiver import Attention
from perceiver.explain.attention import focus, sinks
from perceiver.explain.attention.sinks import Sink, columns, rate_interval
from perceiver.explain.attention.statistics import Statistics
from perceiver.explain.attention.survey import LayerSurvey
from perceiver.explain.examples import Examples
from perceiver.explain.subject import Subject

HEADS, KEYS = 4, 7


def surveyed(received: torch.Tensor, valid: torch.Tensor | None = None, carried: float = 1.0, **sizes: int) -> LayerSurvey:
    """A read in which each row gives (n, h, m) of its attention to the keys."""
    n, h, m = received.shape
    valid = torch.ones(n, m, dtype=torch.bool) if valid is None else valid
    one = Statistics(
        layer="read",
        kind="read",
        sharpness=torch.ones(n, h, 1),
        effective=torch.ones(n, h, 1),
        received=received,
        carried=torch.full((n, m), carried),
        valid=valid,
        mass={name: torch.ones(n, h, 1) for name in sizes or ("pieces",)},
        sizes=sizes or {"pieces": m},
        input_dependence=None,
        by_presence=None,
        query_diversity=torch.ones(n, h),
        head_diversity=None,
        largest_logit=torch.ones(n, h),
    )
    return LayerSurvey("read", "read", "read", Attention(2, heads=1), [one])


def own_keys(share: float = 0.95) -> torch.Tensor:
    """Each head stares at a key of its own."""
    found = torch.full((ROWS, HEADS, KEYS), (1 - share) / (KEYS - 1))
    found[:, torch.arange(HEADS), torch.arange(HEADS)] = share
    return found


def test_heads_that_each_stare_at_a_key_of_their_own_are_all_sinks():
    found = columns(surveyed(own_keys()))
    assert found.rate == 1 and [(sink.segment, sink.place) for sink in found.sinks()] == [("pieces", place) for place in range(HEADS)]
    assert all(sink.mass == pytest.approx(0.95) for sink in found.sinks())


def test_a_head_that_stares_at_another_key_in_each_row_has_no_sink():
    one_hot = torch.eye(KEYS)[torch.arange(ROWS) % KEYS][:, None].expand(-1, HEADS, -1)
    assert columns(surveyed(one_hot)).rate == 0


@pytest.mark.parametrize("keys", [2, 3, 5])
def test_even_attention_to_few_keys_is_no_sink(keys):
    found = columns(surveyed(torch.full((ROWS, HEADS, keys), 1 / keys)))
    assert found.rate == 0 and not found.sinks()


def test_even_attention_in_rows_that_lack_most_keys_is_no_sink():
    valid = torch.zeros(ROWS, KEYS, dtype=torch.bool)
    valid[:, 0] = True
    valid[::3] = True
    received = (valid / valid.sum(1, keepdim=True))[:, None].expand(-1, HEADS, -1)
    assert float(received.mean(0).max()) > 0.5 and columns(surveyed(received, valid)).rate == 0


def test_batches_of_other_widths_are_laid_side_by_side_segment_by_segment():
    wide, narrow = own_keys(), torch.full((ROWS, HEADS, 3), 1 / 3)
    one = surveyed(wide, pieces=5, registers=2)
    one.parts.append(surveyed(narrow, pieces=1, registers=2).parts[0])
    found = columns(one)
    assert dict(found.sizes) == {"pieces": 5, "registers": 2}
    torch.testing.assert_close(found.received[:, 5:], (wide[0, :, 5:] + 1 / 3) / 2)
    torch.testing.assert_close(found.received[:, 1:5], wide[0, :, 1:5] / 2)


def test_the_rate_has_an_interval_over_rows_and_none_where_they_are_few():
    shares = torch.full((ROWS, 1, KEYS), 0.1)
    shares[:, 0, 0] = torch.linspace(0.25, 0.351, ROWS)  # about the threshold: some resamples are above, some below
    one = surveyed(shares)
    assert rate_interval(one, columns(one)) == (0.0, 1.0)
    sure = surveyed(own_keys())
    assert rate_interval(sure, columns(sure)) == (1.0, 1.0)
    few = surveyed(own_keys()[:5])
    assert rate_interval(few, columns(few)) is None


def judged(monkeypatch, subject: Subject, rows: Examples, one: LayerSurvey, needed: set[int]) -> focus.Measure:
    """The measure of a read, where without some pieces every answer is wrong."""

    def lost(subject: Subject, examples: Examples, found: list[Sink]) -> torch.Tensor:
        return torch.stack([torch.full((len(examples),), float(sink.place in needed)) for sink in found])

    monkeypatch.setattr(focus, "lost_without", lost)
    return focus.sink_rate(subject, rows, one, None)


def test_each_key_that_is_a_sink_is_judged_by_itself(monkeypatch):
    subject = staring(carries=True, needed=False)
    rows = examples(subject)
    found = judged(monkeypatch, subject, rows, surveyed(own_keys()), needed={0, 1, 3})
    assert found.verdict == "warning" and found.value == 1 and found.interval == (1.0, 1.0)
    assert found.reason.startswith("piece 3 of pieces") and "nothing is lost without it" in found.reason and "and 1 more" in found.reason
    assert judged(monkeypatch, subject, rows, surveyed(own_keys()), needed={0, 1, 2, 3}).verdict == "ok"


def test_a_register_that_draws_most_hides_no_sink_among_the_inputs(monkeypatch):
    subject = staring(carries=True, needed=False)
    shares = torch.full((ROWS, 1, KEYS), 0.02)
    shares[:, 0, 1], shares[:, 0, KEYS - 1] = 0.35, 0.55
    found = judged(monkeypatch, subject, examples(subject), surveyed(shares, pieces=KEYS - 1, registers=1), needed=set())
    assert found.verdict == "warning" and found.reason.startswith("piece 2 of pieces") and "what such tokens are for" in found.reason


def test_references_are_even_attention_and_the_model_before_training():
    subject = staring(carries=True, needed=False)
    one, even = surveyed(torch.full((ROWS, HEADS, KEYS), 1 / KEYS)), surveyed(own_keys())
    found = focus.sink_rate(subject, examples(subject), one, even)
    assert found.value == 0 and found.reference["uniform"] == 0 and found.reference["untrained"] == 1 and found.reference["threshold"] == sinks.SINK


@pytest.mark.parametrize("needed", [True, False])
def test_of_few_rows_it_is_not_said_whether_a_key_is_needed(needed):
    subject = staring(carries=True, needed=needed)
    found = sink_of(subject, examples(subject).first(5))
    assert found.verdict == "ok" and "5 rows are too few" in found.reason and found.reference["accuracy lost without it"] == float(needed)
    assert "nothing is lost" not in found.reason and "needed" not in found.reason


def unlabelled_rows(subject: Subject) -> Examples:
    rows = examples(subject)
    return replace(rows, rows=tuple({key: value for key, value in row.items() if key != "target"} for row in rows.rows))


@pytest.mark.parametrize("strange", [False, True], ids=["no labels", "labels of no class"])
def test_without_labels_a_key_is_needed_where_answers_move_without_it(strange):
    for needed, verdict, said in ((True, "ok", "it may be needed"), (False, "warning", "answers hardly move")):
        subject = staring(carries=True, needed=needed)
        rows = unlabelled_rows(subject)
        if strange:
            rows = replace(rows, rows=tuple(row | {"target": torch.tensor(2)} for row in rows.rows))
        found = sink_of(subject, rows)
        assert found.verdict == verdict and said in found.reason and "accuracy" not in found.reason
        assert (found.reference["answers moved without it"] > 0.1) == needed


def test_without_classes_it_cannot_be_told_whether_a_key_is_needed(monkeypatch):
    subject = staring(carries=True, needed=False)
    rows = examples(subject)
    monkeypatch.setattr(subject, "class_count", lambda dataset: 0)
    found = sink_of(subject, rows)
    assert found.verdict == "not applicable" and found.value is None and "no classes to be right about" in found.reason


def test_a_key_that_a_batch_lacks_is_not_missed_there():
    subject = staring(carries=True, needed=True)
    rows = examples(subject)
    lost = focus.lost_without(subject, rows, [Sink("pieces", 2, 1.0, 1.0), Sink("pieces", PIECES, 1.0, 1.0), Sink("sound", 0, 1.0, 1.0)])
    assert lost.mean(1).tolist() == [1.0, 0.0, 0.0]
