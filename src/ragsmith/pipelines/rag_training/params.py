"""Parameters of rag_training."""

from typing import Literal

from pydantic import Field

from ragsmith.pipelines.params import Params


class RagTrainingParams(Params):
    """The extractive reader; see `ReaderSettings` in `ragsmith.read` and `LoopSettings` in `ragsmith.learn`."""

    passages: int = Field(5, ge=1, le=100, description="retrieved passages that are read per question")
    train_on: Literal["auto", "examples", "structural", "all"] = Field(
        "auto", description="which queries; auto: the examples alone when there are enough, else all"
    )
    enough_examples: int = Field(500, ge=1, description="so many example questions are enough")
    max_questions: int = Field(1000, ge=1, description="training questions, drawn at random when there are more")
    cut_probability: float = Field(
        0.5, ge=0, le=1, description="how often the question's source is cut from its passage"
    )
    epochs: int = Field(1, ge=1, description="passes over the training questions")
    batch_size: int = Field(8, ge=1, description="questions in a batch")
    learning_rate: float = Field(5e-5, gt=0, le=1, description="peak, after warm-up")
    max_tokens: int = Field(160, ge=16, description="of question and passage together")
    max_answer_tokens: int = Field(24, ge=1, description="longest span")
    prior_weights: list[float] = Field(
        [0.0, 5.0, 10.0, 20.0, 40.0, 80.0], min_length=1, description="weights of the retrieval score tried on dev"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    evaluations: int = Field(2, ge=1, description="dev evaluations per epoch")
    patience: int = Field(3, ge=1, description="evaluations without a gain after which training stops")
    checkpoint_seconds: float = Field(60, gt=0, description="at most so much work is lost when the process dies")
    seed: int = Field(0, ge=0, description="order and draws")
