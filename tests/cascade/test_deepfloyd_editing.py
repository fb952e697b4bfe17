"""DeepFloyd IF edited: whole loops of diffusers' four editing pipelines, with the same noise."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import (
    IFImg2ImgPipeline,
    IFImg2ImgSuperResolutionPipeline,
    IFInpaintingPipeline,
    IFInpaintingSuperResolutionPipeline,
    IFPipeline,
    IFSuperResolutionPipeline,
)

import open_imagen as oi
from open_imagen.diffusion.editing import StartImage
from open_imagen.text import encoders

FOREIGN = Path(__file__).parents[1] / "foreign" / "deepfloyd-2023"
PROMPTS = ["a red circle above a blue square", "a blue circle"]
HOW = {"output_type": "pt", "clean_caption": False}
CLOSE = {"rtol": 0, "atol": 5e-4}


@pytest.fixture(autouse=True)
def tiny_encoder(monkeypatch, tmp_path_factory):
    tiny = encoders.EncoderSpec(**{**encoders.ENCODERS["deepfloyd-t5-xxl"].__dict__, "width": 24})
    monkeypatch.setitem(encoders.ENCODERS._entries, "deepfloyd-t5-xxl", tiny)
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("if")
    for name in ("I", "II"):
        shutil.copytree(FOREIGN / name, root / name)
    return root


@pytest.fixture(scope="module")
def theirs(folder):
    """Their pipelines by stage and kind, on one set of weights."""
    how = {"variant": "fp16", "dtype": torch.float32}
    first = IFPipeline.from_pretrained(folder / "I", **how)
    parts = {"text_encoder": first.text_encoder, "tokenizer": first.tokenizer}
    second = IFSuperResolutionPipeline.from_pretrained(folder / "II", **parts, **how)
    own = {"requires_safety_checker": False}
    return {
        "img2img": IFImg2ImgPipeline(**first.components, **own),
        "inpaint": IFInpaintingPipeline(**first.components, **own),
        "img2img-sr": IFImg2ImgSuperResolutionPipeline(**second.components, **own),
        "inpaint-sr": IFInpaintingSuperResolutionPipeline(**second.components, **own),
    }


@pytest.fixture
def cascade(folder):
    return oi.load(folder, device="cpu")


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def images(side, seed):
    """Smooth images in [-1, 1], [2, 3, side, side]."""
    small = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(small, size=(side, side), mode="bilinear")


def mask(side):
    """A ring and a bar, one image each."""
    rows = torch.arange(side)
    ring = ((rows[:, None] - side / 2) ** 2 + (rows - side / 2) ** 2) < (side / 3) ** 2
    bar = (rows[:, None] > side / 2).expand(side, side)
    return torch.stack([ring, bar])[:, None].float()


def texts(cascade):
    return cascade.text(PROMPTS), cascade.text([""] * 2)


@pytest.mark.parametrize("guidance", [7.0, 1.0], ids=["guided", "not guided"])
@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("masked", [False, True], ids=["image to image", "inpainting"])
def test_the_base_equals_diffusers(theirs, cascade, masked, strength, guidance):
    image, hole = images(16, 0), mask(16) if masked else None
    wanted = theirs["inpaint" if masked else "img2img"](
        PROMPTS,
        image=image,
        **({"mask_image": hole.clone()} if masked else {}),
        strength=strength,
        num_inference_steps=12,
        guidance_scale=guidance,
        generator=generators(3, 4),
        **HOW,
    ).images
    text, empty = texts(cascade)
    found = cascade.stages["base"].sample(
        text,
        generators(3, 4),
        oi.Sampling(steps=12, guidance=guidance),
        negative=empty,
        start=StartImage(image, strength, hole, known="clean"),
    )
    assert wanted.std() > 0.2
    torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("guidance", [4.0, 1.0], ids=["guided", "not guided"])
@pytest.mark.parametrize("strength", [0.4, 0.8, 1.0])
@pytest.mark.parametrize("masked", [False, True], ids=["image to image", "inpainting"])
def test_super_resolution_equals_diffusers(theirs, cascade, masked, strength, guidance):
    image, small, hole = images(64, 1), images(16, 2), mask(64) if masked else None
    wanted = theirs["inpaint-sr" if masked else "img2img-sr"](
        image=small,
        original_image=image,
        **({"mask_image": hole.clone()} if masked else {}),
        prompt=PROMPTS,
        strength=strength,
        num_inference_steps=7,
        guidance_scale=guidance,
        noise_level=250,
        generator=generators(5, 6),
        **HOW,
    ).images
    text, empty = texts(cascade)
    found = cascade.stages["sr64"].sample(
        text,
        generators(5, 6),
        oi.Sampling(steps=7, guidance=guidance),
        lowres=small,
        negative=empty,
        start=StartImage(image, strength, hole, known="clean"),
    )
    assert wanted.std() > 0.2
    torch.testing.assert_close(found, wanted, **CLOSE)


def test_a_negative_prompt_is_led_away_from_as_there(theirs, cascade):
    image = images(16, 0)
    wanted = theirs["img2img"](
        PROMPTS,
        image=image,
        negative_prompt=["no text", "red"],
        strength=0.75,
        num_inference_steps=8,
        generator=generators(3, 4),
        **HOW,
    ).images
    found = cascade.stages["base"].sample(
        cascade.text(PROMPTS),
        generators(3, 4),
        oi.Sampling(steps=8, guidance=10.0),
        negative=cascade.text(["no text", "red"]),
        start=StartImage(image, 0.75, known="clean"),
    )
    torch.testing.assert_close(found, wanted, **CLOSE)
