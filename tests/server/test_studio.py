"""The studio in a real browser: typing, watching, history, repeating, upscaling; mouse and keys."""

import io
import os
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from open_imagen.cascade.io import load
from open_imagen.cascade.records import encoded
from open_imagen.errors import OutputError
from open_imagen.server.gallery import Gallery
from server.browser import chromium
from standins import make_cascade, make_stages

EVIL = '<img src=x onerror="document.title=1"> a red circle'

RECORD_WIDTHS = """() => {
    window.widths = [];
    const record = image =>
        image.decode().then(() => widths.push(image.naturalWidth)).catch(() => {});
    new MutationObserver(() => document.querySelectorAll(".frame.making img").forEach(record))
        .observe(document.body, {subtree: true, childList: true, attributes: true});
}"""
"""Notes how wide each preview is, as it is shown: the first may be replaced within a moment."""


@pytest.fixture
def shots(tmp_path):
    return Path(os.environ.get("SCREENSHOTS", tmp_path))


def pixels(url, path):
    return np.asarray(Image.open(io.BytesIO(httpx.get(url + path).content)))


def make(page, number):
    page.get_by_role("button", name="Generate").click()
    done(page, number)


def done(page, number):
    word = "picture" if number == 1 else "pictures"
    expect(page.locator("#status")).to_contain_text(f"{number} {word} in", timeout=60_000)


@pytest.mark.slow
def test_the_studio_by_mouse(serve, shots):
    url, _ = serve(cascades={"scenes": load("scenes", device="cpu")})
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1600, "height": 1000})
        page, errors = context.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.goto(url)
        expect(page.locator("#empty")).to_be_visible()
        page.screenshot(path=shots / "studio-empty-1600.png")

        # Type, generate, watch the 64-pixel base come first and sharpen.
        page.fill("#prompt", "a red circle above a blue square")
        page.select_option("#count", "2")
        page.evaluate(RECORD_WIDTHS)
        page.get_by_role("button", name="Generate").click()
        preview = page.locator(".frame.making img").first
        expect(preview).to_be_visible(timeout=60_000)
        while not page.evaluate("widths.length"):
            page.wait_for_timeout(20)
        assert page.evaluate("widths[0]") == 64
        page.screenshot(path=shots / "studio-making-1600.png")
        done(page, 2)
        frames = page.locator(".frame")
        assert all(int(f.get_attribute("data-previews")) >= 6 for f in frames.all())
        expect(page.locator(".tile")).to_have_count(2)
        page.screenshot(path=shots / "studio-1600.png")

        # Open it, read its record, repeat it bit for bit.
        page.locator(".tile").first.click()
        expect(page.locator("#viewer")).to_be_visible()
        expect(page.locator("#words")).to_have_text("a red circle above a blue square")
        expect(page.locator("#facts")).to_contain_text("base8 steps, guidance 2")
        expect(page.locator("#upscale")).to_be_enabled()  # there is a stage beyond the default
        page.screenshot(path=shots / "studio-viewer-1600.png")
        original = page.locator("#large").get_attribute("src")
        with page.expect_download() as download:
            page.locator("#download").click()
        assert download.value.suggested_filename.endswith("a-red-circle-above-a-blue-square.png")
        assert b"open_imagen" in Path(download.value.path()).read_bytes()
        page.get_by_role("button", name="Again").click()
        done(page, 1)
        repeated = f"/v1/images/files/{page.locator('.frame').get_attribute('data-id')}.png"
        assert repeated != original
        difference = pixels(url, repeated).astype(int) - pixels(url, original)
        # It was made in a batch of two, and alone now: rounding may move a value by one.
        assert np.abs(difference).max() <= 1
        page.locator(".frame button").click()
        page.get_by_role("button", name="Again").click()
        done(page, 1)
        third = f"/v1/images/files/{page.locator('.frame').get_attribute('data-id')}.png"
        assert np.array_equal(pixels(url, third), pixels(url, repeated))

        # A base picture is upscaled; variations differ; settings are taken over.
        page.select_option("#size", "1")
        page.select_option("#count", "1")
        make(page, 1)
        page.locator(".frame button").click()
        page.get_by_role("button", name="Upscale").click()
        done(page, 1)
        big = f"/v1/images/files/{page.locator('.frame').get_attribute('data-id')}.png"
        assert pixels(url, big).shape == (256, 256, 3)
        page.locator(".tile").nth(2).click()
        page.select_option("#vary-count", "1")
        page.get_by_role("button", name="Vary").click()
        done(page, 1)
        page.locator(".tile").nth(3).click()
        page.get_by_role("button", name="Use settings").click()
        expect(page.locator("#lock")).to_have_attribute("aria-pressed", "true")
        assert page.input_value("#base-steps") == ""  # it is the model's own
        assert page.get_attribute("#base-steps", "placeholder") == "8"
        assert page.input_value("#prompt") == "a red circle above a blue square"

        # Words with markup are words; a wrong setting is said; history survives a new visit.
        expect(page.locator("#more")).not_to_have_attribute("open", "")
        page.fill("#prompt", EVIL)
        make(page, 1)
        page.locator(".frame button").click()
        expect(page.locator("#words")).to_have_text(EVIL)
        page.keyboard.press("Escape")
        assert page.title() == "Open Imagen studio"
        number = page.locator(".tile").count()
        assert errors == []
        page.reload()
        expect(page.locator(".tile")).to_have_count(number)
        page.locator(".tile").first.click()
        page.get_by_role("button", name="Delete").click()
        expect(page.locator(".tile")).to_have_count(number - 1)
        assert errors == []


