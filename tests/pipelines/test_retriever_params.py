import pandas as pd
import pytest
from pydantic import ValidationError

from ragsmith.pipelines.retriever_training.aliases import ALIASES, ALWAYS, ELSEWHERE
from ragsmith.pipelines.retriever_training.nodes import plan
from ragsmith.pipelines.retriever_training.params import RetrieverTrainingParams

SEEDS = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "train_group_size": 8,
    "query_max_len": 32,
    "passage_max_len": 96,
    "temperature": 0.02,
    "learning_rate": 1e-5,
    "normlized": True,
    "use_inbatch_neg": False,
    "negatives_cross_device": True,
    "sentence_pooling_method": "last_token",
    "query_instruction_for_retrieval": "Represent: ",
    "gradient_checkpointing": True,
    "dataloader_drop_last": True,
    "knowledge_distillation": True,
    "kd_loss_type": "kl_div",
    "mrl_dims": [64, 128],
}


def test_arguments_of_flagembedding_are_understood() -> None:
    params = RetrieverTrainingParams.model_validate(SEEDS)
    assert (params.epochs, params.batch_size, params.negatives) == (3, 8, 7)
    assert (params.max_query_tokens, params.max_passage_tokens) == (32, 96)
    assert params.temperature == 0.02 and params.learning_rate == 1e-5 and not params.in_batch_negatives
    assert params.pooling == "lasttoken" and params.query_prompt == "Represent: " and params.activation_gib == 0
    assert params.loss == "distillation" and params.matryoshka == [64, 128]


def test_alias_on_the_command_line_wins_over_the_file() -> None:
    assert RetrieverTrainingParams.model_validate({"epochs": 2, "num_train_epochs": 5}).epochs == 5


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_argument_that_belongs_elsewhere_says_where(name) -> None:
    with pytest.raises(ValidationError, match=f"{name} is not set here: "):
        RetrieverTrainingParams.model_validate({name: "x"})


@pytest.mark.parametrize("name", sorted(ALWAYS))
def test_argument_with_one_value_takes_that_one_alone(name) -> None:
    RetrieverTrainingParams.model_validate({name: ALWAYS[name][0]})
    with pytest.raises(ValidationError, match=f"{name} can only be "):
        RetrieverTrainingParams.model_validate({name: "another"})


def test_every_alias_leads_to_a_parameter_that_exists() -> None:
    assert {own for own, _ in ALIASES.values()} <= set(RetrieverTrainingParams.model_fields)
    with pytest.raises(ValidationError, match=r"train_group_size .here: negatives. cannot be 'many'"):
        RetrieverTrainingParams.model_validate({"train_group_size": "many"})


def test_plans_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValidationError, match="stages and rounds exclude each other"):
        RetrieverTrainingParams(stages=[{"queries": "examples"}], rounds=2)
    with pytest.raises(ValidationError, match="backend flagembedding trains one plain stage"):
        RetrieverTrainingParams(backend="flagembedding", rounds=2)


def training_queries(written: int, structural: int) -> pd.DataFrame:
    kinds = ["example"] * written + ["lead"] * structural
    return pd.DataFrame(
        {"query_id": [f"q{n}" for n in range(len(kinds))], "kind": kinds, "split": "train", "origin": "x"}
    )


@pytest.mark.parametrize("written", [499, 0])
def test_hardly_any_written_questions_mean_one_stage_at_the_rate_of_structural_ones(written):
    queries = training_queries(written, 50)
    stages, wanted = plan(queries, RetrieverTrainingParams(learning_rate=5e-5))
    assert [(stage.query_ids, stage.learning_rate) for stage in stages] == [(None, 5e-6)]
    assert len(wanted) == len(queries)


def test_enough_written_questions_are_trained_on_after_the_structural_ones():
    queries = training_queries(500, 50)
    stages, wanted = plan(queries, RetrieverTrainingParams(learning_rate=5e-5, rounds=2))
    assert [(stage.name, stage.epochs, stage.learning_rate, stage.remine) for stage in stages] == [
        ("structural", 1, 5e-6, False),
        ("examples", None, None, False),
        ("round 2", None, None, True),
    ]
    kinds = queries.set_index("query_id")["kind"]
    assert [set(kinds[list(stage.query_ids)]) for stage in stages] == [{"lead"}, {"example"}, {"example"}]
    assert sorted(wanted["query_id"]) == sorted(queries["query_id"])


@pytest.mark.parametrize(
    "params",
    [{"train_on": "examples"}, {"backend": "sentence_transformers"}, {"batch_size": 64}],
    ids=["asked for", "another trainer", "less than a batch"],
)
def test_written_questions_are_trained_on_alone(params):
    queries = training_queries(500, 50)
    stages, wanted = plan(queries, RetrieverTrainingParams(learning_rate=5e-5, **params))
    assert [(stage.query_ids, stage.learning_rate) for stage in stages] == [(None, None)]
    assert set(wanted["kind"]) == {"example"}


def test_few_written_questions_alone_keep_their_own_rate():
    stages, wanted = plan(training_queries(1, 1), RetrieverTrainingParams(learning_rate=5e-5, train_on="examples"))
    assert [stage.learning_rate for stage in stages] == [None] and wanted["kind"].tolist() == ["example"]
