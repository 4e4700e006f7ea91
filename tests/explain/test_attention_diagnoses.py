"""What is said of attention: sinks that are needed, not needed, harmless; mass beside its share; weights that might as well be fixed."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from builders import CLASSES, NAMES, compact_batch, presence_table, raw_entries, small_mean_pool, small_perceiver, whole_batch
from test_faithfulness import Vectors
from torch import nn
from torch.nn import functional as F

from perceiver import Attention, CrossBlock, Decoder, Encoder, LearnedQueries, PerceiverIO, SelfBlock
from perceiver.explain.attention import combination, focus
from perceiver.explain.attention.combination import Surveys, surveys
from perceiver.explain.attention.passage import Weighed
from perceiver.explain.attention.survey import survey
from perceiver.explain.examples import Examples, gather
from perceiver.explain.subject import Subject
from perceiver.explain.untrained import untrained
from perceiver.registers import Registers
from perceiver.soft_weights import Call, record_mass
from perceiver.tasks import Classification

PIECES, WIDTH, ROWS = 7, 11, 20
MARK = 10.0
WHOLE = {"pieces_mask": torch.ones(PIECES, dtype=torch.bool)}


def staring(*, carries: bool, needed: bool, registers: Registers | None = None) -> Subject:
    """A model whose one read attends to the piece with a mark in channel 0, or to registers, and to nothing else."""
    encoder = Encoder(3, WIDTH, WIDTH, num_layers=0, cross_block=partial(CrossBlock, heads=1), registers=registers)
    made = PerceiverIO({"pieces": Vectors()}, encoder, LearnedQueries(1, WIDTH), Decoder(WIDTH, WIDTH), nn.Linear(WIDTH, 2)).eval()
    made.inputs.projections["pieces"] = nn.Linear(WIDTH, WIDTH)
    with torch.no_grad():
        made.inputs.projections["pieces"].weight.copy_(torch.eye(WIDTH))
        made.inputs.projections["pieces"].bias.zero_()
        attention = made.encoder.cross[0].attention
        for parameter in attention.parameters():
            parameter.zero_()
        attention.to_q.bias[0] = attention.to_k.weight[0, 0] = 30.0
        attention.to_out.weight.copy_(torch.eye(WIDTH))
        values = torch.eye(WIDTH)
        if not carries:  # what the marked piece has beside its mark is the same in all channels
            values[0, 0], values[1:, 1:] = 0, values[1:, 1:] - 1 / (WIDTH - 1)
        attention.to_v.weight.copy_(values)
        made.encoder.cross[0].mlp[2].weight.zero_()
    found = Subject(made, scores=partial(_by_class if needed else _alike, made))
    found.learn_classes({"pieces": torch.rand(2, PIECES, WIDTH)})
    return found


def _alike(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Scores that say 1 whatever is read."""
    return 0 * model(batch)[:, 0] + torch.tensor([0.0, 5.0])


