"""The knowledge base that RAG training searches while it changes the encoder: versions of the vectors, and when."""

import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ragsmith.compute.limits import COUNT, NOT_NEGATIVE, NUMBER, POSITIVE, check_limits
from ragsmith.read.background import BackgroundRefresh
from ragsmith.read.workers import Background
from ragsmith.retrieve.encoder import Encoder
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.passage_text import passage_inputs
from ragsmith.retrieve.search import Mode, Searcher
from ragsmith.store import is_complete, publish_directory, recover

logger = logging.getLogger(__name__)

PROBED_AMONG = 2  # the probe looks for the live top 10 among so many times ten passages
SAMPLED = 512  # passages whose tokens are counted, to know what a refresh costs

LIMITS = {
    "every": NUMBER,
    "overlap": NOT_NEGATIVE,
    "probe_every": COUNT,
    "probe_queries": NUMBER,
    "budget": NOT_NEGATIVE,
    "lag": NUMBER,
    "timeout": POSITIVE,
}

# Of a live index, what a checkpoint keeps.
KEPT = ("version", "at_step", "put_off", "failed", "spent", "trained", "seconds", "overlap")


@dataclass(frozen=True)
class RefreshSettings:
    """When the knowledge base is encoded again.

    Attributes:
        every: steps between refreshes; 0 for none by steps.
        overlap: refresh when the top ten of the encoder as it is share less than this with the index's, as a mean over
            the probe's queries; 0 for none by staleness.
        probe_every: steps between probes.
        probe_queries: training questions in the probe.
        budget: largest share that refreshes and probes may have of the computation so far, counted in multiplications
            (tokens × weights, three times where these learn), so that it is the same on every machine. What
            evaluation and saving need is not counted: they always see a fresh index.
        background: encode elsewhere, from a copy of the weights, while training goes on with the old index: in a
            `process` of its own (also: True), or as a task on a `ray` cluster; see `ragsmith.read.workers`.
        lag: steps after which a refresh in the background is taken up; training waits for it then.
        timeout: seconds that training waits at most; a refresh that is not done then is ended and counted as failed.
    Raises:
        ValueError: a number out of its bounds; all faults in one message.
    """

    every: int = 0
    overlap: float = 0.9
    probe_every: int = 25
    probe_queries: int = 256
    budget: float = 0.1
    background: Background | bool = False
    lag: int = 20
    timeout: float = 3600.0

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)

    @property
    def worker(self) -> Background:
        """Who encodes in the background."""
        return "ray" if self.background == "ray" else "process"


