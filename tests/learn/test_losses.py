import math

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    DistillKLDivLoss,
    MarginMSELoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.util import pairwise_dot_score

from ragsmith.learn.losses import distillation, info_nce, margin_mse, mask_false_negatives, matryoshka


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


def test_info_nce_equals_a_slow_loop_in_float64_with_a_duplicate_ignored():
    queries, candidates = drawn(3, 8), drawn(6, 8)
    targets, ignored = torch.tensor([4, 0, 0]), torch.zeros((3, 6), dtype=torch.bool)
    ignored[0, 2] = ignored[1, 5] = ignored[2, 5] = True
    total = 0.0
    for row in range(3):
        kept = [place for place in range(6) if not ignored[row, place]]
        logits = {place: cosine64(queries[row], candidates[place]) / 0.05 for place in kept}
        total += math.log(sum(math.exp(logit) for logit in logits.values())) - logits[int(targets[row])]
    loss, _ = info_nce(queries, candidates, targets, ignored, 0.05)
    assert loss.item() == pytest.approx(total / 3, abs=1e-5)


def drawn(count, dimension, seed=1):
    """Unit vectors that need a gradient."""
    numbers = torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed + 100 * count))
    return torch.nn.functional.normalize(numbers, dim=1).requires_grad_()


def cosine64(one, other):
    return float(np.dot(one.detach().double().numpy(), other.detach().double().numpy()))


@pytest.fixture
def whole_groups():
    """Four queries, each with a group of three candidates of its own, and a teacher's scores of them."""
    groups = torch.arange(12).reshape(3, 4).T  # column g: the candidates that sentence-transformers has in column g
    teacher = torch.randn(4, 3, generator=torch.Generator().manual_seed(5))
    return drawn(4, 16), drawn(12, 16), groups, torch.ones((4, 3), dtype=torch.bool), teacher


@pytest.fixture
def ragged_groups():
    """Four queries: three real entries; two, one of which another query has too; a positive alone; no group at all."""
    groups = torch.tensor([[0, 1, 2], [3, 1, -1], [4, -1, -1], [-1, -1, -1]])
    teacher = torch.tensor([[2.0, 0.5, -1.0], [1.0, 3.0, math.nan], [1.0, math.nan, math.nan], [math.nan] * 3])
    return drawn(4, 16), drawn(5, 16), groups, groups >= 0, teacher


def columns(queries, candidates):
    """The vectors as sentence-transformers takes them: one tensor per column."""
    return [queries, *candidates.reshape(3, 4, -1)]


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors, retain_graph=True)


def test_distillation_equals_that_of_sentence_transformers(tiny_model, whole_groups):
    queries, candidates, groups, mask, teacher = whole_groups
    model = SentenceTransformer(str(tiny_model), device="cpu")
    theirs = DistillKLDivLoss(model, student_temperature=0.2, teacher_temperature=0.7)
    expected = theirs.compute_loss_from_embeddings(columns(queries, candidates), teacher)
    loss = distillation(queries, candidates, groups, mask, teacher, 0.2, 0.7)
    assert (loss * 0.2**2).item() == pytest.approx(expected.item(), abs=1e-5)  # they scale it, see the docstring
    ours, others = gradients(loss * 0.2**2, queries, candidates), gradients(expected, queries, candidates)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, others, strict=True))
    assert all(one.abs().max() > 1e-3 for one in others)


def test_distillation_is_flagembeddings_kl_div_less_the_entropy_of_the_teacher(whole_groups):
    modeling = pytest.importorskip(
        "FlagEmbedding.abc.finetune.embedder.AbsModeling", reason="FlagEmbedding is not installed"
    )
    queries, candidates, groups, mask, teacher = whole_groups
    scores = torch.stack([candidates[row] @ query for query, row in zip(queries, groups, strict=True)]) / 0.1
    targets = teacher.softmax(dim=1)
    expected = modeling.AbsEmbedderModel.distill_loss("kl_div", targets, scores)
    entropy = -(targets * targets.log()).sum(dim=1).mean()
    loss = distillation(queries, candidates, groups, mask, teacher, 0.1, 1.0)
    assert (loss + entropy).item() == pytest.approx(expected.item(), abs=1e-5)
    ours, others = gradients(loss, queries, candidates), gradients(expected, queries, candidates)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, others, strict=True))


