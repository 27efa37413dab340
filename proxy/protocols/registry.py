"""The codecs by name. To add one: a module with the functions of `protocols.base`, and a line here for each side it has."""

from collections.abc import Iterable

from proxy.protocols import (
    chat_completions,
    converse,
    embeddings,
    gemini,
    gemini_embeddings,
    gemini_image_edits,
    gemini_images,
    gemini_speech,
    image_edits,
    images,
    messages,
    mistral_speech,
    responses,
    speech,
    titan_embeddings,
    transcriptions,
    translations,
    veo_videos,
    videos,
    xai_videos,
)
from proxy.protocols.base import (
    CallerCodec,
    ChatCallerCodec,
    ChatProviderCodec,
    MediaProviderCodec,
    PassThroughCodec,
    ProviderCodec,
    VideoProviderCodec,
)

CALLERS: dict[str, CallerCodec] = {
    chat_completions.NAME: chat_completions,
    embeddings.NAME: embeddings,
    image_edits.NAME: image_edits,
    images.NAME: images,
    messages.NAME: messages,
    responses.NAME: responses,
    speech.NAME: speech,
    transcriptions.NAME: transcriptions,
    translations.NAME: translations,
    videos.NAME: videos,
}
# Spoken on both sides.
PASS_THROUGH: dict[str, PassThroughCodec] = {
    chat_completions.NAME: chat_completions,
    embeddings.NAME: embeddings,
    image_edits.NAME: image_edits,
    images.NAME: images,
    messages.NAME: messages,
    responses.NAME: responses,
    speech.NAME: speech,
    transcriptions.NAME: transcriptions,
    translations.NAME: translations,
    videos.NAME: videos,
}
# Those between which calls and answers are translated.
CHAT_CALLERS: dict[str, ChatCallerCodec] = {
    chat_completions.NAME: chat_completions,
    messages.NAME: messages,
    responses.NAME: responses,
}
CHAT_PROVIDERS: dict[str, ChatProviderCodec] = {
    chat_completions.NAME: chat_completions,
    messages.NAME: messages,
    responses.NAME: responses,
    converse.NAME: converse,
    gemini.NAME: gemini,
}
# In which protocols callers ask models of a kind (proxy.models.Model.Kind).
KINDS: dict[str, tuple[str, ...]] = {
    "chat": tuple(CHAT_CALLERS),
    "embedding": (embeddings.NAME,),
    "image": (images.NAME, image_edits.NAME),
    "speech": (speech.NAME,),
    "transcription": (transcriptions.NAME, translations.NAME),
    "video": (videos.NAME,),
}
PROVIDERS: dict[str, ProviderCodec] = {**PASS_THROUGH, **CHAT_PROVIDERS}
# Of providers only, for what is no chat.
VIDEOS: dict[str, VideoProviderCodec] = {veo_videos.NAME: veo_videos, xai_videos.NAME: xai_videos}
MEDIA: dict[str, MediaProviderCodec] = {
    gemini_embeddings.NAME: gemini_embeddings,
    gemini_image_edits.NAME: gemini_image_edits,
    gemini_images.NAME: gemini_images,
    gemini_speech.NAME: gemini_speech,
    mistral_speech.NAME: mistral_speech,
    titan_embeddings.NAME: titan_embeddings,
    **VIDEOS,
}


def media_for(protocol: str, *, spoken: Iterable[str]) -> str | None:
    """Which of the protocols that a provider speaks takes a caller's calls that are no chat."""
    return next((name for name in spoken if name in MEDIA and protocol == MEDIA[name].SERVES), None)
