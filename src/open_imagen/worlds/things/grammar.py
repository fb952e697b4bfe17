"""English of labels: plurals, articles, and the labels that are not counted or take no article."""

from functools import cache


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


IRREGULAR = {
    "mouse": "mice",
    "man": "men",
    "woman": "women",
    "person": "people",
    "merperson": "merpeople",
    "child": "children",
    "goose": "geese",
    "ox": "oxen",
    "tooth": "teeth",
    "foot": "feet",
    "leaf": "leaves",
    "loaf": "loaves",
    "wolf": "wolves",
    "knife": "knives",
    "scarf": "scarves",
    "shelf": "shelves",
    "elf": "elves",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mango": "mangoes",
    "volcano": "volcanoes",
    "mosquito": "mosquitoes",
    "tornado": "tornadoes",
    "hero": "heroes",
    "superhero": "superheroes",
    "cactus": "cacti",
    "monarch": "monarchs",
    "businessperson": "businesspeople",
    "sheaf": "sheaves",
    "fungus": "fungi",
    "die": "dice",
}
UNCHANGED = words(
    """
    sheep deer bison moose shrimp squid salmon aircraft buffalo elk swine waterfowl trout
    """
)
"""Plural and singular alike."""
UNCOUNTED = words(
    """
    rice bread flatbread bacon butter salt popcorn broccoli garlic spaghetti corn food milk
    meat luggage clothing money fog foggy rain lightning fire wood snow water soap hair
    weather sushi oden dango grass blood coral traffic baggage trash honey sake juice wine
    beer coffee tea liquid ginger oil seaweed sand mate fondue construction dna yarn thread
    bowling music badminton tennis lacrosse hockey pong polish racing arts cooking camping
    dizzy away laughing no-one dung poo lumber timber pasta ramen pudding cereal lettuce
    cabbage kale garbage mail cash jewelry pork noodle dairy bamboo parsley basil lavender
    porridge oatmeal boba cheese cheddar calamari champagne beef maize cutlery silverware
    tempura gelato bacteria edamame sunshine seaside firewood dynamite golf glitter wool
    shampoo sunscreen paper whisky whiskey wind voltage sound
    """
)
"""Heads of labels of which nobody says "a" or "two"."""
SINGULAR_IN_S = words("rhinoceros lens canvas gas biceps claus christmas")
PLURALS = words("people men women children geese teeth feet mice dice leaves")
NOUNS_IN_ING = words(
    """
    wing ring seedling dumpling building king earring string wedding painting sting duckling
    sapling sling swing spring inkling viking setting
    """
)
JOINTS = words(
    """
    of in with on at without behind showing for to over facing around from under fluttering
    increasing decreasing pointing reaching shaking blowing holding covering sticking
    and
    """
)
"""Words before which the head of a label ends: "slice of pizza", "hand pointing up"."""
LOOSE = words("with without behind on at over and showing")
"""Joints after which a plural would sound wrong: "suns behind cloud"."""
WITH_THE = frozenset(
    {"statue of liberty", "milky way", "kaaba", "earth", "world", "world wide web", "parthenon"}
)
NAMES = frozenset(
    {"mount fuji", "fuji", "santa claus", "mrs. claus", "tokyo tower", "saturn", "planet earth"}
)
"""Labels without any article."""
NOT_COUNTED = frozenset({"thumbs up", "thumbs down", "palms up together", "star-struck"})


@cache
def plural(label: str) -> str:
    """The plural of a label, or "" where people would not count it.

    >>> plural("slice of pizza"), plural("person in tuxedo"), plural("glasses")
    ('slices of pizza', 'people in tuxedos', '')
    """
    words, end = _split(label)
    head, rest = words[end - 1], words[end:]
    if label in NAMES | WITH_THE | NOT_COUNTED or _is_plural(head) or _is_uncounted(head):
        return ""
    if rest and rest[0] in LOOSE:
        return ""
    if rest[:1] == ("in",) and rest[-1] in {"tuxedo", "bed", "suit"} and words[0] in IRREGULAR:
        rest = (*rest[:-1], plural_word(rest[-1]))
    return " ".join([*words[: end - 1], plural_word(head), *rest])


def plural_word(word: str) -> str:
    """The plural of a single noun."""
    if word in UNCHANGED or word.endswith("fish"):
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("man") and word not in {"human", "talisman", "shaman"}:
        return word[:-2] + "en"
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def takes_article(label: str) -> bool:
    """Whether people say "a" before a label."""
    words, end = _split(label)
    head = words[end - 1]
    special = label in NAMES | WITH_THE or label == "star-struck"
    return not (special or _is_plural(head) or _is_uncounted(head))


def head(label: str) -> str:
    """The word of a label that says what it is.

    >>> head("slice of pizza"), head("tokyo tower")
    ('slice', 'tower')
    """
    words, end = _split(label)
    return words[end - 1]


@cache
def _split(label: str) -> tuple[tuple[str, ...], int]:
    """The words of a label, and how many there are up to its head."""
    words = tuple(label.split())
    acting = len(words) > 1 and words[1].endswith("ing")
    if words[0] in {"person", "man", "woman"} or (words[0] == "face" and acting):
        return words, 1
    return words, next((k for k, word in enumerate(words) if k and word in JOINTS), len(words))


def _is_plural(word: str) -> bool:
    in_s = word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word in PLURALS or (in_s and word not in SINGULAR_IN_S)


def _is_uncounted(word: str) -> bool:
    return word in UNCOUNTED or (word.endswith("ing") and word not in NOUNS_IN_ING)


def article(phrase: str) -> str:
    """The article "a" or "an", by the sound that a phrase begins with.

    >>> [article(word) for word in ("unicorn", "umbrella", "ewe", "hourglass", "x-ray")]
    ['a', 'an', 'a', 'an', 'an']
    """
    word = phrase.lower().split()[0].split("-")[0]
    if word.startswith(("hour", "honest", "honor", "heir", "herb", "8", "11", "18")):
        return "an"
    if word in {"x", "sos", "suv"}:
        return "an"
    if word.startswith(("uni", "use", "usu", "eu", "ewe", "one", "once", "ufo", "ute", "uti")):
        return "an" if word.startswith(("unin", "unim")) else "a"
    return "an" if word[0] in "aeiou" else "a"


def with_article(phrase: str) -> str:
    """A phrase after its indefinite article."""
    return f"{article(phrase)} {phrase}"
