"""The documented download of DeepFloyd IF, by the parser and the patterns of the hub's command."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from huggingface_hub.cli import download as hf_download
from huggingface_hub.cli.hf import app as hf
from huggingface_hub.utils import filter_repo_objects

import open_imagen as oi
from open_imagen.cascade import deepfloyd
from open_imagen.errors import CheckpointError

FOREIGN = Path(__file__).parents[1] / "foreign" / "deepfloyd-2023"
DOCS = Path(__file__).parents[2] / "docs" / "guides" / "deepfloyd.md"


def hub_listing(stage):
    """The files of a stage's repository, as the hub lists them: all variants, pickles too."""
    t5 = [f"-0000{k}-of-00002" for k in (1, 2)]
    listing = [".gitattributes", "LICENSE.md", "README.md", "model_index.json"]
    listing += ["scheduler/scheduler_config.json", "feature_extractor/preprocessor_config.json"]
    listing += ["text_encoder/config.json", "unet/config.json", "watermarker/config.json"]
    listing += ["safety_checker/config.json", "watermarker/diffusion_pytorch_model.safetensors"]
    for name in ("special_tokens_map.json", "spiece.model", "tokenizer_config.json"):
        listing.append(f"tokenizer/{name}")
    for part in ("", ".fp16"):
        listing += [f"text_encoder/model{part}{shard}.safetensors" for shard in t5]
        listing += [f"text_encoder/pytorch_model{part}{shard}.bin" for shard in t5]
        listing.append(f"text_encoder/model.safetensors.index{part}.json")
        listing.append(f"text_encoder/pytorch_model.bin.index{part}.json")
        for kind in ("safetensors", "bin"):
            listing.append(f"unet/diffusion_pytorch_model{part}.{kind}")
            listing.append(f"safety_checker/model{part}.{kind}")
    return listing + ["image_noising_scheduler/scheduler_config.json"] * (stage == "II")


def documented():
    """The download commands of the documentation, and those of the hint for the hub's name."""
    text = DOCS.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("hf download")]
    names = ("DeepFloyd/IF-I-XL-v1.0", "DeepFloyd/IF-II-L-v1.0")
    for name in names:
        with pytest.raises(CheckpointError, match="not fetched for you") as caught:
            oi.load(f"hf:{name}")
        lines.append(caught.value.hint.split("run: ")[1].split(", and give")[0])
    return [tuple(shlex.split(line)) for line in lines]


@pytest.mark.parametrize("number, stage", list(enumerate(["I", "II", "I", "II"])))
def test_the_documented_download_brings_all_that_is_read(monkeypatch, tmp_path, number, stage):
    asked = {}
    monkeypatch.setattr(hf_download, "snapshot_download", lambda **how: asked.update(how) or "")
    command, *arguments = documented()[number]
    assert command == "hf"
    hf(arguments, standalone_mode=False)
    assert asked["local_dir"] in (f"if/{stage}", "FOLDER")
    assert asked["repo_id"].startswith(f"DeepFloyd/IF-{stage}-")
    brought = set(
        filter_repo_objects(
            hub_listing(stage),
            allow_patterns=asked["allow_patterns"],
            ignore_patterns=asked["ignore_patterns"],
        )
    )
    needed = {
        str(path.relative_to(FOREIGN / stage).as_posix())
        for path in (FOREIGN / stage).rglob("*")
        if path.is_file()
    }
    assert needed <= brought
    heavy = {name for name in brought - needed if not name.endswith(".json")}
    assert heavy == set()
    # A folder of exactly these files, the JSON of what was left out among them.
    for name in brought:
        target = tmp_path / stage / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name in needed:
            shutil.copy(FOREIGN / stage / name, target)
        else:
            target.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    found = deepfloyd.read(tmp_path / stage)
    assert (found.text_encoder is None) == (stage == "II")
