"""The report: each number leads to its run and its notebook, every link resolves, no network or script is needed."""

import json
import os
import re
import shutil
from collections import Counter
from html import unescape
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat.v4 as v4
import pandas
import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner
from matplotlib.figure import Figure

from mlic_core.errors import InputError
from mlic_core.study import page, report
from mlic_core.study.cli import main
from mlic_core.study.files import sha256, with_checksum, without_checksum
from mlic_core.study.formulas import formula, markdown_to_html
from mlic_core.study.notebook_pages import Executed, find_places, read_notebooks, to_html
from mlic_core.study.page import read_table, write_report
from mlic_core.study.record import Record, write_record

EVIL = "<script>alert(1)</script>"


def record(folder, name, method="mcar", seed=0, **settings):
    """A stored run of one class with a name that needs escaping."""
    config = {"data.name": "picto-voc", "data.size": 112, "seed": seed, "trunk.weights": "pretrained"}
    config |= {"method.name": method, "method.topN": 4} | settings
    metrics = {"mAP": 81.234567, "classes": 1, "mAP steps": [70.0, None], "AP": {f"cow {EVIL}": 81.234567}}
    made = Record(
        folder / "runs" / name,
        name,
        config,
        metrics,
        90.0,
        3 * 2**29,
        {"torch": "2.0"},
        "c0ffee",
        True,
        "cpu",
        "codehash",
        "scoringhash",
    )
    made.folder.mkdir(parents=True)
    write_record(made)
    return made


def notebook(*cells):
    """A notebook of pairs: "m" and Markdown, or "c" and code."""
    return v4.new_notebook(
        cells=[v4.new_markdown_cell(text) if kind == "m" else v4.new_code_cell(text) for kind, text in cells]
    )


def picture(cell, folder, name):
    import base64

    data = base64.b64encode((folder / f"figures/{name}.png").read_bytes()).decode()
    cell.outputs.append(v4.new_output("display_data", {"image/png": data, "text/plain": "<Figure>"}))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """results/study: four runs, a figure and a table from a notebook each, and a table from none."""
    folder = tmp_path_factory.mktemp("made") / "results/study"
    runs = [
        record(folder, "aaaa", "classifier"),
        record(folder, "bbbb", **{"trunk.weights": "run:aaaa"}),
        record(folder, "cccc", seed=1, **{"trunk.weights": "run:aaaa"}),
        record(folder, "dddd", seed=2, **{"method.topN": 2}),
    ]
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1], [1, 0])
    report.save_figure(folder, figure, "curves", f"Curves of {EVIL} fall. The rest of the caption.", runs[1:3])
    frame = pandas.DataFrame({"model": ["MCAR", f"{EVIL} a|b", ""], "mAP": [81.234567, None, 2.0]})
    frame["range"] = ["80.1 ± 0.5", "", ""]
    report.save_table(folder, frame, "main", "What to see.", runs)
    report.save_table(folder, pandas.DataFrame({"x": [1]}), "alone", "From nowhere.")
    first = notebook(("m", "# 01 First: *look*"), ("c", "study.save_table(frame, 'main', caption, runs)"))
    second = notebook(
        ("m", "# 02 Second"),
        ("m", "## A `section`"),
        ("c", "x = 1 < 2"),
        ("c", "study.save_figure(figure, 'curves', caption)"),
        ("m", "## Later"),
    )
    picture(second.cells[3], folder, "curves")
    (folder / "notebooks").mkdir()
    for name, content in (("01_first", first), ("02_second", second)):
        (folder / f"notebooks/{name}.ipynb").write_text(json.dumps(content))
    return folder.parent


@pytest.fixture
def results(made, tmp_path):
    """A copy to change."""
    return shutil.copytree(made, tmp_path / "results", ignore=shutil.ignore_patterns("report"))


@pytest.fixture(scope="module")
def reported(made):
    """The same with its report, to read."""
    write_report("study", made)
    return made


@pytest.fixture
def index(reported):
    return soup(reported / "study/report/index.html")


