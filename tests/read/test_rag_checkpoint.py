import json
import shutil

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DPRConfig,
    DPRContextEncoder,
    DPRQuestionEncoder,
    RagSequenceForGeneration,
    RagTokenForGeneration,
    RagTokenizer,
)

from ragsmith.compute.batching import padded
from ragsmith.read.objectives import log_prior
from ragsmith.read.rag_export import export_rag
from ragsmith.read.rag_format import composed_passage
from ragsmith.read.rag_import import import_rag
from ragsmith.read.readers import load_reader, reader_kind
from ragsmith.read.reading import ReadingPassage
from ragsmith.retrieve.encoder import Encoder, load_sentence_transformer
from ragsmith.retrieve.models import ModelError, check_model_folder, resolve_model

HF = {"rag_token": RagTokenForGeneration, "rag_sequence": RagSequenceForGeneration}
QUESTIONS = ["How do I delete a directory?", "What is the capital?"]
TITLES = [['"shutil"', "math"], ["Paris", "France"]]
TEXTS = [["shutil.rmtree(path)", "math.sqrt(x)"], ["Paris  / France and more", "the square root"]]
SCORES = [[1.5, -0.5], [0.2, 0.9]]
ANSWERS = ["shutil.rmtree deletes", "Paris"]
TEMPLATE = "{passage} // {question}"


@pytest.fixture(scope="session")
def cls_encoder(tmp_path_factory):
    """A CLS-pooled BERT without normalisation, as sentence-transformers saves it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    model = load_sentence_transformer(resolve_model("random:bert-2x64"))
    folder = tmp_path_factory.mktemp("encoder") / "cls"
    SentenceTransformer(modules=[model[0], Pooling(64, pooling_mode="cls")], device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="session")
def rag_folder(tmp_path_factory, generators):
    """A RAG checkpoint as transformers saves it, by class and generator."""
    folder = tmp_path_factory.mktemp("rag")

    def build(kind, name):
        target = folder / f"{kind}-{name}"
        if target.is_dir():
            return target
        tokenizer = AutoTokenizer.from_pretrained(resolve_model("random:bert-2x64"))
        torch.manual_seed(0)
        config = DPRConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=128,
        )
        generator = AutoModelForSeq2SeqLM.from_pretrained(generators(name))
        generator.config.prefix = "answer: " if name == "t5" else None
        if name == "t5":
            generator.config.bos_token_id = None
        ids = {id_: getattr(generator.generation_config, id_) for id_ in ("pad_token_id", "eos_token_id")}
        ids["decoder_start_token_id"] = generator.generation_config.decoder_start_token_id
        model = HF[kind](
            question_encoder=DPRQuestionEncoder(config), generator=generator, n_docs=2, max_combined_length=80, **ids
        )
        model.generation_config = generator.generation_config
        model.generation_config.max_length = 9
        model.generation_config.num_beams = 2
        model.save_pretrained(target)
        RagTokenizer(tokenizer, AutoTokenizer.from_pretrained(generators(name))).save_pretrained(target)
        return target

    return build


def composed(title_sep=" / "):
    return [
        [
            ReadingPassage(f"p{row}{place}", composed_passage(title, text, title_sep), SCORES[row][place])
            for place, (title, text) in enumerate(zip(titles, texts, strict=True))
        ]
        for row, (titles, texts) in enumerate(zip(TITLES, TEXTS, strict=True))
    ]


def their_contexts(model, tokenizer, all_titles=TITLES, all_texts=TEXTS):
    """What transformers' retriever gives for these passages: its own composition, padding and tokens."""
    from transformers import RagRetriever

    retriever = RagRetriever.__new__(RagRetriever)
    retriever.config, retriever.generator_tokenizer = model.config, tokenizer
    docs = [{"title": titles, "text": texts} for titles, texts in zip(all_titles, all_texts, strict=True)]
    prefix = getattr(model.generator.config, "prefix", None)
    ids, mask = retriever.postprocess_docs(docs, QUESTIONS, prefix, 2, return_tensors="pt")
    return {"context_input_ids": ids, "context_attention_mask": mask, "doc_scores": torch.tensor(SCORES)}


def our_loss(reader, passages, targets):
    prior = log_prior(*reader.scores(passages))
    with torch.no_grad():
        return reader.evidence(QUESTIONS, passages, targets, prior, torch.isfinite(prior), False).nll


