import json
import time
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ragsmith.compute.device import Machine
from ragsmith.retrieve.exclusions import CODE, Block
from ragsmith.retrieve.index import DenseIndex
from ragsmith.retrieve.margins import Margins
from ragsmith.retrieve.mine import mine_hard_negatives
from ragsmith.retrieve.miners import MinerName
from ragsmith.retrieve.mining_audit import SAMPLE_COLUMNS, score_figure
from ragsmith.retrieve.mining_data import MINED_COLUMNS, Mined, MiningData, MiningSettings
from ragsmith.retrieve.teacher import Teacher

CPU = Machine("cpu", "fp32")


def unit(rows: int, dimension: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def mine(
    cosines: dict[str, float],
    documents: dict[str, str],
    right: list[str],
    allowed: set[str] | None = None,
    texts: dict[str, str] | None = None,
    given: pd.DataFrame | None = None,
    **settings: Any,
) -> Mined:
    """Mine for one query at (1, 0), with passages of the given cosines to it."""
    values = np.asarray(list(cosines.values()), dtype=np.float32)
    passages = pd.DataFrame({"passage_id": list(cosines), "document_id": [documents[name] for name in cosines]})
    passages["title"] = passages["passage_id"].str.removesuffix(" again")  # another piece of that section
    passages["text"] = [(texts or {}).get(name, f"{name} {name}") for name in cosines]
    data = MiningData(
        pd.DataFrame({"query_id": ["q"], "text": ["what is it"]}),
        np.asarray([[1, 0]], dtype=np.float32),
        {"q": right},
        DenseIndex(list(cosines), np.stack([values, np.sqrt(1 - values**2)], axis=1)),
        passages,
        allowed,
        given,
    )
    margins = {name: settings.pop(name) for name in list(settings) if name in Margins.__dataclass_fields__}
    return mine_hard_negatives(data, MiningSettings(margins=Margins(**margins), **settings), CPU)


def negatives(mined: Mined) -> list[str]:
    return mined.table["negative_ids"][0]


def dropped(mined: Mined) -> dict[str, int]:
    return {reason: count for reason, count in mined.report["dropped"].items() if count}


COSINES = {
    "above": 0.9,
    "right": 0.8,
    "tight": 0.79,
    "near": 0.77,
    "right again": 0.75,
    "sibling": 0.7,
    "held": 0.6,
    "far": 0.5,
    "tail": 0.1,
}
DOCUMENTS = {name: name for name in COSINES} | {"sibling": "right", "right again": "right"}
# Below .76 = .95 × .8 only `far` and `tail` may be taken: one shares the section, one the document, `held` is of dev.
POOL = set(COSINES) - {"held"}


def test_a_case_worked_by_hand() -> None:
    mined = mine(COSINES, DOCUMENTS, ["right"], POOL, num_negatives=1, top_k=100)
    assert mined.table.columns.tolist() == MINED_COLUMNS
    row = mined.table.iloc[0].to_dict()
    assert row.pop("negative_scores") == pytest.approx([0.5], abs=1e-6)
    assert row == {"query_id": "q", "positive_ids": ["right"], "negative_ids": ["far"], "teacher_scores": []}
    assert dropped(mined) == {
        "positive": 1,
        "same_section": 1,
        "same_document": 1,
        "above_margin": 3,
        "not_needed": 1,
    }
    report = mined.report
    assert (report["queries"], report["mined"], report["without_negative"], report["starved"]) == (1, 1, 0, 0)
    assert report["pool"] == {"passages": 8, "of": 9} and report["looked_at"] == 8 == sum(dropped(mined).values()) + 1


@pytest.mark.parametrize(
    ("num_negatives", "expected", "relaxed"),
    [
        (2, ["far", "tail"], {"0.02": 0, "0.0": 0}),
        (3, ["near", "far", "tail"], {"0.02": 1, "0.0": 0}),  # .77 is below .98 × .8
        (4, ["tight", "near", "far", "tail"], {"0.02": 0, "0.0": 1}),
        (9, ["tight", "near", "far", "tail"], {"0.02": 0, "0.0": 1}),  # starves, and keeps what there is
    ],
)
def test_a_query_that_starves_takes_the_first_margin_that_suffices(
    num_negatives: int, expected: list[str], relaxed: dict[str, int]
) -> None:
    mined = mine(COSINES, DOCUMENTS, ["right"], POOL, num_negatives=num_negatives)
    assert negatives(mined) == expected
    assert mined.report["relaxed_to_margin"] == relaxed
    assert mined.report["starved"] == int(num_negatives > 2)


def test_a_relaxed_margin_that_is_stricter_takes_nothing_away() -> None:
    mined = mine(COSINES, DOCUMENTS, ["right"], relative=0.0, relaxed=(0.5,), num_negatives=50)
    assert "tight" in negatives(mined)


def test_the_same_document_is_searched_when_asked_but_not_the_same_section() -> None:
    mined = mine(COSINES, DOCUMENTS, ["right"], exclude_same_document=False, num_negatives=1)
    assert negatives(mined) == ["sibling"] and "same_document" not in dropped(mined)


@pytest.mark.parametrize(
    ("same_document", "advice"), [(True, "exclude_same_document to false"), (False, "exclude_same_section to false")]
)
def test_where_a_document_is_one_section_the_message_names_what_holds_its_passages_back(same_document, advice) -> None:
    cosines = {"right": 0.8, "right again": 0.5}
    with pytest.raises(ValueError, match=f"keeps a negative, for these reasons: .*same_section.* or set {advice}"):
        mine(cosines, dict.fromkeys(cosines, "right"), ["right"], exclude_same_document=same_document)
    free = {"exclude_same_document": False, "exclude_same_section": False}
    assert negatives(mine(cosines, dict.fromkeys(cosines, "right"), ["right"], **free)) == ["right again"]


def test_the_weakest_of_several_positives_sets_the_margin() -> None:
    mined = mine(COSINES, DOCUMENTS, ["right", "far"], num_negatives=1)
    assert negatives(mined) == ["tail"] and dropped(mined)["positive"] == 2


def test_a_positive_below_zero_still_leaves_room_below_it() -> None:
    cosines = {"right": -0.5, "just below": -0.51, "below": -0.6}
    mined = mine(cosines, {name: name for name in cosines}, ["right"], num_negatives=1, relaxed=())
    assert negatives(mined) == ["below"]


@pytest.mark.parametrize(
    ("limit", "expected", "reason"),
    [
        ({"absolute": 0.25}, ["far", "tail"], "above_absolute_margin"),
        ({"highest": 0.4}, ["tail"], "above_max_score"),
        ({"lowest": 0.65}, ["tight", "near"], "below_min_score"),
    ],
)
def test_limits_on_the_score_drop_what_is_beyond_them_and_are_never_relaxed(
    limit: dict[str, float], expected: list[str], reason: str
) -> None:
    mined = mine(COSINES, DOCUMENTS, ["right"], POOL, relative=0.0, relaxed=(), **limit)
    assert negatives(mined) == expected and dropped(mined)[reason] > 0


def test_without_a_relative_margin_what_scores_above_the_positive_may_be_kept() -> None:
    assert negatives(mine(COSINES, DOCUMENTS, ["right"], POOL, relative=None, num_negatives=1)) == ["above"]


def test_ranks_are_zero_based_of_the_ranking_and_the_last_is_left_out() -> None:
    mined = mine(COSINES, DOCUMENTS, ["right"], relative=None, exclude_same_document=False, skip_top=3, top_k=7)
    assert negatives(mined) == ["near", "sibling", "held"] and mined.report["looked_at"] == 7
    assert dropped(mined) == {"skipped_rank": 3, "same_section": 1}


LONG = "the quick brown fox jumps over the lazy dog and runs far away from all the hounds of the old village"
COPY = LONG + " tonight"


def test_copies_of_the_answer_and_of_the_question_are_no_negatives() -> None:
    texts = {"right": LONG, "far": COPY, "tail": LONG, "near": "what is it"}
    kept = negatives(mine(COSINES, DOCUMENTS, ["right"], POOL, texts, relative=None, num_negatives=9))
    assert kept == ["above", "tight"]
    mined = mine(COSINES, DOCUMENTS, ["right"], POOL, texts, relative=None, num_negatives=9, near_duplicate=None)
    assert negatives(mined) == ["above", "tight", "far"] and dropped(mined)["same_text"] == 2


def test_no_negative_at_all_is_an_error_that_gives_the_reasons_and_names_the_parameters() -> None:
    with pytest.raises(ValueError, match=r"None of 1 queries .* 'above_margin': 1.*Raise top_k"):
        mine({"above": 0.9, "right": 0.5}, {"above": "a", "right": "r"}, ["right"])


def test_no_query_an_empty_pool_and_a_miner_that_finds_nothing_are_called_what_they_are() -> None:
    data, _, _ = many()
    none = replace(data, queries=data.queries.iloc[:0], vectors=data.vectors[:0])
    with pytest.raises(ValueError, match=r"There is no training query to mine negatives for\. Add documents"):
        mine_hard_negatives(none, MiningSettings(), CPU)
    for miner in ("dense", "bm25", "hybrid", "random"):
        with pytest.raises(ValueError, match=r"None of 15 queries .*: none of the 60 passages may become one.*change"):
            mine_hard_negatives(replace(data, pool=set()), MiningSettings(miner=miner), CPU)
    words = replace(data, queries=data.queries.assign(text="zebra"))
    with pytest.raises(ValueError, match=r"the miner 'bm25' finds no passage for them among 48\. Set miner"):
        mine_hard_negatives(words, MiningSettings(miner="bm25"), CPU)


def test_passages_of_the_index_that_the_table_lacks_are_counted_and_one_is_named() -> None:
    data, _, _ = many()
    with pytest.raises(ValueError, match=r"holds 2 passages .* such as p58: .* Build it again: kedro run"):
        mine_hard_negatives(replace(data, passages=data.passages.iloc[:58]), MiningSettings(), CPU)


GIVEN = pd.DataFrame({"query_id": ["q"], "passage_id": ["above"], "score": [np.nan]})


def test_given_negatives_suffice_where_nothing_can_be_mined() -> None:
    tiny: dict[str, Any] = {"cosines": {"above": 0.9, "right": 0.5}, "documents": {"above": "a", "right": "r"}}
    for allowed in (None, set()):
        mined = mine(right=["right"], given=GIVEN, allowed=allowed, **tiny)
        assert negatives(mined) == ["above"] and mined.report["mined"] == mined.report["given"] == 1
        assert mined.report["mean_negative_score"] is None  # of the mined ones
    dropped_alone = mine(right=["right"], given=GIVEN, too_few="drop", num_negatives=1, **tiny)
    assert negatives(dropped_alone) == ["above"]
    with pytest.raises(ValueError, match="None of 1 queries"):
        mine(right=["right"], given=GIVEN.assign(passage_id="right"), **tiny)


def test_a_teacher_scores_given_negatives_too(tiny_reranker) -> None:
    from sentence_transformers import CrossEncoder

    data, _, _ = many()
    pairs = [("q0", "p50"), ("q3", "p41"), ("q3", "p3")]  # p3 answers q3
    given = pd.DataFrame(pairs, columns=["query_id", "passage_id"]).assign(score=1.0)
    settings = MiningSettings(top_k=30, margins=Margins(0.0, ()), rerank_k=12, num_negatives=3)
    mined = mine_hard_negatives(replace(data, given=given), settings, CPU, Teacher.load(tiny_reranker, CPU))
    plain = mine_hard_negatives(data, settings, CPU, Teacher.load(tiny_reranker, CPU))
    assert mined.report["given"] == 2 and plain.report["given"] == 0
    found, before = mined.table.set_index("query_id"), plain.table.set_index("query_id")
    assert found.at["q0", "negative_ids"][0] == "p50" and found.at["q3", "negative_ids"][0] == "p41"
    assert found.at["q1", "negative_ids"] == before.at["q1", "negative_ids"]
    text_of = dict(
        zip(data.passages["passage_id"], data.passages["title"] + "\n" + data.passages["text"], strict=True)
    )
    scores = pd.DataFrame({"query_id": ["q0"], "passage_id": ["p0"], "score": [9.0]})
    with_scores = replace(data, given=given, positive_scores=scores)
    taught = mine_hard_negatives(with_scores, settings, CPU, Teacher.load(tiny_reranker, CPU))
    pd.testing.assert_frame_equal(taught.table, mined.table)  # another teacher's are not mixed in
    alone = mine_hard_negatives(with_scores, settings, CPU)
    assert (taught.report["given_scores"], alone.report["given_scores"]) == (0, 1)
    model = CrossEncoder(str(tiny_reranker), device="cpu")
    for row, text in zip(mined.table.itertuples(), data.queries["text"], strict=True):
        pairs = [(text, text_of[name]) for name in [*row.positive_ids, *row.negative_ids]]
        assert row.teacher_scores == pytest.approx(model.predict(pairs, show_progress_bar=False).tolist(), abs=1e-4)


def test_texts_of_a_hundred_thousand_characters_are_cut_at_the_limit_in_little_time_and_memory(
    tiny_encoder, tiny_reranker
) -> None:
    length, rng = 100_000, np.random.default_rng(0)
    texts = [" ".join(rng.choice([f"word{n}" for n in range(3_000)], length // 8))[:length] for _ in range(8)]
    texts[1] = texts[0][:-1]  # a near-duplicate of an answer
    passages = pd.DataFrame({"passage_id": [f"p{number}" for number in range(8)], "text": texts})
    passages = passages.assign(document_id=passages["passage_id"], title="")
    queries = pd.DataFrame({"query_id": ["q0", "q5"], "text": [texts[0] + " what", texts[5] + " what"]})
    teacher = Teacher.load(tiny_reranker, CPU)
    tracemalloc.start()
    begin = time.monotonic()
    vectors = tiny_encoder.encode(texts, "passage")
    asked = tiny_encoder.encode(queries["text"].tolist(), "query")
    index = DenseIndex(passages["passage_id"].tolist(), vectors)
    data = MiningData(queries, asked, {"q0": ["p0"], "q5": ["p5"]}, index, passages)
    miners: tuple[MinerName, ...] = ("dense", "bm25", "hybrid")
    for miner in miners:
        settings = MiningSettings(miner=miner, margins=Margins(None, ()), num_negatives=3)
        mined = mine_hard_negatives(data, settings, CPU, teacher)
        assert mined.table["negative_ids"].map(len).tolist() == [3, 3]
        assert "p1" not in mined.table["negative_ids"][0] and dropped(mined)["near_duplicate"] == 1
    seconds, peak = time.monotonic() - begin, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 120 and peak < 100e6
    # What stands behind the limit changes nothing.
    assert {len(ids) for ids in tiny_encoder.token_ids(texts[:2], "passage")} == {tiny_encoder.max_tokens}
    short = [text[: 12 * tiny_encoder.max_tokens] for text in texts]
    np.testing.assert_allclose(tiny_encoder.encode(short, "passage"), vectors, atol=1e-5)
    pair = np.zeros(1, dtype=np.int64)
    cut, whole = (teacher.score(["what is it"], [text], pair, pair) for text in (short[2], texts[2]))
    np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_queries_without_positives_and_positives_without_a_vector_are_named() -> None:
    with pytest.raises(ValueError, match="1 queries have no positive passage, such as q"):
        mine(COSINES, DOCUMENTS, [])
    with pytest.raises(ValueError, match="does not hold the positive passage gone"):
        mine(COSINES, DOCUMENTS, ["gone"])


def test_a_query_with_too_few_keeps_them_or_is_left_out_or_gets_random_ones_that_pass_the_same_tests() -> None:
    """Below .55 are `far` and `tail`; the window ends before both, or between them."""
    more: dict[str, Any] = {"relaxed": (), "highest": 0.55, "num_negatives": 2, "top_k": 7}
    fewer = mine(COSINES, DOCUMENTS, ["right"], POOL, **more)
    assert negatives(fewer) == ["far"] and fewer.report["with_fewer"] == 1
    filled = mine(COSINES, DOCUMENTS, ["right"], POOL, too_few="backfill_random", **more)
    assert negatives(filled) == ["far", "tail"] and filled.report["backfilled"] == 1
    filled = mine(COSINES, DOCUMENTS, ["right"], POOL, too_few="backfill_random", **more | {"top_k": 3})
    assert sorted(negatives(filled)) == ["far", "tail"] and filled.report["backfilled"] == 2


def test_queries_with_too_few_are_left_out_and_it_is_an_error_when_none_is_left() -> None:
    data, _, _ = many()
    settings = MiningSettings(top_k=40, num_negatives=4, margins=Margins(0.5, ()), too_few="drop")
    everything = mine_hard_negatives(data, replace(settings, too_few="keep_fewer"), CPU)
    mined = mine_hard_negatives(data, settings, CPU)
    enough = everything.table[everything.table["negative_ids"].map(len) >= 4]
    assert mined.table["query_id"].tolist() == enough["query_id"].tolist() and 0 < len(enough) < 15
    assert mined.report["left_out"] == 15 - len(enough) and mined.report["queries"] == 15
    with pytest.raises(
        ValueError, match=r"None of 15 queries keeps as many .*num_negatives \(99\).*too_few to keep_f"
    ):
        mine_hard_negatives(data, replace(settings, num_negatives=99), CPU)


@pytest.mark.parametrize("miner", ["dense", "bm25", "hybrid", "random"])
@pytest.mark.parametrize("select", ["top", "random"])
@pytest.mark.parametrize("too_few", ["keep_fewer", "backfill_random", "drop"])
def test_a_corpus_smaller_than_the_window_gives_no_positive_no_double_and_no_error(
    miner: Any, select: Any, too_few: Any
) -> None:
    cosines = {"right": 0.9, "what": 0.5, "it": 0.2}

    def tiny() -> Mined:
        names = {name: name for name in cosines}
        more = {"num_negatives": 15, "top_k": 200}
        return mine(cosines, names, ["right"], miner=miner, select=select, too_few=too_few, **more)

    if too_few == "drop":
        with pytest.raises(ValueError, match="They keep 2 at most"):
            tiny()
    else:
        assert sorted(negatives(tiny())) == ["it", "what"]


def many(seed: int = 1) -> tuple[MiningData, dict[str, str], dict[str, str]]:
    """60 passages, 15 queries; documents and sections by passage."""
    ids = [f"p{number}" for number in range(60)]
    document_of = {passage_id: f"d{number // 4}" for number, passage_id in enumerate(ids)}
    section_of = {passage_id: f"s{number // 2}" for number, passage_id in enumerate(ids)}
    positives = {f"q{number}": ids[number : number + 1 + number % 2] for number in range(15)}
    passages = pd.DataFrame(
        {
            "passage_id": ids,
            "document_id": list(document_of.values()),
            "title": list(section_of.values()),
            "text": [f"text of {passage_id} alone" for passage_id in ids],
        }
    )
    queries = pd.DataFrame({"query_id": list(positives), "text": [f"alone p{number}" for number in range(15)]})
    pool = {passage_id for passage_id in ids if int(document_of[passage_id][1:]) < 12}
    index = DenseIndex(ids, unit(60, 4, seed))
    return MiningData(queries, unit(15, 4, seed=2), positives, index, passages, pool), document_of, section_of


@pytest.mark.parametrize(
    "settings",
    [
        MiningSettings(top_k=40, margins=Margins(0.5, (0.3, 0.0))),
        MiningSettings(top_k=45, num_negatives=3, margins=Margins(0.3, (0.1,)), exclude_same_document=False),
    ],
)
@pytest.mark.parametrize("block", [1 << 19, 400])
def test_it_finds_what_a_slow_loop_over_all_pairs_finds_and_the_audit_adds_up(
    settings: MiningSettings, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragsmith.retrieve.mine.QUERIES_AT_ONCE", block // 100)
    data, document_of, section_of = many()
    mined = mine_hard_negatives(data, settings, CPU)
    ids = data.index.passage_ids
    expected = {}
    for query, (query_id, right) in zip(data.vectors, data.positives.items(), strict=True):
        score = {passage_id: float(query @ vector) for passage_id, vector in zip(ids, data.index.vectors, strict=True)}
        nearest = sorted(data.pool or (), key=lambda passage_id: -score[passage_id])[: settings.top_k]
        own = {document_of[passage_id] for passage_id in right}
        same = {(document_of[passage_id], section_of[passage_id]) for passage_id in right}
        fits = [
            name
            for name in nearest
            if name not in right
            and (document_of[name], section_of[name]) not in same
            and not (settings.exclude_same_document and document_of[name] in own)
        ]
        weakest = min(score[name] for name in right)
        for margin in (settings.margins.relative, *settings.margins.relaxed):
            kept = [name for name in fits if score[name] <= weakest - margin * abs(weakest)][: settings.num_negatives]
            if len(kept) == settings.num_negatives:
                break
        expected[query_id] = kept
    assert dict(zip(mined.table["query_id"], mined.table["negative_ids"], strict=True)) == expected
    report = mined.report
    assert 0 < report["mined"] < 15 and report["mined"] + report["without_negative"] == 15
    assert report["starved"] >= sum(report["relaxed_to_margin"].values()) > 0
    assert report["looked_at"] == 15 * settings.top_k == sum(report["dropped"].values()) + report["kept"]
    assert report["kept"] == report["negatives"]


def test_drawn_negatives_depend_on_the_seed_and_on_nothing_else() -> None:
    data, _, _ = many()

    def drawn(seed: int, order: slice) -> dict[str, list[str]]:
        part = MiningData(
            data.queries.iloc[order], data.vectors[order], data.positives, data.index, data.passages, data.pool
        )
        settings = MiningSettings(select="random", margins=Margins(0.0), seed=seed)
        found = mine_hard_negatives(part, settings, CPU).table
        return dict(zip(found["query_id"], found["negative_ids"], strict=True))

    everything = drawn(0, slice(None))
    assert drawn(0, slice(3, 9)).items() <= everything.items()
    assert drawn(0, slice(None, None, -1)) == everything
    assert drawn(1, slice(None)) != everything
    top = mine_hard_negatives(data, MiningSettings(margins=Margins(0.0)), CPU).table
    assert everything != dict(zip(top["query_id"], top["negative_ids"], strict=True))


def test_what_random_mining_finds_is_filled_up_from_the_pool_alone_and_no_test_is_left_out() -> None:
    data, document_of, _ = many()
    settings = MiningSettings(top_k=3, num_negatives=6, too_few="backfill_random", margins=Margins(0.05, ()))
    mined = mine_hard_negatives(data, settings, CPU)
    assert mined.report["backfilled"] > 0
    row_of = {passage_id: row for row, passage_id in enumerate(data.index.passage_ids)}
    for number, row in enumerate(mined.table.itertuples()):
        assert set(row.negative_ids) <= (data.pool or set()) and len(set(row.negative_ids)) == len(row.negative_ids)
        own = {document_of[passage_id] for passage_id in row.positive_ids}
        assert not own & {document_of[passage_id] for passage_id in row.negative_ids}
        weakest = min(float(data.vectors[number] @ data.index.vectors[row_of[name]]) for name in row.positive_ids)
        assert all(score <= weakest - 0.05 * abs(weakest) + 1e-6 for score in row.negative_scores)


def test_a_teacher_judges_in_the_place_of_the_cosine_and_its_scores_stand_beside_the_ids(tiny_reranker) -> None:
    from sentence_transformers import CrossEncoder

    data, _, _ = many()
    settings = MiningSettings(top_k=30, margins=Margins(0.0, ()), rerank_k=12, num_negatives=3)
    mined = mine_hard_negatives(data, settings, CPU, Teacher.load(tiny_reranker, CPU))
    assert mined.report["judged_by"] == "teacher" and mined.report["dropped"]["not_rescored"] > 0
    model = CrossEncoder(str(tiny_reranker), device="cpu")
    text_of = dict(
        zip(data.passages["passage_id"], data.passages["title"] + "\n" + data.passages["text"], strict=True)
    )
    some = 0
    for row, text in zip(mined.table.itertuples(), data.queries["text"], strict=True):
        pairs = [(text, text_of[name]) for name in [*row.positive_ids, *row.negative_ids]]
        assert row.teacher_scores == pytest.approx(model.predict(pairs, show_progress_bar=False).tolist(), abs=1e-4)
        right, wrong = row.teacher_scores[: len(row.positive_ids)], row.teacher_scores[len(row.positive_ids) :]
        assert wrong == sorted(wrong, reverse=True) and all(score <= min(right) for score in wrong)
        some += len(wrong)
    assert some > 10


def test_the_audit_shows_every_candidate_of_some_queries_with_its_reason_and_a_figure() -> None:
    data, _, _ = many()
    mined = mine_hard_negatives(data, MiningSettings(top_k=40, audit_queries=4, margins=Margins(0.3)), CPU)
    samples = mined.samples
    assert samples.columns.tolist() == SAMPLE_COLUMNS and samples["query_id"].nunique() == 4 and len(samples) == 160
    kept = samples[samples["action"] == "kept"].groupby("query_id")["passage_id"].agg(list)
    found = mined.table.set_index("query_id")["negative_ids"]
    assert all(found[query_id] == passages for query_id, passages in kept.items())
    assert set(samples.loc[samples["action"] == "dropped", "reason"]) <= set(mined.report["dropped"])
    histogram = mined.report["histogram"]
    assert sum(histogram["positives"]) == sum(map(len, data.positives.values()))
    assert sum(histogram["kept"]) == mined.report["kept"]
    figure = json.loads(score_figure(mined.report).to_json())
    assert [trace["name"].split()[0] for trace in figure["data"]] == ["positives", "kept", "dropped"]
    assert json.loads(json.dumps(mined.report)) == mined.report


@pytest.mark.parametrize("wanted", [1, 2, 4])
def test_a_pool_that_is_hardly_larger_than_the_window_fills_up_all_that_it_can(wanted: int) -> None:
    passages = [f"p{number:03}" for number in range(130)]
    table = pd.DataFrame({"passage_id": passages, "document_id": passages, "title": passages, "text": passages})
    queries = pd.DataFrame({"query_id": [f"q{n}" for n in range(200)], "text": [f"question {n}" for n in range(200)]})
    # All of the hundred in the window score above the margin: what can be taken lies below it alone.
    angles = np.concatenate([np.zeros(101), np.full(29, np.pi / 2)]).astype(np.float32)
    index = DenseIndex(passages, np.stack([np.cos(angles), np.sin(angles)], axis=1))
    vectors = np.tile(np.float32([[1, 0]]), (200, 1))
    data = MiningData(queries, vectors, {key: ["p000"] for key in queries["query_id"]}, index, table)
    settings = MiningSettings(num_negatives=wanted, too_few="backfill_random", margins=Margins(0.05, ()))
    mined = mine_hard_negatives(data, settings, CPU)
    assert mined.table["negative_ids"].map(len).tolist() == [wanted] * 200
    assert {found for some in mined.table["negative_ids"] for found in some} <= set(passages[101:])


def test_margin_of_logits_is_that_of_their_sigmoids() -> None:
    def kept(positive: float, candidate: float, logits: bool) -> bool:
        names = {"right": 1.0, "other": 0.5}
        block = Block(*block_of(names))
        scores, reference = np.float32([[candidate]]), np.float32([positive])
        Margins(0.05, ()).apply(block, scores, reference, 0, logits)
        return bool(block.open[0, 0])

    # At a logit of 0.2, 95 % of the number is 0.19, and of the probability 0.522 (a logit of 0.09).
    assert kept(0.2, 0.15, False) and not kept(0.2, 0.15, True) and kept(0.2, 0.05, True)
    assert not kept(8.5, 8.4, True) and not kept(8.5, 3.5, True) and kept(8.5, 2.5, True)
    assert kept(-3.0, -3.2, True) and not kept(-3.0, -3.0, True)


def block_of(names: dict[str, float]) -> tuple[np.ndarray, ...]:
    """One query with one positive and one candidate."""
    first = np.zeros(1, dtype=np.int64)
    return (
        first,
        np.ones((1, 1), dtype=np.int64),
        np.float32([[names["other"]]]),
        np.full((1, 1), CODE["kept"]),
        first,
        first,
        np.float32([names["right"]]),
    )


def test_more_negatives_than_the_teacher_reads_are_refused_before_it_reads(tiny_reranker) -> None:
    data = MiningData(
        pd.DataFrame({"query_id": ["q"], "text": ["what"]}),
        np.float32([[1, 0]]),
        {"q": ["a"]},
        DenseIndex(["a", "b"], np.float32([[1, 0], [0, 1]])),
        pd.DataFrame({"passage_id": ["a", "b"], "document_id": ["a", "b"], "title": "", "text": ["x", "y"]}),
    )
    teacher = Teacher.load(tiny_reranker, CPU)
    with pytest.raises(ValueError, match=r"rerank_k is 20 and num_negatives 30: .* Raise rerank_k"):
        mine_hard_negatives(data, MiningSettings(num_negatives=30), CPU, teacher)
