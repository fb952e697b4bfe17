"""Features: the published Inception's numbers, CLIP's and DINOv2's, the cache, and bad files."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from evaluation.metrics.oracle import torch_fidelity
from open_imagen.errors import CheckpointError, DataError
from open_imagen.evaluation.image_set import open_images
from open_imagen.evaluation.metrics.distances import fid, kid, reference_of
from open_imagen.evaluation.metrics.features import (
    ExtractorSpec,
    Pixels,
    extract,
    load_inception,
    read_inception,
)
from open_imagen.evaluation.metrics.inception import Inception
from open_imagen.evaluation.metrics.resize import RESIZES, tf1
from open_imagen.evaluation.metrics.scores import (
    PROTOCOLS,
    STANDS_BESIDE,
    Protocol,
    Scorer,
    parse_measure,
)
from open_imagen.evaluation.metrics.vision import open_vision


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory):
    """Random weights that keep signals alive through all layers, under the published names."""
    torch.manual_seed(0)
    network = Inception()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.normal_(std=0.1)
    file = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    state = {name: t for name, t in network.state_dict().items() if "num_batches" not in name}
    save_file(state, file)
    torch.save(state, file.with_suffix(".pth"))
    return file


def noise_pictures(folder, count, side=32, seed=0):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        low = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(low).resize((side, side), Image.Resampling.BICUBIC)
        image.save(folder / f"{k:04d}.png")
    return folder


def theirs(file, layer):
    torch_fidelity()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3("test", [layer], str(file.with_suffix(".pth")))


@pytest.mark.parametrize("layer", ["64", "192", "768", "2048"])
@pytest.mark.parametrize("side", [40, 299])
def test_inception_features_equal_torch_fidelity(inception_file, layer, side):
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    ours = load_inception(ExtractorSpec("inception", inception_file, "tf1"), layer)
    found = ours(torch.stack([ours.prepare(image) for image in images]))
    [expected] = theirs(inception_file, layer)(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_fid_and_kid_of_pictures_equal_torch_fidelity(inception_file, tmp_path):
    ours = load_inception(ExtractorSpec("inception", inception_file, "tf1"), "64")
    reference_network = theirs(inception_file, "64")
    sets, expected = [], []
    for seed in (0, 1):
        found = open_images(noise_pictures(tmp_path / str(seed), 80, seed=seed))
        sets.append(extract(found, ours).double().numpy())
        pixels = np.stack([np.asarray(Image.open(file)) for file in found.files])
        tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        expected.append(reference_network(tensor)[0].double())
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    statistics = [fid_features_to_statistics(features) for features in expected]
    [number] = fid_statistics_to_metric(*statistics, verbose=False).values()
    assert fid(sets[0], reference_of(sets[1])) == pytest.approx(number, rel=1e-6)
    found = kid_features_to_metric(*expected, verbose=False, kid_subset_size=80, kid_subsets=1)
    assert kid(sets[0], reference_of(sets[1])) == pytest.approx(
        found["kernel_inception_distance_mean"], rel=1e-6
    )


def test_the_tensorflow_resize_is_torch_fidelitys():
    torch_fidelity()
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x as literal,
    )

    for height, width in ((64, 64), (37, 81), (400, 310)):
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        expected = literal(image[None].float(), size=(299, 299), align_corners=False)[0]
        torch.testing.assert_close(tf1(image, 299), expected, rtol=0, atol=1e-3)


def test_filters_agree_only_where_there_is_nothing_to_filter():
    image = torch.randint(0, 256, (3, 50, 50), dtype=torch.uint8)
    same = [resize(image, 50) for resize in RESIZES.values()]
    assert all(torch.equal(one, image.float()) for one in same)
    larger = [resize(image, 80) for resize in RESIZES.values()]
    assert all((a - b).abs().max() > 1 for a, b in ((larger[0], larger[1]), larger[1:]))


def test_unknown_pickles_and_other_networks_are_refused(inception_file, tmp_path):
    with pytest.raises(CheckpointError, match="unknown pickles are not opened"):
        read_inception(inception_file.with_suffix(".pth"))
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not the Inception of FID"):
        load_inception(ExtractorSpec("inception", tmp_path / "other.safetensors"))
    with pytest.raises(CheckpointError, match="no Inception weights"):
        load_inception(ExtractorSpec("inception", tmp_path / "nowhere.safetensors"))


def tiny_clip(folder):
    from transformers import CLIPConfig, CLIPModel

    words = ["a", "red", "blue", "ring"]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *(f"{word}</w>" for word in words)]
    vocabulary += sorted({c for word in words for c in word} | {f"{w[-1]}</w>" for w in words})
    folder.mkdir()
    torch.manual_seed(1)
    size = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    text = {**size, "intermediate_size": 32, "vocab_size": 99, "max_position_embeddings": 12}
    text |= {"bos_token_id": 0, "eos_token_id": 1}
    vision = {**size, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).eval().save_pretrained(folder)
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    known = {word: k for k, word in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", 0), ("<|endoftext|>", 1)],
    )
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    fast.save_pretrained(folder)
    return folder


def captioned(folder):
    noise_pictures(folder, 3, side=48)
    for k, caption in enumerate(("a red ring", "a blue ring", "red")):
        (folder / f"{k:04d}.txt").write_text(caption)
    return folder


def test_clip_score_equals_a_direct_computation(tmp_path):
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    model = tiny_clip(tmp_path / "clip")
    folder = captioned(tmp_path / "pictures")
    scorer = Scorer(Protocol(), weights={"clip-b32": model})
    record = scorer.measure(parse_measure("clip"), open_images(folder))

    clip = CLIPModel.from_pretrained(model)
    processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    images = [Image.open(folder / f"{k:04d}.png") for k in range(3)]
    captions = [(folder / f"{k:04d}.txt").read_text() for k in range(3)]
    words = AutoTokenizer.from_pretrained(model)(captions, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = clip(
            input_ids=words["input_ids"],
            attention_mask=words["attention_mask"],
            pixel_values=processor(images, return_tensors="pt")["pixel_values"],
        )
    expected = 100 * (out.image_embeds * out.text_embeds).sum(1)
    assert record["value"] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert record["error"] == pytest.approx(float(expected.std() / 3**0.5), rel=1e-4)
    assert record["label"] == "CLIP score (clip-b32)"
    assert len(record["definition"]["features"]["weights_sha256"]) == 64


def test_images_reach_clip_as_its_own_processor_brings_them_at_all_sizes(tmp_path):
    from transformers import CLIPImageProcessor

    judge = open_vision("clip-b32", tiny_clip(tmp_path / "clip"), torch.device("cpu"))
    processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    rng = np.random.default_rng(0)
    sizes = [(48, 48), (60, 41), (33, 90), (32, 32), (32, 47), (17, 9)]
    # Beside these, many where the long side falls on a whole pixel, which rounding may miss.
    sizes += [(short, short * k // 8) for short in range(40, 72) for k in range(9, 20)]
    sizes += [tuple(rng.integers(8, 200, 2)) for _ in range(100)]
    for height, width in sizes + [(w, h) for h, w in sizes]:
        pixels = rng.integers(0, 256, (int(height), int(width), 3), dtype=np.uint8)
        expected = np.array(processor(Image.fromarray(pixels))["pixel_values"][0])
        found = judge.prepare(torch.from_numpy(pixels).permute(2, 0, 1)).numpy()
        assert np.abs(found - expected).max() < 1e-5, f"{width}x{height}"


@pytest.mark.parametrize("side", [224, 336])
def test_the_scaled_sides_before_clip_are_exact(side):
    """As transformers: the long side is int(side * long / short)."""
    from open_imagen.evaluation.metrics.vision import _centre

    for short in (215, 255, 256, 333, 480):
        for long in range(short, 2 * short, 7):
            calls = []
            image = Image.new("1", (short, long))
            image.resize = lambda size, _, calls=calls: calls.append(size) or Image.new("1", size)
            assert _centre(image, side).size == (side, side)
            assert calls == [(side, side * long // short)]


def test_dinov2_features_are_its_class_token(tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    size = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    model = Dinov2Model(Dinov2Config(**size, image_size=56, patch_size=14)).eval()
    model.save_pretrained(tmp_path / "dino")
    judge = open_vision("dinov2", tmp_path / "dino", torch.device("cpu"))
    image = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8)
    prepared = judge.prepare(image)[None]
    assert prepared.shape == (1, 3, 224, 224)
    with torch.no_grad():
        expected = model(prepared).last_hidden_state[:, 0]
    torch.testing.assert_close(judge(prepared), expected)
    assert judge.width == 16


def test_features_are_computed_once(tmp_path):
    class Counting(Pixels):
        seen = 0

        def __call__(self, prepared):
            Counting.seen += len(prepared)
            return super().__call__(prepared)

    found = open_images(noise_pictures(tmp_path / "pictures", 5))
    first = extract(found, Counting())
    assert torch.equal(extract(open_images(tmp_path / "pictures"), Counting()), first)
    assert Counting.seen == 5
    noise_pictures(tmp_path / "pictures", 5, seed=9)
    assert not torch.equal(extract(open_images(tmp_path / "pictures"), Counting()), first)


def test_bad_pictures_are_named(tmp_path):
    folder = noise_pictures(tmp_path / "pictures", 3)
    Image.new("RGB", (10, 20)).save(folder / "odd.png")
    with pytest.raises(DataError, match=r"odd.png is 10x20.*mixed sizes"):
        extract(open_images(folder), Pixels())
    assert extract(open_images(folder), Pixels(), size=16).shape == (4, 192)
    (folder / "odd.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"odd.png cannot be read"):
        extract(open_images(folder), Pixels())
    with pytest.raises(DataError, match="There is no picture"):
        open_images(_empty(tmp_path))
    with pytest.raises(DataError, match="There is no folder"):
        open_images(tmp_path / "nowhere")


def _empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_presets_of_the_paper_name_their_resize_and_what_they_may_stand_beside(tmp_path):
    noise_pictures(tmp_path, 3, side=32)
    for name, words in (("tf1", "7.27"), ("clean", "not beside the paper's")):
        protocol = PROTOCOLS[f"imagen-coco-30k-{name}"]
        assert (protocol.resize, protocol.size, protocol.count) == (name, 256, 30_000)
        assert words in STANDS_BESIDE[name]
        with pytest.raises(DataError, match=f"imagen-coco-30k-{name} is of 30,000"):
            Scorer(protocol, tmp_path).measure(parse_measure("kid:pixels"), open_images(tmp_path))


def test_diversity_by_hand(tmp_path):
    for k, shade in enumerate((0, 102, 51, 51)):
        Image.new("RGB", (8, 8), (shade,) * 3).save(tmp_path / f"{k}.png")
        (tmp_path / f"{k}.txt").write_text("ab"[k // 2])
    scorer = Scorer(Protocol())
    found = scorer.measure(parse_measure("diversity:pixels"), open_images(tmp_path))
    assert found["value"] == pytest.approx((0.4 + 0) / 2)
    assert found["error"] == pytest.approx(0.2)
    assert found["higher_is_better"]
    for k in range(4):
        (tmp_path / f"{k}.txt").write_text(str(k))
    with pytest.raises(DataError, match="No prompt has two images"):
        scorer.measure(parse_measure("diversity:pixels"), open_images(tmp_path))