def our_answers(reader, passages):
    with torch.inference_mode():
        return reader.generate_ids(QUESTIONS, passages, log_prior(*reader.scores(passages)))


@pytest.mark.parametrize("name", ["bart", "t5"])
@pytest.mark.parametrize("kind", ["rag_token", "rag_sequence"])
def test_imported_checkpoint_gives_the_loss_of_transformers(rag_folder, kind, name, machine, tmp_path):
    folder = rag_folder(kind, name)
    found = import_rag(folder, tmp_path / "reader", tmp_path / "encoder")
    reader = load_reader(found.reader, machine)
    reader.model.eval()
    model = HF[kind].from_pretrained(folder).eval()
    if name == "t5":
        model.config.generator.bos_token_id = None
    targets = reader.targets(ANSWERS)
    labels = padded([[reader.start, *target] for target in targets], reader.pad, "cpu")[0]
    contexts = their_contexts(model, reader.tokenizer)
    with torch.no_grad():
        expected = model(**contexts, labels=labels).loss
    assert our_loss(reader, composed(found.title_sep), targets).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    settings = reader.settings
    prefix = "answer: " if name == "t5" else ""
    assert (settings.kind, settings.prior_weight, settings.template) == (kind, 1.0, f"{prefix}{TEMPLATE}")
    assert (settings.max_tokens, found.title_sep) == (80, " / ")
    if kind == "rag_token":
        assert (settings.max_answer_tokens, settings.decoding.num_beams) == (8, 2)
        theirs = model.generate(**contexts).tolist()
        assert our_answers(reader, composed()) == [reader.ended(row[1:]) for row in theirs]


@pytest.mark.parametrize(
    "said", [{"no_repeat_ngram_size": 1}, {"repetition_penalty": 1.5}], ids=lambda said: next(iter(said))
)
@pytest.mark.parametrize("name", ["bart", "t5"])
def test_imported_checkpoint_that_shuns_repetition_writes_what_transformers_writes(
    rag_folder, name, said, machine, tmp_path
):
    folder = shutil.copytree(rag_folder("rag_token", name), tmp_path / "changed")
    generation = json.loads((folder / "generation_config.json").read_text()) | said | {"max_length": 33}
    for beams in (1, 3):
        (folder / "generation_config.json").write_text(json.dumps(generation | {"num_beams": beams}))
        found = import_rag(folder, tmp_path / f"reader{beams}", tmp_path / f"encoder{beams}")
        reader = load_reader(found.reader, machine)
        model = RagTokenForGeneration.from_pretrained(folder).eval()
        theirs = model.generate(**their_contexts(model, reader.tokenizer)).tolist()
        assert our_answers(reader, composed()) == [reader.ended(row[1:]) for row in theirs]


def test_imported_question_encoder_gives_the_vectors_of_transformers(rag_folder, machine, tmp_path):
    folder = rag_folder("rag_token", "bart")
    found = import_rag(folder, tmp_path / "reader", tmp_path / "encoder")
    model = RagTokenForGeneration.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "question_encoder_tokenizer")
    with torch.no_grad():
        theirs = model.question_encoder(**tokenizer(QUESTIONS, padding=True, return_tensors="pt"))[0].numpy()
    ours = load_sentence_transformer(found.encoder).encode(QUESTIONS)
    assert np.allclose(ours, theirs, atol=1e-5)
    # In our index all vectors are of unit length.
    unit = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    assert np.allclose(Encoder.load(found.encoder, machine).encode(QUESTIONS, "query"), unit, atol=1e-5)


def test_bert_as_question_encoder_is_taken_over_as_it_is(rag_folder, tmp_path):
    from transformers import BertConfig, BertModel

    folder = rag_folder("rag_token", "bart")
    tokenizer = AutoTokenizer.from_pretrained(folder / "question_encoder_tokenizer")
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    bert = BertModel(BertConfig(vocab_size=len(tokenizer), **small)).eval()
    generator = RagTokenForGeneration.from_pretrained(folder).generator
    model = RagTokenForGeneration(question_encoder=bert, generator=generator, max_combined_length=80)
    model.save_pretrained(tmp_path / "rag")
    for name in ("question_encoder_tokenizer", "generator_tokenizer"):
        shutil.copytree(folder / name, tmp_path / "rag" / name)
    found = import_rag(tmp_path / "rag", tmp_path / "reader", tmp_path / "encoder")
    with torch.no_grad():
        states = bert(**tokenizer(QUESTIONS, padding=True, return_tensors="pt"))[0][:, 0].numpy()
    assert np.allclose(load_sentence_transformer(found.encoder).encode(QUESTIONS), states, atol=1e-5)