def test_distillation_of_ragged_groups_equals_a_slow_loop_in_float64(ragged_groups):
    queries, candidates, groups, mask, teacher = ragged_groups
    total = 0.0
    for row in (0, 1):  # the others have nothing to compare
        kept = [entry for entry in range(3) if mask[row, entry]]
        student = np.exp([cosine64(queries[row], candidates[groups[row, entry]]) / 0.05 for entry in kept])
        wanted = np.exp([float(teacher[row, entry]) / 0.3 for entry in kept])
        student, wanted = student / student.sum(), wanted / wanted.sum()
        total += float((wanted * np.log(wanted / student)).sum())
    loss = distillation(queries, candidates, groups, mask, teacher, 0.05, 0.3)
    assert loss.item() == pytest.approx(total / 2, rel=1e-5)


def test_distillation_is_nothing_when_the_order_is_that_of_the_teacher():
    queries, candidates = drawn(2, 8), drawn(6, 8)
    groups, mask = torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.ones((2, 3), dtype=torch.bool)
    teacher = torch.stack([candidates[row] @ query for query, row in zip(queries, groups, strict=True)])
    assert distillation(queries, candidates, groups, mask, teacher, 0.05, 0.05).item() == pytest.approx(0, abs=1e-6)
    assert distillation(queries, candidates, groups, mask, -teacher, 0.05, 0.05).item() > 0.1


def test_a_teacher_that_is_beyond_doubt_gives_a_finite_loss(whole_groups):
    queries, candidates, groups, mask, teacher = whole_groups
    loss = distillation(queries, candidates, groups, mask, teacher * 1e6, 0.05, 0.3)
    assert math.isfinite(loss.item()) and loss.item() > 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients(loss, queries, candidates))


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_margin_mse_equals_that_of_sentence_transformers(tiny_model, whole_groups, scale):
    queries, candidates, groups, mask, teacher = whole_groups
    theirs = MarginMSELoss(
        SentenceTransformer(str(tiny_model), device="cpu"), lambda one, other: scale * pairwise_dot_score(one, other)
    )
    expected = theirs.compute_loss_from_embeddings(columns(queries, candidates), teacher)
    loss = margin_mse(queries, candidates, groups, mask, teacher, scale)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    ours, others = gradients(loss, queries, candidates), gradients(expected, queries, candidates)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, others, strict=True))
    assert all(one.abs().max() > 1e-3 for one in others)


def test_margin_mse_of_ragged_groups_equals_a_slow_loop_in_float64(ragged_groups):
    queries, candidates, groups, mask, teacher = ragged_groups
    errors = []
    for row in range(4):
        for entry in (1, 2):
            if mask[row, 0] and mask[row, entry]:
                positive = cosine64(queries[row], candidates[groups[row, 0]])
                margin = positive - cosine64(queries[row], candidates[groups[row, entry]])
                errors.append((margin - float(teacher[row, 0] - teacher[row, entry])) ** 2)
    assert len(errors) == 3
    assert margin_mse(queries, candidates, groups, mask, teacher).item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_a_query_whose_positive_is_not_real_adds_no_margin(whole_groups):
    queries, candidates, groups, mask, teacher = whole_groups
    without = mask.clone()
    without[1, 0] = False
    left = [0, 2, 3]
    loss = margin_mse(queries, candidates, groups, without, teacher)
    expected = margin_mse(queries[left], candidates, groups[left], mask[left], teacher[left])
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize(
    "loss", [lambda *batch: distillation(*batch, 0.05, 0.3), margin_mse], ids=["distillation", "margin_mse"]
)
def test_queries_with_nothing_to_compare_get_no_gradient_and_no_nan(loss, ragged_groups):
    queries, candidates, groups, mask, teacher = ragged_groups
    for gradient in gradients(loss(queries, candidates, groups, mask, teacher), queries, candidates):
        assert torch.isfinite(gradient).all()
    of_queries, of_candidates = gradients(loss(queries, candidates, groups, mask, teacher), queries, candidates)
    assert of_queries[:2].abs().sum(dim=1).min() > 0 and of_queries[2:].abs().sum() == 0
    assert of_candidates[:4].abs().sum(dim=1).min() > 0 and of_candidates[4].abs().sum() == 0
    alone = loss(queries, candidates, groups[2:].repeat(2, 1), mask[2:].repeat(2, 1), teacher[2:].repeat(2, 1))
    assert alone.item() == 0 and gradients(alone, queries)[0].abs().sum() == 0


