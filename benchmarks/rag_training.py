"""How fast a reader and a retriever are trained together here, beside transformers' RAG classes.

    python benchmarks/rag_training.py             three rounds of eight steps a side, then growing knowledge bases
    python benchmarks/rag_training.py --quick     one round of three steps, knowledge bases four times smaller
    python benchmarks/rag_training.py --device cuda --size base

Both sides train RAG-Token end to end, the passage encoder too: the same questions (SQuADShifts, new Wikipedia), the
same knowledge base, batch, passages, architectures and learning rate. transformers: `RagTokenForGeneration` with a
`RagRetriever` over a flat faiss index in `datasets`, and a context encoder in training, in float32 (what one gets
without asking) and with bf16 autocast. It has no trainer that runs with it any more; its loop here is the shortest
there is. Ours: `RagTask` in the project's own loop step. Each has a process of its own; the first two steps do not
count. Then ours alone on knowledge bases of 1, 4 and 16 times the passages.
"""

import argparse
import gzip
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from _bench import report
from _paired import child, median, paired

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MIB = 2**20
BATCH, PASSAGES, WORDS = 4, 5, 100
SIDES = ["ours_bf16", "ours_fp32", "transformers_fp32", "transformers_bf16"]
VERSIONS = ["torch", "transformers", "sentence-transformers", "faiss-cpu", "datasets"]
SIZES = {"small": (384, 4, 1536), "base": (768, 6, 3072)}  # width, layers of each side, inner width of the generator


def main() -> int:
    """Measure and report; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--side", choices=[*SIDES, "grown"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options)))
        return 0
    data = options.data / "squadshifts" / "new_wiki_v1.0.json.gz"
    if not data.is_file():
        sys.exit(f"{data} is not there. Name the folder that holds squadshifts/ with --data.")
    rounds, steps = (1, 3) if options.quick else (options.rounds, options.steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(data, folder, 1000)
        arguments = ["--folder", name, "--steps", str(steps), "--device", options.device, "--size", options.size]
        results = paired(SIDES, lambda side: child(Path(__file__), ["--side", side, *arguments]), rounds)
        smallest = 250 if options.quick else 1000
        grown = []
        for times in (1, 4, 16):
            prepare(data, folder, smallest * times)
            grown.append(child(Path(__file__), ["--side", "grown", *arguments]) | {"passages": smallest * times})
            print(json.dumps(grown[-1]), flush=True)
    seconds = {side: median(results[side], "seconds_per_step") for side in SIDES}
    figures = {
        "batch": BATCH,
        "passages": PASSAGES,
        "size": options.size,
        "rounds": rounds,
        "seconds_per_step": seconds,
        "peak_mib": {side: median(results[side], "peak_mib") for side in SIDES},
        "grown_1_4_16": grown,
    }
    bars = [
        {
            "name": f"transformers' time over ours, {kind}",
            "value": round(seconds[f"transformers_{kind}"] / seconds[f"ours_{kind}"], 2),
            "at_least": 2.0,
        }
        for kind in ("fp32", "bf16")
    ]
    as_they_come = seconds["transformers_fp32"] / seconds["ours_bf16"]
    bars.append({"name": "transformers' time over ours, each as it comes", "value": as_they_come, "at_least": 2.0})
    bars += [
        {
            "name": "a refresh of 16 times the passages over one of 4 times",
            "value": round(grown[2]["refresh_seconds"] / grown[1]["refresh_seconds"], 2),
            "at_most": 4.8,
        },
        {
            "name": "a step with 16 times the passages over one with 1 time",
            "value": round(grown[2]["seconds_per_step"] / grown[0]["seconds_per_step"], 2),
            "at_most": 1.25,
        },
    ]
    return report("rag_training", figures, bars, VERSIONS)


def prepare(data: Path, folder: Path, count: int) -> None:
    """Questions, and a knowledge base of so many passages of 100 words; where the data has fewer, they repeat."""
    articles = json.loads(gzip.decompress(data.read_bytes()))["data"]
    passages, questions = [], []
    for article in articles:
        for paragraph in article["paragraphs"]:
            words = paragraph["context"].split()
            for begin in range(0, len(words), WORDS):
                passages.append((article["title"], " ".join(words[begin : begin + WORDS])))
            questions += [(asked["question"], asked["answers"][0]["text"]) for asked in paragraph["qas"][:1]]
    chosen = [passages[number % len(passages)] for number in range(count)]
    table = pd.DataFrame(chosen, columns=["title", "text"])
    # A repeated passage is another text: the index and the token counts are those of a larger knowledge base.
    copies = pd.Series([f" ({number // len(passages)})" if number >= len(passages) else "" for number in range(count)])
    table = table.assign(text=table["text"] + copies, passage_id=[f"p{number}" for number in range(count)])
    table.to_parquet(folder / "passages.parquet", index=False)
    asked = pd.DataFrame(questions[:400], columns=["question", "answer"])
    asked.to_parquet(folder / "questions.parquet", index=False)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What one side does in its process."""
    from ragsmith.compute.device import Machine
    from ragsmith.compute.memory import peak_memory

    passages = pd.read_parquet(options.folder / "passages.parquet")
    questions = pd.read_parquet(options.folder / "questions.parquet")
    kind = "bf16" if options.side == "grown" else options.side.rpartition("_")[2]
    machine = Machine(options.device, kind)
    step, refresh = (theirs if options.side.startswith("transformers") else ours)(
        options, passages, questions, machine
    )
    for number in range(2):
        step(number)
    begun = time.perf_counter()
    for number in range(2, 2 + options.steps):
        step(number)
    found = {"seconds_per_step": round((time.perf_counter() - begun) / options.steps, 4)}
    if options.side == "grown":
        begun = time.perf_counter()
        refresh()
        found["refresh_seconds"] = round(time.perf_counter() - begun, 3)
    return found | {"peak_mib": round((peak_memory() or 0) / MIB, 1)}


