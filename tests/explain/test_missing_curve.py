"""The missing-modality curve: its expected value from the answers to every set."""

import pytest
import torch
from hand_made import a_world, both_world, examples, rows_of, subject, vote, xor_world

from perceiver import ModalityDropout
from perceiver.explain.modalities.coalitions import coalitions
from perceiver.explain.modalities.missing import AREA, RATES, area, curve, measures, patterns


def three_with_gaps():
    """Three modalities, of which rows have any set but none; the label is in `a`, noise in the others."""
    bits = torch.randint(2, (61, 3), generator=torch.Generator().manual_seed(5)).tolist()
    rows = rows_of(bits, "abc", lambda a, b, c: a)
    codes = [place % 7 + 1 for place in range(len(rows))]
    rows = [{key: row[key] for key in row if key == "target" or code >> "abc".index(key) & 1} for row, code in zip(rows, codes, strict=True)]
    asked = subject("abc", vote)
    return coalitions(asked, examples(rows, "abc"))


def test_a_curve_starts_with_everything_and_ends_without():
    found = coalitions(*a_world())
    values = found.values()
    for names in ("a", "b"):
        mine = curve(found, values, frozenset(names))
        assert torch.equal(mine[:, 0], values[frozenset("ab")]) and torch.equal(mine[:, -1], values[frozenset("ab") - frozenset(names)])
    one = curve(found, values, frozenset("a")).mean(0)
    torch.testing.assert_close(one, 1 - 0.5 * RATES)
    assert area(curve(found, values, frozenset("a"))).mean() == pytest.approx(0.75)


def test_where_all_would_go_one_of_them_stays():
    found = coalitions(*a_world())
    end = curve(found, found.values(), frozenset("ab")).mean(0)
    p = RATES
    torch.testing.assert_close(end, (1 - p) * 1 + p * (1 - p) * 0.5 + p * p * (1 + 0.5) / 2)


@pytest.mark.parametrize("rate", [0.3, 0.9])
def test_the_curve_is_what_modality_dropout_does_on_average(rate: float):
    found = three_with_gaps()
    values = found.values()
    expected = curve(found, values, frozenset("abc"))[:, round(10 * rate)]
    dropout = ModalityDropout(rate)
    total = torch.zeros(len(found), dtype=torch.double)
    draws = 4000
    for _ in range(draws):
        kept = dropout({name: found.present[name] for name in found.players})
        code = sum(kept[name].long() << place for place, name in enumerate(found.players))
        table = torch.stack([values[frozenset(name for i, name in enumerate(found.players) if number >> i & 1)] for number in range(8)])
        total += table.gather(0, code[None])[0]
    torch.testing.assert_close(total / draws, expected, atol=0.04, rtol=0)
    assert expected.std() > 0.1


def test_rows_that_have_none_of_what_goes_missing_stay_as_they_are():
    found = three_with_gaps()
    mine = curve(found, found.values(), frozenset("b"))
    lack = ~found.present["b"]
    assert torch.equal(mine[lack], mine[lack][:, :1].expand(-1, len(RATES)))
    assert {m.n for m in measures(found) if m.of["modality"] == "b"} == {int(found.present["b"].sum())}


def test_patterns_share_out_all_rows():
    found = three_with_gaps()
    parts = patterns(found)
    assert len(parts) == 7 and torch.stack(list(parts.values())).sum(0).eq(1).all()
    for has, rows in parts.items():
        assert all(found.present[name][rows].all() == (name in has) for name in "abc")


def test_each_set_that_may_go_missing_has_its_area():
    answered = three_with_gaps()
    found = {m.of["modality"]: m for m in measures(answered)}
    assert list(found) == ["a", "b", "c", "a+b", "a+c", "b+c", "a+b+c"]
    assert {m.name for m in found.values()} == {AREA} and {m.price for m in found.values()} == {answered.price}


def test_an_area_stands_beside_the_whole_and_chance():
    (first, *_, last) = measures(coalitions(*a_world()))
    assert first.value == pytest.approx(0.75) and first.verdict == "ok"
    expected = {"with everything": 1, "half missing": 0.75, "all missing": 0.5, "chance": 0.5, "majority": 0.5, "relative to everything": 0.75}
    assert {key: first.reference[key] for key in expected} == pytest.approx(expected)
    assert first.reference["kept above the commonest class"] == pytest.approx(0.5)
    assert "100 % right; 75 % when a goes missing from half of the rows, and 50 % from all" in first.reason
    assert last.of["modality"] == "a+b" and "but for one at random" in last.reason


def test_what_both_say_can_go_missing_without_harm():
    first = measures(coalitions(*both_world()))[0]
    assert first.value == pytest.approx(1) and first.reference["all missing"] == 1


def test_a_model_that_is_misled_by_absence_is_warned_of():
    def misled(said: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.where((said["b"].amax(1) > 0.5)[:, None], said["a"], 1 - said["a"])

    by_name = {m.of["modality"]: m for m in measures(coalitions(subject("ab", misled), a_world()[1]))}
    assert by_name["b"].reference["all missing"] == 0 and by_name["b"].verdict == "warning" and "misled" in by_name["b"].reason
    assert by_name["a"].verdict == "ok"


def test_a_modality_that_is_asked_for_never_goes_missing():
    """It is there, so that both others may go, though the model does not believe it."""
    asked, some = both_world(model=lambda said: said["b"], names="abc")
    found = coalitions(asked, examples([{**row, "a_target": row["a"]} for row in some.rows], ("a", "b", "c", "a_target")))
    by_name = {m.of["modality"]: m for m in measures(found)}
    assert by_name["b+c"].reference["all missing"] == 0.5 and "but for one" not in by_name["b+c"].reason
    assert by_name["a"].verdict == "not applicable"


def test_few_rows_and_one_modality_say_so():
    asked, some = xor_world()
    assert "too few" in measures(coalitions(asked, some.first(3)))[0].reason
    (only,) = measures(coalitions(asked, examples(rows_of([(0,), (1,)] * 7, "a", lambda a: a), "ab")))
    assert only.verdict == "not applicable" and "one modality" in only.reason