@pytest.fixture
def context_encoder(tmp_path):
    """A DPR context encoder as transformers saves it."""

    def save(**settings):
        tokenizer = AutoTokenizer.from_pretrained(resolve_model("random:bert-2x64"))
        small = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
        torch.manual_seed(3)
        folder = tmp_path / "context"
        DPRContextEncoder(DPRConfig(vocab_size=len(tokenizer), **(small | settings))).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


def test_context_encoder_becomes_the_encoder_of_passages(rag_folder, context_encoder, machine, tmp_path):
    folder, context = rag_folder("rag_token", "bart"), context_encoder()
    found = import_rag(folder, tmp_path / "reader", tmp_path / "encoder", passage_encoder=context)
    check_model_folder(found.encoder)
    tokenizer = AutoTokenizer.from_pretrained(context)
    inputs = tokenizer(QUESTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = {
            "query": RagTokenForGeneration.from_pretrained(folder).eval().question_encoder(**inputs)[0],
            "passage": DPRContextEncoder.from_pretrained(context).eval()(**inputs)[0],
        }
    encoder = Encoder.load(found.encoder, machine)
    for kind, vectors in theirs.items():
        unit = torch.nn.functional.normalize(vectors, dim=1).numpy()
        assert np.allclose(encoder.encode(QUESTIONS, kind), unit, atol=1e-5)
    # The reader is what it is without it, and what was made is exported as its question encoder.
    alone = import_rag(folder, tmp_path / "r", tmp_path / "e")
    assert (found.reader / "model.safetensors").read_bytes() == (alone.reader / "model.safetensors").read_bytes()
    model = RagTokenForGeneration.from_pretrained(export_rag(found.encoder, found.reader, tmp_path / "rag", 2)).eval()
    with torch.no_grad():
        assert torch.allclose(model.question_encoder(**inputs)[0], theirs["query"], atol=1e-5)


def test_sentence_transformers_folder_becomes_the_encoder_of_passages(rag_folder, cls_encoder, machine, tmp_path):
    model = load_sentence_transformer(cls_encoder)
    model.prompts = {"query": "query: ", "document": "text: "}
    model.save(str(tmp_path / "passages"))
    folder = rag_folder("rag_token", "bart")
    found = import_rag(folder, tmp_path / "reader", tmp_path / "encoder", passage_encoder=tmp_path / "passages")
    encoder = Encoder.load(found.encoder, machine)
    given = Encoder.load(tmp_path / "passages", machine)
    assert (encoder.prompt("query"), encoder.prompt("passage")) == ("", "text: ")
    assert np.allclose(encoder.encode(QUESTIONS, "passage"), given.encode(QUESTIONS, "passage"), atol=1e-6)
    alone = import_rag(folder, tmp_path / "r", tmp_path / "e")
    own = Encoder.load(alone.encoder, machine).encode(QUESTIONS, "query")
    assert np.allclose(encoder.encode(QUESTIONS, "query"), own, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"projection_dim": 16}, "projects its vectors to 16 numbers"),
        ({"hidden_size": 32}, "vectors of 64 numbers, and .*context of 32: they cannot be compared"),
    ],
)
def test_encoder_of_passages_that_does_not_fit_is_refused(rag_folder, context_encoder, tmp_path, settings, reason):
    context = context_encoder(**settings)
    with pytest.raises(ModelError, match=reason):
        import_rag(rag_folder("rag_token", "bart"), tmp_path / "reader", tmp_path / "encoder", passage_encoder=context)
    assert not (tmp_path / "reader").exists() and not (tmp_path / "encoder").exists()


def test_question_encoder_in_the_place_of_that_of_passages_is_refused(rag_folder, context_encoder, tmp_path):
    context = context_encoder()
    config = json.loads((context / "config.json").read_text())
    (context / "config.json").write_text(json.dumps(config | {"architectures": ["DPRQuestionEncoder"]}))
    with pytest.raises(ModelError, match=r"is a dpr model \(DPRQuestionEncoder\), which is no encoder of passages"):
        import_rag(rag_folder("rag_token", "bart"), tmp_path / "reader", tmp_path / "encoder", passage_encoder=context)


