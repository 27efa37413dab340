"""What an OpenAI model takes, by its name, as OpenAI, Azure and those who sell them on write it.

Source: https://developers.openai.com/api/docs/guides/deployment-checklist. A deployment of Azure's may be named otherwise;
then it is taken at its word.
"""

import re
from functools import lru_cache

# Azure writes `gpt-35-turbo`: two digits are no version.
_GPT = re.compile(r"(?:^|[/.])gpt-(\d)(?:\.(\d+))?(?!\d)")
_O_SERIES = re.compile(r"(?:^|[/.])o[1-9](?:-|$)")
_OWN = re.compile(r"(?:^|[/.])(?:gpt-|chatgpt-|o[1-9](?:-|$))")
_SEARCHING = re.compile(r"(?:^|[/.])gpt-[^/]*-search-(?:preview|api)")
_O_VERSION = (5, 0)
# Between these a model does not think unless it is told to.
_FIRST_AT_REST, _LAST_AT_REST = (5, 1), (5, 4)


@lru_cache(1000)  # asked several times a call, of names of the catalogue
def version(model: str) -> tuple[int, int] | None:
    """(major, minor) of a model that thinks, those before GPT-5 counted as it; None for any other."""
    if "-chat" in model:
        return None
    if _O_SERIES.search(model):
        return _O_VERSION
    found = _GPT.search(model)
    known = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
    return known if known >= _O_VERSION else None


def is_openais(model: str) -> bool:
    return _OWN.search(model) is not None


@lru_cache(1000)
def always_searches(model: str) -> bool:
    """Whether it searches the web once for every call in Chat Completions, asked or not; its usage does not say so.

    Source: https://developers.openai.com/api/docs/guides/tools-web-search
    """
    return _SEARCHING.search(model) is not None


def takes_sampling(model: str, effort: str | None) -> bool:
    """`temperature`, `top_p`: refused by a model that thinks. `effort`: how much it is told to."""
    known = version(model)
    if known is None or effort == "none":
        return True
    return effort is None and _FIRST_AT_REST <= known <= _LAST_AT_REST


def calls_in_responses(model: str) -> bool:
    """Whether it calls tools in Responses, and in Chat Completions only while it does not think, or not at all: from 5.4 on."""
    known = version(model)
    return known is not None and known >= (5, 4)
