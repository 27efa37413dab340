"""Members by which vendors are asked to search themselves, beside `tools`: what is found becomes prompt.

They pass to the provider as they are; whichever it heeds has to be held for. What is turned off asks for nothing.
Source: https://openrouter.ai/docs/guides/features/plugins (`web`, `enabled`), https://docs.x.ai/docs/guides/live-search
(`mode`: `auto` unless said), https://help.aliyun.com/zh/model-studio/web-search (`enable_search`), Baidu's
`web_search`
"""

from msgspec import Raw

from proxy.protocols.bodies import NULL, decoded

MEMBERS = ("plugins", "search_parameters", "enable_search", "web_search")
_SWITCHES = ("enabled", "enable")


def number(fields: dict[str, Raw]) -> int:
    """How many of them ask for a search."""
    given = {name: decoded(fields[name]) for name in MEMBERS if fields.get(name, NULL) != NULL}
    return sum(_asks(name, value) for name, value in given.items()) if given else 0


def _asks(name: str, value: object) -> bool:
    if name == "plugins":
        return isinstance(value, list) and any(_is_web(plugin) for plugin in value)
    if isinstance(value, dict):
        off = any(value.get(switch) is False for switch in _SWITCHES)
        return not off and value.get("mode") != "off"
    return bool(value)


def _is_web(plugin: object) -> bool:
    """`web` and what is called after it (`web-fetch`)."""
    return isinstance(plugin, dict) and str(plugin.get("id")).startswith("web") and plugin.get("enabled") is not False
