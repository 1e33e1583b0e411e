"""The words Storybook knows. Standard library only, so that a page can import it without waiting for torch."""

from __future__ import annotations

import re

# canonical name -> other wordings that mean the same
THINGS: dict[str, tuple[str, ...]] = {
    "sofa": ("couch", "settee"),
    "house plant": ("potted plant", "plant"),
    "painting": ("framed painting", "framed picture"),
    "lamp": ("floor lamp",),
    "table": ("desk",),
    "window": (),
    "tree": ("oak",),
    "pine tree": ("fir", "pine"),
    "palm tree": ("palm",),
    "house": ("cottage", "home"),
    "car": ("automobile",),
    "boat": ("sailboat", "ship"),
    "balloon": ("hot air balloon",),
    "flower": ("blossom",),
    "mushroom": ("toadstool",),
    "cat": ("kitten", "kitty"),
    "dog": ("puppy",),
    "bird": ("songbird",),
    "ball": ("beach ball",),
    "cube": ("box", "block"),
    "star": (),
    "rocket": ("spaceship",),
    "umbrella": ("parasol",),
    "cup": ("mug",),
    "moon": ("crescent moon",),
    "sun": (),
    "cloud": (),
}

COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet"),
    "orange": ("tangerine",),
    "yellow": ("golden",),
    "green": ("emerald",),
    "turquoise": ("teal", "cyan"),
    "blue": ("azure",),
    "purple": ("violet",),
    "pink": ("rose",),
    "brown": ("chocolate",),
    "black": (),
    "white": ("ivory",),
    "grey": ("gray", "silver"),
}

# A painted thing of these colours is what a caption without a colour word shows; never held out of the training.
NATURAL: dict[str, tuple[str, ...]] = {
    "sofa": ("red", "blue", "brown"),
    "house plant": ("green",),
    "painting": ("blue", "orange"),
    "lamp": ("yellow", "white"),
    "table": ("brown",),
    "window": ("white", "brown"),
    "tree": ("green",),
    "pine tree": ("green",),
    "palm tree": ("green",),
    "house": ("red", "yellow"),
    "car": ("red", "blue"),
    "boat": ("white", "red"),
    "balloon": ("red", "orange"),
    "flower": ("pink", "red", "yellow"),
    "mushroom": ("red",),
    "cat": ("orange", "black", "grey"),
    "dog": ("brown", "black"),
    "bird": ("blue", "red"),
    "ball": ("red", "blue"),
    "cube": ("blue", "green"),
    "star": ("yellow",),
    "rocket": ("white", "red"),
    "umbrella": ("red", "purple"),
    "cup": ("white", "blue"),
    "moon": ("yellow", "white"),
    "sun": ("yellow", "orange"),
    "cloud": ("white", "grey"),
}

SCENES: dict[str, tuple[str, ...]] = {
    "living room": ("room", "cosy living room"),
    "meadow": ("field", "green meadow"),
    "snowy field": ("snow", "winter landscape"),
    "desert": ("sandy desert",),
    "beach": ("sandy beach",),
    "sea": ("ocean", "open sea"),
    "mountains": ("mountain valley",),
    "night sky": ("starry sky", "starry night sky"),
    "city street": ("city", "street"),
    "forest": ("woods", "deep forest"),
    "plain background": ("plain", "simple background"),
}

STYLES: dict[str, tuple[str, ...]] = {
    "flat": ("flat illustration", "flat style"),
    "watercolour": ("watercolor", "watercolour painting"),
    "pencil sketch": ("pencil drawing", "sketch"),
    "pixel art": ("pixels",),
    "oil painting in swirls": ("oil painting", "swirling oil painting"),
    "blurred background": ("blurry background", "background out of focus"),
}

POSITIONS: dict[str, tuple[str, ...]] = {
    "left": ("on the left", "on the left side", "to the left"),
    "right": ("on the right", "on the right side", "to the right"),
    "centre": ("in the centre", "in the middle", "in the center"),
    "top": ("at the top", "above"),
    "bottom": ("at the bottom", "below"),
    "top left": ("at the top left", "in the top left corner"),
    "top right": ("at the top right", "in the top right corner"),
    "bottom left": ("at the bottom left", "in the bottom left corner"),
    "bottom right": ("at the bottom right", "in the bottom right corner"),
}

SIZES: dict[str, tuple[str, ...]] = {
    "small": ("little", "tiny"),
    "big": ("large", "huge"),
}

TIMES: dict[str, tuple[str, ...]] = {
    "day": ("by day", "in daylight", "on a sunny day"),
    "evening": ("in the evening", "at sunset", "at dusk"),
    "night": ("at night", "by night"),
}

GLUE: tuple[str, ...] = tuple(
    "a an the and with of in on at to by from is are there before behind front next beside under over it its "
    "style picture scene illustration background drawing storybook".split()
)

_TABLES = (THINGS, COLOURS, SCENES, STYLES, POSITIONS, SIZES, TIMES)


def words(text: str) -> list[str]:
    """The lower-case words of a text, in order; punctuation and digits separate words."""
    return re.findall(r"[^\W\d_]+", text.lower())


def _all_words() -> frozenset[str]:
    known = set(GLUE)
    for table in _TABLES:
        for name, synonyms in table.items():
            for phrase in (name, *synonyms):
                known.update(words(phrase))
    # plurals of things are read as their singular by the tokenizer's own entry
    for name, synonyms in THINGS.items():
        for phrase in (name, *synonyms):
            known.add(plural(words(phrase)[-1]))
    return frozenset(known)


def plural(noun: str) -> str:
    """The plural of a noun: 'cat' -> 'cats', 'box' -> 'boxes', 'puppy' -> 'puppies'."""
    if noun.endswith(("s", "x", "sh", "ch")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


KNOWN_WORDS: frozenset[str] = _all_words()


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that Storybook does not know, in order, each once, in lower case."""
    return list(dict.fromkeys(word for word in words(prompt) if word not in KNOWN_WORDS))


def held_out(thing: str, colour: str) -> bool:
    """Whether training never renders this thing in this colour (about one pair in nine, for evaluation).

    A fixed rule of the two names' places in THINGS and COLOURS; a thing's natural colours are always rendered.
    """
    if colour in NATURAL[thing]:
        return False
    return (list(THINGS).index(thing) * 5 + list(COLOURS).index(colour) * 4) % 9 == 0


def held_out_pairs() -> list[tuple[str, str]]:
    """Every (thing, colour) that training never renders, in the order of THINGS and COLOURS."""
    return [(thing, colour) for thing in THINGS for colour in COLOURS if held_out(thing, colour)]


def article(phrase: str) -> str:
    """The phrase with 'a' or 'an' before it."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def examples() -> list[str]:
    """Prompts that show what Storybook can do."""
    return [
        "a red sofa",
        "a living room with a red sofa in the centre, a house plant on the left and a painting at the top right",
        "a blue boat on the sea at sunset",
        "a snowy field with a big pine tree",
        "an orange cat on a meadow, watercolour",
        "a yellow car on a city street at night",
        "a pink balloon above the mountains, oil painting in swirls",
        "a purple mushroom in a forest, blurred background",
        "a green rocket in the night sky, pixel art",
        "a turquoise umbrella on a beach, pencil sketch",
    ]
