"""RAG-Token, RAG-Sequence and Fusion-in-Decoder, on any encoder-decoder."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.compute.batching import length_batches, padded
from ragsmith.compute.device import Machine, probe
from ragsmith.compute.recompute import each_part
from ragsmith.read.decoding import PROCESSED, MarginalLogits, SharedGumbel, own_processors, stream_first_row
from ragsmith.read.evidence import Evidence
from ragsmith.read.generative import PASSAGE, QUESTION, GenerativeReader, GenerativeSettings, load_settings
from ragsmith.read.language_model import as_output, load_language_model, of_labels
from ragsmith.read.objectives import log_prior, rag_sequence, rag_token
from ragsmith.read.reading import ReadingPassage
from ragsmith.retrieve.models import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Seq2SeqReader(GenerativeReader):
    """RAG-Token, RAG-Sequence or Fusion-in-Decoder with an encoder-decoder; see `GenerativeReader`."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        settings: GenerativeSettings,
        machine: Machine,
    ) -> None:
        super().__init__(model, tokenizer, settings, machine)
        start = getattr(model.generation_config, "decoder_start_token_id", None)
        start = getattr(model.config, "decoder_start_token_id", None) if start is None else start
        if start is None:
            raise ModelError("The reader's config has no decoder_start_token_id: no answer could begin.")
        self.start = int(start)
        generation: Any = model.generation_config
        generation.decoder_start_token_id = self.start
        self.forced = getattr(model.generation_config, "forced_bos_token_id", None)

    @classmethod
    def load(
        cls, folder: Path, settings: GenerativeSettings | None = None, machine: Machine | None = None
    ) -> "Seq2SeqReader":
        """The reader of a transformers directory.

        Args:
            folder: what `save` wrote, or an encoder-decoder.
            settings: None takes the saved ones.
            machine: None probes.
        Raises:
            ModelError: no model, truncated or altered, no encoder-decoder, or one that reads less than `max_tokens`.
        """
        settings = settings or load_settings(folder)
        model, tokenizer = load_language_model(
            folder, "AutoModelForSeq2SeqLM", settings.max_tokens, settings.max_answer_tokens
        )
        return cls(model, tokenizer, settings, machine or probe())

    def pair_texts(self, questions: Sequence[str], passages: Sequence[Sequence[ReadingPassage]]) -> list[list[int]]:
        """Token ids of each question with each of its passages, one after another; passages are cut to fit."""
        pairs = [
            (self.plain(question), self.plain(passage.text))
            for question, found in zip(questions, passages, strict=True)
            for passage in found
        ]
        limit = self.settings.max_tokens
        tokens: Any = self.tokenizer([self.composed(*pair) for pair in pairs], verbose=False)
        ids = [list(row) for row in tokens["input_ids"]]
        for place, (asked, passage) in enumerate(pairs):
            if len(ids[place]) > limit:
                question = self.shortened(asked, limit // 2)
                rest = limit - len(self._ids(self.composed(question, "")))
                # Where the parts meet, tokens may be others than those of the parts: cut until it fits.
                for left in range(rest, -1, -1):
                    ids[place] = self._ids(self.composed(question, self.shortened(passage, left)))
                    if len(ids[place]) <= limit:
                        break
                # Some normalisations make a cut text longer (T5's "ﷺ" is four words): the end of the pair goes.
                ids[place] = ids[place][:limit]
        return ids

    def frame_length(self) -> int:
        """See `GenerativeReader.frame_length`."""
        return len(self._ids(self.composed("", "")))

    def composed(self, question: str, passage: str) -> str:
        """Question and passage as one text. Braces in either are text, and no places."""
        before, _, after = self.settings.template.partition(PASSAGE)
        return before.replace(QUESTION, question) + passage + after.replace(QUESTION, question)

    def _ids(self, text: str) -> list[int]:
        tokens: Any = self.tokenizer(text, verbose=False)
        return list(tokens["input_ids"])

    def _answer_ids(self, answer: str) -> list[int]:
        tokens: Any = self.tokenizer(text_target=answer, verbose=False)
        ids: list[int] = list(tokens["input_ids"])
        # A tokenizer of an encoder begins with the token that starts the decoder: it would stand there twice.
        if ids and ids[0] == self.start and ids[0] != self.forced:
            ids = ids[1:]
        return ids[:-1] if ids and ids[-1] in self.ends else ids

    def evidence(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ReadingPassage]],
        targets: Sequence[Sequence[int]],
        prior: "torch.Tensor",
        present: "torch.Tensor",
        likelihood: bool,
        smoothing: float = 0.0,
    ) -> Evidence:
        """See `GenerativeReader.evidence`. In `fid` the likelihoods have no gradient: they teach retrieval alone."""
        labelled = padded(targets, self.pad, self.machine.device)
        return self._evidence(questions, passages, labelled, prior, present, likelihood, smoothing)

    def judged(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ReadingPassage]],
        written: Sequence[Sequence[int]],
        prior: "torch.Tensor",
        present: "torch.Tensor",
    ) -> Evidence:
        """See `GenerativeReader.judged`: BART's first token, say, is forced."""
        return self._evidence(questions, passages, self.unforced(written), prior, present, True)

    def _evidence(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ReadingPassage]],
        labelled: "tuple[torch.Tensor, torch.Tensor]",
        prior: "torch.Tensor",
        present: "torch.Tensor",
        likelihood: bool,
        smoothing: float = 0.0,
    ) -> Evidence:
        import torch

        pairs = self.pair_texts(questions, passages)
        labels, counted = labelled
        if self.settings.kind == "fid":
            tokens, uniform = self._fused(pairs, [len(found) for found in passages], labels, smoothing)
            nll = -((1 - smoothing) * tokens + smoothing * uniform).masked_fill(~counted, 0.0).sum(dim=1)
            if not likelihood:
                return Evidence(nll, torch.zeros_like(prior))
            with torch.no_grad():
                return Evidence(nll, self._likelihoods(pairs, labels, counted, present)[0].sum(dim=2))
        whole = smoothing > 0 and self.settings.kind == "rag_token"
        tokens, uniform, log_probs = self._likelihoods(pairs, labels, counted, present, smoothing > 0, whole)
        if self.settings.kind == "rag_token":
            nll = rag_token(prior, tokens, smoothing, log_probs, counted)
        else:
            nll = rag_sequence(prior, ((1 - smoothing) * tokens + smoothing * uniform).sum(dim=2))
        return Evidence(nll, tokens.sum(dim=2))

    def unforced(self, answers: Sequence[Sequence[int]]) -> "tuple[torch.Tensor, torch.Tensor]":
        """Answers side by side, and which of their tokens count: those that decoding does not force."""
        labels, counted = padded(answers, self.pad, self.machine.device)
        if self.forced is not None:
            counted[:, 0] &= labels[:, 0] != self.forced
        return labels, counted

    def _likelihoods(
        self,
        pairs: Sequence[Sequence[int]],
        labels: "torch.Tensor",
        counted: "torch.Tensor",
        present: "torch.Tensor",
        uniform: bool = False,
        whole: bool = False,
    ) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]":
        """Log p(y_t | x, z, y_<t), the mean over the vocabulary (or 0), and all of it (or None); 0 where no token is.

        Pairs of like length are computed together, and again in the backward pass when they are in several parts.

        Returns:
            Shapes (questions, passages, tokens), the same, and (questions, passages, tokens, vocabulary).
        """
        import torch

        rows = present.nonzero()  # (pairs, 2): question and passage of each pair, in their order
        batches = length_batches([len(pair) for pair in pairs], self.micro_tokens)
        order = torch.argsort(torch.tensor([place for batch in batches for place in batch], device=labels.device))
        arguments = [([pairs[place] for place in batch], labels[rows[batch, 0]], uniform, whole) for batch in batches]
        parts = each_part(self._pair_part, arguments, len(arguments) > 1)
        found = [torch.cat(some)[order] for some in zip(*parts, strict=True) if some[0] is not None]
        shown = present[:, :, None] & counted[:, None, :]

        def spread(values: torch.Tensor) -> torch.Tensor:
            room = values.new_zeros((*present.shape, *values.shape[1:]))
            room = room.index_put((rows[:, 0], rows[:, 1]), values)
            return room.masked_fill(~shown.view(*shown.shape, *[1] * (room.ndim - 3)), 0.0)

        return spread(found[0]), spread(found[1]), spread(found[2]) if whole else None

    def _pair_part(
        self, pairs: Sequence[Sequence[int]], labels: "torch.Tensor", uniform: bool, whole: bool
    ) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]":
        ids, mask = padded(pairs, self.pad, self.machine.device)
        with self.machine.autocast():
            output = self.model(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=self.shifted(labels))
        return of_labels(output.logits, labels, uniform, whole)

    def _fused(
        self, pairs: Sequence[Sequence[int]], counts: Sequence[int], labels: "torch.Tensor", smoothing: float
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Log p(y_t | x, all z, y_<t) and its mean over the vocabulary, both of shape (questions, tokens)."""
        states, mask = self.fused_states(pairs, counts)
        with self.machine.autocast():
            output = self.model(
                encoder_outputs=as_output(states), attention_mask=mask, decoder_input_ids=self.shifted(labels)
            )
        tokens, uniform, _ = of_labels(output.logits, labels, smoothing > 0, whole=False)
        return tokens, uniform

    def fused_states(
        self, pairs: Sequence[Sequence[int]], counts: Sequence[int]
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """What the decoder of Fusion-in-Decoder attends to: the pairs' states of each question, side by side.

        Returns:
            float32 (questions, longest, hidden) and its mask, int64 (questions, longest).
        """
        import torch

        batches = length_batches([len(pair) for pair in pairs], self.micro_tokens)
        states: list[Any] = [None] * len(pairs)
        for batch, found in zip(
            batches,
            each_part(self._states, [([pairs[place] for place in batch],) for batch in batches], len(batches) > 1),
            strict=True,
        ):
            for row, place in enumerate(batch):
                states[place] = found[row, : len(pairs[place])]
        joined, first = [], 0
        for count in counts:
            joined.append(torch.cat(states[first : first + count]))
            first += count
        mask = torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(rows), dtype=torch.long, device=self.machine.device) for rows in joined], batch_first=True
        )
        return torch.nn.utils.rnn.pad_sequence(joined, batch_first=True), mask

    def _states(self, pairs: Sequence[Sequence[int]]) -> "torch.Tensor":
        ids, mask = padded(pairs, self.pad, self.machine.device)
        encoder: Any = self.model.get_encoder()
        with self.machine.autocast():
            states: torch.Tensor = encoder(input_ids=ids, attention_mask=mask.long())[0]
        return states.float()

    def shifted(self, labels: "torch.Tensor") -> "torch.Tensor":
        """What the decoder has seen before each label."""
        import torch

        return torch.cat([torch.full_like(labels[:, :1], self.start), labels[:, :-1]], dim=1)

    # --- decoding ---

    def generate_ids(
        self, questions: Sequence[str], passages: Sequence[Sequence[ReadingPassage]], prior: "torch.Tensor"
    ) -> list[list[int]]:
        """See `GenerativeReader.generate_ids`."""
        return [found[0] for found in self.candidates(questions, passages, prior, 1)]

    def candidates(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[ReadingPassage]],
        prior: "torch.Tensor",
        count: int,
        streamer: Any = None,
    ) -> list[list[list[int]]]:
        """The best so many answers to each question, best first; fewer where fewer differ."""
        pairs = self.pair_texts(questions, passages)
        if self.settings.kind == "rag_sequence":
            return self._by_sequence(pairs, passages, prior, count)
        decoding = self.settings.decoding
        extra: dict[str, Any] = {"num_return_sequences": count}
        if self.settings.kind == "fid":
            states, mask = self.fused_states(pairs, [len(found) for found in passages])
            inputs: dict[str, Any] = {"encoder_outputs": as_output(states), "attention_mask": mask}
            processors: list[Any] = [SharedGumbel(decoding, 1)] if decoding.do_sample else []
            width = 1
        else:
            # Each question has the same number of rows: an absent passage is a copy of the first, without a share.
            width, rows, first = prior.shape[1], [], 0
            for found in passages:
                rows += [pairs[first + place if place < len(found) else first] for place in range(width)]
                first += len(found)
            ids, shown = padded(rows, self.pad, self.machine.device)
            inputs = {"input_ids": ids, "attention_mask": shown.long()}
            longest = 1 + self.settings.max_answer_tokens
            own = own_processors(self.model.generation_config, longest, self.machine.device)
            processors = [MarginalLogits(prior), *own]
            extra |= dict.fromkeys(PROCESSED)  # not before the mixture too
            if decoding.do_sample:
                processors.append(SharedGumbel(decoding, width))
        output = self._generated(inputs, processors, streamer, **extra)
        grouped = output.view(len(questions), width, count, -1)[:, 0]
        return [[self.ended(row[1:]) for row in of_one] for of_one in grouped.tolist()]

    def _generated(self, inputs: dict[str, Any], processors: list[Any], streamer: Any, **extra: Any) -> "torch.Tensor":
        from transformers import LogitsProcessorList

        with self.machine.autocast():
            output: torch.Tensor = self.model.generate(
                **inputs,
                logits_processor=LogitsProcessorList(processors),
                num_beams=self.settings.decoding.num_beams,
                do_sample=False,  # `SharedGumbel` draws
                max_new_tokens=self.settings.max_answer_tokens,
                # Some configurations bring a length of their own, which would be shorter or longer than was asked.
                max_length=None,
                min_length=0,
                streamer=streamer,
                pad_token_id=self.pad,
                **extra,
            )
        return output

    def _by_sequence(
        self,
        pairs: Sequence[Sequence[int]],
        passages: Sequence[Sequence[ReadingPassage]],
        prior: "torch.Tensor",
        count: int,
    ) -> list[list[list[int]]]:
        """RAG-Sequence's decoding (Lewis et al. 2020, sec. 2.5): answers of each passage, scored over the passages.

        Thorough: each answer is scored after every passage. Fast: only after those that gave it; p(y | x, z) of the
        others is taken for 0.
        """
        import torch

        beams = self.settings.decoding.num_beams
        sample = [SharedGumbel(self.settings.decoding, 1)] if self.settings.decoding.do_sample else []
        ids, shown = padded(pairs, self.pad, self.machine.device)
        rows = self._generated(
            {"input_ids": ids, "attention_mask": shown.long()}, sample, None, num_return_sequences=beams
        ).tolist()
        best, first = [], 0
        for number, found in enumerate(passages):
            given: dict[tuple[int, ...], set[int]] = {}
            for place in range(len(found)):
                for row in rows[(first + place) * beams : (first + place + 1) * beams]:
                    given.setdefault(tuple(self.ended(row[1:])), set()).add(place)
            answers = list(given)
            labels, counted = self.unforced(answers)
            # A batch of as many questions as there are answers, each after the passages that count for it.
            thorough, places = self.settings.decoding.thorough, range(len(found))
            present = torch.tensor(
                [[thorough or place in given[one] for place in places] for one in answers], device=labels.device
            )
            mine = [pairs[first + place] for _, place in present.nonzero().tolist()]
            likelihood = self._likelihoods(mine, labels, counted, present)[0].sum(dim=2)
            nll = rag_sequence(
                prior[number : number + 1, : len(found)], likelihood.masked_fill(~present, float("-inf"))
            )
            ranked = sorted(range(len(answers)), key=lambda place: float(nll[place]))
            best.append([list(answers[place]) for place in ranked[:count]])
            first += len(found)
        return best

    def stream(self, question: str, passages: Sequence[ReadingPassage]) -> Iterator[str]:
        """See `GenerativeReader.stream`."""
        decoding = self.settings.decoding
        if self.settings.kind == "rag_sequence" or decoding.num_beams > 1:
            raise ValueError(
                "An answer can be streamed with one beam, and not in rag_sequence: before the end it is not known "
                "which one it will be. Set num_beams to 1 and reader to rag_token, fid or causal."
            )
        if not passages:
            return iter(())
        self.model.eval()
        prior = log_prior(*self.scores([passages]))
        return stream_first_row(
            lambda ids: self.text(self.ended(ids)),
            lambda streamer: self.candidates([question], [passages], prior, 1, streamer),
        )
