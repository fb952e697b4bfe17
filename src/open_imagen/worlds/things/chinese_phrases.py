"""Chinese noun phrases: numbers with measure words, colors, sizes and names by longest match."""

import re
from collections.abc import Iterable, Mapping

from open_imagen.worlds.things.chinese_words import TABLES, TRADITIONAL
from open_imagen.worlds.things.grammar import words
from open_imagen.worlds.things.phrases import SEVERAL, Phrase
from open_imagen.worlds.things.tags import read_table

COLORS = {
    "red": "大红 鲜红 火红 赤红 朱红 通红 红红 深红 暗红 红",
    "orange": "橙黄 橘黄 橘红 橙 橘 桔",
    "yellow": "金黄 明黄 鹅黄 黄黄 浅黄 淡黄 黄 金",
    "green": "翠绿 碧绿 草绿 墨绿 浅绿 淡绿 深绿 嫩绿 绿绿 绿 青",
    "blue": "天蓝 海蓝 宝蓝 湛蓝 蔚蓝 浅蓝 淡蓝 深蓝 蓝蓝 蓝",
    "purple": "紫罗兰 淡紫 浅紫 深紫 紫红 紫",
    "pink": "粉红 桃红 玫红 浅粉 粉",
    "brown": "棕褐 深棕 浅棕 咖啡 巧克力 棕 褐",
    "black": "漆黑 乌黑 黑黑 黑",
    "white": "雪白 洁白 纯白 白白 乳白 白",
    "gray": "银灰 深灰 浅灰 灰 银",
}
COLOR_OF = {word: color for color, words in COLORS.items() for word in words.split()}
_COLOR_WORDS = "|".join(sorted(COLOR_OF, key=len, reverse=True))
COLOR = rf"(?:纯|全)?(?:(?:咖啡|巧克力)色|(?:(?!咖啡|巧克力)(?:{_COLOR_WORDS}))色?)"
"""A regular expression of one color."""
SIZES = {
    "small": "迷你 小小 细小 微小 很小 袖珍 小型 小号 小巧 超小 小",
    "large": "巨大 超大 特大 大大 很大 庞大 大型 大号 硕大 巨型 大",
}
SIZE_OF = {word: size for size, words in SIZES.items() for word in words.split()}
STYLES = {
    "flat": "扁平化 扁平插画 扁平 平面",
    "3d": "3d立体 立体3d 3d 三维 立体",
    "shiny": "有光泽 光泽感 光泽 亮面 亮光 闪亮亮 亮晶晶 亮闪闪 光滑 渐变",
    "old": "老款 旧款 旧版本 旧版 老版本 老版 旧式 老式 复古 怀旧 旧",
    "drawn": "手绘 手画 绘画 卡通 插画 素描",
}
STYLE_OF = {word: style for style, words in STYLES.items() for word in words.split()}
STYLE = "|".join(sorted(STYLE_OF, key=len, reverse=True))
DIGITS = {
    **dict(zip("一二三四五六七八九十", range(1, 11), strict=True)),
    **{"两": 2, "俩": 2, "仨": 3, "单": 1},
}
MEASURES = (
    "个只条匹头口峰张辆架艘朵棵颗枝支根块片杯碗瓶盘份本台部座栋幢家间顶件位名套面扇盏盒包袋"
    "罐滴轮枚幅道阵株把副串束粒具节列尊尾门管柄捆款种艇锅桶壶勺扎摞"
)
COUNT = r"(?:[一二三四五六七八九]?十[一二三四五六七八九]?|一百|[一二两三四五六七八九]|\d+)"
NUMBER = re.compile(
    rf"(?P<some>几|许多|很多|好多|好几|一些|若干|数|一群|一堆|成群)[{MEASURES}群堆]?的?"
    rf"|(?P<pair>[一两1])(?:双|对)"
    rf"|(?P<number>{COUNT})(?P<measure>[{MEASURES}])"
    rf"|(?P<alone>俩|仨|{COUNT}(?!d))"
)
MODIFIER = re.compile(
    rf"(?P<color>{COLOR})的?"
    rf"|(?P<style>{STYLE})(?:风格|风)?的?"
    rf"|(?P<size>{'|'.join(sorted(SIZE_OF, key=len, reverse=True))})的?"
    r"|(?P<tone>较?[浅深]色?|中等)(?:皮肤|肤色)(?:的)?"
)
FILLER = re.compile(
    r"这[个只条辆]?|那[个只条辆]?|又|很|非常|特别|超级|超|十分|真|最|好看的?|可爱的?|漂亮的?|美丽的?"
    r"|美味的?|好吃的?|香喷喷的?|开心的?|快乐的?|高兴的?|普通的?|简单的?|新鲜的?|胖胖的?|圆圆的?"
    r"|圆滚滚的?|毛茸茸的?|萌萌的?|呆萌的?|帅气的?|酷酷的?|的"
)
SUFFIX = re.compile("宝宝|们|先生|小姐|叔叔|阿姨")
"""What may follow a name and changes nothing."""
GENDERS = {"男": "man", "女": "woman"}
TONES = {"浅": "light", "较浅": "light", "深": "dark", "较深": "dark", "中等": "medium"}
NEVER = words(
    """
    一点 一点点 铁塔 图片 照片 图画 图形 图标 颜色 上面 下面 左边 右边 中间 背景 画画 绘画 画
    好的 可以 显示 设计 大 小 红 绿 蓝 黑 白 黄 粉红 绿色 蓝色 橙色 黑色 白色 粉色 红色 黄色
    紫色 灰色 棕色 褐色 银色 橘色 生日 圣诞 天空 位置 标志 标牌 海报 文字 写字 创意 贴纸 打开
    什么 你好 漂浮 飞翔 坐 坐下 跳跃 跳 站着 吃 喝 看 拿着 玩 睡觉 睡 跑 发光 快乐 开心 高兴
    美丽 漂亮 可爱 好吃 美味 新鲜 大型 迷你 放大 一个 两个 喜欢 我爱你 甜 冷 热 酷 咸 旧 老
    建筑 自然 动物 水果 食物 生气
    """
)
"""CLDR's names and tags that say something else in a prompt."""
NAMED, LOOSE, QUOTED = 0xE200, 0xE800, 0xE000
"""Where the private characters begin that stand for phrases, loose modifiers and quotes."""
_SIMPLE = {pair[0]: pair[1] for pair in TRADITIONAL.split()}