def soup(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def pages(results):
    return sorted((results / "study/report").rglob("*.html"))


def figure_of(index, anchor):
    return index.find("figure", id=anchor)


# What stands where


def test_the_index_shows_each_entry_under_its_notebook_in_order(index):
    shown = [tag.get("id") or tag.get_text() for tag in index.find("main")(["h2", "h3", "figure"])]
    assert shown == ["01_first", "table-main", "02_second", "A section", "figure-curves", "others", "table-alone"]
    assert [tag.get_text() for tag in index("h2")][:2] == ["01 First: look", "02 Second"]


def test_the_contents_list_every_chapter(index):
    links = index.find("nav", class_="contents")("a")
    assert [link["href"] for link in links] == ["#01_first", "#02_second", "#others"]


def test_a_figure_has_its_first_sentence_as_alt_its_caption_and_its_svg(index):
    figure = figure_of(index, "figure-curves")
    assert figure.img["src"] == "../figures/curves.png" and figure.a["href"] == "../figures/curves.svg"
    assert figure.img["alt"] == f"Curves of {EVIL} fall."
    assert figure.figcaption.get_text() == f"Curves of {EVIL} fall. The rest of the caption."


def test_a_figure_is_shown_at_the_size_that_it_was_drawn_at(index, reported):
    from PIL import Image

    image = figure_of(index, "figure-curves").img
    with Image.open(reported / "study/figures/curves.png") as stored:
        inches = [side / 120 for side in stored.size]
    assert [int(image["width"]), int(image["height"])] == [round(96 * side) for side in inches]


def test_a_table_shows_the_cells_of_its_markdown(index):
    table = figure_of(index, "table-main").table
    assert [[cell.get_text() for cell in row(["th", "td"])] for row in table("tr")] == [
        ["model", "mAP", "range"],
        ["MCAR", "81.23", "80.1 ± 0.5"],
        [f"{EVIL} a|b", "", ""],
        ["", "2", ""],
    ]
    assert [cell.get("class") for cell in table("tr")[1](["th", "td"])] == [["short"], ["number"], ["number"]]
    assert table("tr")[2].th["class"] == ["long"]


def test_runs_are_named_by_method_and_data_and_lead_to_their_pages(index):
    details = figure_of(index, "table-main").details
    assert details.summary.get_text() == "4 runs behind main"
    assert [" ".join(item.get_text().split()) for item in details("li")] == [
        "classifier on picto-voc: aaaa",
        "mcar on picto-voc: bbbb, cccc, dddd",
    ]
    assert [link["href"] for link in details("a")] == [f"runs/{name}.html" for name in ("aaaa", "bbbb", "cccc", "dddd")]


def test_an_entry_without_runs_says_so(index):
    assert "No runs behind alone" in figure_of(index, "table-alone").get_text()


def test_an_entry_leads_to_the_cell_that_saved_it(index, reported):
    link = figure_of(index, "figure-curves").find("a", string=re.compile("cell of curves"))
    name, fragment = link["href"].split("#")
    cell = soup(reported / "study/report" / name).find(id=fragment)
    assert "save_figure" in cell.get_text() and cell.img["alt"] == f"Curves of {EVIL} fall."


def test_a_run_page_holds_the_record(index, reported):
    run = soup(reported / "study/report/runs/bbbb.html")
    rows = {row.th.get_text(): row.td.get_text() for row in run("tr") if row.td}
    expected = {
        "mAP": "81.23",
        "classes": "1",
        "mAP steps": "70.00, –",
        f"cow {EVIL}": "81.23",
        "data.size": "112",
        "trunk.weights": "run aaaa",
        "Time": "1:30",
        "Peak memory": "1.50 GiB",
        "Device": "cpu",
        "Commit": "c0ffee and changes",
        "Code": "codehash",
        "Code of the metrics": "scoringhash",
        "torch": "2.0",
    }
    assert expected.items() <= rows.items()
    assert run.find("a", string="aaaa")["href"] == "aaaa.html"
    assert [link.get_text() for link in run.main.ul("a")] == ["tables/main", "figures/curves"]


def test_the_overview_names_the_settings_that_few_runs_of_a_method_have(index, reported):
    rows = {
        row.th.get_text(): [cell.get_text() for cell in row("td")]
        for row in soup(reported / "study/report/runs.html")("tr")
        if row.td
    }
    assert rows["bbbb"] == ["0", "81.23", "1:30", ""]
    assert rows["dddd"] == ["2", "81.23", "1:30", "method.topN 2, trunk.weights pretrained"]


# Where entries were saved


def executed(*cells):
    return Executed("n", notebook(*cells))


def test_a_literal_name_goes_before_a_pattern_and_a_pattern_before_any_string():
    books = [
        executed(
            ("c", "s.save_table(f, names[k], c); {'a': 'x_sizes', 'b': 'one_other'}"),
            ("c", "s.save_table(f, f'{data}_sizes', c)"),
        ),
        executed(("m", "s.save_table(f, 'x_sizes')"), ("c", "%magic"), ("c", "\ns.save_table(f, 'x_sizes')")),
    ]
    entries = ["tables/x_sizes", "tables/y_sizes", "tables/one_other", "tables/none", "tables/y_sizes_too"]
    found = find_places(books, entries)
    assert found == {"tables/x_sizes": (1, 2, 2), "tables/y_sizes": (0, 1, 1), "tables/one_other": (0, 0, 1)}


def test_a_figure_and_a_table_of_one_name_keep_apart():
    books = [executed(("c", "save_table(f, 'a')\ns.save_table(f, 'a')\ns.save_figure(f, name='a')"))]
    assert find_places(books, ["figures/a", "tables/a"]) == {"figures/a": (0, 0, 3), "tables/a": (0, 0, 2)}


def test_a_pattern_is_no_regular_expression_of_the_author():
    books = [executed(("c", "s.save_table(f, f'a.b{x}')"))]
    assert find_places(books, ["tables/axb1", "tables/a.b1"]) == {"tables/a.b1": (0, 0, 1)}


def test_the_section_is_the_last_heading_before_the_cell():
    book = executed(("m", "# T\n\n## One\n\ntext\n### Two"), ("c", "## no"), ("m", "## Three"))
    assert [book.section(cell) for cell in (0, 1, 2)] == ["", "Two", "Two"] and book.title == "T"
    assert executed(("c", "1")).title == "n"


# Tables and text


@pytest.mark.parametrize(
    ("cells", "right"),
    [
        (["80.1 ± 0.5", ""], True),
        (["−0.6 to +0.2"], True),
        (["85.0 (83.4, 86.8)"], True),
        (["57.2*", "35"], True),
        (["12 %"], True),
        (["seen"], False),
        (["1", "to"], False),
        (["", ""], False),
        (["1e4x"], False),
        (["±"], False),
    ],
)
def test_columns_of_numbers_in_words_stand_on_the_right(cells, right):
    table = "".join(f"| {cell} | . |\n" for cell in ["c", "---", *cells])
    assert read_table(table.replace("| . |", "| --- |", 2))[0][0]["right"] is right


def test_any_frame_comes_back_from_its_markdown():
    frame = pandas.DataFrame({"a|b": ["x | y", "", "z|"], "n": [1.5, None, 12345.678]})
    columns, rows = read_table(report.markdown(frame) + "\nA caption | with a bar |\n")
    assert [column["name"] for column in columns] == ["a|b", "n"] and columns[1]["right"]
    assert rows == [["x | y", "1.5"], ["", ""], ["z|", "1.235e+04"]]


@pytest.mark.parametrize("text", ["", "no table", "| a | b |\n| --- |\n", "| a |\n"])
def test_another_text_is_no_table(text):
    with pytest.raises(InputError, match="no Markdown table"):
        read_table(text)


@pytest.mark.parametrize(
    ("caption", "alt"),
    [
        ("After Fig. 3: weights (a) of gwp. For tau also.", "After Fig. 3: weights (a) of gwp."),
        ("One sentence without an end", "One sentence without an end"),
        ("Is 0.5 it? Yes.", "Is 0.5 it?"),
    ],
)
def test_alternative_text_is_the_first_sentence(caption, alt):
    assert page.Entry("figures/a", caption, ()).alt == alt


# Notebooks


def test_a_notebook_page_has_no_script_event_or_dead_link():
    book = notebook(
        ("m", f"[file](../data/x.csv) [paper](https://example.org) <b onclick='x()'>b</b>\n\n{EVIL}"), ("c", "1")
    )
    table = (
        "<style>th {}</style><table border='1'><thead><tr><th></th><th>n</th></tr></thead>"
        f"<tbody><tr><th>a</th><td>{EVIL}</td></tr></tbody></table>"
    )
    book.cells[1].outputs = [
        v4.new_output("execute_result", {"text/html": table, "text/plain": ""}),
        v4.new_output("stream", name="stdout", text=EVIL),
    ]
    html = BeautifulSoup(to_html(Executed("n", book), {}), "html.parser")
    assert not html(["script", "style"]) and "onclick" not in str(html)
    assert [link["href"] for link in html("a")] == ["https://example.org"] and "file" in html.get_text()
    assert [(tag.name, tag.get("scope")) for tag in html("tr")[0](["td", "th"])] == [("td", None), ("th", "col")]
    assert html("tr")[1].th["scope"] == "row" and html.table.parent["tabindex"] == "0"
    assert all(tag["tabindex"] == "0" for tag in html("pre")) and html("pre")[-1].get_text().strip() == EVIL


def test_code_is_coloured_and_escaped():
    html = to_html(executed(("c", f"x = 'a'  # {EVIL}")), {})
    assert 'class="s1"' in html and "&lt;script&gt;" in html and "<script" not in html


def test_figures_of_a_cell_are_described_in_order(results):
    book = notebook(("c", "1"))
    for _ in range(2):
        picture(book.cells[0], results / "study", "curves")
    html = BeautifulSoup(to_html(Executed("n", book), {0: ["Curves."]}), "html.parser")
    assert [image["alt"] for image in html("img")] == ["Curves.", "Figure drawn by the code above"]
    assert book.cells[0].outputs[0].metadata == {}  # the notebook itself stays as it is


def points(svg):
    """Corners of a drawing, from its path data."""
    found = [tuple(map(int, pair.split())) for pair in re.findall(r"-?\d+ -?\d+", svg.split('d="')[1])]
    return [min(x for x, _ in found), min(y for _, y in found), max(x for x, _ in found), max(y for _, y in found)]


def test_a_formula_fills_its_drawing_and_stands_on_the_line():
    svg = formula("x_y")
    left, top, width, height = map(int, re.search(r'viewBox="(.*?)"', svg)[1].split())
    assert points(svg) == pytest.approx([left, top, left + width, top + height], abs=1)
    below = float(re.search(r"vertical-align:(.*?)em", svg)[1])
    assert below == pytest.approx(-(top + height) / 1000, abs=0.006) and below < -0.1
    assert f"width:{width / 1000:.2f}em;height:{height / 1000:.2f}em" in svg and 'aria-label="x_y"' in svg


def test_letters_are_drawn_as_the_font_has_them():
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path as Outline
    from matplotlib.textpath import TextPath

    drawn = re.search(r'd="(.*?)"', formula("l"))[1]
    codes = {"M": Outline.MOVETO, "L": Outline.LINETO, "Q": Outline.CURVE3, "C": Outline.CURVE4, "Z": Outline.CLOSEPOLY}
    expected = TextPath((0, 0), "$l$", size=1000, prop=FontProperties(math_fontfamily="stix"))
    counted = Counter(
        {
            code: number * {"Q": 2, "C": 3}.get(letter, 1)
            for letter, code in codes.items()
            if (number := drawn.count(letter))
        }
    )
    assert counted == Counter(expected.codes.tolist())


@pytest.mark.parametrize(
    ("tex", "same"),
    [
        (r"\mathcal L_g", r"\mathcal{L}_g"),
        (r"\mathbf fx", r"\mathbf{f}x"),
        (r"a \le b \ge c", r"a \leq b \geq c"),
        (r"\tfrac12", r"\frac{1}{2}"),
        (r"\lVert t\rVert_1", r"\Vert t\Vert_1"),
        (r"\lvert s\rvert_1", "|s|_1"),
        (r"\max\nolimits_-", r"\mathrm{max}_-"),
        (
            r"\begin{pmatrix} a & 0 \\ 0 & b \end{pmatrix}",
            r"\left(\genfrac{}{}{0}{0}{a}{0}\;\;\genfrac{}{}{0}{0}{0}{b}\right)",
        ),
    ],
)
def test_what_mathtext_spells_otherwise_is_drawn_all_the_same(tex, same):
    paths = [re.search(r' d="(.*?)"', formula(one))[1] for one in (tex, same)]
    assert paths[0] == paths[1]


def test_formulas_are_found_in_markdown_and_others_stay_tex():
    html = markdown_to_html("a $x < 1$ b `$y$`\n\n$$\\frac{1}{2}$$\n\n$\\begin{pmatrix} 1 & 2 \\end{pmatrix}$")
    assert html.count("<svg") == 2 and 'aria-label="x &lt; 1"' in html and "<code>$y$</code>" in html
    assert '<code class="tex">\\begin{pmatrix} 1 &amp; 2 \\end{pmatrix}</code>' in html
    display = re.search(r'class="display".*?viewBox="\S+ \S+ \S+ (\S+)"', html)
    assert int(display[1]) > int(re.search(r'viewBox="\S+ \S+ \S+ (\S+)"', formula(r"\frac{1}{2}"))[1])


@pytest.mark.parametrize("rows", ["1 \\\\ 2 \\\\ 3", "1 & 2 \\\\ 3"])
def test_a_matrix_of_three_rows_or_of_uneven_ones_stays_tex(rows):
    assert '<code class="tex">' in formula(rf"\begin{{pmatrix}} {rows} \end{{pmatrix}}")


def test_a_page_says_when_a_formula_stays_tex(results):
    book = results / "study/notebooks/01_first.ipynb"
    book.write_text(json.dumps(notebook(("m", "# T\n$\\begin{x}$"))))
    write_report("study", results)
    notes = [bool(soup(path)(class_="note")) for path in pages(results) if path.parent.name == "notebooks"]
    assert notes == [True, False]


# What holds for every page


def test_every_link_and_picture_leads_to_a_file_in_the_profiles_folder(index, reported):
    for path in pages(reported):
        html = soup(path)
        for tag in (*html(href=True), *html(src=True)):
            parts = urlsplit(tag.get("href") or tag["src"])
            assert parts.scheme in ("", "data") and not parts.netloc and not parts.path.startswith("/")
            if parts.scheme == "data":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file() and target.is_relative_to(reported / "study"), (path, tag)
            if parts.fragment:
                assert soup(target).find(id=unquote(parts.fragment)), (path, tag)


def test_nothing_runs_and_nothing_is_loaded_from_elsewhere(index, reported):
    for path in pages(reported):
        text = path.read_text(encoding="utf-8")
        assert not soup(path)(["script", "iframe", "object"]) and EVIL not in text and "http" not in text
    assert not re.search(r"url\(|@import|http", (reported / "study/report/style.css").read_text())


def test_every_page_keeps_the_rules_of_accessibility(index, reported):
    for path in pages(reported):
        html = soup(path)
        assert html.html["lang"] == "en" and html.title.get_text().endswith("profile study") and len(html("h1")) == 1
        assert html.find("meta", attrs={"name": "viewport"})["content"] == "width=device-width, initial-scale=1"
        assert html.find("a", class_="skip")["href"] == "#content" and html.main["id"] == "content"
        levels = [int(tag.name[1]) for tag in html(re.compile("^h[1-6]$"))]
        assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
        ids = Counter(tag["id"] for tag in html(id=True))
        assert max(ids.values()) == 1
        assert all(image["alt"].strip() for image in html("img"))
        assert all(head["scope"] in ("col", "row") and head.get_text(strip=True) for head in html("th"))
        for table in html("table"):
            frame = table.parent
            assert frame["class"] == ["scroll"] and frame["tabindex"] == "0" and frame["role"] == "region"
            assert frame.get("aria-label") or frame["aria-labelledby"] in ids
        labels = [frame.get("aria-label") for frame in html(role="region") if frame.get("aria-label")]
        assert len(labels) == len(set(labels))
        for link in html("a"):
            assert (link.get_text(strip=True) or link.img["alt"]).lower() not in ("", "here", "link", "csv", "svg")


def test_links_of_one_text_on_the_index_lead_to_one_place(index):
    leads = {}
    for link in index("a"):
        if text := link.get_text(" ", strip=True):
            assert leads.setdefault(text, link["href"]) == link["href"]


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_keep_the_contrast_that_wcag_asks_for(scheme):
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # WCAG's own example of too little
    style = (Path(page.__file__).parent / "pages/style.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]))
    for name in ("text", "quiet", "link", "code-word", "code-string", "code-number", "code-comment"):
        for ground in ("page", "shade"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["focus"], colours["page"]) >= 3
    assert set(re.findall(r"var\(--([\w-]+)\)", style)) == set(colours)


def test_wide_things_scroll_by_themselves_and_the_focus_is_seen():
    style = (Path(page.__file__).parent / "pages/style.css").read_text()
    for rule in (
        ".scroll { max-width: 100%; overflow-x: auto; }",
        "img { max-width: 100%; height: auto;",
        ":focus-visible { outline: 3px solid var(--focus);",
    ):
        assert rule in style
    assert "outline: none" not in style and re.search(r"\.notebook pre \{[^}]*overflow-x: auto", style)


# Writing


def content(results):
    folder = results / "study/report"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_results_give_the_same_bytes_wherever_they_lie(results, tmp_path):
    write_report("study", results)
    moved = tmp_path / "elsewhere/results"
    shutil.copytree(results, moved, ignore=shutil.ignore_patterns("report"))
    write_report("study", moved)
    assert content(results) == content(moved) and str(tmp_path) not in str(content(results))
    assert sorted(content(results)) == sorted(
        [
            "index.html",
            "runs.html",
            "style.css",
            "notebooks/01_first.html",
            "notebooks/02_second.html",
            *(f"runs/{name}.html" for name in ("aaaa", "bbbb", "cccc", "dddd")),
        ]
    )


def test_pages_that_are_linked_no_more_go_and_others_stay(results):
    write_report("study", results)
    folder = results / "study/report"
    (folder / "runs/eeee.html").write_text("old")
    (folder / "mine.txt").write_text("mine")
    (folder / "notebooks/00_old.html").write_text("old")
    (folder / "index.html").write_text("broken")
    write_report("study", results)
    assert set(content(results)) & {"runs/eeee.html", "notebooks/00_old.html", "mine.txt"} == {"mine.txt"}
    assert b"<h1>" in content(results)["index.html"]


def test_a_killed_writer_leaves_the_old_index_with_links_that_resolve(results, monkeypatch):
    write_report("study", results)
    before = content(results)
    shutil.rmtree(results / "study/runs/dddd")
    manifest = json.loads((results / "study/manifest.json").read_text())
    manifest["tables/main"] = with_checksum(without_checksum(manifest["tables/main"]) | {"runs": ["aaaa"]})
    (results / "study/manifest.json").write_text(json.dumps(manifest))
    order = []

    def stop_at_index(path, text):
        order.append(path.name)
        if path.name == "index.html":
            raise KeyboardInterrupt
        path.write_text(text)

    monkeypatch.setattr(page, "write_atomically", stop_at_index)
    with pytest.raises(KeyboardInterrupt):
        write_report("study", results)
    assert order[-1] == "index.html" and len(order) > 1
    assert content(results)["index.html"] == before["index.html"] and "runs/dddd.html" in content(results)


def break_manifest(results, change):
    path = results / "study/manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    for entry in manifest.values():
        entry.pop("sha256", None)
    path.write_text(json.dumps(manifest))


def replace(path, before, after):
    path.write_text(path.read_text().replace(before, after, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: (s / "figures/curves.svg").unlink(),
            r"manifest.json names figures/curves.svg, which is missing; `mlic",
        ),
        (lambda s: (s / "tables/main.csv").write_text("x"), r"main.csv is not the file that manifest.json describes"),
        (
            lambda s: replace(s / "manifest.json", '"caption": "', '"caption": "!'),
            r"manifest.json is no manifest of tables and figures \(it was changed after it was written\); remove it",
        ),
        (lambda s: (s / "manifest.json").write_text("{"), r"manifest.json is no manifest .*; remove it and run `mlic"),
        (lambda s: (s / "manifest.json").write_text("[1]"), r"manifest.json is no manifest"),
        (lambda s: (s / "manifest.json").write_text('{"tables/a": {"caption": "c"}}'), r"is no manifest .*'runs'"),
        (
            lambda s: shutil.rmtree(s / "runs/cccc"),
            r"(main|curves) of .* rests on run cccc, which is not stored; `mlic",
        ),
        (lambda s: (s / "runs/aaaa/run.json").write_text("{"), r"run.json is not a run's record"),
        (
            lambda s: (s / "notebooks/01_first.ipynb").write_text("{"),
            r"01_first.ipynb is not a notebook \(.*\); run it",
        ),
        (lambda s: (s / "notebooks/01_first.ipynb").write_text("[]"), r"01_first.ipynb is not a notebook"),
        (lambda s: (s / "notebooks/01_first.ipynb").write_bytes(b"\xff\xfe{"), r"01_first.ipynb is not a notebook"),
    ],
)
def test_broken_results_are_one_sentence_and_leave_no_report(results, change, message):
    change(results / "study")
    with pytest.raises(InputError, match=message) as caught:
        write_report("study", results)
    assert "\n" not in str(caught.value) and not (results / "study/report").exists()


@pytest.mark.parametrize(
    ("key", "files"),
    [
        ("tables/../../x", ["tables/../../x.csv", "tables/../../x.md"]),
        ("models/a", ["models/a.csv", "models/a.md"]),
        ("tables/main", ["tables/main.csv"]),
        ("tables/main", ["tables/main.md", "/etc/passwd"]),
        ("figures/curves", ["tables/main.csv", "tables/main.md"]),
    ],
)
def test_a_manifest_can_name_no_file_but_its_own(results, key, files):
    entry = {"caption": "c", "runs": [], "files": dict.fromkeys(files, "")}
    break_manifest(results, lambda manifest: manifest.update({key: entry}))
    with pytest.raises(InputError, match=f"'{re.escape(key)}' is neither a table nor a figure"):
        write_report("study", results)


def test_a_table_that_is_none_is_named(results, tmp_path):
    path = results / "study/tables/main.md"
    path.write_text("nothing")
    break_manifest(
        results, lambda manifest: manifest["tables/main"]["files"].update({"tables/main.md": f"sha256:{sha256(path)}"})
    )
    with pytest.raises(InputError, match=r"main\.md: no Markdown table of equal rows; run its notebook again"):
        write_report("study", results)


def mlic(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("studi", "'studi'; choose from study; did you mean 'study'"),
        ("../results/study", "choose from study"),
        ("own", "'own'; choose from study"),
        ("quick", "of profile quick in .*; `mlic reproduce --profile quick` makes them"),
    ],
)
def test_a_profile_without_results_is_one_sentence(results, profile, message):
    (results / "own/runs").mkdir(parents=True)
    result = mlic("report", "--profile", profile, "--results", results)
    assert result.exit_code == 2 and re.fullmatch(f"mlic: [^\n]*{message}[^\n]*\n", result.stderr)
    assert not (results / "study/report").exists()


