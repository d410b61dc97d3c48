"""A cross-encoder that reads query and passage together, and remembers what it has scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ragsmith.compute.batching import length_batches
from ragsmith.compute.device import Machine
from ragsmith.compute.progress import progress
from ragsmith.retrieve.keys import text_keys
from ragsmith.store import hash_json, is_complete, publish_file, recover

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

SHARD_PAIRS = 4096  # scored between two publications: what a run that is killed loses at most
CHARACTERS_PER_TOKEN = 4  # of English; only batches are measured with it
# More than a text has. The tokenizer cuts a pair in a time that grows with the product of both lengths: two texts of
# 100,000 characters would take hours.
MOST_CHARACTERS_PER_TOKEN = 16


class Teacher:
    """Scores of query-passage pairs by a cross-encoder, kept in a folder by content.

    A score is found again by the weights, the longest input, the precision and both texts; nothing else counts. So a
    run that was killed goes on where it stopped, and a changed margin costs no score.

    Args:
        model: with one score per pair.
        machine: where it computes and in which precision.
        folder: where scores are kept; None keeps none.
        identity: hash of the model's files.
        batch_tokens: padded tokens computed at once, about.
    Raises:
        ValueError: the model gives several scores per pair.

    Attributes:
        gives_logits: whether the scores may be any number; else they lie between 0 and 1.
    """

    def __init__(
        self,
        model: "CrossEncoder",
        machine: Machine,
        folder: Path | None = None,
        identity: str = "",
        batch_tokens: int = 16_384,
    ) -> None:
        if model.num_labels != 1:
            raise ValueError(
                f"models.reranker gives {model.num_labels} scores per pair, and mining needs one: take a "
                "cross-encoder that was trained to rank, such as cross-encoder/ms-marco-MiniLM-L6-v2."
            )
        self.model, self.machine, self.batch_tokens = model.to(machine.device).eval(), machine, batch_tokens
        self.max_tokens = int(model.max_seq_length or 512)
        # One score per pair goes through a sigmoid, unless the model's configuration says otherwise.
        self.gives_logits = type(model.activation_fn).__name__ != "Sigmoid"
        self.folder = None
        self.known = KnownScores()
        self.shards = 0
        if folder is not None:
            name = hash_json([identity, self.max_tokens, machine.precision])[:16]
            self.folder = folder / f"scores-{name}"
            loaded, self.shards = load_shards(self.folder)
            self.known.add(loaded)

    @classmethod
    def load(cls, model: Path, machine: Machine, folder: Path | None = None, batch_tokens: int = 16_384) -> "Teacher":
        """The cross-encoder of a checked model folder; the other arguments are those of the class."""
        from ragsmith.retrieve.models import model_hash

        return cls(load_cross_encoder(model), machine, folder, model_hash(str(model)), batch_tokens)

    def score(
        self,
        queries: Sequence[str],
        passages: Sequence[str],
        query_of: np.ndarray,
        passage_of: np.ndarray,
        label: str = "",
    ) -> np.ndarray:
        """The scores of pairs of texts.

        Args:
            queries, passages: texts.
            query_of, passage_of: the pairs, as places in them; any number, also repeated.
            label: name of the progress bar; empty shows none.
        Returns:
            float32, one per pair, as the model's own last activation gives them.
        """
        pairs = pd.DataFrame({"query": keys_at(queries, query_of), "passage": keys_at(passages, passage_of)})
        new = pairs[np.isnan(self.look_up(pairs))].drop_duplicates()
        places = new.index.to_numpy()
        lengths = np.asarray([len(queries[query_of[place]]) + len(passages[passage_of[place]]) for place in places])
        order, scored = np.argsort(-lengths, kind="stable"), [empty_scores()]
        with progress(label, total=len(places)) as advance:
            for begin in range(0, len(order), SHARD_PAIRS):
                part = places[order[begin : begin + SHARD_PAIRS]]
                texts = [(queries[query_of[place]], passages[passage_of[place]]) for place in part]
                scored.append(pairs.loc[part].assign(score=self.compute(texts)))
                self.keep(scored[-1])
                advance(len(part))
        self.known.add(pd.concat(scored, ignore_index=True))
        return self.look_up(pairs)

    def look_up(self, pairs: pd.DataFrame) -> np.ndarray:
        """The known scores of pairs of keys, float32; NaN where there is none."""
        known = self.known.of(pairs["query"].unique())
        found = pairs.merge(known, how="left", on=["query", "passage"])["score"]
        return np.asarray(found.to_numpy(dtype=np.float32))

    def compute(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        """Scores of a few pairs, in batches of like length across queries."""
        lengths = [
            min(self.max_tokens, 3 + (len(query) + len(passage)) // CHARACTERS_PER_TOKEN) for query, passage in pairs
        ]
        scores = np.empty(len(pairs), dtype=np.float32)
        most = MOST_CHARACTERS_PER_TOKEN * self.max_tokens
        with self.machine.autocast():
            for batch in length_batches(lengths, self.batch_tokens):
                texts: list[Any] = [(pairs[place][0][:most], pairs[place][1][:most]) for place in batch]
                scores[batch] = self.model.predict(texts, batch_size=len(batch), show_progress_bar=False)
        if not np.isfinite(scores).all():
            raise ValueError(
                "models.reranker gives scores that are no numbers (NaN or infinite): its weights are damaged, or its "
                "precision is too low. Set compute.precision to fp32, or take another cross-encoder."
            )
        return scores

    def keep(self, scored: pd.DataFrame) -> None:
        """Publish new scores in the folder, if there is one."""
        if self.folder is not None:
            publish_file(
                self.folder / f"{self.shards:06d}.parquet",
                lambda path: scored.to_parquet(path, engine="pyarrow", index=False),
            )
            self.shards += 1


class KnownScores:
    """Scores by keys of query and passage, found without a look at those of other queries.

    Mining asks block by block: were all that is known gone through each time, the time would grow with its square.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []  # keys of passages and scores, query by query
        self._places: dict[int, list[tuple[int, int, int]]] = {}  # of a query: part, first and end

    def add(self, scores: pd.DataFrame) -> None:
        """Take in scores of pairs that are not known yet: query, passage, score."""
        if scores.empty:
            return
        ordered = scores.sort_values("query", kind="stable")
        queries, begins = np.unique(ordered["query"].to_numpy(), return_index=True)
        ends = np.append(begins[1:], len(ordered))
        for query, begin, end in zip(queries.tolist(), begins.tolist(), ends.tolist(), strict=True):
            self._places.setdefault(query, []).append((len(self._parts), begin, end))
        self._parts.append((ordered["passage"].to_numpy(), ordered["score"].to_numpy()))

    def __len__(self) -> int:
        """How many pairs."""
        return sum(len(scores) for _, scores in self._parts)

    def of(self, queries: np.ndarray) -> pd.DataFrame:
        """All scores of the queries with these keys: query, passage, score."""
        rows = [(query, *place) for query in queries.tolist() for place in self._places.get(query, ())]
        if not rows:
            return empty_scores()
        counts = [end - begin for _, _, begin, end in rows]
        return pd.DataFrame(
            {
                "query": np.repeat(np.asarray([query for query, *_ in rows], dtype=np.uint64), counts),
                "passage": np.concatenate([self._parts[part][0][begin:end] for _, part, begin, end in rows]),
                "score": np.concatenate([self._parts[part][1][begin:end] for _, part, begin, end in rows]),
            }
        )


