import math

import pytest
import torch

from ragsmith.read.objectives import OBJECTIVES, contrastive, emdr2, log_prior, pdist, rag_sequence, rag_token

COUNTS = [3, 1, 2, 4]  # passages of each question
LENGTHS = [4, 1, 2, 3]  # tokens of each answer
VOCABULARY = 7
SMOOTHING = 0.15


@pytest.fixture(params=[0, 1, 2], ids=lambda seed: f"seed{seed}")
def batch(request):
    """Scores, log probabilities of the whole vocabulary, labels, and where passages and tokens are; float64."""
    generator = torch.Generator().manual_seed(request.param)
    width, longest = max(COUNTS), max(LENGTHS)
    scores = 3 * torch.randn(len(COUNTS), width, generator=generator, dtype=torch.float64)
    logits = 2 * torch.randn(len(COUNTS), width, longest, VOCABULARY, generator=generator, dtype=torch.float64)
    labels = torch.randint(VOCABULARY, (len(COUNTS), longest), generator=generator)
    present = torch.arange(width) < torch.tensor(COUNTS)[:, None]
    counted = torch.arange(longest) < torch.tensor(LENGTHS)[:, None]
    return scores.requires_grad_(), logits.requires_grad_(), labels, present, counted


def tables(batch):
    """What the objectives take, zeroed where nothing is, as readers give it."""
    scores, logits, labels, present, counted = batch
    log_probs = logits.log_softmax(-1)
    tokens = log_probs.gather(3, labels[:, None, :, None].expand(-1, log_probs.shape[1], -1, 1))[..., 0]
    shown = present[:, :, None] & counted[:, None, :]
    return log_prior(scores, present), tokens.masked_fill(~shown, 0), log_probs.masked_fill(~shown[..., None], 0)


def slow(batch):
    """Per question: shares of the passages, and p(v | x, z, y_<t) as nested lists of scalars with gradient."""
    scores, logits, labels, _, _ = batch
    for row, (count, length) in enumerate(zip(COUNTS, LENGTHS, strict=True)):
        weights = [scores[row, place].exp() for place in range(count)]
        shares = [weight / sum(weights) for weight in weights]
        each = [
            [
                [
                    logits[row, z, t, v].exp() / sum(logits[row, z, t, u].exp() for u in range(VOCABULARY))
                    for v in range(7)
                ]
                for t in range(length)
            ]
            for z in range(count)
        ]
        yield shares, each, labels[row, :length].tolist()


def slow_rag_token(shares, each, labels, smoothing=0.0):
    loss = 0
    for t, label in enumerate(labels):
        mixture = [sum(share * one[t][v] for share, one in zip(shares, each, strict=True)) for v in range(VOCABULARY)]
        loss -= (1 - smoothing) * mixture[label].log() + smoothing * sum(p.log() for p in mixture) / VOCABULARY
    return loss


def slow_likelihoods(each, labels):
    return [math.prod([one[t][label] for t, label in enumerate(labels)]) for one in each]


def same_gradient(ours, reference, *leaves):
    """Losses are equal, and so are their gradients to each leaf."""
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-10)
    weights = torch.linspace(1, 2, len(ours), dtype=torch.float64)  # each question's own gradient counts
    ours_to, its_to = (torch.autograd.grad(loss @ weights, leaves) for loss in (ours, reference))
    for mine, its in zip(ours_to, its_to, strict=True):
        assert torch.isfinite(mine).all()
        torch.testing.assert_close(mine, its, rtol=1e-8, atol=1e-10)


def test_prior_is_the_share_of_the_exponentials_and_nothing_where_no_passage_is(batch):
    scores, _, _, present, _ = batch
    shares = log_prior(scores, present).exp()
    for row, (expected, _, _) in enumerate(slow(batch)):
        assert shares[row, : COUNTS[row]].tolist() == pytest.approx([share.item() for share in expected], rel=1e-12)
        assert not shares[row, COUNTS[row] :].any()


@pytest.mark.parametrize("smoothing", [0.0, SMOOTHING])
def test_rag_token_and_its_gradient_equal_the_slow_mixture(batch, smoothing):
    prior, tokens, log_probs = tables(batch)
    ours = rag_token(prior, tokens, smoothing, log_probs, batch[4])
    reference = torch.stack([slow_rag_token(*one, smoothing) for one in slow(batch)])
    same_gradient(ours, reference, *batch[:2])


def test_rag_sequence_and_its_gradient_equal_the_slow_mixture(batch):
    prior, tokens, _ = tables(batch)
    reference = torch.stack(
        [
            -sum(share * p for share, p in zip(shares, slow_likelihoods(each, labels), strict=True)).log()
            for shares, each, labels in slow(batch)
        ]
    )
    same_gradient(rag_sequence(prior, tokens.sum(2)), reference, *batch[:2])


