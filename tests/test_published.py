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


# What doesn't fit. The scans below go through every row; the notes must hold what they find, and nothing else.
KEYS = list(published.results().columns[:-1])
ROW = [key for key in KEYS if key not in ("label", "metric")]
COCO = dict(paper="cnn_rnn", table="3", method="Softmax")  # a plain top 3


def wide(frame):
    """One row a method and setting, one column a metric."""
    return frame[frame["label"] == ""].pivot(index=ROW, columns="metric", values="value").dropna(how="all")


def harmonic(precision, recall):
    return 2 * precision * recall / (precision + recall)


def noted(kind):
    return {row[:-1]: row[-1] for row in published.notes(kind=kind)[[*KEYS, "computed"]].itertuples(index=False)}


def key(row, metric, label=""):
    cells = dict(zip(ROW, row, strict=True)) | {"metric": metric, "label": label}
    return tuple(cells[name] for name in KEYS)


def rule_ratio(row, half=0.05):
    """O-P / O-R, lowest and highest before rounding to one decimal."""
    return (row["O-P"] - half) / (row["O-R"] + half), (row["O-P"] + half) / (row["O-R"] - half)


def test_every_note_is_about_a_printed_number():
    notes = published.notes()
    assert list(notes.columns) == ["kind", *KEYS, "printed", "computed", "note"]
    joined = notes.merge(published.results(), on=KEYS, validate="one_to_one")
    assert len(joined) == len(notes) and (joined["printed"] == joined["value"]).all()
    assert np.isfinite(notes["computed"]).all()
    assert notes["note"].str.fullmatch(r"[A-Z].{20,}[.]").all()
    assert set(notes["kind"]) == {"F1", "mean", "quotation", "rule", "implausible", "comparison"}


def test_notes_hold_every_f1_that_its_row_does_not_give():
    found = {}
    for index, row in wide(published.results()).iterrows():
        for name in [name for name in row.index if name.startswith(("C-F1", "O-F1", "F@")) and np.isfinite(row[name])]:
            precision, recall = (row.get(name.replace("F1", side).replace("F@", f"{side}@")) for side in "PR")
            least, most = (harmonic(precision + half, recall + half) for half in (-0.05, 0.05))
            if not (np.isnan(least) or least - 0.05 <= row[name] <= most + 0.05):
                found[key(index, name)] = harmonic(precision, recall)
    assert found == pytest.approx(noted("F1"), abs=6e-4)
    assert len(found) == 14


def test_the_f1_of_mcar_table_i_that_do_not_fit_are_below_the_formula_as_a_mean_over_classes_would_be():
    for note in published.notes(kind="F1", paper="mcar").itertuples():
        assert note.printed < note.computed


def test_notes_hold_every_map_that_is_not_the_mean_of_its_row():
    found, rows = {}, 0
    for index, group in published.results(metric="AP").groupby(ROW, sort=False):
        printed = published.value(**dict(zip(ROW, index, strict=True)), metric="mAP", label="")
        rows += 1
        mean = group["value"].mean()
        spread = 0.1 / np.sqrt(12 * len(group))  # of a mean of numbers that were rounded to one decimal
        assert len(group) == 20
        if abs(mean - printed) > 0.05 + 3 * spread:
            found[key(index, "mAP")] = mean
    assert found == pytest.approx(noted("mean"), abs=6e-4)
    assert (rows, len(found)) == (42, 2)


def test_lyu_et_als_row_with_local_attention_is_the_best_of_its_table_by_its_classes():
    rows = published.results(paper="gla", table="I", metric="AP")
    assert rows.groupby("method")["value"].mean().idxmax() == "VGG+LSTM+L"


def test_notes_hold_every_class_that_two_papers_print_differently():
    frame = published.results(metric="AP")
    frame["method"] = frame["method"].replace({"RDAL": "RDAR", "FeV+LV": "Fev+Lv", "VeryDeep": "VGG+SVM"})
    frame = frame[frame["dataset"].eq("voc2007")]
    found = set()
    for _, group in frame.groupby(["method", "label"]):
        usual = group["value"].mode()[0]
        found |= {(row.paper, row.method, row.label, row.value) for row in group.itertuples() if row.value != usual}
    assert found == {("rdar", "CNN-SVM", "train", 87.2), ("gla", "I-FT", "sofa", 54.3)}
    notes = published.notes(kind="quotation", metric="AP")
    assert set(zip(notes["paper"], notes["method"], notes["label"], notes["printed"], strict=True)) == found
    for note in notes.itertuples():
        source = published.value(paper="cnn_rnn", table="4", method=note.method, label=note.label)
        assert source == note.computed


