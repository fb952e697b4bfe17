"""Judges by name and path: preferences, plug-ins, missing and wrong weights, measured accuracy."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from evaluation.judges import tiny_models
from open_imagen.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MissingDependency,
    UnknownName,
)
from open_imagen.evaluation.image_set import open_images
from open_imagen.evaluation.judges.accuracy import EXACT_SCENES, measure_accuracy
from open_imagen.evaluation.judges.judge import Verdict
from open_imagen.evaluation.judges.measure import measure_judge
from open_imagen.evaluation.judges.models import open_judge
from open_imagen.evaluation.judges.spec import Aggregation, JudgeSpec
from open_imagen.evaluation.metrics.vision import open_vision
from open_imagen.worlds.shapes.exact import exact_scenes
from open_imagen.worlds.shapes.judge import ShapesJudge


def noise(seed):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (3, 40, 48), dtype=np.uint8))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_models.clip(tmp_path_factory.mktemp("models") / "clip")


def test_a_preference_is_clips_own_logit(clip):
    from transformers import CLIPModel, CLIPProcessor

    judge = open_judge(JudgeSpec(name="clip-preference", weights=clip))
    images, prompts = [noise(k) for k in range(3)], ["a red ring", "two blue rings", "heart"]
    found = judge(images, [{"prompt": p} for p in prompts])
    model, processor = CLIPModel.from_pretrained(clip).eval(), CLIPProcessor.from_pretrained(clip)
    for image, prompt, verdict in zip(images, prompts, found, strict=True):
        shown = Image.fromarray(image.permute(1, 2, 0).numpy())
        inputs = processor(text=[prompt], images=shown, return_tensors="pt")
        with torch.no_grad():
            expected = model(**inputs).logits_per_image[0, 0]
        assert verdict.score == pytest.approx(float(expected), abs=1e-6)
    assert judge.label == "preference (clip)"


def test_a_linear_preference_is_its_head_on_unit_features(clip, tmp_path):
    from transformers import CLIPModel, CLIPProcessor

    folder = shutil.copytree(clip, tmp_path / "aesthetic")
    spec = JudgeSpec(name="linear-preference", weights=folder)
    with pytest.raises(CheckpointError, match=r"head\.safetensors are missing"):
        open_judge(spec)
    save_file({"weight": torch.ones(1, 9), "bias": torch.ones(1)}, folder / "head.safetensors")
    with pytest.raises(CheckpointError, match=r"weight \(1, 8\)"):
        open_judge(spec)
    weight, bias = torch.linspace(-1, 1, 8)[None], torch.tensor([0.25])
    save_file({"weight": weight, "bias": bias}, folder / "head.safetensors")
    [verdict] = open_judge(spec)([noise(1)], [{"prompt": "ignored"}])
    shown = Image.fromarray(noise(1).permute(1, 2, 0).numpy())
    pixels = CLIPProcessor.from_pretrained(clip)(images=shown, return_tensors="pt")
    model = CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        raw = model.visual_projection(model.vision_model(**pixels).pooler_output)[0]
    expected = float((raw / raw.norm() * weight[0]).sum() + bias[0])
    assert verdict.score == pytest.approx(expected, abs=1e-6)


JUDGE_CODE = """
from open_imagen.evaluation.judges.judge import Verdict
from open_imagen.evaluation.judges.spec import Aggregation

class Bright:
    label, identity, aggregation = "brightness", {"judge": "bright"}, Aggregation(percent=False)
    def __call__(self, images, metadata):
        return [Verdict("all", False, score=float(i.float().mean())) for i in images]

def make(spec):
    return Bright()

def broken(spec):
    return object()