def _by_class(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Scores that are right as long as the latents have read the mark."""
    segments, size = model.inputs(batch)
    read = (model.encoder(segments, size) - model.encoder.latents(size))[:, :, 0].mean(1)
    return torch.stack([torch.zeros(size), read - 1.5], 1)


def examples(subject: Subject, mark: float = MARK) -> Examples:
    pieces = torch.zeros(ROWS, PIECES, WIDTH)
    pieces[:, :, 1:] = 0.1 * torch.randn(ROWS, PIECES, WIDTH - 1)
    pieces[:, 2, 0] = mark
    pieces[:, 2, 1:] *= 0.0 if mark else 1.0
    return gather(subject, [{"pieces": pieces, "target": torch.ones(ROWS, dtype=torch.long)}], ROWS)["data"]


def sink_of(subject: Subject, rows: Examples) -> focus.Measure:
    found = focus.diagnose(subject, {"data": rows}, {"data": surveys(subject, rows, None)})
    (sink,) = [measure for measure in found.measures if measure.name == "sink rate"]
    return sink


def test_a_key_that_draws_all_rows_and_is_not_needed_is_warned_of():
    subject = staring(carries=True, needed=False)
    found = sink_of(subject, examples(subject))
    assert (
        found.verdict == "warning" and found.value == 1 and "piece 3 of pieces gets" in found.reason and "nothing is lost without it" in found.reason
    )


def test_a_key_that_draws_all_rows_and_is_needed_is_not():
    subject = staring(carries=True, needed=True)
    found = sink_of(subject, examples(subject))
    assert found.verdict == "ok" and "it is needed" in found.reason and found.reference["accuracy lost without it"] == 1


def test_a_key_that_carries_nothing_is_a_harmless_place_to_look_away_to():
    subject = staring(carries=False, needed=False)
    found = sink_of(subject, examples(subject))
    assert found.verdict == "ok" and "gives next to nothing" in found.reason and found.reference["carried"] < 0.1


def test_where_no_key_draws_all_rows_there_is_no_sink():
    subject = staring(carries=True, needed=False)
    found = sink_of(subject, examples(subject, mark=0.0))
    assert found.verdict == "ok" and found.value == 0


def test_registers_may_draw_attention_since_that_is_what_they_are_for():
    registers = Registers(2, WIDTH)
    with torch.no_grad():
        registers.weight.zero_()
        registers.weight[:, 0] = 1.0
        registers.weight[:, 1] = -1.0
    subject = staring(carries=True, needed=False, registers=registers)
    rows = examples(subject, mark=0.0)
    (one,) = [one for one in survey(subject, rows) if one.kind == "read"]
    assert set(one.segments) == {"pieces", "registers"} and float(one.mass("registers").mean()) > 0.5
    found = sink_of(subject, rows)
    assert found.verdict == "ok" and "what such tokens are for" in found.reason


def test_staring_at_one_key_while_little_is_covered_is_narrow():
    subject = staring(carries=True, needed=True)
    pieces = torch.zeros(ROWS, 41, WIDTH)
    pieces[:, :, 1:] = 0.1 * torch.randn(ROWS, 41, WIDTH - 1)
    pieces[:, 5, 0], pieces[:, 5, 1:] = MARK, 0
    rows = gather(subject, [{"pieces": pieces, "target": torch.ones(ROWS, dtype=torch.long)}], ROWS)["data"]
    found = focus.diagnose(subject, {"data": rows}, {"data": surveys(subject, rows, None)})
    (entropy,) = [m for m in found.measures if m.name == "entropy" and m.of["layer"] == "encoder.cross.0"]
    assert entropy.verdict == "warning" and "see 2 % of the inputs" in entropy.reason and found.verdict == "warning"


def trained_examples() -> tuple[Subject, Examples]:
    task = Classification(small_perceiver(), CLASSES).eval()
    subject = Subject(task)
    rows = [compact_batch(raw_entries(), presence_table([7, 7, 5, 3, 7])) | {"target": torch.randint(CLASSES, (5,))} for _ in range(4)]
    return subject, gather(subject, rows, 20)["data"]


def test_mass_stands_beside_its_share_of_the_tokens_and_lift_is_their_ratio():
    subject, rows = trained_examples()
    found = surveys(subject, rows, untrained(subject.model))
    for one, twin in found.reads:
        made = combination.masses("data", one, twin)
        assert [measure.name for measure in made] == ["mass", "lift"] * 3
        assert sum(m.value for m in made if m.name == "mass") == pytest.approx(1, abs=1e-5)
        assert sum(m.reference["uniform"] for m in made if m.name == "mass") == pytest.approx(1, abs=1e-5)
        assert all({"uniform", "untrained"} == set(m.reference) for m in made if m.name == "mass")
        batch, _ = next(rows.batches())
        with record_mass(subject.model, (one.layer,)) as records, torch.no_grad():
            subject.scores(batch)
        for name in NAMES:
            torch.testing.assert_close(one.mass(name).mean(1), records[0].mass[name])


def test_exchanging_a_modality_moves_the_mass_and_exchanging_nothing_does_not(monkeypatch):
    subject, rows = trained_examples()
    reads = [one for one in survey(subject, rows) if one.kind == "read"]
    found = combination.moved(subject, rows, reads)
    assert {measure.of["exchanged"] for measure in found} == set(NAMES)
    assert all(0 <= measure.value <= 1 for measure in found)
    assert any(measure.value > 0 for measure in found if measure.of["layer"] == "encoder.cross.1")
    monkeypatch.setattr(combination, "partners", lambda examples, modality: list(range(len(examples))))
    assert {measure.value for measure in combination.moved(subject, rows, reads)} == {0.0}


def blind() -> Subject:
    """A model that gives each key of a row the same weight."""
    subject, _ = trained_examples()
    for name, parameter in subject.model.named_parameters():
        if "to_q" in name:
            parameter.data.zero_()
    return subject


def whole_rows(batches: int) -> list[dict[str, torch.Tensor]]:
    """Batches of five rows that have everything, equally long: fixed weights are the same for all."""
    made = []
    for _ in range(batches):
        batch = whole_batch(raw_entries(), presence_table([7] * 5)) | {"target": torch.randint(CLASSES, (5,))}
        batch["audio_length"][:], batch["text_length"][:] = 65, 17
        made.append(batch)
    return made


def test_fixed_weights_that_answer_as_well_are_told():
    subject = blind()
    rows = gather(subject, whole_rows(3), 15)["data"]
    found = combination.diagnose(subject, {"data": rows}, {"data": surveys(subject, rows, None)})
    assert {gap.verdict for gap in found.measures if gap.name == "soft gap"} == {"warning"} and found.verdict == "warning"
    assert "might as well be fixed" in found.sentence
    assert all("the same places whatever the row" in measure.reason for measure in found.measures if measure.name == "input dependence")


def test_what_rows_lack_is_no_dependence_on_what_they_hold():
    subject, rows = blind(), trained_examples()[1]
    for one, _ in surveys(subject, rows, None).reads:
        found = combination.dependence("data", one, None)
        assert found.value > 0.05 and found.value == pytest.approx(found.reference["constant"], abs=1e-4)
        assert found.verdict == "warning" and "same places whatever the row" in found.reason and found.n == 20


def test_where_rows_are_few_nothing_is_claimed_of_what_soft_weights_are_worth():
    subject, rows = trained_examples()
    for number in (1, 5):
        found = combination.diagnose(subject, {"data": rows.first(number)}, {"data": surveys(subject, rows.first(number), None)})
        gaps = [measure for measure in found.measures if measure.name == "soft gap"]
        assert {(gap.verdict, "too few to say" in gap.reason) for gap in gaps} == {("ok", True)} and found.verdict == "ok"
        assert "too few to say" in found.sentence and "fixed" not in found.sentence and "matters" not in found.sentence
        told = [measure for measure in found.measures if measure.name == "input dependence" and measure.value is not None]
        assert all("too few to say" in measure.reason and measure.verdict == "ok" for measure in told)


def test_labels_that_the_model_does_not_know_leave_no_accuracy_to_lose():
    subject, rows = trained_examples()
    strange = replace(rows, rows=({**rows.rows[0], "target": torch.tensor(CLASSES)}, *rows.rows[1:]))
    found = combination.soft_gap(subject, strange, ["encoder.cross"])
    assert {(gap.verdict, gap.reason) for gap in found} == {("not applicable", f"data has a row of class {CLASSES}, and the model knows 0 to 6")}


def test_what_a_survey_cost_stands_beside_all_that_is_made_of_it():
    subject, rows = trained_examples()
    found = {"data": surveys(subject, rows, untrained(subject.model))}
    assert found["data"].price.passes == 2
    made = [*combination.diagnose(subject, {"data": rows}, found).measures, *focus.diagnose(subject, {"data": rows}, found).measures]
    assert {m.price.passes for m in made if m.name in ("mass", "lift", "input dependence", "entropy", "coverage", "spectral norm")} == {2}
    assert all("untrained" in m.reference for m in made if m.name == "spectral norm")


def test_a_row_with_one_key_has_no_entropy_and_the_others_keep_their_interval():
    subject = staring(carries=True, needed=True)
    rows = examples(subject)
    narrow = replace(rows, rows=(rows.rows[0] | {"pieces_mask": torch.arange(PIECES) == 2}, *[row | WHOLE for row in rows.rows[1:]]))
    found = focus.diagnose(subject, {"data": narrow}, {"data": surveys(subject, narrow, None)})
    (entropy,) = [m for m in found.measures if m.name == "entropy" and m.of["layer"] == "encoder.cross.0"]
    assert entropy.n == ROWS - 1 and entropy.interval is not None and 0 <= entropy.interval[0] <= entropy.value <= entropy.interval[1]


def test_a_model_without_attention_has_nothing_to_combine_with():
    subject = Subject(Classification(small_mean_pool(), CLASSES).eval())
    rows = gather(subject, [compact_batch(raw_entries(), presence_table([7] * 5)) | {"target": torch.zeros(5, dtype=torch.long)}], 5)["data"]
    found = surveys(subject, rows, None)
    assert found == Surveys([], None)
    assert combination.diagnose(subject, {"data": rows}, {"data": found}).verdict == "not applicable"
    assert focus.diagnose(subject, {"data": rows}, {"data": found}).verdict == "not applicable"


def test_of_very_many_queries_some_evenly_spaced_ones_are_looked_at():
    attention = Attention(WIDTH, heads=1)
    x, latents = torch.randn(2, 101, WIDTH), torch.randn(2, 5, WIDTH)
    weighed = Weighed(Call("decoder", attention, x, latents, None, None, attention(x, latents)), 5)
    assert weighed.q.shape[-2] == 5
    torch.testing.assert_close(weighed.q, attention.project(x[:, [0, 25, 50, 75, 100]], latents)[0])
    assert F.cosine_similarity(weighed.q[:, :, 0], attention.project(x[:, :1], latents)[0][:, :, 0], dim=-1).min() > 0.999


def test_a_second_call_of_the_same_layer_has_a_name_of_its_own():
    model = PerceiverIO(
        {"pieces": Vectors()},
        Encoder(3, 14, 12, cross_attend=(0, 0), self_attend=(0, 0), num_layers=1, self_block=partial(SelfBlock, heads=2)),
        LearnedQueries(1, 14),
        Decoder(14, 14),
        nn.Linear(14, 2),
    ).eval()
    subject = Subject(model)
    subject.learn_classes({"pieces": torch.rand(2, PIECES, WIDTH)})
    names = [one.layer for one in survey(subject, examples(subject))]
    assert names == ["encoder.cross.0", "encoder.stacks.0.0", "encoder.cross.0 (2)", "encoder.stacks.0.0 (2)", "decoder.cross"]
