"""How questions about scenes are worded: several ways each, so that a model learns more than one phrase."""

from __future__ import annotations

import re

import numpy as np

# tasks in the order in which reports show them; `easy-vqa` has its own
TASKS = (
    "naming", "category", "counting", "place", "position", "relation", "colour", "presence", "box", "reading", "caption",
)  # fmt: skip

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
PRESENCE_OF_MANY = ("Are there {a_thing} in the picture?", "Are there {a_thing}?", *PRESENCE[2:])
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
BOX = (
    "Point to the {thing} with a box.",
    "Where is the {thing}? Answer with a box.",
    "Give the box around the {thing}.",
)
NEIGHBOUR = {
    "left": ("What is to the left of the {other}?", "What is left of the {other}?"),
    "right": ("What is to the right of the {other}?", "What is right of the {other}?"),
    "above": ("What is above the {other}?",),
    "below": ("What is below the {other}?", "What is under the {other}?"),
}
READING = ("What word is written?", "What does the text say?", "Read the word in the picture.")
CAPTION = ("Describe the picture.", "Describe this image.", "Write a short caption.")

SAME_PLURAL = frozenset({"bison", "deer", "fish", "moose", "sheep", "shrimp", "squid"})
UNCOUNTABLE = frozenset({
    "bacon", "bowling", "bread", "broccoli", "butter", "confetti", "corn", "fire", "fog", "garlic", "ginger", "golf",
    "honey", "lettuce", "lightning", "meat", "milk", "money", "music", "paella", "paper", "popcorn", "rice", "salt",
    "soap", "spaghetti", "sushi", "tennis", "toast", "tofu", "wheat", "wind",
})  # fmt: skip
IRREGULAR = {
    "mouse": "mice", "goose": "geese", "man": "men", "woman": "women", "tooth": "teeth", "foot": "feet",
    "leaf": "leaves", "knife": "knives", "wolf": "wolves", "scarf": "scarves", "elf": "elves", "dice": "dice",
    "potato": "potatoes", "tomato": "tomatoes", "volcano": "volcanoes", "mango": "mangoes", "dwarf": "dwarves",
}  # fmt: skip
ALREADY_PLURAL = frozenset({
    "ballet shoes", "beers", "binoculars", "blueberries", "books", "cherries", "chopsticks", "eyes", "fireworks",
    "footprints", "fries", "glasses", "gloves", "goggles", "grapes", "headphones", "houses", "jeans", "knobs", "lips",
    "lungs", "maracas", "noodles", "pancakes", "pants", "peanuts", "peas", "playing cards", "pliers",
    "praying hands", "scales", "scissors", "shorts", "skis", "slippers", "socks", "stairs", "sunglasses", "swords",
    "theater masks", "thumbs down", "thumbs up", "clapping hands",
})  # fmt: skip
VOWEL_SOUND = re.compile(r"(?!uni|ufo|usb|eu|one|ukulele)[aeiou]|hourglass|x-ray")
QUALIFIED = re.compile(r"(.+?) ((?:of|with|and) .+)")


def pick(rng: np.random.Generator, wordings: tuple[str, ...], **words: str) -> str:
    """One of the wordings with its gaps filled."""
    return wordings[int(rng.integers(len(wordings)))].format(**words)


def presence_of(noun: str) -> tuple[str, ...]:
    """Wordings that ask whether a thing is there."""
    return PRESENCE_OF_MANY if noun in ALREADY_PLURAL else PRESENCE


def plural(noun: str) -> str:
    """`dog` -> `dogs`; nouns that are plural or uncountable stay."""
    if match := QUALIFIED.fullmatch(noun):
        return f"{plural(match[1])} {match[2]}"
    head, space, last = noun.rpartition(" ")
    if noun in ALREADY_PLURAL or last in SAME_PLURAL | UNCOUNTABLE:
        return noun
    if last in IRREGULAR:
        return head + space + IRREGULAR[last]
    if last.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if re.search("[^aeiou]y$", last):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def with_article(noun: str) -> str:
    """`dog` -> `a dog`; nouns that are plural or uncountable stay bare."""
    if noun in ALREADY_PLURAL or noun.split(" ")[-1] in UNCOUNTABLE:
        return noun
    return f"{'an' if VOWEL_SOUND.match(noun) else 'a'} {noun}"


def counted(noun: str, count: int) -> str:
    """`3 dogs`, or `a dog` for one."""
    return with_article(noun) if count == 1 else f"{count} {plural(noun)}"


def listed(parts: list[str]) -> str:
    """`a dog, a cat and a tree`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
