"""The same predictions under every convention that the four papers and their field score by."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Real

from mlic_core.errors import check_choice
from mlic_core.metrics.ap import APKind, area, over_classes, rank_classes
from mlic_core.metrics.arrays import checked
from mlic_core.metrics.labels import label_scores

Difficult = Literal["ignore", "positive", "negative"]
DIFFICULT: dict[str, int] = {"ignore": -1, "positive": 1, "negative": 0}


class Rule(NamedTuple):
    """Which labels an image is given: its `top_k` best, those with p above `threshold`, or those that meet both."""

    top_k: int | None = None
    threshold: float | None = None

    def __str__(self) -> str:
        parts = [f"top-{self.top_k}"] if self.top_k is not None else []
        return " and ".join(parts + ([f"p > {self.threshold:g}"] if self.threshold is not None else []))


# CNN-RNN takes the top 3, MCAR p > 0.6, others 0.5; RDAR names top 3 and 0.5 together, and MCAR's columns "top 3" have
# a precision that only top 3 and 0.6 together can give.
RULES = (
    Rule(top_k=3),
    Rule(threshold=0.5),
    Rule(threshold=0.6),
    Rule(top_k=3, threshold=0.5),
    Rule(top_k=3, threshold=0.6),
)


def protocol_matrix(
    scores: Real[np.ndarray, "images classes"],
    targets: Int[np.ndarray, "images classes"],
    *,
    probabilities: Float[np.ndarray, "images classes"] | None = None,
    difficult: Sequence[Difficult] = ("ignore", "positive", "negative"),
    rules: Sequence[Rule] = RULES,
) -> pd.DataFrame:
    """Score one set of predictions under AP kind x difficult handling and label rule x C-F1 definition x handling.

    scores: logits. The thresholds of the rules apply to `probabilities`, by default the sigmoid of the scores.
    difficult: how -1 in `targets` counts; without any -1 the handlings agree, and only the first one is listed.

    Columns: `metric` (mAP, C-F1, O-F1), `definition` (raw, voc10, voc07; harmonic, mean of classes; "" for O-F1),
    `rule` ("" for mAP), `difficult`, `value` in percent, and `classes`, those with a positive.
    Raises InputError as `average_precision` and `label_scores` do, and for an unknown handling.
    """
    for handling in difficult:
        check_choice("difficult", handling, Difficult)
    scores, targets = checked(scores, targets)
    if probabilities is None:
        probabilities, rules_there = scores, [(rule, _as_logit(rule)) for rule in rules]
    else:
        rules_there = [(rule, rule) for rule in rules]

    rows: list[dict[str, Any]] = []
    for handling in difficult if (targets == -1).any() else difficult[:1]:
        settled = np.where(targets == -1, np.int8(DIFFICULT[handling]), targets)
        classes = int(np.count_nonzero((settled == 1).any(axis=0)))
        cells = [*_ap_cells(scores, settled), *_label_cells(probabilities, settled, rules_there)]
        rows += [cell | {"difficult": handling, "value": 100 * cell["value"], "classes": classes} for cell in cells]
    return pd.DataFrame(rows, columns=["metric", "definition", "rule", "difficult", "value", "classes"])


def _as_logit(rule: Rule) -> Rule:
    """The same rule for logits: a sigmoid is monotone, so that its values need not be computed."""
    if rule.threshold is None:
        return rule
    with np.errstate(divide="ignore"):  # all of them are above 0 and none is above 1
        share = np.float64(rule.threshold).clip(0, 1)
        return rule._replace(threshold=float(np.log(share / (1 - share))))


def _ap_cells(scores: np.ndarray, targets: np.ndarray) -> Iterator[dict[str, Any]]:
    ranked = rank_classes(scores, targets)
    for kind in get_args(APKind):
        value = over_classes(area(ranked, scores.shape[1], kind)).value
        yield {"metric": "mAP", "definition": kind, "rule": "", "value": value}


def _label_cells(probabilities: np.ndarray, targets: np.ndarray, rules: list) -> Iterator[dict[str, Any]]:
    for rule, applied in rules:
        found = label_scores(probabilities, targets, top_k=applied.top_k, threshold=applied.threshold)
        for key, metric, definition in (
            ("C-F1", "C-F1", "harmonic"),
            ("C-F1 mean", "C-F1", "mean of classes"),
            ("O-F1", "O-F1", ""),
        ):
            yield {"metric": metric, "definition": definition, "rule": str(rule), "value": found[key]}