@pytest.mark.slow
def test_the_studio_by_keyboard_on_a_phone_in_the_dark_with_a_key(serve, shots):
    key = "a-key-of-the-right-length"
    url, _ = serve(cascades={"scenes": load("scenes", device="cpu")}, keys=[key])
    with chromium() as browser:
        context = browser.new_context(
            viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True
        )
        page, errors = context.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        expect(page.locator("#ask")).to_be_visible()
        page.keyboard.type(key)
        page.keyboard.press("Enter")
        expect(page.locator("#prompt")).to_be_focused()
        page.keyboard.type("three yellow stars on a black background")
        page.keyboard.press("Control+Enter")
        done(page, 4)
        page.screenshot(path=shots / "studio-390.png", full_page=True)
        width = page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= 390, "nothing is wider than the phone"
        page.locator(".frame button").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#viewer")).to_be_visible()
        first = page.locator("#large").get_attribute("src")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
        assert page.locator("#large").get_attribute("src")
        page.screenshot(path=shots / "studio-viewer-390.png")
        page.keyboard.press("Escape")
        expect(page.locator("#viewer")).to_be_hidden()
        assert first
        # Stop in the middle.
        page.set_viewport_size({"width": 1024, "height": 768})
        page.keyboard.press("/")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#stop")).to_be_visible()
        page.locator("body").press("Escape")
        expect(page.locator("#status")).to_have_text("Stopped.")
        page.screenshot(path=shots / "studio-1024-dark.png")
        # Everything that can be operated has a name for those who cannot see it.
        for element in page.locator("button, input, select, textarea, a").all():
            name = element.evaluate(
                "e => e.textContent.trim() || e.getAttribute('aria-label') || e.title"
                " || (e.labels && e.labels.length && e.labels[0].textContent)"
            )
            assert name, element.evaluate("e => e.outerHTML")
        assert errors == []


@pytest.mark.slow
def test_the_studio_shows_what_is_not_saved_and_what_is_not_removed(
    serve, shots, tmp_path, monkeypatch
):
    folder = tmp_path / "gallery-0" / "pictures"
    folder.mkdir(parents=True)
    url, service = serve(cascades={"scenes": load("scenes", device="cpu")})
    made = httpx.post(
        f"{url}/v1/images/generations", json={"prompt": "a red ring", "stages": 1}, timeout=60
    ).json()["data"][0]
    service.gallery.close()
    (tmp_path / "gallery-0" / "gallery.entries" / f"{made['id']}.json").unlink()
    (tmp_path / "gallery-0" / "gallery.db").unlink()
    object.__setattr__(service, "gallery", Gallery(tmp_path / "gallery-0"))
    plain = service.gallery.add
    numbers = iter(range(9))

    def add(*arguments):
        if next(numbers) == 0:
            return plain(*arguments)
        raise OutputError("No space left on device.")

    monkeypatch.setattr(service.gallery, "add", add)
    with chromium() as browser:
        page, errors = browser.new_page(viewport={"width": 1280, "height": 900}), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.goto(url)
        expect(page.locator(".tile")).to_have_count(1)
        page.locator(".tile").click()
        expect(page.locator("#forget")).to_be_disabled()
        expect(page.locator("#facts")).to_contain_text("not written by this server")
        page.screenshot(path=shots / "studio-foreign.png")
        page.keyboard.press("Escape")
        page.fill("#prompt", "a blue star")
        page.select_option("#count", "2")
        page.select_option("#size", "1")
        make(page, 2)
        expect(page.locator("#status")).to_contain_text("could not save 1 of them")
        expect(page.locator(".tile")).to_have_count(2)
        page.screenshot(path=shots / "studio-not-saved.png")
        expect(page.locator(".frame .note")).to_have_text("not saved")
        page.locator('.frame[data-id="not saved"] button').click()
        expect(page.locator("#forget")).to_be_disabled()
        assert page.locator("#large").evaluate("image => image.naturalWidth") == 64
        with page.expect_download() as download:
            page.locator("#download").click()
        assert download.value.suggested_filename.endswith("a-blue-star.png")
        assert b"open_imagen" in Path(download.value.path()).read_bytes()
        page.get_by_role("button", name="Upscale").click()
        done(page, 1)
        expect(page.locator("#status")).to_contain_text("could not save it")
        page.locator(".tile").first.click()
        page.get_by_role("button", name="Delete").click()
        expect(page.locator(".tile")).to_have_count(1)
    assert errors == []