class LiveIndex:
    """The passages, and vectors of them in numbered versions.

    Version 0 is the index that training began with, and all are of its kind. Each refresh writes a new version beside
    the old one and takes it up when it is whole: a process that dies in between leaves the old one. Versions that no
    checkpoint needs are removed.

    Args:
        encoder: as training changes it.
        start: the index that `encoder` made before training.
        passages: passage_id, title, text.
        settings: see `RefreshSettings`.
        folder: for the versions.
    Raises:
        ValueError: index and passages do not belong together, or an id or a text is missing or stands twice.
    """

    def __init__(
        self, encoder: Encoder, start: DenseIndex, passages: pd.DataFrame, settings: RefreshSettings, folder: Path
    ) -> None:
        check_passages(passages)
        if len(start.passage_ids) != len(passages):
            raise ValueError("The index does not hold the same passages as the table. Build it again: kedro run.")
        self.encoder = encoder
        self.start = start
        self.settings = settings
        self.folder = folder
        self.searcher = Searcher(encoder, start, passages)
        # In the order of the index: row numbers are its rows.
        ordered = passages.set_index("passage_id").loc[start.passage_ids].reset_index()
        self.passage_ids = start.passage_ids
        self.texts = passage_inputs(ordered)
        # A title above the text moves it by so many characters.
        self.moved = [len(shown) - len(text) for shown, text in zip(self.texts, ordered["text"], strict=True)]
        self.row_of = {passage_id: row for row, passage_id in enumerate(self.passage_ids)}
        self.version = 0
        self.at_step = 0  # when the vectors in use were made
        self.put_off = 0  # refreshes that the budget did not allow
        self.spent = 0.0  # multiplications of refreshes and probes within the budget
        self.trained = 0.0  # of training
        self.seconds = 0.0
        self.overlap: float | None = None  # of the last probe
        self.needed: tuple[int, ...] = (0,)  # versions that a checkpoint may name
        self.coming: BackgroundRefresh | None = None
        self.needed_coming: tuple[int | None, ...] = (None,)  # steps of refreshes that a checkpoint may wait for
        self.failed = 0
        self._cost: float | None = None
        self._looked_at = -1

    @property
    def vectors(self) -> np.ndarray:
        """float32, shape (passages, dimension): of the version in use."""
        return self.searcher.index.vectors

    @property
    def refreshes(self) -> int:
        """How many there were: each made a version."""
        return self.version

    def search(self, query_ids: Sequence[str], texts: Sequence[str], k: int, mode: Mode) -> pd.DataFrame:
        """As `Searcher.run`: the queries by the encoder as it is, the passages by the version in use."""
        return self.searcher.run(query_ids, texts, k, mode)

    # --- refreshing ---

    def before_step(self, step: int, probe: Sequence[str]) -> None:
        """Refresh where it is due.

        Args:
            step: about to be done.
            probe: texts of the probe's queries.
        """
        if self.coming is not None and step >= self.coming.step + self.settings.lag:
            self._take_up(step)
        if step in {self.at_step, self._looked_at} or self.coming is not None:
            return
        self._looked_at, spent = step, self.spent  # a step that is tried again, in less memory, is looked at once
        try:
            self._refresh_if_due(step, probe)
        except BaseException:  # such as want of memory: then nothing came of the look
            self._looked_at, self.spent = -1, spent
            raise

    def _refresh_if_due(self, step: int, probe: Sequence[str]) -> None:
        settings, since = self.settings, step - self.at_step
        due = settings.every > 0 and since % settings.every == 0
        if not due and settings.overlap > 0 and since % settings.probe_every == 0:
            # Probes that no refresh could follow would use up what it is saved for.
            due = self._affordable(self.cost() * (1 + self._probe_share())) and self.stale(probe)
        if not due:
            return
        if not self._affordable(self.cost()):
            self.put_off += 1
            logger.debug("refresh put off at step %d: it would take more than %.0f %%", step, 100 * settings.budget)
            return
        self.spent += self.cost()
        if settings.background:
            self._forget_refreshes()
            place = self._coming_place(step)
            self.coming = BackgroundRefresh(self.encoder, self.texts, place, step, settings.worker)
        else:
            self.refresh(step)

    def refresh(self, step: int) -> None:
        """Encode all passages with the encoder as it is, and take the new version up."""
        begun = time.perf_counter()
        self._adopt(self.encode(), step)
        self._note_waiting(time.perf_counter() - begun)

    def encode(self, label: str = "") -> np.ndarray:
        """Vectors of all passages by the encoder as it is, in the order of the index.

        Args:
            label: for the progress.
        Raises:
            Exception: whatever went wrong, with a note that it was about the index.
        """
        try:
            return self.encoder.encode(self.texts, "passage", label)
        except Exception as error:  # of the type that it has: want of memory and of room are told apart by it
            error.add_note(
                f"The index of the {len(self.texts)} passages could not be made anew. Nothing is left for use: "
                "it would be older than the retriever."
            )
            raise

    def make_fresh(self, step: int) -> None:
        """Refresh, unless the version in use was made by the weights of this step; before evaluating and saving."""
        self.stop()
        if self.at_step != step:
            self.refresh(step)

    def stop(self) -> None:
        """End a refresh in the background, whose result is not wanted any more."""
        if self.coming is not None:
            self.coming.stop()
            self.coming = None

    def stale(self, probe: Sequence[str]) -> bool:
        """Whether the top ten of the encoder as it is share less than `overlap` with those of the version in use.

        The live top ten are looked for among the first twenty of the version in use.
        """
        self.spent += self.cost() * self._probe_share()
        queries = self.encoder.encode(probe, "query")
        depth = min(10, len(self.texts))
        _, rows = self.searcher.index.search(queries, depth * PROBED_AMONG)
        wanted = np.unique(rows)
        fresh = self.encoder.encode([self.texts[row] for row in wanted], "passage")
        scores = np.einsum("qd,qnd->qn", queries, fresh[np.searchsorted(wanted, rows)])
        live = np.take_along_axis(rows, np.argsort(-scores, axis=1, kind="stable")[:, :depth], axis=1)
        self.overlap = float(
            np.mean([len(set(one) & set(other)) / depth for one, other in zip(live, rows[:, :depth], strict=True)])
        )
        return self.overlap < self.settings.overlap

    def note_training(self, multiplications: float) -> None:
        """Count what a training step has computed; see `RefreshSettings.budget`."""
        self.trained += multiplications

    def cost(self) -> float:
        """Multiplications of encoding all passages, from the tokens of a sample of them."""
        if self._cost is None:
            places = np.linspace(0, len(self.texts) - 1, min(SAMPLED, len(self.texts))).astype(int)
            tokens = [len(ids) for ids in self.encoder.token_ids([self.texts[place] for place in places], "passage")]
            per_token = weights_of(self.encoder.towers["passage"].module)
            self._cost = float(np.mean(tokens)) * len(self.texts) * per_token
        return self._cost

    def _probe_share(self) -> float:
        return min(1.0, self.settings.probe_queries * 10 * PROBED_AMONG / len(self.texts))

    def _affordable(self, more: float) -> bool:
        return self.spent + more <= self.settings.budget * self.trained

    def _take_up(self, step: int) -> None:
        """The refresh in the background, when it succeeded; else training goes on with what it has."""
        coming = self.coming
        if coming is None:
            return
        begun = time.perf_counter()
        vectors = coming.vectors(self.settings.timeout)
        waited = time.perf_counter() - begun
        if vectors is None:
            self.coming = None
            self.seconds += waited
            self.failed += 1
            logger.warning(
                "The refresh that began at step %d failed: %s. Training goes on with version %d of the index.",
                coming.step, coming.reason, self.version,
            )  # fmt: skip
            return
        self._adopt(vectors, coming.step)  # out of memory here, it is taken up when the step is tried again
        self.coming = None
        self._note_waiting(waited)

    def _note_waiting(self, seconds: float) -> None:
        """Count and say how long training stood still for the version that it has now.

        Not in the JSONL log, which is the same for a run that was killed and one that was not.
        """
        self.seconds += seconds
        logger.info(
            "index: version %d, of step %d: training waited %.1f s, %.1f s so far; refreshes within the budget took "
            "%.1f %% of the computation",
            self.version, self.at_step, seconds, self.seconds,
            100 * self.spent / self.trained if self.trained else 0.0,
        )  # fmt: skip

    def _adopt(self, vectors: np.ndarray, step: int) -> None:
        """Publish vectors as the next version, and search them from now on."""
        version, index = self.version + 1, self.start.with_vectors(vectors)
        place = self._place(version)
        recover(place)
        if place.exists():  # of a run that was killed before it could name it
            shutil.rmtree(place)

        def write(staging: Path) -> None:
            np.save(staging / "vectors.npy", vectors, allow_pickle=False)
            (staging / "version.json").write_text(json.dumps({"version": version, "step": step}), "utf-8")

        publish_directory(place, write)
        index.prepare()
        self.searcher.index = index
        self.version, self.at_step = version, step
        for old in self.folder.glob("[0-9]*"):
            if int(old.name) not in {*self.needed, version}:
                shutil.rmtree(old)

    def _forget_refreshes(self) -> None:
        """Remove refreshes in the background that no checkpoint waits for."""
        wanted = {self._coming_place(step) for step in self.needed_coming if step is not None}
        for old in self.folder.glob("coming-*"):
            if old not in wanted:
                shutil.rmtree(old)

    def _coming_place(self, step: int) -> Path:
        return self.folder / f"coming-{step:08d}"

    def _place(self, version: int) -> Path:
        return self.folder / f"{version:06d}"

    # --- resuming ---

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; the versions of the last two checkpoints stay on disk."""
        self.needed = (self.needed[-1], self.version)
        self.needed_coming = (self.needed_coming[-1], None if self.coming is None else self.coming.step)
        coming = None if self.coming is None else self.coming.step
        return {name: getattr(self, name) for name in KEPT} | {"coming": coming}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the version that a checkpoint names.

        Raises:
            ValueError: it is not there, or was altered.
        """
        if not state:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        for name in KEPT:
            setattr(self, name, state[name])
        self.needed = (self.version,)
        if self.version:
            place = self._place(self.version)
            if not is_complete(place):
                raise ValueError(
                    f"{place}, the index that the checkpoint was trained with, is missing or altered. Remove "
                    f"{self.folder.parent} to train anew."
                )
            # A graph is built again: the same vectors give the same one.
            self.searcher.index = self.start.with_vectors(
                np.load(place / "vectors.npy", allow_pickle=False).astype(np.float32, copy=False)
            )
        if state["coming"] is not None:
            self.needed_coming = (state["coming"],)
            place = self._coming_place(state["coming"])
            self.coming = BackgroundRefresh.again(place, state["coming"], self.settings.worker)


