"""Which labels occur together: in the truth, in predictions, in an embedding, and on a search's way (CNN-RNN §3.3, §4).

Arrays only. Rows are images, columns are the C labels; a matrix (labels, labels) is read "given the row, the column".
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64, Real

# Labels by kind, COCO's supercategories in its own and in VOC's spelling.
GROUPS = {
    "person, accessory": "person backpack umbrella handbag tie suitcase",
    "vehicle": "bicycle car motorcycle airplane bus train truck boat aeroplane motorbike",
    "street": "traffic_light fire_hydrant stop_sign parking_meter bench",
    "animal": "bird cat dog horse sheep cow elephant bear zebra giraffe",
    "sports": "frisbee skis snowboard sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket",
    "table, food": "bottle wine_glass cup fork knife spoon bowl banana apple sandwich orange broccoli carrot hot_dog "
    "pizza donut cake",
    "indoor": "chair couch potted_plant bed dining_table toilet tv laptop mouse remote keyboard cell_phone microwave "
    "oven toaster sink refrigerator book clock vase scissors teddy_bear hair_drier toothbrush diningtable pottedplant "
    "sofa tvmonitor",
}


def group_of(label: str) -> str:
    """The kind of a COCO or VOC label, one of `GROUPS`; "other" for any other label."""
    found = [group for group, names in GROUPS.items() if label.replace(" ", "_") in names.split()]
    return found[0] if found else "other"


def conditional(labels: Bool[np.ndarray, "images labels"], *, least: int = 1) -> Float64[np.ndarray, "labels labels"]:
    """P(b | a): of the images that have label a, the share that has b too.

    NaN on the diagonal, and in the row of a label that fewer than `least` images have.
    """
    counts = labels.astype(np.float64)
    together, having = counts.T @ counts, counts.sum(0)
    shares = np.where(having[:, None] >= max(least, 1), together / np.maximum(having, 1)[:, None], np.nan)
    np.fill_diagonal(shares, np.nan)
    return shares


def transitions(
    sequences: Int[np.ndarray, "images length"], num_labels: int, *, least: int = 1
) -> Float64[np.ndarray, "{num_labels} {num_labels}"]:
    """P(second label = b | first label = a) in ordered label sequences; other numbers, such as END's, are no labels.

    Of the sequences that start with a and have a second label; NaN on the diagonal and in rows with fewer than `least`.
    """
    first, second = sequences[:, 0], sequences[:, 1]
    pair = (first >= 0) & (first < num_labels) & (second >= 0) & (second < num_labels)
    counts = np.zeros((num_labels, num_labels))
    np.add.at(counts, (first[pair], second[pair]), 1)
    total = counts.sum(1, keepdims=True)
    shares = np.where(total >= max(least, 1), counts / np.maximum(total, 1), np.nan)
    np.fill_diagonal(shares, np.nan)
    return shares


def next_given_first(scores: Float[np.ndarray, "images labels tokens"]) -> Float64[np.ndarray, "labels labels"]:
    """P(next label = b | first label = a), averaged over images whatever they show: what a model expects after a.

    scores[i, a]: of each next token of image i after the label a alone, before the softmax; only the tokens that are
    labels other than a count, the last one, END, does not. NaN on the diagonal.
    """
    num_labels = scores.shape[1]
    raised = scores[:, :, :num_labels].astype(np.float64)
    raised[:, np.eye(num_labels, dtype=bool)] = -np.inf
    shares = np.exp(raised - raised.max(2, keepdims=True))
    expected = (shares / shares.sum(2, keepdims=True)).mean(0)
    np.fill_diagonal(expected, np.nan)
    return expected


class Agreement(NamedTuple):
    """Pearson's correlation, the mean absolute difference, and the number of pairs behind both."""

    correlation: float
    error: float
    pairs: int


def agreement(a: Float[np.ndarray, "labels labels"], b: Float[np.ndarray, "labels labels"]) -> Agreement:
    """How well two matrices agree, over the pairs that neither leaves undefined; NaN where there is nothing to say."""
    both = ~np.isnan(a) & ~np.isnan(b)
    x, y = a[both], b[both]
    if not len(x):
        return Agreement(math.nan, math.nan, 0)
    varies = x.std() > 0 and y.std() > 0
    correlation = float(np.corrcoef(x, y)[0, 1]) if varies else math.nan
    return Agreement(correlation, float(np.abs(x - y).mean()), len(x))


