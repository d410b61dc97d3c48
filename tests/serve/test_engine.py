import shutil

import pytest
from tiny_generators import saved_reader

from ragsmith.compute.device import Machine
from ragsmith.read.reading import Span
from ragsmith.retrieve.models import ModelError
from ragsmith.serve.bundle import BundleError, build_bundle
from ragsmith.serve.engine import QUESTION_LIMIT, Engine, explaining_sentence, supporting_sentence


@pytest.fixture(scope="session")
def engine(tiny_bundle) -> Engine:
    return Engine.load(tiny_bundle, Machine("cpu", "fp32"))


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid", None])
def test_hits_are_whole_passages_best_first(engine, mode):
    hits = engine.search("delete a directory tree", 3, mode)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1)) and len({h.passage_id for h in hits}) == len(
        hits
    )
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    tree = next(hit for hit in hits if hit.passage_id == "p1")
    assert (tree.document_id, tree.title) == ("d1", "shutil.rmtree") and tree.text.startswith("shutil.rmtree(path)")


def test_words_of_the_question_find_their_passage(engine):
    (hit,) = engine.search("square root", 3, "bm25")
    assert hit.passage_id == "p3" and hit.score > 0


def test_cosine_is_the_same_in_each_mode(engine):
    cosines = [
        next(hit.cosine for hit in engine.search("square root", 3, mode) if hit.passage_id == "p3")
        for mode in ("dense", "bm25", "hybrid")
    ]
    assert cosines[0] == pytest.approx(cosines[1], abs=1e-6) == pytest.approx(cosines[2], abs=1e-6)
    assert engine.search("square root", 1, "dense")[0].score == pytest.approx(
        engine.search("square root", 1, "dense")[0].cosine, abs=1e-5
    )


def test_bundle_decides_the_mode_and_how_many_passages_are_read(engine):
    assert engine.search("square root") == engine.search("square root", 10, "hybrid")
    answer = engine.ask("square root")
    assert list(answer.hits) == engine.search("square root", 2, "hybrid")


def test_answer_is_a_span_of_the_passage_that_it_names(engine):
    answer = engine.ask("delete a directory tree")
    assert answer.text and answer.text in answer.hit.text and answer.hit in answer.hits
    assert 0 < answer.score <= 1 and answer.question == "delete a directory tree"
    assert answer.sentence and " ".join(answer.sentence.split()) == answer.sentence


def test_nothing_found_is_an_empty_answer(engine):
    answer = engine.ask("zzz???", "bm25")
    assert (answer.text, answer.sentence, answer.score, answer.hit, answer.hits) == ("", "", 0.0, None, ())


def test_more_passages_than_there_are_gives_all(engine):
    assert len(engine.search("delete", 50, "dense")) == 3


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("", "is empty"),
        (" \n\t", "is empty"),
        ("w" * (QUESTION_LIMIT + 1), "has 2001 characters; at most 2000"),
        ("caf\udce9", "not valid UTF-8"),
    ],
)
def test_question_that_cannot_be_asked_is_refused_with_the_reason(engine, question, told):
    for ask in (engine.search, engine.ask):
        with pytest.raises(ValueError, match=told):
            ask(question)


@pytest.mark.parametrize("k", [0, -1])
def test_less_than_one_passage_is_refused(engine, k):
    with pytest.raises(ValueError, match=f"k is {k}"):
        engine.search("delete", k)


def test_unknown_mode_is_refused_with_those_that_are_there(engine):
    with pytest.raises(ValueError, match=r"Unknown search mode 'sparse'\. There are: bm25, dense, hybrid"):
        engine.search("delete", 3, "sparse")


@pytest.mark.parametrize(
    "question",
    ["w" * QUESTION_LIMIT, "word " * (QUESTION_LIMIT // 5), "🙂" * QUESTION_LIMIT, "\x00\x1b[2J?", "[SEP] [MASK]"],
)
def test_strange_and_long_questions_get_an_answer(engine, question):
    answer = engine.ask(question, "dense")
    assert answer.hit is not None and answer.text in answer.hit.text


@pytest.mark.parametrize("name", ["retriever/model.safetensors", "reader/model.safetensors", "index/vectors.npy"])
def test_bundle_with_a_cut_file_is_not_opened(tiny_bundle, tmp_path, name):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (bundle / name).write_bytes((bundle / name).read_bytes()[:-10])
    with pytest.raises(BundleError, match=f"{name} was altered or cut short"):
        Engine.load(bundle)


def test_bundle_errors_and_model_errors_are_value_errors_which_the_command_prints():
    assert issubclass(BundleError, ValueError) and issubclass(ModelError, ValueError)


TEXT = "os.walk(top)\n\nYield the folders. Each is a tuple of three, such as os.walk. Links are not followed."


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        (TEXT, "os.walk", "Yield the folders."),
        (TEXT, "tuple", "Each is a tuple of three, such as os.walk."),
        ("Yield the folders. Links are not.", "os.walk", "Yield the folders."),  # the title, say
        ("One sentence about\na thing. Another.", "thing", "One sentence about a thing."),
        ("x\n\n1. The first sentence tells.", "x", "The first sentence tells."),
        ("f(x)", "f", "f(x)"),
        ("", "", ""),
        (" \n ", "", ""),
    ],
)
def test_sentence_that_explains_the_answer(text, answer, expected):
    assert explaining_sentence(text, answer) == expected


@pytest.fixture(scope="module", params=["rag_token", "rag_sequence", "fid", "causal"])
def writing_engine(request, tiny_bundle, tmp_path_factory):
    """The tiny bundle with a reader that writes."""
    folder = tmp_path_factory.mktemp("writing")
    parts = (tiny_bundle / "retriever", tiny_bundle / "index", saved_reader(request.param, folder))
    settings = {"mode": "hybrid", "passages": 2}
    bundle = build_bundle(*parts, tiny_bundle / "passages.parquet", settings, {}, folder / "bundle")
    return Engine.load(bundle, Machine("cpu", "fp32"))


def test_reader_that_writes_answers_from_a_bundle(writing_engine):
    answer = writing_engine.ask("delete a directory tree")
    assert answer.text and answer.hit in answer.hits and 0 <= answer.score <= 1
    assert answer.quoted == (answer.text in writing_engine.inputs[answer.hit.passage_id])
    assert writing_engine.ask("zzz???", "bm25").hit is None


def test_written_answer_is_shown_beside_the_sentence_that_is_nearest(writing_engine, monkeypatch):
    monkeypatch.setattr(
        writing_engine.reader, "answer", lambda *asked: Span("A whole directory tree", "p1", -1, -1, 0.5)
    )
    answer = writing_engine.ask("delete a directory tree")
    assert (answer.text, answer.quoted, answer.hit.passage_id) == ("A whole directory tree", False, "p1")
    assert answer.sentence == "Delete an entire directory tree."


def test_empty_written_answer_is_none(writing_engine, monkeypatch):
    monkeypatch.setattr(writing_engine.reader, "answer", lambda *asked: Span("", "p1", -1, -1, 0.9))
    answer = writing_engine.ask("delete a directory tree")
    assert (answer.text, answer.sentence, answer.score, answer.hit) == ("", "", 0.0, None) and len(answer.hits) == 2


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("One is odd. Two is even. Three is odd.", "the even number two", "Two is even."),
        ("One is odd. Two is even.", "Paris", ""),
        ("", "Paris", ""),
        ("日本語 です。 Straße.", "STRASSE", "日本語 です。 Straße."),
    ],
)
def test_supporting_sentence_shares_most_words_with_the_answer(text, answer, expected):
    assert supporting_sentence(text, answer) == expected