def test_import_is_the_same_each_time(rag_folder, tmp_path):
    import hashlib

    sums = []
    for number in range(2):
        torch.manual_seed(number)
        found = import_rag(rag_folder("rag_token", "bart"), tmp_path / f"r{number}", tmp_path / f"e{number}")
        files = sorted(path for part in (found.reader, found.encoder) for path in part.rglob("*.safetensors"))
        sums.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert sums[0] == sums[1] and len(sums[0]) == 2


def changed(folder, tmp_path, change):
    target = shutil.copytree(folder, tmp_path / "changed")
    config = json.loads((target / "config.json").read_text())
    change(config)
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c.update(model_type="bart"), "is a model of type 'bart', and no RAG checkpoint"),
        (lambda c: c.pop("generator"), "damaged or no RAG configuration"),
        (lambda c: c["question_encoder"].update(model_type="roberta"), "is of type 'roberta'; only DPR and BERT"),
        (lambda c: c["question_encoder"].update(projection_dim=16), "projects its vectors to 16 numbers"),
        (
            lambda c: c.update(architectures=["RagModel"]),
            "does not say how it marginalises.*rag_token or rag_sequence",
        ),
        (lambda c: c.update(doc_sep="{question}"), r"it must hold \{question\} once"),
        (lambda c: c.update(doc_sep=None), "doc_sep is None and no text"),
        (lambda c: c.update(title_sep=3), "title_sep is 3 and no text"),
        (lambda c: c["generator"].update(prefix=5), "the generator's prefix is 5 and no text"),
        (lambda c: c.update(architectures=5), "architectures is no list"),
        (lambda c: c.update(max_combined_length="300"), "cannot be read as RagTokenForGeneration"),
        (lambda c: c.update(max_combined_length=3000), "reads at most .* tokens, and max_tokens is 3000"),
        (lambda c: c["question_encoder"].update(hidden_size=32), "cannot be read as RagTokenForGeneration"),
        (lambda c: c["question_encoder"].update(hidden_size="x"), "cannot be read as RagTokenForGeneration"),
    ],
)
def test_what_cannot_be_mapped_is_refused_with_the_reason(rag_folder, tmp_path, change, reason):
    folder = changed(rag_folder("rag_token", "bart"), tmp_path, change)
    with pytest.raises(ModelError, match=reason):
        import_rag(folder, tmp_path / "reader", tmp_path / "encoder")
    assert not (tmp_path / "reader").exists() and not (tmp_path / "encoder").exists()


def test_kind_can_be_given_where_the_checkpoint_does_not_say(rag_folder, machine, tmp_path):
    folder = changed(rag_folder("rag_token", "bart"), tmp_path, lambda config: config.pop("architectures"))
    found = import_rag(folder, tmp_path / "reader", tmp_path / "encoder", "rag_sequence")
    assert load_reader(found.reader, machine).settings.kind == "rag_sequence"
    with pytest.raises(ModelError, match=r"cannot be read as 'fid'\. Choose one of: rag_token, rag_sequence"):
        import_rag(folder, tmp_path / "r", tmp_path / "e", "fid")


def test_weights_that_can_run_code_are_refused(rag_folder, tmp_path):
    folder = shutil.copytree(rag_folder("rag_token", "bart"), tmp_path / "changed")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"no safetensors weights\. It has pytorch_model\.bin, a format that can run code"
    ):
        import_rag(folder, tmp_path / "reader", tmp_path / "encoder")


def test_missing_tokenizer_and_cut_weights_are_named(rag_folder, tmp_path):
    folder = shutil.copytree(rag_folder("rag_token", "bart"), tmp_path / "changed")
    shutil.rmtree(folder / "question_encoder_tokenizer")
    with pytest.raises(ModelError, match="has no folder question_encoder_tokenizer"):
        import_rag(folder, tmp_path / "reader", tmp_path / "encoder")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ModelError, match="truncated or altered"):
        import_rag(folder, tmp_path / "reader", tmp_path / "encoder")


def test_nothing_of_the_users_is_overwritten(rag_folder, tmp_path):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match="nothing of yours is overwritten"):
        import_rag(rag_folder("rag_token", "bart"), tmp_path / "reader", tmp_path / "encoder")
    assert not (tmp_path / "reader").exists()


