"""Parameters of retriever_training."""

from typing import Literal

from pydantic import Field

from ragsmith.pipelines.params import Params


class RetrieverTrainingParams(Params):
    """All of retriever_training; see `LoopSettings` and `ContrastiveSettings` in `ragsmith.learn`."""

    train_on: Literal["auto", "examples", "structural", "all"] = Field(
        "auto", description="which queries; auto: the examples alone when there are enough, else all"
    )
    enough_examples: int = Field(500, ge=1, description="so many example questions are enough")
    epochs: int = Field(2, ge=1, description="passes over the training queries")
    batch_size: int = Field(32, ge=2, description="queries in a batch; each is the others' negative")
    negatives: int = Field(1, ge=0, description="hard negatives per query in a batch, drawn among the mined ones")
    learning_rate: float = Field(2e-5, gt=0, le=1, description="peak, after warm-up")
    temperature: float = Field(0.05, gt=0, description="of InfoNCE")
    cut_probability: float = Field(
        0.5, ge=0, le=1, description="how often the query's source is cut from its positive"
    )
    max_query_tokens: int = Field(64, ge=4, description="longer queries are cut in training")
    max_passage_tokens: int = Field(128, ge=8, description="longer passages are cut in training")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of activations dropped")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    evaluations: int = Field(2, ge=1, description="dev evaluations per epoch")
    patience: int = Field(3, ge=1, description="evaluations without a gain after which training stops")
    min_delta: float = Field(0.0, ge=0, description="a smaller gain on dev does not count")
    dev_pool: int = Field(2000, ge=10, description="passages that dev questions are searched in while training")
    micro_tokens: int = Field(2048, ge=64, description="padded tokens in one forward pass")
    checkpoint_seconds: float = Field(60, gt=0, description="at most so much work is lost when the process dies")
    seed: int = Field(0, ge=0, description="order, draws and dropout")
