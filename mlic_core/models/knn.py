"""K nearest neighbours on frozen features (CNN-RNN Table 1)."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from mlic_core.errors import InputError

BLOCK = 2**25  # similarities and votes held at once


def nearest_neighbours(
    train_features: Float[Tensor, "images channels"],
    train_targets: Int8[Tensor, "images classes"],
    features: Float[Tensor, "queries channels"],
    k: int,
) -> Float[Tensor, "queries classes"]:
    """Share of the k training images nearest by cosine that have each label, weighted by the cosine; in [0, 1].

    A neighbour whose entry for a class is ignored has no vote on that class, and one with a cosine below 0 none at
    all; 0 where nobody votes. The paper names no distance and no weights.

    Raises InputError unless k is 1 to the number of training images.
    """
    if not 1 <= k <= len(train_features):
        raise InputError(f"k={k}: choose 1 to {len(train_features)}, the number of training images")
    known = nn.functional.normalize(train_features, dim=1)
    at_once = BLOCK // (len(known) + k * train_targets.shape[1])
    asked = nn.functional.normalize(features, dim=1).split(max(1, at_once))
    return torch.cat([_vote(*(block @ known.T).topk(k, 1), train_targets) for block in asked])


def _vote(
    similarity: Float[Tensor, "queries k"], neighbours: Tensor, targets: Int8[Tensor, "images classes"]
) -> Float[Tensor, "queries classes"]:
    votes = targets[neighbours]  # (queries, k, classes)
    weight = similarity.clamp(min=0)[:, None]
    in_favour = (weight @ (votes == 1).to(weight))[:, 0]
    counted = (weight @ (votes >= 0).to(weight))[:, 0]
    return in_favour / counted.where(counted > 0, 1)
