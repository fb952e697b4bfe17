"""Edits: what stays, what a strength means, what a record says, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.cascade.edit import EditOptions, image_sha256, mask_sha256, plan_edit
from open_imagen.cascade.requests import StageRequest
from open_imagen.cascade.sampling import Sampling
from open_imagen.errors import ConfigError, DataError, UnknownName
from standins import make_cascade, make_stages


def noise_image(width, height, mode="RGB", seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, len(mode)), dtype=np.uint8), mode)


def box_mask(width, height, left, top, right, bottom):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture(scope="module")
def tiny():
    return make_cascade()


@pytest.fixture(scope="module")
def with_alpha():
    return make_cascade(make_stages(image_channels=4))


@pytest.mark.parametrize("size", [(256, 256), (100, 90), (700, 300), (64, 64), (33, 200)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_outside_a_mask_every_value_is_the_original_s(tiny, size, mode):
    width, height = size
    image = noise_image(width, height, mode)
    mask = box_mask(width, height, width // 4, height // 3, width // 2, height // 2)
    made = tiny.edit(image, "a cat", mask=mask, seed=1)
    assert made.images[0].size == size
    assert made.images[0].mode == mode
    after, before = np.asarray(made.images[0]), np.asarray(image)
    assert np.array_equal(after[~mask], before[~mask])
    assert (after[mask] != before[mask]).any()


def test_outpainting_keeps_the_image_in_its_place(tiny):
    image = noise_image(120, 100)
    made = tiny.edit(image, "a cat", extend=(30, 0, 50, 20), seed=1)
    assert made.images[0].size == (200, 120)
    assert np.array_equal(np.asarray(made.images[0])[:100, 30:150], image)


def test_outpainting_with_a_mask_changes_both(tiny):
    image, mask = noise_image(120, 100), box_mask(120, 100, 40, 40, 60, 60)
    after = np.asarray(tiny.edit(image, "a cat", mask=mask, extend=(10, 0, 0, 0)).images[0])[:, 10:]
    assert np.array_equal(after[~mask], np.asarray(image)[~mask])
    assert (after[mask] != np.asarray(image)[mask]).any()


def test_a_model_with_alpha_edits_both_kinds_of_images(with_alpha):
    mask = box_mask(90, 80, 20, 20, 60, 60)
    clear, opaque = noise_image(90, 80, "RGBA"), noise_image(90, 80)
    made = with_alpha.edit(clear, "a cat", mask=mask).images[0]
    assert np.array_equal(np.asarray(made)[~mask], np.asarray(clear)[~mask])
    assert (np.asarray(made)[mask][:, 3] < 255).any()
    made = with_alpha.edit(opaque, "a cat", mask=mask).images[0]
    assert made.mode == "RGB"
    assert np.array_equal(np.asarray(made)[~mask], np.asarray(opaque)[~mask])
    made = with_alpha.edit(opaque, "a cat", mask=mask, background="transparent").images[0]
    assert made.mode == "RGBA"
    assert np.array_equal(np.asarray(made)[~mask][:, :3], np.asarray(opaque)[~mask])


def test_the_image_s_own_transparency_can_be_the_mask(tiny):
    image = noise_image(90, 80).convert("RGBA")
    hole = box_mask(90, 80, 20, 20, 60, 60)
    image.putalpha(Image.fromarray(np.where(hole, 0, 255).astype(np.uint8)))
    made = np.asarray(tiny.edit(image, "a cat", mask="alpha").images[0])
    assert np.array_equal(made[~hole], np.asarray(image)[~hole])
    assert made[40, 40, 3] == 255


@pytest.mark.parametrize("mask", [None, box_mask(90, 80, 20, 20, 60, 60)])
def test_strength_zero_gives_the_original_back(tiny, mask):
    image = noise_image(90, 80)
    made = tiny.edit(image, "a cat", mask=mask, strength=0)
    assert np.array_equal(made.images[0], image)


def test_strength_is_the_share_of_a_stage_s_steps(tiny):
    steps = {}

    def progress(stage, step, total, preview):
        steps[stage] = total

    settings = {"base": Sampling(steps=8), "sr256": Sampling(steps=4)}
    tiny.edit(noise_image(64, 64), "a cat", strength=0.5, settings=settings, progress=progress)
    assert steps == {"base": 4, "sr256": 2}
    tiny.edit(
        noise_image(64, 64),
        "a cat",
        strength={"base": 0.25, "sr256": 1.0},
        settings=settings,
        progress=progress,
    )
    assert steps == {"base": 2, "sr256": 4}


def test_a_weaker_edit_stays_nearer_to_the_original():
    tiny, image = make_cascade(make_stages()[:1]), noise_image(64, 64)
    settings = {"base": Sampling(steps=20, sampler="ddim", guidance=1.0)}
    apart = []
    for strength in (0.1, 0.5, 1.0):
        made = tiny.edit(image, "a cat", strength=strength, settings=settings).images[0]
        apart.append(np.abs(np.asarray(made).astype(float) - np.asarray(image)).mean())
    assert apart == sorted(apart)


def test_images_do_not_depend_on_their_batch(tiny):
    image, mask = noise_image(90, 80), box_mask(90, 80, 20, 20, 60, 60)
    three = tiny.edit(image, "a cat", mask=mask, seed=4, images=3)
    one = tiny.edit(image, "a cat", mask=mask, seed=5)
    assert [record["seed"] for record in three.records] == [4, 5, 6]
    apart = three.stages["sr256"][1].float() - one.stages["sr256"][0].float()
    assert apart.abs().max() <= 1


def test_a_record_repeats_an_edit(tiny):
    image, mask = noise_image(90, 80), box_mask(90, 80, 20, 20, 60, 60)
    how = {"extend": (8, 0, 0, 0), "resample": 2, "known": "clean", "feather": 3}
    made = tiny.edit(image, "a cat", mask=mask, seed=7, strength={"base": 0.9}, **how)
    record = made.records[0]
    assert record["made_by"] == "edit"
    assert record["size"] == "98x80"
    assert record["edit"] == {
        "inputs": {"image": image_sha256(image), "mask": mask_sha256(mask)},
        "strength": {"base": 0.9, "sr256": 1.0},
        "extend": [8, 0, 0, 0],
        "resample": 2,
        "known": "clean",
        "feather": 3,
    }
    options = {k: v for k, v in record["edit"].items() if k != "inputs"}
    again = tiny.edit(
        image, record["prompt"], mask=mask, seed=record["seed"], repeat=record, **options
    )
    assert np.array_equal(again.images[0], made.images[0])


def test_a_record_is_not_repeated_with_other_inputs(tiny):
    image, mask = noise_image(90, 80), box_mask(90, 80, 20, 20, 60, 60)
    record = tiny.edit(image, "a cat", mask=mask).records[0]
    with pytest.raises(ConfigError, match="The image is not the one that was edited"):
        tiny.edit(noise_image(90, 80, seed=1), "a cat", mask=mask, repeat=record)
    with pytest.raises(ConfigError, match="The mask is not the one"):
        tiny.edit(image, "a cat", mask=box_mask(90, 80, 20, 20, 60, 61), repeat=record)
    with pytest.raises(ConfigError, match="The edit had a mask; give it again"):
        tiny.edit(image, "a cat", repeat=record)


def test_the_hash_is_of_the_upright_pixels(tmp_path):
    image = noise_image(40, 30)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    image.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    stages = make_stages()
    plans = [
        plan_edit(one, None, stages, EditOptions()) for one in (image, tmp_path / "turned.png")
    ]
    assert plans[0].record["inputs"] == plans[1].record["inputs"]
    assert plans[1].crop.canvas.size == (40, 30)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strength": -0.1}, r"strength = -0.1 .* between 0 and 1"),
        ({"strength": 1.01}, r"strength = 1.01"),
        ({"strength": float("nan")}, "strength = nan"),
        ({"strength": {"base": 0.5, "sr256": 0}}, "would undo"),
        ({"strength": 0, "extend": (8, 0, 0, 0)}, "would leave what extend adds empty"),
        ({"resample": 0}, "resample = 0"),
        ({"known": "dirty"}, "known called 'dirty'"),
        ({"feather": -1}, "feather = -1"),
        ({"extend": (1, 2, 3)}, "four numbers"),
        ({"mask": np.zeros((80, 90), bool)}, "mask is empty"),
        ({"mask": np.ones((80, 90), bool)}, "covers the whole image"),
        ({"mask": np.ones((8, 9), bool)}, "The mask is 9x8, the image 90x80"),
        ({"mask": "alpha"}, "no transparent pixels"),
        ({"stages": 3}, "stages = 3"),
        ({"images": 0}, "images"),
    ],
)
def test_bad_options_are_refused(tiny, given, message):
    with pytest.raises(ConfigError, match=message):
        tiny.edit(noise_image(90, 80), "a cat", **given)


def test_a_strength_for_an_unknown_stage_is_refused(tiny):
    with pytest.raises(UnknownName, match="sr265"):
        tiny.edit(noise_image(90, 80), "a cat", strength={"sr265": 0.5})


def test_larger_images_than_allowed_are_refused(tiny):
    with pytest.raises(DataError, match="90x80 pixels; the limit is 5,000"):
        tiny.edit(noise_image(90, 80), "a cat", max_pixels=5000)
    with pytest.raises(ConfigError, match="the limit is 8,000"):
        tiny.edit(noise_image(90, 80), "a cat", extend=(90, 0, 0, 0), max_pixels=8000)


def test_a_model_without_a_base_cannot_edit():
    with pytest.raises(ConfigError, match="begins with sr256"):
        make_cascade(make_stages()[1:]).edit(noise_image(90, 80), "a cat")


def test_a_base_alone_edits_too():
    image, mask = noise_image(90, 80), box_mask(90, 80, 20, 20, 60, 60)
    made = make_cascade(make_stages()[:1]).edit(image, "a cat", mask=mask)
    assert list(made.stages) == ["base"]
    assert np.array_equal(np.asarray(made.images[0])[~mask], np.asarray(image)[~mask])


def test_another_colour_profile_stays_with_its_pixels(tiny, tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"s\x00R\x00G\x00B", b"l\x00i\x00n\x00e").replace(b"sRGB", b"line")
    image, mask = noise_image(90, 80), box_mask(90, 80, 20, 20, 60, 60)
    image.save(tmp_path / "a.png", icc_profile=profile)
    made = tiny.edit(tmp_path / "a.png", "a cat", mask=mask).images[0]
    assert made.info["icc_profile"] == profile
    assert np.array_equal(np.asarray(made)[~mask], np.asarray(image)[~mask])


def test_edits_share_a_batch_only_if_they_agree(tiny):
    stages = list(tiny.stages.values())
    plans = [
        plan_edit(noise_image(64, 64, seed=k), None, stages, EditOptions(strength=s))
        for k, s in ((0, 0.5), (1, 0.5), (2, 0.7))
    ]
    starts = [plan.starts["base"] for plan in plans]
    assert starts[0].together == starts[1].together != starts[2].together
    settings = tiny.complete_settings(stages, None)["base"]
    together = tiny.draw(
        stages[0],
        [StageRequest("a cat", k, settings, size=(64, 64), start=starts[k]) for k in range(2)],
    )
    alone = tiny.draw(
        stages[0], [StageRequest("a cat", 1, settings, size=(64, 64), start=starts[1])]
    )
    assert (together[1].float() - alone[0].float()).abs().max() <= 1
    assert torch.is_tensor(together)
