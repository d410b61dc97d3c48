"""A decoder-only language model that reads all passages in one prompt."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragsmith.compute.batching import length_batches, padded
from ragsmith.compute.device import Machine, probe
from ragsmith.compute.recompute import each_part
from ragsmith.read.decoding import SharedGumbel, stream_first_row
from ragsmith.read.evidence import Evidence
from ragsmith.read.generative import PASSAGE, QUESTION, GenerativeReader, GenerativeSettings, load_settings
from ragsmith.read.language_model import load_language_model, of_labels
from ragsmith.read.reading import ReadingPassage

if TYPE_CHECKING:
    import torch

NUMBERED = "[{number}] {passage}\n"


class CausalReader(GenerativeReader):
    """Question and numbered passages as a prompt, in the model's own chat template where it has one.

    Trained on passages of which most are wrong, the model learns to leave them aside (RAFT, Zhang et al. 2024; Yoran
    et al. 2024). See `GenerativeReader`.
    """

    @classmethod
    def load(
        cls, folder: Path, settings: GenerativeSettings | None = None, machine: Machine | None = None
    ) -> "CausalReader":
        """The reader of a transformers directory.

        Args:
            folder: what `save` wrote, or a causal language model.
            settings: None takes the saved ones.
            machine: None probes.
        Raises:
            ModelError: no model, truncated or altered, no causal language model, or one that reads less than
                `max_tokens` and `max_answer_tokens` together.
        """
        settings = settings or load_settings(folder)
        model, tokenizer = load_language_model(
            folder, "AutoModelForCausalLM", settings.max_tokens, settings.max_answer_tokens
        )
        return cls(model, tokenizer, settings, machine or probe())

    def prompt(self, question: str, passages: Sequence[ReadingPassage]) -> list[int]:
        """Token ids of a prompt of at most `max_tokens`.

        All passages get the same room; what a short one leaves goes to the longer ones. Passages are data: the numbers
        tell where each begins.
        """
        limit = self.settings.max_tokens
        asked = self.shortened(self.plain(question), limit // 2)
        texts = [self.plain(passage.text) for passage in passages]
        # Numbers alone could fill the prompt: then the last passages go.
        while (room := limit - len(self._prompt_ids(asked, [""] * len(texts)))) < len(texts) and texts:
            texts.pop()
        lengths = [self.length(text) for text in texts]
        # Where texts meet, tokens may be others than those of the parts: less room until it fits.
        for left in range(room, 0, -max(1, len(texts))):
            shares = shared_room(lengths, left)
            ids = self._prompt_ids(asked, [self.shortened(*pair) for pair in zip(texts, shares, strict=True)])
            if len(ids) <= limit:
                return ids
        return self._prompt_ids(asked, [""] * len(texts))[-limit:]

    def frame_length(self) -> int:
        """See `GenerativeReader.frame_length`."""
        return len(self._prompt_ids("", []))

    def _prompt_ids(self, question: str, passages: Sequence[str]) -> list[int]:
        listed = "".join(
            NUMBERED.replace("{number}", str(number)).replace("{passage}", text)
            for number, text in enumerate(passages, start=1)
        )
        before, _, after = self.settings.template.partition(PASSAGE)
        text = before.replace(QUESTION, question) + listed.rstrip("\n") + after.replace(QUESTION, question)
        tokenizer: Any = self.tokenizer
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        ids = list(tokenizer(text, verbose=False)["input_ids"])
        # A tokenizer that ends every text would end the prompt before the answer.
        return ids[:-1] if ids and ids[-1] in self.ends else ids

    def _answer_ids(self, answer: str) -> list[int]:
        # A chat template ends with a mark or a new line; any other prompt ends with a word.
        space = "" if self.tokenizer.chat_template else " "
        tokens: Any = self.tokenizer(space + answer.strip(), add_special_tokens=False, verbose=False)
        return list(tokens["input_ids"])

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
        """See `GenerativeReader.evidence`. The likelihoods have no gradient: they teach retrieval alone."""
        import torch

        prompts = [self.prompt(question, found) for question, found in zip(questions, passages, strict=True)]
        tokens, uniform = self._answered(prompts, targets, smoothing > 0)
        nll = -((1 - smoothing) * tokens + smoothing * uniform).sum(dim=1)
        alone = torch.zeros_like(prior)
        if likelihood:
            rows = [(row, place) for row, found in enumerate(passages) for place in range(len(found))]
            with torch.no_grad():
                each, _ = self._answered(
                    [self.prompt(questions[row], [passages[row][place]]) for row, place in rows],
                    [targets[row] for row, _ in rows],
                    uniform=False,
                )
            places = torch.tensor(rows, device=prior.device)
            alone[places[:, 0], places[:, 1]] = each.sum(dim=1)
        return Evidence(nll, alone)

    def _answered(
        self, prompts: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], uniform: bool
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Log p(y_t | prompt, y_<t) and its mean over the vocabulary, both (prompts, tokens); 0 where no token is."""
        import torch

        rows = [[*prompt, *target] for prompt, target in zip(prompts, targets, strict=True)]
        width = max(len(target) for target in targets)
        batches = length_batches([len(row) for row in rows], self.micro_tokens)
        order = torch.argsort(
            torch.tensor([place for batch in batches for place in batch], device=self.machine.device)
        )
        arguments = [
            ([rows[place] for place in batch], [targets[place] for place in batch], width, uniform)
            for batch in batches
        ]
        parts = each_part(self._part, arguments, len(arguments) > 1)
        tokens, means = (torch.cat(some)[order] for some in zip(*parts, strict=True))
        return tokens, means

    def _part(
        self, rows: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], width: int, uniform: bool
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        import torch

        ids, shown = padded(rows, self.pad, self.machine.device)
        labels, counted = padded(targets, self.pad, self.machine.device, width)
        lengths = torch.tensor([len(target) for target in targets])
        # The token before a label predicts it; padding is at the end and is seen by no token before it.
        before = torch.tensor([len(row) for row in rows]) - lengths - 1
        places = (before[:, None] + torch.arange(width)).clamp(max=ids.shape[1] - 1)
        # Only where answers stand: the logits of whole prompts would be the largest tensor by far.
        kept = torch.arange(int(places.min()), int(places.max()) + 1)
        with self.machine.autocast():
            output = self.model(input_ids=ids, attention_mask=shown.long(), logits_to_keep=kept.to(ids.device))
        inner = (places - kept[0]).to(ids.device)
        logits = output.logits.gather(1, inner[:, :, None].expand(-1, -1, output.logits.shape[2]))
        tokens, means, _ = of_labels(logits, labels, uniform, whole=False)
        return tokens.masked_fill(~counted, 0.0), means.masked_fill(~counted, 0.0)

    def generate_ids(
        self, questions: Sequence[str], passages: Sequence[Sequence[ReadingPassage]], prior: "torch.Tensor"
    ) -> list[list[int]]:
        """See `GenerativeReader.generate_ids`; the prior plays no part."""
        return self._generated(questions, passages, None)

    def _generated(
        self, questions: Sequence[str], passages: Sequence[Sequence[ReadingPassage]], streamer: Any
    ) -> list[list[int]]:
        from transformers import LogitsProcessorList

        decoding = self.settings.decoding
        prompts = [self.prompt(question, found) for question, found in zip(questions, passages, strict=True)]
        longest = max(len(prompt) for prompt in prompts)
        # Padded on the left: the answer begins where the prompt ends.
        ids, shown = padded([prompt[::-1] for prompt in prompts], self.pad, self.machine.device)
        with self.machine.autocast():
            output: Any = self.model.generate(
                input_ids=ids.flip(1),
                attention_mask=shown.flip(1).long(),
                logits_processor=LogitsProcessorList([SharedGumbel(decoding, 1)] if decoding.do_sample else []),
                num_beams=decoding.num_beams,
                do_sample=False,  # `SharedGumbel` draws
                max_new_tokens=self.settings.max_answer_tokens,
                max_length=None,
                min_length=0,
                streamer=streamer,
                pad_token_id=self.pad,
            )
        return [self.ended(row[longest:]) for row in output.tolist()]

    def stream(self, question: str, passages: Sequence[ReadingPassage]) -> Iterator[str]:
        """See `GenerativeReader.stream`."""
        if self.settings.decoding.num_beams > 1:
            raise ValueError("An answer can be streamed with one beam: set num_beams to 1.")
        if not passages:
            return iter(())
        self.model.eval()
        return stream_first_row(
            lambda ids: self.text(self.ended(ids)),
            lambda streamer: self._generated([question], [passages], streamer),
        )


def shared_room(lengths: Sequence[int], room: int) -> list[int]:
    """Room for each text, so that what short ones leave goes to the longer ones in equal parts.

    >>> shared_room([10, 100, 100], 90)
    [10, 40, 40]
    """
    shares = [0] * len(lengths)
    left = room
    for number, place in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        shares[place] = max(0, min(lengths[place], left // (len(lengths) - number)))
        left -= shares[place]
    return shares
