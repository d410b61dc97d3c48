"""Queries with their positives and negatives as batches of texts, each a function of seed, epoch and number."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from ragsmith.retrieve.passage_text import passage_inputs


@dataclass(frozen=True)
class Example:
    """One query with what it is pulled to and pushed from.

    Attributes:
        query_id, text: the query.
        positive_ids: all passages known to answer it.
        negative_ids: mined, the hardest first.
        cut: the stretch of its source passage that the query was taken from, as (passage_id, start, end), or None.
    """

    query_id: str
    text: str
    positive_ids: tuple[str, ...]
    negative_ids: tuple[str, ...]
    cut: tuple[str, int, int] | None


@dataclass(frozen=True)
class Batch:
    """Texts of one step.

    Attributes:
        queries: texts.
        passages: each distinct text once.
        targets: per query, the place of its positive among the passages.
        ignored: bool, shape (queries, passages): other right answers.
    """

    queries: list[str]
    passages: list[str]
    targets: np.ndarray
    ignored: np.ndarray


def training_examples(queries: pd.DataFrame, mined: pd.DataFrame) -> list[Example]:
    """Join the mined ids with the queries' texts, in the order of `mined`.

    Args:
        queries: query_id, text, passage_id, cut_start, cut_end (cut_end 0: nothing to cut).
        mined: query_id, positive_ids, negative_ids.
    Raises:
        ValueError: a mined query is not among the queries.
    """
    by_id = queries.set_index("query_id")
    if unknown := sorted(set(mined["query_id"]) - set(by_id.index)):
        raise ValueError(f"{len(unknown)} mined queries are not in the table of queries, such as {unknown[0]}.")
    rows = by_id.loc[mined["query_id"]]
    examples = []
    for mined_row, query in zip(mined.itertuples(index=False), rows.itertuples(), strict=True):
        cut = (query.passage_id, int(query.cut_start), int(query.cut_end)) if query.cut_end > query.cut_start else None
        examples.append(
            Example(mined_row.query_id, query.text, tuple(mined_row.positive_ids), tuple(mined_row.negative_ids), cut)
        )
    return examples


TrainOn = Literal["auto", "examples", "structural", "all"]


def chosen_queries(queries: pd.DataFrame, train_on: TrainOn, enough_examples: int) -> pd.DataFrame:
    """The training queries of the wanted kind.

    Queries made from the documents' structure repeat the words of their passages. Beside real questions they teach a
    good encoder to look for equal words again (docs/retriever.md has the figures), so `auto` leaves them out then.

    Args:
        queries: query_id, kind, split and any other columns.
        train_on: `examples` (written by hand), `structural`, `all`; `auto` takes examples when there are enough of
            them, else all.
        enough_examples: for `auto`.
    Returns:
        The training queries, in their order.
    Raises:
        ValueError: there is none of that kind.
    """
    train = queries[queries["split"] == "train"]
    written = train["kind"] == "example"
    if train_on == "auto":
        train_on = "examples" if written.sum() >= enough_examples else "all"
    chosen = {"examples": train[written], "structural": train[~written], "all": train}[train_on]
    if chosen.empty:
        raise ValueError(f"There is no training query to train on {train_on!r}: choose another value of train_on.")
    return chosen


class BatchBuilder:
    """Batches of examples; the same ones for the same seed, epoch and number.

    Args:
        examples: at least `batch_size`.
        passages: passage_id, title, text: all that the examples name.
        batch_size: queries in a batch.
        negatives: hard negatives per query, drawn among its mined ones.
        cut_probability: how often the stretch that the query was taken from is left out of its positive.
        seed: see above.
    """

    def __init__(
        self,
        examples: list[Example],
        passages: pd.DataFrame,
        batch_size: int,
        negatives: int,
        cut_probability: float,
        seed: int,
    ) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.negatives = negatives
        self.cut_probability = cut_probability
        self.seed = seed
        self.texts = dict(zip(passages["passage_id"], passage_inputs(passages), strict=True))
        self.cut_texts = self._without_cuts(passages)

    def __len__(self) -> int:
        """Whole batches in an epoch; the rest of the examples sits out, other ones each epoch."""
        return len(self.examples) // self.batch_size

    def batch(self, epoch: int, number: int) -> Batch:
        """Batch `number` of an epoch."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.examples))
        chosen = [self.examples[place] for place in order[number * self.batch_size : (number + 1) * self.batch_size]]
        generator = np.random.default_rng([self.seed, epoch, number])
        # A passage with its lead cut out is another text than the whole passage, hence keys and not ids.
        place_of: dict[tuple[str, str], int] = {}
        targets = []
        for example in chosen:
            positive = example.positive_ids[int(generator.integers(len(example.positive_ids)))]
            cut = generator.random() < self.cut_probability and example.cut is not None and example.cut[0] == positive
            key = (positive, example.query_id if cut and example.query_id in self.cut_texts else "")
            targets.append(place_of.setdefault(key, len(place_of)))
            count = min(self.negatives, len(example.negative_ids))
            for place in generator.permutation(len(example.negative_ids))[:count]:
                place_of.setdefault((example.negative_ids[int(place)], ""), len(place_of))
        ignored = np.zeros((len(chosen), len(place_of)), dtype=bool)
        for row, example in enumerate(chosen):
            for (passage_id, _), place in place_of.items():
                ignored[row, place] = passage_id in example.positive_ids and place != targets[row]
        texts = [self.cut_texts[query_id] if query_id else self.texts[passage_id] for passage_id, query_id in place_of]
        return Batch([example.text for example in chosen], texts, np.asarray(targets), ignored)

    def _without_cuts(self, passages: pd.DataFrame) -> dict[str, str]:
        """Per query id, its source passage without the stretch that the query was taken from."""
        rows = passages.set_index("passage_id")
        cut_texts = {}
        for example in self.examples:
            if example.cut is None:
                continue
            passage_id, start, end = example.cut
            title, text = rows.at[passage_id, "title"], rows.at[passage_id, "text"]
            left = " ".join(part for part in (text[:start].strip(), text[end:].strip()) if part)
            if left:
                frame = pd.DataFrame({"title": [title], "text": [left]})
                cut_texts[example.query_id] = passage_inputs(frame)[0]
        return cut_texts
