"""Parameters of serving."""

from pydantic import Field

from ragsmith.pipelines.params import Params


class ServingParams(Params):
    """All of serving."""

    passages: int = Field(5, ge=1, le=100, description="passages that the reader reads; as was evaluated")
    smoke_question: str = Field("", description="asked of the finished bundle; empty takes the first test question")
