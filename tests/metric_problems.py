"""200 small problems the tests of the metrics share: random scores and targets, each awkward situation 20 times."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

SITUATIONS = (
    "plain",
    "ties",
    "ignored entries",
    "ties and ignored entries",
    "empty class",
    "one image",
    "one class",
    "constant scores",
    "image without positive",
    "class and image ignored as a whole",
)


class Problem(NamedTuple):
    scores: np.ndarray  # (N, C) float64, each exact in single precision too
    targets: np.ndarray  # (N, C) int8 in {1, 0, -1}


def problem(seed: int) -> Problem:
    """The problem of this seed; its situation is number `seed % 10`."""
    situation = SITUATIONS[seed % len(SITUATIONS)]
    generator = np.random.default_rng(seed)
    images = 1 if situation == "one image" else int(generator.integers(2, 25))
    classes = 1 if situation == "one class" else int(generator.integers(2, 9))
    shape = images, classes

    scores = (generator.permutation(images * classes).reshape(shape) - images * classes // 2) / 32
    if situation.startswith("ties") or situation == "class and image ignored as a whole":
        scores = generator.integers(-2, 3, size=shape) / 4
    if situation == "constant scores":
        scores = np.full(shape, 0.25)

    targets = (generator.random(shape) < generator.choice([0.15, 0.3, 0.6])).astype(np.int8)
    if "ignored" in situation:
        targets[generator.random(shape) < 0.25] = -1
    if situation == "empty class":
        targets[:, generator.integers(classes)] = 0
    if situation == "image without positive":
        targets[generator.integers(images)] = 0
    if situation == "class and image ignored as a whole":
        targets[:, generator.integers(classes)] = -1
        targets[generator.integers(images)] = -1
    return Problem(scores, targets)


PROBLEMS = tuple(problem(seed) for seed in range(200))


def has_ties(scores: np.ndarray) -> bool:
    """Whether two classes of an image, or two images of a class, share a score."""
    lines = [*scores, *scores.T]
    return any(len(np.unique(line)) < len(line) for line in lines)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores))


def without_ignored(scores: np.ndarray, targets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each row's scores and targets that count. Transpose both for the columns."""
    for row, truth in zip(scores, targets, strict=True):
        yield row[truth >= 0], truth[truth >= 0]


def drawn_problems(*, unique: bool = False) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Hypothesis: scores and targets of up to 12 images and 3 classes, ties at every turn or (`unique`) none."""
    elements = (st.integers(-99, 99) if unique else st.integers(-3, 3)).map(float)
    return st.integers(1, 12).flatmap(
        lambda images: st.tuples(
            arrays(np.float64, (images, 3), elements=elements, unique=unique),
            arrays(np.int8, (images, 3), elements=st.sampled_from([-1, 0, 1])),
        )
    )