@pytest.mark.slow
def test_it_says_what_a_prompt_was_read_as_and_what_is_not_known(serve, shots):
    tiny = make_cascade(make_stages(), world="things")
    url, _ = serve(cascades={"tiny": tiny})
    with chromium() as browser:
        page = browser.new_context().new_page()
        page.goto(url)
        page.locator("#size").select_option(index=0)
        page.locator("#count").select_option("1")
        reading = page.locator("#reading")
        for prompt, said in (
            ("a zeppelin", "The model knows nothing in 'a zeppelin': nearest known words: "),
            ("\u4e24\u53ea\u732b", "Read as: two cats"),
        ):
            page.locator("#prompt").fill(prompt)
            make(page, 1)
            expect(reading).to_contain_text(said)
        page.screenshot(path=shots / "studio-reading.png")
        page.locator("#prompt").fill("a cat")
        make(page, 1)
        expect(reading).to_be_hidden()


def wait_idle(page):
    expect(page.locator("#jobs li")).to_have_count(0, timeout=90_000)


@pytest.mark.slow
def test_an_image_is_edited_by_keyboard_and_by_mouse(serve, shots, tmp_path):
    url, _ = serve(cascades={"scenes": load("scenes", device="cpu")})
    ground = (30, 120, 60)
    Image.new("RGB", (200, 160), ground).save(tmp_path / "photo.png")
    with chromium() as browser:
        page, errors = browser.new_page(viewport={"width": 1440, "height": 900}), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.goto(url)
        page.select_option("#count", "1")
        page.set_input_files("#file", tmp_path / "photo.png")
        expect(page.locator("#canvas")).to_be_focused()
        expect(page.locator("#go")).to_have_text("Make it anew")
        page.fill("#prompt", "a red circle, green background")

        # By keyboard: a stroke from the middle to the right, taken back and made again.
        page.focus("#canvas")
        page.keyboard.down(" ")
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        page.keyboard.up(" ")
        expect(page.locator("#go")).to_have_text("Fill in")
        page.keyboard.press("Control+z")
        expect(page.locator("#go")).to_have_text("Make it anew")
        page.keyboard.press("Control+Shift+Z")
        page.keyboard.press("Control+Enter")
        done(page, 1)
        edited = pixels(url, f"/v1/images/files/{page.get_attribute('.frame', 'data-id')}.png")
        outside = (edited == ground).all(-1)
        assert edited.shape == (160, 200, 3)
        assert 0.005 < 1 - outside.mean() < 0.05
        assert outside[:, :90].all()
        page.locator(".tile").first.click()
        expect(page.locator("#divider-range")).to_be_visible()
        page.locator("#divider-range").press("ArrowRight")
        page.screenshot(path=shots / "studio-compare.png")
        page.keyboard.press("Escape")

        # By mouse: the right side of the frame is dragged outwards.
        page.locator("#canvas").scroll_into_view_if_needed()
        page.click("#tool-frame")
        box = page.locator("#canvas").bounding_box()
        scale = min(box["width"] / 200, box["height"] / 160) * 0.92
        x, y = box["x"] + box["width"] / 2 + 100 * scale, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 40 * scale, y, steps=4)
        page.mouse.up()
        added = int(page.input_value("#extend-right"))
        assert 38 <= added <= 42
        page.screenshot(path=shots / "studio-frame.png")
        page.get_by_role("button", name="Fill in").click()
        done(page, 1)
        expect(page.locator(".tile")).to_have_count(2)
        larger = pixels(url, f"/v1/images/files/{page.get_attribute('.frame', 'data-id')}.png")
        assert larger.shape == (160, 200 + added, 3)
        assert errors == []