@pytest.fixture
def saved(writer, tmp_path):
    """The folder of a reader of ours."""

    def save(name, kind, **settings):
        folder = tmp_path / "ours"
        writer(name, kind, **({"template": TEMPLATE, "prior_weight": 1.0} | settings)).save(folder)
        return folder

    return save


@pytest.mark.parametrize("name", ["bart", "t5"])
@pytest.mark.parametrize("kind", ["rag_token", "rag_sequence"])
def test_export_gives_our_loss_and_our_answers_in_transformers(cls_encoder, saved, kind, name, machine, tmp_path):
    # T5 is told what to do by a prefix.
    given = {"decoding": {"num_beams": 2}} if name == "bart" else {"template": "answer: {passage} // {question}"}
    folder = saved(name, kind, **given)
    export_rag(cls_encoder, folder, tmp_path / "rag", n_docs=2)
    reader = load_reader(folder, machine)
    reader.model.eval()
    model = HF[kind].from_pretrained(tmp_path / "rag").eval()
    assert type(model).__name__ in json.loads((tmp_path / "rag" / "config.json").read_text())["architectures"]
    tokenizers = RagTokenizer.from_pretrained(tmp_path / "rag")
    passages = composed()
    # As a data set for its retriever: the whole passage in the column text, and no title.
    texts = [[passage.text for passage in found] for found in passages]
    contexts = their_contexts(model, tokenizers.generator, [["", ""], ["", ""]], texts)
    targets = reader.targets(ANSWERS)
    labels = padded([[reader.start, *target] for target in targets], reader.pad, "cpu")[0]
    with torch.no_grad():
        expected = model(**contexts, labels=labels).loss
    assert our_loss(reader, passages, targets).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    if kind == "rag_token":
        theirs = model.generate(**contexts).tolist()
        assert our_answers(reader, passages) == [reader.ended(row[1:]) for row in theirs]
    with torch.no_grad():
        inputs = tokenizers.question_encoder(QUESTIONS, padding=True, return_tensors="pt")
        vectors = model.question_encoder(**inputs)[0].numpy()
    assert np.allclose(vectors, load_sentence_transformer(cls_encoder).encode(QUESTIONS), atol=1e-5)


def test_exported_rag_sequence_writes_our_answers_one_passage_at_a_time(cls_encoder, saved, machine, tmp_path):
    # One passage and so no padding, which RAG-Sequence of transformers reads (see test_transformers_rag).
    folder = saved("bart", "rag_sequence", decoding={"num_beams": 2})
    model = RagSequenceForGeneration.from_pretrained(export_rag(cls_encoder, folder, tmp_path / "rag", 1)).eval()
    reader = load_reader(folder, machine)
    reader.model.eval()
    for question, found in zip(QUESTIONS, composed(), strict=True):
        ids = torch.tensor(reader.pair_texts([question], [found[:1]]))
        theirs = model.generate(
            context_input_ids=ids,
            context_attention_mask=torch.ones_like(ids),
            doc_scores=torch.zeros(1, 1),
            num_beams=2,
            max_new_tokens=8,
            forced_bos_token_id=0,
        )
        with torch.inference_mode():
            (ours,) = reader.generate_ids([question], [found[:1]], torch.zeros(1, 1))
        assert ours == reader.ended(theirs[0, 1:].tolist())


@pytest.mark.parametrize("kind", ["rag_token", "rag_sequence"])
def test_what_was_exported_and_imported_reads_as_before(cls_encoder, saved, kind, machine, tmp_path):
    folder = saved("bart", kind, decoding={"num_beams": 3})
    found = import_rag(export_rag(cls_encoder, folder, tmp_path / "rag"), tmp_path / "back", tmp_path / "encoder")
    before, after = load_reader(folder, machine), load_reader(found.reader, machine)
    assert after.settings.template == TEMPLATE and found.title_sep == ""
    passages = composed()
    targets = before.targets(ANSWERS)
    assert torch.equal(our_loss(before, passages, targets), our_loss(after, passages, targets))
    assert after.settings == before.settings
    assert after.read_all(QUESTIONS, passages) == before.read_all(QUESTIONS, passages)


