"""Judges that ask a vision-language model: VQAScore, TIFA, DPG-Bench, GenEval 2's Soft-TIFA."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from open_imagen.errors import DataError
from open_imagen.evaluation.judges.atoms import (
    Atom,
    AtomScore,
    arithmetic_mean,
    atoms_of,
    gate,
    gate_in_file_order,
    geometric_mean,
)
from open_imagen.evaluation.judges.judge import Verdict
from open_imagen.evaluation.judges.spec import Aggregation, JudgeSpec, ModelJudge
from open_imagen.evaluation.judges.vision_language import VisionLanguageModel

VQASCORE = 'Does this figure show "{prompt}"? Please answer yes or no.'
BINARY = "{question} Please answer yes or no."
CHOICES = "{question} Answer with one of: {choices}."
FREE = "{question} Answer in one word."
YES, NO = "Yes", "No"


def pil(image: Tensor) -> Image.Image:
    """An image uint8 [3, H, W] for a processor of transformers."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def tag_of(metadata: Mapping[str, Any]) -> str:
    """The group of a prompt in reports: its tag, or its category."""
    return str(metadata.get("tag") or metadata.get("category") or "prompts")


class VQAScore:
    """P("Yes" | image, "Does this figure show ...?") (Lin et al. 2024)."""

    aggregation = Aggregation()

    def __init__(self, model: VisionLanguageModel) -> None:
        self.model, self.label = model, f"VQAScore ({model.name})"
        self.identity = {"judge": "vqascore", "question": VQASCORE, "answer": YES, **model.identity}

    def __call__(
        self, images: Sequence[Tensor], metadata: Sequence[Mapping[str, Any]]
    ) -> list[Verdict]:
        """Judge images uint8 [3, H, W] by their metadata; a verdict each."""
        scores: list[float] = [0.0] * len(images)
        prompts = [str(row.get("prompt", "")).strip() for row in metadata]
        if not all(prompts):
            raise DataError("An image has no prompt that it could be compared with.")
        for prompt in dict.fromkeys(prompts):
            rows = [k for k, one in enumerate(prompts) if one == prompt]
            found = self.model.probabilities(
                [pil(images[k]) for k in rows], VQASCORE.format(prompt=prompt), YES
            )
            for k, score in zip(rows, found, strict=True):
                scores[k] = score
        return [
            Verdict(tag_of(row), score >= 0.5, score=score)
            for row, score in zip(metadata, scores, strict=True)
        ]


