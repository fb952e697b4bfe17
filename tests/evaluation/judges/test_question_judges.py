"""VQA judges: direct computation on tiny models, and every rule by hand."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.judges import tiny_models
from open_imagen.errors import DataError
from open_imagen.evaluation.judges.atoms import Atom, atoms_of, gate, gate_in_file_order
from open_imagen.evaluation.judges.judge import Verdict
from open_imagen.evaluation.judges.measure import summarize
from open_imagen.evaluation.judges.questions import (
    Dpg,
    SoftTifaMean,
    SoftTifaProduct,
    Tifa,
    VQAScore,
)
from open_imagen.evaluation.judges.vision_language import VisionLanguageModel

CPU = torch.device("cpu")


def noise(seed, width=40, height=48):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return tiny_models.llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.mark.parametrize("answer", ["Yes", "red circle", "two blue rings"])
def test_probabilities_equal_a_direct_computation_of_a_decoder(llava, answer):
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    image, question = noise(1), "is there a red circle ?"
    [found] = VisionLanguageModel(llava, CPU).probabilities([image], question, answer)

    model = LlavaForConditionalGeneration.from_pretrained(llava).eval()
    processor = LlavaProcessor.from_pretrained(llava)
    inputs = processor(
        images=image, text=f"user : <image> {question} assistant : ", return_tensors="pt"
    )
    expected = 1.0
    ids = inputs["input_ids"]
    for token in processor.tokenizer(answer)["input_ids"]:
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0, -1]
        expected *= float(logits.double().softmax(-1)[token])
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_probabilities_equal_a_direct_computation_of_an_encoder_and_decoder(tmp_path):
    from transformers import InstructBlipForConditionalGeneration, InstructBlipProcessor

    folder = tiny_models.instructblip(tmp_path / "instructblip")
    images, question = [noise(1), noise(2)], "is there a red circle ?"
    judge = VisionLanguageModel(folder, CPU)
    found = judge.probabilities(images, question, "Yes No")

    model = InstructBlipForConditionalGeneration.from_pretrained(folder).eval()
    processor = InstructBlipProcessor.from_pretrained(folder)
    yes, no = processor.tokenizer("Yes No", add_special_tokens=False)["input_ids"]
    for image, one in zip(images, found, strict=True):
        inputs = processor(images=image, text=question, return_tensors="pt")
        with torch.no_grad():
            first = model(**inputs, decoder_input_ids=torch.tensor([[0]])).logits[0, -1]
            second = model(**inputs, decoder_input_ids=torch.tensor([[0, yes]])).logits[0, -1]
        expected = first.double().softmax(-1)[yes] * second.double().softmax(-1)[no]
        assert one == pytest.approx(float(expected), rel=1e-5, abs=1e-9)
    assert found[0] != pytest.approx(found[1], rel=1e-3)


def test_images_of_mixed_sizes_are_answered_in_order_as_if_alone(llava):
    model = VisionLanguageModel(llava, CPU)
    images = [noise(k, width=30 + 7 * (k % 3)) for k in range(11)]
    together = model.probabilities(images, "what color ?", "red")
    alone = [model.probabilities([one], "what color ?", "red")[0] for one in images]
    assert together == pytest.approx(alone, rel=1e-5, abs=1e-9)
    assert len(set(together)) == len(images)


def test_vqascore_is_the_probability_of_yes_to_its_question(llava):
    model = VisionLanguageModel(llava, CPU)
    images = [noise(k) for k in range(3)]
    rows = [
        {"prompt": "a red circle"},
        {"prompt": "two rings", "tag": "x"},
        {"prompt": "two rings"},
    ]
    verdicts = VQAScore(model)([tensor(one) for one in images], rows)
    for image, row, verdict in zip(images, rows, verdicts, strict=True):
        question = f'Does this figure show "{row["prompt"]}"? Please answer yes or no.'
        assert verdict.score == pytest.approx(model.probabilities([image], question, "Yes")[0])
        assert verdict.right == (verdict.score >= 0.5)
    assert [v.tag for v in verdicts] == ["prompts", "x", "prompts"]
    with pytest.raises(DataError, match="no prompt"):
        VQAScore(model)([tensor(images[0])], [{"prompt": " "}])


class Table:
    """A model whose answers are known: question -> P(Yes), or answer -> P."""

    name, identity = "table", {}

    def __init__(self, **answers):
        self.answers = answers

    def probabilities(self, images, question, answer):
        return [float(p.exp()) for p in self.log_probabilities(images, question, answer)]

    def log_probabilities(self, images, question, answer):
        known = self.answers[question.split(" ")[0]]
        if not isinstance(known, dict):
            known = {"Yes": known, "No": 0.9 - known}
        p = known[answer]
        return [torch.tensor(p, dtype=torch.float64).log()] * len(images)


def row(*atoms):
    keys = ("id", "question", "parents", "answer", "choices", "category", "first_row")
    return {
        "prompt": "p",
        "tag": "t",
        "atoms": [dict(zip(keys, one, strict=False)) for one in atoms],
    }


def one(judge, metadata):
    [verdict] = judge([torch.zeros(3, 8, 8, dtype=torch.uint8)], [metadata])
    return verdict


# A chain 3 -> 2 -> 1 whose child comes first in the file; 1 fails.
CHAIN = [(3, "c", (2,)), (2, "b", (1,)), (1, "a", ()), (4, "d", ())]
ANSWERS = {"a": 0.2, "b": 0.8, "c": 0.7, "d": 0.6}


def test_dpg_corrected_gates_by_all_ancestors_in_any_order():
    verdict = one(Dpg(Table(**ANSWERS), "corrected"), row(*CHAIN))
    assert verdict.score == 1 / 4
    assert [a.score for a in verdict.atoms] == [1, 1, 0, 1]
    assert [a.gated for a in verdict.atoms] == [0, 0, 0, 1]
    assert not verdict.right


def test_dpg_compatible_gates_in_the_order_of_the_file():
    verdict = one(Dpg(Table(**ANSWERS), "compatible"), row(*CHAIN))
    assert [a.gated for a in verdict.atoms] == [1, 0, 0, 1]
    assert verdict.score == 2 / 4
    ordered = row(*sorted(CHAIN))
    assert one(Dpg(Table(**ANSWERS), "compatible"), ordered).score == 1 / 4


def test_dpg_compatible_skips_the_first_row_of_the_file_and_corrected_does_not():
    metadata = row((1, "a", (), "yes", (), "x", True), (2, "b", (1,)))
    compatible = one(Dpg(Table(**ANSWERS), "compatible"), metadata)
    assert (compatible.score, len(compatible.atoms)) == (1, 1)
    assert one(Dpg(Table(**ANSWERS), "corrected"), metadata).score == 0
    with pytest.raises(DataError, match="asks no question"):
        one(Dpg(Table(**ANSWERS), "compatible"), row((1, "a", (), "yes", (), "x", True)))


def test_dpg_categories_by_each_rule():
    metadata = row((1, "a", (), "yes", (), "entity"), (2, "b", (1,), "yes", (), "color"))
    wrong, right = ({"a": p, "b": 0.8} for p in (0.2, 0.8))
    found = {}
    for rule in ("compatible", "corrected"):
        verdicts = [one(Dpg(Table(**some), rule), metadata) for some in (right, wrong)]
        judge = Dpg(Table(), rule)
        found[rule] = summarize(judge.aggregation, verdicts, [0, 0])["atoms"]
    # The last image alone, before gating; and all images, after gating.
    assert {k: v["value"] for k, v in found["compatible"].items()} == {"color": 100, "entity": 0}
    assert {k: v["value"] for k, v in found["corrected"].items()} == {"color": 50, "entity": 50}


def test_a_question_counts_as_yes_if_yes_is_likelier_than_no():
    # Both are below a half: other words have the rest.
    low = Table(a={"Yes": 0.2, "No": 0.1})
    assert one(Tifa(low, "corrected"), row((1, "a", ()))).score == 1
    assert one(Tifa(low, "corrected"), row((1, "a", (), "no"))).score == 0


def test_tifa_takes_the_likeliest_choice():
    model = Table(a={"red": 0.3, "blue": 0.4, "green": 0.1}, b=0.8)
    colors = ("red", "blue", "green")
    assert one(Tifa(model, "compatible"), row((1, "a", (), "blue", colors))).score == 1
    both = row((1, "a", (), "red", colors), (2, "b", (1,)))
    assert one(Tifa(model, "compatible"), both).score == 1 / 2
    assert one(Tifa(model, "corrected"), both).score == 0
    free = one(Tifa(model, "compatible"), row((1, "a", (), "blue")))
    assert free.score == 0


def test_soft_tifa_means_of_gated_probabilities():
    metadata = row((1, "a", ()), (2, "b", (1,)), (3, "c", (2,)), (4, "e", (), "two"))
    model = Table(a=0.8, b=0.4, c=0.7, e={"two": 0.5})
    for kind, expected in (
        (SoftTifaMean, (0.8 + 0.4 + 0.7 + 0.5) / 4),
        (SoftTifaProduct, (0.8 * 0.4 * 0.7 * 0.5) ** 0.25),
    ):
        assert one(kind(model, "compatible"), metadata).score == pytest.approx(expected)
    # b failed, so c gets no credit.
    assert one(SoftTifaMean(model, "corrected"), metadata).score == pytest.approx(1.7 / 4)
    assert one(SoftTifaProduct(model, "corrected"), metadata).score == 0
    chosen = row((1, "f", (), "red", ("red", "blue")))
    model = Table(f={"red": 0.3, "blue": 0.1})
    assert one(SoftTifaMean(model, "corrected"), chosen).score == pytest.approx(0.75)


def test_questions_are_asked_once_for_all_images_of_a_prompt_and_kept_apart(llava):
    judge = SoftTifaMean(VisionLanguageModel(llava, CPU), "corrected")
    images = [tensor(noise(k)) for k in range(4)]
    rows = [row((1, q, ())) for q in ("is there a ring ?", "is there a star ?")] * 2
    together = judge(images, rows)
    alone = [judge([image], [r])[0] for image, r in zip(images, rows, strict=True)]
    assert [v.score for v in together] == pytest.approx([v.score for v in alone])


def test_gates_keep_scores_where_parents_hold():
    atoms = [Atom(1, "a"), Atom(2, "b", parents=(1,)), Atom(3, "c", parents=(1, 2))]
    scores = {1: 0.5, 2: 0.9, 3: 0.3}
    assert gate(atoms, scores) == scores
    assert gate(atoms, {**scores, 1: 0.49}) == {1: 0.49, 2: 0, 3: 0}
    assert gate_in_file_order(atoms, {1: 1.0, 2: 0.0, 3: 1.0}) == {1: 1, 2: 0, 3: 0}


@pytest.mark.parametrize(
    "metadata,message",
    [
        ({"prompt": "p"}, "'p' has no questions"),
        ({"prompt": "p", "atoms": [{"id": 1}]}, "cannot be read"),
        ({"prompt": "p", "atoms": [3]}, "cannot be read"),
        (row((1, "a"), (1, "b")), "the same id"),
        (row((1, "a", (7,))), "depends on question 7"),
        (row((1, "a", (2,)), (2, "b", (1,))), "in a circle"),
        (row((1, "a", (), "red", ("blue",))), "not among its choices"),
    ],
)
def test_bad_questions_are_refused_by_name(metadata, message):
    with pytest.raises(DataError, match=message):
        atoms_of(metadata)


def test_a_summary_by_hand():
    verdicts = [Verdict("x", True, score=s) for s in (1.0, 0.5)] + [Verdict("y", False, score=0.0)]
    judge = VQAScore(Table())
    found = summarize(judge.aggregation, verdicts, [0, 0, 1])
    assert found["value"] == pytest.approx(37.5)  # the mean over prompts, not over images
    assert found["categories"]["x"]["value"] == 75
    assert found["all_right"]["value"] == 50
    assert found["low"] <= found["value"] <= found["high"]
    assert not math.isnan(found["error"])
