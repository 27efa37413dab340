"""What codecs of Gemini's media share: the pictures or sounds of an answer, and what it means that there are none."""

from typing import TypeVar

from proxy.canonical.answer import CONTENT_FILTER, Answer
from proxy.canonical.conversation import Audio, Image
from proxy.errors import AttemptFailed
from proxy.protocols.base import BrokenReply

P = TypeVar("P", Image, Audio)


def parts_of(answer: Answer, kind: type[P], *, what: str) -> list[P]:
    """At least one. Raises AttemptFailed: a bad request where Google will not make it, BrokenReply where it said other things."""
    found = [part for choice in answer.choices for part in choice.parts if isinstance(part, kind)]
    if found:
        return found
    if any(choice.finish_reason == CONTENT_FILTER for choice in answer.choices):
        raise AttemptFailed("bad_request", "The provider's rules forbid what was asked for.", code="moderation_blocked")
    raise BrokenReply("broken", f"The provider's answer holds no {what}.")
