"""GenEval's rules by hand, and detectors against direct computation."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from evaluation.judges import tiny_models
from open_imagen.errors import ConfigError, DataError
from open_imagen.evaluation.judges.colors import ClipColors, PixelColors
from open_imagen.evaluation.judges.detector import GenEvalJudge, ZeroShotDetector
from open_imagen.evaluation.judges.geneval import (
    Detection,
    check_image,
    check_row,
    overlap,
    relations,
    select,
)
from open_imagen.evaluation.judges.spec import JudgeSpec

CPU = torch.device("cpu")


def at(x, y, side=10, score=0.9):
    return Detection((x - side / 2, y - side / 2, x + side / 2, y + side / 2), score)


@pytest.mark.parametrize(
    "dx,dy,expected",
    [
        (-50, 0, {"left of"}),
        (50, 0, {"right of"}),
        (0, -50, {"above"}),
        (0, 50, {"below"}),
        (40, 40, {"right of", "below"}),
        (50, 20, {"right of"}),
        (1.9, 0, set()),  # a tenth of both sides is 2
        (2.5, 0, set()),  # .5 of the offset's 2.5 is left: less than half
        (4.5, 0, {"right of"}),  # 2.5 of 4.5
        (0, 0, set()),
    ],
)
def test_relations_by_hand(dx, dy, expected):
    assert relations(at(100 + dx, 100 + dy), at(100, 100)) == expected


def test_detections_above_the_threshold_best_first_without_doubles():
    found = [at(0, 0, score=0.3), at(50, 0, score=0.5), at(51, 0, score=0.8), at(9, 9, score=0.31)]
    assert [d.score for d in select(found, 0.3)] == [0.8, 0.5, 0.31]
    assert [d.score for d in select(found, 0.3, nms_threshold=0.5)] == [0.8, 0.31]
    assert len(select([at(k, 0, score=0.9) for k in range(20)], 0.3)) == 16
    assert overlap(at(0, 0), at(5, 0)) == pytest.approx(50 / 150)
    assert overlap(at(0, 0), at(50, 0)) == 0


def check(metadata, detections, colors=("red",)):
    return check_image(metadata, detections, lambda name, some: list(colors)[: len(some)])


def test_classes_must_be_there_in_number():
    two = {"include": [{"class": "cat", "count": 2}]}
    assert check(two, {"cat": [at(0, 0), at(50, 0)]}).right
    assert check(two, {"cat": [at(0, 0)] * 3}).right  # more are not forbidden by include
    missed = check(two, {"cat": [at(0, 0)]})
    assert (missed.right, missed.reasons) == (False, ("expected 2 cat, found 1",))
    exact = {**two, "exclude": [{"class": "cat", "count": 3}]}
    assert check(exact, {"cat": [at(0, 0)] * 2}).right
    assert not check(exact, {"cat": [at(0, 0)] * 3}).right


def test_colors_must_hold_for_all_that_are_counted():
    red = {"include": [{"class": "cat", "count": 2, "color": "red"}]}
    cats = {"cat": [at(0, 0), at(50, 0), at(90, 0)]}
    assert check(red, cats, ("red", "red", "blue")).right
    assert not check(red, cats, ("red", "blue", "red")).right


def test_positions_must_hold_to_every_target_that_was_matched():
    row = {
        "include": [
            {"class": "dog", "count": 1, "color": "red"},
            {"class": "cat", "count": 1, "position": ["left of", 0]},
        ]
    }
    found = {"dog": [at(100, 0)], "cat": [at(0, 0)]}
    assert check(row, found).right
    assert not check(row, {"dog": [at(0, 0)], "cat": [at(100, 0)]}).right
    wrong = check(row, found, ("blue",))  # the target is of the wrong colour
    assert "nothing for cat to be left of" in wrong.reasons
    two = {
        "include": [
            {"class": "dog", "count": 2},
            {"class": "cat", "count": 1, "position": ["left of", 0]},
        ]
    }
    assert not check(two, {"dog": [at(100, 0), at(-90, 0)], "cat": [at(0, 0)]}).right


@pytest.mark.parametrize(
    "row,message",
    [
        ({"prompt": "p", "include": []}, "names no object"),
        ({"prompt": "p", "include": [{"class": "cat"}]}, "not in GenEval's schema"),
        (
            {"prompt": "p", "include": [{"class": "a", "count": 1, "position": ["above", 0]}]},
            "no earlier object",
        ),
    ],
)
def test_rows_of_another_schema_are_refused(row, message):
    with pytest.raises(DataError, match=message):
        check_row(row)


def noise(seed, size=(48, 40)):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def test_owlvit_equals_a_direct_computation(tmp_path):
    from transformers import OwlViTForObjectDetection, OwlViTProcessor

    folder, image = tiny_models.owlvit(tmp_path / "owlvit"), noise(3)
    found = ZeroShotDetector(folder, CPU)(image, "ring", 0.0)
    model = OwlViTForObjectDetection.from_pretrained(folder).eval()
    processor = OwlViTProcessor.from_pretrained(folder)
    inputs = processor(text=[["a photo of a ring"]], images=image, return_tensors="pt")
    with torch.no_grad():
        out = model(**inputs)
    scores = out.logits[0, :, 0].sigmoid()
    assert [d.score for d in found] == pytest.approx(scores.tolist(), abs=1e-6)
    cx, cy, w, h = out.pred_boxes[0].T
    boxes = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
    boxes = boxes * torch.tensor([48, 40, 48, 40])
    torch.testing.assert_close(torch.tensor([d.box for d in found]), boxes, atol=1e-4, rtol=1e-6)
    high = float(scores.sort().values[-3])
    assert len(ZeroShotDetector(folder, CPU)(image, "ring", high)) == 2


def test_grounding_dino_equals_a_direct_computation(tmp_path):
    from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

    folder, image = tiny_models.grounding_dino(tmp_path / "dino"), noise(4, (64, 64))
    found = ZeroShotDetector(folder, CPU)(image, "Red Ring", 0.0)
    model = GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    processor = GroundingDinoProcessor.from_pretrained(folder)
    inputs = processor(text="red ring.", images=image, return_tensors="pt")
    with torch.no_grad():
        out = model(**inputs)
    scores = out.logits[0].sigmoid().max(-1).values
    assert [d.score for d in found] == pytest.approx(scores.tolist(), abs=1e-6)


class Stub:
    """Detections by class, without a model."""

    name, identity = "stub", {"model": "stub"}

    def __init__(self, **found):
        self.found = found

    def __call__(self, image, name, threshold):
        return self.found.get(name, [])


def test_counting_needs_the_higher_confidence():
    detector = Stub(ring=[at(10, 10, score=0.95), at(30, 30, score=0.5)])
    judge = GenEvalJudge(detector, PixelColors(), JudgeSpec(name="geneval"))
    include = [{"class": "ring", "count": 2}]
    image = torch.zeros(3, 48, 48, dtype=torch.uint8)
    found = judge([image] * 2, [{"tag": t, "include": include} for t in ("counting", "two_object")])
    assert [v.right for v in found] == [False, True]
    assert judge.label == "GenEval rules, detector stub"
    assert judge.identity["counting_threshold"] == 0.9
    with pytest.raises(ConfigError, match=r"threshold = 1\.5"):
        JudgeSpec(name="geneval", threshold=1.5)


@pytest.mark.parametrize("color,rgb", [("red", (200, 30, 40)), ("white", (240, 245, 245))])
def test_pixel_colors_look_at_what_differs_from_the_border(color, rgb):
    image = Image.new("RGB", (64, 64), (90, 90, 90))
    ImageDraw.Draw(image).ellipse((16, 16, 40, 40), fill=rgb)
    assert PixelColors()(image, "ring", [Detection((10, 10, 46, 46), 1.0)]) == [color]
    plain = Image.new("RGB", (8, 8), rgb)
    assert PixelColors()(plain, "ring", [Detection((-5, -5, 99, 99), 1.0)]) == [color]


def test_clip_colors_equal_a_direct_computation(tmp_path):
    from transformers import CLIPModel, CLIPProcessor

    folder, image = tiny_models.clip(tmp_path / "clip"), noise(5)
    boxes = [Detection((0, 0, 20, 20), 1.0), Detection((10, 5, 48, 40), 1.0)]
    found = ClipColors(folder, CPU)(image, "ring", boxes)
    model, processor = (
        CLIPModel.from_pretrained(folder).eval(),
        CLIPProcessor.from_pretrained(folder),
    )
    names = [
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "pink",
        "brown",
        "black",
        "white",
    ]
    expected = []
    for box in boxes:
        crop = image.crop(tuple(int(v) for v in box.box))
        scores = []
        for name in names:
            texts = [
                f"a photo of a {name} ring",
                f"a photo of a {name}-colored ring",
                f"a photo of a {name} object",
            ]
            inputs = processor(text=texts, images=crop, return_tensors="pt", padding=True)
            with torch.no_grad():
                out = model(**inputs)
            mean = out.text_embeds.mean(0)
            scores.append(float(out.image_embeds[0] @ mean / mean.norm()))
        expected.append(names[int(np.argmax(scores))])
    assert found == expected
