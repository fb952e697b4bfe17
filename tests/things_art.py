"""Art packages of a few pictures, in the formats of the real ones."""

import base64
import hashlib
import io
import json
import tarfile

from PIL import Image, ImageDraw

RED = '<rect x="20" y="40" width="80" height="40" fill="#f00"/>'
BLUE = '<circle cx="64" cy="64" r="30" fill="#00f"/>'
GLASS = '<rect x="10" y="10" width="50" height="100" fill="#fff" fill-opacity="0.5"/>'
HAND = '<path d="M4 8h20v8H4z" fill="#fc0"/><path d="M4 8h4v16H4z" fill="#840"/>'


def entry(label, hexcode, group, subgroup=0, **more):
    return {"label": label, "hexcode": hexcode, "group": group, "subgroup": subgroup, **more}


NAMES = [
    entry("cat face", "1F431", 3),
    entry("red apple", "1F34E", 4),
    entry("eye", "1F441-FE0F", 1),
    entry("blue heart", "1F499", 0, 14),
    entry("red heart", "2764-FE0F", 0, 14),
    entry("one o\u2019clock", "1F550", 5),
    entry("magnifying glass tilted left", "1F50D", 7),
    entry("magnifying glass tilted right", "1F50E", 7),
    entry("flag: Chad", "1F1F9-1F1E9", 9),
    entry("harp", "1FA89", 7),
    entry(
        "artist",
        "1F9D1-200D-1F3A8",
        1,
        skins=[entry("artist: dark skin tone", "1F9D1-1F3FF-200D-1F3A8", 1, tone=5)],
    ),
    entry("woman artist", "1F469-200D-1F3A8", 1, gender=0),
    entry(
        "handshake",
        "1F91D",
        1,
        skins=[entry("handshake: two tones", "1F91D-1F3FB-200D-1F3FF", 1, tone=[1, 5])],
    ),
]


def icons(bodies, side, **aliases):
    found = {name: {"body": body} for name, body in bodies.items()}
    return {"prefix": "x", "icons": found, "aliases": aliases, "width": side, "height": side}


def webp(color, box, size=64):
    image = Image.new("RGBA", (size, size))
    ImageDraw.Draw(image).rectangle(box, fill=color)
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True)
    return file.getvalue()


NOTO = {"cat-face": RED, "red-apple": BLUE, "eye": GLASS, "artist": BLUE, "blue-heart": BLUE}
NOTO |= {"magnifying-glass-tilted-left": RED, "one-oclock": RED}
NOTO_CHARS = {
    "1f431": "cat-face",
    "1f34e": "red-apple",
    "1f441": "eye",
    "1f9d1-200d-1f3a8": "artist",
    "1f499": "blue-heart",
    "1f50d": "magnifying-glass-tilted-left",
    "1f550": "one-oclock",
}
FLAT_CHARS = {"1f431": "cat-face", "1f50d": "glass-left", "1f50e": "glass-right"}
GLASS_RIGHT = {"parent": "glass-left", "hFlip": True}
FILES = {
    "@iconify-json/noto": {
        "icons.json": icons(NOTO, 128, apple={"parent": "red-apple"}),
        "chars.json": NOTO_CHARS,
    },
    "@iconify-json/noto-v1": {
        "icons.json": icons({"apple": RED, "red-heart": BLUE, "unheard-of": RED}, 128),
        "chars.json": {},
    },
    "@iconify-json/fluent-emoji-flat": {
        "icons.json": icons(
            {"cat-face": HAND, "glass-left": HAND}, 32, **{"glass-right": GLASS_RIGHT}
        ),
        "chars.json": FLAT_CHARS,
    },
    "@iconify-json/fluent-emoji": {
        "icons.json": icons({"cat-face": HAND}, 32),
        "chars.json": {},
    },
    "@lobehub/fluent-emoji-3d": {
        "assets/1f431.webp": webp((200, 100, 50, 255), (10, 20, 49, 39)),
        "assets/2764-fe0f.webp": webp((255, 0, 0, 255), (0, 0, 63, 63)),
        "assets/1f469-200d-1f3a8.webp": webp((0, 99, 0, 255), (5, 5, 9, 60)),
        "assets/1f9d1-1f3ff-200d-1f3a8.webp": webp((0, 99, 99, 255), (5, 5, 9, 60)),
        "assets/1f91d-1f3fb-200d-1f3ff.webp": webp((0, 99, 99, 255), (5, 5, 9, 60)),
    },
    "emojibase-data": {"en/data.json": NAMES},
}


def write_package(folder, name, version, files):
    """An unpacked package."""
    for path, content in {"package.json": {"name": name, "version": version}, **files}.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        place.write_bytes(data)
    return folder


def pack(folder, path):
    """The tarball that npm would make of a folder."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, "package")
    return path


def integrity_of(path):
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
