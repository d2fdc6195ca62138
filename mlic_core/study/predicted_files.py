"""What `mlic predict --out` writes: every score as CSV, one JSON object an image, and annotated pictures."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import Image

from mlic_core.errors import InputError
from mlic_core.study.evaluate import TOP
from mlic_core.study.files import write_atomically
from mlic_core.study.predict import Photos, Predicted, best_first, sure_labels

CSV, JSON = "predictions.csv", "predictions.jsonl"


def write_predictions(
    predictions: Sequence[Predicted], labels: Sequence[str], activation: str, out: Path
) -> list[Path]:
    """Write predictions.csv (image, label, score: one line for every class of every image), predictions.jsonl (an
    object an image, see `as_json`) and pictures: IMAGE_regions.png of a method that looks at regions, IMAGE_maps.png of
    one that has maps. Returns the files.

    Raises InputError if they can't be written.
    """
    lines, written = [], []

    def write(name: str, content: bytes) -> None:
        try:
            write_atomically(out / name, content)
        except OSError as error:
            raise InputError(f"cannot write {out / name}: {error.strerror}; give another folder with --out") from error
        written.append(out / name)

    same: Counter[str] = Counter()
    for one in predictions:
        image = Photos([one.image], labels, 1).original(0)
        same[one.image.stem.casefold()] += 1
        number = same[one.image.stem.casefold()]
        names = []
        for kind, picture in _pictures(one, labels, image):
            names.append(f"{one.image.stem}_{kind}{f'_{number}' if number > 1 else ''}.png")
            write(names[-1], picture)
        lines.append(_line(as_json(one, labels, activation, image.size) | {"pictures": names}))
    write(CSV, _csv(predictions, labels))
    write(JSON, "".join(lines).encode("utf-8", "backslashreplace"))  # a name that is no UTF-8: as JSON's own escape
    return written


def as_json(one: Predicted, labels: Sequence[str], activation: str, size: tuple[int, int]) -> dict[str, Any]:
    """An image as a line of predictions.jsonl; `size` is its width and height in pixels, upright.

    - `image`, `width`, `height`;
    - `labels`: those that the method gives the image, best first: with p > 0.5, or those of the best path; the best
      three where a softmax shares 1 among all labels or scores only rank;
    - `top`: the best three with their `score`; `scores`: of every class;
    - `regions`, of a method that has them: `box`, x0, y0, x1, y1 in whole pixels of the upright image, half-open,
      `label` and its `score`;
    - `paths`, of cnn_rnn, best first: `labels`, `probabilities` (of each label given those before it, then of the
      end) and their product `probability`.
    """
    order = best_first(one.scores)
    found = [labels[c] for c in sure_labels(one.scores, activation)]
    if one.paths is not None:
        found = list(one.paths[0].labels)
    elif activation != "sigmoid":
        found = [labels[c] for c in order[:TOP]]
    content: dict[str, Any] = {"image": str(one.image), "width": size[0], "height": size[1], "labels": found}
    content["top"] = [{"label": labels[c], "score": _rounded(one.scores[c])} for c in order[:TOP]]
    content["scores"] = {label: _rounded(score) for label, score in zip(labels, one.scores, strict=True)}
    if one.regions is not None:
        rows = zip(_boxes(one, size).tolist(), one.region_labels, one.region_scores, strict=True)
        content["regions"] = [{"box": box, "label": labels[c], "score": _rounded(p)} for box, c, p in rows]
    if one.paths is not None:
        content["paths"] = [
            {
                "labels": list(path.labels),
                "probabilities": [_rounded(p) for p in path.probabilities],
                "probability": _rounded(path.probability),
            }
            for path in one.paths
        ]
    return content


def _boxes(one: Predicted, size: tuple[int, int]) -> Int[np.ndarray, "regions 4"]:
    from mlic_core.study.annotate import pixel_boxes

    return pixel_boxes(one.regions, size)


def _rounded(score: float | np.floating) -> float:
    """To six digits, as in predictions.csv."""
    return float(f"{score:.6g}")


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(predictions: Sequence[Predicted], labels: Sequence[str]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("image", "label", "score"))
    for one in predictions:
        writer.writerows((one.image, label, f"{score:.6g}") for label, score in zip(labels, one.scores, strict=True))
    return buffer.getvalue().encode("utf-8", "backslashreplace")


def _pictures(one: Predicted, labels: Sequence[str], image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """The kind of each picture of an image, and its PNG."""
    from mlic_core.study.annotate import maps_picture, regions_picture  # matplotlib is slow to import

    if one.regions is not None:
        pairs = zip(one.region_labels, one.region_scores, strict=True)
        names = [f"{k + 1} {labels[c]} {score:.2f}" for k, (c, score) in enumerate(pairs)]
        yield "regions", _png(regions_picture(image, _boxes(one, image.size), names))
    if one.maps:
        yield "maps", _png(maps_picture(image, one.maps))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return buffer.getvalue()
