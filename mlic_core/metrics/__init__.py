"""Scores of multi-label predictions.

Arrays only. Rows are images, columns are classes; `targets` are 1 (present), 0 (absent) or -1 (ignored, such
as a class of which an image shows only difficult objects). An ignored entry counts nowhere, as in PASCAL VOC.
Values lie in [0, 1] unless a function says otherwise. Every function raises InputError for shapes that differ, for
targets outside {1, 0, -1} and for a score that is NaN or infinite, naming its image and class.
"""

from mlic_core.metrics.ap import APKind, MeanAveragePrecision, average_precision, mean_average_precision
from mlic_core.metrics.examples import (
    example_scores,
    example_values,
    image_average_precision,
    map_at_n,
    ranking_scores,
    ranking_values,
)
from mlic_core.metrics.labels import label_scores
from mlic_core.metrics.protocols import Rule, protocol_matrix
from mlic_core.metrics.resampling import Difference, Interval, bootstrap, paired_bootstrap

__all__ = [
    "APKind",
    "Difference",
    "Interval",
    "MeanAveragePrecision",
    "Rule",
    "average_precision",
    "bootstrap",
    "example_scores",
    "example_values",
    "image_average_precision",
    "label_scores",
    "map_at_n",
    "mean_average_precision",
    "paired_bootstrap",
    "protocol_matrix",
    "ranking_scores",
    "ranking_values",
]
