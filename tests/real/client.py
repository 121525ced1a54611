"""An official Python MCP client that knows nothing of OAuth: it calls one tool through everfresh,
over `http URL`, `sse URL` or `stdio COMMAND...`."""

import asyncio
import os
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client


def transport(kind: str, words: list[str]):
    if kind == "http":
        return streamablehttp_client(words[0])
    if kind == "sse":
        return sse_client(words[0])
    return stdio_client(StdioServerParameters(command=words[0], args=words[1:], env=dict(os.environ)))


async def main(kind: str, words: list[str]) -> None:
    async with transport(kind, words) as (read, write, *_), ClientSession(read, write) as session:
        await session.initialize()
        tools = await session.list_tools()
        answer = await session.call_tool("add", {"a": 2, "b": 3})
        print("tools:", ", ".join(tool.name for tool in tools.tools))
        print("add:", answer.content[0].text)


asyncio.run(main(sys.argv[1], sys.argv[2:]))
