"""An official Python MCP client that knows nothing of OAuth: it calls one tool through the proxy."""

import asyncio
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def main(url: str) -> None:
    async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        tools = await session.list_tools()
        answer = await session.call_tool("add", {"a": 2, "b": 3})
        print("tools:", ", ".join(tool.name for tool in tools.tools))
        print("add:", answer.content[0].text)


asyncio.run(main(sys.argv[1]))
