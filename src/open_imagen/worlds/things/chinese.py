"""Chinese prompts by rules: polite forms, grounds, styles, signs, and where things are."""

# ruff: noqa: RUF001

import re
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
from open_imagen.worlds.things.chinese_places import HAN, SIDE, Clause, M, P
from open_imagen.worlds.things.phrases import Phrase, framed

QUOTES = re.compile(
    "“([^”]+)”|\"([^\"]+)\"|「([^」]+)」|『([^』]+)』|‘([^’]+)’|(?<![a-zA-Z])'([^']+)'(?![a-zA-Z])"
)
Q = "[\ue000-\ue0ff]"
S = "[\ue100-\ue1ff]"
SIGNED = 0xE100
START = re.compile(
    r"^(?:[,:。!\s]|(?:妈妈|爸爸|老师)[,!]|请问|请|麻烦|帮我|帮忙|给我|替我|为我|我想要|我想看|我想|我要|想要|想看|需要|能不能"
    r"|能否|可不可以|可以|你能|您能|能|您|你|再|来|生成|画出|画上|画(?![笔框家布板面])|绘制|创建|创作|制作"
    r"|做|设计|展示|显示|输出|整|弄|看看|看|给|一下|出|有没有|这里有|这儿有|图中有|(?:有)(?=[^,]*$))+"
)
END = re.compile(
    r"(?:[,。!?~\s]|吧|呗|谢谢你|谢谢|多谢|拜托了?|好吗|可以吗|行吗|好不好|吗|啊|呀|哦|呢|嘛|啦)+$"
)
PICTURE = (
    "(?:图片|图画|图像|画面|照片|插画|插图|卡通画|简笔画|表情包|表情|贴纸|emoji|头像|图标|壁纸"
    "|图案|图|画)"
)
PICTURE_FIRST = re.compile(
    rf"^(?:一?[张幅副个枚]|这[张幅])?{PICTURE}(?:里面|里|上面|上|中(?![间央心])|内|的?内容)?[,:]*"
    r"(?:有着|有|是|画着|为|显示)?[,:]*"
)
PICTURE_LAST = re.compile(rf"(?:的|样式的|风格的)?{PICTURE}$(?<!动画)")
GROUND = "(?:背景色|背景|底色|底(?!下|部|端)|背板)"
_ON = r"(?:上面|前面|里面|之上|上|前|中|里|下|为背景)?的?"
COUNTED = re.compile(rf"(?:[一二两三四五六七八九十]|\d)[{MEASURES}]?$")
"""The end of a text where a noun must follow."""
TWO = (
    rf"(?:一?半)?({COLOR})(?:[和与跟加、,]|一?半)*({COLOR})"
    "(?:相间|各半|各一半|双色|拼色|两色|渐变)?的?"
)
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
    rf"(?:{WRITE})?({Q}){AFTER}的?((?:{COLOR}的?|[大小])*){SIGN}",
    rf"{SIGN}(?:上面|上|的|,)*{WRITE}({Q}){AFTER}",
    rf"(?:{WRITE}|文字|单词)({Q}){AFTER}",
    rf"({Q}){AFTER}",
)
UNQUOTED = (
    rf"(?:写着|写有|写了|写上)[:]?([A-Za-z0-9][A-Za-z0-9 !?]*)(?=的|{AFTER}$|,|字)",
    rf"(?:写着|写有|写了|写上)[:]?([^的,:。{chr(QUOTED)}-\ue0ff]{{1,12}})(?=的?{SIGN}|$|,)",
)

DOING = "(?:[戴拿带抱穿举捧叼背骑弹踢玩吃喝看追拉吹打推开牵扛提顶含]|骑着|追赶|正在[吃玩看])"
"""What somebody does with a thing, in a clause before them."""


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
            return "".join(match.groups()[1:]) + mark

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
        if len(phrases.named) > 1:  # "a cat, a dog, these two"
            extra = extra._replace(number=1)
        given = {key: v for key, v in extra._asdict().items() if v != getattr(Phrase(""), key)}
        return phrases.add(phrase._replace(**given))

    def both(match: re.Match[str]) -> str:
        other = phrases.of(match[2])
        twin = phrases.add(other._replace(color=phrases.of(match[1]).color, number=1))
        return f"{twin}和{phrases.add(other._replace(number=1))}"

    def counted(match: re.Match[str]) -> str:
        """For "three ... rabbits": the number belongs to what the clause between them tells of."""
        phrase = phrases.of(match[3])
        if re.match(M, match[1]):
            phrase = phrase._replace(number=phrases.of(match[1]).number)
        return match[2] + phrases.add(phrase)

    def again(match: re.Match[str]) -> str:
        """A thing that is named again, to say what is beside it."""
        one, other = phrases.of(match[1]), phrases.of(match[2])
        return match[1] if one.name == other.name and not other.color else match[0]

    text = re.sub(rf"({M})[和与、,]({P})", both, phrases.text)
    text = re.sub(rf"(?<={P})的?{PICTURE}(?!{P})", "", text)
    text = re.sub(
        rf"({M}|[一1][{MEASURES}])((?:(?!{P})[^,、]){{0,4}}{P}[^,、]{{0,4}}?的)({P})", counted, text
    )
    text = re.sub(rf"({DOING})[着了]?({P})的({P})", r"\3\1着\2", text)
    text = re.sub(rf"({P})[,、]+(?:在)?({P})(?=的?{SIDE})", again, text)
    while (shorter := re.sub(rf"{P}的(?={P})", "", text)) != text:
        text = shorter
    text = re.sub(rf"({P})(?:颜色)?(?:是|为|,|:|都是|都|颜色)*({M})", colored, text)
    phrases.text = text
