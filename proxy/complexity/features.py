"""Numbers that tell how hard a request is, of its text alone: how it is built, never what subject it is about.

Words are counted by their part in a sentence (negation, condition, comparison, quantity), not as topics: topics do not carry over
to subjects that nobody has trained on. Shares are of the words they are taken from, counts and lengths are logarithms.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import combinations
from math import log, log10
from statistics import pstdev

from proxy.complexity.reading import Reading

Features = dict[str, float]

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_SYMBOL = re.compile(r"[=+*/^<>{}\[\]\\_|~∑∫√≤≥×→∃∀⊃∨∧•≡²³°$]")
_QUOTED = re.compile(r'["“][^"“”]{40,}["”]')
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+")
_OPENING = re.compile(r"\s*(?:what|which|who|when|where|how|why)\b", re.IGNORECASE)
_EXCLUDED = re.compile(r"\b(?:except|(?:is|are|was|were|does|do) not|least)\b[^.]{0,60}\Z")
_YEAR = re.compile(r"\b(?:1\d{3}s?|20\d\d)\b")
_COMBINED = re.compile(
    r"\b(?:I|II|III|IV|i|ii|iii|iv|[1-4A-D]|[Bb]oth|[Nn]either)\b.{0,60}\b(?:and|only|nor|or)\b"
    r"|^(?:True|False|Yes|No|(?:Not )?[Ww]rong), "
)
_ALL_OF = re.compile(r"\b(?:all|none|both|neither) of (?:the|these|above)\b", re.IGNORECASE)
_REASON = re.compile(r"\b(?:because|since|if|unless|but)\b", re.IGNORECASE)
_VERDICT = re.compile(r"(?:yes|no|guilty|not|true|false|valid|invalid|increases?|decreases?|rises?|falls?)\b", re.IGNORECASE)
_DENIAL = re.compile(r"\b(?:not|no|never|cannot)\b|n['’]t\b", re.IGNORECASE)

_SHOUTED = frozenset({"NOT", "EXCEPT", "LEAST", "CANNOT"})
_MEASURED = ("how many", "how much", "how long", "how far", "how old", "how fast")
_DEFINING = ("refers to", "refer to", "is called", "are called", "known as", "defined as", "the term ", "example of")

# What words do in a sentence.
CLASSES = {
    name: frozenset(words.split())
    for name, words in {
        "direction": "increase increases increased increasing decrease decreases decreased decreasing higher lower greater less"
        " more faster slower same equal rise rises fall falls larger smaller",
        "negation": "not no never none neither nor without cannot don't doesn't isn't aren't wasn't didn't won't can't",
        "condition": "if suppose assume given unless whether",
        "modality": "would should could might may must",
        "superlative": "best likely most least primarily strongest",
        "others": "he she his her him they their them",
        "self": "i me my mine we our us",
        "you": "you your",
        "quantifier": "all any every some always only each",
        "proportion": "each per every twice half times total than more less remaining left rest average third double triple",
        "joining": "and or but however although because therefore thus since while",
        "spelled_number": "two three four five six seven eight nine ten half twice dozen hundred thousand",
        "measure": "hour hours minutes days weeks years year miles feet inches pounds dollars cents km m kg cm percent age cost"
        " costs price pay sold buy bought money",
        "determiner": "the a an this that these those",
        "preposition": "of in on at by for with from to",
        "being": "is are was were be been has have had",
        "vague": "something someone thing things one other another certain same",
    }.items()
}

# What tells a problem step by step: each is one more state to keep in mind.
STEPS = frozenset(
    {
        "then", "after", "before", "later", "next", "first", "second", "finally", "until", "now", "initially", "originally",
        "remaining", "left", "rest", "another",
    }
)  # fmt: skip
UNITS = tuple(
    frozenset(words.split())
    for words in (
        "second seconds", "minute minutes", "hour hours", "day days", "week weeks weekly", "month months monthly", "year years",
        "mile miles", "foot feet", "inch inches", "km kilometers", "pound pounds", "ounce ounces", "gallon gallons",
        "dollar dollars", "cent cents", "dozen",
    )
)  # fmt: skip
# A text without options in which so many numbers stand is a problem that is told.
LEAST_NUMBERS = 2


def extract(reading: Reading) -> Features:
    """Every feature by name. Those of options are only in a text that offers some, those of a told problem only in one."""
    found = _lengths(reading) | _numbers(reading) | _symbols(reading) | _vocabulary(reading) | _classes(reading) | _form(reading)
    if reading.options:
        return found | _options(reading) | _likeness(reading)
    return found | _told(reading) if len(_NUMBER.findall(reading.stem)) >= LEAST_NUMBERS else found


def _lengths(reading: Reading) -> Features:
    stem = reading.stem
    last = len(reading.sentences[-1]) if reading.sentences else 0
    return {
        "characters": log(1 + reading.length),
        "stem_words": log(1 + len(reading.words)),
        "sentences": log(1 + len(reading.sentences)),
        "sentence_words": log(1 + len(reading.words) / max(1, len(reading.sentences))),
        "context": log(1 + len(stem) - last),
        "last_sentence": log(1 + last),
        "last_sentence_share": last / (1 + len(stem)),
        "lines": log(1 + stem.count("\n")),
        "quoted_share": sum(map(len, _QUOTED.findall(stem))) / (1 + len(stem)),
    }


def _numbers(reading: Reading) -> Features:
    written = _NUMBER.findall(reading.stem)
    # A number of hundreds of digits is one that a float does not hold.
    values = {float(number.replace(",", "")[:18]) for number in written}
    return {
        "numbers": log(1 + len(written)),
        "distinct_numbers": log(1 + len(values)),
        "largest_number": log10(1 + max(values, default=0.0)),
        "decimals": float(any("." in number for number in written)),
        "digit_share": sum(map(len, written)) / (1 + len(reading.stem)),
    }


def _symbols(reading: Reading) -> Features:
    symbols, size = len(_SYMBOL.findall(reading.seen)), 1 + len(reading.stem)
    stem = reading.stem
    return {
        "symbols": log(1 + symbols),
        "symbol_share": symbols / (1 + len(reading.seen)),
        "letters_alone": _share([word for word in reading.written if len(word) == 1], reading.written),
        "comma_share": stem.count(",") / size,
        "bracket_share": (stem.count("(") + stem.count("[")) / size,
        "colon_share": (stem.count(":") + stem.count(";")) / size,
        "percent": float("%" in reading.seen or "percent" in reading.counts),
    }


def _vocabulary(reading: Reading) -> Features:
    words = reading.words + [word for option in reading.option_words for word in option]
    sizes = [len(word) for word in words]
    number = max(1, len(words))
    return {
        "word_length": sum(sizes) / number,
        "long_words": sum(size >= 9 for size in sizes) / number,
        "short_words": sum(size <= 3 for size in sizes) / number,
        "longest_words": sum(size >= 12 for size in sizes) / number,
        "variety": len(set(words)) / number**0.5,
    }


def _classes(reading: Reading) -> Features:
    """A few words of a class mean little in a short text: five words are added to what they are a share of."""
    size = len(reading.words) + 5
    found = {
        name: sum(reading.counts[word] for word in reading.counts.keys() & members) / size for name, members in CLASSES.items()
    }
    return found | {"past": sum(count for word, count in reading.counts.items() if word.endswith("ed")) / size}


def _form(reading: Reading) -> Features:
    stem, counts, names = reading.stem, reading.counts, _NAME.findall(reading.stem)
    size, lowered = len(reading.words) + 5, stem.lower()
    return {
        "excluded": float(not _SHOUTED.isdisjoint(reading.written) or bool(_EXCLUDED.search(stem[-160:]))),
        "gap": float("__" in stem),
        "ends_as_question": float(stem.endswith("?")),
        "ends_open": float(not stem.endswith(("?", "."))),
        "opens_as_question": float(bool(_OPENING.match(stem))),
        "how_many": float(any(phrase in lowered for phrase in _MEASURED)),
        "why": float("why" in counts or "because" in counts),
        "statement": float(not counts.keys().isdisjoint(("statement", "statements", "true", "false"))),
        "definition": float(any(phrase in lowered for phrase in _DEFINING)),
        "dated": float("century" in counts or bool(_YEAR.search(stem))),
        "names": len(names) / size,
        "names_again": (len(names) - len(set(names))) / size,
    }


def _told(reading: Reading) -> Features:
    """Of a problem that is told: its steps, how many things it measures, how many have a name."""
    counts = reading.counts
    measured = sum(not counts.keys().isdisjoint(unit) for unit in UNITS) + ("$" in reading.stem)
    return {
        "told_steps": log(1 + sum(counts[word] for word in counts.keys() & STEPS)),
        "told_units": log(1 + measured),
        "told_names": log(1 + len(set(_NAME.findall(reading.stem)))),
    }


def _options(reading: Reading) -> Features:
    options = reading.options
    sizes = [len(option) for option in options]
    mean = sum(sizes) / len(sizes)
    return {
        "option_length": log(1 + mean),
        "option_longest": log(1 + max(sizes)),
        "option_spread": log(1 + pstdev(sizes)),
        "option_spread_share": pstdev(sizes) / (1 + mean),
        "option_numeric": _share([option for option in options if option.lstrip("$(-−.")[:1].isdigit()], options),
        "option_digits": _share([option for option in options if _NUMBER.search(option)], options),
        "option_combined": _share([option for option in options if _COMBINED.search(option)], options),
        "option_all_of": float(any(_ALL_OF.search(option) for option in options)),
        "option_reason": _share([option for option in options if _REASON.search(option)], options),
        "option_verdict": _share([option for option in options if _VERDICT.match(option)], options),
        "option_denial": _share([option for option in options if _DENIAL.search(option)], options),
        "option_one_word": _share([option for option in options if len(option.split()) == 1], options),
    }


def _likeness(reading: Reading) -> Features:
    """How much the options are like each other and like what is asked: choosing between like ones takes thought."""
    words = [set(option) for option in reading.option_words]
    pairs = list(combinations(words, 2))
    stem = reading.counts.keys()
    starts = {option[0] if option else "" for option in reading.option_words}
    everything = [word for option in reading.option_words for word in option]
    return {
        "option_likeness": sum(len(a & b) / max(1, len(a | b)) for a, b in pairs) / len(pairs),
        "option_echo": sum(len(option & stem) / max(1, len(option)) for option in words) / len(words),
        "option_same_start": 1 - len(starts) / len(words),
        "option_direction": sum(word in CLASSES["direction"] for word in everything) / (5 + len(everything)),
    }


def _share(some: Collection[object], of: Collection[object]) -> float:
    return len(some) / max(1, len(of))
