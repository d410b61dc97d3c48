import pandas as pd
import pytest
from pydantic import ValidationError

from ragsmith.pipelines.retriever_training.aliases import ALIASES, ALWAYS, ELSEWHERE
from ragsmith.pipelines.retriever_training.nodes import plan, teachable
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
    assert (params.epochs, params.on_ranks(1).batch_size, params.negatives) == (3, 8, 7)
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


def test_all_arguments_that_cannot_be_are_told_at_once() -> None:
    wrong = {"fp16": True, "deepspeed": "ds.json", "train_group_size": "many", "normlized": False}
    with pytest.raises(ValidationError) as refused:
        RetrieverTrainingParams.model_validate(wrong)
    assert all(name in str(refused.value) for name in wrong)


def test_every_alias_leads_to_a_parameter_that_exists() -> None:
    assert {own for own, _ in ALIASES.values()} <= set(RetrieverTrainingParams.model_fields)
    with pytest.raises(ValidationError, match=r"train_group_size .here: negatives. cannot be 'many'"):
        RetrieverTrainingParams.model_validate({"train_group_size": "many"})


def test_batch_of_each_process_times_the_processes_is_the_batch() -> None:
    params = RetrieverTrainingParams.model_validate({"batch_size": 32, "per_device_train_batch_size": 8})
    assert [params.on_ranks(ranks).batch_size for ranks in (1, 4)] == [8, 32]
    assert RetrieverTrainingParams(batch_size=32).on_ranks(4).batch_size == 32
    one = RetrieverTrainingParams(per_device_train_batch_size=1)
    assert one.on_ranks(2).batch_size == 2
    with pytest.raises(ValueError, match=r"per_device_train_batch_size is 1, and compute\.ranks is 1.*Set it to 2"):
        one.on_ranks(1)


def test_negatives_of_one_process_alone_are_refused_on_several() -> None:
    params = RetrieverTrainingParams(negatives_cross_device=False)
    assert params.on_ranks(1) is params
    with pytest.raises(ValueError, match=r"negatives_cross_device is false, and compute\.ranks is 2.*ranks to 1"):
        params.on_ranks(2)


def test_memory_setting_stays_where_gradient_checkpointing_is_off() -> None:
    given = {"gradient_checkpointing": False, "activation_gib": 0.5}
    assert RetrieverTrainingParams.model_validate(given).activation_gib == 0.5
    assert RetrieverTrainingParams(gradient_checkpointing=False).activation_gib is None


def test_temperature_at_which_cosines_hardly_differ_is_refused_with_the_reason() -> None:
    assert RetrieverTrainingParams(temperature=0.5).temperature == 0.5
    with pytest.raises(ValidationError, match=r"the scores are cosines.* above 0\.5 .*Take 0\.01 to 0\.1"):
        RetrieverTrainingParams(temperature=0.51)


def test_plans_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValidationError, match="stages and rounds exclude each other"):
        RetrieverTrainingParams(stages=[{"queries": "examples"}], rounds=2)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"rounds": 2}, "rounds"),
        ({"stages": [{"queries": "examples"}]}, "stages"),
        ({"compare_alone": True}, "compare_alone"),
        ({"lora": {"rank": 4}}, "lora"),
        ({"matryoshka": [64]}, "matryoshka"),
        ({"loss": "margin_mse"}, "loss: margin_mse"),
        ({"in_batch_negatives": False}, "in_batch_negatives: false"),
        ({"false_negative_margin": 0.1}, "false_negative_margin"),
        ({"cut_probability": 0.5}, "cut_probability"),
        ({"schedule": "polynomial"}, "schedule: polynomial"),
        ({"fix_position_embedding": True}, "fix_position_embedding"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_another_trainer_would_pass_over_is_refused(setting, said) -> None:
    with pytest.raises(ValidationError, match=f"backend sentence_transformers trains one .* knows nothing of {said}"):
        RetrieverTrainingParams(backend="sentence_transformers", **setting)
    assert RetrieverTrainingParams(backend="native", **setting)


def test_another_trainer_runs_in_one_process() -> None:
    other = RetrieverTrainingParams(backend="flagembedding", fix_position_embedding=True)
    assert other.on_ranks(1) == other
    with pytest.raises(
        ValueError, match=r"backend is flagembedding, and compute\.ranks is 2: .*Set compute\.ranks to 1"
    ):
        other.on_ranks(2)
    with pytest.raises(
        ValueError, match=r"backend is flagembedding, and compute\.backend is ray: .*Set compute\.backend to local"
    ):
        other.on_ranks(1, "ray")
    assert RetrieverTrainingParams().on_ranks(1, "ray") == RetrieverTrainingParams()


def training_queries(written: int, structural: int) -> pd.DataFrame:
    kinds = ["example"] * written + ["lead"] * structural
    ids = [f"q{n}" for n in range(len(kinds))]
    return pd.DataFrame({"query_id": ids, "kind": kinds, "split": "train", "origin": "x", "file": ""})


@pytest.mark.parametrize("written", [499, 0])
def test_hardly_any_written_questions_mean_one_stage_at_the_rate_of_structural_ones(written, caplog):
    queries = training_queries(written, 50)
    with caplog.at_level("INFO"):
        stages, wanted = plan(queries, RetrieverTrainingParams(learning_rate=5e-5))
    assert [(stage.query_ids, stage.learning_rate) for stage in stages] == [(None, 5e-6)]
    (told,) = caplog.messages
    assert told.startswith("learning rate 5e-06 (structural_learning_rate) in place of 5e-05")
    assert f"{written} of {written + 50} queries" in told
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
    [
        {"train_on": "examples"},
        {"backend": "sentence_transformers"},
        {"batch_size": 64},
        {"accumulation": 2},
    ],
    ids=["asked for", "another trainer", "less than a batch", "less than a step"],
)
def test_written_questions_are_trained_on_alone(params):
    queries = training_queries(500, 50)
    stages, wanted = plan(queries, RetrieverTrainingParams(learning_rate=5e-5, **params))
    assert [(stage.query_ids, stage.learning_rate) for stage in stages] == [(None, None)]
    assert set(wanted["kind"]) == {"example"}


