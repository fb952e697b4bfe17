"""Small words of other languages: numbers, colors, articles, and what joins or places things."""

# ruff: noqa: RUF001

from dataclasses import dataclass
from functools import cache

COLORS = (
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"),
    "gray",
)
_COLORS = """
da: rød orange gul grøn blå lilla lyserød brun sort hvid grå
de: rot orange gelb grün blau lila rosa braun schwarz weiß grau
es: roj naranja amarill verde azul morad rosa marr negr blanc gris
et: puna oranž kolla rohel sini lilla roosa pruun must valge hall
fi: puna oranssi kelta vihre sini violetti vaaleanpuna rusk musta valko harma
fr: rouge orange jaune vert bleu violet rose brun|marron noir blanc gris
hi: लाल नारंगी पील हर नील बैंगनी गुलाबी भूर काल सफेद|सफ़ेद ग्रे
bn: লাল কমলা হলুদ সবুজ নীল বেগুনি গোলাপি বাদামী কালো সাদা ধূসর
hu: piros|vörös narancssárga sárga zöld kék lila rózsaszín barna fekete fehér szürke
it: ross arancion giall verd blu|azzurr viola rosa marron ner bianc grigi
ja: 赤い|赤|赤色の オレンジ色の|オレンジの 黄色い|黄色の|黄色 緑色の|緑の|緑 青い|青|青色の
    紫色の|紫の|紫 ピンクの|ピンク色の 茶色い|茶色の|茶色 黒い|黒 白い|白 灰色の|灰色|グレーの
ko: 빨간|붉은|빨간색 주황색|주황 노란|노란색 초록색|초록|녹색 파란|파란색|푸른 보라색|보라
    분홍색|분홍|핑크 갈색 검은|검은색|까만 하얀|흰|흰색|하얀색 회색
lt: raudon oranžin gelton žali mėlyn violetin rožin rud juod balt pilk
ms: merah oren|jingga kuning hijau biru ungu merah-jambu coklat|perang hitam putih kelabu
nb: rød oransje gul grønn blå lilla rosa brun svart hvit grå
nl: rood|rode oranje geel|gele groen blauw paars roze bruin zwart wit grijs|grijze
pl: czerwon pomarańczow żółt zielon niebiesk fioletow różow brązow czarn biał szar
pt: vermelh laranja amarel verde azul rox rosa marrom|castanh pret|negr branc cinza
ru: красн оранжев желт|жёлт зелен|зелён син|голуб фиолетов розов коричнев черн|чёрн бел сер
sv: röd|rött orange gul grön blå lila rosa brun svart vit grå
th: สีแดง สีส้ม สีเหลือง สีเขียว สีฟ้า|สีน้ำเงิน สีม่วง สีชมพู สีน้ำตาล สีดำ สีขาว สีเทา
uk: червон помаранчев жовт зелен син|блакитн фіолетов рожев коричнев чорн біл сір
vi: đỏ cam vàng xanh-lá xanh-dương|xanh tím hồng nâu đen trắng xám
"""
_NUMBERS = """
da: en|et to tre fire fem
de: ein|eine|einen|einem|einer zwei drei vier fünf
es: un|una|uno dos tres cuatro cinco
et: üks kaks kolm neli viis
fi: yksi kaksi kolme neljä viisi
fr: un|une deux trois quatre cinq
hi: एक दो तीन चार पांच|पाँच
bn: একটি|এক দুটি|দুই তিনটি|তিন চারটি|চার পাঁচটি|পাঁচ
hu: egy két|kettő három négy öt
it: un|una|uno|un' due tre quattro cinque
ja: 一|ひとつの 二|ふたつの 三 四 五
ko: 한|하나의 두 세 네 다섯
lt: vienas|viena du|dvi trys keturi|keturios penki|penkios
ms: satu|seekor|sebuah dua tiga empat lima
nb: en|et|ei to tre fire fem
nl: een|één twee drie vier vijf
pl: jeden|jedna|jedno dwa|dwie|dwóch trzy cztery pięć
pt: um|uma dois|duas três quatro cinco
ru: один|одна|одно два|две три четыре пять
sv: en|ett två tre fyra fem
th: หนึ่ง สอง สาม สี่ ห้า
uk: один|одна|одне два|дві три чотири п'ять
vi: một hai ba bốn năm
"""
_SMALL = """
da: og=and med=with på=on over=above under=below den|det|de|af|i=
de: und=and mit=with auf=on über=above unter=below neben=next-to
    der|die|das|den|dem|des|im|in|vor|von|bitte=
es: y|e=and con=with sobre|en=on encima=above debajo|bajo=below
    el|la|los|las|de|del|al|por|favor|color=
et: ja=and
fi: ja=and
fr: et=and avec=with sur=on au-dessus=above sous=below
    le|la|les|l|d|de|du|des|à|au|dans|en|couleur=
hi: और=and
bn: এবং|ও|আর=and
hu: és=and a|az=
it: e|ed=and con=with su|sul|sulla=on sopra=above sotto=below
    il|lo|la|i|gli|le|l|di|del|della|dei|in|a=
ja: と|、=and の|が|は|を|い|な|匹の|匹|つの|つ|人の|人|台の|台|本の|本|個の|個|羽の|頭の|枚の=
ko: 와|과|하고|이랑|랑=and 이|가|은|는|을|를|의|마리|개|대|송이=
lt: ir=and su=with
ms: dan=and dengan=with di=on ekor|buah|yang|warna|berwarna=
nb: og=and med=with på=on over=above under=below den|det|de|av|i=
nl: en=and met=with op=on boven=above onder=below naast=next-to de|het|van|in=
pl: i|oraz=and z=with na=on nad=above pod=below obok=next-to
pt: e=and com=with sobre|em|no|na=on acima=above debaixo|sob=below o|a|os|as|de|do|da|dos|das|cor=
ru: и=and с|со=with на=on над=above под=below рядом=next-to
sv: och=and med=with på=on över=above under=below den|det|de|av|i=
th: และ|กับ=and ตัว|ลูก|อัน|คัน|ดอก|ที่=
uk: і|й|та=and з|із=with на=on над=above під=below
vi: và=and với=with trên=on dưới=below con|cái|quả|chiếc|bông|màu|lá|dương=
"""
_NAMES = """
ja: 猫=cat 犬=dog 車=car 鳥=bird 魚=fish 馬=horse 花=blossom 木=tree 家=house 船=ship
    飛行機=airplane
    電車=train 自転車=bicycle りんご=apple リンゴ=apple 林檎=apple 本=book 月=full-moon 太陽=sun
    星=star
    雲=cloud 山=mountain 傘=umbrella 時計=watch 熊=bear 牛=cow 豚=pig 羊=ewe 兎=rabbit
    うさぎ=rabbit
    象=elephant 虎=tiger 猿=monkey 亀=turtle 蛇=snake 蝶=butterfly 鍵=key 椅子=chair 卵=egg
ru: кот=cat кошка=cat машина=car самолет=airplane самолёт=airplane цветок=blossom солнце=sun
    луна=full-moon
    яблоко=apple дом=house мяч=soccer-ball книга=book
es: sombrero=woman's-hat coche=car carro=car avión=airplane flor=blossom luna=full-moon
    globo=balloon
fr: voiture=car avion=airplane fleur=blossom lune=full-moon ballon=balloon pomme=apple
    maison=house
de: auto=car flugzeug=airplane blume=blossom mond=full-moon ballon=balloon apfel=apple haus=house
pt: carro=car avião=airplane flor=blossom lua=full-moon balão=balloon maçã=apple casa=house
it: macchina=car aereo=airplane fiore=blossom luna=full-moon palloncino=balloon mela=apple
    casa=house
ko: 자동차=car 차=car 비행기=airplane 꽃=blossom 달=full-moon 풍선=balloon 사과=apple 집=house
    고양이=cat
"""
"""Everyday words that CLDR's names lack."""
_BACKGROUNDS = """
da: baggrund
de: hintergrund
es: fondo
et: taust taustal
fi: tausta taustalla
fr: fond arrière-plan
hi: पृष्ठभूमि
hu: háttér háttérrel
it: sfondo
ja: 背景の 背景
ko: 배경의 배경
lt: fonas fone
ms: latar-belakang
nb: bakgrunn
nl: achtergrond
pl: tło tle
pt: fundo
ru: фон фоне
sv: bakgrund
th: พื้นหลัง
uk: тло тлі фон фоні
vi: nền
"""
UNSPACED = frozenset({"ja", "ko", "th"})
"""Languages that are matched letter by letter: words are not, or not wholly, set apart."""
SCRIPTS = {
    **dict.fromkeys(("ru", "uk"), "CYRILLIC"),
    "ja": "CJK HIRAGANA KATAKANA",
    "ko": "HANGUL",
    "th": "THAI",
    "hi": "DEVANAGARI",
    "bn": "BENGALI",
}
"""What the names of a language's letters begin with; LATIN for the others."""
INFLECTED = frozenset({"ru", "uk", "pl", "lt", "fi", "et", "hu"})
"""Languages whose nouns change their ends by case."""
ORDER = (
    *("es", "fr", "de", "pt", "it", "ru", "ja", "ko", "nl", "pl", "sv", "vi", "th", "hi", "uk"),
    *("da", "nb", "fi", "hu", "ms", "bn", "lt", "et"),
)
"""The language that is tried first has a prompt that several would read."""


