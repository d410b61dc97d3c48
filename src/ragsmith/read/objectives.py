"""What RAG training minimises: losses of a reader that depends on retrieval, and of a retriever that it teaches.

Everywhere: `log_prior` is log p(z | x), float32 of shape (questions, passages), from `log_prior`; `log_likelihood` is
log p(y | x, z), the reader's log probability of the whole answer after one passage, of the same shape; `tokens` is
log p(y_t | x, z, y_<t), float32 of shape (questions, passages, tokens of the answer), 0 where the answer is shorter.
Losses are in nats, one for each question. All of them are a few lines on top of one forward pass.
"""

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import torch

Objective = Literal["none", "marginal", "emdr2", "pdist"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


def log_prior(scores: "torch.Tensor", present: "torch.Tensor") -> "torch.Tensor":
    """The retriever's distribution over the passages of each question: log p(z | x).

    Args:
        scores: of question and passage, any real numbers, shape (questions, passages).
        present: bool, the same shape; False where a question has fewer passages than the others. Each has one or more.
    Returns:
        Minus infinity where no passage is: an absent passage has no share, whatever the other scores are.
    """
    return scores.masked_fill(~present, float("-inf")).log_softmax(dim=1)


def rag_token(
    prior: "torch.Tensor",
    tokens: "torch.Tensor",
    smoothing: float = 0.0,
    log_probs: "torch.Tensor | None" = None,
    counted: "torch.Tensor | None" = None,
) -> "torch.Tensor":
    """Negative log-likelihood where each token may come from another passage (RAG-Token; Lewis et al. 2020, eq. 2).

    Args:
        prior: from `log_prior`.
        tokens: see the module.
        smoothing: share of the label that is spread over the vocabulary, of the mixture's distribution.
        log_probs: of the whole vocabulary, shape (questions, passages, tokens, vocabulary); with smoothing alone.
        counted: bool, shape (questions, tokens): False where the answer is shorter; None counts all.
    """
    nll = -(prior[:, :, None] + tokens).logsumexp(dim=1)
    if smoothing and log_probs is not None:
        uniform = (prior[:, :, None, None] + log_probs).logsumexp(dim=1).mean(dim=-1)
        nll = (1 - smoothing) * nll - smoothing * uniform
    if counted is not None:
        nll = nll.masked_fill(~counted, 0.0)
    return nll.sum(dim=1)


def rag_sequence(prior: "torch.Tensor", log_likelihood: "torch.Tensor") -> "torch.Tensor":
    """Negative log-likelihood where the whole answer comes from one passage (RAG-Sequence; Lewis et al. 2020, eq. 1).

    With likelihoods of spans, each normalised within its passage, it is REALM's objective (Guu et al. 2020, eq. 1). An
    extractive reader's own loss normalises over all passages: see `span_evidence`.
    """
    return -(prior + log_likelihood).logsumexp(dim=1)


def emdr2(prior: "torch.Tensor", log_likelihood: "torch.Tensor") -> "torch.Tensor":
    """The retriever's part of expectation maximisation (EMDR², Singh et al. 2021, eq. 5).

    The reader is a fixed teacher. The gradient is prior minus posterior, posterior ∝ prior · p(y | x, z): it
    reinforces what is retrieved already and read well.
    """
    return rag_sequence(prior, log_likelihood.detach())


def pdist(
    prior: "torch.Tensor", log_likelihood: "torch.Tensor", present: "torch.Tensor", temperature: float = 1.0
) -> "torch.Tensor":
    """KL from what the reader finds useful to what the retriever finds near (PDist, Izacard et al. 2023, sec. 2.2).

    The target is the softmax of the log-likelihoods alone (REPLUG's LSR as well): what is ranked low does not stay low
    for that reason, as it does in `emdr2`.

    Args:
        prior, log_likelihood: see the module.
        present: as in `log_prior`.
        temperature: of the target; above 1 it is flatter.
    """
    import torch

    target = (log_likelihood.detach() / temperature).masked_fill(~present, float("-inf")).softmax(dim=1)
    # 0 · log 0 is 0: an absent passage has no share on either side.
    return torch.where(target > 0, target * (target.clamp_min(1e-30).log() - prior.masked_fill(~present, 0.0)), 0).sum(
        1
    )


def contrastive(scores: "torch.Tensor", right: "torch.Tensor") -> "torch.Tensor":
    """Negative log share of the right passages among all passages of the batch (Karpukhin et al. 2020, eq. 2).

    Args:
        scores: of each question with each distinct passage of the batch, shape (questions, passages).
        right: bool, the same shape.
    Returns:
        0 for a question without a right passage in the batch.
    """
    positive = scores.masked_fill(~right, -1e9).logsumexp(dim=1)
    return (scores.logsumexp(dim=1) - positive).masked_fill(~right.any(dim=1), 0.0)