def test_structural_queries_that_nobody_could_score_are_left_out_where_auto_chooses_for_a_loss_that_needs_scores():
    queries = training_queries(4, 3)
    of_file = pd.DataFrame({"query_id": queries["query_id"], "teacher_scores": [[1.0]] * 4 + [[]] * 3})

    def kinds(mined=of_file, **params):
        return teachable(queries, mined, RetrieverTrainingParams(**params))["kind"].value_counts().to_dict()

    every = {"example": 4, "lead": 3}
    assert kinds(loss="distillation") == kinds(loss="margin_mse") == {"example": 4}
    assert kinds() == kinds(loss="infonce") == kinds(loss="distillation", train_on="all") == every
    assert kinds(loss="distillation", stages=[{"queries": "structural"}]) == every
    for scores in ([1.0], []):  # models.reranker has scored all; nobody has scored any
        assert kinds(of_file.assign(teacher_scores=[scores] * 7), loss="distillation") == every
    assert kinds(of_file.iloc[1:], loss="distillation") == {"example": 3}  # what mining left out


def test_few_written_questions_alone_keep_their_own_rate():
    stages, wanted = plan(training_queries(1, 1), RetrieverTrainingParams(learning_rate=5e-5, train_on="examples"))
    assert [stage.learning_rate for stage in stages] == [None] and wanted["kind"].tolist() == ["example"]


def test_stage_of_structural_queries_has_their_rate_unless_it_says_another():
    given = [{"queries": "structural"}, {"queries": "examples"}, {"queries": "structural", "learning_rate": 1e-4}]
    stages, _ = plan(training_queries(500, 50), RetrieverTrainingParams(learning_rate=5e-5, stages=given))
    assert [stage.learning_rate for stage in stages] == [5e-6, None, 1e-4]


def test_stage_is_named_by_the_file_that_its_questions_come_from():
    queries = training_queries(40, 4).assign(file=["squad-train"] * 30 + ["wikiqa-train"] * 10 + [""] * 4)
    given = [{"queries": "squad-train"}, {"queries": "wikiqa-train"}]
    stages, wanted = plan(queries, RetrieverTrainingParams(stages=given))
    assert [(stage.name, len(stage.query_ids)) for stage in stages] == [("squad-train", 30), ("wikiqa-train", 10)]
    assert len(wanted) == 40 and not stages[0].query_ids & stages[1].query_ids
    with pytest.raises(ValueError, match=r"train on 'trec'\. There are: .*squad-train, structural, wikiqa-train, x\."):
        plan(queries, RetrieverTrainingParams(stages=[{"queries": "trec"}]))


@pytest.mark.parametrize("setting", [{"loss": "margin_mse"}, {"loss": "distillation"}, {"in_batch_negatives": False}])
def test_what_has_nothing_to_push_away_is_refused(setting):
    with pytest.raises(ValidationError, match=r"negatives is 0 and .*Set negatives to 1 or more"):
        RetrieverTrainingParams(negatives=0, **setting)
    assert RetrieverTrainingParams(negatives=0) and RetrieverTrainingParams(negatives=1, **setting)


def test_batch_has_a_query_for_each_process():
    with pytest.raises(ValueError, match=r"batch_size is 2, and compute\.ranks is 4"):
        RetrieverTrainingParams(batch_size=2).on_ranks(4)
    assert RetrieverTrainingParams(batch_size=4).on_ranks(4).batch_size == 4


@pytest.mark.parametrize(
    ("theirs", "ours"), [("constant_with_warmup", "constant"), ("polynomial", "linear"), ("cosine", "cosine")]
)
def test_schedules_of_transformers_are_those_that_they_are(theirs, ours):
    assert RetrieverTrainingParams(lr_scheduler_type=theirs).schedule == ours


def test_polynomial_of_transformers_is_linear():
    import torch
    from transformers import get_polynomial_decay_schedule_with_warmup

    from ragsmith.learn.loop import schedule

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_polynomial_decay_schedule_with_warmup(optimizer, 2, 10)
    for step in range(1, 10):
        optimizer.step()
        theirs.step()
        if step >= 2:  # their warm-up begins at 0, ours a step later
            assert theirs.get_last_lr()[0] == pytest.approx(schedule(step, 10, 2, "linear"), abs=1e-6)
