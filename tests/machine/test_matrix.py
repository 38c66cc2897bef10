"""The pairwise matrix of `.ci/run` is pairwise: each pair of values that can be is in a row."""

from __future__ import annotations

from itertools import combinations, product

from support.matrix import ROWS, VALUES, possible


def test_every_possible_pair_of_choices_is_in_some_row() -> None:
    missing = []
    for first, second in combinations(VALUES, 2):
        for values in product(VALUES[first], VALUES[second]):
            pair = (first, values[0]), (second, values[1])
            covered = any(all(getattr(row, c) == v for c, v in pair) for row in ROWS)
            if possible(*pair) and not covered:
                missing.append(pair)
    assert not missing


def test_no_row_freezes_under_the_real_clock() -> None:
    assert all(row.freeze_every == "never" or row.clock == "virtual" for row in ROWS)


def test_every_row_names_known_values() -> None:
    assert all(getattr(row, column) in VALUES[column] for row in ROWS for column in VALUES)
