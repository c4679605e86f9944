"""The numbers of a sequence, on a matrix whose results are known."""

import pytest

from ftrun.tasks.metrics.continual import average, backward_transfer, forgetting, forward_transfer

MATRIX = [[95, 12, 8, 11], [70, 93, 15, 9], [82, 60, 94, 13], [55, 65, 80, 92]]
UNTRAINED = [10, 9, 11, 10]


def changed():
    """The first task ends better than it ever was."""
    return [*MATRIX[:3], [99, *MATRIX[3][1:]]]


def below_the_diagonal():
    """As with heads of their own: nothing is known of a task before it was trained."""
    return [[value if j <= i else None for j, value in enumerate(row)] for i, row in enumerate(MATRIX)]


def test_the_four_numbers():
    assert average(MATRIX) == 73.0
    assert backward_transfer(MATRIX) == pytest.approx(-27.3333, abs=1e-4)
    assert forward_transfer(MATRIX, UNTRAINED) == pytest.approx(3.3333, abs=1e-4)
    assert forgetting(MATRIX) == pytest.approx(27.3333, abs=1e-4)


def test_a_task_that_gained_counts_below_zero():
    """95 → 99: -4 of forgetting instead of 40, +4 of backward transfer instead of -40; a third of each."""
    assert forgetting(changed()) == pytest.approx(forgetting(MATRIX) - 44 / 3)
    assert backward_transfer(changed()) == pytest.approx(backward_transfer(MATRIX) + 44 / 3)
    two = [[95, 12], [99, 80]]
    assert forgetting(two) == -4 and backward_transfer(two) == 4


def test_forgetting_is_from_the_best_and_transfer_from_the_first_score():
    risen = [[50, 0, 0], [90, 50, 0], [60, 50, 50]]
    assert forgetting(risen) == 15  # (90 - 60 + 50 - 50) / 2
    assert backward_transfer(risen) == 5  # (60 - 50 + 50 - 50) / 2


def test_what_was_not_measured_is_left_out():
    matrix = below_the_diagonal()
    assert average(matrix) == 73.0
    assert forgetting(matrix) == forgetting(MATRIX)
    assert backward_transfer(matrix) == backward_transfer(MATRIX)
    assert forward_transfer(matrix, UNTRAINED) is None
    assert forward_transfer(MATRIX, [None] * 4) is None


def test_nothing_is_changed():
    before = [list(row) for row in MATRIX]
    forgetting(MATRIX)
    backward_transfer(MATRIX)
    assert before == MATRIX
