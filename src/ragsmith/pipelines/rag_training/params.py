"""Parameters of rag_training."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ragsmith.pipelines.params import LoraParams, Params, Seed

if TYPE_CHECKING:
    from ragsmith.learn.loop import LoopSettings
    from ragsmith.read.train_rag import RagPlan

Mode = Literal["dense", "bm25", "hybrid"]

# What others call the modes: RAG_from_scratch in its README and in its code, rag-end2end-retriever in its option.
MODE_ALIASES = {
    "joint_train": "fine_tune",
    "joint_train_from_scratch": "from_scratch",
    "scratch": "from_scratch",
    "retriever": "retriever_only",
    "e2e": "end2end",
}
FUSED = {"fid", "causal"}
Encoders = Literal["none", "questions", "both"]


def own_mode(name: Any) -> Any:
    """A mode under our name."""
    return MODE_ALIASES.get(name, name) if isinstance(name, str) else name


def named_background(value: Any) -> Any:
    """Where a refresh in the background is done: true means a process."""
    return "process" if value is True else value


class RefreshParams(Params):
    """When the knowledge base is encoded again in training; see `RefreshSettings` in `ragsmith.read`."""

    every: int = Field(0, ge=0, description="steps between refreshes; 0 for none by steps")
    overlap: float = Field(0.9, ge=0, le=1, description="refresh when the live top ten share less with the index's")
    probe_every: int = Field(25, ge=1, description="steps between probes of that overlap")
    probe_queries: int = Field(256, ge=1, description="training questions in the probe")
    budget: float = Field(0.1, ge=0, description="largest share of the computation that refreshes may have")
    background: Annotated[Literal[False, "process", "ray"], BeforeValidator(named_background)] = Field(
        False, description="while training goes on: in a process of its own (true is the same), or on a Ray cluster"
    )
    lag: int = Field(20, ge=1, description="steps after which a refresh in the background is taken up")
    timeout: float = Field(
        3600, gt=0, description="seconds that training waits for it then; later it is ended, and the old index stays"
    )

    def changed(self) -> list[str]:
        """What is set to something else than its default."""
        return [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]


class RagTrainingParams(Params):
    """Reader and retriever; see `RagSettings`, `RefreshSettings` and the readers in `ragsmith.read`."""

    mode: Annotated[Literal["fine_tune", "end2end", "from_scratch", "retriever_only"], BeforeValidator(own_mode)] = (
        Field(
            "fine_tune",
            description="fine_tune: the reader, on what the tuned retriever finds; end2end: reader and retriever; "
            "from_scratch: both, from the untuned models; retriever_only: the retriever",
        )
    )
    reader: Literal["extractive", "rag_token", "rag_sequence", "fid", "causal"] = Field(
        "extractive", description="how passages become an answer; all but extractive write it, with models.reader"
    )
    encoders: Literal["auto", "none", "questions", "both"] = Field(
        "auto",
        description="of the retriever, what is trained; questions: their encoder alone, a copy of its own, while "
        "passages and index stay; both: for questions and passages; auto: none in fine_tune, else both",
    )
    objective: Literal["auto", "none", "marginal", "emdr2", "pdist"] = Field(
        "auto",
        description="what the reader teaches the retriever; auto: marginal, or emdr2 for fid and causal, and none in "
        "retriever_only and where no encoder is trained",
    )
    objective_weight: float = Field(1.0, gt=0, description="of emdr2 and pdist beside the reader's loss")
    contrastive_weight: float = Field(0.5, ge=0, description="of the loss on passages known to be right")
    temperature: float = Field(0.05, gt=0, description="cosines are divided by it before the softmax over passages")
    teacher_temperature: float = Field(1.0, gt=0, description="of what pdist teaches")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of readers that write their answer")
    search: Literal["auto", "dense", "bm25", "hybrid"] = Field(
        "auto", description="how passages are found in training; auto: as retriever_training chose"
    )
    right_passage: bool = Field(
        True, description="in training, a known right passage takes the last place if none was found"
    )
    retriever_rate: float = Field(0.2, gt=0, description="the retriever's share of the learning rate")
    retriever_after: int = Field(0, ge=0, description="steps before the retriever moves")
    random_weights: bool = Field(False, description="from_scratch: begin with untrained weights of the same shape")
    refresh: RefreshParams = Field(default_factory=RefreshParams)
    lora: LoraParams = Field(default_factory=LoraParams)
    template: str | None = Field(
        None, description="question and passage as one text, with {question} and {passage}; null: one for the reader"
    )
    candidates: int = Field(
        1, ge=1, description="extractive: so many of the best spans are compared by text, and equal ones add up"
    )
    dropout: float | Literal["auto"] | None = Field(
        "auto",
        description="share of activations dropped in training; null: the models' own; auto: that for an extractive "
        "reader alone, else 0",
    )
    num_beams: int = Field(1, ge=1, description="of readers that write their answer; 1 is greedy")
    passages: int = Field(5, ge=1, le=100, description="retrieved passages that are read per question")
    train_on: Literal["auto", "examples", "structural", "all"] = Field(
        "auto", description="which queries; auto: the examples alone when there are enough, else all"
    )
    enough_examples: int = Field(500, ge=1, description="so many example questions are enough")
    max_questions: int = Field(1000, ge=1, description="training questions, drawn at random when there are more")
    cut_probability: float = Field(
        0.5, ge=0, le=1, description="how often the stretch a question was made from is left out of what is read"
    )
    epochs: int = Field(1, ge=1, description="passes over the training questions")
    batch_size: int = Field(8, ge=1, description="questions in a batch")
    learning_rate: float = Field(5e-5, gt=0, le=1, description="peak, after warm-up")
    max_tokens: int = Field(160, ge=16, description="of question and passage together; causal: of the whole prompt")
    max_answer_tokens: int = Field(24, ge=1, le=4096, description="longest answer")
    prior_weights: list[float] = Field(
        [0.0, 5.0, 10.0, 20.0, 40.0, 80.0], min_length=1, description="weights of the retrieval score tried on dev"
    )
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
    checkpoint_seconds: float = Field(60, gt=0, description="at most so much work is lost when the process dies")
    seed: Seed = Field(0, description="order and draws")

    @model_validator(mode="after")
    def fits_the_reader(self) -> "RagTrainingParams":
        """Refuse what the reader would not see."""
        if self.reader == "extractive" and self.label_smoothing:
            raise ValueError("label_smoothing is for readers that write their answer; reader is extractive.")
        if self.reader == "extractive" and self.lora.rank:
            raise ValueError("lora.rank is for readers that write their answer; reader is extractive.")
        if self.reader == "extractive" and self.num_beams > 1:
            raise ValueError("num_beams is for readers that write their answer; reader is extractive.")
        if self.reader == "extractive" and self.template is not None:
            raise ValueError("template is for readers that write their answer; reader is extractive.")
        if self.reader != "extractive" and self.candidates > 1:
            raise ValueError(f"candidates is for spans; reader is {self.reader}, which writes its answer.")
        if self.reader != "extractive" and self.prior_weights != type(self).model_fields["prior_weights"].default:
            raise ValueError(
                f"prior_weights is for spans; reader is {self.reader}, which weighs passages as it was trained: by "
                "temperature."
            )
        return self

    @model_validator(mode="after")
    def fits_the_encoders(self) -> "RagTrainingParams":
        """Refuse what is for a retriever that is trained, where it is not, or for passages that are encoded again."""
        if self.mode in {"end2end", "from_scratch"} and self.trained() == "none":
            raise ValueError(
                f"encoders is none and mode is {self.mode}, which trains the retriever too. Set mode to fine_tune, or "
                "encoders to questions or both."
            )
        if self.trained() == "none" and self.objective not in {"auto", "none"}:
            raise ValueError(
                f"objective is {self.objective}, and with mode {self.mode} and encoders {self.encoders} no retriever "
                "learns from it. Set mode to end2end, or encoders to questions or both."
            )
        if self.trained() != "both" and (changed := self.refresh.changed()):
            raise ValueError(
                f"refresh.{changed[0]} is set, and passages keep their vectors with mode {self.mode} and encoders "
                f"{self.encoders}: nothing is made again. Leave it out, or set encoders to both."
            )
        return self

    @model_validator(mode="after")
    def fits_together(self) -> "RagTrainingParams":
        """Refuse what would be without effect, or without a teacher."""
        if self.reader in FUSED and self.objective == "marginal" and self.trained() != "none":
            raise ValueError(
                f"objective is marginal and reader is {self.reader}, which sees all passages at once: the retriever "
                "would learn nothing. Set objective to emdr2 or pdist."
            )
        if isinstance(self.dropout, float) and not 0 <= self.dropout < 1:
            raise ValueError(
                f"dropout is {self.dropout}: it must be a share of at least 0 and less than 1, or auto, or null."
            )
        if self.random_weights and self.mode != "from_scratch":
            raise ValueError(f"random_weights is for mode from_scratch; mode is {self.mode}.")
        if self.mode == "retriever_only" and self.trained() == "none":
            raise ValueError(
                "encoders is none and mode is retriever_only: nothing would be trained. Set encoders to both."
            )
        if self.trained() != "none" and self.taught() == "none" and not self.contrastive_weight:
            raise ValueError("Nothing teaches the retriever: set objective, or contrastive_weight above 0.")
        if self.mode == "retriever_only" and self.retriever_after:
            raise ValueError(
                f"retriever_after is {self.retriever_after} and mode is retriever_only: the steps before would train "
                "nothing. Set it to 0."
            )
        places = ("{question}", "{passage}")
        if self.template is not None and any(self.template.count(place) != 1 for place in places):
            raise ValueError("template must hold {question} and {passage} once each.")
        return self

    def trained(self) -> Encoders:
        """The encoders that `auto` means."""
        if self.encoders != "auto":
            return self.encoders
        return "none" if self.mode == "fine_tune" else "both"

    def taught(self) -> Literal["none", "marginal", "emdr2", "pdist"]:
        """The objective that `auto` means."""
        if self.trained() == "none":
            return "none"
        if self.objective != "auto":
            return self.objective
        if self.mode == "retriever_only":
            return "none"  # an untrained reader teaches nothing
        return "emdr2" if self.reader in FUSED else "marginal"

    def dropped(self) -> float | None:
        """The dropout that `auto` means; None is the models' own."""
        if self.dropout != "auto":
            return self.dropout
        alone = self.mode == "fine_tune" and self.reader == "extractive" and self.trained() == "none"
        return None if alone else 0.0

    def wants_ray(self) -> bool:
        """Whether a Ray cluster has a part in the training."""
        return self.refresh.background == "ray"  # refused where no passage is encoded again

    def loop(self) -> "LoopSettings":
        """Length and speed, for the library."""
        from ragsmith.learn.loop import LoopSettings

        return LoopSettings(**self.model_dump(include=set(LoopSettings.__dataclass_fields__)))

    def rag_plan(self, search: Mode) -> "RagPlan":
        """The training, for the library.

        Args:
            search: how passages are found where the parameter is `auto`.
        """
        from ragsmith.read.live_index import RefreshSettings
        from ragsmith.read.rag_settings import RagSettings
        from ragsmith.read.train_rag import RagPlan

        settings = {
            **self.model_dump(include=set(RagSettings.__dataclass_fields__)),
            "train_reader": self.mode != "retriever_only",
            "encoders": self.trained(),
            "objective": self.taught(),
            "search": search if self.search == "auto" else self.search,
            "dropout": self.dropped(),
        }
        refresh = RefreshSettings(**self.refresh.model_dump())
        return RagPlan(RagSettings(**settings), refresh, self.loop(), self.prior_weights)
