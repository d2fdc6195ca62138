"""The table of printed numbers, and what the papers' own numbers say about each other."""

import numpy as np
import pytest

from mlic_core import paths, published
from mlic_core.errors import InputError


def test_every_printed_number_is_there():
    frame = published.results()
    assert len(frame) == 1333
    assert set(frame["paper"]) == {"cnn_rnn", "rdar", "gla", "mcar"}
    assert " ".join(frame.columns) == (
        "paper table dataset method backbone input_size setting protocol label metric value"
    )
    assert np.isfinite(frame["value"]).all()


def test_no_two_rows_share_all_their_conditions():
    assert not published.results().duplicated(subset=list(published.results().columns[:-1])).any()


def test_lookup_finds_one_number():
    assert published.value(paper="mcar", table="IV", dataset="voc2007", setting="streams=local") == 94.2
    ten_crop = published.value(paper="rdar", table=6, dataset="coco2014", input_size=640, protocol="ten-crop")
    assert ten_crop == 72.3


def test_blank_cells_are_found_as_empty_text():
    value = published.value(paper="cnn_rnn", table="4", method="CNN-RNN", label="", metric="mAP")
    assert value == 84.0


def test_lookup_without_a_row_suggests_the_nearest_value():
    with pytest.raises(InputError, match=r"no published result has .*did you mean 'voc2007'"):
        published.value(paper="mcar", dataset="voc-2007")


def test_lookup_with_several_rows_names_the_columns_that_tell_them_apart():
    with pytest.raises(InputError, match=r"2 published results .* they differ in dataset:"):
        published.value(paper="mcar", table="VI", setting="loss=pair")


def test_unknown_column_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'dataset'"):
        published.results(data_set="voc2007")


def test_changing_a_result_leaves_the_table_as_it_was():
    frame = published.results()
    frame["value"] = 0.0
    assert published.results()["value"].max() > 1


@pytest.mark.parametrize(
    ("paper", "table", "method", "printed", "mean"),
    [
        ("gla", "I", "VGG+LSTM+L", 85.2, 85.59),
        ("gla", "I", "I-FT", 74.5, 74.42),
        ("mcar", "II", "MCAR", 94.8, 94.8),
    ],
)
def test_printed_map_beside_the_mean_of_its_row(paper, table, method, printed, mean):
    row = published.results(paper=paper, table=table, method=method, metric="AP")
    assert len(row) == 20
    assert row["value"].mean() == pytest.approx(mean, abs=0.051)
    assert published.value(paper=paper, table=table, method=method, metric="mAP") == printed


def test_no_rnn_prints_an_f1_one_point_above_its_own_precision_and_recall():
    def row(metric):
        return published.value(paper="cnn_rnn", table="3", method="No RNN", metric=metric)

    assert row("O-F1") == 65.7
    assert 2 * row("O-P") * row("O-R") / (row("O-P") + row("O-R")) == pytest.approx(64.7, abs=0.05)


def test_missing_repository_is_one_clear_sentence(monkeypatch, tmp_path):
    monkeypatch.delenv("MLIC_HOME", raising=False)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "mlic_core" / "paths.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"published_results\.csv is neither above .* set MLIC_HOME"):
        paths.repository_root()


def test_current_folder_helps_a_package_installed_elsewhere(monkeypatch, tmp_path):
    monkeypatch.delenv("MLIC_HOME", raising=False)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "mlic_core" / "paths.py"))
    (tmp_path / "clone" / "data").mkdir(parents=True)
    (tmp_path / "clone" / "notebooks").mkdir()
    (tmp_path / "clone" / paths.MARKER).touch()
    monkeypatch.chdir(tmp_path / "clone" / "notebooks")
    assert paths.repository_root() == tmp_path / "clone"


def test_mlic_home_overrides_the_search_and_must_be_right(monkeypatch, tmp_path):
    monkeypatch.setenv("MLIC_HOME", str(tmp_path))
    with pytest.raises(InputError, match="MLIC_HOME is"):
        paths.repository_root()
    (tmp_path / "data").mkdir()
    (tmp_path / paths.MARKER).touch()
    assert paths.repository_root() == tmp_path