def test_no_results_at_all_is_one_sentence(tmp_path):
    assert "'x'; `mlic reproduce` makes some" in mlic("report", "--profile", "x", "--results", tmp_path).stderr


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--check"],
        ["--profile", "study", "--readme"],
        ["--profile", "study", "--check"],
    ],
)
def test_report_takes_one_of_profile_and_readme(results, options):
    result = mlic("report", *options, "--results", results)
    assert result.exit_code == 2 and result.stderr.startswith("mlic: give either --profile NAME, or --readme")


def test_the_command_prints_where_the_report_is_and_a_line_a_notebook(results, monkeypatch):
    monkeypatch.setenv("MLIC_PROGRESS", "line")
    monkeypatch.chdir(results.parent)
    result = mlic("report", "--profile", "study", "--results", "results")
    assert result.exit_code == 0 and result.stdout == f"{os.path.join('results', 'study', 'report', 'index.html')}\n"
    assert result.stderr == "01_first  1/2\n02_second  2/2\n"


def test_git_ignores_the_report():
    lines = (Path(__file__).parent.parent / ".gitignore").read_text().splitlines()
    assert "/results/*/report/" in lines


# The committed study


STUDY = Path(__file__).parent.parent / "results/study"


def test_every_entry_of_the_study_but_none_is_found_in_a_notebook():
    entries = list(json.loads((STUDY / "manifest.json").read_text()))
    places = find_places(read_notebooks(STUDY / "notebooks"), entries)
    assert sorted(places) == sorted(entries)
    book = {"picto-voc": 0, "baseline": 1, "cnn": 2, "gla": 4}
    for entry, place in places.items():
        if (prefix := re.split(r"_", entry.split("/")[1])[0]) in book:
            assert place.notebook == book[prefix], entry


def test_every_table_of_the_study_has_the_rows_of_its_csv():
    for path in sorted((STUDY / "tables").glob("*.md")):
        columns, rows = read_table(path.read_text(encoding="utf-8"))
        frame = pandas.read_csv(path.with_suffix(".csv"), dtype=str, keep_default_na=False)
        assert [column["name"] for column in columns] == list(frame.columns) and len(rows) == len(frame)
        for row, stored in zip(rows, frame.itertuples(index=False), strict=True):
            assert [bool(cell) for cell in row] == [bool(cell) for cell in stored], path


def test_a_formula_s_text_is_its_tex():
    assert unescape(re.search(r'aria-label="(.*?)"', formula("a <  'b'"))[1]) == "a < 'b'"
