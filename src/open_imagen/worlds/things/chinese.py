"""Chinese prompts by rules: polite forms, grounds, styles, signs, and where things are."""

# ruff: noqa: RUF001

import re
from collections.abc import Callable
from typing import NamedTuple

from open_imagen.worlds.things.chinese_phrases import (
    COLOR,
    MEASURES,
    QUOTED,
    STYLE,
    STYLE_OF,
    Lexicon,
    Phrases,
    color_of,
    simplified,
)
from open_imagen.worlds.things.phrases import Phrase, framed, listed, say

HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
QUOTES = re.compile(
    "“([^”]*)”|\"([^\"]*)\"|「([^」]*)」|『([^』]*)』|‘([^’]*)’|(?<![a-zA-Z])'([^']*)'(?![a-zA-Z])"
)
Q = "[\ue000-\ue0ff]"
S = "[\ue100-\ue1ff]"
P = "[\ue200-\ue7ff]"
M = "[\ue800-\uefff]"
SIGNED = 0xE100
START = re.compile(
    r"^(?:[,:。!\s]|请问|请|麻烦|帮我|帮忙|给我|替我|为我|我想要|我想看|我想|我要|想要|想看|需要|能不能"
    r"|能否|可不可以|可以|你能|您能|能|您|你|再|来|生成|画出|画上|画(?![笔框家布板面])|绘制|创建|创作|制作"
    r"|做|设计|展示|显示|输出|整|弄|看看|看|给|一下|出|有没有|这里有|这儿有|图中有|(?:有)(?=[^,]*$))+"
)
END = re.compile(r"(?:[,。!?~\s]|吧|呗|谢谢你|谢谢|多谢|拜托了?|好吗|可以吗|行吗|好不好|吗|啊|呀|哦|呢|嘛|啦)+$")
PICTURE = r"(?:图片|图画|图像|画面|照片|插画|插图|卡通画|简笔画|表情包|表情|贴纸|emoji|头像|图标|壁纸|图案|图|画)"
PICTURE_FIRST = re.compile(
    rf"^(?:一?[张幅副个枚]|这[张幅])?{PICTURE}(?:里面|里|上面|上|中(?![间央心])|内|的?内容)?[,:]*"
    r"(?:有着|有|是|画着|为|显示)?[,:]*"
)
PICTURE_LAST = re.compile(rf"(?:的|样式的|风格的)?{PICTURE}$(?<!动画)")
GROUND = "(?:背景色|背景|底色|底(?!下|部|端)|背板)"
_ON = r"(?:上面|前面|里面|之上|上|前|中|里|下|为背景)?的?"
COUNTED = re.compile(rf"(?:[一二两三四五六七八九十]|\d)[{MEASURES}]?$")
"""The end of a text where a noun must follow."""
TWO = rf"(?:一半)?({COLOR})(?:[和与跟加、,]|一半)*({COLOR})(?:相间|各半|各一半|双色|拼色|两色|渐变)?的?"
GROUNDS = (
    (rf"[,]?背景(?:色|颜色)?(?:是|为|要|用|设为|:|=|,)*{TWO}$", 2),
    (rf"[,]?(?:在|放在|画在|以|用|配|带|加|,)*(?:一[个片张块])?{TWO}{GROUND}{_ON}", 2),
    (
        r"[,]?(?:在|放在|,|要|用|带|配|以)*(?:透明|无|没有|不要|不带|去掉|去)的?(?:背景色|背景|底色|底)"
        + _ON,
        0,
    ),
    (r"[,]?(?:背景|底色?)(?:要|是|为|用|:|,)*(?:透明)(?:的)?", 0),
    (
        r"[,]?(?:在|放在|画在|位于|以|用|配上|配|带|加|换成|,)*(?:一[个片张块])?"
        rf"({COLOR})的?(?:纯色)?{GROUND}{_ON}",
        1,
    ),
    (rf"[,]?(?:以|用)({COLOR})(?:为|做|作|当|作为|当作)(?:背景|底色?)的?", 1),
    (rf"[,]?(?:背景|底色)(?:的?颜?色)?(?:是|为|要|用|设为|设置为|:|=|,)*(?:一片)?({COLOR})的?", 1),
)
STYLES = (
    rf"[,]?(?:用|以|按|采用|画成|做成|,)*(?:风格|样式|画风)(?:要|是|为|:|用)*({STYLE})(?:化|风格|的)*",
    rf"[,]?(?:用|以|按|采用|画成|做成|要|,|是)*({STYLE})(?:化)?的?"
    r"(?:风格|风(?![车筝铃景])|样式|效果|画风|版本|版|渲染|设计|质感|建模|插画)(?:图)?(?:来画|画|绘制|呈现|展示)?的?",
)
SIGN = (
    "(?:广告|指示|告示|标示|提示|警示|交通|木头|木|路|店|门)?(?:牌子|招牌|标牌|路牌|标志|标识|告示|标语牌"
    "|标语|木牌|横幅|纸牌|海报|看板|牌)"
)
WRITE = (
    "(?:上面|上|,)*(?:写着|写有|写了|写上|写的是|写|印着|印有|标着|刻着|显示着?|文字是|文字为|文字|内容是|内容为"
    "|字样是|有|是|说|的)+[:]?"
)
AFTER = "(?:这[个几两]个?)?(?:字样|文字|大字|单词|英文|字|词)?"
SIGNS = (
    rf"(?:{WRITE})?({Q}){AFTER}的?{SIGN}",
    rf"{SIGN}(?:上面|上|的|,)*{WRITE}({Q}){AFTER}",
    rf"(?:{WRITE}|文字|单词)({Q}){AFTER}",
    rf"({Q}){AFTER}",
)
UNQUOTED = (
    rf"(?:写着|写有|写了|写上)[:]?([A-Za-z0-9][A-Za-z0-9 !?]*)(?=的|{AFTER}$|,|字)",
    rf"(?:写着|写有|写了|写上)[:]?([^的,:。{chr(QUOTED)}-\ue0ff]{{1,12}})(?=的?{SIGN}|$|,)",
)

