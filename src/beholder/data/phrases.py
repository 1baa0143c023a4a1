"""How questions about scenes are worded. Several wordings for each, so that a model learns the question, not the phrase."""

from __future__ import annotations

import re

import numpy as np

# tasks in the order in which reports show them; `easy-vqa` has its own
TASKS = ("naming", "category", "counting", "position", "relation", "colour", "presence", "reading", "caption")

NAMING = (
    "What is this?",
    "What is in the picture?",
    "What is shown in this picture?",
    "What object is this?",
    "What do you see?",
    "Name the object in the picture.",
    "What does the picture show?",
)
CATEGORY = ("What kind of thing is this?", "What category does it belong to?", "What type of thing is shown?")
COUNT_OF = (
    "How many {plural} are there?",
    "How many {plural} are in the picture?",
    "How many {plural} do you see?",
    "Count the {plural}.",
)
COUNT_ALL = (
    "How many objects are there?",
    "How many things are in the picture?",
    "How many objects do you see?",
    "Count the objects.",
)
PRESENCE = (
    "Is there {a_thing} in the picture?",
    "Is there {a_thing}?",
    "Does the picture show {a_thing}?",
    "Do you see {a_thing}?",
    "Can you see {a_thing} in this picture?",
)
BACKGROUND = (
    "What color is the background?",
    "What colour is the background?",
    "What is the background color?",
    "Which color is behind the objects?",
)
COLOUR_OF = (
    "What color is the {thing}?",
    "What colour is the {thing}?",
    "Which color does the {thing} have?",
)
SIDE = (
    "Is the {thing} on the left or on the right?",
    "Is the {thing} in the left half or the right half of the picture?",
)
LEVEL = (
    "Is the {thing} at the top or at the bottom?",
    "Is the {thing} in the top half or the bottom half of the picture?",
)
WHERE = (
    "Where is the {thing}?",
    "Where in the picture is the {thing}?",
    "In which part of the picture is the {thing}?",
)
BESIDE = ("Is the {thing} to the left or to the right of the {other}?",)
ABOVE = ("Is the {thing} above or below the {other}?",)
NEIGHBOUR = {
    "left": ("What is to the left of the {other}?", "What is left of the {other}?"),
    "right": ("What is to the right of the {other}?", "What is right of the {other}?"),
    "above": ("What is above the {other}?",),
    "below": ("What is below the {other}?", "What is under the {other}?"),
}
READING = ("What word is written?", "What does the text say?", "Read the word in the picture.")
CAPTION = ("Describe the picture.", "Describe this image.", "Write a short caption.")

UNCOUNTABLE = frozenset(
    [
        "fish",
        "deer",
        "sheep",
        "bison",
        "popcorn",
        "bread",
        "rice",
        "salt",
        "butter",
        "honey",
        "milk",
        "coffee",
        "tea",
        "beer",
        "soda",
        "juice",
        "whiskey",
        "champagne",
        "chocolate",
        "corn",
        "lettuce",
        "broccoli",
        "garlic",
        "ginger",
        "meat",
        "bacon",
        "curry",
        "salad",
        "stew",
        "soup",
        "paella",
        "spaghetti",
        "sushi",
        "tofu",
        "lightning",
        "fire",
        "confetti",
        "toast",
        "yarn",
        "thread",
        "film",
        "soap",
        "lotion",
        "money",
        "railroad",
        "wheat",
        "squid",
        "shrimp",
        "kimono",
        "moose",
        "salmon",
        "sheet",
        "music",
        "toilet",
        "paper",
        "bowling",
        "golf",
        "table",
        "tennis",
        "skis",
        "wind",
        "pudding",
        "cheese",
        "candy",
        "flying",
        "money",
    ]
)
IRREGULAR = {
    "mouse": "mice", "goose": "geese", "man": "men", "woman": "women", "tooth": "teeth", "foot": "feet",
    "leaf": "leaves", "knife": "knives", "wolf": "wolves", "loaf": "loaves", "scarf": "scarves", "elf": "elves",
    "shelf": "shelves", "cactus": "cactuses", "ox": "oxen", "piano": "pianos", "radio": "radios",
}  # fmt: skip
PLURAL_ALREADY = re.compile(
    r"(glasses|jeans|shorts|socks|gloves|pants|scissors|scales|swords|grapes|cherries|blueberries|peanuts|peas|fries"
    r"|headphones|chopsticks|maracas|beers|footprints|eyes|lips|lungs|books|houses|goggles|sunglasses|binoculars"
    r"|fireworks|noodles|pancakes|stairs|playing cards|hands|knobs|thumbs up|thumbs down|ballet shoes|theater masks"
    r"|stars|skates|boots|slippers|skis|pliers|earrings|chains|speech bubbles)$"
)
NUMBERED = re.compile(r"(.*) (of .*|with .*)$")


def pick(rng: np.random.Generator, wordings: tuple[str, ...], **words: str) -> str:
    """One of the wordings with its gaps filled."""
    return wordings[int(rng.integers(len(wordings)))].format(**words)


def plural(noun: str) -> str:
    """`dog` -> `dogs`; nouns that are plural or uncountable stay."""
    if match := NUMBERED.match(noun):
        return f"{plural(match[1])} {match[2]}"
    head, _, last = noun.rpartition(" ")
    prefix = f"{head} " if head else ""
    if PLURAL_ALREADY.search(noun) or last in UNCOUNTABLE:
        return noun
    if last in IRREGULAR:
        return prefix + IRREGULAR[last]
    if last.endswith(("s", "x", "z", "ch", "sh")) or last in ("potato", "tomato", "volcano", "mango"):
        return f"{noun}es"
    if last.endswith("y") and last[-2:-1] not in ("a", "e", "o", "u"):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def with_article(noun: str) -> str:
    """`dog` -> `a dog`; nouns that are plural or uncountable stay bare."""
    if PLURAL_ALREADY.search(noun) or noun.split(" ")[-1] in UNCOUNTABLE - {
        "fish",
        "deer",
        "sheep",
        "bison",
        "moose",
    }:
        return noun
    vowel = noun[0] in "aeiou" and not noun.startswith(("uni", "ufo", "usb", "eu", "one", "ukulele"))
    return f"{'an' if vowel or noun == 'x-ray' or noun == 'hourglass' else 'a'} {noun}"


def counted(noun: str, count: int) -> str:
    """`3 dogs`, or `a dog` for one."""
    return with_article(noun) if count == 1 else f"{count} {plural(noun)}"


def listed(phrases: list[str]) -> str:
    """`a dog, a cat and a tree`."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
