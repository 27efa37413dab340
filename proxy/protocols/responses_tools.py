"""Tools of Responses in the words of other protocols, which know functions only, each by one name.

A tool without a schema (`custom`) becomes a function of one text. Those of a namespace are functions whose name begins
with it; what the model calls is told to the caller by namespace and name again. Source: openai-python 3.52 types
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw

from proxy.canonical.conversation import Tool
from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols.bodies import NULL

CUSTOM_PARAMETERS = Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}'
)
BETWEEN = "__"


class ToolFormat(msgspec.Struct, forbid_unknown_fields=True):
    definition: str | None = None
    syntax: str | None = None
    type: Raw = NULL


class ToolMember(msgspec.Struct, forbid_unknown_fields=True):
    """One of `tools`; a namespace has tools of its own. In a choice of tools `namespace` says where one belongs."""

    type: str = ""
    name: str | None = None
    namespace: str | None = None
    description: str | None = None
    parameters: Raw = NULL
    strict: bool | None = None
    format: ToolFormat | None = None
    output_schema: Any = None
    defer_loading: Any = None
    allowed_callers: Any = None
    tools: list["ToolMember"] = []


class _CustomInput(msgspec.Struct):
    input: str


class _Tool(msgspec.Struct):
    type: str = ""
    name: str | None = None
    tools: list["_Tool"] = []


class _Declared(msgspec.Struct):
    tools: list[_Tool] | None = None


class Names(msgspec.Struct, frozen=True):
    """How the caller names what the model calls: `custom` are tools without a schema, `spaced` those of namespaces."""

    custom: frozenset[str] = frozenset()
    spaced: dict[str, tuple[str, str]] = {}

    def members(self, name: str) -> dict[str, Any]:
        """The members of an item that say which tool was called."""
        if name not in self.spaced:
            return {"name": name}
        namespace, own = self.spaced[name]
        return {"name": own, "namespace": namespace}


NO_TOOLS = Names()


def joined(namespace: str | None, name: str) -> str:
    return f"{namespace}{BETWEEN}{name}" if namespace else name


def functions(members: list[ToolMember]) -> tuple[Tool, ...]:
    """Raises BadRequest for OpenAI's own tools, with the path of the first as `param`."""
    return tuple(tool for at, member in enumerate(members) for tool in _functions(member, f"tools[{at}]", None))


def _functions(member: ToolMember, path: str, namespace: str | None) -> Iterator[Tool]:
    if member.type == "namespace" and namespace is None:
        for at, inner in enumerate(member.tools):
            yield from _functions(inner, f"{path}.tools[{at}]", _named(member, path))
        return
    if member.type not in ("function", "custom"):
        raise BadRequest(
            f"The tool {member.type[:60]!r} is OpenAI's own; this model's provider is another, which takes functions only.",
            param=f"{path}.type",
        )
    name = joined(namespace, _named(member, path))
    if member.type == "custom":
        yield Tool(name, _described(member), CUSTOM_PARAMETERS)
    else:
        yield Tool(name, member.description, None if member.parameters == NULL else member.parameters, member.strict)


def _named(member: ToolMember, path: str) -> str:
    if not member.name:
        raise BadRequest(f"`{path}.name` is missing.", param=f"{path}.name")
    return member.name


def _described(tool: ToolMember) -> str | None:
    """With the grammar that its input must follow: nobody enforces it there, so the model is told."""
    form = tool.format or ToolFormat()
    if not form.definition:
        return tool.description
    rule = f"`input` must follow this {form.syntax or ''} grammar:\n{form.definition}"
    return f"{tool.description}\n\n{rule}" if tool.description else rule


def names(request: Request) -> Names:
    """Of the tools that the caller declared. What cannot be read has been refused before."""
    raw = bytes(request.fields.get("tools", NULL))
    if b'"custom"' not in raw and b'"namespace"' not in raw:
        return NO_TOOLS
    declared = msgspec.json.decode(b'{"tools":' + raw + b"}", type=_Declared).tools or []
    tools = [("", tool) for tool in declared if tool.type != "namespace"]
    tools += [(space.name or "", tool) for space in declared if space.type == "namespace" for tool in space.tools]
    return Names(
        custom=frozenset(joined(space, tool.name) for space, tool in tools if tool.type == "custom" and tool.name),
        spaced={joined(space, tool.name): (space, tool.name) for space, tool in tools if space and tool.name},
    )


def custom_arguments(text: str) -> str:
    return msgspec.json.encode(_CustomInput(text)).decode()


def custom_input(arguments: str) -> str:
    """The text that a call of such a tool holds; as it is where it holds something else."""
    try:
        return msgspec.json.decode(arguments, type=_CustomInput).input
    except msgspec.DecodeError:
        return arguments
