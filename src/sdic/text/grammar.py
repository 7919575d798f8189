"""Edits by words, without a network: "ten years older, a slight smile, no glasses".

A text is cut into parts at commas, "and", "with", "no" and the like. Out of a part are taken the
words that say nothing, amounts, more or less, and negation; what is left has to be one phrase of
the vocabulary (`vocabulary.toml`), whole. Nothing is guessed: whatever is not understood, or can
be read in two ways, is refused. Equal texts give equal edits.
"""

from __future__ import annotations

import difflib
import math
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

from sdic.editing import units
from sdic.errors import InputError, printable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VOCABULARY = Path(__file__).with_name("vocabulary.toml")
LONGEST = 1000  # characters of a text
PLAIN = 60.0  # per cent of the range, where a text names none; see [degrees] of the vocabulary
FULL = (100.0, "degree")  # the one amount that a negated part may have
NEGATABLE = ("thing", "doing")
WHOSE = ("his", "her", "their", "my", "your", "its", "own")
MARKS = {",", ";", ".", "!", "&", "+", "-"}  # these part a text as `joint` words do
_TOKEN = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]+|\.?[0-9]+)|[^\W\d_]+(?:'[^\W\d_]+)*|\S")
_NUMBER = re.compile(r"[+-]?[0-9.]*[0-9]")
# fmt: off
_ONES = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]
# fmt: on
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


@dataclass(frozen=True)
class Understood:
    """What a text asks for.

    Attributes:
        steps: names of directions and amounts as `units.to_strength` takes them, in the text's
            order.
    """

    steps: tuple[tuple[str, str], ...]

    @property
    def amounts(self) -> dict[str, float | str]:
        """The steps as `Editor.make_edit` takes them."""
        return dict(self.steps)

    @property
    def sentence(self) -> str:
        """The steps in words, e.g. "age +10y, smile 30%"; its own parse is the same."""
        return ", ".join(
            f"{name} {'strength ' if amount[-1].isdigit() else ''}{amount}"
            for name, amount in self.steps
        )


def parse(text: str, described: Mapping[str, units.Measured]) -> Understood:
    """What a text asks for, by directions.

    Args:
        text: e.g. "ten years older, a slight smile, no glasses"; case does not matter.
        described: the directions that there are, by name, e.g. of `catalogue.read_descriptions`.

    Raises:
        InputError: a part is not understood, can be read in two ways or goes beyond the range in
            which its direction was measured; or a direction is named twice.
    """
    phrases = _phrases(described)
    steps: dict[str, str] = {}
    before: _Part | None = None
    for joint, tokens in _cut(_tokens(text)):
        part = _read(tokens, phrases, described)
        if not (part.words or part.amounts or part.signs or part.negations):
            continue
        _check_joint(joint, part, before, phrases)
        name, amount = _step(part, phrases, described)
        if name in steps:
            raise InputError(f"The direction '{name}' is given twice ({part}); say it once.")
        steps[name] = amount
        before = part
    if not steps:
        raise InputError("The text says nothing to edit; e.g. 'ten years older, a slight smile'.")
    return Understood(tuple(steps.items()))


class _Phrase(NamedTuple):
    direction: str
    kind: str  # scale, thing, doing, plus or minus
    share: float | None  # per cent that the phrase means by itself


@dataclass
class _Part:
    """One part of a text, taken to pieces.

    Attributes:
        amounts: pairs of a number and its unit: a suffix of `units`, "" without, "strength", or
            "degree" for a share in words.
        signs: +1 for more, -1 for less.
        words: what is left.
    """

    tokens: list[str]
    amounts: list[tuple[float, str]] = field(default_factory=list)
    signs: list[int] = field(default_factory=list)
    negations: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    signed: bool = False

    @property
    def phrase(self) -> str:
        return " ".join(self.words)

    @property
    def bare(self) -> bool:
        return self.tokens == self.words

    def __str__(self) -> str:
        return f"'{printable(' '.join(self.tokens)[:60])}'"


