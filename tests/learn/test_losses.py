import math

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from ragsmith.learn.losses import info_nce


def unit(*rows):
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def nothing_ignored(queries, candidates):
    return torch.zeros((len(queries), len(candidates)), dtype=torch.bool)


def test_two_queries_with_right_angles_worked_by_hand():
    # cosines [[1, 0], [0, 1]], temperature 0.5: each row is softmax(2, 0) at its positive
    vectors = unit([1, 0], [0, 1])
    loss, cosines = info_nce(vectors, vectors, torch.tensor([0, 1]), nothing_ignored(vectors, vectors), 0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-6)
    assert cosines.tolist() == [[1, 0], [0, 1]]


def test_loss_and_gradient_equal_those_of_sentence_transformers(tiny_model):
    torch.manual_seed(0)
    queries, positives, negatives = (unit(*torch.randn(5, 8).tolist()).requires_grad_() for _ in range(3))
    theirs = MultipleNegativesRankingLoss(SentenceTransformer(str(tiny_model), device="cpu"), scale=20)
    expected = theirs.compute_loss_from_embeddings([queries, positives, negatives], torch.empty(0))
    expected_gradient = torch.autograd.grad(expected, queries)[0]
    candidates = torch.cat([positives, negatives])
    loss, _ = info_nce(queries, candidates, torch.arange(5), nothing_ignored(queries, candidates), 1 / 20)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    # Theirs normalises once more, which takes the part along each vector out of the gradient; so compare what is left.
    gradient = torch.autograd.grad(loss, queries)[0]
    along = (gradient * queries).sum(dim=1, keepdim=True) * queries
    assert torch.allclose(gradient - along, expected_gradient, atol=1e-5)


def test_ignored_positive_is_as_if_it_were_not_there():
    queries = unit([1, 0.2], [0, 1])
    candidates = unit([1, 0], [0, 1], [0.9, 0.1])
    targets = torch.tensor([0, 1])
    ignored = torch.tensor([[False, False, True], [False, False, False]])
    loss, _ = info_nce(queries, candidates, targets, ignored, 0.1)
    first, _ = info_nce(queries[:1], candidates[:2], targets[:1], nothing_ignored(queries[:1], candidates[:2]), 0.1)
    second, _ = info_nce(queries[1:], candidates, targets[1:], nothing_ignored(queries[1:], candidates), 0.1)
    assert loss.item() == pytest.approx((first.item() + second.item()) / 2, abs=1e-6)


def test_ignored_positive_gets_no_gradient():
    candidates = unit([1, 0], [0, 1], [0.9, 0.1]).requires_grad_()
    ignored = torch.tensor([[False, False, True]])
    info_nce(unit([1, 0.2]), candidates, torch.tensor([0]), ignored, 0.1)[0].backward()
    assert candidates.grad[2].abs().sum() == 0 and candidates.grad[1].abs().sum() > 0
