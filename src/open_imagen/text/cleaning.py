"""What is done to a caption before it is read: nothing, or what DeepFloyd IF's training did."""

import html
import re
import urllib.parse
from collections.abc import Callable

from open_imagen.errors import MissingDependency


def lower(caption: str) -> str:
    """Lower case, no space at the ends.

    >>> lower("  A Red CIRCLE ")
    'a red circle'
    """
    return caption.lower().strip()


# (what, by what) in the order in which it is done. Written from a description of what DeepFloyd
# IF removes from captions found on the web; odd cases may come out otherwise than theirs.
BEFORE: list[tuple[str, str]] = [
    (r"<person>", "person"),
    (r"\b(?:https?:/{0,3}|www\.)\S+|\b[a-z0-9-]+\.(?:com|co|ru|net|org|edu|gov|it)\b\S*", ""),
    (r"<[^>]*>", ""),
    (r"@[\w\d]+\b", ""),
    (r"[\u31c0-\u33ff\u3400-\u4dbf\u4dc0-\u4dff\u4e00-\u9fff]+", ""),
    (r"[\u058a\u05be\u1400\u1806\u2010-\u2015\u2e3a\u2e3b\u301c\u3030\uff0d]+", "-"),
    (r"[`\u00b4\u00ab\u00bb\u201c\u201d\u00a8]", '"'),
    (r"[\u2018\u2019]", "'"),
    (r"&(?:quot|amp);?", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),
    (r"\d:\d\d\s+$", ""),
    (r"\\n", " "),
    (r"#\d+\b", ""),
    (r"\b\d{6,}\b", ""),
    (r"\S+\.(?:png|jpe?g|bmp|webp|eps|pdf|apk|mp4)\b", ""),
    (r"[\"']{2,}", '"'),
    (r"\.{2,}", " "),
    (
        r"[#\u00ae\u2022\u00a9\u2122&@\u00b7\u00ba\u00bd\u00be\u00bf\u00a1\u00a7~()\[\]{}|\\/*]+",
        " ",
    ),
    (r"\s+\.\s+", " "),
]
AFTER: list[tuple[str, str]] = [
    (r"\b[a-z]{0,3}\d{3,15}\b|\b[a-z]+\d+[a-z]+\b|\b\d+[a-z]+\d+\b", ""),
    (
        r"(?:worldwide\s+)?(?:free\s+)?shipping|(?:free\s)?download(?:\sfree)?|\bclick\b\s(?:for|on)\s\w+",
        "",
    ),
    (r"\b(?:png|jpe?g|bmp|webp|eps|pdf|apk|mp4)(?:\simages?)?\b|\bpage\s+\d+\b", ""),
    (r"\b\d+\.?\d*[x\u00d7]\d+\.?\d*\b", ""),
    (r"\b\s+:\s+", ": "),
    (r"(\D)[,/]\b", r"\1, "),
    (r"\s+", " "),
    (r"^[\"'](.*)[\"']$", r"\1"),
    (r"^['_,:;-]+|['_,:+-]+$|^\.\S+$", ""),
]


def deepfloyd(caption: str) -> str:
    """Clean a caption as DeepFloyd IF did in training, which applied it twice.

    Raises:
        MissingDependency: ftfy is not installed. (Without it, images would differ between
            machines, with no message.)
    """
    try:
        import ftfy
    except ImportError as error:
        raise MissingDependency(
            "DeepFloyd IF's caption cleaning needs ftfy.", "Run: pip install ftfy"
        ) from error
    for _ in range(2):
        caption = _replaced(urllib.parse.unquote_plus(caption).strip().lower(), BEFORE)
        if len(re.findall(r"[-_]", caption)) > 3:
            caption = re.sub(r"[-_]", " ", caption)
        caption = html.unescape(html.unescape(ftfy.fix_text(caption)))
        caption = _replaced(caption, AFTER).strip()
    return caption


def _replaced(text: str, rules: list[tuple[str, str]]) -> str:
    for pattern, by in rules:
        text = re.sub(pattern, by, text)
    return text


CLEANERS: dict[str, Callable[[str], str]] = {"none": str, "lower": lower, "deepfloyd": deepfloyd}