def check_passages(passages: pd.DataFrame) -> None:
    """Refuse a knowledge base with empty texts or double ids, and name them.

    Raises:
        ValueError: see `passage_faults`.
    """
    if faults := passage_faults(passages):
        raise ValueError(f"The knowledge base cannot be searched: {'; '.join(faults)}.")


def passage_faults(passages: pd.DataFrame) -> list[str]:
    """Why passages (passage_id, text) are no knowledge base: there is none, or ids stand twice, or texts are empty."""
    faults = []
    if passages.empty:
        faults.append("it is empty")
    double = passages.loc[passages["passage_id"].duplicated(), "passage_id"].unique()
    if len(double):
        faults.append(f"{len(double)} ids stand twice, such as {double[0]!r}")
    # An empty field of a table is no text, but a missing value.
    empty = passages.loc[passages["text"].fillna("").str.strip() == "", "passage_id"]
    if len(empty):
        faults.append(f"{len(empty)} passages have no text, such as {empty.iloc[0]!r}")
    return faults


def weights_of(module: Any) -> int:
    """Weights that each token is multiplied with: all but the tables that it is looked up in."""
    import torch

    looked_up = {id(layer.weight) for layer in module.modules() if isinstance(layer, torch.nn.Embedding)}
    return sum(parameter.numel() for parameter in module.parameters() if id(parameter) not in looked_up)
