"""All pipelines by name.

Explicit, and not `find_pipelines`: with that, `kedro run --pipelines NAME` imports a folder of that name alone, and a
composite that has no folder of its own can never be run.
"""

from kedro.pipeline import Pipeline

from ragsmith.pipelines import (
    data_collection,
    evaluation,
    negative_mining,
    query_generation,
    rag_training,
    retriever_training,
    serving,
)


def register_pipelines() -> dict[str, Pipeline]:
    """The seven pipelines, and what people run as one."""
    stages = {
        "data_collection": data_collection.create_pipeline(),
        "query_generation": query_generation.create_pipeline(),
        "negative_mining": negative_mining.create_pipeline(),
        "retriever_training": retriever_training.create_pipeline(),
        "rag_training": rag_training.create_pipeline(),
        "evaluation": evaluation.create_pipeline(),
        "serving": serving.create_pipeline(),
    }
    prepare = stages["data_collection"] + stages["query_generation"] + stages["negative_mining"]
    train = stages["retriever_training"] + stages["rag_training"]
    end_to_end = prepare + train + stages["evaluation"] + stages["serving"]
    return {**stages, "prepare": prepare, "train": train, "end_to_end": end_to_end, "__default__": end_to_end}