def test_numbers_quoted_as_map_are_map_at_10_of_the_source():
    notes = published.notes(kind="quotation", metric="mAP")
    assert sorted(zip(notes["paper"], notes["method"], strict=True)) == [
        ("gla", "CNN"), ("gla", "CNN-RNN"), ("mcar", "CNN-RNN")]  # fmt: skip
    for note in notes.itertuples():
        source = "No RNN" if note.method == "CNN" else note.method
        at_ten = published.value(paper="cnn_rnn", table="3", method=source, metric="MAP@10")
        assert note.printed == note.computed == at_ten


def test_notes_hold_every_row_whose_labels_per_image_are_not_the_rules():
    """With k labels an image O-P / O-R is (labels per image) / k for every method on one test set."""
    found = {}
    for paper, table, protocol in [("cnn_rnn", n, "") for n in "123"] + [("mcar", "I", "top-3")]:
        where = {"paper": paper, "table": table} | ({"protocol": protocol} if protocol else {})
        source = {"paper": "cnn_rnn", "table": table if paper == "cnn_rnn" else "3", "method": "Softmax"}
        reference = wide(published.results(**source)).iloc[0]
        low, high = rule_ratio(reference)
        for index, row in wide(published.results(**where)).iterrows():
            least, most = rule_ratio(row)
            if most < low or least > high:
                found[key(index, "O-P")] = row["O-R"] * reference["O-P"] / reference["O-R"]
    notes = noted("rule")
    quoted = {name: computed for name, computed in notes.items() if name[0] == "rdar"}
    assert found == pytest.approx({name: notes[name] for name in notes if name not in quoted}, abs=6e-4)
    assert len(found) == 19
    assert {name[KEYS.index("method")] for name in quoted} == {"WARP", "CNN-RNN"}
    for name, computed in quoted.items():
        source = published.value(paper="cnn_rnn", table="3", method=name[KEYS.index("method")], metric="O-P")
        assert source == computed


@pytest.mark.parametrize(("method", "recall"), [("No RNN", 63.1), ("WARP", 61.6)])
def test_another_recall_would_give_the_printed_f1(method, recall):
    precision, f1 = (
        published.value(paper="cnn_rnn", table="3", method=method, metric=name) for name in ("O-P", "O-F1")
    )
    assert round(harmonic(precision, recall), 1) == f1


def test_warps_other_recall_would_also_give_the_ratio_of_a_top_3():
    precision = published.value(paper="cnn_rnn", table="3", method="WARP", metric="O-P")
    softmax = wide(published.results(**COCO)).iloc[0]
    low, high = rule_ratio(softmax)
    assert low < precision / 61.6 < high


def test_coverage_is_far_above_what_the_ranking_loss_of_its_row_allows():
    """At the worst all reversed pairs of an image lie with its last label: labels - 1 + loss x labels x others."""
    notes = published.notes(kind="implausible")
    assert len(notes) == len(published.results(paper="gla", metric="coverage")) == 5
    for note in notes.itertuples():
        row = wide(published.results(paper="gla", table="II", method=note.method)).iloc[0]
        labels = 80 * row["hamming@3"] - 3 + 6 * row["P@3"] / 100  # 80 x Hamming loss = 3 + labels - 2 x hits
        assert labels == pytest.approx(2.9, abs=0.1)
        assert note.computed == pytest.approx(labels - 1 + row["ranking loss"] * labels * (80 - labels), abs=6e-4)
        assert note.printed > 3 * note.computed


def test_with_its_baselines_pooling_mcar_gains_half_as_much_on_coco():
    [note] = published.notes(kind="comparison").itertuples()
    where = dict(paper="mcar", table="VII", backbone="ResNet-101", input_size=448)
    baseline = published.value(method="Baseline", **where)
    assert note.computed == published.value(method="MCAR", setting="pooling=GAP", **where)
    gains = [round(value - baseline, 1) for value in (note.printed, note.computed)]
    assert gains == [6.7, 3.4]


def test_a_star_marks_the_numbers_with_a_note():
    rows = published.results(paper="mcar", table="I", metric="C-F1", protocol="all, p>0.6", dataset="coco2014")
    marks = published.marked(rows.set_index("method", drop=False))
    assert marks["SSGRL"] == "76.8*" and marks["SSGRL (reproduced)"] == "76.6"
    assert published.marked(rows[:0]).empty


def test_changing_a_note_leaves_the_notes_as_they_were():
    frame = published.notes()
    frame["note"] = ""
    assert published.notes()["note"].str.len().min() > 20


def test_unknown_column_of_the_notes_suggests_the_nearest():
    with pytest.raises(InputError, match=r"published notes have no column 'kinds'.*did you mean 'kind'"):
        published.notes(kinds="F1")


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
