"""Variations, records and uploads for upscaling over HTTP, and batches of edits."""

import base64
import json
import queue
import time

import httpx2 as httpx
import numpy as np
import openai
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from open_imagen.cascade.edit import EditOptions, plan_edit
from open_imagen.cascade.requests import ImageRequest
from open_imagen.server.finishing import preview_plan
from open_imagen.server.jobs import Failed, Finished, Job
from open_imagen.server.worker import Worker
from server.test_api import client_of, picture_of
from server.test_edits import masked, outside, photo, png
from server.test_worker import Watcher
from standins import make_cascade, make_stages

# The official client marks create_variation as deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


def test_a_generated_image_is_varied_by_its_record(serve, tiny):
    url, _ = serve()
    with client_of(url) as client:
        made = client.images.generate(prompt="a red ring", size="64x64", extra_body={"seed": 5})
        file = base64.b64decode(made.data[0].b64_json)
        same = client.images.create_variation(image=file, extra_body={"amount": 0, "seed": 9})
        pixels = np.asarray(picture_of(made.data[0].b64_json))
        assert np.array_equal(np.asarray(picture_of(same.data[0].b64_json)), pixels)
        reply = client.images.create_variation(
            image=file, n=2, size="64x64", response_format="b64_json",
            extra_body={"amount": 0.5, "seed": 9},
        )  # fmt: skip
        own = tiny.vary(made.data[0].record, amount=0.5, seed=9, images=2)
        for one, expected, record in zip(reply.data, own.images, own.records, strict=True):
            assert one.record == record
            found = np.asarray(picture_of(one.b64_json)).astype(int)
            assert np.abs(found - np.asarray(expected)).max() <= 1
            assert not np.array_equal(found, pixels)
        with pytest.raises(openai.BadRequestError, match="64x64") as caught:
            client.images.create_variation(image=file, size="256x256")
        assert caught.value.param == "size"
        with pytest.raises(openai.BadRequestError) as caught:
            client.images.create_variation(image=file, extra_body={"amount": 1.5})
        assert caught.value.param == "amount"
        # By its id, as a stream.
        body = {"image": made.data[0].id, "stream": True, "partial_images": 1}
        with httpx.stream("POST", f"{url}/v1/images/variations", json=body, timeout=60) as stream:
            events = [line for line in stream.iter_lines() if line.startswith("event: ")]
    assert events == ["event: image_generation.partial_image", "event: image_generation.completed"]


def test_a_cropped_image_is_varied_as_it_was_made(serve, tiny):
    url, _ = serve()
    with client_of(url) as client:
        made = client.images.generate(
            prompt="x", size="100x120", extra_body={"seed": 5, "steps": 1}
        )
        assert made.data[0].record["cropped_from"] == "128x128"
        same = client.images.create_variation(
            image=base64.b64decode(made.data[0].b64_json), extra_body={"amount": 0}
        )
    before, after = (picture_of(reply.data[0].b64_json) for reply in (made, same))
    assert np.array_equal(np.asarray(before), np.asarray(after))
    own = tiny.vary(made.data[0].record, amount=0)
    assert np.array_equal(np.asarray(own.images[0]), np.asarray(before))
    assert own.records[0] == {**same.data[0].record, "variations": own.records[0]["variations"]}


def test_other_images_are_varied_by_image_to_image(serve):
    url, _ = serve()
    with client_of(url) as client:
        with pytest.raises(openai.BadRequestError, match="Send a prompt") as caught:
            client.images.create_variation(image=png(photo()))
        assert caught.value.param == "image"
        reply = client.images.create_variation(
            image=png(photo()), extra_body={"prompt": "a red ring", "amount": 0.4}
        )
        record = reply.data[0].record
        assert (record["made_by"], record["prompt"]) == ("edit", "a red ring")
        assert record["edit"]["strength"] == {"base": 0.4, "sr256": 0.4}
        # An edit's record has a prompt.
        again = client.images.create_variation(image=base64.b64decode(reply.data[0].b64_json))
        assert again.data[0].record["prompt"] == "a red ring"


FORGED = [
    {"settings": {"base": {"steps": 5000}}},
    {"settings": {"base": {"timesteps": [1] * 5000}}},
    {"settings": {"base": "many"}},
    {"settings": {"elsewhere": {}}},
    {"size": "9000x9000"},
    {"size": "wide"},
    {"prompt": "x" * 40_000},
    {"seed": -5},
    {"variations": [{"seed": 1, "amount": 0.1}] * 40},
    {"variations": [{"seed": 1}]},
    {"variations": 7},
    {"cropped_from": 7},
    {"size": "9000x9000", "cropped_from": "64x64"},
]


def test_a_forged_record_is_an_error(serve, tiny):
    url, _ = serve()
    settings = tiny.complete_settings(tiny.chosen(1), None)
    record = tiny.record(ImageRequest("x", 1), settings, (64, 64))
    with client_of(url) as client:
        for change in FORGED:
            chunks = PngImagePlugin.PngInfo()
            chunks.add_itxt("open_imagen", json.dumps({**record, **change}))
            file = png(Image.new("RGB", (64, 64)), pnginfo=chunks)
            with pytest.raises(openai.BadRequestError) as caught:
                client.images.create_variation(image=file)
            assert caught.value.param == "image", change


