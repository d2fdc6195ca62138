"""One-vs-rest linear SVMs on image representations, by LIBLINEAR (RDAR §5.1)."""

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int8
from torch import Tensor

from mlic_core.errors import InputError
from mlic_core.metrics import mean_average_precision

ITERATIONS = 100  # of Newton's method at most; ten are usual
VALUES = (1e-5, 1e-4, 1e-3, 1e-2)  # of C


class SVM(NamedTuple):
    """Decision values are features @ weights + bias, above 0 for a label that is there.

    converged: false for a class whose fit was cut short at 100 iterations.
    """

    weights: Float64[Tensor, "units classes"]
    bias: Float64[Tensor, " classes"]
    converged: Bool[Tensor, " classes"]


def fit_svm(features: Float[Tensor, "images units"], targets: Int8[Tensor, "images classes"], C: float) -> SVM:
    """An SVM for each class: ½ ‖(w, b)‖² + C Σ max(0, 1 - y (w·x + b))² over the images that are labelled for it.

    Each unit is brought to mean 0 and deviation 1 over all images given, as LIBLINEAR's authors advise; a unit that
    never varies is only centred. `weights` and `bias` apply to the features as they are. An ignored entry leaves its
    class's sum. A class that has labels of one kind only scores 1 everywhere if they are positive, else -1. The same
    input gives the same numbers. The paper tells neither the loss nor C nor how it scales; LIBLINEAR's default loss is
    taken.

    Raises InputError unless C is above 0.
    """
    from sklearn.preprocessing import StandardScaler  # takes a second to load

    if not (C > 0 and math.isfinite(C)):
        raise InputError(f"C={C}: choose a number above 0")
    scaler = StandardScaler()
    scaled = scaler.fit_transform(features.double().cpu().numpy())
    fits = [_fit_class(scaled, labels, C) for labels in targets.cpu().numpy().T]
    weights = np.stack([weights for weights, _, _ in fits], 1) / scaler.scale_[:, None]
    bias = np.array([bias for _, bias, _ in fits]) - scaler.mean_ @ weights
    converged = torch.tensor([converged for _, _, converged in fits])
    return SVM(torch.from_numpy(weights), torch.from_numpy(bias), converged)


def _fit_class(
    features: Float64[np.ndarray, "images units"], labels: Int8[np.ndarray, " images"], C: float
) -> tuple[Float64[np.ndarray, " units"], float, bool]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    known = labels >= 0
    kinds = np.unique(labels[known])
    if len(kinds) < 2:
        return np.zeros(features.shape[1]), 1.0 if 1 in kinds else -1.0, True
    svm = LinearSVC(C=C, dual=False, max_iter=ITERATIONS)  # the primal form, which draws no random numbers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        svm.fit(features[known], labels[known])
    return svm.coef_[0], float(svm.intercept_[0]), bool(svm.n_iter_ < ITERATIONS)


def svm_scores(svm: SVM, features: Float[Tensor, "images units"]) -> Float32[Tensor, "images classes"]:
    """Decision values, computed in double precision: a unit that hardly varied in training has a large weight."""
    return (features.double().cpu() @ svm.weights + svm.bias).float()


def choose_C(
    train_features: Float[Tensor, "images units"],
    train_targets: Int8[Tensor, "images classes"],
    val_features: Float[Tensor, "others units"],
    val_targets: Int8[Tensor, "others classes"],
    values: tuple[float, ...] = VALUES,
) -> tuple[float, dict[float, float]]:
    """The C with the highest mAP on the validation images, the smallest of equals, and the mAP of each value.

    Raises InputError if no class has a positive validation image.
    """
    if not (val_targets == 1).any():
        raise InputError("C can't be chosen: no class has a positive validation image; give C or other images")
    found = {}
    for C in values:
        scores = svm_scores(fit_svm(train_features, train_targets, C), val_features)
        found[C] = mean_average_precision(scores.numpy(), val_targets.cpu().numpy()).value
    return min(found, key=lambda C: (-found[C], C)), found