def generator(size: str, tokenizer: Any) -> Any:
    """A BART of this size with MiniLM's vocabulary, the same weights each time."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    width, layers, inner = SIZES[size]
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=width // 64,
        decoder_attention_heads=width // 64,
        encoder_ffn_dim=inner,
        decoder_ffn_dim=inner,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        decoder_start_token_id=tokenizer.sep_token_id,
        forced_eos_token_id=None,
        dropout=0.0,
    )
    return BartForConditionalGeneration(config)


def ours(options: argparse.Namespace, passages: pd.DataFrame, questions: pd.DataFrame, machine: Any) -> Any:
    """A step of ours, and a refresh of the index."""
    from ragsmith.learn.loop import LoopSettings, make_optimizer, train_step
    from ragsmith.read.generative import GenerativeSettings
    from ragsmith.read.live_index import LiveIndex, RefreshSettings
    from ragsmith.read.rag_settings import RagQuestion, RagSettings
    from ragsmith.read.rag_task import RagTask
    from ragsmith.read.seq2seq import Seq2SeqReader
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.index import DenseIndex
    from ragsmith.retrieve.models import resolve_model
    from ragsmith.retrieve.passage_text import passage_inputs

    encoder = Encoder.load(resolve_model("package:all-MiniLM-L6-v2"), machine)
    settings = GenerativeSettings(kind="rag_token", max_tokens=300, max_answer_tokens=25)
    reader = Seq2SeqReader(
        generator(options.size, encoder.model.tokenizer), encoder.model.tokenizer, settings, machine
    )
    start = DenseIndex(passages["passage_id"].tolist(), encoder.encode(passage_inputs(passages), "passage"))
    asked = [
        RagQuestion(f"q{number}", row.question, (row.answer,))
        for number, row in enumerate(questions.itertuples(index=False))
    ]
    with tempfile.TemporaryDirectory() as folder:
        live = LiveIndex(encoder, start, passages, RefreshSettings(overlap=0), Path(folder))
    settings = RagSettings(passages=PASSAGES, batch_size=BATCH, right_passage=False)
    task = RagTask(reader, live, asked, asked[:8], settings, "base")
    loop = LoopSettings(1, 3e-5)
    optimizer = make_optimizer(task.module, loop, task.rate_factors)
    return (lambda number: train_step(task, optimizer, loop, machine, 0, number, 50)), (lambda: live.refresh(50))


def theirs(options: argparse.Namespace, passages: pd.DataFrame, questions: pd.DataFrame, machine: Any) -> Any:
    """A step of transformers."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoTokenizer,
        DPRConfig,
        DPRContextEncoder,
        DPRQuestionEncoder,
        RagConfig,
        RagRetriever,
        RagTokenForGeneration,
    )
    from transformers.models.rag.retrieval_rag import CustomHFIndex

    from ragsmith.compute.memory import freed_memory_kept
    from ragsmith.retrieve.encoder import Encoder
    from ragsmith.retrieve.models import resolve_model
    from ragsmith.retrieve.passage_text import passage_inputs

    folder = resolve_model("package:all-MiniLM-L6-v2")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    vectors = Encoder.load(folder, machine).encode(passage_inputs(passages), "passage")
    table = Dataset.from_dict({"title": passages["title"], "text": passages["text"], "embeddings": list(vectors)})
    table.add_faiss_index("embeddings", metric_type=0)  # inner product, flat
    dpr = DPRConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(0)
    asking, reading, writer = DPRQuestionEncoder(dpr), DPRContextEncoder(dpr), generator(options.size, tokenizer)
    config = RagConfig.from_question_encoder_generator_configs(
        dpr, writer.config, n_docs=PASSAGES, retrieval_vector_size=384, index_name="custom", max_combined_length=300
    )
    retriever = RagRetriever(config, tokenizer, tokenizer, CustomHFIndex(384, table))
    retriever.set_ctx_encoder_tokenizer(tokenizer)  # type: ignore[arg-type]
    model = RagTokenForGeneration(config=config, question_encoder=asking, generator=writer, retriever=retriever)
    model.set_context_encoder_for_training(reading)
    model.to(machine.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-5, fused=True)

    def step(number: int) -> None:
        rows = questions.iloc[number * BATCH : (number + 1) * BATCH]
        given = tokenizer(rows["question"].tolist(), padding=True, truncation=True, max_length=64, return_tensors="pt")
        labels = tokenizer(rows["answer"].tolist(), padding=True, truncation=True, max_length=25, return_tensors="pt")
        given, labels = given.to(machine.device), labels.to(machine.device)
        optimizer.zero_grad(set_to_none=True)
        with machine.autocast():
            output = model(
                input_ids=given["input_ids"],
                attention_mask=given["attention_mask"],
                labels=labels["input_ids"],
                reduce_loss=True,
            )
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        output.loss.item()

    # What ours does for itself: without it the peer would pay for pages that the C library gives back each step.
    kept = freed_memory_kept()
    kept.__enter__()
    return step, lambda: None


if __name__ == "__main__":
    sys.exit(main())
