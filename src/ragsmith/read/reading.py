"""What every reader is given and gives, whether it marks its answer or writes it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

READER_FILE = "reader.json"


@dataclass(frozen=True)
class ReadingPassage:
    """A retrieved passage as the reader sees it: id, text and retrieval score."""

    passage_id: str
    text: str
    score: float


@dataclass(frozen=True)
class Span:
    """An answer.

    Attributes:
        text: exactly `passage.text[start:end]`, unless a reader wrote it that is not bound to the passage's words.
        passage_id: the passage that it was read in, or that supports it best.
        start, end: characters; both −1 where the passage does not hold the text.
        score: its share among all spans, or the probability of writing it; 0 to 1.
    """

    text: str
    passage_id: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Reading:
    """What a reader makes of the passages of one question.

    Attributes:
        answer: the best span over all passages; None when there is none.
        of_first: the best span over the first k passages alone, by k.
        prior: what retrieval says about each passage, as shares: the softmax of its weighted score.
        posterior: the share of each passage among the probability of all spans (REALM's p(z | x, y) over all y); 0
            everywhere when there is no span. Of a reader that writes: p(z | x, y) of the answer.
        posterior_of_first: that of the first k passages alone, by k, where it is not the first k of `posterior` over
            their sum: another answer, another posterior.
    """

    answer: Span | None
    of_first: dict[int, Span | None]
    prior: tuple[float, ...]
    posterior: tuple[float, ...]
    posterior_of_first: dict[int, tuple[float, ...]] = field(default_factory=dict)


class ReadsPassages(ABC):
    """A reader, for one question and for many."""

    @abstractmethod
    def read_all(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ReadingPassage]],
        prefixes: Sequence[int] = (),
        label: str = "",
    ) -> list[Reading]:
        """What each question's passages give.

        Args:
            questions: texts.
            passages: of each question, best first.
            prefixes: numbers of first passages, such as (1, 3, 5): what they alone give is told too.
            label: name of the progress bar; empty shows none.
        """

    def answer(self, question: str, passages: Sequence[ReadingPassage]) -> Span | None:
        """The answer to one question; None when there is nothing to read."""
        return self.answer_all([question], [passages])[0]

    def answer_all(
        self, questions: Sequence[str], passages: Sequence[Sequence[ReadingPassage]], label: str = ""
    ) -> list[Span | None]:
        """`answer` for each question with its own passages; `label` names the progress bar."""
        return [reading.answer for reading in self.read_all(questions, passages, (), label)]
