"""A whole run on questions of which nobody knows the passage: a knowledge base, and answers by line."""

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.slow
ANIMALS = (
    "ant bear cat deer eel fox goat hare ibis jay kiwi lynx mole newt owl pig quail rat seal toad urial viper wolf "
    "yak zebra crab duck emu frog gull"
).split()
PLACES = "tree cave sea hill swamp barn lake field forest desert".split()
PLACE_OF = {animal: PLACES[number % 10] for number, animal in enumerate(ANIMALS)}
SHARES = {"train": ANIMALS[:20], "val": ANIMALS[20:24], "test": ANIMALS[24:]}
ALONE = "data_collection.sample.enabled=false,retriever_training.batch_size=4,rag_training.batch_size=4"


@pytest.fixture
def records(project):
    """rag-end2end-retriever's folder about thirty animals, and one training question that no passage answers."""
    folder = project.data / "01_raw/records"
    (folder / "kb").mkdir(parents=True)
    rows = [
        f"{animal}\tThe {animal} is an animal. It sleeps in its {place} all day.\n"
        for animal, place in PLACE_OF.items()
    ]
    (folder / "kb/zoo.csv").write_text("".join(rows))
    for split, animals in SHARES.items():
        asked = [(f"where does the {animal} sleep ?", PLACE_OF[animal]) for animal in animals]
        asked += [("what does the unicorn eat ?", "moonlight")] if split == "train" else []
        for part, suffix in enumerate(("source", "target")):
            (folder / f"{split}.{suffix}").write_text("".join(f"{pair[part]}\n" for pair in asked))
    return folder


def table(project, name: str) -> pd.DataFrame:
    return pd.read_parquet(project.data / name)


def report(project, name: str) -> dict:
    return json.loads((project.data / "08_reporting" / name).read_text())


def test_without_any_judged_question_answers_are_learned_and_measured_and_retrieval_by_the_answers(
    project, records
) -> None:
    log = project.run("--params", ALONE)
    (warning,) = [line for line in log.splitlines() if "WARNING" in line]
    assert "1 of 21 training questions teach the reader nothing: nobody said" in warning
    queries, qrels = table(project, "04_feature/queries.parquet"), table(project, "04_feature/qrels.parquet")
    counts = queries[queries["kind"] != "lead"].groupby(["split", "origin"]).size().to_dict()
    # What guides training is guessed from the answers; test is not.
    assert counts == {("train", "distant"): 20, ("train", "answers"): 1, ("dev", "distant"): 4, ("test", "answers"): 6}
    test = queries[queries["split"] == "test"]
    assert not qrels["query_id"].isin(test["query_id"]).any() and set(test["passage_id"]) == {""}
    title_of = table(project, "03_primary/passages.parquet").set_index("passage_id")["title"]
    guessed = queries[queries["origin"] == "distant"]
    assert all(title_of[row.passage_id] in row.text for row in guessed.itertuples())
    assert report(project, "gold.json")["records"]["no_passage_holds_an_answer"] == 1
    mined = table(project, "05_model_input/mined.parquet")
    assert "what does the unicorn eat ?" not in set(queries.set_index("query_id").loc[mined["query_id"], "text"])
    reader = report(project, "reader.json")
    assert reader["unjudged"] == reader["examples"] == 20 and reader["without_span"] == 0
    assert reader["without_answer"] == 1  # the unicorn's
    metrics = project.metrics()
    assert {name for scores in metrics["retrieval"].values() for name in scores} == {"answer_recall@10"}
    assert metrics["queries"]["test"] == 6 and metrics["queries"]["answers_alone"] == 6
    assert set(metrics["conditions"]) == {"retrieved", "base_retrieved"} and metrics["decomposition"] is None
    per_query = table(project, "08_reporting/per_query.parquet")
    assert len(per_query) == 6 and not [name for name in per_query if name.startswith(("rank_", "ndcg"))]
    assert (project.data / "08_reporting/report.html").is_file()


def test_beside_judged_questions_those_with_answers_alone_are_read_and_not_ranked(project, records) -> None:
    articles = [
        {
            "title": f"{animal} (nest)",
            "paragraphs": [
                {
                    "context": f"A young {animal} rests in a {place}.",
                    "qas": [
                        {
                            "id": animal,
                            "question": f"Where does a young {animal} rest?",
                            "answers": [{"text": place, "answer_start": len(f"A young {animal} rests in a ")}],
                        }
                    ],
                }
            ],
        }
        for animal, place in PLACE_OF.items()
    ]
    for name, part in (("dev", articles[:5]), ("test", articles[5:12])):
        (records / f"nests-{name}.json").write_text(json.dumps({"data": part}))
    project.run("--params", ALONE)
    queries = table(project, "04_feature/queries.parquet")
    counts = queries[queries["split"] != "train"].groupby(["split", "origin"]).size().to_dict()
    assert counts == {("dev", "answers"): 4, ("dev", "gold"): 5, ("test", "answers"): 6, ("test", "gold"): 7}
    assert report(project, "retriever.json")["without_positive"] == {"dev": 4, "test": 6, "train": 1}
    metrics, per_query = project.metrics(), table(project, "08_reporting/per_query.parquet")
    assert metrics["queries"]["test"] == 7 and metrics["queries"]["answers_alone"] == 6
    assert metrics["run"]["test_questions"] == len(per_query) == 13 and metrics["decomposition"]["queries"] == 7
    assert per_query["ndcg@10_tuned"].notna().sum() == per_query["em_oracle"].notna().sum() == 7
    assert per_query["category"].eq("unjudged").sum() == 6
    assert metrics["answers"]["em"]["mean"] == pytest.approx(per_query["em"].mean())
    judged = per_query[per_query["ndcg@10_tuned"].notna()]
    assert metrics["retrieval"]["tuned"]["ndcg@10"]["mean"] == pytest.approx(judged["ndcg@10_tuned"].mean())
    # A second version is compared question by question: those without a rank say nothing about ranks.
    project.run("--params", f"{ALONE},evaluation.seed=1")
    done = project.kedro("compare", "previous", "latest", "--env", "test")
    assert done.returncode == 0, done.stdout


def test_without_distant_supervision_a_run_that_has_nothing_else_to_learn_from_says_so(project, records) -> None:
    done = project.kedro(
        "run", "--env", "test", "--params", f"{ALONE},data_collection.records.distant_supervision=false"
    )
    assert done.returncode != 0 and "None of 21 training queries has a right passage" in done.stdout
