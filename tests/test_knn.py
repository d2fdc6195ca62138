"""K nearest neighbours beside a plain loop."""

import math

import pytest
import torch

from mlic_core.errors import InputError
from mlic_core.models import knn
from mlic_core.models.knn import nearest_neighbours


def plain(known, targets, asked, k):
    rows = []
    for query in asked.tolist():
        cosine = []
        for row in known.tolist():
            dot = sum(a * b for a, b in zip(query, row, strict=True))
            cosine.append(dot / (math.hypot(*query) * math.hypot(*row)))
        near = sorted(range(len(cosine)), key=lambda i: -cosine[i])[:k]
        scores = []
        for c in range(targets.shape[1]):
            votes = [(max(cosine[i], 0), targets[i, c].item()) for i in near]
            total = sum(weight for weight, vote in votes if vote >= 0)
            scores.append(sum(weight for weight, vote in votes if vote == 1) / total if total else 0.0)
        rows.append(scores)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("block", [1, 200, 2**25])
def test_scores_equal_a_plain_loop(monkeypatch, k, block):
    monkeypatch.setattr(knn, "BLOCK", block)
    generator = torch.Generator().manual_seed(k)
    known, asked = (torch.randn(n, 7, dtype=torch.float64, generator=generator) for n in (40, 23))
    targets = torch.randint(-1, 2, (40, 5), generator=generator).to(torch.int8)
    found = nearest_neighbours(known, targets, asked, k)
    torch.testing.assert_close(found, plain(known, targets, asked, k), rtol=0, atol=1e-12)
    assert found.min() >= 0 and found.max() <= 1


def test_neighbours_by_hand():
    known = torch.tensor([[1.0, 0.0], [2.0, 2.0], [0.0, 3.0], [-1.0, 0.0]])
    targets = torch.tensor([[1, 0, -1], [0, 1, 1], [1, 1, -1], [1, 1, 1]], dtype=torch.int8)
    side = math.sqrt(0.5)  # cosine with the second image
    [scores] = nearest_neighbours(known, targets, torch.tensor([[5.0, 0.0]]), 2).tolist()
    assert scores == pytest.approx([1 / (1 + side), side / (1 + side), 1.0])  # the first has no vote on the last


def test_nobody_s_vote_is_zero_and_an_empty_feature_no_nan():
    known, targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[1, -1], [1, -1]], dtype=torch.int8)
    assert nearest_neighbours(known, targets, torch.tensor([[1.0, 1.0], [0.0, 0.0]]), 2).tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("k", [0, 3])
def test_an_impossible_k_is_refused(k):
    with pytest.raises(InputError, match=f"k={k}: choose 1 to 2"):
        nearest_neighbours(torch.rand(2, 3), torch.zeros(2, 1, dtype=torch.int8), torch.rand(1, 3), k)
