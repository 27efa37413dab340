"""What a model can do beyond text, as words. The catalogue declares them, routing and pages read them.

A model of which nothing is declared may do everything or nothing: nobody knows, and nobody guesses.
"""

from __future__ import annotations

from collections.abc import Collection

# The word in files and answers, and what people read. In the order in which they are shown.
CAPABILITIES = {
    "streaming": "Streaming",
    "tools": "Tools",
    "parallel_tools": "Parallel tools",
    "structured_output": "Structured output",
    "reasoning": "Reasoning",
    "vision": "Vision",
    "files": "Files",
    "audio_input": "Audio input",
    "audio_output": "Audio output",
    "image_output": "Image output",
    "video_input": "Video input",
    "prompt_cache": "Prompt cache",
    "web_search": "Web search",
    "computer_use": "Computer use",
}


def missing(needs: Collection[str], model: Collection[str]) -> list[str]:
    """What a request needs and a model has not; nothing where nothing is declared of the model."""
    return in_order([word for word in needs if word not in model]) if model else []


def in_words(words: Collection[str]) -> str:
    return ", ".join(words).replace("_", " ")


def in_order(words: Collection[str]) -> list[str]:
    return [word for word in CAPABILITIES if word in words]
