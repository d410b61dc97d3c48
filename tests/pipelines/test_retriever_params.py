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


@pytest.mark.parametrize(("written", "rate"), [(500, None), (499, 5e-6), (0, 5e-6)])
def test_hardly_any_written_questions_mean_the_rate_of_structural_ones(written, rate):
    kinds = ["example"] * written + ["lead"] * 10
    queries = pd.DataFrame(
        {"query_id": [f"q{n}" for n in range(len(kinds))], "kind": kinds, "split": "train", "origin": "x"}
    )
    stages, wanted = plan(queries, RetrieverTrainingParams(learning_rate=5e-5))
    assert [stage.learning_rate for stage in stages] == [rate]
    assert len(wanted) == (written if written == 500 else len(kinds))  # enough examples are trained on alone


def test_few_written_questions_alone_keep_their_own_rate():
    queries = pd.DataFrame({"query_id": ["a", "b"], "kind": ["example", "lead"], "split": "train", "origin": "x"})
    stages, wanted = plan(queries, RetrieverTrainingParams(learning_rate=5e-5, train_on="examples"))
    assert [stage.learning_rate for stage in stages] == [None] and wanted["kind"].tolist() == ["example"]
