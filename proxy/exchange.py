"""The wire of one attempt: how a call is written for its provider, and how what comes back is read for its caller.

Same protocol on both sides: the caller's own bytes go out, the provider's own bytes come back, only tapped.
"""

from __future__ import annotations

from functools import partial

import msgspec

from proxy import capabilities
from proxy.call import Call
from proxy.canonical.conversation import Conversation
from proxy.deployments import Deployment
from proxy.errors import AttemptFailed, BadRequest
from proxy.protocols import cache_marks, other_models, registry, tool_names, unsaid
from proxy.protocols.base import MediaProviderCodec, Reader, Reply
from proxy.protocols.retelling import RetellingReader, retold
from proxy.protocols.translating import TranslatingReader
from proxy.recording import estimated_usage


class Whole:
    """A complete answer: the caller's bytes, and what they say."""

    def __init__(self, body: bytes, reply: Reply, content_type: str = "application/json") -> None:
        self.body = body
        self.reply = reply
        self.content_type = content_type


class Exchange:
    def __init__(self, call: Call, deployment: Deployment) -> None:
        self._call = call
        self._deployment = deployment
        self._codec = registry.PROVIDERS[deployment.protocol_for(call.asked)]
        self._is_direct = call.asked.protocol == self._codec.NAME
        self._names: tool_names.Names = {}

    def path(self) -> str:
        return self._codec.path(self._deployment.target.model, stream=self._call.asked.stream)

    def headers(self) -> dict[str, str]:
        """The caller's, where they mean something to the provider."""
        return self._call.asked.headers if self._is_direct else {}

    def body(self) -> bytes:
        """Raises AttemptFailed for what cannot be said in the provider's protocol: another deployment's may.

        What it leaves unsaid is written down on the call, in the caller's words.
        """
        self._call.ignored = ()
        body = self._written()
        self._call.caches_for_an_hour = self._deployment.provider.quirks.cache_marks and cache_marks.last_an_hour(body)
        return body

    def _written(self) -> bytes:
        asked, model, quirks = self._call.asked, self._deployment.target.model, self._deployment.provider.quirks
        cap = self._call.cap_at(self._deployment)
        if cap is None and asked.max_tokens is None and quirks.needs_max_tokens:
            cap = self._call.planned.output_cap
        if self._is_direct:
            fields, others = other_models.without(asked.fields)
            self._call.ignored = (*others, *asked.left_out)
            asked = msgspec.structs.replace(asked, fields=fields) if others else asked
            return registry.PASS_THROUGH[self._codec.NAME].pass_through(asked, model=model, max_tokens=cap, quirks=quirks)
        caller, codec = registry.CHAT_CALLERS[asked.protocol], registry.CHAT_PROVIDERS[self._codec.NAME]
        try:
            conversation = _as_it_thinks(caller.conversation(asked), self._deployment)
            conversation, self._names = tool_names.fitted(conversation, self._codec.NAME)
            written = codec.write_request(conversation, model=model, stream=asked.stream, max_tokens=cap, quirks=quirks)
        except BadRequest as error:
            raise AttemptFailed("untranslatable", error.message, param=error.param) from error
        self._call.ignored = (*unsaid.told(written.unsaid, caller.SPELLED), *asked.left_out)
        return written.body

    def whole(self, body: bytes, *, content_type: str) -> Whole:
        """Raises AttemptFailed."""
        reply = self._codec.read_reply(body)
        asked = self._call.asked
        if self._is_direct:
            return Whole(retold(body, asked.told) if asked.told else body, reply, content_type)
        answer = registry.CHAT_PROVIDERS[self._codec.NAME].read_answer(body)
        answer = tool_names.answer_of(answer, self._names)
        if answer.usage is None:  # what is charged is told
            answer = msgspec.structs.replace(answer, usage=estimated_usage(self._call, reply.text_length))
        caller = registry.CHAT_CALLERS[asked.protocol]
        return Whole(caller.render_answer(answer, request=asked, call_id=str(self._call.id)), reply)

    def reader(self) -> Reader:
        asked = self._call.asked
        if self._is_direct:
            tapping = registry.PASS_THROUGH[self._codec.NAME].reader(n=asked.n, wants_usage=asked.include_usage)
            return RetellingReader(tapping, asked.told) if asked.told else tapping
        reader = self._codec.reader(n=asked.n, wants_usage=True, deltas=True)
        renderer = registry.CHAT_CALLERS[asked.protocol].renderer(asked, call_id=str(self._call.id))
        return TranslatingReader(reader, renderer, estimate=partial(estimated_usage, self._call), names=self._names)


def _as_it_thinks(conversation: Conversation, deployment: Deployment) -> Conversation:
    """A model that is declared not to think would refuse to be told how much: agents ask every model to."""
    if conversation.reasoning is None or not capabilities.missing(("reasoning",), deployment.capabilities):
        return conversation
    unsaid = () if conversation.reasoning.effort == "none" else ("reasoning",)
    return msgspec.structs.replace(conversation, reasoning=None, unsaid=(*conversation.unsaid, *unsaid))


class MediaExchange:
    """The same for what is no chat, where the provider's own protocol makes it: whole answers only."""

    def __init__(self, call: Call, deployment: Deployment, codec: MediaProviderCodec) -> None:
        self._asked = call.asked
        self._model = deployment.target.model
        self._codec = codec

    def path(self) -> str:
        return self._codec.path(self._model, stream=False)

    def headers(self) -> dict[str, str]:
        return {}

    def body(self) -> bytes:
        """Raises AttemptFailed, for every stream too."""
        try:
            return self._codec.write_request(self._asked, model=self._model)
        except BadRequest as error:
            raise AttemptFailed("untranslatable", error.message, param=error.param) from error

    def whole(self, body: bytes, *, content_type: str) -> Whole:
        """Raises AttemptFailed."""
        made = self._codec.read_made(body, request=self._asked)
        return Whole(made.body, made.reply, made.content_type)

    def reader(self) -> Reader:
        raise AttemptFailed("untranslatable", "This model's provider gives whole answers only, no stream.")


def exchange_of(call: Call, deployment: Deployment) -> Exchange | MediaExchange:
    spoken = deployment.protocol_for(call.asked)
    media = registry.MEDIA.get(spoken)
    return Exchange(call, deployment) if media is None else MediaExchange(call, deployment, media)