def simplified(text: str) -> str:
    """Text in simplified characters.

    >>> simplified("紅色氣球")
    '红色气球'
    """
    return "".join(_SIMPLE.get(one, one) for one in text)


def color_of(text: str) -> str:
    """The English of a color that `COLOR` has matched."""
    plain = text.removesuffix("色") if len(text) > 1 else text
    while plain not in COLOR_OF and len(plain) > 1:
        plain = plain[1:]
    return COLOR_OF[plain]


class Lexicon:
    """Chinese names of things, with English ones for mixed prompts."""

    def __init__(
        self, tables: Iterable[Mapping[str, str]], english: Iterable[str], people: Iterable[str]
    ) -> None:
        """Read the tables.

        Args:
            tables: Chinese -> English, the first that knows a word has it.
            english: names that stand for themselves.
            people: English names that a gender may stand before.
        """
        self.people = frozenset(people)
        self.names: dict[str, str] = {}
        own = read_table(*TABLES)
        for label, names in own.items():
            for word in names:
                self.names.setdefault(word, label)
        for table in tables:
            for name, label in table.items():
                name = simplified(name)
                if len(name) > 1 and name not in NEVER:
                    self.names.setdefault(name, label)
        for name in english:
            self.names.setdefault(name, name)
        self.longest = max(map(len, self.names))

    def longest_name(self, text: str, start: int) -> str:
        """The longest name that text holds at a place, or ""."""
        for size in range(min(self.longest, len(text) - start), 0, -1):
            name = text[start : start + size]
            if name in self.names and not _inside_word(text, start, start + size):
                return name
        return ""


def _inside_word(text: str, start: int, end: int) -> bool:
    """Whether a match of Latin letters is only a part of a longer word."""

    def joined(left: str, right: str) -> bool:
        return all(one.isascii() and one.isalnum() for one in (left, right))

    before = start > 0 and joined(text[start - 1], text[start])
    return before or (end < len(text) and joined(text[end - 1], text[end]))


