"""Where things are in a Chinese prompt whose phrases are private characters."""

import re
from collections.abc import Callable

from open_imagen.worlds.things.chinese_phrases import MEASURES, Phrases
from open_imagen.worlds.things.grammar import words
from open_imagen.worlds.things.phrases import listed, say

P, M = "[\ue200-\ue7ff]", "[\ue800-\uefff]"
"""Characters that stand for phrases and for loose modifiers."""
HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
LEFT = "左(?:[上下]方|手边|边儿|边|侧|面|方|半边)?"
RIGHT = "右(?:[上下]方|手边|边儿|边|侧|面|方|半边)?"
ABOVE = "正?(?:头顶上?|顶上|顶部|上(?:面|方|边|头|端|空)?)"
BELOW = "正?(?:底下|底部|脚下|脚边|下(?:面|方|边|头|端)?)"
SIDE = rf"最?(?:{LEFT}|{RIGHT}|{ABOVE}|{BELOW})(?:位置|处)?"
BESIDE = "(?:旁边|旁|边上|身边|身旁|附近|隔壁|一旁|一边|前面|前方|面前|后面|后方|身后|背后)"
BE = (
    "(?:就|还|也|则|分别|,|:)*(?:是|有着|有|画着|画上|画|加上|加"
    "|[放站坐摆躺趴飘挂停飞长立蹲浮悬漂睡开][着了]?|为)?"
)
BE_SAID = BE.removesuffix("?")
AT = "(?:就|正|都|,)*(?:位于|处于|[放坐站躺趴停画摆飞挂飘睡蹲漂悬浮叠压落立]?在)"
IT = "(?:它们?|他|她|其|那里|这)的?"
FRAME = "(?:画面|图片|图像|画布|图)?的?"
SIDES = (
    (re.compile(LEFT), "to the left of", "on the left"),
    (re.compile(RIGHT), "to the right of", "on the right"),
    (re.compile(ABOVE), "above", "at the top"),
    (re.compile(BELOW), "below", "at the bottom"),
)
CORNERS = {
    "左上": "in the top left corner",
    "右上": "in the top right corner",
    "左下": "in the bottom left corner",
    "右下": "in the bottom right corner",
    "中": "in the middle",
    "正中": "in the middle",
}
CORNER = "(?:左上|右上|左下|右下)(?:角|方|边)?|正?中(?:间|央|心)|最?(?:顶|底)(?:部|端)"
LIST = rf"{P}(?:(?:[,、]|和|与|跟|以及|还有|同|再加|加上|加|外加)+{P})*"
COUNTED = re.compile(rf"(?:[一二两三四五六七八九十几]|\d+)[{MEASURES}]")
"""A number that counts something unknown."""
WITH = words(
    "戴着 拿着 带着 抱着 穿着 举着 有 和 跟 与 戴 拿 抱 穿 捧着 含着 叼着 背着 带有 带 吃"
    " 骑着 弹着 踢着 玩着 吃着 喝着 看着 追着 拉着 吹着 打着 推着 开着 牵着 扛着 提着 顶着"
    " 骑 弹 踢 玩 喝 追"
)
"""Verbs that the English "with" says."""
SILENT = re.compile(
    r"[,、。:;.!?()~\s的和与跟有是在了着里一上下以及还同、再另外加个]|分别|一起|并排|旁边|左右|各|而且|然后"
    r"|画面|图片|图中|中间|它们?|还有|另一"
)
OPPOSITE = {"on the left": "on the right", "at the top": "at the bottom"}
OPPOSITE |= {other: one for one, other in OPPOSITE.items()}


class Clause:
    """Where things are, of a text whose phrases are private characters."""

    def __init__(self, phrases: Phrases) -> None:
        self.phrases = phrases
        self.unknown: list[str] = []

    def read(self) -> tuple[str, tuple[str, ...]]:
        """English, and Chinese words that were passed over."""
        return self._read(self.phrases.text.strip(",")), tuple(dict.fromkeys(self.unknown))

    def _read(self, text: str) -> str:
        for pattern, tell in RELATIONS:
            match = pattern.search(text)
            if match is None:
                continue
            english = tell(self, match)
            if english:
                before = self._read(text[: match.start()])
                after = self._read(text[match.end() :].lstrip(",、"))
                return listed([english, *(x for x in (before, after) if x and x not in english)])
        return self._rest(text)

    def _rest(self, text: str) -> str:
        """Things without a relation, in a row; a verb between two becomes "with"."""
        match = re.fullmatch(rf"({P})([^,、{P[1:-1]}]{{1,6}})({P})", text.strip(",、。 "))
        if match is not None and not re.fullmatch(r"[和与跟及以还有同再加外]+", match[2]):
            if match[2] not in WITH:
                self.pass_over(match[2])
            return f"{self.say(match[1])} with {self.say(match[3])}"
        self.pass_over(text)
        return self.list(text) if re.search(P, text) else ""

    def list(self, text: str) -> str:
        """All things of a text in a row."""
        return listed(list(dict.fromkeys(self.say(one) for one in re.findall(P, text))))

    def say(self, character: str) -> str:
        """The English of a phrase, by its private character."""
        return say(self.phrases.of(character))

    def pass_over(self, text: str) -> None:
        """Note the words of a text that nothing is known of."""
        for part in re.split(f"[{P[1:-1]}{M[1:-1]},、。;]", text):
            part = COUNTED.sub("", part)
            if HAN.search(SILENT.sub("", part)):
                self.unknown.append(part.strip("的了着是在有一个和"))


