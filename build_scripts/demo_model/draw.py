"""Random choices that keep the held-out facts, numbers and phrasings out of the training data.

Imported by the other modules of this folder only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, TypeVar

from . import words

Split = Literal["train", "held-out"]
T = TypeVar("T")

HELD_OUT_PERCENT = 12


class Draw:
    """Random choices within one split."""

    def __init__(self, rng: Random, split: Split) -> None:
        self.rng = rng
        self.split = split

    def mine(self, *key: object) -> bool:
        """Whether this combination belongs to this split: by hash, so the same in every run."""
        digest = hashlib.sha256("|".join(map(str, key)).encode()).digest()
        held_out = int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT
        return held_out == (self.split == "held-out")

    def until_mine(self, make: Callable[[], T], *key: object) -> T:
        """The first of `make`'s results that belongs to this split."""
        for _ in range(10_000):
            value = make()
            if self.mine(*key, value):
                return value
        raise RuntimeError(f"nothing of {key} belongs to the {self.split} split")

    def combination(self, kind: str, *choices: Sequence[Any]) -> Any:
        """One of each, such that the combination belongs to this split."""
        return self.until_mine(lambda: tuple(self.rng.choice(c) for c in choices), kind)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def choice(self, options: Sequence[T]) -> T:
        return self.rng.choice(options)

    def weighted(self, options: dict[T, float]) -> T:
        return self.rng.choices(list(options), list(options.values()))[0]

    def question(self, text: str) -> str:
        """As people type it: with or without capital letter and question mark."""
        x = self.rng.random()
        if x < 0.5:
            return text[0].upper() + text[1:] + ("?" if self.chance(0.8) else "")
        if x < 0.8:
            return text
        return text + "?" if x < 0.9 else text.lower()

    def statement(self, text: str) -> str:
        x = self.rng.random()
        if x < 0.5:
            return text[0].upper() + text[1:] + self.choice([".", ".", ".", "", "!"])
        return text if x < 0.85 else text + "."

    def phrase(self, kind: str, phrases: Sequence[str]) -> str:
        """One way of typing one of `phrases`; the ways themselves are divided between the splits."""
        vary = self.question if phrases[0].split()[0] in ("who", "what", "how") else self.statement
        return self.until_mine(lambda: vary(self.choice(phrases)), kind)

    def made_up(self, low: int = 2, high: int = 3) -> str:
        """A pronounceable word that nobody knows."""

        def word() -> str:
            syllables = range(self.rng.randint(low, high))
            body = "".join(self.choice(words.SYLLABLE_STARTS) + self.choice(words.SYLLABLE_ENDS) for _ in syllables)
            return body + self.choice(["", "", "n", "r", "s", "l", "t"])

        return self.until_mine(word, "word")

    def name(self) -> str:
        if self.split == "held-out":
            return self.choice(words.HELD_OUT_NAMES)
        while True:
            name = self.choice(words.NAMES) if self.chance(0.3) else self.made_up().capitalize()
            if name not in words.HELD_OUT_NAMES:
                return name

    def number(self) -> str:
        return self.until_mine(lambda: str(self.rng.randint(1, 9999 if self.chance(0.5) else 99)), "number")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What the user says and what a right reply is."""

    user: str
    thought: str
    answer: str
    skill: str
    direct: str = ""  # answer without thinking, where it differs: it then holds the working
    endless: bool = False  # cut off somewhere; no end of the reply is taught

    @property
    def unthought(self) -> str:
        return self.direct or self.answer
