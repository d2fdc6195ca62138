"""The heat map of protocols: its numbers, its colours, and that the same frame gives the same bytes."""

import io

import matplotlib
import numpy as np
import pytest

from mlic_core.errors import InputError
from mlic_core.metrics import protocol_matrix
from mlic_core.plots_protocols import moved, protocol_heat_map

RNG = np.random.default_rng(0)
TARGETS = RNG.choice(np.array([1, 0, -1], np.int8), size=(200, 5), p=[0.4, 0.5, 0.1])
SCORES = RNG.normal(size=TARGETS.shape) + 2 * (TARGETS == 1)
FRAME = protocol_matrix(SCORES, TARGETS)
OTHER = protocol_matrix(-SCORES, TARGETS)


def png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def test_distances_are_from_each_metrics_own_headline():
    by_row = moved(FRAME).set_index(["metric", "definition", "rule", "difficult"])
    headlines = [("mAP", "raw", ""), ("C-F1", "harmonic", "p > 0.5"), ("O-F1", "", "p > 0.5")]
    for metric, definition, rule in headlines:
        assert by_row.loc[(metric, definition, rule, "ignore"), "moved"] == 0
    voc07 = by_row.loc[("mAP", "voc07", "", "positive")]
    assert voc07["moved"] == pytest.approx(voc07["value"] - by_row.loc[("mAP", "raw", "", "ignore"), "value"])
    assert "moved" not in FRAME.columns


def test_a_frame_without_the_headline_is_refused():
    with pytest.raises(InputError, match=r"one row for the headline of mAP \(mAP, raw, difficult ignore\), not 0"):
        moved(FRAME[FRAME["difficult"] == "positive"])
    with pytest.raises(InputError, match="headline of F2"):
        protocol_heat_map({"a": FRAME.replace({"metric": {"O-F1": "F2"}})})


def test_every_value_is_written_into_its_cell():
    figure = protocol_heat_map({"one": FRAME, "two": OTHER})
    panels = [axis for axis in figure.axes if axis.get_title(loc="left")]
    assert [axis.get_title(loc="left") for axis in panels] == ["one", "two"]
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert len(names) == 18 and names[:3] == ["mAP, raw", "mAP, voc10", "mAP, voc07"]
    assert names[-1] == "O-F1, top-3 and p > 0.6"
    by_row = FRAME.set_index(["metric", "definition", "rule", "difficult"])["value"]
    written = {text.get_position(): text.get_text() for text in panels[0].texts}
    assert len(written) == len(FRAME) == 54
    place = (1, names.index("C-F1, harmonic, p > 0.6"))
    assert written[place] == f"{by_row['C-F1', 'harmonic', 'p > 0.6', 'positive']:.1f}"


def test_panels_share_one_scale_that_a_far_rule_saturates():
    figure = protocol_heat_map({"one": FRAME, "two": OTHER})
    limits = {axis.images[0].get_clim() for axis in figure.axes if axis.get_title(loc="left")}
    assert limits == {(-5.0, 5.0)}
    near = FRAME.assign(value=FRAME["value"] / 20)
    [axis] = [axis for axis in protocol_heat_map({"one": near}).axes if axis.get_title(loc="left")]
    furthest = moved(near)["moved"].abs().max()
    assert axis.images[0].get_clim() == pytest.approx((-furthest, furthest))


def test_targets_without_difficult_entries_give_one_column():
    frame = protocol_matrix(SCORES, np.abs(TARGETS))
    [axis] = [axis for axis in protocol_heat_map({"run": frame}).axes if axis.get_title(loc="left")]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["ignore"]


def test_the_same_frame_gives_the_same_bytes_and_leaves_the_callers_style():
    before = dict(matplotlib.rcParams)
    assert png(protocol_heat_map({"a": FRAME})) == png(protocol_heat_map({"a": FRAME.copy()}))
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == []
