"""imagen models: the models and network presets there are, and what one of them costs."""

import json
from pathlib import Path
from typing import Any

import typer

Json = typer.Option(False, "--json", help="Print one JSON object on standard output.")


def models(
    name: str = typer.Argument(None, metavar="[NAME]", help="A shipped model, folder or preset."),
    as_json: bool = Json,
    markdown: bool = typer.Option(
        False, "--markdown", help="Print all presets as the page docs/reference/networks.md."
    ),
) -> None:
    """List models and network presets, or describe one."""
    from open_imagen.cascade.folder import locate, read_header, shipped
    from open_imagen.models.registry import PRESETS

    if markdown:
        print(page(), end="")
        return
    if name is None:
        listing = {
            "models": {key: str(path) for key, path in shipped().items()},
            "presets": {key: PRESETS[key].about for key in sorted(PRESETS)},
        }
        if as_json:
            print(json.dumps(listing, indent=2))
            return
        for title, rows in listing.items():
            print(f"{title}:")
            for key, text in rows.items():
                print(f"  {key:20} {text}")
        return
    if name in PRESETS:
        _describe_preset(name, as_json)
        return
    folder = locate(name)
    facts = (
        _describe_folder(folder)
        if not (folder / "cascade.json").is_file()
        else {
            "folder": str(folder),
            **read_header(folder),
        }
    )
    _print(facts, as_json)


def _describe_folder(folder: Path) -> dict[str, Any]:
    """A folder of DeepFloyd IF."""
    from open_imagen.cascade import deepfloyd
    from open_imagen.config import plain

    found = deepfloyd.read(folder)
    return {
        "folder": str(folder),
        "encoder": found.encoder,
        "text encoder": str(found.text_encoder or "not in this folder"),
        "weights": [str(network) for network in found.networks],
        **{stage.config.name: plain(stage.config) for stage in found.stages},
    }


def _describe_preset(name: str, as_json: bool) -> None:
    from open_imagen.config import plain
    from open_imagen.models.profile import TOKENS, profile
    from open_imagen.models.registry import PRESETS

    preset, found = PRESETS[name], profile(name)
    facts = {
        "preset": name,
        "about": preset.about,
        "network": preset.network,
        "resolution": preset.resolution,
        "parameters": found.parameters,
        "flops": found.flops,
        "activations": found.activations,
        "tokens": TOKENS,
        "config": plain(preset.config),
        "blocks": [row.__dict__ for row in found.rows],
    }
    if as_json:
        _print(facts, as_json)
        return
    print(f"{name}: {preset.about}")
    print(f"{preset.network} at {preset.resolution}x{preset.resolution}, text of {TOKENS} tokens")
    print(f"parameters   {found.parameters:,}")
    print(f"operations   {found.flops / 1e9:,.1f} GFLOP per image forward, three times in training")
    megabytes = 2 * found.activations / 2**20
    print(f"activations  {megabytes:,.0f} MiB per image in training (bfloat16, none recomputed)")
    print(f"\n{'block':14} {'output':>18} {'parameters':>14} {'GFLOP':>9}")
    for row in found.rows:
        output = "x".join(map(str, row.output))
        print(f"{row.name:14} {output:>18} {row.parameters:14,} {row.flops / 1e9:9.2f}")


def page() -> str:
    """docs/reference/networks.md: every preset that is not for tests only."""
    from open_imagen.models.profile import TOKENS, profile
    from open_imagen.models.registry import PRESETS

    lines = [
        "# Networks",
        "",
        "Written by `imagen models --markdown > docs/reference/networks.md`; a test compares",
        'them. All is counted on the real networks, on torch\'s "meta" device: operations (an',
        f"addition and a multiplication are two) of one forward pass for one image with {TOKENS}",
        "tokens of text, and what training keeps of one image for the backward pass in bfloat16",
        "if nothing is recomputed. `imagen models NAME` prints a network block by block.",
        "",
        "| preset | network | side | parameters | GFLOP | activations | what it is |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for name in sorted(PRESETS):
        preset, found = PRESETS[name], profile(name)
        lines.append(
            f"| `{name}` | {preset.network} | {preset.resolution} | "
            f"{found.parameters / 1e6:,.1f}M | {found.flops / 1e9:,.1f} | "
            f"{2 * found.activations / 2**20:,.0f} MiB | {preset.about} |"
        )
    return "\n".join(lines) + "\n" + NOTES


NOTES = """
## Where the paper disagrees with itself

- **Base, "2B".** Its listing (appendix F.1), with the text at 4,096 channels in every attention
  and in the pooling, counts 2.44 billion; with the text projected to 2,048 first, 2.31.
- **Super-resolution, "600M" and "400M".** The two listings (F.2, F.3) differ in one word, the
  deepest level's attention, and so count nearly the same: 0.55 billion each here, with skips added,
  a 1x1 convolution on every shortcut (figure A.27, `conv_shortcut`) and attention of twice the
  channels (figure A.28, `attention_multiplier = 2`; others read its "hidden size" as that of a
  feed-forward after attention). Neither headline can be had from them.
- **The plain U-Net** that the Efficient one is two to three times as fast as is not listed;
  `imagen-sr-256-unet` is ours: ADM blocks, three a level, of about the same size.
- **Sizes of the base** (300M, 500M, 1B in appendix D.3) come without widths. Heads of 64 channels
  at 1, 2, 3 and 4 times a width need a multiple of 64, and three blocks a level then give 254M
  (128), 454M (192) and 720M (256): ours have four at 128, and a fourth at the deepest level of 192.
"""


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        print(f"{key:12} {value if not isinstance(value, dict) else json.dumps(value)}")
