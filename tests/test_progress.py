"""Progress is a bar, a few lines, or nothing, by where it is shown."""

import pytest

from mlic_core import progress
from mlic_core.errors import InputError
from mlic_core.progress import duration, say, track


class Clock:
    """Stands in for `time`; `step` is what an item of work takes, in seconds."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def monotonic(self):
        return self.now


@pytest.fixture
def lines(monkeypatch, tmp_path):
    """Switches to lines in a file; returns a function that reads them."""
    path = tmp_path / "progress"
    monkeypatch.setenv("MLIC_PROGRESS", "line")
    monkeypatch.setenv("MLIC_PROGRESS_FILE", str(path))
    return lambda: path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def clock(monkeypatch):
    def use(step):
        fake = Clock(step)
        monkeypatch.setattr(progress, "time", fake)
        return fake
    return use


def run(clock, count, **options):
    """Loop over `count` items, each of which takes the clock's step before the loop asks for the next."""
    for _ in track(range(count), **options):
        clock.now += clock.step


def test_track_yields_every_item_in_order_in_every_mode(monkeypatch):
    for mode in progress.MODES:
        monkeypatch.setenv("MLIC_PROGRESS", mode)
        assert list(track(range(5), label=mode)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("count", "step"), [(1000, 0.1), (12, 60.0), (100_000, 0.01), (60, 3600.0)])
def test_a_loop_of_any_length_writes_about_ten_lines(lines, clock, count, step):
    run(clock(step), count)
    assert 5 <= len(lines()) <= 11


def test_a_short_loop_writes_nothing(lines, clock):
    run(clock(0.01), 400)
    assert lines() == []


def test_a_line_tells_share_time_and_estimate(lines, clock):
    run(clock(60), 10, label="mcar seed 0")
    assert lines()[0] == "mcar seed 0  1/10  10 %  1:00  about 9:00 left"
    assert lines()[-1] == "mcar seed 0  10/10  100 %  10:00"


def test_items_done_before_a_resume_do_not_count_as_speed(lines, clock):
    run(clock(60), 2, label="mcar", total=10, initial=8)
    assert lines()[0] == "mcar  9/10  90 %  1:00  about 1:00 left"


def test_a_note_stands_at_the_end_of_the_line(lines, clock):
    fake = clock(60)
    loop = track(range(2))
    for _ in loop:
        fake.now += fake.step
        loop.note("loss 0.25")
    assert lines()[0].endswith("about 1:00 left  loss 0.25")


def test_a_loop_without_length_still_writes_lines(lines, clock):
    fake = clock(10)
    for _ in track(iter(range(100))):
        fake.now += fake.step
    assert 3 <= len(lines()) <= 20
    assert "left" not in "".join(lines())


def test_only_the_outer_of_nested_loops_writes_lines(lines, clock):
    fake = clock(60)
    for _ in track(range(3), label="outer"):
        for _ in track(range(100), label="inner"):
            fake.now += fake.step
    assert len(lines()) == 3
    assert all(line.startswith("outer") for line in lines())


def test_a_loop_that_fails_leaves_the_next_one_its_voice(lines, clock):
    fake = clock(60)
    with pytest.raises(ZeroDivisionError):
        for _ in track(range(3)):
            raise ZeroDivisionError
    run(fake, 3, label="next")
    assert len(lines()) == 3


def test_lines_go_to_stderr_outside_a_notebook(monkeypatch, capsys):
    monkeypatch.setenv("MLIC_PROGRESS", "line")
    monkeypatch.delenv("MLIC_PROGRESS_FILE", raising=False)
    say("drawn")
    assert capsys.readouterr() == ("", "drawn\n")


def test_lines_go_to_stdout_in_a_notebook(monkeypatch, capsys):
    # nbval's strict mode and a reader of the saved notebook both take stderr for trouble.
    monkeypatch.setenv("MLIC_PROGRESS", "line")
    monkeypatch.delenv("MLIC_PROGRESS_FILE", raising=False)
    monkeypatch.setattr(progress, "_in_notebook", lambda: True)
    say("drawn")
    assert capsys.readouterr() == ("drawn\n", "")


def test_silence_is_complete(monkeypatch, capsys):
    monkeypatch.setenv("MLIC_PROGRESS", "silent")
    say("drawn")
    list(track(range(3)))
    assert capsys.readouterr() == ("", "")


def test_pytest_and_nbval_are_silent_without_being_told(monkeypatch):
    monkeypatch.delenv("MLIC_PROGRESS", raising=False)
    monkeypatch.setenv("PYTEST_VERSION", "9.0")  # what pytest exports, and nbval's kernels inherit
    assert progress.mode() == "silent"


@pytest.mark.parametrize(("terminal", "mode"), [(True, "bar"), (False, "line")])
def test_a_terminal_gets_a_bar_and_a_log_gets_lines(monkeypatch, terminal, mode):
    monkeypatch.delenv("MLIC_PROGRESS", raising=False)
    monkeypatch.delenv("PYTEST_VERSION", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert progress.mode() == mode


def test_an_unknown_mode_names_the_known_ones(monkeypatch):
    monkeypatch.setenv("MLIC_PROGRESS", "lines")
    with pytest.raises(InputError, match=r"MLIC_PROGRESS=lines: choose bar, line or silent; did you mean 'line'"):
        say("drawn")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (7.0, "0:07"), (725.0, "12:05"), (7510.0, "2:05:10")])
def test_duration(seconds, text):
    assert duration(seconds) == text