class QuestionJudge:
    """Asks every atom of a prompt; a subclass says what an answer counts and how they combine."""

    name: str
    title: str
    soft: bool
    """Atoms count the probability of the right answer, otherwise 0 or 1."""
    combine: Callable[[Sequence[float]], float] = staticmethod(arithmetic_mean)

    def __init__(self, model: VisionLanguageModel, rule: str) -> None:
        self.model, self.compatible = model, rule == "compatible"
        self.label = f"{self.title} ({model.name}, {rule} rule)"
        self.aggregation = Aggregation()
        self.identity = {
            "judge": self.name,
            "rule": rule,
            "questions": [BINARY, CHOICES, FREE],
            **model.identity,
        }

    def __call__(
        self, images: Sequence[Tensor], metadata: Sequence[Mapping[str, Any]]
    ) -> list[Verdict]:
        """Judge images uint8 [3, H, W] by their metadata; a verdict each."""
        every = [self.asked(atoms_of(row)) for row in metadata]
        scores: list[dict[int, float]] = [{} for _ in images]
        for atoms in dict.fromkeys(map(tuple, every)):
            rows = [k for k, one in enumerate(every) if tuple(one) == atoms]
            shown = [pil(images[k]) for k in rows]
            for atom in atoms:
                for k, score in zip(rows, self._answers(shown, atom), strict=True):
                    scores[k][atom.id] = score
        return [
            self._verdict(row, atoms, found)
            for row, atoms, found in zip(metadata, every, scores, strict=True)
        ]

    def asked(self, atoms: Sequence[Atom]) -> list[Atom]:
        """The questions that are asked."""
        return list(atoms)

    def gated(self, atoms: Sequence[Atom], scores: Mapping[int, float]) -> dict[int, float]:
        """The scores after the rule has looked at parents."""
        return dict(scores) if self.compatible else gate(atoms, scores)

    def _answers(self, images: Sequence[Image.Image], atom: Atom) -> list[float]:
        if atom.choices:
            return self._chosen(images, atom)
        if not atom.binary:
            question = FREE.format(question=atom.question)
            found = self.model.probabilities(images, question, atom.answer)
            return found if self.soft else [float(p >= 0.5) for p in found]
        question = BINARY.format(question=atom.question)
        right, wrong = (YES, NO) if atom.answer.lower() == "yes" else (NO, YES)
        ours = self.model.probabilities(images, question, right)
        if self.soft:
            return ours
        theirs = self.model.probabilities(images, question, wrong)
        return [float(a > b) for a, b in zip(ours, theirs, strict=True)]

    def _chosen(self, images: Sequence[Image.Image], atom: Atom) -> list[float]:
        question = CHOICES.format(question=atom.question, choices=", ".join(atom.choices))
        logs = torch.stack(
            [torch.stack(self.model.log_probabilities(images, question, c)) for c in atom.choices]
        )
        right = atom.choices.index(atom.answer)
        if self.soft:
            return [float(p) for p in logs.softmax(0)[right]]
        return [float(best == right) for best in logs.argmax(0)]

    def _verdict(
        self, metadata: Mapping[str, Any], atoms: Sequence[Atom], scores: Mapping[int, float]
    ) -> Verdict:
        if not atoms:
            raise DataError(f"The rule asks no question about {metadata.get('prompt')!r}.")
        gated = self.gated(atoms, scores)
        score = type(self).combine([gated[atom.id] for atom in atoms])
        found = tuple(AtomScore(a.category, scores[a.id], gated[a.id]) for a in atoms)
        right = all(one.gated >= 0.5 for one in found)
        return Verdict(tag_of(metadata), right, score=score, atoms=found)


class Tifa(QuestionJudge):
    """The share of questions answered rightly (Hu et al. 2023).

    The compatible rule looks at each question alone; the corrected one gives no credit for a
    detail of something that is not there.
    """

    name, title, soft = "tifa", "TIFA rules", False


class SoftTifaMean(QuestionJudge):
    """GenEval 2's score of atoms: the mean probability of right answers."""

    name, title, soft = "soft-tifa-am", "Soft-TIFA, mean of atoms", True


class SoftTifaProduct(QuestionJudge):
    """GenEval 2's score of prompts: the geometric mean of the probabilities of right answers."""

    name, title, soft = "soft-tifa-gm", "Soft-TIFA, geometric mean", True
    combine = staticmethod(geometric_mean)


class Dpg(QuestionJudge):
    """DPG-Bench (Hu et al. 2024): the share of questions answered yes, gated by their parents.

    The compatible rule repeats the reference script: it skips the first row of the file, gates in
    the order of the file, and takes categories from the last image of each prompt before gating.
    """

    name, title, soft = "dpg", "DPG-Bench rules", False

    def __init__(self, model: VisionLanguageModel, rule: str) -> None:
        super().__init__(model, rule)
        if self.compatible:
            self.aggregation = Aggregation(gated_categories=False, last_image_only=True)

    def asked(self, atoms: Sequence[Atom]) -> list[Atom]:
        """The questions to ask, in the order of the file."""
        return [a for a in atoms if not (self.compatible and a.first_row)]

    def gated(self, atoms: Sequence[Atom], scores: Mapping[int, float]) -> dict[int, float]:
        """The scores, zero for questions whose parent question was answered with no."""
        return gate_in_file_order(atoms, scores) if self.compatible else gate(atoms, scores)


def open_vqascore(spec: JudgeSpec) -> ModelJudge:
    """The VQAScore judge with the model in a folder."""
    return VQAScore(VisionLanguageModel(spec.folder(), spec.device))


def open_questions(kind: type[QuestionJudge]) -> Callable[[JudgeSpec], ModelJudge]:
    """What opens a judge of this kind."""

    def make(spec: JudgeSpec) -> ModelJudge:
        return kind(VisionLanguageModel(spec.folder(), spec.device), spec.rule)

    return make
