"""In headless Chromium: the report has no faults, and in JupyterLab a slider of 12_explore changes the picture.

Chromium is the system's; `make browser` installs the rest and runs this file. Without them it is skipped.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import nbformat
import pandas
import pytest
from matplotlib.figure import Figure

from mlic_core.study import report
from mlic_core.study.page import write_report
from tests.test_page import notebook, picture, record

ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("there is no Chromium: install the system's package", allow_module_level=True)
AXE = pytest.importorskip("axe_playwright_python.sync_playwright", reason="`make browser` installs axe")
PLAYWRIGHT = pytest.importorskip("playwright.sync_api", reason="`make browser` installs Playwright")
SHOTS = os.environ.get("MLIC_SHOTS", "")  # a folder for screenshots, to look at
START, RUN, REDRAW = 120, 900, 60  # seconds that JupyterLab, all cells and a redraw may take


@pytest.fixture(scope="module")
def browser():
    with PLAYWRIGHT.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root needs it
        yield started
        started.close()


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.complaints = []
    opened.on("console", lambda line: opened.complaints.append(line.text) if line.type == "error" else None)
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on("requestfailed", lambda request: opened.complaints.append(f"failed: {request.url}"))
    yield opened
    opened.close()


def shoot(page, name):
    if SHOTS:
        page.screenshot(path=Path(SHOTS, f"{name}.png"), full_page="lab" not in name)


# The report


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report with two runs, a figure and a table from a notebook each, by the names of its pages."""
    folder = tmp_path_factory.mktemp("browser") / "results/study"
    runs = [record(folder, "aaaa", "classifier"), record(folder, "bbbb", **{"trunk.weights": "run:aaaa"})]
    figure = Figure(figsize=(8, 3))
    figure.add_subplot().plot([0, 1], [1, 0])
    report.save_figure(folder, figure, "curves", "Curves fall. The rest of the caption.", runs)
    wide = pandas.DataFrame({f"a column with a long name, {i}": [f"{i} ± 0.5"] * 3 for i in range(9)})
    report.save_table(folder, wide, "main", "What to see.", runs)
    first = notebook(("m", "# 01 First"), ("c", "study.save_table(frame, 'main', caption, runs)"))
    second = notebook(
        ("m", "# 02 Second\n\n$$x_i = \\max_j f(a_{ij})$$"),
        ("m", "## A section with `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |"),
        ("c", "study.save_figure(figure, 'curves', caption)  # " + "a long line " * 12),
    )
    picture(second.cells[2], folder, "curves")
    (folder / "notebooks").mkdir()
    for name, content in (("01_first", first), ("02_second", second)):
        nbformat.write(content, folder / f"notebooks/{name}.ipynb")
    write_report("study", folder.parent)
    return {path.stem: path for path in (folder / "report").rglob("*.html")}


@pytest.fixture(params=["index", "02_second"])
def opened(request, page, pages):
    page.goto(pages[request.param].as_uri())
    shoot(page, request.param)
    return page


def test_a_page_of_the_report_makes_no_complaint_and_loads_its_images(opened):
    images = opened.eval_on_selector_all("img", "all => all.map(one => [one.src.slice(0, 80), one.naturalWidth])")
    assert images and all(width > 0 for _, width in images), images
    assert opened.complaints == []


def test_every_link_of_the_report_leads_somewhere(opened, browser):
    found = opened.eval_on_selector_all("a[href]", "all => all.map(one => one.href)")
    own = [urldefrag(link) for link in found if link.startswith("file:")]
    assert own and all(link.startswith(("file:", "https:")) for link in found)
    other = browser.new_page()
    for address in {link.url for link in own}:
        path = Path(unquote(urlsplit(address).path))
        assert path.exists(), path
        anchors = {unquote(link.fragment) for link in own if link.url == address and link.fragment}
        if path.suffix == ".html":
            other.goto(address)
            assert [name for name in anchors if not other.evaluate("id => !!document.getElementById(id)", name)] == []
    other.close()


def test_the_report_fits_a_telephone(opened):
    opened.set_viewport_size({"width": 390, "height": 800})
    shoot(opened, f"narrow-{Path(urlsplit(opened.url).path).stem}")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_report_has_no_serious_fault_of_accessibility(opened):
    found = AXE.Axe().run(opened).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in grave] == []


# JupyterLab


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab with a copy of 12_explore, whose runs go to a folder of its own."""
    home = tmp_path_factory.mktemp("lab")
    copy = nbformat.read(ROOT / "notebooks/12_explore.ipynb", as_version=4)
    copy.cells[1].source = copy.cells[1].source.replace('results = ""', f"results = {str(home / 'results')!r}")
    (home / "notebooks").mkdir()
    nbformat.write(copy, home / "notebooks/12_explore.ipynb")
    settings = home / "settings/@jupyterlab"
    for name, text in {
        "notebook-extension/tracker": '{"windowingMode": "none"}',  # all cells in the page, in view or not
        "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    }.items():
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTERLAB_SETTINGS_DIR": "settings"}
    own |= {"JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython", "JUPYTER_RUNTIME_DIR": "runtime"}
    environment = os.environ | {key: str(home / value) for key, value in own.items()}
    environment |= {"PYTHONPATH": str(ROOT), "MLIC_HOME": str(ROOT), "MLIC_PROGRESS": "silent"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=home / "notebooks", env=environment, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api", server, home / "log")
        yield f"http://127.0.0.1:{port}/lab/tree/12_explore.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(address, server, log):
    until = time.monotonic() + START
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text(errors='replace')[-2000:]}")


def test_a_slider_in_jupyterlab_changes_the_picture(lab, page):
    page.set_default_timeout(START * 1000)
    page.goto(lab)
    page.locator(".jp-Notebook h1", has_text="12 Explore").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    done = page.locator(".jp-OutputArea-output", has_text=re.compile(r"^\s*complete\s*$"))
    broken = page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]')
    done.or_(broken).first.wait_for(timeout=RUN * 1000)
    assert broken.count() == 0, broken.all_inner_texts()
    image = page.locator(".widget-html-content figure img")
    before, said = image.get_attribute("src"), image.get_attribute("alt")
    assert page.locator(".widget-upload").count() == 1 and said.startswith("MCAR: ")
    slider = page.get_by_role("slider").first
    slider.scroll_into_view_if_needed()
    shoot(page, "lab-before")
    slider.press("ArrowLeft")
    changed = "before => document.querySelector('.widget-html-content figure img').src != before"
    page.wait_for_function(changed, arg=before, timeout=REDRAW * 1000)
    shoot(page, "lab-after")
    assert image.evaluate("one => one.complete && one.naturalWidth") > 500
    method = page.locator(".widget-dropdown select").first
    method.select_option("CNN-RNN")
    page.locator('.widget-html-content img[alt^="CNN-RNN: "]').wait_for(timeout=REDRAW * 1000)
    shoot(page, "lab-cnn-rnn")
