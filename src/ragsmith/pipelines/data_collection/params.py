"""Parameters of data_collection."""

from pydantic import Field, model_validator

from ragsmith.pipelines.params import Params, Seed


class SampleParams(Params):
    """The embedded sample corpus."""

    enabled: bool = Field(True, description="read the reference of the running interpreter's library")
    modules: list[str] | None = Field(None, description="only these modules and topics; null reads all")


class FolderParams(Params):
    """The user's own folder (its place is `paths.documents` in globals.yml)."""

    enabled: bool = Field(True, description="read text, Markdown and JSONL files")
    max_bytes: int = Field(50_000_000, ge=1, description="larger files are rejected")


class RecordsParams(Params):
    """Questions with their passages in exchange formats (their place is `paths.records` in globals.yml)."""

    enabled: bool = Field(True, description="read WikiQA, SQuAD, JSONL of queries, and questions about a table")
    max_bytes: int = Field(200_000_000, ge=1, description="a file that holds more, unpacked, is refused")
    distant_supervision: bool = Field(
        True, description="training questions with answers alone take the passage that BM25 finds and that holds one"
    )


class ChunkParams(Params):
    """How documents are cut into passages."""

    max_tokens: int = Field(256, ge=16, le=8192, description="tokens of the longest passage, as the encoder counts")
    overlap: int = Field(24, ge=0, description="tokens that pieces of one long section share")
    min_characters: int = Field(20, ge=1, description="shorter pieces are dropped")

    @model_validator(mode="after")
    def overlap_below_length(self) -> "ChunkParams":
        if self.overlap >= self.max_tokens:
            raise ValueError(f"chunk.overlap ({self.overlap}) must be below chunk.max_tokens ({self.max_tokens})")
        return self


class SplitParams(Params):
    """Shares of dev and test: of the gold questions, or, without any, of the documents."""

    dev: float = Field(0.4, gt=0, lt=1, description="for every choice that is made")
    test: float = Field(0.6, gt=0, lt=1, description="for the figures that are quoted")
    seed: Seed = Field(0, description="another seed, another division")
    documents_dev: float = Field(0.1, gt=0, lt=0.5, description="share of dev when there are no gold questions")
    documents_test: float = Field(0.1, gt=0, lt=0.5, description="share of test when there are no gold questions")


class DataCollectionParams(Params):
    """All of data_collection."""

    sample: SampleParams = Field(default_factory=SampleParams)
    folder: FolderParams = Field(default_factory=FolderParams)
    records: RecordsParams = Field(default_factory=RecordsParams)
    chunk: ChunkParams = Field(default_factory=ChunkParams)
    split: SplitParams = Field(default_factory=SplitParams)

    @model_validator(mode="after")
    def some_source(self) -> "DataCollectionParams":
        if not (self.sample.enabled or self.folder.enabled or self.records.enabled):
            raise ValueError("no source is enabled: set sample.enabled, folder.enabled or records.enabled to true")
        return self
