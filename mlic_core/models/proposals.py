"""Object proposals in place of attentional regions (RDAR Table 3): from a file, or sliding windows scored on the maps.

Neither is EdgeBox, which the paper takes. The windows are what can be had without other software: they are scored by
how much more the trunk answers inside than around, a plain saliency; a file may hold the boxes of any generator.
"""

import csv
import hashlib
import itertools
import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mlic_core.errors import InputError

OVERLAP = 0.7  # of two boxes that overlap more, the better one stays (§5.3.1)
SIDES = (0.25, 0.35, 0.5, 0.7)  # geometric mean of a window's width and height, as a share of the image's sides
SHAPES = (0.5, 1.0, 2.0)  # width over height
STEP = 0.25  # from a window to the next, as a share of its side
RING = 0.5  # width of the surroundings, as a share of the window's sides
KNOWN = "sha256:"  # before the digest of a box file that a stored run was made with
COLUMNS = ("id", "x0", "y0", "x1", "y1", "score")


def windows() -> Float[Tensor, "windows 4"]:
    """Boxes x0, y0, x1, y1 in [0, 1] of several sizes and shapes, spread evenly over the image."""
    found = []
    for side, shape in itertools.product(SIDES, SHAPES):
        width, height = side * shape**0.5, side / shape**0.5
        if max(width, height) <= 1:
            x, y = (_spread(1 - length, STEP * side) for length in (width, height))
            found += [(left, top, left + width, top + height) for left, top in itertools.product(x, y)]
    return torch.tensor(found)


def _spread(room: float, step: float) -> list[float]:
    """Places from 0 to `room`, both included, about `step` apart."""
    steps = round(room / step)
    return [room * i / max(steps, 1) for i in range(steps + 1)]


def coverage(boxes: Float[Tensor, "boxes 4"], rows: int, columns: int) -> Float[Tensor, "boxes {rows*columns}"]:
    """How much of each cell of a map lies in each box, in [0, 1]."""
    sides = []
    for axis, cells in ((1, rows), (0, columns)):
        edges = torch.arange(cells + 1, device=boxes.device) / cells
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        sides.append((torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:-1])).clamp(min=0) * cells)
    return (sides[0][:, :, None] * sides[1][:, None, :]).flatten(1)


def contrast(
    maps: Float[Tensor, "batch channels rows columns"], boxes: Float[Tensor, "boxes 4"]
) -> Float[Tensor, "batch boxes"]:
    """Mean norm of the features inside each box less that in a ring around it, times the square root of the area."""
    norms = maps.norm(dim=1)
    inside = coverage(boxes, *norms.shape[1:])
    margin = RING * (boxes[:, 2:] - boxes[:, :2])
    around = coverage(torch.cat([boxes[:, :2] - margin, boxes[:, 2:] + margin], 1), *norms.shape[1:]) - inside
    means = [norms.flatten(1) @ (part / part.sum(1, keepdim=True).clamp(min=1e-6)).T for part in (inside, around)]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return (means[0] - means[1]) * area.sqrt()


def suppress(
    scores: Float[Tensor, "batch boxes"], boxes: Float[Tensor, "boxes 4"], count: int
) -> Float[Tensor, "batch {count} 4"]:
    """The best `count` boxes of each image, none of which overlaps a better one by more than 0.7 (greedy NMS)."""
    from torchvision.ops import box_iou  # here, since it takes as long to import as torch

    near = box_iou(boxes, boxes) > OVERLAP
    chosen = []
    for _ in range(count):
        best = scores.argmax(1)
        scores = scores.masked_fill(near[best], -torch.inf)
        chosen.append(best)
    return boxes[torch.stack(chosen, 1)]


class Windows:
    """The built-in generator: see `windows` and `contrast`. It needs nothing but the trunk's maps."""

    def __init__(self):
        self.boxes = windows()

    def propose(self, maps: Float[Tensor, "batch channels rows columns"], count: int) -> Float[Tensor, "batch count 4"]:
        """The best windows of each image, best first."""
        boxes = self.boxes.to(maps)
        return suppress(contrast(maps, boxes), boxes, count)


class BoxFile:
    """Proposals from a CSV file with the columns id, x0, y0, x1, y1 (in [0, 1]) and score, a row a box.

    Of each image's boxes the best stay that overlap no better one by more than 0.7. A stored run knows its file as
    "sha256:…" alone: then there are no boxes, and only features that were sampled before can be scored. Raises
    InputError for a file that can't be read, naming the line.
    """

    def __init__(self, path: str):
        self.path, self.boxes = path, {}
        if path.startswith(KNOWN):
            self.digest = path.removeprefix(KNOWN)
            return
        try:
            content = Path(path).expanduser().read_bytes()
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"proposals={path}: cannot read this file ({error}); {REMEDY}") from error
        self.digest = hashlib.sha256(content).hexdigest()
        self.boxes = {name: _best(rows) for name, rows in self._rows(text).items()}

    def _rows(self, text: str) -> dict[str, list[list[float]]]:
        reader = csv.DictReader(text.splitlines())
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(f"proposals={self.path}: the first line has to be {','.join(COLUMNS)}")
        found: dict[str, list[list[float]]] = {}
        for row in reader:
            try:
                numbers = [float(row[key]) for key in COLUMNS[1:]]
                good = len(row) == len(COLUMNS) and math.isfinite(numbers[4])
                good = good and 0 <= numbers[0] < numbers[2] <= 1 and 0 <= numbers[1] < numbers[3] <= 1
            except (TypeError, ValueError):
                good = False
            if not good:
                raise InputError(f"proposals={self.path}, line {reader.line_num}: no box in it; {REMEDY}")
            found.setdefault(row["id"], []).append(numbers)
        return found

    def of(self, ids: list[str], count: int) -> Float[Tensor, "images {count} 4"]:
        """The best boxes of some images; where a file has too few, the whole image takes the other places.

        Raises InputError for an image that the file does not have.
        """
        chosen = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(ids), count, 1)
        for row, name in enumerate(ids):
            if name not in self.boxes:
                raise InputError(f"proposals={self.path} has no box for image {name}; add its rows")
            best = self.boxes[name][:count]
            chosen[row, : len(best)] = best
        return chosen


REMEDY = f"give {','.join(COLUMNS)} in each line, the box in shares of the image's sides with x0 < x1 and y0 < y1"


def _best(rows: list[list[float]]) -> Float[Tensor, "kept 4"]:
    from torchvision.ops import nms

    boxes = torch.tensor(rows)
    return boxes[nms(boxes[:, :4], boxes[:, 4], OVERLAP), :4]


def proposal_source(proposals: str) -> Windows | BoxFile | None:
    """What an option `proposals` asks for: "" attentional regions, "windows", or a file."""
    if not proposals:
        return None
    return Windows() if proposals == "windows" else BoxFile(proposals)
