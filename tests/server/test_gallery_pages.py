"""What the studio asks the gallery for: search, stars, thumbnails; and how its files are served."""

import io
import re
from dataclasses import fields
from importlib.resources import files

import httpx2 as httpx
import pytest
from PIL import Image

from open_imagen.cascade.records import encoded
from open_imagen.cascade.sampling import Sampling
from open_imagen.diffusion.guidance import KINDS
from open_imagen.diffusion.samplers import SAMPLERS
from open_imagen.diffusion.schedules import SPACINGS
from open_imagen.server.gallery import Gallery
from open_imagen.server.thumbnails import SIDE, Thumbnails


def record_of(prompt, size="8x8"):
    return {
        "prompt": prompt, "seed": 0, "size": size, "model": "tiny", "model_hash": "0" * 16,
        "settings": {"base": {"steps": 2}}, "version": "1",
    }  # fmt: skip


def add(gallery, prompt, image=None, owner="anyone"):
    image = image or Image.new("RGB", (8, 8))
    record = record_of(prompt, f"{image.width}x{image.height}")
    return gallery.add(encoded(image, record), "png", record, owner)


@pytest.fixture
def gallery(tmp_path):
    gallery = Gallery(tmp_path)
    yield gallery
    gallery.close()


def test_a_search_finds_prompts_with_all_of_its_words(gallery):
    for prompt in ("a red ring", "a RED star", "\u00dcber 100%_ \u732b", 'say "seed": 1'):
        add(gallery, prompt)

    def found(words):
        return [image.record["prompt"] for image in gallery.latest("anyone", 9, words=words)]

    assert found("red") == ["a RED star", "a red ring"]
    assert found("RING red") == ["a red ring"]
    assert found("\u00fcber \u732b") == ["\u00dcber 100%_ \u732b"]
    assert found("%") == ["\u00dcber 100%_ \u732b"]
    assert found("tiny") == []  # the model's name is no word of the prompt
    assert found(" ") == found("")


def test_stars_outlive_the_process_and_spare_an_image(tmp_path):
    gallery = Gallery(tmp_path, keep=2)
    first, second = add(gallery, "first"), add(gallery, "second")
    gallery.star(first, True)
    gallery.close()
    gallery = Gallery(tmp_path, keep=2)
    third = add(gallery, "third")
    listed = gallery.latest("anyone", 9)
    assert [image.id for image in listed] == [third.id, first.id]
    assert [image.id for image in gallery.latest("anyone", 9, starred=True)] == [first.id]
    assert gallery.get(second.id) is None
    gallery.star(first, False)
    assert gallery.latest("anyone", 9, starred=True) == []
    gallery.close()


def test_damaged_stars_are_a_warning(tmp_path, caplog):
    (tmp_path / "gallery.stars").write_text("{")
    gallery = Gallery(tmp_path)
    assert "cannot be read" in caplog.text
    gallery.close()


def test_a_star_belongs_to_the_owner(serve):
    mine, yours = "my-key-of-some-length", "your-key-of-some-length"
    url, _ = serve(keys=[mine, yours])
    headers = {key: {"Authorization": f"Bearer {key}"} for key in (mine, yours)}
    body = {"prompt": "a ring", "response_format": "url"}
    made = httpx.post(f"{url}/v1/images/generations", json=body, headers=headers[mine], timeout=60)
    place = f"{url}/v1/gallery/{made.json()['data'][0]['id']}/star"
    assert httpx.put(place, headers=headers[yours]).status_code == 404
    assert httpx.put(place, headers=headers[mine]).json() == {"starred": True}
    asked = httpx.get(f"{url}/v1/gallery?starred=true&search=ring", headers=headers[mine]).json()
    assert [image["starred"] for image in asked["data"]] == [True]
    assert httpx.get(f"{url}/v1/gallery?starred=true", headers=headers[yours]).json()["data"] == []
    assert httpx.delete(place, headers=headers[mine]).json() == {"starred": False}


def test_thumbnails_are_small_and_keep_transparency(serve):
    url, service = serve()
    large = Image.new("RGBA", (1200, 600), (255, 0, 0, 0))
    large.paste((0, 0, 255, 255), (0, 0, 600, 600))
    saved = add(service.gallery, "half", large)
    answer = httpx.get(f"{url}/v1/images/files/{saved.id}.png/thumbnail")
    small = Image.open(io.BytesIO(answer.content))
    assert (answer.headers["content-type"], small.size) == ("image/webp", (SIDE, SIDE // 2))
    assert small.convert("RGBA").getpixel((SIDE - 10, 50))[3] == 0
    assert "immutable" in answer.headers["cache-control"]
    assert b"open_imagen" not in answer.content
    assert httpx.get(f"{url}/v1/images/files/{'A' * 22}.png/thumbnail").status_code == 404


def test_thumbnails_are_made_once_within_their_memory(gallery, monkeypatch):
    images = [add(gallery, str(k), Image.effect_noise((64, 64), 90).convert("RGB")) for k in "abc"]
    thumbnails = Thumbnails(max_bytes=6000)
    first = thumbnails.get(gallery, images[0])
    read = gallery.data
    monkeypatch.setattr(gallery, "data", lambda image: pytest.fail("it was made before"))
    assert thumbnails.get(gallery, images[0]) is first
    monkeypatch.setattr(gallery, "data", read)
    for image in images[1:]:
        assert thumbnails.get(gallery, image)
        assert thumbnails._bytes <= 6000 or len(thumbnails._made) == 1


def test_pages_run_nothing_but_their_own_files(serve):
    url, _ = serve()
    for page in ("", "docs"):
        answer = httpx.get(f"{url}/{page}")
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert not re.search(r"\sstyle=|\son[a-z]+=", answer.text)
    for part in re.findall(r'(?:src|href)="(studio/[^"]+)"', httpx.get(url).text):
        assert httpx.get(f"{url}/{part}").status_code == 200
    assert httpx.get(f"{url}/studio/main.js").headers["content-type"].startswith("text/javascript")
    assert httpx.get(f"{url}/studio/..%2fdocs.html").status_code == 404


def test_the_studio_has_a_control_for_every_setting_of_a_stage():
    text = files("open_imagen").joinpath("server/static/studio/settings.js").read_text("utf-8")
    table = text.partition("export const FIELDS = {")[2].partition("};")[0]
    assert set(re.findall(r"^  (\w+):", table, re.MULTILINE)) == {f.name for f in fields(Sampling)}
    for name in (*SPACINGS, *KINDS, *SAMPLERS):
        assert f'"{name}"' in text