def test_losses_of_half_precision_vectors_are_float32(whole_groups):
    queries, candidates, groups, mask, teacher = whole_groups
    halves = queries.detach().bfloat16(), candidates.detach().bfloat16()
    exact = [half.float() for half in halves]
    assert margin_mse(*halves, groups, mask, teacher).dtype == torch.float32
    loss, expected = (distillation(*pair, groups, mask, teacher, 0.1, 1.0) for pair in (halves, exact))
    assert loss.dtype == torch.float32 and loss.item() == expected.item()


def test_matryoshka_equals_that_of_sentence_transformers(tiny_model):
    model = SentenceTransformer(str(tiny_model), device="cpu").eval()
    texts = [["delete a tree", "wait"], ["Delete a directory tree.", "Wait for seconds."], ["Copy a file.", "A root."]]
    features = [model.preprocess(column) for column in texts]
    inner = MultipleNegativesRankingLoss(model, scale=20)
    expected = MatryoshkaLoss(model, inner, [64, 32, 8], [1.0, 0.5, 0.25])(features, torch.empty(0))
    expected_gradient = gradients(expected, *(parameters := used(model)))
    queries, *others = (model(dict(column))["sentence_embedding"] for column in features)

    def loss(queries, candidates):
        return info_nce(queries, candidates, torch.arange(2), nothing_ignored(queries, candidates), 1 / 20)[0]

    ours = matryoshka(loss, queries, torch.cat(others), [64, 32, 8], [1.0, 0.5, 0.25])
    assert ours.item() == pytest.approx(expected.item(), abs=1e-5)
    gradient = gradients(ours, *parameters)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(gradient, expected_gradient, strict=True))
    alone = matryoshka(loss, queries, torch.cat(others), [64])
    assert alone.item() == pytest.approx(loss(queries, torch.cat(others)).item(), abs=1e-6)


def used(model):
    """The parameters that a vector depends on: BERT's pooler is none of them."""
    return [parameter for name, parameter in model.named_parameters() if "pooler" not in name]


@pytest.mark.parametrize("dimensions, weights", [([], None), ([0], None), ([9], None), ([8, 4], [1.0])])
def test_dimensions_that_the_vectors_do_not_have_are_refused(dimensions, weights):
    with pytest.raises(ValueError, match="give"):
        matryoshka(lambda queries, candidates: queries.sum(), drawn(2, 8), drawn(2, 8), dimensions, weights)


def test_candidates_above_the_positive_and_the_margin_are_ignored():
    cosines = torch.tensor([[0.5, 0.61, 0.59, 0.9], [0.2, 0.2, 0.8, 0.25]])
    ignored = torch.tensor([[False, False, False, False], [True, False, False, False]])
    found = mask_false_negatives(cosines, torch.tensor([0, 2]), ignored, 0.1)
    assert found.tolist() == [[False, True, False, True], [True, False, False, False]]
    assert not ignored[0].any()  # the argument is left alone


def test_the_positive_is_never_a_false_negative():
    cosines = torch.rand(20, 30, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(20)
    found = mask_false_negatives(cosines, targets, torch.zeros((20, 30), dtype=torch.bool), 0.0)
    assert not found[torch.arange(20), targets].any()
    for row in range(20):
        assert found[row].tolist() == [bool(value > cosines[row, row]) for value in cosines[row]]