@pytest.mark.parametrize(
    ("kind", "decoding", "reason"),
    [
        ("rag_token", {"do_sample": True}, r"draws its answers \(do_sample\)"),
        ("rag_sequence", {"thorough": False}, r"decodes fast \(thorough is false\)"),
    ],
)
def test_decoding_that_the_format_cannot_hold_is_refused(cls_encoder, saved, kind, decoding, reason, tmp_path):
    with pytest.raises(ModelError, match=reason):
        export_rag(cls_encoder, saved("bart", kind, decoding=decoding), tmp_path / "rag")


def test_settings_of_generation_that_are_not_taken_over_are_named(rag_folder, tmp_path, caplog):
    folder = shutil.copytree(rag_folder("rag_token", "bart"), tmp_path / "changed")
    generation = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(generation | {"min_length": 6}))
    import_rag(folder, tmp_path / "reader", tmp_path / "encoder")
    (line,) = [message for message in caplog.messages if "not taken over" in message]
    assert line.endswith("min_length 6")


def test_folders_that_would_be_written_over_each_other_are_refused(rag_folder, cls_encoder, saved, tmp_path):
    folder = rag_folder("rag_token", "bart")
    for encoder in (tmp_path / "one", tmp_path / "one" / "inner"):
        with pytest.raises(ModelError, match=r"reader is .*one and encoder .*one.*: give each a folder of its own"):
            import_rag(folder, tmp_path / "one", encoder)
    with pytest.raises(ModelError, match=r"encoder is .* and checkpoint .*: give each a folder of its own"):
        import_rag(folder, tmp_path / "one", folder)
    ours = saved("bart", "rag_token")
    with pytest.raises(ModelError, match=r"target is .* and reader .*: give each a folder of its own"):
        export_rag(cls_encoder, ours, ours)
    assert reader_kind(ours) == "rag_token"


@pytest.mark.parametrize("kind", ["fid", "causal"])
def test_readers_that_the_format_cannot_hold_are_refused(cls_encoder, saved, kind, tmp_path):
    with pytest.raises(ModelError, match=f"a reader of kind {kind}, which transformers' RAG format cannot hold"):
        export_rag(cls_encoder, saved("gpt2" if kind == "causal" else "bart", kind), tmp_path / "rag")


def test_extractive_reader_is_refused(cls_encoder, reader, tmp_path):
    reader.save(tmp_path)
    with pytest.raises(ModelError, match="a reader of kind extractive"):
        export_rag(cls_encoder, tmp_path, tmp_path / "rag")


def test_all_reasons_against_an_export_are_given_at_once(saved, tiny_model, tmp_path):
    folder = saved("bart", "rag_token", template="question: {question} context: {passage}")
    with pytest.raises(ModelError) as caught:
        export_rag(tiny_model, folder, tmp_path / "rag")
    for part in ("has Pooling, Normalize", "pools by 'mean'", "ends with the question, such as"):
        assert part in str(caught.value)
    assert not (tmp_path / "rag").exists()


def test_retriever_with_a_prompt_and_template_with_two_spaces_are_refused(cls_encoder, saved, tmp_path):
    encoder = shutil.copytree(cls_encoder, tmp_path / "prompted")
    path = encoder / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompts": {"query": "query: ", "document": ""}}))
    folder = saved("bart", "rag_token", template="{passage}  //  {question}")
    with pytest.raises(ModelError, match=r"puts 'query: ' before a question.*two spaces in a row"):
        export_rag(encoder, folder, tmp_path / "rag")


def test_retriever_that_is_no_bert_is_refused(saved, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import DistilBertConfig, DistilBertModel

    tokenizer = AutoTokenizer.from_pretrained(resolve_model("random:bert-2x64"))
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=32)
    DistilBertModel(config).save_pretrained(tmp_path / "backbone")
    tokenizer.save_pretrained(tmp_path / "backbone")
    modules = [Transformer(str(tmp_path / "backbone")), Pooling(32, pooling_mode="cls")]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "encoder"))
    with pytest.raises(ModelError, match="the retriever is a DistilBertModel, and a question encoder must be a BERT"):
        export_rag(tmp_path / "encoder", saved("bart", "rag_token"), tmp_path / "rag")


def test_number_of_passages_is_checked_first(tmp_path):
    with pytest.raises(ValueError, match="n_docs is 0; it must be 1 or more"):
        export_rag(tmp_path, tmp_path, tmp_path / "rag", 0)
