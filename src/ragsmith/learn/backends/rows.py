"""Examples as the rows of texts that other trainers read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ragsmith.learn.train_retriever import RetrieverSettings
from ragsmith.learn.training_data import Example
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.passage_text import passage_inputs

# Our schedules under their names. Their polynomial one is of power 1 and cannot be set: it is none of ours.
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def taken_by_both(settings: RetrieverSettings) -> dict[str, Any]:
    """Those of our settings that either trainer goes by, beside epochs and rate; dropout stays the model's own."""
    loop = settings.loop
    return {
        "batch_size": settings.batch_size,
        "negatives": settings.negatives,
        "temperature": settings.contrastive.temperature,
        "schedule": loop.schedule,
        "warmup": loop.warmup,
        "accumulation": loop.accumulation,
        "weight_decay": loop.decay,
        "clip": loop.clip,
        "seed": loop.seed,
        "dropout": "the model's own",
    }


@dataclass(frozen=True)
class Row:
    """One query with its texts.

    Attributes:
        query, positive: texts, the model's prompts before them.
        negatives: as many in each row, for the other trainers want a rectangle.
    """

    query: str
    positive: str
    negatives: tuple[str, ...]


def training_rows(
    examples: list[Example], passages: pd.DataFrame, settings: RetrieverSettings, encoder: Encoder
) -> list[Row]:
    """All rows of a training in the order in which they are to be read: epoch after epoch, whole batches only.

    Order, positives and negatives are functions of seed and epoch. A query with too few negatives gets its own once
    more, as in FlagEmbedding, and one without any random passages that do not answer it: to leave it out would change
    the data. The stretch that a query was taken from stays in its positive.

    Args:
        examples: at least `batch_size`.
        passages: passage_id, title, text: all that the examples name.
        settings: batch_size, negatives, epochs and seed count.
        encoder: knows the prompts.
    Raises:
        ValueError: fewer examples than `batch_size`, or a query that all passages answer.
    """
    whole = len(examples) // settings.batch_size * settings.batch_size
    if not whole:
        raise ValueError(
            f"There are {len(examples)} examples for batches of {settings.batch_size}: lower batch_size or add data."
        )
    prompt = encoder.prompt("passage")
    texts = {
        passage_id: prompt + text
        for passage_id, text in zip(passages["passage_id"], passage_inputs(passages), strict=True)
    }
    passage_ids = list(texts)
    rows = []
    for epoch in range(settings.loop.epochs):
        order = np.random.default_rng([settings.loop.seed, epoch]).permutation(len(examples))[:whole]
        for place in order:
            example = examples[place]
            generator = np.random.default_rng([settings.loop.seed, epoch, int(place)])
            positive = example.positive_ids[int(generator.integers(len(example.positive_ids)))]
            negatives = drawn_negatives(example, passage_ids, settings.negatives, generator)
            rows.append(
                Row(
                    encoder.prompt("query") + example.text,
                    texts[positive],
                    tuple(texts[passage_id] for passage_id in negatives),
                )
            )
    return rows


def drawn_negatives(
    example: Example, passage_ids: list[str], count: int, generator: np.random.Generator
) -> tuple[str, ...]:
    """`count` passage ids: the example's own, in random order, again and again; without any, random others."""
    own = list(example.negative_ids)
    if not own and count:
        own = [passage_id for passage_id in passage_ids if passage_id not in example.positive_ids]
        if not own:
            raise ValueError(f"All passages answer the query {example.query_id}: there is no negative. Add passages.")
    order = generator.permutation(len(own))
    return tuple(own[int(order[number % len(own)])] for number in range(count))