@pytest.mark.slow
def test_a_reload_in_the_middle_of_three_jobs_loses_nothing(serve):
    url, service = serve(cascades={"scenes": load("scenes", device="cpu")})
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(url)
        page.fill("#prompt", "a {red|blue|green} ring")
        page.select_option("#size", "1")
        page.select_option("#count", "2")
        page.click("#go")
        expect(page.locator(".frame img").first).to_be_visible(timeout=30_000)
        page.reload()
        expect(page.locator("#prompt")).to_have_value("a {red|blue|green} ring")
        wait_idle(page)
        expect(page.locator(".frame[data-id]")).to_have_count(6)
        made = {
            (i.record["prompt"], i.record["seed"]) for i in service.gallery.latest("anyone", 99)
        }
        assert len(made) == 6
        page.reload()  # what is done is still shown
        expect(page.locator(".frame[data-id]")).to_have_count(6)


@pytest.mark.slow
def test_many_images_are_searched_starred_and_deleted(serve):
    url, service = serve()
    for k in range(350):
        record = {
            "prompt": f"a {('red', 'blue')[k % 2]} ring {k}", "seed": 2**60 + k, "size": "8x8",
            "model": "tiny", "model_hash": "0" * 16, "settings": {"base": {"steps": 2}},
            "version": "1",
        }  # fmt: skip
        data = encoded(Image.new("RGB", (8, 8)), record)
        service.gallery.add(data, "png", record, "anyone")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        tiles, wall = page.locator(".tile"), page.locator("#wall")
        tiles.first.focus()
        for _ in range(100):  # each end is the end of what is loaded so far
            if page.inner_text("#gallery-count") == "350 images":
                break
            page.keyboard.press("End")
            page.wait_for_timeout(100)
        expect(page.locator("#gallery-count")).to_have_text("350 images")
        assert page.locator("#wall li").count() < 120
        page.keyboard.press("Home")
        page.keyboard.press(" ")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        expect(page.locator("#chosen-count")).to_have_text("3 selected")
        page.keyboard.press("Delete")
        expect(page.locator("#gallery-count")).to_have_text("347 images")
        page.click("#toast-act")
        expect(page.locator("#gallery-count")).to_have_text("350 images")
        page.keyboard.press("s")
        tiles.first.focus()
        page.keyboard.press("s")
        page.click("#only-starred")
        expect(wall.locator("li")).to_have_count(1)
        page.click("#only-starred")
        page.fill("#search", "RED 34")
        expect(wall.locator("li")).to_have_count(
            len([k for k in range(0, 350, 2) if "34" in str(k)])
        )
        page.locator(".tile").first.click()
        expect(page.locator("#facts")).to_contain_text(str(2**60 + 348))
        page.click("#use")
        assert page.input_value("#seed") == str(2**60 + 348)
        page.locator(".tile").first.focus()
        page.keyboard.press("Delete")
        page.reload()  # before its time of undoing has passed: it is deleted all the same
        expect(page.locator("#gallery-count")).to_have_text("100 images so far")
    assert len(service.gallery.latest("anyone", 999)) == 349


@pytest.mark.slow
@pytest.mark.skipif("AXE_CORE" not in os.environ, reason="AXE_CORE names no axe.min.js")
@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(serve, size, scheme):
    url, _ = serve(cascades={"scenes": load("scenes", device="cpu")})
    with chromium() as browser:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
        )
        page = context.new_page()
        page.add_init_script(path=os.environ["AXE_CORE"])

        def check():
            found = page.evaluate("async () => (await axe.run()).violations")
            assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []

        page.goto(url)
        expect(page.locator("#empty")).to_be_visible()
        check()
        page.locator("#more > summary").click()
        for summary in page.locator("details.inner > summary").all():
            summary.click()
        page.fill("#prompt", "a {red|blue} ring")
        page.select_option("#count", "2")
        page.click("#go")
        expect(page.locator("#jobs li").first).to_be_visible()
        check()
        wait_idle(page)
        page.locator(".pick").first.focus()
        page.keyboard.press("Enter")
        check()
        page.click("#chosen-clear")
        page.locator(".tile").first.click()
        check()
        page.click("#edit")
        page.click("#tool-frame")
        check()
        page.click("#show-help")
        check()