def cosine(
    a: Float[np.ndarray, "rows size"], b: Float[np.ndarray, "columns size"]
) -> Float[np.ndarray, "rows columns"]:
    """Cosine of each vector of `a` with each of `b`; 0 for a vector of zeros."""
    a, b = (one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in (a, b))
    return a @ b.T


def nearest(similarity: Float[np.ndarray, "rows columns"], n: int) -> Int64[np.ndarray, "rows n"]:
    """The `n` columns of the greatest similarity in each row, best first, of equals the first; NaN comes last."""
    return np.argsort(np.where(np.isnan(similarity), np.inf, -similarity), axis=1, kind="stable")[:, :n]


def nearest_labels(embedding: Float[np.ndarray, "labels size"], n: int) -> Int64[np.ndarray, "labels n"]:
    """For each label the `n` others whose vectors are nearest by cosine, nearest first (Table 5)."""
    similarity = cosine(embedding, embedding).astype(np.float64)
    np.fill_diagonal(similarity, np.nan)
    return nearest(similarity, n)


def principal_plane(
    vectors: Float[np.ndarray, "vectors size"],
) -> tuple[Float64[np.ndarray, "vectors 2"], Float64[np.ndarray, " 2"]]:
    """Coordinates of vectors in the plane of their greatest variance, and the share of the variance on each axis.

    An axis points to where its largest coordinate, in absolute value, is positive, so that a picture is not mirrored
    from one machine to another.
    """
    centred = vectors.astype(np.float64) - vectors.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    plane = left[:, :2] * values[:2]
    plane = plane * np.sign(plane[np.abs(plane).argmax(0), [0, 1]])
    return plane, values[:2] ** 2 / np.maximum((values**2).sum(), 1e-12)


def context_support(
    labels: Bool[np.ndarray, "images labels"], given: Float[np.ndarray, "labels labels"]
) -> Float64[np.ndarray, "images labels"]:
    """How strongly an image's other labels suggest each label: the greatest P(b | a) over its labels a, b left out.

    given: `conditional` of other images, such as the training set's. 0 where no other label is known to go with it.
    """
    support = np.zeros(labels.shape)
    for label, shares in enumerate(np.nan_to_num(given)):
        support = np.maximum(support, np.where(labels[:, [label]], shares, 0))
    return support


def top_labels(
    scores: Real[np.ndarray, "images labels"], counts: Int[np.ndarray, " images"]
) -> Bool[np.ndarray, "images labels"]:
    """As many of an image's best labels as `counts` says, of equals the first ones."""
    places = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")
    return places < counts[:, None]


def given_labels(
    scores: Real[np.ndarray, "images labels"], k: int, path: Bool[np.ndarray, "images labels"] | None = None
) -> Bool[np.ndarray, "images labels"]:
    """The `k` best labels of each image, or the `k` best of those on its path, which may be fewer (Tables 1 to 3)."""
    if path is None:
        return top_labels(scores, np.full(len(scores), k))
    return top_labels(np.where(path, scores, -np.inf), np.minimum(path.sum(1), k))


def mean_probability(
    log_probabilities: Float[np.ndarray, "runs images labels"],
) -> Float64[np.ndarray, "images labels"]:
    """Log of the mean of the probabilities of several runs: an ensemble's scores, such as over label orders (§3.4)."""
    return np.logaddexp.reduce(log_probabilities.astype(np.float64), axis=0) - math.log(len(log_probabilities))


def class_scores(
    given: Bool[np.ndarray, "images labels"], targets: Int[np.ndarray, "images labels"]
) -> tuple[Float64[np.ndarray, " labels"], Float64[np.ndarray, " labels"]]:
    """Precision and recall of each label (Fig. 7); 0 and NaN as in `metrics.label_scores`, whose C-P and C-R they make.

    Precision is 0 for a label that is never given, recall NaN for one that is never present.
    """
    chosen, present = given & (targets >= 0), targets == 1
    right = (chosen & present).sum(0)
    recall = np.where(present.any(0), right / np.maximum(present.sum(0), 1), np.nan)
    return right / np.maximum(chosen.sum(0), 1), recall


