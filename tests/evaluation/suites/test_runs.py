"""Runs over suites: layout, seeds, resume after a kill, every kind of system, and bad input."""

import base64
import io
import json
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.errors import ConfigError, DataError, UnknownName
from open_imagen.evaluation.image_set import open_images
from open_imagen.evaluation.metrics.scores import Protocol, Scorer, compare, parse_measure
from open_imagen.evaluation.suites.contact_sheet import write_contact_sheet
from open_imagen.evaluation.suites.prompts import Suite
from open_imagen.evaluation.suites.runs import make_run, read_timing
from open_imagen.evaluation.suites.systems import (
    CascadeSystem,
    FolderSystem,
    ImageRequest,
    open_system,
)
from open_imagen.storage import write_json
from open_imagen.worlds.suites import open_suite

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))


class Painter:
    """A system whose pictures are a function of prompt and seed."""

    name, batch = "painter", 2

    def __init__(self, name="painter"):
        self.name, self.drawn = name, []

    def record(self):
        return {"kind": "painter"}

    def draw(self, requests):
        self.drawn += requests
        return [self.paint(request) for request in requests]

    def paint(self, request):
        rng = np.random.default_rng([request.seed, *request.prompt.encode()])
        return Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))


def suite_of(tmp_path, *prompts):
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(prompts))
    return open_suite(str(file))


def test_a_run_has_genevals_layout_and_fixed_seeds(tmp_path):
    system, out = Painter(), tmp_path / "run"
    make_run(system, suite_of(tmp_path, "a fox", "a hen"), out, 3, seed=10)
    assert sorted(p.name for p in out.iterdir()) == [
        *("00000", "00001", "run.json", "timing.jsonl")
    ]
    timing = read_timing(out)
    assert (timing.images, len(timing.devices)) == (6, 1)
    assert timing.seconds > 0
    row = json.loads((out / "00001" / "metadata.jsonl").read_text())
    assert (row["prompt"], row["include"]) == ("a hen", [])
    assert sorted(p.name for p in (out / "00001" / "samples").iterdir()) == [
        "0000.png", "0001.png", "0002.png",
    ]  # fmt: skip
    assert [request.seed for request in system.drawn] == [10, 11, 12, 13, 14, 15]
    found = open_images(out)
    assert (len(found), found.captions[3]) == (6, "a hen")
    with Image.open(found.files[4]) as image:
        assert np.array_equal(image, system.paint(ImageRequest("a hen", 1, 14)))


def test_a_stopped_run_makes_only_what_is_missing(tmp_path):
    suite, out = suite_of(tmp_path, "a", "b", "c"), tmp_path / "run"

    class Stops(Painter):
        def draw(self, requests):
            if len(self.drawn) >= 4:
                raise KeyboardInterrupt
            return super().draw(requests)

    with pytest.raises(KeyboardInterrupt):
        make_run(Stops(), suite, out, 2)
    with pytest.raises(DataError, match="not finished"):
        open_images(out)
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    assert len(stamps) == 4
    again = Painter()
    make_run(again, suite, out, 2)
    assert [request.prompt for request in again.drawn] == ["c", "c"]
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    suite, out = suite_of(tmp_path, "a"), tmp_path / "run"
    make_run(Painter(), suite, out, 1)
    with pytest.raises(ConfigError, match="another run: seed differ"):
        make_run(Painter(), suite, out, 1, seed=1)
    with pytest.raises(ConfigError, match="another run: system differ"):
        make_run(Painter("other"), suite, out, 1)
    with pytest.raises(ConfigError, match="not empty and holds no run"):
        make_run(Painter(), suite, tmp_path, 1)
    with pytest.raises(ConfigError, match="must be at least 1"):
        make_run(Painter(), suite, tmp_path / "x", 0)


def test_prompts_are_text_on_the_page(tmp_path):
    evil = '<script>alert("x")</script> & <b>"bold"'
    out = tmp_path / "run"
    make_run(Painter("<i>me</i>"), suite_of(tmp_path, evil), out, 1)
    page = write_contact_sheet(out).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<i>me" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &lt;b&gt;" in page