def test_emdr2_pulls_the_prior_to_the_posterior_and_leaves_the_reader_alone(batch):
    prior, tokens, _ = tables(batch)
    scores, logits = batch[:2]
    ours = emdr2(prior, tokens.sum(2))
    torch.testing.assert_close(ours, rag_sequence(prior, tokens.sum(2)))
    to_scores, to_reader = torch.autograd.grad(ours.sum(), [scores, logits], allow_unused=True)
    assert to_reader is None
    expected = torch.zeros_like(scores)
    for row, (shares, each, labels) in enumerate(slow(batch)):
        joint = [share * p for share, p in zip(shares, slow_likelihoods(each, labels), strict=True)]
        for place, (share, p) in enumerate(zip(shares, joint, strict=True)):
            expected[row, place] = (share - p / sum(joint)).detach()
    torch.testing.assert_close(to_scores, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_pdist_and_its_gradient_equal_the_slow_divergence(batch, temperature):
    prior, tokens, _ = tables(batch)
    losses = []
    for shares, each, labels in slow(batch):
        useful = [p.item() ** (1 / temperature) for p in slow_likelihoods(each, labels)]
        target = [value / sum(useful) for value in useful]
        losses.append(sum(t * (math.log(t) - share.log()) for t, share in zip(target, shares, strict=True)))
    ours = pdist(prior, tokens.sum(2), batch[3], temperature)
    assert (ours >= -1e-12).all()
    same_gradient(ours, torch.stack(losses), batch[0])
    assert torch.autograd.grad(ours.sum(), batch[1], allow_unused=True, retain_graph=True) == (None,)


def test_pdist_is_finite_where_one_passage_alone_is_useful():
    present = torch.tensor([[True, True, False]])
    scores = torch.tensor([[0.0, 1.0, 0.0]], requires_grad=True)
    loss = pdist(log_prior(scores, present), torch.tensor([[-1.0, -500.0, 0.0]]), present)
    loss.sum().backward()
    assert loss.item() == pytest.approx(math.log(1 + math.e), rel=1e-6)
    assert scores.grad[0].tolist() == pytest.approx([1 / (1 + math.e) - 1, 1 - 1 / (1 + math.e), 0], abs=1e-6)


def test_emdr2_and_pdist_have_one_gradient_where_one_passage_alone_can_hold_the_answer():
    present = torch.tensor([[True, True, True]])
    found = []
    for likelihood in ([-3.0, -math.inf, -math.inf], [-3.0, -2.0, -math.inf]):
        for objective in (emdr2, lambda *two: pdist(*two, present)):
            scores = torch.tensor([[0.0, 2.0, 1.0]], dtype=torch.float64, requires_grad=True)
            loss = objective(log_prior(scores, present), torch.tensor([likelihood], dtype=torch.float64))
            found.append(torch.autograd.grad(loss.sum(), scores)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)
    assert (found[2] - found[3]).abs().max() > 0.1  # where two can, they differ


def test_contrastive_and_its_gradient_equal_the_slow_share():
    generator = torch.Generator().manual_seed(0)
    scores = (4 * torch.randn(3, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    right = torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]).bool()
    losses = []
    for row in range(3):
        marked = [scores[row, place].exp() for place in range(5) if right[row, place]]
        whole = sum(scores[row, place].exp() for place in range(5))
        losses.append(-(sum(marked) / whole).log() if marked else scores[row, 0] * 0)
    same_gradient(contrastive(scores, right), torch.stack(losses), scores)


@pytest.mark.parametrize("objective", OBJECTIVES[1:])
def test_score_of_a_passage_that_is_not_there_changes_nothing(batch, objective):
    scores, _, _, present, _ = batch
    _, tokens, _ = tables(batch)
    of = {"marginal": rag_sequence, "emdr2": emdr2, "pdist": lambda *two: pdist(*two, present)}[objective]
    moved = scores.detach().masked_fill(~present, 1000.0)
    assert torch.equal(of(log_prior(moved, present), tokens.sum(2)), of(log_prior(scores, present), tokens.sum(2)))


def test_one_passage_makes_all_marginals_its_own_likelihood():
    tokens = torch.tensor([[[-0.5, -1.5]]])
    prior = log_prior(torch.tensor([[3.0]]), torch.tensor([[True]]))
    assert rag_token(prior, tokens).item() == rag_sequence(prior, tokens.sum(2)).item() == 2.0