def test_an_image_tells_how_it_was_made(serve):
    url, _ = serve()
    with client_of(url) as client:
        made = client.images.generate(prompt="x", size="64x64", output_format="webp")
    file = base64.b64decode(made.data[0].b64_json)
    found = httpx.post(f"{url}/v1/images/records", files={"image": ("a.webp", file)}).json()
    assert found == {
        "width": 64, "height": 64, "format": "webp", "transparent": False,
        "record": made.data[0].record, "model": "tiny",
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = png(photo(mode="RGBA"), exif=exif)
    found = httpx.post(f"{url}/v1/images/records", files={"image": ("a.png", turned)}).json()
    assert (found["width"], found["height"], found["transparent"]) == (80, 96, True)
    assert (found["record"], found["model"]) == (None, None)


def test_an_upload_is_upscaled(serve):
    url, service = serve()
    reply = httpx.post(
        f"{url}/v1/images/upscale", data={"prompt": "x", "seed": "3"},
        files={"image": ("a.png", png(photo(64, 48)), "image/png")}, timeout=60,
    )  # fmt: skip
    assert reply.status_code == 200, reply.text[:500]
    assert reply.json()["size"] == "256x192"
    assert service.upload_budget.free == service.upload_budget.size


def test_jpeg_has_no_transparency_and_profiles_are_kept(serve):
    url, _ = serve()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = photo(mode="RGBA")
    with client_of(url) as client:
        for kind, background, mode in (
            ("jpeg", None, "RGB"), ("png", "opaque", "RGB"), ("webp", "transparent", "RGBA"),
        ):  # fmt: skip
            reply = client.images.edit(
                image=png(image), prompt="x", output_format=kind,
                extra_body={"strength": 0, "background": background},
            )  # fmt: skip
            made = picture_of(reply.data[0].b64_json)
            assert made.convert("RGBA" if "A" in made.mode else "RGB").mode == mode
        for kind in ("jpeg", "png", "webp"):
            reply = client.images.edit(
                image=png(photo(), icc_profile=profile), prompt="x", output_format=kind,
                extra_body={"strength": 0},
            )  # fmt: skip
            assert picture_of(reply.data[0].b64_json).info["icc_profile"] == profile


def test_a_model_with_alpha_edits_transparency(serve):
    cascade = make_cascade(make_stages(image_channels=4), name="clear")
    url, _ = serve(cascades={"clear": cascade})
    image, kept = photo(mode="RGBA"), outside((30, 20, 60, 50))
    with client_of(url) as client:
        reply = client.images.edit(
            image=png(image), mask=png(masked()), prompt="x", background="transparent",
            extra_body={"stages": 1},
        )  # fmt: skip
    made = picture_of(reply.data[0].b64_json)
    assert made.mode == "RGBA"
    assert np.array_equal(np.asarray(made)[kept], np.asarray(image)[kept])
    assert reply.data[0].record["background"] == "transparent"


def test_edits_share_batches_where_they_can(tiny):
    """Of one size and strength, with other images, prompts and masks; not with generations."""
    stages = tiny.chosen(1)
    settings = tiny.complete_settings(stages, None)
    options = EditOptions(strength=1.0)
    plans = [
        plan_edit(photo(seed=k), masked(box=(k, 0, 40, 40)), stages, options) for k in range(3)
    ]
    other = plan_edit(photo(40, 90), None, stages, options)
    weaker = plan_edit(photo(), masked(), stages, EditOptions(strength=0.7))
    heard: queue.Queue = queue.Queue()
    worker = Worker({"tiny": tiny}, batch_size=8, observer=Watcher())
    blocker = [ImageRequest("first", 0)]
    deadline = time.monotonic() + 60

    def job(images, plans=()):
        return Job(
            "me", "tiny", images, stages, settings, heard.put, deadline, plans=plans
        )  # fmt: skip

    worker.submit(job(blocker))
    images = [ImageRequest(f"image {k}", k) for k in range(3)]
    jobs = [job([image], [plan]) for image, plan in zip(images, plans, strict=True)]
    for plan in (other, weaker):
        jobs.append(job([ImageRequest("x", 1)], [plan]))
    for one in [*jobs, job([ImageRequest("y", 1)])]:
        worker.submit(one)
    done = []
    while len(done) < 7:
        event = heard.get(timeout=30)
        assert not isinstance(event, Failed), event.error
        if isinstance(event, Finished):
            done.append(event)
    worker.close(30)
    sizes = sorted(size for _, size in worker.observer.batches)
    assert sum(sizes) == 7
    assert max(sizes) == 3
    for plan, image in zip(plans, images, strict=True):
        (found,) = (one for one in done if one.record["prompt"] == image.prompt)
        alone = tiny.edit(
            plan.crop.canvas.original.image, image.prompt, stages=1, strength=1.0, seed=image.seed,
            mask=np.uint8(255) * plan.crop.canvas.mask,
        )  # fmt: skip
        difference = np.asarray(found.image).astype(int) - np.asarray(alone.images[0])
        assert np.abs(difference).max() <= 1


def test_partial_images_of_a_large_edit_are_small(tiny):
    image, box = photo(2500, 1600), (2000, 100, 2300, 400)
    stages = tiny.chosen(None)
    plan = plan_edit(image, masked(2500, 1600, box), stages, EditOptions())
    small = preview_plan(plan)
    (pixels,) = tiny.generator.run(
        stages[:1], [ImageRequest("x", 1)], tiny.complete_settings(stages[:1], None)
    )["base"]
    made = np.asarray(small.result(pixels)).astype(int)
    assert made.shape == (655, 1024, 3)
    before = np.asarray(small.crop.canvas.original.image).astype(int)
    changed = np.argwhere((made != before).any(-1))
    scale = 1024 / 2500
    assert np.abs(changed.min(0) / scale - (100, 2000)).max() < 5
    assert np.abs(changed.max(0) / scale - (400, 2300)).max() < 5