@pytest.mark.slow
def test_a_killed_run_keeps_every_picture_and_ends_alike(tmp_path, model_folder):
    def command(out):
        words = [
            "prompts",
            str(model_folder),
            "--suite",
            "shapes:single",
            "--count",
            "8",
            "-n",
            "1",
        ]
        words += ["--batch-size", "1", "--out", str(out), "--device", "cpu"]
        return [sys.executable, "-m", "open_imagen", "evaluate", *words]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(whole), check=True, capture_output=True)
    for kept in (2, 5):
        process = subprocess.Popen(
            command(cut), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and len(list(cut.rglob("*.png"))) < kept:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = {p: p.read_bytes() for p in cut.rglob("0*.png")}
        assert len(before) >= kept
    subprocess.run(command(cut), check=True, capture_output=True)
    assert all(p.read_bytes() == data for p, data in before.items())
    for file in sorted(whole.rglob("0*.png")):
        assert (cut / file.relative_to(whole)).read_bytes() == file.read_bytes()
    assert (cut / "run.json").read_text() == (whole / "run.json").read_text()


def test_a_cascades_pictures_do_not_depend_on_the_batch(tmp_path, cascade):
    suite = Suite("three", open_suite("shapes:single", 3).prompts)
    for batch in (1, 3):
        make_run(CascadeSystem(cascade, stages=1, batch=batch), suite, tmp_path / str(batch), 1)
    one, three = (open_images(tmp_path / name) for name in ("1", "3"))
    for a, b in zip(one.files, three.files, strict=True):
        difference = np.asarray(Image.open(a)).astype(int) - np.asarray(Image.open(b))
        assert np.abs(difference).max() <= 1
    [record] = {json.dumps(p.run["system"]) for p in (one, three)}
    assert json.loads(record)["settings"]["base"]["guidance"] == 2.0


def test_a_folder_of_pictures_is_a_system(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for k, caption in enumerate(("a fox", "a hen", "a fox")):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text(caption)
    system = open_system(f"folder:{folder}", CPU)
    assert isinstance(system, FolderSystem)
    second = system.draw([ImageRequest("a fox", 1, 0)])[0]
    assert second.getpixel((0, 0)) == (2, 0, 0)
    with pytest.raises(DataError, match="has 1 pictures of 'a hen'; number 2 is wanted"):
        system.draw([ImageRequest("a hen", 1, 0)])
    (folder / "1.txt").unlink()
    with pytest.raises(DataError, match="no captions"):
        open_system(f"folder:{folder}", CPU)


@pytest.mark.slow
def test_a_pipeline_of_diffusers_is_a_system(tmp_path):
    from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(0)
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "fox": 2}, unk_token="</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    size = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 8}
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=3, out_channels=6, block_out_channels=(8, 16),
        layers_per_block=1, norm_num_groups=4, cross_attention_dim=8, attention_head_dim=4,
        encoder_hid_dim=8, encoder_hid_dim_type="text_proj",
        down_block_types=("DownBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    )  # fmt: skip
    scheduler = DDPMScheduler(variance_type="learned_range")
    pipeline = IFPipeline(words, T5EncoderModel(T5Config(**size)), unet, scheduler, None, None,
                          None, requires_safety_checker=False)  # fmt: skip
    pipeline.save_pretrained(tmp_path / "pipeline")
    system = open_system(f"diffusers:{tmp_path / 'pipeline'}?num_inference_steps=2&batch=2", CPU)
    assert (system.batch, system.record()["arguments"]) == (2, {"num_inference_steps": 2})
    first, second = system.draw([ImageRequest("fox", 0, 3), ImageRequest("fox", 1, 4)])
    assert first.size == (16, 16)
    assert np.array_equal(
        system.draw([ImageRequest("fox", 0, 3), ImageRequest("fox", 1, 4)])[0], first
    )
    assert not np.array_equal(first, second)
    with pytest.raises(DataError, match="diffusers cannot load"):
        open_system(f"diffusers:{tmp_path / 'nowhere'}", CPU)


class Endpoint(BaseHTTPRequestHandler):
    """An image endpoint that is busy at first."""

    busy = 1
    seen: list = []  # noqa: RUF012

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Endpoint.seen.append((self.path, body, self.headers.get("Authorization")))
        if Endpoint.busy > 0:
            Endpoint.busy -= 1
            return self.answer(429, {"error": {"message": "busy"}}, {"Retry-After": "0"})
        if body["prompt"] == "forbidden":
            return self.answer(400, {"error": {"message": "that prompt is refused"}})
        data = io.BytesIO()
        Image.new("RGB", (8, 8), (len(body["prompt"]), 0, 0)).save(data, format="PNG")
        return self.answer(
            200, {"data": [{"b64_json": base64.b64encode(data.getvalue()).decode()}]}
        )

    def answer(self, status, body, headers=()):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def test_an_endpoint_is_a_system(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"openai:http://127.0.0.1:{server.server_port}/v1?model=m&size=8x8&seeds=1&parallel=2"
        system = open_system(url, CPU)
        images = system.draw([ImageRequest("ab", 0, 5), ImageRequest("abcd", 0, 6)])
        assert [p.getpixel((0, 0))[0] for p in images] == [2, 4]
        path, body, key = Endpoint.seen[-1]
        assert (path, key) == ("/v1/images/generations", "Bearer secret")
        assert (body["model"], body["size"], body["n"]) == ("m", "8x8", 1)
        assert {one["seed"] for _, one, _ in Endpoint.seen} == {5, 6}
        assert "secret" not in json.dumps(system.record())
        with pytest.raises(DataError, match="that prompt is refused"):
            system.draw([ImageRequest("forbidden", 0, 0)])
        server.shutdown()


def test_unknown_systems_are_refused():
    with pytest.raises(UnknownName):
        open_system("scene", CPU)
    with pytest.raises(ConfigError, match="names nothing"):
        open_system("openai:", CPU)


def test_numbers_carry_their_record_and_are_compared_only_if_alike(tmp_path):
    make_run(Painter(), suite_of(tmp_path, "a", "b", "c"), tmp_path / "run", 4)
    images = open_images(tmp_path / "run")
    records = []
    for size in (16, 16, 8):
        scorer = Scorer(Protocol(size=size), tmp_path / "run")
        records.append(scorer.measure(parse_measure("kid:pixels"), images))
    record = records[0]
    assert record["label"] == "kernel distance (pixels)"
    assert record["images"]["run"]["prompts"]["count"] == 3
    assert record["images"]["run"]["seed"] == 0
    assert {"torch", "numpy", "open_imagen"} <= record["versions"].keys()
    files = [tmp_path / f"{k}.json" for k in range(3)]
    for file, one in zip(files, records, strict=True):
        write_json(file, one)
    assert len(compare(files[:2])) == 2
    with pytest.raises(DataError, match=r"protocol.size = 16 and 8"):
        compare(files)


def test_what_a_protocol_forbids_is_refused(tmp_path):
    make_run(Painter(), suite_of(tmp_path, "a", "b", "c"), tmp_path / "run", 4)
    images = open_images(tmp_path / "run")
    fid = parse_measure("fid:pixels")
    with pytest.raises(DataError, match="12 pictures are too few"):
        Scorer(Protocol(), tmp_path / "run").measure(fid, images)
    allowed = Scorer(Protocol(), tmp_path / "run", allow_few=True).measure(fid, images)
    assert allowed["details"] == {"too_few_images": True}
    with pytest.raises(ConfigError, match="none are given"):
        Scorer(Protocol()).measure(fid, images)
    with pytest.raises(DataError, match="is of 30,000 pictures; there are 12"):
        Scorer(Protocol(name="p", count=30_000), tmp_path / "run").measure(fid, images)
    with pytest.raises(DataError, match="not a prompt of a world"):
        Scorer(Protocol()).measure(parse_measure("alignment"), images)
    with pytest.raises(UnknownName, match="metric"):
        parse_measure("fids")
    with pytest.raises(ConfigError, match="defined on CLIP's features"):
        parse_measure("clip:pixels")


def test_statistics_keep_their_definition(tmp_path):
    from open_imagen.evaluation.metrics.features import Pixels
    from open_imagen.evaluation.metrics.statistics import (
        open_reference,
        read_statistics,
        write_statistics,
    )

    make_run(Painter(), suite_of(tmp_path, "a", "b"), tmp_path / "run", 4)
    reference, identity = open_reference(tmp_path / "run", Pixels(), None)
    write_statistics(tmp_path / "s.npz", reference, Pixels(), None, identity)
    again, known = read_statistics(tmp_path / "s.npz", Pixels(), None)
    assert np.array_equal(again.sigma, reference.sigma)
    assert (again.count, known["sha256"]) == (8, identity["sha256"])
    with pytest.raises(DataError, match="size = None, not 8"):
        read_statistics(tmp_path / "s.npz", Pixels(), 8)
    np.savez(tmp_path / "plain.npz", mu=reference.mu, sigma=reference.sigma)
    assert "nothing of it" in read_statistics(tmp_path / "plain.npz", Pixels(), 8)[1]["definition"]
    np.savez(tmp_path / "other.npz", mu=np.zeros(5), sigma=np.eye(5))
    with pytest.raises(DataError, match="5 features; pixels has 192"):
        read_statistics(tmp_path / "other.npz", Pixels(), None)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="does not hold statistics"):
        read_statistics(tmp_path / "broken.npz", Pixels(), None)
    np.savez(tmp_path / "pickled.npz", mu=np.array([print], dtype=object), sigma=np.eye(5))
    with pytest.raises(DataError, match="does not hold statistics"):
        read_statistics(tmp_path / "pickled.npz", Pixels(), None)