LEFT = "左(?:手边|边儿|边|侧|面|方|半边)?"
RIGHT = "右(?:手边|边儿|边|侧|面|方|半边)?"
ABOVE = "正?(?:头顶上?|顶上|顶部|上(?:面|方|边|头|端)?)"
BELOW = "正?(?:底下|底部|脚下|脚边|下(?:面|方|边|头|端)?)"
SIDE = rf"(?:{LEFT}|{RIGHT}|{ABOVE}|{BELOW})(?:位置|处)?"
BESIDE = "(?:旁边|旁|边上|身边|身旁|附近|隔壁|一旁|一边)"
BE = (
    "(?:就|还|也|则|分别|,|:)*(?:是|有着|有|画着|画上|画|加上|加|[放站坐摆躺趴飘挂停飞长立蹲浮悬漂睡开][着了]?|为)?"
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
HOLDING = "[戴拿带抱穿举捧叼背]"
WITH = frozenset("戴着 拿着 带着 抱着 穿着 举着 有 和 跟 与 戴 拿 抱 穿 捧着 含着 叼着 背着 带有 带".split())
SILENT = re.compile(
    r"[,、。:;.!?()~\s的和与跟有是在了着里一上下以及还同、再另外加个]|分别|一起|并排|旁边|左右|各|而且|然后"
    r"|画面|图片|图中|中间|它们?|还有|另一"
)
OPPOSITE = {"on the left": "on the right", "at the top": "at the bottom"}
OPPOSITE |= {other: one for one, other in OPPOSITE.items()}


class Chinese(NamedTuple):
    """What a Chinese prompt became: English, and the words that nothing is known of."""

    prompt: str
    unknown: tuple[str, ...]


def is_chinese(text: str) -> bool:
    """Whether the text holds Chinese characters outside of quotes, and no Japanese or Korean."""
    plain = QUOTES.sub("", text)
    return bool(HAN.search(plain)) and not re.search("[\u3040-\u30ff\uac00-\ud7af]", plain)


def read(text: str, lexicon: Lexicon) -> Chinese:
    """The English of a Chinese prompt; empty where no thing in it is known."""
    quotes: list[str] = []

    def hide(match: re.Match[str]) -> str:
        quotes.append(next(group for group in match.groups() if group is not None))
        return chr(QUOTED + len(quotes) - 1)

    text = _polite(simplified(_plain(QUOTES.sub(hide, text))))
    text, signs = _signs(text, quotes)
    text = text.lower()
    text, grounds = _grounds(text)
    text, style = _style(text)
    text = _polite(text)
    phrases = Phrases(text, lexicon, signs)
    if not style:
        style = _style_of_one(phrases)
    _merge(phrases)
    objects, unknown = Clause(phrases).read()
    if not objects:
        return Chinese("", unknown)
    return Chinese(framed(objects, style, grounds), unknown)


def _plain(text: str) -> str:
    """Half-width punctuation, no spaces but between Latin words."""
    text = text.translate(str.maketrans("，。：；！？（）、　", ",。:;!?(), "))
    text = "".join(chr(ord(c) - 0xFEE0) if "！" <= c <= "～" else c for c in text)
    text = re.sub(r"(?<![a-zA-Z0-9])\s+|\s+(?![a-zA-Z0-9])", "", text.strip())
    return re.sub(r"[;；\n]", ",", text)


def _polite(text: str) -> str:
    """Without requests around it, and without "a picture of"."""
    while True:
        shorter = END.sub("", START.sub("", text))
        shorter = PICTURE_FIRST.sub("", shorter)
        shorter = PICTURE_LAST.sub("", shorter)
        if shorter == text or not shorter:
            return text
        text = shorter


def _signs(text: str, quotes: list[str]) -> tuple[str, dict[str, str]]:
    """The text with private characters for signs, and what each says."""
    for pattern in UNQUOTED:

        def hide(match: re.Match[str]) -> str:
            quotes.append(match[1].strip())
            return match[0].replace(match[1], chr(QUOTED + len(quotes) - 1))

        text = re.sub(pattern, hide, text)
    signs: dict[str, str] = {}
    for pattern in SIGNS:

        def sign(match: re.Match[str]) -> str:
            said = quotes[ord(match[1]) - QUOTED]
            mark = chr(SIGNED + len(signs))
            signs[mark] = f'"{said}"'
            return mark

        text = re.sub(pattern, sign, text)
    return text, signs


def _grounds(text: str) -> tuple[str, list[str]]:
    for pattern, colors in GROUNDS:
        match = re.search(pattern, text)
        if match is None:
            continue
        before, after = text[: match.start()], text[match.end() :]
        joined = COUNTED.search(before) is not None
        rest = f"{before}{'' if joined else ','}{after}".strip(",")
        found = [color_of(match[k]) for k in range(1, colors + 1)] or ["transparent"]
        return rest, list(dict.fromkeys(found))
    return text, []


def _style(text: str) -> tuple[str, str]:
    for pattern in STYLES:
        match = re.search(pattern, text)
        if match is not None:
            rest = text[: match.start()] + text[match.end() :]
            return rest.strip(","), STYLE_OF[match[1]]
    return text, ""


def _style_of_one(phrases: Phrases) -> str:
    """The style of a single thing, or of all, taken from its phrase."""
    styles = {one.style for one in (*phrases.named, *phrases.loose) if one.style}
    if len(styles) != 1 or (len(phrases.named) > 1 and not all(p.style for p in phrases.named)):
        return ""
    for some in (phrases.named, phrases.loose):
        some[:] = [one._replace(style="") for one in some]
    return styles.pop()


def _merge(phrases: Phrases) -> None:
    """Give loose modifiers to their things, and drop whose a thing is ("a robot's face")."""

    def colored(match: re.Match[str]) -> str:
        extra = phrases.of(match[2])
        phrase = phrases.of(match[1])
        given = {key: v for key, v in extra._asdict().items() if v != getattr(Phrase(""), key)}
        return phrases.add(phrase._replace(**given))

    def both(match: re.Match[str]) -> str:
        other = phrases.of(match[2])
        twin = phrases.add(other._replace(color=phrases.of(match[1]).color, count=1))
        return f"{twin}和{phrases.add(other._replace(count=1))}"

    def counted(match: re.Match[str]) -> str:
        """ "three ... rabbits": the number belongs to what the clause between them tells of."""
        phrase = phrases.of(match[3])
        if re.match(M, match[1]):
            phrase = phrase._replace(count=phrases.of(match[1]).count)
        return match[2] + phrases.add(phrase)

    def again(match: re.Match[str]) -> str:
        """A thing that is named again, to say what is beside it."""
        one, other = phrases.of(match[1]), phrases.of(match[2])
        return match[1] if one.name == other.name and not other.color else match[0]

    text = re.sub(rf"({M})[和与、,]({P})", both, phrases.text)
    text = re.sub(rf"(?<={P})的?{PICTURE}(?!{P})", "", text)
    text = re.sub(rf"({M}|[一1][{MEASURES}])((?:(?!{P})[^,、]){{0,4}}{P}[^,、]{{0,4}}?的)({P})", counted, text)
    text = re.sub(rf"({HOLDING})着?了?({P})的({P})", r"\3\1着\2", text)
    text = re.sub(rf"({P})[,、]+(?:在)?({P})(?=的?{SIDE})", again, text)
    while (shorter := re.sub(rf"{P}的(?={P})", "", text)) != text:
        text = shorter
    text = re.sub(rf"({P})(?:颜色)?(?:是|为|,|:|都是|都|颜色)*({M})", colored, text)
    phrases.text = text


class Clause:
    """Where things are, of a text whose phrases are private characters."""

    def __init__(self, phrases: Phrases) -> None:
        self.phrases = phrases
        self.unknown: list[str] = []

    def read(self) -> tuple[str, tuple[str, ...]]:
        """English, and Chinese words that were passed over."""
        text = self.phrases.text.strip(",")
        for pattern, tell in RELATIONS:
            match = pattern.search(text)
            if match is None:
                continue
            told = tell(self, match)
            if told:
                before = self._rest(text[: match.start()])
                after = self._rest(text[match.end() :])
                return listed([x for x in (before, told, after) if x]), tuple(self.unknown)
        return self._rest(text), tuple(self.unknown)

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
        return listed([self.say(one) for one in re.findall(P, text)])

    def say(self, character: str) -> str:
        return say(self.phrases.of(character))

    def pass_over(self, text: str) -> None:
        """Note the words of a text that nothing is known of."""
        for part in re.split(f"[{P[1:-1]}{M[1:-1]},、。;]", text):
            word = SILENT.sub("", part)
            if word and HAN.search(word):
                self.unknown.append(part.strip("的了着是在有一个和"))


def side_of(text: str) -> tuple[str, str]:
    """The relation and the end of the picture that a word of place means."""
    for pattern, relation, end in SIDES:
        if pattern.fullmatch(text.removesuffix("位置").removesuffix("处")):
            return relation, end
    raise ValueError(text)


def corner_of(text: str) -> str:
    for start, words in CORNERS.items():
        if text.startswith(start) and text.removeprefix(start)[:1] in ("", *"角方边间央心"):
            return words
    return "at the top" if "顶" in text else "at the bottom"


def _related(one: str, other: str, side: str) -> Callable[[Clause, re.Match[str]], str]:
    """A teller of "A to the left of B", of the groups with these names."""

    def tell(clause: Clause, match: re.Match[str]) -> str:
        relation, _ = side_of(match[side])
        return f"{clause.list(match[one])} {relation} {clause.list(match[other])}"

    return tell


def _ends(clause: Clause, match: re.Match[str]) -> str:
    """ "A on the left and B on the right"."""
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
    ends = ("on the left", "on the right") if match["d"] in "左右" else ("at the top", "at the bottom")
    if match["d"] in "右下":
        ends = ends[::-1]
    if len(things) != 2:
        return clause.list(match["a"])
    return f"{clause.say(things[0])} {ends[0]} and {clause.say(things[1])} {ends[1]}"


_A, _B, _D, _E = f"(?P<a>{LIST})", f"(?P<b>{LIST})", f"(?P<d>{SIDE})", f"(?P<e>{SIDE})"
_ONE = f"(?P<b>{P})"
_JOIN = r"(?:[,、]|和|而且|而|还有|然后|且|并且)*"
_TAIL = "(?:的?(?:位置|地方|那里))?"
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
        (rf"{_ONE}[,、]+{IT}?{BESIDE}(?:的|{BE}){_A}", _next_to),
        (rf"{_A}(?:紧?挨着|紧?靠着|紧?贴着|靠近){_ONE}", _next_to),
        (rf"{_A}{AT}{FRAME}(?P<d>{CORNER})", _corner),
        (rf"(?:{AT})?{FRAME}(?P<d>{CORNER})的?{BE}{_A}", _corner),
        (rf"{_A}{AT}{FRAME}{_D}$", _end),
        (rf"^(?:{AT})?{FRAME}{_D}的?{BE}{_A}", _end),
    )
)