class Phrases:
    """The noun phrases of a text, each replaced by one private character in `text`."""

    def __init__(self, text: str, lexicon: Lexicon, signs: Mapping[str, str]) -> None:
        """Begin a translation.

        Args:
            signs: private characters that stand for signs -> what they say.
        """
        self.lexicon, self.signs, self._source = lexicon, signs, text
        self.named: list[Phrase] = []
        self.loose: list[Phrase] = []
        parts: list[str] = []
        place = 0
        while place < len(text):
            end, phrase = self._read(place)
            if end == place:
                parts.append(text[place])
                end += 1
            elif phrase.name or phrase.text:
                parts.append(self.add(phrase))
            elif phrase != Phrase(""):
                parts.append(chr(LOOSE + len(self.loose)))
                self.loose.append(phrase)
            else:
                parts.append(text[place:end])
            place = end
        self.text = "".join(parts)

    def add(self, phrase: Phrase) -> str:
        """The private character of a new phrase."""
        self.named.append(phrase)
        return chr(NAMED + len(self.named) - 1)

    def of(self, character: str) -> Phrase:
        """The phrase, or the loose modifiers, that a private character stands for."""
        code = ord(character)
        return self.loose[code - LOOSE] if code >= LOOSE else self.named[code - NAMED]

    def _read(self, start: int) -> tuple[int, Phrase]:
        """The phrase at a place and where it ends; without a name where only modifiers stand."""
        found, place, counted = Phrase(""), start, False
        text, end = self._source, start
        while place < len(text):
            if text[place] in self.signs:
                return place + 1, found._replace(text=self.signs[text[place]])
            name = self.lexicon.longest_name(text, place)
            match = None if counted else NUMBER.match(text, place)
            counted = counted or match is not None
            modifier = match or MODIFIER.match(text, place)
            if match and match["measure"]:
                inner = self._counted_name(match)
                if inner and match.end() - 1 + len(inner) >= place + len(name):
                    return self._named(self._modified(found, match), match.end() - 1, inner)
            if name and (modifier is None or len(name) >= modifier.end() - place):
                return self._named(found, place, name)
            if modifier is not None:
                found = self._modified(found, modifier)
                place = end = modifier.end()
                continue
            if text[place] in GENDERS and (name := self.lexicon.longest_name(text, place + 1)):
                if self.lexicon.names[name] in self.lexicon.people:
                    found = found._replace(person=f"{found.person} {GENDERS[text[place]]}".strip())
                    return self._named(found, place + 1, name)
                break
            filler = FILLER.match(text, place)
            if filler is None or (place == start and filler[0] == "的"):
                break
            place = filler.end()
        if found == Phrase("") and not counted:
            return start, found
        return end, found

    def _counted_name(self, match: re.Match[str]) -> str:
        """A name that begins with its measure word, as in "a piece of cake"; "" if none."""
        name = self.lexicon.longest_name(self._source, match.end() - 1)
        return name if len(name) > 2 or (len(name) == 2 and name[0] in "束杯") else ""

    def _named(self, found: Phrase, place: int, name: str) -> tuple[int, Phrase]:
        end = place + len(name)
        after = SUFFIX.match(self._source, end)
        if after:
            end = after.end()
        return end, found._replace(name=self.lexicon.names[name])

    def _modified(self, found: Phrase, match: re.Match[str]) -> Phrase:
        values = {key: value for key, value in match.groupdict().items() if value}
        if "color" in values:
            return found._replace(color=color_of(values["color"]))
        if "size" in values:
            return found._replace(size=SIZE_OF[values["size"]])
        if "style" in values:
            return found._replace(style=STYLE_OF[values["style"]])
        if "tone" in values:
            return found._replace(person=f"{TONES[values['tone'].removesuffix('色')]}-skinned")
        if "some" in values:
            return found._replace(number=SEVERAL)
        if "pair" in values:
            return found._replace(number=2)
        return found._replace(number=number_of(values.get("number") or values.get("alone") or "1"))


def number_of(text: str) -> int:
    """A number in digits or in Chinese, up to a hundred.

    >>> number_of("十二"), number_of("两"), number_of("30")
    (12, 2, 30)
    """
    if text.isdecimal():
        return int(text) or 1
    if text == "一百":
        return 100
    tens, ten, ones = text.rpartition("十")
    if not ten:
        return DIGITS[text]
    return 10 * DIGITS.get(tens, 1) + DIGITS.get(ones, 0)
