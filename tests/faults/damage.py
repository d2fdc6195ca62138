"""Files that went wrong on disk, a bit flipped, cut short or emptied, and what their readers make of them."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mlic_core.data import load_dataset
from mlic_core.errors import InputError
from mlic_core.study.page import read_manifest
from mlic_core.study.record import read_record
from mlic_core.study.store import load_model
from tests.faults.children import Fault, run
from tests.faults.disturbances import Progress
from tests.faults.lab import Lab, Row
from tests.faults.operations import OPERATIONS, content, results

DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a bit flipped": lambda text, choose: _flipped(text, choose.randrange(8 * len(text))),
    "cut short": lambda text, choose: text[: choose.randrange(len(text))],
    "emptied": lambda text, choose: b"",
}


class Kept(NamedTuple):
    """A kind of file: the operation that leaves it, which files these are, and what a reader gets from them."""

    operation: str
    pattern: str
    read: Callable[[Path, Lab], Any]


def _run_folder(folder: Path) -> Path:
    return next(results(folder).glob("runs/*"))


def _again(operation: str) -> Callable[[Path, Lab], Any]:
    def read(folder: Path, lab: Lab) -> dict[str, str]:
        ending = run(operation, folder, lab.shared)
        if ending.kind != "done":
            raise (InputError if ending.kind == "InputError" else RuntimeError)(f"{ending.kind}: {ending.message}")
        return content(folder)

    return read


def _scores(folder: Path, lab: Lab) -> dict[str, bytes]:
    arrays = read_record(_run_folder(folder)).scores()
    return {key: np.ascontiguousarray(value).tobytes() for key, value in arrays.items()}


def _weights(folder: Path, lab: Lab) -> dict[str, bytes]:
    state = load_model(_run_folder(folder)).state_dict()
    return {key: value.numpy().tobytes() for key, value in state.items()}


def _pixels(folder: Path, lab: Lab) -> bytes:
    data = load_dataset("picto-voc", "train", root=folder / "data", size=32)
    return torch.stack([data.read(i) for i in range(len(data))]).numpy().tobytes()


def _boxes(folder: Path, lab: Lab) -> list:
    data = load_dataset("picto-voc", "train", root=folder / "data", size=32)
    return [data.targets.tolist(), [[part.tolist() for part in data.boxes(i)] for i in range(len(data))]]


def _entries(folder: Path, lab: Lab) -> list:
    return read_manifest(results(folder))


KEPT = {
    "checkpoint": Kept("unfinished", "home/results/*/runs/*/checkpoint.pt", _again("training")),
    "scores.npz": Kept("training", "home/results/*/runs/*/scores.npz", _scores),
    "model.safetensors": Kept("training", "home/results/*/runs/*/model.safetensors", _weights),
    "run.json": Kept("training", "home/results/*/runs/*/run.json",
                     lambda folder, lab: repr(read_record(_run_folder(folder))).replace(str(folder), "")),
    "history.jsonl": Kept("training", "home/results/*/runs/*/history.jsonl",
                          lambda folder, lab: read_record(_run_folder(folder)).history()),
    "tables and figures": Kept("tables", "home/results/*/[tf]*/*.*", _entries),
    "manifest.json": Kept("tables", "home/results/*/manifest.json", _entries),
    "pages of the report": Kept("report", "home/results/*/report/**/*.html", _again("report")),
    "feature cache": Kept("features", "home/data/cache/features/*.npy", _again("features")),
    "drawn images": Kept("data", "data/VOCdevkit/VOC2012/JPEGImages/train_*.jpg", _pixels),
    "drawn annotations": Kept("data", "data/VOCdevkit/VOC2012/Annotations/train_*.xml", _boxes),
}  # fmt: skip


def damaged(lab: Lab, kind: str, damage: str, count: int, progress: Progress = lambda text: None) -> Row:
    """Damage one file of a kind at a time and read it: survived where that is refused by InputError, or where what is
    read is as if nothing had happened, since the bit means nothing or the file was made again."""
    kept, outcomes, failures = KEPT[kind], Counter(), []
    whole = _whole(lab, kept.operation)
    with _copied(lab, whole) as folder:
        expected = kept.read(folder, lab)
    for number in range(count):
        with _copied(lab, whole) as folder:
            path = lab.random.choice(sorted(folder.glob(kept.pattern)))
            path.write_bytes(DAMAGES[damage](path.read_bytes(), lab.random))
            try:
                same = kept.read(folder, lab) == expected
                outcome = "as if nothing had happened" if same else "NOT NOTICED"
            except InputError:
                outcome = "refused"
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}"
        outcomes[outcome] += 1
        failures += [outcome] if outcome not in ("refused", "as if nothing had happened") else []
        progress(f"{number + 1} of {count}")
    note = ", ".join(f"{many} {outcome[:80]}" for outcome, many in sorted(outcomes.items()))
    return Row(f"{kind}: {damage}", kept.operation, count, tuple(failures), note)


def _whole(lab: Lab, operation: str) -> Path:
    """A folder in which an operation has ended, or, for "unfinished", training was killed after an epoch."""
    place = lab.shared / f"whole-{operation}"
    if place.exists():
        return place
    name = "training" if operation == "unfinished" else operation
    lab.undisturbed(name)
    for point in range(20, 60) if operation == "unfinished" else [0]:
        with lab.case(name) as folder:
            run(name, folder, lab.shared, Fault("kill", point) if point else None)
            if not point or list(folder.glob(KEPT["checkpoint"].pattern)):
                shutil.copytree(folder, place)
                return place
    raise RuntimeError("no kill left a checkpoint")


@contextmanager
def _copied(lab: Lab, whole: Path):
    lab.cases += 1
    folder = lab.folder / f"damaged-{lab.cases}"
    shutil.copytree(whole, folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _flipped(text: bytes, bit: int) -> bytes:
    changed = bytearray(text)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


assert {kept.operation for kept in KEPT.values()} <= {*OPERATIONS, "unfinished"}
