"""Parameters of evaluation."""

import re
from typing import Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from ragsmith.llm.settings import LLMSettings
from ragsmith.pipelines.params import Params, Seed

SYSTEMS = ("bm25", "base", "hybrid", "reranked")
# As `ragsmith.evaluate.history` names them: when, and the beginning of their hash.
VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
METRIC = re.compile(r"(ndcg|mrr|recall|precision|map|hit|answer_recall)@[1-9][0-9]*")


class ProbeParams(Params):
    """A general set, to see what tuning has cost elsewhere; read where `paths.probe` has one, in BEIR's format."""

    split: str = Field("test", min_length=1, description="qrels/<split>.tsv of it")
    limit: int | None = Field(None, ge=10, description="passages of it that are searched; null: all")
    metrics: list[str] = Field(["ndcg@10", "recall@10"], min_length=1, description="name@depth")


class JudgeParams(Params):
    """A language model that says whether an answer is right."""

    model_config = ConfigDict(hide_input_in_errors=True)  # what stands in a wrong place may be a key

    endpoint: LLMSettings | None = Field(None, description="null: nobody is asked; needs the extra `llm`")
    repeats: Literal[3, 5, 7, 9] = Field(3, description="judgements per answer, each with a seed of its own")
    limit: int | None = Field(200, ge=2, description="answers that are judged, evenly spread; null: all")


class EvaluationParams(Params):
    """All of evaluation."""

    model_config = ConfigDict(hide_input_in_errors=True)  # see JudgeParams

    metrics: list[str] = Field(
        ["ndcg@10", "mrr@10", "recall@10"], min_length=1, description="of the headline table: name@depth"
    )
    baseline: str = Field(
        "base",
        description="what the tuned retriever is compared with first: bm25, base, hybrid, reranked; or an earlier "
        "version of the outputs, as `kedro compare` lists them",
    )
    depth: int = Field(100, ge=10, le=1000, description="passages retrieved per question")
    rerank_depth: int = Field(50, ge=1, le=1000, description="of these the cross-encoder reads, if models.reranker is")
    passages: int = Field(5, ge=1, le=100, description="passages that the reader reads; as in rag_training")
    ks: list[int] = Field([1, 3, 5, 10, 20, 50, 100], min_length=1, description="depths of the sweep of retrieval")
    reader_ks: list[int] = Field(
        [1, 2, 3, 5, 10], min_length=1, description="passages read in the sweep of the reader"
    )
    no_answer_threshold: float | None = Field(
        None, ge=0, le=1, description="a score below it counts as no answer; null: every answer is given"
    )
    target_accuracy: float = Field(
        0.7, gt=0, le=1, description="of given answers: the threshold that reaches it on dev is told"
    )
    min_slice: int = Field(20, ge=2, description="questions without which a slice says nothing")
    probe: ProbeParams = Field(default_factory=ProbeParams)
    nli_is_lettucedetect: bool = Field(False, description="models.nli is a LettuceDetect model, no NLI cross-encoder")
    judge: JudgeParams = Field(default_factory=JudgeParams)
    samples: int = Field(10_000, ge=100, description="of the bootstrap and of the permutation test")
    seed: Seed = Field(0, description="of both")

    @field_validator("metrics")
    @classmethod
    def known_metrics(cls, names: list[str]) -> list[str]:
        """Refuse what no system can be scored by."""
        if unknown := [name for name in names if not METRIC.fullmatch(name)]:
            raise ValueError(
                f"there is no metric {unknown[0]!r}: use ndcg, mrr, recall, precision, map, hit or answer_recall with "
                "a depth, such as ndcg@10"
            )
        return names

    @field_validator("ks", "reader_ks")
    @classmethod
    def rising(cls, values: list[int]) -> list[int]:
        """Numbers of passages, each once, from the fewest on."""
        if min(values) < 1 or sorted(set(values)) != values:
            raise ValueError("give numbers from 1 on, each once, the smallest first")
        return values

    @field_validator("baseline")
    @classmethod
    def known_baseline(cls, name: str) -> str:
        """A system, or a version by its whole name: a path or a short name could mean another one tomorrow."""
        if name not in SYSTEMS and not VERSION.fullmatch(name):
            raise ValueError(
                f"{name!r} is no baseline: take {', '.join(SYSTEMS)}, or a version such as "
                "20261121T101500Z-1a2b3c4d (kedro compare lists them)"
            )
        return name

    @model_validator(mode="after")
    def deep_enough(self) -> "EvaluationParams":
        """What is measured at a depth must have been retrieved."""
        deepest = max([self.ks[-1], self.reader_ks[-1], self.passages])
        if deepest > self.depth:
            raise ValueError(f"depth is {self.depth}, and ks, reader_ks or passages ask for {deepest}: raise depth")
        return self

    @property
    def baseline_system(self) -> Literal["bm25", "base", "hybrid", "reranked"]:
        """The system of this run that the tuned retriever is compared with first."""
        return self.baseline if self.baseline in SYSTEMS else "base"  # type: ignore[return-value]