def _tokens(text: str) -> list[str]:
    """Words, numbers and marks in lower case, without quotes; no hyphen within words."""
    if len(text) > LONGEST:
        raise InputError(f"The text has {len(text)} characters; at most {LONGEST} are read.")
    plain = unicodedata.normalize("NFKC", text).lower()
    plain = re.sub("[\u2018\u2019]", "'", re.sub("[\u2010-\u2015\u2212]", "-", plain))
    plain = re.sub(r'["\u201c\u201d=:]', " ", plain)
    return _TOKEN.findall(re.sub(r"(?<=[^\W_])-(?=[^\W\d_])", " ", plain))


def _cut(tokens: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The parts of a text, each with what joins it to the one before: "or", "and" or nothing.

    A word that negates begins a part and belongs to it.
    """
    roles = _lexicon()
    starts = {word for role, word in roles if role == "joint"}
    joint, part = "", list[str]()
    for word in tokens:
        if word not in MARKS and word not in starts and word != "or":
            part.append(word)
            continue
        if part:
            yield joint, part
            joint, part = "", []
        # No joint where a word leaves no doubt: "no glasses, with a beard".
        joint = "or" if "or" in (word, joint) else "and" if word in {*MARKS, "and"} else ""
        if ("no", word) in roles:
            part = [word]
    yield joint, part


def _read(
    tokens: list[str], phrases: Mapping[str, _Phrase], described: Mapping[str, units.Measured]
) -> _Part:
    """A part taken to pieces, by the longest entries of the vocabulary from left to right."""
    part, roles = _Part(tokens), _lexicon()
    known = {word for phrase in phrases for word in phrase.split()}
    i = 0
    while i < len(tokens):
        number, used = _number(tokens[i:])
        if number is not None:
            i += used
            part.signed |= tokens[i - used][0] in "+-"
            part.amounts.append((number, ""))
            continue
        role, value, used = _longest(tokens[i:], roles)
        word = tokens[i]
        if word in WHOSE and tokens[i + 1 : i + 2] in (["left"], ["right"]):
            raise InputError(
                f"'{word} {tokens[i + 1]}' can be the person's or the viewer's; say 'left' or "
                "'right' alone, as the picture is seen."
            )
        if role == "units":
            _give_unit(part, value, article=tokens[max(0, i - 1) : i] in (["a"], ["an"]))
        elif role == "degrees":
            part.amounts.append((float(value), "degree"))
        elif role in ("more", "less"):
            part.signs.append(1 if role == "more" else -1)
        elif role == "no":
            part.negations.append(word)
        elif word == "strength":
            number, following = _number(tokens[i + 1 :])
            if number is None:
                raise InputError(f"There is no number after 'strength' in {part}.")
            used = 1 + following
            part.signed |= tokens[i + 1][0] in "+-"
            part.amounts.append((number, "strength"))
        elif role != "filler":
            if word not in known:
                _refuse_word(word, known, described)
            part.words.append(word)
            used = 1
        i += used
    return part


def _number(tokens: list[str]) -> tuple[float | None, int]:
    """The number that tokens begin with, in digits or words, and how many of them it takes."""
    if tokens and _NUMBER.fullmatch(tokens[0]):
        return float(tokens[0]), 1
    role, value, used = _longest(tokens, _lexicon())
    if role == "numbers":
        return float(value), used
    if tokens[1:2] == ["hundred"] and tokens[0] in ("a", "one"):
        return 100.0, 2
    if not tokens or tokens[0] not in (*_ONES, *_TENS, "hundred"):
        return None, 0
    if tokens[0] in _TENS:
        tens = 10.0 * (2 + _TENS.index(tokens[0]))
        if tokens[1:2] and tokens[1] in _ONES[:9]:
            return tens + 1 + _ONES.index(tokens[1]), 2
        return tens, 1
    return (100.0 if tokens[0] == "hundred" else 1.0 + _ONES.index(tokens[0])), 1


def _give_unit(part: _Part, suffix: str, article: bool) -> None:
    """Give the number before a unit this unit; "a year" is one."""
    if part.amounts and part.amounts[-1][1] == "":
        number = part.amounts.pop()[0]
    elif article:
        number = 1.0
    else:
        raise InputError(f"There is no number before the unit in {part}; say how many.")
    part.amounts.append((10 * number, "y") if suffix == "decades" else (number, suffix))


def _check_joint(
    joint: str, part: _Part, before: _Part | None, phrases: Mapping[str, _Phrase]
) -> None:
    """Refuse "or", and "no X and Y"; but "no X or Y" is neither of them, which `part` then says."""
    negated = before is not None and before.negations
    found = _find(part.words, phrases)
    thing = part.bare and found is not None and found.kind == "thing"
    if joint == "or":
        if not (negated and (thing or part.negations)):
            raise InputError(f"The 'or' before {part} leaves a choice; say one of them.")
        part.negations = part.negations or ["no"]
    elif joint and negated and thing:
        raise InputError(
            f"{part} after {before} can mean with it or without; say 'no {part.phrase}' or "
            f"'with {part.phrase}'."
        )


def _find(words: list[str], phrases: Mapping[str, _Phrase]) -> _Phrase | None:
    """The phrase that words are: "rounder face", which "the face rounder" is as well."""
    return phrases.get(" ".join(words)) or phrases.get(" ".join([*words[-1:], *words[:-1]]))


def _step(
    part: _Part, phrases: Mapping[str, _Phrase], described: Mapping[str, units.Measured]
) -> tuple[str, str]:
    """The direction and the amount that a part stands for."""
    if not part.words:
        raise InputError(
            f"{part} does not say of what; e.g. 'older' or 'younger', 'more smile', 'turned left'."
        )
    if len(part.amounts) > 1 or len(part.signs) > 1 or len(part.negations) > 1:
        raise InputError(f"{part} says how much twice; say it once.")
    found = _find(part.words, phrases)
    if found is None:
        words = part.words
        if any(
            " ".join(words[:i]) in phrases and " ".join(words[i:]) in phrases
            for i in range(1, len(words))
        ):
            raise InputError(f"{part} says several things at once; put a comma between them.")
        raise InputError(f"'{part.phrase[:60]}' was not understood; {_there_is(described)}")
    name = found.direction
    more, less = (_example(end, name, phrases) for end in ("plus", "minus"))
    value, unit = part.amounts[0] if part.amounts else (found.share, "degree")
    if part.negations:
        if found.kind not in NEGATABLE or part.signs or (part.amounts and (value, unit) != FULL):
            raise InputError(
                f"{part} can mean the opposite or no change; say '{more}', '{less}' or nothing."
            )
        value, unit = -100.0, "degree"
    elif found.kind == "scale" and not part.amounts and not part.signs:
        raise InputError(f"{part} does not say which way; say '{more}' or '{less}'.")
    sign = -1 if found.kind == "minus" else 1
    if (
        part.signed
        and value is not None
        and value < 0
        and (part.signs or (found.kind in ("plus", "minus") and part.phrase != _spaced(name)))
    ):
        raise InputError(f"{part} has two signs; say it without the minus.")
    if part.signs:
        sign *= part.signs[0]
    if unit == "":
        raise InputError(
            f"The number in {part} has no unit; say years, degrees, % (of the useful range of "
            f"'{name}') or e.g. 'strength 2'."
        )
    if unit == "y" and not _absolute(name).isdisjoint(part.words):
        raise InputError(
            f"{part} is an age, and how old the person looks is not known; say how many years "
            f"'{more}' or '{less}'."
        )
    amount = sign * (PLAIN if value is None else value)
    return name, _within(amount, unit, described[name], part)


def _within(amount: float, unit: str, direction: units.Measured, part: _Part) -> str:
    """The amount as a text, if the strength that it stands for was measured.

    Raises:
        InputError: it lies beyond the direction's range, or the unit is not the direction's.
    """
    name, (low, high) = direction.name, direction.strength_range
    end = high if amount >= 0 else -low
    suffix = {"degree": "%", "strength": ""}.get(unit, unit)
    if suffix == "%":
        largest = 100.0 if end > 0 else 0.0
    elif suffix:
        per_strength = units.calibration(direction, units.SUFFIXES[suffix])
        end = high if amount * per_strength >= 0 else -low
        largest = end * abs(per_strength)
    else:
        largest = end
    if abs(amount) > largest + 1e-9:
        if end <= 0:
            raise InputError(
                f"{part} cannot be done: the direction '{name}' was measured from {low:g} to "
                f"{high:g} only, not the other way."
            )
        raise InputError(
            f"{part} is beyond what was measured of '{name}'; the most in this way is "
            f"{math.floor(largest * 10) / 10:g}{suffix}."
        )
    mark = "+" if suffix in units.SUFFIXES else ""
    return f"{amount or 0.0:{mark}g}{suffix}"


def _refuse_word(word: str, known: set[str], described: Mapping[str, units.Measured]) -> None:
    """Refuse a word that is nowhere in the vocabulary, with the nearest of those that are."""
    words = known.union(_ONES, _TENS, *(phrase.split() for _, phrase in _lexicon())) - {word}
    near = difflib.get_close_matches(word[:40], sorted(words), n=1, cutoff=0.75)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise InputError(f"'{printable(word[:40])}' was not understood{hint}; {_there_is(described)}")


def _there_is(described: Mapping[str, units.Measured]) -> str:
    return f"what can be edited: {', '.join(described)}."


def _spaced(name: str) -> str:
    """A direction's name as tokens have it."""
    return " ".join(_tokens(name))


def _example(end: str, name: str, phrases: Mapping[str, _Phrase]) -> str:
    """The first phrase for an end of a direction, or its name with a word for the end."""
    for phrase, one in phrases.items():
        if (one.direction, one.kind) == (name, end):
            return phrase
    return f"{'more' if end == 'plus' else 'less'} {_spaced(name)}"


def _phrases(described: Mapping[str, units.Measured]) -> dict[str, _Phrase]:
    """The phrases of all directions that there are; every name is one of its own direction."""
    table = {key: one for key, one in _vocabulary().items() if one.direction in described}
    for name in described:
        table.setdefault(_spaced(name), _Phrase(name, "scale", None))
    return table


@cache
def _tables() -> dict[str, dict[str, dict[str, list[str]]]]:
    tables: dict[str, dict[str, dict[str, list[str]]]] = tomllib.loads(
        VOCABULARY.read_text(encoding="utf-8")
    )
    return tables


@cache
def _vocabulary() -> dict[str, _Phrase]:
    """The phrases of the vocabulary.

    Raises:
        ValueError: a phrase stands for two things.
    """
    table: dict[str, _Phrase] = {}
    for name, kinds in _tables()["directions"].items():
        for kind in ("scale", *NEGATABLE, "plus", "minus"):
            for entry in kinds.get(kind, ()):
                pattern, _, share = entry.partition(" @")
                for phrase in _expand(pattern):
                    found = _Phrase(name, kind, float(share) if share else None)
                    if table.setdefault(phrase, found) != found:
                        raise ValueError(f"'{phrase}' is {table[phrase]} and {found}")
    return table


def _absolute(name: str) -> set[str]:
    return set(_tables()["directions"].get(name, {}).get("absolute", ()))


@cache
def _lexicon() -> dict[tuple[str, str], str]:
    """Values by role and phrase, of all that is no direction."""
    tables = _tables()
    entries = [(role, role, listed) for role, listed in tables["roles"].items()]
    for role in ("degrees", "units", "numbers"):
        entries += [(role, value, listed) for value, listed in tables[role].items()]
    return {
        (role, phrase): value
        for role, value, listed in entries
        for pattern in listed
        for phrase in _expand(pattern)
    }


def _longest(tokens: list[str], lexicon: Mapping[tuple[str, str], str]) -> tuple[str, str, int]:
    """Role, value and length of the longest entry of the lexicon that tokens begin with."""
    for length in range(min(4, len(tokens)), 0, -1):
        phrase = " ".join(tokens[:length])
        for role in ("numbers", "degrees", "units", "no", "more", "less", "filler"):
            if (role, phrase) in lexicon:
                return role, lexicon[role, phrase], length
    return "", "", 1


def _expand(pattern: str) -> Iterator[str]:
    """All phrases of a pattern: "a|b" is a choice, "[a|b]" one that may be left out."""
    choices = [
        [*([""] if one.startswith("[") else []), *one.strip("[]").split("|")]
        for one in pattern.split()
    ]
    for words in product(*choices):
        yield " ".join(word for word in words if word)
