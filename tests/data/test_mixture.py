"""The mixture: each step's rows follow from (seed, step, rank) alone, each row comes once a pass, each dataset gets its share."""

import pickle
from collections import Counter

import numpy as np
import pytest
from builders import bounded
from hypothesis import given
from hypothesis import strategies as st

from perceiver.data.mixture.order import CHUNK, Mixture, shares
from perceiver.data.permutation import key_of, permute

SIZES = {"images": 41, "sounds": 53, "texts": 29}


def mixture(batch_size: int = 6, rows_per_dataset: int | None = None, seed: int = 3, **weights: float) -> Mixture:
    probabilities = shares(SIZES, {name: weights.get(name, 1.0) for name in SIZES}, alpha=0.0)
    return Mixture(SIZES, probabilities, batch_size=batch_size, rows_per_dataset=rows_per_dataset or batch_size, seed=seed)


@bounded
@given(st.integers(1, 3_000), st.integers(0, 2**64 - 1))
def test_a_keyed_permutation_holds_each_row_once(length, key):
    assert sorted(permute(np.arange(length), length, key)) == list(range(length))


@bounded
@given(st.integers(1, 3_000), st.data())
def test_a_row_of_a_permutation_does_not_depend_on_which_others_are_asked_for(length, data):
    position = data.draw(st.integers(0, length - 1))
    assert permute(np.array([position]), length, 5)[0] == permute(np.arange(length), length, 5)[position]


def test_all_orders_of_a_few_rows_come_about_equally_often():
    orders = Counter(tuple(permute(np.arange(4), 4, key_of(i, 7))) for i in range(4_800))
    assert len(orders) == 24
    # 24 cells of 200 expected: chi-squared with 23 degrees of freedom exceeds 50 once in a thousand.
    assert sum((n - 200) ** 2 / 200 for n in orders.values()) < 50


def test_a_position_beyond_the_length_is_refused():
    with pytest.raises(ValueError, match="positions 0 to 7 of a shuffle of 7 rows"):
        permute(np.array([0, 7]), 7, 1)


def test_the_order_of_the_numbers_in_a_key_counts():
    assert len({key_of(2, 3), key_of(3, 2), key_of(2, 3, 0), key_of(5)}) == 4


@pytest.mark.parametrize("rows_per_dataset", [6, 3, 1])
def test_each_row_of_a_dataset_comes_once_in_each_pass(rows_per_dataset):
    used = mixture(rows_per_dataset=rows_per_dataset)
    seen = Counter(draw for step in range(200) for draw in used.draws(step))
    assert set(seen.values()) == {1}  # a draw holds dataset, row and pass
    for dataset, size in enumerate(SIZES.values()):
        last = max(draw.epoch for draw in seen if draw.dataset == dataset)
        assert last > 3
        for epoch in range(last):  # the last pass is not over
            assert {draw.row for draw in seen if draw.dataset == dataset and draw.epoch == epoch} == set(range(size))


def test_passes_come_in_different_orders_and_so_do_seeds():
    def order(seed: int, epoch: int) -> list[int]:
        used = mixture(seed=seed)
        return [d.row for step in range(100) for d in used.draws(step) if d.dataset == 0 and d.epoch == epoch]

    assert order(3, 0) != order(3, 1) != order(5, 1)
    assert sorted(order(3, 0)) == sorted(order(3, 1)) == sorted(order(5, 1))


@bounded
@given(st.integers(0, 3 * CHUNK), st.integers(0, 2**32))
def test_a_step_does_not_depend_on_which_steps_were_asked_for_before(step, seed):
    used = mixture(seed=seed, rows_per_dataset=2)
    used.draws(7)
    used.draws(step + 1)
    assert used.draws(step) == mixture(seed=seed, rows_per_dataset=2).draws(step)


@pytest.mark.parametrize("rows_per_dataset", [12, 3, 1])
def test_ranks_draw_disjoint_rows_that_are_together_those_of_one_rank(rows_per_dataset):
    for step in (0, 11, CHUNK + 5):
        whole = mixture(12, rows_per_dataset).draws(step)
        assert [draw for rank in range(3) for draw in mixture(12, rows_per_dataset).draws(step, rank, 3)] == whole
        assert len(set(whole)) == 12


def test_all_ranks_draw_the_same_dataset_at_a_step():
    for step in range(50):
        assert len({draw.dataset for rank in range(2) for draw in mixture().draws(step, rank, 2)}) == 1


def test_at_any_time_each_dataset_has_had_its_share_to_within_a_few_batches():
    counts, weighted = np.zeros(3), mixture(sounds=2.5)
    for step in range(3_000):
        counts[weighted.draws(step)[0].dataset] += 1
        assert np.abs(counts - (step + 1) * np.array([1, 2.5, 1]) / 4.5).max() < 4


def test_shares_follow_weights_sizes_or_a_temperature_between():
    weights = {"images": 1.0, "sounds": 3.0, "texts": 1.0}
    assert shares(SIZES, weights, 0.0) == pytest.approx({"images": 0.2, "sounds": 0.6, "texts": 0.2})
    equal = dict.fromkeys(SIZES, 1.0)
    assert shares(SIZES, equal, 1.0) == pytest.approx({name: size / 123 for name, size in SIZES.items()})
    half = shares(SIZES, equal, 0.5)
    assert half["sounds"] / half["texts"] == pytest.approx((53 / 29) ** 0.5)


@pytest.mark.parametrize(
    ("sizes", "weights", "said"),
    [({"a": 0}, {"a": 1.0}, "'a' has no rows"), ({"a": 5}, {"a": 0.0}, "weight=0.0 of dataset 'a'"), ({"a": 5}, {"a": float("nan")}, "weight=nan")],
)
def test_an_empty_dataset_and_a_weight_that_is_not_positive_are_refused(sizes, weights, said):
    with pytest.raises(ValueError, match=said):
        shares(sizes, weights, 0.0)


def test_what_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="rows_per_dataset=4 does not divide batch_size=6"):
        mixture(rows_per_dataset=4)
    with pytest.raises(ValueError, match="batch_size=6 rows cannot be shared equally among 4 ranks"):
        mixture().draws(0, 0, 4)


def test_a_mixture_goes_to_workers_and_comes_to_the_same_rows_there():
    used = mixture()
    used.draws(5)
    assert pickle.loads(pickle.dumps(used)).draws(CHUNK + 1) == used.draws(CHUNK + 1)
