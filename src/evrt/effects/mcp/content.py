"""What a tool of an MCP server returns, as JSON: text as text, structured content as it is, bytes as blobs."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any

from evrt.effects.mcp.connection import McpToolFailed
from evrt.events import JsonObject, JsonValue
from evrt.log.blobs import Blobs

if TYPE_CHECKING:
    from mcp.types import CallToolResult

TEXT_CHARACTERS_MAX = 200_000
"""More text than this goes into a blob, and its beginning into the result."""
BEGINNING_CHARACTERS = 2_000


async def result_of(returned: CallToolResult, blobs: Blobs) -> JsonValue:
    """The result; raises McpToolFailed where the tool says that it failed.

    Text alone is a text. Structured content is itself, where nothing but its text stands beside it. Otherwise an object of
    ``content``, a list of what came, and ``structured`` where there is that; images, audio and files are blobs there.
    """
    content = [await _block(block, blobs) for block in returned.content]
    texts = [str(block["text"]) for block in content if block.keys() == {"type", "text"}]
    if returned.is_error:
        raise McpToolFailed("\n".join(texts) or "The tool failed, and did not say why.")
    structured: JsonValue = returned.structured_content
    if len(texts) == len(content):
        return "\n".join(texts) if structured is None else structured
    whole: JsonObject = {"content": content}
    return whole if structured is None else {**whole, "structured": structured}


async def _block(block: Any, blobs: Blobs) -> JsonObject:
    match block.type:
        case "text":
            return await _text(block.text, blobs)
        case "image" | "audio":
            return {"type": block.type, **await _blob(block.data, block.mime_type, blobs)}
        case "resource":
            inner = block.resource
            where: JsonObject = {"type": "resource", "uri": str(inner.uri)}
            text = getattr(inner, "text", None)
            if text is not None:
                return {**where, "text": (await _text(text, blobs))["text"]}
            return {**where, **await _blob(inner.blob, inner.mime_type, blobs)}
        case "resource_link":
            return {"type": "link", "uri": str(block.uri), "name": block.name}
        case other:
            raise McpToolFailed(f"The tool returned content of a kind that is not known here: {other!r:.80}.")


async def _text(text: str, blobs: Blobs) -> JsonObject:
    if len(text) <= TEXT_CHARACTERS_MAX:
        return {"type": "text", "text": text}
    blob = await blobs.write(text.encode(), media_type="text/plain; charset=utf-8")
    return {"type": "text", "text": f"{text[:BEGINNING_CHARACTERS]}…", "whole": blob.model_dump()}


async def _blob(data: str, media_type: str | None, blobs: Blobs) -> JsonObject:
    blob = await blobs.write(b64decode(data), media_type=media_type)
    return {"blob": blob.model_dump()}
