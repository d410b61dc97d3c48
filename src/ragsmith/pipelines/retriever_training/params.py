"""Parameters of retriever_training."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ragsmith.pipelines.params import LoraParams, Params, Seed
from ragsmith.pipelines.retriever_training.aliases import known_to_transformers, translated

# FlagEmbedding's limit for vectors of unit length.
HIGHEST_TEMPERATURE = 0.5


class StageParams(Params):
    """One training of a curriculum."""

    queries: str = Field(
        "all",
        description="which: all, examples, structural, a kind of query (lead, heading, …), or the name of a file of "
        "records or examples without its endings",
    )
    remine: bool = Field(False, description="look for negatives again with the model as it is when the stage begins")
    epochs: int | None = Field(None, ge=1, description="null: as for all")
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="null: as for all; structural_learning_rate where hardly any question is written"
    )


class RetrieverTrainingParams(Params):
    """All of retriever_training; see `LoopSettings`, `ContrastiveSettings`, `RetrieverSettings` in `ragsmith.learn`.

    FlagEmbedding's and transformers' names are understood too (`aliases`).
    """

    backend: Literal["native", "sentence_transformers", "flagembedding"] = Field(
        "native", description="our own engine, or another trainer on the same data, to compare"
    )
    train_on: Literal["auto", "all", "examples", "structural"] = Field(
        "auto",
        description="which queries; auto: one epoch of the structural ones, then the examples; all at once when there "
        "are too few examples",
    )
    enough_examples: int = Field(
        500, ge=1, description="with fewer written questions than these, training is at structural_learning_rate"
    )
    stages: list[StageParams] = Field([], description="a curriculum, in place of train_on: each goes on from the last")
    rounds: int = Field(1, ge=1, le=10, description="trainings, each after the first with freshly mined negatives")
    compare_alone: bool = Field(False, description="train each later stage from the base too, for comparison")
    epochs: int = Field(2, ge=1, description="passes over the training queries")
    batch_size: int = Field(32, ge=2, description="queries in a batch; each is the others' negative")
    per_device_train_batch_size: int | None = Field(
        None,
        ge=1,
        description="queries of each process: times compute.ranks they are the batch, whatever batch_size says",
    )
    negatives: int = Field(1, ge=0, description="hard negatives per query in a batch, drawn among the mined ones")
    learning_rate: float = Field(2e-5, gt=0, le=1, description="peak, after warm-up")
    structural_learning_rate: float | None = Field(
        5e-6, gt=0, le=1, description="peak where most queries are structural ones; null: learning_rate there too"
    )
    loss: Literal["auto", "infonce", "distillation", "margin_mse"] = Field(
        "auto",
        description="auto: distillation when all queries have a teacher's scores, of models.reranker or records",
    )
    temperature: float = Field(0.05, gt=0, description="of InfoNCE; at most 0.5")
    in_batch_negatives: bool = Field(True, description="the other queries' passages are negatives too")
    negatives_cross_device: bool = Field(
        True, description="processes share their negatives; false changes nothing on one, and is refused on several"
    )
    false_negative_margin: float | None = Field(
        None, ge=0, description="passages of the batch that score above the positive plus this are no negatives"
    )
    distillation_weight: float = Field(0.9, ge=0, le=1, description="share of the KL term; the rest is InfoNCE")
    student_temperature: float = Field(0.05, gt=0, description="of the KL term")
    teacher_temperature: float = Field(0.3, gt=0, description="of the KL term")
    margin_scale: float = Field(
        1.0,
        gt=0,
        description="of margin_mse: margins of cosines are multiplied by it, to meet a teacher that gives logits",
    )
    matryoshka: list[int] = Field([], description="shorter lengths at which the vectors shall serve too")
    lora: LoraParams = Field(default_factory=LoraParams)
    pooling: Literal["cls", "mean", "lasttoken"] | None = Field(None, description="null: the model's own")
    query_prompt: str | None = Field(None, description="put before each query; null: the model's own")
    passage_prompt: str | None = Field(None, description="put before each passage; null: the model's own")
    cut_probability: float = Field(
        0.0, ge=0, le=1, description="how often the query's source is cut from its positive"
    )
    max_query_tokens: int = Field(64, ge=4, description="longer queries are cut in training")
    max_passage_tokens: int = Field(128, ge=8, description="longer passages are cut in training")
    fix_position_embedding: bool = Field(False, description="leave the embeddings of positions as they are")
    precision: Literal["auto", "fp32", "bf16"] | None = Field(
        None, description="of training; auto: bf16 where the machine multiplies in it; null: compute.precision"
    )
    dropout: float | None = Field(0.0, ge=0, lt=1, description="share of activations dropped; null: the model's own")
    warmup: float = Field(
        0.1, ge=0, description="share of the steps in which the learning rate rises; from 1 on, their number"
    )
    schedule: Literal["cosine", "linear", "polynomial", "constant"] = Field(
        "cosine", description="how the learning rate falls to zero afterwards"
    )
    accumulation: int = Field(1, ge=1, description="batches whose gradients make one step")
    optimizer: Literal["adamw", "adam"] = Field("adamw", description="adam: AdamW without decay")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    evaluations: int = Field(2, ge=1, description="dev evaluations per epoch")
    patience: int = Field(3, ge=1, description="evaluations without a gain after which training stops")
    min_delta: float = Field(0.0, ge=0, description="a smaller gain on dev does not count")
    dev_pool: int = Field(2000, ge=10, description="passages that dev questions are searched in while training")
    gate_pool: int = Field(10_000, ge=10, description="passages that they are searched in for the gate; all, if fewer")
    micro_tokens: int = Field(4096, ge=64, description="tokens in one forward pass")
    activation_gib: float | None = Field(
        None,
        ge=0,
        description="a batch that needs more for its backward pass is computed twice, in parts; null: a third of the "
        "card's memory, or an eighth of the machine's",
    )
    checkpoint_seconds: float = Field(60, gt=0, description="at most so much work is lost when the process dies")
    seed: Seed = Field(0, description="order, draws and dropout")

    @model_validator(mode="before")
    @classmethod
    def other_names(cls, values: Any) -> Any:
        """Understand what other trainers call these."""
        if not isinstance(values, dict):
            return values
        found = translated(values)
        unknown = found.keys() - cls.model_fields.keys()
        if foreign := known_to_transformers(unknown):
            what = "is an argument of transformers' Trainer without a like here: leave it out"
            raise ValueError("; ".join(f"{name} {what}" for name in foreign))
        return found

    @field_validator("temperature")
    @classmethod
    def low_enough_for_cosines(cls, value: float) -> float:
        """Refuse what leaves the softmax all but even: vectors are of unit length."""
        if value > HIGHEST_TEMPERATURE:
            raise ValueError(
                f"the scores are cosines, between -1 and 1: above {HIGHEST_TEMPERATURE} a right and a wrong passage "
                "hardly differ and little is learned. Take 0.01 to 0.1"
            )
        return value

    @model_validator(mode="after")
    def one_plan(self) -> "RetrieverTrainingParams":
        """Refuse what contradicts itself."""
        if self.stages and self.rounds > 1:
            raise ValueError("stages and rounds exclude each other: give a stage remine: true for fresh negatives")
        compares = self.loss in ("margin_mse", "distillation")
        if not self.negatives and (compares or not self.in_batch_negatives):
            why = f"loss is {self.loss}" if compares else "in_batch_negatives is false"
            raise ValueError(f"negatives is 0 and {why}: there is nothing to push away. Set negatives to 1 or more")
        if self.backend != "native" and (unknown := self.unknown_to_others()):
            raise ValueError(
                f"backend {self.backend} trains one plain stage with InfoNCE, and knows nothing of "
                f"{', '.join(unknown)}: leave that out, or set backend to native"
            )
        return self

    def unknown_to_others(self) -> list[str]:
        """What is set here and would be passed over by another trainer."""
        set_here = {
            "stages": bool(self.stages),
            "rounds": self.rounds > 1,
            "compare_alone": self.compare_alone,
            f"loss: {self.loss}": self.loss not in {"auto", "infonce"},
            "in_batch_negatives: false": not self.in_batch_negatives,
            "false_negative_margin": self.false_negative_margin is not None,
            "matryoshka": bool(self.matryoshka),
            "lora": self.lora.rank > 0,
            "cut_probability": self.cut_probability > 0,
            "fix_position_embedding": self.fix_position_embedding and self.backend != "flagembedding",
            "schedule: polynomial (theirs is linear)": self.schedule == "polynomial",
        }
        return [name for name, is_set in set_here.items() if is_set]

    def on_ranks(self, ranks: int, where: Literal["local", "ray"] = "local") -> "RetrieverTrainingParams":
        """The parameters with the whole batch of so many processes as `batch_size`.

        Raises:
            ValueError: the processes are not to share their negatives, the batch has one query, or another trainer is
                to run on several processes or on a cluster.
        """
        if self.backend != "native" and (ranks > 1 or where != "local"):
            asked, usual = (
                (f"backend is {where}", "backend to local") if ranks == 1 else (f"ranks is {ranks}", "ranks to 1")
            )
            raise ValueError(
                f"retriever_training.backend is {self.backend}, and compute.{asked}: that trainer runs in one process "
                f"on this machine. Set compute.{usual}, or retriever_training.backend to native."
            )
        if ranks > 1 and not self.negatives_cross_device:
            raise ValueError(
                f"retriever_training.negatives_cross_device is false, and compute.ranks is {ranks}: several processes "
                "share their negatives, and the loss is that of one batch. Set it to true, or compute.ranks to 1."
            )
        if self.per_device_train_batch_size is None:
            if self.batch_size < ranks:
                raise ValueError(
                    f"retriever_training.batch_size is {self.batch_size}, and compute.ranks is {ranks}: each process "
                    "needs a query of every batch. Raise batch_size, or lower compute.ranks."
                )
            return self
        batch_size = self.per_device_train_batch_size * ranks
        if batch_size < 2:
            raise ValueError(
                "retriever_training.per_device_train_batch_size is 1, and compute.ranks is 1: the queries of a batch "
                "are each other's negatives. Set it to 2 or more."
            )
        return self.model_copy(update={"batch_size": batch_size})
