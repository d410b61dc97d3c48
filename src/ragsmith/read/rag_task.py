"""Training a reader on what a retriever finds, and the retriever with it."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ragsmith.compute.memory import activation_budget, halved, limits_of, set_limits
from ragsmith.learn.embedding import TrainingEncoder, set_dropout, shortened
from ragsmith.learn.ranking import share_of_commonest
from ragsmith.read.dev_answers import exact_share, holds_answer, prior_entropy
from ragsmith.read.evidence import Evidence
from ragsmith.read.examples import ReadingExample
from ragsmith.read.extractive import ExtractiveReader
from ragsmith.read.generative import GenerativeReader
from ragsmith.read.live_index import LiveIndex, weights_of
from ragsmith.read.objectives import Objective, contrastive, emdr2, log_prior, pdist
from ragsmith.read.rag_settings import Encoders, RagQuestion, RagSettings
from ragsmith.read.readers import Reader
from ragsmith.read.shown import reading_example, surely_judged, with_right_passage
from ragsmith.read.span_evidence import span_evidence
from ragsmith.retrieve.routes import Kind, shares_weights
from ragsmith.retrieve.search import Mode
from ragsmith.store import hash_json

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# Where more than this share of dev questions gets the very same passages, the retriever answers everything alike.
COLLAPSED = 0.5
# Entropy of the prior above which its passages score alike: cosines that differ by less than a hundredth.
UNDECIDED = 0.999
MOVING: dict[Encoders, tuple[Kind, ...]] = {"none": (), "questions": ("query",), "both": ("query", "passage")}
# So many times the passages that are read are looked for where some may be left out.
SPARE = 2
BLOCK = 64  # training questions that are asked together, where the retriever stays as it is
UNLIKELY = -1e8  # below it, a likelihood says that the passage does not hold the answer


class RagTask:
    """Reader and retriever as the loop trains them (RAG, Lewis et al. 2020; end to end, Siriwardhana et al. 2023).

    Where both encoders move, passages are found with the index's vectors, which may lag behind, and scored with
    vectors made now: the gradient reaches the encoder through question and passages. Where that of questions moves
    alone, the index's vectors are what passages are scored with too.

    Args:
        reader: trained in place, unless frozen.
        index: the live knowledge base; its encoder is trained in place, as far as `encoders` says.
        train, dev: questions; dev questions are judged by exact match.
        settings: see `RagSettings`.
        base_hash: content hash of the models, the index and the passages before training.
    Raises:
        ValueError: nothing is trained, not even in the first steps, no objective would teach a retriever that is to
            be trained, or the encoder of questions is to be trained alone and encodes passages too.
    """

    def __init__(
        self,
        reader: Reader,
        index: LiveIndex,
        train: Sequence[RagQuestion],
        dev: Sequence[RagQuestion],
        settings: RagSettings,
        base_hash: str,
    ) -> None:
        import torch

        trains_retriever = settings.encoders != "none"
        if not settings.train_reader and not trains_retriever:
            raise ValueError("Neither reader nor retriever is to be trained.")
        if trains_retriever and settings.objective == "none" and not settings.contrastive_weight:
            raise ValueError(
                "The retriever is to be trained, but nothing teaches it: set objective to marginal, emdr2 or pdist, "
                "or contrastive_weight above 0."
            )
        if settings.retriever_after and trains_retriever and not settings.train_reader:
            raise ValueError(
                f"retriever_after is {settings.retriever_after}, and the retriever alone is trained: the steps before "
                "would train nothing. Set it to 0."
            )
        fused = isinstance(reader, GenerativeReader) and reader.settings.kind in {"fid", "causal"}
        if trains_retriever and settings.objective == "marginal" and fused:
            raise ValueError(
                "A reader that sees all passages at once does not depend on the retriever's shares, so marginal "
                "teaches nothing. Set objective to emdr2 (the same marginal, with the reader as a teacher) or pdist."
            )
        if settings.encoders == "questions" and shares_weights(index.encoder.model):
            raise ValueError(
                "The encoder of questions is to be trained alone, and it shares weights with that of passages: give "
                "questions a copy of their own with `ragsmith.retrieve.routes.separated`, or set encoders to both."
            )
        self.reader = reader
        # A reader that has no part in the training says nothing about it.
        self.metric = "em" if settings.train_reader or settings.objective != "none" else "recall"
        self.index = index
        self.encoder = index.encoder
        # What is frozen for good needs no place in checkpoints, and has no dropout.
        parts = (("retriever", self.encoder.model, trains_retriever), ("reader", reader.model, settings.train_reader))
        self.module: torch.nn.Module = torch.nn.ModuleDict({name: model for name, model, trained in parts if trained})
        for _, model, _ in parts:
            model.eval()
        self.encoder.model.requires_grad_(settings.encoders == "both")
        if settings.encoders == "questions":
            self.encoder.towers["query"].module.requires_grad_(True)
        if not settings.train_reader:  # where there are adapters, the weights below them are frozen already
            reader.model.requires_grad_(False)
        set_dropout(self.module, settings.dropout)
        self.rate_factors: Mapping[str, float] = (
            {"retriever.": settings.retriever_rate} if settings.train_reader and trains_retriever else {}
        )
        self.train = list(train)
        self.dev = list(dev)
        self.settings = settings
        self.base_hash = base_hash
        self.batches_per_epoch = len(self.train) // settings.batch_size
        longest = max(settings.max_query_tokens, settings.max_passage_tokens)
        kept = activation_budget(settings.activation_gib, self.encoder.machine.device)
        self.vectors = TrainingEncoder(self.encoder, settings.micro_tokens, kept, longest)
        # What a frozen retriever found, by question, how many were asked for, and how. By its id alone a dev question
        # would get what was found for the training question of that id.
        self._found: dict[tuple[str, str, int, Mode], list[tuple[int, float]]] = {}
        # Asked for together, in whatever batch one of them comes first: vectors and scores differ in their last bits
        # with what they are computed beside, and a run that was killed begins with other batches.
        self._block_of = {(question.query_id, question.text): n // BLOCK for n, question in enumerate(self.train)}
        self.done = 0  # steps: the weights are those after so many
        self._counted = (-1, -1)  # epoch and number of the last batch that the index's budget knows
        drawn = np.random.default_rng([settings.seed, 1]).permutation(len(self.train))[: index.settings.probe_queries]
        self.probe = [self.train[place].text for place in drawn]
        self._sizes = {kind: weights_of(tower.module) for kind, tower in self.encoder.towers.items()}
        self._reader_size = weights_of(reader.model)

    def identity(self) -> str:
        """Hash of all that decides the outcome."""
        sets = [
            [[q.query_id, q.text, list(q.answers), sorted(q.right), q.judged, q.marks, q.source] for q in questions]
            for questions in (self.train, self.dev)
        ]
        settings = [asdict(self.settings), asdict(self.index.settings), asdict(self.reader.settings)]
        return hash_json([self.base_hash, sets, settings])

    # --- a batch ---

    def loss(self, epoch: int, number: int) -> "tuple[torch.Tensor, dict[str, float]]":
        """Mean loss over the questions of a batch.

        Figures: the parts of the loss, the share of questions whose answer can be read, the entropy of the prior as a
        share of the largest (0: all on one passage), the index version and its age in steps.
        """
        settings = self.settings
        step = epoch * (self.batches_per_epoch // settings.accumulation) + number // settings.accumulation
        self.done = step + 1
        if self.has_aged(step):
            self.index.before_step(step, self.probe)
        order = np.random.default_rng([settings.seed, 0, epoch]).permutation(len(self.train))
        chosen = [self.train[place] for place in order[number * settings.batch_size :][: settings.batch_size]]
        found = self._shown(chosen)
        rows = sorted({row for some in found for row in some})
        tokens = self._token_ids(chosen, rows)
        if (epoch, number) > self._counted:  # a step that is tried again, in less memory, teaches but once
            self._counted = (epoch, number)
            if self.index_ages:
                self._count(tokens, rows, found, step)
        draws = np.random.default_rng([settings.seed, 2, epoch, number])
        return self._loss(chosen, found, rows, tokens, draws, step)

    def _loss(
        self,
        chosen: Sequence[RagQuestion],
        found: list[list[int]],
        rows: list[int],
        tokens: tuple[list[list[int]], list[list[int]]],
        draws: np.random.Generator,
        step: int,
    ) -> "tuple[torch.Tensor, dict[str, float]]":
        settings = self.settings
        scores, present, every = self._scores(tokens, chosen, found, rows, step)
        prior = log_prior(scores, present)
        taught = self.taught(step)
        evidence, readable = self._evidence(
            chosen, found, prior if taught == "marginal" else prior.detach(), present, taught, draws
        )
        # A passage that does not hold the answer has no likelihood; where none holds it, the reader teaches nothing.
        likely = evidence.log_likelihood.clamp_min(UNLIKELY)
        parts = {}
        if settings.train_reader or taught == "marginal":
            parts["reader_loss"] = evidence.nll
        if taught == "emdr2":
            parts["retriever_loss"] = settings.objective_weight * emdr2(prior, likely)
        elif taught == "pdist":
            parts["retriever_loss"] = settings.objective_weight * pdist(
                prior, likely, present, settings.teacher_temperature
            )
        count = readable.sum().clamp(min=1)
        means = {name: values.masked_fill(~readable, 0.0).sum() / count for name, values in parts.items()}
        if settings.contrastive_weight and settings.encoders != "none":
            right = self._right(chosen, rows).to(every.device)
            judged = right.any(dim=1)
            apart = contrastive(every, right).sum() / judged.sum().clamp(min=1)
            means["contrastive_loss"] = settings.contrastive_weight * apart
        loss = scores.sum() * 0 + sum(means.values())
        widest = max(2, prior.shape[1])
        shares = prior.detach().exp()
        entropy = -(shares * prior.detach().clamp_min(-1e4)).sum(dim=1).mean() / math.log(widest)
        figures = {name: value.item() for name, value in means.items()}
        return loss, {
            **figures,
            "readable": float(readable.float().mean()),
            "prior_entropy": float(entropy),
            "index_version": float(self.index.version),
            "index_age": float(step - self.index.at_step) if self.index_ages else 0.0,
            **({} if self.index.overlap is None else {"index_overlap": self.index.overlap}),
        }

    @property
    def index_ages(self) -> bool:
        """Whether passages get other vectors in training than those that the index has."""
        return self.settings.encoders == "both"

    def has_aged(self, done: int) -> bool:
        """Whether the encoder of passages has moved in the steps that are done."""
        return self.index_ages and done > self.settings.retriever_after

    def moving(self, step: int) -> tuple[Kind, ...]:
        """The kinds of text whose encoder learns in a step."""
        if step < self.settings.retriever_after:
            return ()
        return MOVING[self.settings.encoders]

    def taught(self, step: int) -> Objective:
        """How the reader teaches the retriever in a step."""
        return self.settings.objective if self.moving(step) else "none"

    def retrieve(
        self, questions: Sequence[RagQuestion], k: int = 0, mode: Mode | None = None
    ) -> list[list[tuple[int, float]]]:
        """What is found for each question: rows of the index and cosines, best first, at least one each.

        Args:
            questions: any.
            k: most of each; 0 for as many as are read.
            mode: how it is searched; None for the way of the settings.
        """
        k, mode = k or self.settings.passages, mode or self.settings.search
        if self.settings.encoders != "none":
            return self._search(questions, k, mode)
        keys = [(question.query_id, question.text) for question in questions]
        lacking = [place for place, key in enumerate(keys) if (*key, k, mode) not in self._found]
        others = [questions[place] for place in lacking if keys[place] not in self._block_of]
        for number in sorted({self._block_of[keys[place]] for place in lacking if keys[place] in self._block_of}):
            self._find(self.train[number * BLOCK : (number + 1) * BLOCK], k, mode)
        self._find(others, k, mode)
        return [self._found[*key, k, mode] for key in keys]

    def _find(self, questions: Sequence[RagQuestion], k: int, mode: Mode) -> None:
        for question, some in zip(questions, self._search(questions, k, mode) if questions else [], strict=True):
            self._found[question.query_id, question.text, k, mode] = some

    def _search(self, questions: Sequence[RagQuestion], k: int, mode: Mode) -> list[list[tuple[int, float]]]:
        run = self.index.search(
            [question.query_id for question in questions], [question.text for question in questions], k, mode
        )
        found: dict[str, list[tuple[int, float]]] = {}
        for row in run.itertuples(index=False):
            found.setdefault(row.query_id, []).append((self.index.row_of[row.passage_id], float(row.cosine)))
        # BM25 alone may find nothing: the first passage is as good as any other then.
        return [found.get(question.query_id, [(0, 0.0)]) for question in questions]

    def _shown(self, chosen: Sequence[RagQuestion]) -> list[list[int]]:
        """What is read for training questions: rows of the index."""
        most = self.settings.passages
        spans = isinstance(self.reader, ExtractiveReader)
        found = [[row for row, _ in some] for some in self.retrieve(chosen, SPARE * most if spans else most)]
        shown = found
        if spans:
            shown = [surely_judged(*both, self.index) for both in zip(chosen, found, strict=True)]
        if self.settings.right_passage:
            shown = [with_right_passage(*both, self.index, most) for both in zip(chosen, shown, strict=True)]
        return [(kept or rows)[:most] for kept, rows in zip(shown, found, strict=True)]

    def _token_ids(self, chosen: Sequence[RagQuestion], rows: list[int]) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of the questions and of the passages, as the retriever reads them in training, if it does."""
        if self.settings.encoders == "none":
            return [], []
        limits = self.settings.max_query_tokens, self.settings.max_passage_tokens
        queries = self.encoder.token_ids([question.text for question in chosen], "query")
        texts = [self.index.texts[row] for row in rows] if self.index_ages else []
        passages = self.encoder.token_ids(texts, "passage")
        return [shortened(ids, limits[0]) for ids in queries], [shortened(ids, limits[1]) for ids in passages]

    def _scores(
        self,
        tokens: tuple[list[list[int]], list[list[int]]],
        chosen: Sequence[RagQuestion],
        found: list[list[int]],
        rows: list[int],
        step: int,
    ) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """Scores of questions and what was found for them, where there is a passage, and scores with all passages.

        Returns:
            Shapes (questions, most passages), the same, and (questions, distinct passages of the batch).
        """
        import torch

        device = self.encoder.machine.device
        moving = self.moving(step)
        lengths = [[len(ids) for ids in some] for some in tokens]
        again = bool(moving) and self.vectors.must_recompute(lengths[0], lengths[1] if "passage" in moving else ())
        weights = self.encoder.weights(moving)
        if "query" in moving:
            of_queries = self.vectors.embed(tokens[0], "query", again, weights)
        else:
            asked = [question.text for question in chosen]
            of_queries = torch.from_numpy(self.encoder.encode(asked, "query")).to(device)
        if "passage" in moving:
            of_passages = self.vectors.embed(tokens[1], "passage", again, weights)
        else:
            of_passages = torch.from_numpy(np.ascontiguousarray(self.index.vectors[rows])).to(device)
        every = of_queries @ of_passages.T / self.settings.temperature
        place = {row: number for number, row in enumerate(rows)}
        width = max(len(some) for some in found)
        columns = torch.zeros(len(found), width, dtype=torch.long)
        present = torch.zeros(len(found), width, dtype=torch.bool)
        for number, some in enumerate(found):
            columns[number, : len(some)] = torch.tensor([place[row] for row in some])
            present[number, : len(some)] = True
        return every.gather(1, columns.to(device)), present.to(device), every

    def _right(self, chosen: Sequence[RagQuestion], rows: list[int]) -> "torch.Tensor":
        import torch

        ids = [self.index.passage_ids[row] for row in rows]
        return torch.tensor([[passage_id in question.right for passage_id in ids] for question in chosen])

    def _evidence(
        self,
        chosen: Sequence[RagQuestion],
        found: list[list[int]],
        prior: "torch.Tensor",
        present: "torch.Tensor",
        taught: Objective,
        draws: np.random.Generator,
    ) -> "tuple[Evidence, torch.Tensor]":
        import torch

        if not self.settings.train_reader and taught == "none":  # the passages known to be right teach alone
            nothing = torch.zeros_like(prior)
            return Evidence(nothing[:, 0], nothing), torch.ones(len(prior), dtype=torch.bool, device=prior.device)
        cut = draws.random(len(chosen)) < self.settings.cut_probability
        examples = [  # without scores: `prior` has them
            reading_example(question, [(row, 0.0) for row in some], self.index, bool(without))
            for question, some, without in zip(chosen, found, cut, strict=True)
        ]
        learning = torch.enable_grad() if self.settings.train_reader or taught == "marginal" else torch.no_grad()
        with learning:
            if isinstance(self.reader, ExtractiveReader):
                # With the prior in its loss a reader learns to lean on it. Only in `marginal` are both one model.
                shares = prior if taught == "marginal" else log_prior(torch.zeros_like(prior), present)
                return span_evidence(self.reader, examples, shares)
            # One of the accepted answers, another each time.
            targets = self.reader.targets([q.answers[draws.integers(len(q.answers))] for q in chosen])
            evidence = self.reader.evidence(
                [question.text for question in chosen],
                [example.passages for example in examples],
                targets,
                prior,
                present,
                likelihood=taught != "none",
                smoothing=self.settings.label_smoothing,
            )
        return evidence, torch.ones(len(prior), dtype=torch.bool, device=prior.device)

    def examples(
        self, questions: Sequence[RagQuestion], found: Sequence[Sequence[tuple[int, float]]]
    ) -> list[ReadingExample]:
        """Questions with the texts of what was found, as a reader reads them."""
        return [reading_example(*both, self.index) for both in zip(questions, found, strict=True)]

    def _count(
        self, tokens: tuple[list[list[int]], list[list[int]]], rows: list[int], found: list[list[int]], step: int
    ) -> None:
        """Tell the index's budget what a batch computes: where weights learn, three times the products of forward.

        Until the retriever moves, passages have the vectors of the index, and questions go forward alone; so does
        what is read by a frozen reader, if it teaches at all.
        """
        lengths = dict(zip(rows, map(len, tokens[1]), strict=True))
        questions = list(map(len, tokens[0]))
        moving, trains, teaches = self.moving(step), self.settings.train_reader, self.taught(step) != "none"
        times = {
            "query": 3 if "query" in moving else 1,
            "passage": 3 if "passage" in moving else 0,
            "reader": 3 if trains else 1 if teaches else 0,
        }
        read = sum(questions[number] + lengths[row] for number, some in enumerate(found) for row in some)
        products = {
            "query": sum(questions) * self._sizes["query"],
            "passage": sum(lengths.values()) * self._sizes["passage"],
            "reader": read * self._reader_size,
        }
        self.index.note_training(float(sum(times[part] * products[part] for part in times)))

    # --- dev ---

    def evaluate(self) -> tuple[float, dict[str, float]]:
        """`dev_score` with a fresh index; figures also say what keeping it fresh took so far."""
        if self.has_aged(self.done):
            self.index.make_fresh(self.done)
        score, figures = self.dev_score()
        return score, figures | {
            "index_version": float(self.index.version),
            "refreshes": float(self.index.refreshes),
            "refreshes_put_off": float(self.index.put_off),
            "refreshes_failed": float(self.index.failed),
            "refresh_share": self.index.spent / self.index.trained if self.index.trained else 0.0,
        }

    def dev_score(self) -> tuple[float, dict[str, float]]:
        """Exact match on dev with the index as it is; recall where no reader has a part in the training.

        Figures: the share of questions with a right passage among those read, or with an answer in one where none is
        known; the share that gets the commonest set of passages by dense search, whatever is searched with; the
        prior's entropy, 1 where all passages of each question score alike.
        """
        found = self.retrieve(self.dev)
        examples = self.examples(self.dev, found)
        # BM25 finds other passages for other words, whatever has become of the vectors: theirs alone are looked at.
        nearest = found if self.settings.search == "dense" else self.retrieve(self.dev, mode="dense")
        alike = share_of_commonest([[self.index.passage_ids[row] for row, _ in some] for some in nearest])
        # Where all passages are read for each question, nobody can choose.
        choice = len(self.dev) > 1 and len(self.index.texts) > self.settings.passages
        if alike > COLLAPSED and choice and self.settings.encoders != "none":
            logger.warning(
                "%.0f %% of the dev questions get the same passages by their vectors: the retriever has collapsed, or "
                "the knowledge base is tiny. Lower learning_rate or retriever_rate, raise contrastive_weight, or "
                "choose pdist.",
                100 * alike,
            )
        entropy = prior_entropy([[score for _, score in some] for some in found], self.settings.temperature)
        if entropy > UNDECIDED and choice and self.settings.encoders != "none":
            logger.warning(
                "All passages of the dev questions score alike (entropy of the prior %.4f of 1): the retriever tells "
                "nothing apart. Lower learning_rate or retriever_rate, or raise contrastive_weight.",
                entropy,
            )
        figures = {
            "recall": float(np.mean([holds_answer(example) for example in examples])),
            "same_passages": alike,
            "prior_entropy": entropy,
        }
        if self.metric == "recall":
            return figures.pop("recall"), figures
        answers = self.reader.answer_all([e.question for e in examples], [e.passages for e in examples])
        return exact_share(answers, examples), figures

    def shrink(self) -> bool:
        """Need less memory for the same gradients; False when that cannot be."""
        one, other = self.vectors.shrink(), self.reader.shrink()
        # The knowledge base is encoded by the same memory.
        before = self.encoder.batch_tokens
        self.encoder.batch_tokens = halved(before, self.vectors.longest)
        return one or other or self.encoder.batch_tokens < before

    def state(self) -> dict[str, Any]:
        """The index's version, how many steps are done, and how much memory they may take."""
        limits = {name: limits_of(part) for name, part in self._limited().items()}
        return {"done": self.done, "index": self.index.state(), "limits": limits}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Task.restore`."""
        self.done, self._counted = state.get("done", 0), (-1, -1)
        self.index.restore(state.get("index", {}))
        for name, limits in state.get("limits", {}).items():
            set_limits(self._limited()[name], limits)

    def _limited(self) -> dict[str, Any]:
        """The parts that `shrink` lets need less memory."""
        return {"vectors": self.vectors, "reader": self.reader, "encoder": self.encoder}
