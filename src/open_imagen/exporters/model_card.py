"""The model card of a repository on the hub: metadata at its head, then how the model was made."""

from pathlib import Path
from typing import Any

from open_imagen.errors import CheckpointError
from open_imagen.storage import read_json
from open_imagen.version import __version__

TAGS = ["text-to-image", "diffusion", "pixel-space", "cascade", "imagen"]
DEFAULT_LICENCE = "apache-2.0"
DEEPFLOYD = {
    "license": "other",
    "license_name": "deepfloyd-if-license",
    "license_link": "https://huggingface.co/DeepFloyd/IF-I-XL-v1.0/blob/main/LICENSE",
}
"""Of weights that came from DeepFloyd IF."""
FENCE = "---\n"


def split_card(text: str) -> tuple[dict[str, Any], str]:
    r"""The metadata and the text of a card.

    >>> split_card("---\nlicense: mit\n---\n# Mine\n")
    ({'license': 'mit'}, '# Mine\n')

    Raises:
        CheckpointError: the metadata are not YAML.
    """
    text = text.replace("\r\n", "\n")
    if not text.startswith(FENCE) or f"\n{FENCE}" not in text[len(FENCE) - 1 :]:
        return {}, text
    import yaml

    head, _, body = text.removeprefix(FENCE).partition(f"\n{FENCE}")
    try:
        found = yaml.safe_load(head)
    except yaml.YAMLError as error:
        raise CheckpointError(f"The metadata of README.md are not YAML: {error}") from error
    if found is not None and not isinstance(found, dict):
        raise CheckpointError("The metadata of README.md are not a table of settings.")
    return found or {}, body.lstrip("\n")


def model_card(folder: Path, header: dict[str, Any], repository: str, licence: str | None) -> str:
    """The card of a model: what its README.md says, and what that leaves open.

    Args:
        licence: its name on the hub; if None, the README's, DeepFloyd's for its weights, or
            Apache-2.0.
    """
    readme = folder / "README.md"
    given, body = split_card(readme.read_text(encoding="utf-8")) if readme.is_file() else ({}, "")
    metadata = metadata_of(header) | given
    if licence is not None:
        metadata = {k: v for k, v in metadata.items() if not k.startswith("license")}
        metadata["license"] = licence
    wanted = [*TAGS, "open-imagen"]
    metadata["tags"] = list(dict.fromkeys([*(metadata.get("tags") or []), *wanted]))
    import yaml

    head = yaml.safe_dump(metadata, sort_keys=True, allow_unicode=True)
    return f"{FENCE}{head}{FENCE}\n{body or describe(folder, header, repository)}"


def metadata_of(header: dict[str, Any]) -> dict[str, Any]:
    """What is known of a model without its README."""
    from_deepfloyd = str(header.get("encoder", "")).startswith("deepfloyd")
    begins_from_text = "lowres" not in header or not header["lowres"]
    return {
        "library_name": "diffusers" if "_class_name" in header else "open-imagen",
        "pipeline_tag": "text-to-image" if begins_from_text else "image-to-image",
        **(DEEPFLOYD if from_deepfloyd else {"license": DEFAULT_LICENCE}),
    }


def describe(folder: Path, header: dict[str, Any], repository: str) -> str:
    """A card's text from what the model folder says."""
    lines = [f"# {header['name']}", ""]
    lines += [f"A cascade of pixel-space diffusion models for open_imagen {__version__}."]
    lines += ["", "```python", "import open_imagen as oi", ""]
    lines += [f'cascade = oi.load("hf:{repository}")']
    lines += ['cascade.generate(["a photo of a red fox"], seed=0).images[0]', "```", ""]
    lines += ["| stage | resolution | enlarges | network | predicts | trained on |"]
    lines += ["|---|---|---|---|---|---|"]
    for stage in header["stages"]:
        config = read_json(folder / stage / "config.json")
        trained = header.get("trained", {}).get(stage, {})
        images, data = trained.get("images"), trained.get("data", {})
        seen = f"{images:,} images seen" if isinstance(images, int) else "not recorded"
        source = data.get("kind") if isinstance(data, dict) else None
        cells = [
            *(stage, config.get("resolution"), config.get("lowres") or "text"),
            *(config.get("network", {}).get("network"), _prediction(config)),
            seen + (f" ({source})" if source else ""),
        ]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    lines += ["", f"Text encoder: {header['encoder']} (not included)."]
    if header.get("world"):
        lines += [f"Trained on the synthetic world `{header['world']}` of open_imagen."]
    return "\n".join(lines) + "\n"


def _prediction(config: dict[str, Any]) -> str:
    objective = config.get("objective", {})
    return str(objective.get("prediction", "eps"))