def load_cross_encoder(folder: Path) -> "CrossEncoder":
    """The cross-encoder of a checked model folder, from safetensors, with nothing of it run and nothing fetched."""
    from sentence_transformers import CrossEncoder

    from ragsmith.retrieve.encoder import quiet_transformers

    quiet_transformers()
    loaded: CrossEncoder = CrossEncoder(
        str(folder),
        device="cpu",
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True, "dtype": "float32"},
    )
    return loaded


def keys_at(texts: Sequence[str], places: np.ndarray) -> np.ndarray:
    """The key of the text at each place, uint64; each text is hashed once."""
    used, inverse = np.unique(places, return_inverse=True)
    return np.asarray(text_keys([texts[place] for place in used])[inverse])


def empty_scores() -> pd.DataFrame:
    """No scores: query and passage (uint64 keys), score (float32)."""
    return pd.DataFrame(
        {
            "query": np.empty(0, dtype=np.uint64),
            "passage": np.empty(0, dtype=np.uint64),
            "score": np.empty(0, dtype=np.float32),
        }
    )


def load_shards(folder: Path) -> tuple[pd.DataFrame, int]:
    """All scores that were published whole in the folder, and the number of the next shard."""
    if not folder.is_dir():
        return empty_scores(), 0
    for path in {folder / staging.name[1:].partition(".staging-")[0] for staging in folder.glob(".*.staging-*")}:
        recover(path)  # what a process left that died while it published
    files = sorted(folder.glob("*.parquet"))
    whole = [pd.read_parquet(path) for path in files if is_complete(path)]
    following = 1 + max((int(path.stem) for path in files), default=-1)
    known = pd.concat([empty_scores(), *whole], ignore_index=True)
    return known.drop_duplicates(["query", "passage"], ignore_index=True), following