def recall_by(
    given: Bool[np.ndarray, "images labels"],
    targets: Int[np.ndarray, "images labels"],
    values: Float[np.ndarray, "images labels"],
    edges: Sequence[float | int],
) -> tuple[Float64[np.ndarray, " bins"], Int64[np.ndarray, " bins"]]:
    """Recall of the labels whose value lies in [edge, next edge), and their number; NaN where there are none.

    values: something known of each label in each image, such as the size of its object; a NaN lies in no bin. The
    last bin holds its upper edge too.
    """
    present = (targets == 1) & ~np.isnan(values)
    found = [np.histogram(values[chosen], edges)[0] for chosen in (present & given, present)]
    return np.where(found[1] > 0, found[0] / np.maximum(found[1], 1), np.nan), found[1]


def recall_panel(
    given: Mapping[str, Bool[np.ndarray, "runs images labels"]],
    targets: Int[np.ndarray, "images labels"],
    values: Float[np.ndarray, "images labels"],
    edges: Sequence[float | int],
) -> tuple[list[str], Int64[np.ndarray, " bins"], dict[str, Float64[np.ndarray, "runs bins"]]]:
    """`recall_by` of several methods, as a panel of `plots_cnn_rnn.recall_panels`: bins in percent, counts, recalls."""
    bins = [f"{100 * low:.0f}–{100 * high:.0f} %" for low, high in pairwise(edges)]
    found = {name: [recall_by(one, targets, values, edges) for one in runs] for name, runs in given.items()}
    counts = next(iter(found.values()))[0][1]
    return bins, counts, {name: np.stack([recall for recall, _ in one]) for name, one in found.items()}


class Branch(NamedTuple):
    """One extension that a beam search looked at. path: its labels, and END (the number of labels) if it ends.

    p: of its last token given those before. log_p: of the whole path. fate: "live" goes on, "ended" is a candidate for
    the answer, "dropped" is less probable than the live ones or, at the end of the search, than the answer.
    """

    path: tuple[int, ...]
    p: float
    log_p: float
    fate: Literal["live", "ended", "dropped"]


def trace_beam(
    scores: Callable[[Sequence[tuple[int, ...]]], Float[np.ndarray, "paths tokens"]],
    num_labels: int,
    *,
    beam: int,
    length: int,
    min_length: int = 0,
) -> list[list[Branch]]:
    """The beam search of CNN-RNN §3.3 for one image, written as the paper tells it: for pictures, not for speed.

    `scores(paths)` gives the scores of what follows each label sequence: num_labels labels and END. A list for each
    step holds what was grown in it: of each live path its `beam` most probable labels, and its END where the path has
    `min_length` labels. `models.beam.beam_search` finds the same paths for many images at once.
    """
    live, steps, best = [Branch((), 1.0, 0.0, "live")], [], -math.inf
    while live and len(steps) <= length:
        grown = []
        for parent, row in zip(live, scores([one.path for one in live]), strict=True):
            grown += _grow(parent, row, num_labels, beam, min_length, length)
        best = max([best, *(one.log_p for one in grown if one.fate == "ended")])
        living = sorted((one for one in grown if one.fate == "live"), key=lambda one: -one.log_p)[:beam]
        live = living if living and living[0].log_p >= best else []
        kept = {one.path for one in live}
        dropped = [one.fate == "live" and one.path not in kept for one in grown]
        steps.append([one._replace(fate="dropped") if out else one for one, out in zip(grown, dropped, strict=True)])
    return steps


def _grow(parent: Branch, row: np.ndarray, num_labels: int, beam: int, min_length: int, length: int) -> list[Branch]:
    """The extensions of a path: no label twice, END not too early, and nothing else after `length` labels."""
    allowed = np.ones(num_labels + 1, dtype=bool)
    allowed[list(parent.path)] = False
    allowed[num_labels] = len(parent.path) >= min_length
    if len(parent.path) == length:
        allowed[:] = np.arange(num_labels + 1) == num_labels
    raised = np.where(allowed, np.asarray(row, np.float64), -np.inf)
    log_p = raised - raised[allowed].max()
    log_p -= math.log(np.exp(log_p).sum())
    labels = [int(token) for token in np.argsort(-log_p[:num_labels], kind="stable")[:beam] if allowed[token]]
    ending = [num_labels] * bool(allowed[num_labels])
    return [
        Branch((*parent.path, token), math.exp(log_p[token]), parent.log_p + float(log_p[token]), fate)
        for tokens, fate in ((labels, "live"), (ending, "ended"))
        for token in tokens
    ]
