"""The wire protocols by name. To add one: a module with the functions of `chat_completions`, and one line here."""

from types import ModuleType

from proxy.protocols import chat_completions

PROTOCOLS: dict[str, ModuleType] = {
    chat_completions.NAME: chat_completions,
}
