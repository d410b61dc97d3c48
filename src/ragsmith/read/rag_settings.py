"""What RAG training is told: questions, and what is trained by which losses."""

from dataclasses import dataclass
from typing import Literal, get_args

from ragsmith.compute.limits import COUNT, NOT_NEGATIVE, NUMBER, POSITIVE, SEED, SHARE, Limit, check_limits
from ragsmith.read.objectives import OBJECTIVES, Objective
from ragsmith.retrieve.search import MODES, Mode

Encoders = Literal["none", "questions", "both"]
LIMITS = {
    "encoders": get_args(Encoders),
    "objective": OBJECTIVES,
    "objective_weight": NOT_NEGATIVE,
    "contrastive_weight": NOT_NEGATIVE,
    "temperature": POSITIVE,
    "teacher_temperature": POSITIVE,
    "label_smoothing": Limit(0, 1, below=True),
    "passages": COUNT,
    "search": MODES,
    "cut_probability": SHARE,
    "retriever_rate": NOT_NEGATIVE,
    "retriever_after": NUMBER,
    "max_query_tokens": COUNT,
    "max_passage_tokens": COUNT,
    "dropout": Limit(0, 1, below=True, optional=True),
    "micro_tokens": COUNT,
    "activation_gib": Limit(0, optional=True),
    "batch_size": COUNT,
    "accumulation": COUNT,
    "seed": SEED,
}


@dataclass(frozen=True)
class RagQuestion:
    """A question to train on or to be judged by.

    Attributes:
        query_id, text: the question.
        answers: accepted answers, one or more.
        right: ids of passages that are known to answer it; may be empty.
        judged: whether somebody said so. What is only guessed from the answers (distant supervision) is a right
            passage for the retriever, and for the reader one of all that hold an answer.
        marks: where answers were marked by hand: passage_id, and first character and the one after the last in the
            passage's own text.
        source: the passage that the question was made from (empty: none is known), and the stretch of its own text
            that it was taken from.
    """

    query_id: str
    text: str
    answers: tuple[str, ...]
    right: frozenset[str] = frozenset()
    judged: bool = True
    marks: tuple[tuple[str, int, int], ...] = ()
    source: tuple[str, int, int] = ("", 0, 0)


@dataclass(frozen=True)
class RagSettings:
    """What is trained, and by which losses.

    Attributes:
        train_reader: whether its weights move.
        encoders: of the retriever, which weights move. `questions`: those that encode questions, which then have to be
            others than those of passages, and passages keep their vectors (RAG, Lewis et al. 2020); `both`: those
            of questions and of passages, be they the same or not.
        objective: what the reader teaches the retriever, see `ragsmith.read.objectives`; `none` teaches nothing.
        objective_weight: of `emdr2` and `pdist` beside the reader's loss; in `marginal` they are one.
        contrastive_weight: of the loss on passages that are known to be right, against all others of the batch.
        temperature: cosines are divided by it before the softmax over passages.
        teacher_temperature: of `pdist`'s target.
        label_smoothing: of generative readers.
        passages: read for each question.
        search: how they are found.
        right_passage: put a known right passage in the last place, in training, where none was found.
        cut_probability: how often, in training, the stretch that a question was taken from is left out of what the
            reader sees: it would else learn to look for equal words.
        retriever_rate: the retriever's share of the learning rate.
        retriever_after: steps before the retriever moves.
        max_query_tokens, max_passage_tokens: what the retriever reads of each in training.
        dropout: of both models; None takes their own.
        micro_tokens, activation_gib: as in `ContrastiveSettings`.
        batch_size: questions in a batch.
        accumulation: batches in a step of the loop.
        seed: decides order and draws.
    Raises:
        ValueError: an unknown choice, or a number out of its bounds; all faults in one message.
    """

    train_reader: bool = True
    encoders: Encoders = "both"
    objective: Objective = "marginal"
    objective_weight: float = 1.0
    contrastive_weight: float = 0.0
    temperature: float = 0.05
    teacher_temperature: float = 1.0
    label_smoothing: float = 0.0
    passages: int = 5
    search: Mode = "dense"
    right_passage: bool = True
    cut_probability: float = 0.0
    retriever_rate: float = 0.2
    retriever_after: int = 0
    max_query_tokens: int = 64
    max_passage_tokens: int = 256
    dropout: float | None = 0.0
    micro_tokens: int = 4096
    activation_gib: float | None = None
    batch_size: int = 8
    accumulation: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)

    @property
    def weighs_spans(self) -> bool:
        """Whether a span's loss counts its passage's prior: where an extractive reader and the prior are one model."""
        return self.encoders != "none" and self.objective == "marginal"