@dataclass(frozen=True)
class SmallWords:
    """What a language has beside names."""

    colors: dict[str, str]
    """Stems -> English."""
    numbers: dict[str, int]
    names: dict[str, str]
    small: dict[str, str]
    """What joins and places things -> English; empty: left out."""


@cache
def small_words(language: str) -> SmallWords:
    """The small words of a language.

    >>> small_words("de").numbers["zwei"], small_words("de").colors["blau"]
    (2, 'blue')
    """
    colors = zip(COLORS, _row(_COLORS, language), strict=True)
    small: dict[str, str] = {}
    for entry in _row(_SMALL, language):
        theirs, _, english = entry.partition("=")
        small |= dict.fromkeys(theirs.split("|"), english.replace("-", " "))
    return SmallWords(
        {stem.replace("-", " "): color for color, stems in colors for stem in stems.split("|")},
        {
            word: number
            for number, forms in enumerate(_row(_NUMBERS, language), 1)
            for word in forms.split("|")
        },
        {
            **dict(_spaced(*entry.split("=")) for entry in _row(_NAMES, language)),
            **{word.replace("-", " "): "background" for word in _row(_BACKGROUNDS, language)},
        },
        small,
    )


def _spaced(word: str, english: str) -> tuple[str, str]:
    return word, english.replace("-", " ")


def _row(table: str, language: str) -> list[str]:
    """The entries of one language; an indented line goes on with the one above."""
    for line in table.replace("\n    ", " ").splitlines():
        name, _, entries = line.partition(": ")
        if name == language:
            return entries.split()
    return []
