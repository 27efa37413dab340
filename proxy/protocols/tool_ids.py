"""Ids of tool calls, for providers that bound their length: one that another provider made may be longer."""

from hashlib import sha256

# https://github.com/langmanus/langmanus/issues/119, https://github.com/decolua/9router/issues/393
MOST_IN_CHAT, MOST_IN_RESPONSES = 40, 64


def bounded(given: str, most: int) -> str:
    """The same for a call and its result, in every turn."""
    return given if len(given) <= most else f"call_{sha256(given.encode(errors='replace')).hexdigest()[:32]}"
