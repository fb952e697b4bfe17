"""The classifier's data, training and files."""

import random

import pytest
import torch

from open_imagen.errors import CheckpointError, ConfigError
from open_imagen.storage import load_tensors, read_json, write_json
from open_imagen.worlds.things.judge_data import Imperfections, JudgeData, imperfect
from open_imagen.worlds.things.judge_network import load_classifier, make_network
from open_imagen.worlds.things.judge_training import JudgeTraining, train_judge
from open_imagen.worlds.things.layout import Layout
from open_imagen.worlds.things.segment import CROP, split
from things_judging import ATLAS, picture, pixels_of, placed, write_judge

DATA = JudgeData(ATLAS)
NONE = DATA.labels.none
TINY = JudgeTraining(rounds=3, scenes=6, batch=8, passes=1, warmup=1, save_every=1, bfloat16=False)
EXACT = Imperfections(noise=0, blur=0, color=0, warp=0, enlarged=0, jitter=0, mixtures=0, pairs=0)


def test_a_chunk_depends_on_its_number_and_seed_alone():
    first, again = (JudgeData(ATLAS).chunk(3, 8, Imperfections()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.things, DATA.chunk(4, 8, Imperfections()).things)
    other = JudgeData(ATLAS, seed=1).chunk(3, 8, Imperfections())
    assert other.things.tolist() != first.things.tolist()


def test_targets_name_what_crops_show():
    layout = Layout(
        (
            placed("cat", 0.25, 0.25, 0.15, style="flat", color="blue"),
            placed("glasses", 0.7, 0.25, 0.15),
            placed("shape star", 0.5, 0.75, 0.15, color="red"),
        )
    )
    [found] = split(pixels_of([layout])).patches
    assigned = DATA.assigned(found, layout)
    labels = DATA.labels
    targets = sorted(DATA.target(one) for _, one in assigned)
    glasses, cat = ATLAS.label_of("glasses"), ATLAS.label_of("cat")
    assert (cat, labels.styles.index("flat"), labels.colors.index("blue")) in targets
    assert (glasses, labels.styles.index("drawn"), 0) in targets
    assert (labels.shape("star"), -1, labels.colors.index("red")) in targets
    whole = next(patch for patch, one in assigned if one is layout.objects[1])
    assert len(whole.members) == 2  # both halves


def test_two_objects_and_fragments_are_none():
    close = Layout((placed("cat", 0.3, 0.5, 0.15), placed("dog", 0.63, 0.5, 0.15)))
    [found] = split(pixels_of([close])).patches
    assigned = DATA.assigned(found, close, pairs=True)
    assert [one is None for _, one in assigned] == [False, False, True]
    assert len(assigned[-1][0].members) == 2
    touching = Layout((placed("cat", 0.35, 0.5, 0.15), placed("dog", 0.65, 0.5, 0.15)))
    [found] = split(pixels_of([touching])).patches
    assert len(found) == 1
    assert [one for _, one in DATA.assigned(found, touching)] == [None]


def test_chunks_hold_none_and_all_kinds():
    things = torch.cat([DATA.chunk(k, 24, Imperfections()).things for k in range(3)])
    share = float((things == NONE).float().mean())
    assert 0.05 < share < 0.4
    assert len(things.unique()) > len(ATLAS.things)
    examples = DATA.chunk(0, 8, Imperfections())
    assert examples.crops.shape[1:] == (4, CROP, CROP)
    assert (examples.styles[examples.things == NONE] == -1).all()


def test_imperfections_change_images_and_none_leave_them():
    images = picture(placed("cat")).float() / 255
    generator = torch.Generator().manual_seed(0)
    assert torch.allclose(imperfect(images, EXACT, generator), images, atol=1e-5)
    changed = imperfect(images, Imperfections(), torch.Generator().manual_seed(1))
    assert 0.001 < float((changed - images).abs().mean()) < 0.1


def test_held_out_styles_are_learned_as_well(monkeypatch):
    from open_imagen.worlds.things import catalog

    monkeypatch.setattr(catalog, "style_held_out", lambda style, label: style == "flat")
    data = JudgeData(ATLAS)
    items = [data.layout(random.Random(k)).objects for k in range(20)]
    assert any(one.item.style == "flat" for some in items for one in some)


def test_training_that_was_stopped_goes_on_alike(tmp_path):
    whole = train_judge(ATLAS, TINY, tmp_path / "a.safetensors")

    class Stop(Exception):
        pass

    def stop(report):
        if report["round"] == 2:
            raise Stop

    with pytest.raises(Stop):
        train_judge(ATLAS, TINY, tmp_path / "b.safetensors", progress=stop)
    reports = []
    resumed = train_judge(ATLAS, TINY, tmp_path / "b.safetensors", progress=reports.append)
    assert [report["round"] for report in reports] == [2, 3]
    first, second = load_tensors(whole), load_tensors(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_training_with_other_settings_is_refused(tmp_path):
    train_judge(ATLAS, TINY, tmp_path / "a.safetensors")
    other = JudgeTraining(**{**vars(TINY), "learning_rate": 1e-3})
    with pytest.raises(ConfigError, match="other settings"):
        train_judge(ATLAS, other, tmp_path / "a.safetensors")
    longer = JudgeTraining(**{**vars(TINY), "rounds": 9})
    with pytest.raises(ConfigError, match="other settings"):  # the rate has fallen already
        train_judge(ATLAS, longer, tmp_path / "a.safetensors")
    for wrong in ({"rounds": 0}, {"decay": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            JudgeTraining(**wrong)


def test_training_can_begin_with_another_classifier(tmp_path):
    first = write_judge(tmp_path / "first.safetensors")
    still = JudgeTraining(**{**vars(TINY), "rounds": 1, "learning_rate": 0.0})
    out = train_judge(ATLAS, still, tmp_path / "a.safetensors", init=first)
    ours, theirs = load_tensors(out), load_tensors(first)
    assert torch.equal(ours["thing.weight"], theirs["thing.weight"])
    assert load_classifier(out).facts["init"] == {"training": "none"}
    header = read_json(first.with_suffix(".json"))
    header["labels"]["things"][0] = "other"
    write_json(first.with_suffix(".json"), header)
    with pytest.raises(ConfigError, match="knows other things"):
        train_judge(ATLAS, still, tmp_path / "b.safetensors", init=first)


def test_a_classifier_is_read_as_it_was_written(tmp_path):
    path = write_judge(tmp_path / "j.safetensors")
    classifier = load_classifier(path)
    assert classifier.labels == DATA.labels
    assert classifier.facts == {"training": "none"}
    crops = torch.rand(3, 4, CROP, CROP)
    scores = classifier(crops)
    assert torch.allclose(scores.things.sum(1), torch.ones(3), atol=1e-4)
    assert classifier(crops[:0]).things.shape == (0, NONE + 1)
    assert torch.allclose(classifier(crops[:1]).things, scores.things[:1], atol=1e-5)


def test_the_real_classifier_is_small_enough():
    labels = DATA.labels._replace(things=tuple(str(k) for k in range(1200)))
    numbers = sum(parameter.numel() for parameter in make_network(labels).parameters())
    assert 2 * numbers < 4 * 2**20


def test_damaged_and_foreign_classifiers_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="missing"):
        load_classifier(tmp_path / "none.safetensors")
    path = write_judge(tmp_path / "j.safetensors")
    header = read_json(path.with_suffix(".json"))
    for values in (
        {**header, "format": 2},
        {"format": 1},
        {**header, "labels": {**header["labels"], "things": ["cat"]}},
    ):
        write_json(path.with_suffix(".json"), values)
        with pytest.raises(CheckpointError, match="is not a judge"):
            load_classifier(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match="Cannot read"):
        load_classifier(path)