def side_of(text: str) -> tuple[str, str]:
    """The relation and the end of the picture that a word of place means."""
    for pattern, relation, end in SIDES:
        if pattern.fullmatch(text.removeprefix("最").removesuffix("位置").removesuffix("处")):
            return relation, end
    raise ValueError(text)


def corner_of(text: str) -> str:
    """The place in words that a corner or edge in Chinese means."""
    for start, place in CORNERS.items():
        if text.startswith(start) and text.removeprefix(start)[:1] in ("", *"角方边间央心"):
            return place
    return "at the top" if "顶" in text else "at the bottom"


def _related(one: str, other: str, side: str) -> Callable[[Clause, re.Match[str]], str]:
    """A teller of "A to the left of B", of the groups with these names."""

    def tell(clause: Clause, match: re.Match[str]) -> str:
        relation, _ = side_of(match[side])
        return f"{clause.list(match[one])} {relation} {clause.list(match[other])}"

    return tell


def _ends(clause: Clause, match: re.Match[str]) -> str:
    """For "A on the left and B on the right"."""
    (_, end), (_, other) = side_of(match["d"]), side_of(match["e"])
    if OPPOSITE[end] != other:
        return ""
    return f"{clause.list(match['a'])} {end} and {clause.list(match['b'])} {other}"


def _next_to(clause: Clause, match: re.Match[str]) -> str:
    return f"{clause.list(match['a'])} next to {clause.list(match['b'])}"


def _corner(clause: Clause, match: re.Match[str]) -> str:
    return f"{clause.list(match['a'])} {corner_of(match['d'])}"


def _end(clause: Clause, match: re.Match[str]) -> str:
    return f"{clause.list(match['a'])} {side_of(match['d'])[1]}"


def _row(clause: Clause, match: re.Match[str]) -> str:
    things = re.findall(P, match["a"])
    ends = (
        ("on the left", "on the right") if match["d"] in "左右" else ("at the top", "at the bottom")
    )
    if match["d"] in "右下":
        ends = ends[::-1]
    if len(things) != 2:
        return clause.list(match["a"])
    return f"{clause.say(things[0])} {ends[0]} and {clause.say(things[1])} {ends[1]}"


_A, _B, _D, _E = f"(?P<a>{LIST})", f"(?P<b>{LIST})", f"(?P<d>{SIDE})", f"(?P<e>{SIDE})"
_ONE = f"(?P<b>{P})"
_JOIN = r"(?:[,、]|和|而且|而|还有|然后|且|并且)*"
_TAIL = "(?:的?(?:位置|地方|那里)|[飞跑走游站坐睡跳趴][着来]?)?"
RELATIONS: tuple[tuple[re.Pattern[str], Callable[[Clause, re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), tell)
    for pattern, tell in (
        (rf"从?(?P<d>[左右上下])[到往至][左右上下](?:依次|分别)?(?:是|有|,|:|画|为)*{_A}", _row),
        (rf"{FRAME}在?的?{_D}的?{BE}{_A}{_JOIN}{FRAME}在?的?{_E}的?{BE}{_B}", _ends),
        (rf"(?:把|将)?{_A}{AT}{FRAME}{_D}{_JOIN}(?:把|将)?{_B}{AT}{FRAME}{_E}", _ends),
        (rf"^{_A}{_D}[,、]?{_B}{_E}$", _ends),
        (rf"^{_D}{_A}[,、]?{_E}{_B}$", _ends),
        (rf"(?:把|将)?{_A}{AT}的?{_ONE}的?{_D}{_TAIL}$", _related("a", "b", "d")),
        (rf"(?:把|将)?{_A}{AT}的?{_ONE}的?{_D}{_TAIL}(?=[,、])", _related("a", "b", "d")),
        (rf"(?:{AT})?{_ONE}的?{_D}{BE_SAID}{_A}", _related("a", "b", "d")),
        (rf"(?:{AT}){_ONE}的?{_D}[,]?{BE}{_A}", _related("a", "b", "d")),
        (rf"(?:{AT})?{_ONE}的?{_D}的{_A}", _related("a", "b", "d")),
        (rf"^{_ONE}[,、]+(?:{AT})?{IT}{_D}的?{BE}{_A}$", _related("a", "b", "d")),
        (rf"^{_ONE}[,、]+(?:在)?{_D}的?{BE}{_A}$", _related("a", "b", "d")),
        (rf"^{_ONE}[,、]+{_A}{AT}{IT}{_D}{_TAIL}$", _related("a", "b", "d")),
        (rf"^{_ONE}(?:的)?{_D}[,、]?{_A}$", _related("a", "b", "d")),
        (rf"{_A}{AT}{_ONE}的?{BESIDE}", _next_to),
        (rf"(?:{AT})?{_ONE}的?{BESIDE}(?:的|{BE}){_A}", _next_to),
        (rf"{_ONE}[,、]+(?:{IT})?{BESIDE}(?:的|{BE}){_A}", _next_to),
        (rf"{_A}(?:紧?挨着|紧?靠着|紧?贴着|靠近){_ONE}", _next_to),
        (rf"{_A}{AT}{FRAME}(?P<d>{CORNER})", _corner),
        (rf"(?<!{P})(?<!{P}的)(?:{AT})?{FRAME}(?P<d>{CORNER})的?{BE}{_A}", _corner),
        (rf"{_A}{AT}{FRAME}{_D}$", _end),
        (rf"^(?:{AT})?{FRAME}{_D}的?{BE}{_A}", _end),
    )
)