"""


def test_a_judge_of_other_code_is_measured_as_ours(tmp_path, monkeypatch):
    (tmp_path / "my_judges.py").write_text(JUDGE_CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    judge = open_judge(JudgeSpec(name="python:my_judges:make"))
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(2):
        Image.new("RGB", (4, 4), (100 * k,) * 3).save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text(f"thing {k}")
    record = measure_judge(judge, open_images(folder))
    assert (record["label"], record["value"]) == ("brightness", 50)
    assert [one["score"] for one in record["per_image"]] == [0, 100]
    with pytest.raises(ConfigError, match="no label"):
        open_judge(JudgeSpec(name="python:my_judges:broken"))
    with pytest.raises(MissingDependency, match="cannot be imported"):
        open_judge(JudgeSpec(name="python:no_such_module:make"))
    with pytest.raises(ConfigError, match="names no function"):
        open_judge(JudgeSpec(name="python:my_judges"))
    sys.modules.pop("my_judges", None)


@pytest.mark.parametrize("name", ["vqascore", "dpg", "geneval", "clip-preference"])
def test_missing_and_wrong_weights_are_refused_by_name(name, clip, tmp_path):
    with pytest.raises(ConfigError, match=f"judge {name} needs weights"):
        open_judge(JudgeSpec(name=name))
    with pytest.raises(CheckpointError, match="There is no folder"):
        open_judge(JudgeSpec(name=name, weights=tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no weights"):
        open_judge(JudgeSpec(name=name, weights=tmp_path / "empty"))
    if name != "clip-preference":
        with pytest.raises(CheckpointError, match="does not hold weights for"):
            open_judge(JudgeSpec(name=name, weights=clip))


def test_weights_that_do_not_fit_their_config_are_refused(clip, tmp_path):
    folder = shutil.copytree(clip, tmp_path / "mixed")
    save_file({"logit_scale": torch.zeros(())}, folder / "model.safetensors")
    for opened in (
        lambda: open_judge(JudgeSpec(name="clip-preference", weights=folder)),
        lambda: open_vision("clip-b32", folder, torch.device("cpu")),
    ):
        with pytest.raises(CheckpointError, match="of another model than its config"):
            opened()
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="does not hold weights for CLIPModel"):
        open_judge(JudgeSpec(name="clip-preference", weights=folder))


def test_unknown_names_and_rules():
    with pytest.raises(UnknownName, match="vqascor"):
        open_judge(JudgeSpec(name="vqascor"))
    with pytest.raises(ConfigError, match="rule = 'old'"):
        JudgeSpec(name="dpg", rule="old")


class Oracle:
    """The world's own judge behind the contract of models, right or deliberately wrong."""

    label, aggregation = "oracle", Aggregation()

    def __init__(self, lie=False):
        self.lie, self.identity = lie, {"judge": "oracle", "lie": lie}

    def __call__(self, images, metadata):
        return [
            v._replace(right=v.right != self.lie, score=float(v.right != self.lie))
            for v in ShapesJudge()(images, metadata)
        ]


def test_accuracy_on_exact_scenes_of_a_right_and_a_wrong_judge():
    right = measure_accuracy(Oracle(), "shapes", 100)
    assert right["scenes"] == 100
    assert right["accuracy"]["value"] >= 0.95
    assert right["auc"] >= 0.95
    assert 0.3 < right["right_accepted"]["of"] / 100 < 0.7
    wrong = measure_accuracy(Oracle(lie=True), "shapes", 100)
    assert wrong["accuracy"]["value"] == pytest.approx(1 - right["accuracy"]["value"])
    assert set(right["categories"]) >= {"single", "counting", "position", "text_rendering"}
    with pytest.raises(ConfigError, match="count = 1"):
        measure_accuracy(Oracle(), "shapes", 1)
    with pytest.raises(UnknownName):
        measure_accuracy(Oracle(), "nowhere", 10)


def test_the_truth_of_questions_is_that_of_the_drawing():
    scenes = list(exact_scenes(200, 3))
    for k, scene in enumerate(scenes):
        assert len(scene.atoms) == len(scene.metadata["atoms"]) > 0
        assert scene.right == all(scene.atoms.values())
        assert scene.right or k // 10 % 2, scene.metadata["prompt"]  # its own drawing is right
    assert 80 < sum(scene.right for scene in scenes) < 120
    assert EXACT_SCENES["shapes"] is exact_scenes


def test_an_accuracy_of_another_judge_is_not_shown_beside_a_number(tmp_path, clip):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("thing")
    judge = open_judge(JudgeSpec(name="clip-preference", weights=clip))
    fitting = {"judge": judge.label, "identity": json.loads(json.dumps(judge.identity))}
    record = measure_judge(judge, open_images(tmp_path), accuracy=fitting)
    assert record["accuracy"] == fitting
    with pytest.raises(DataError, match="not of this judge"):
        measure_judge(judge, open_images(tmp_path), accuracy={"judge": "x", "identity": {}})


def test_verdicts_without_a_score_count_one_or_zero():
    assert Verdict("a", True).value == 1
    assert Verdict("a", True, score=0.25).value == 0.25
