"""The table of protocols: each number stands under its convention, and the spread names its two ends."""

import numpy as np
import pytest

from mlic_core.metrics import average_precision, protocol_matrix
from mlic_core.study.protocols import protocol_text

SCORES = np.array([[2.0, -1.0, 0.5], [1.0, -3.0, 3.0], [-2.0, 4.0, -0.2], [-1.0, 1.0, 0.1]])
TARGETS = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 0], [-1, -1, 0]], np.int8)


def tables(targets):
    """The lines of each metric's table, by metric; and the line above them."""
    first, *rest = protocol_text(protocol_matrix(SCORES, targets)).split("\n\n")
    return first, {block.split()[0]: block.splitlines() for block in rest}


def test_every_convention_has_its_line_and_every_handling_its_column():
    first, found = tables(TARGETS)
    assert list(found) == ["mAP", "C-F1", "O-F1"] and "over 3 classes; columns:" in first
    assert found["mAP"][0].split() == ["mAP", "ignored", "present", "absent"]
    assert [line.split(":")[0].strip() for line in found["mAP"][1:-1]] == ["raw", "voc10", "voc07"]
    settled = [TARGETS, np.where(TARGETS == -1, 1, TARGETS), np.where(TARGETS == -1, 0, TARGETS)]
    expected = [f"{100 * average_precision(SCORES, targets).mean():.2f}" for targets in settled]
    assert found["mAP"][1].split()[-3:] == expected
    assert len(found["C-F1"]) == 1 + 10 + 1 and len(found["O-F1"]) == 1 + 5 + 1
    assert len({len(line) for line in found["mAP"][:-1]}) == 1  # aligned


def test_the_spread_is_between_the_lowest_and_the_highest():
    _, found = tables(TARGETS)
    frame = protocol_matrix(SCORES, TARGETS)
    values = frame[frame["metric"] == "mAP"].set_index(["definition", "difficult"])["value"]
    low, high = values.idxmin(), values.idxmax()
    words = {"ignore": "ignored", "positive": "present", "negative": "absent"}
    assert found["mAP"][-1] == (
        f"from {values.min():.2f} ({low[0]}, difficult {words[low[1]]}) to {values.max():.2f} "
        f"({high[0]}, difficult {words[high[1]]}): a range of {values.max() - values.min():.2f} points")


def test_without_difficult_objects_there_is_one_column():
    first, found = tables(np.abs(TARGETS))
    assert "every handling" in first
    assert all(len(line.split(": ")[-1].split()) > 1 and "ignored" not in line for line in found["mAP"][1:])
    assert found["mAP"][0] == "mAP" and "difficult" not in found["mAP"][-1]


@pytest.mark.parametrize("fill", [0, -1])
def test_what_is_not_defined_is_a_dash(fill):
    _, found = tables(np.full_like(TARGETS, fill))
    assert found["mAP"][1].split()[-1 if fill == 0 else -3] == "-"
    if fill == 0:
        assert found["mAP"][-1] == "mAP is not defined: there is no positive"
