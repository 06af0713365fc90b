"""The official Python client of MCP. Reads one JSON document, does what it says, and prints one.

in:  {"alone": {name: {"command": ..., "args": [...], "env": {...}}}, "url": ..., "calls": [[tool, arguments], ...]}
out: {"alone": {name: [tool, ...]}, "server": ..., "tools": [tool, ...], "answers": [{"is_error": ..., "text": ...}, ...]}

`alone` are servers that it speaks to on stdio, without anything of ours in between.
"""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters

LIMIT_S = 240


async def tools_of(client):
    names, cursor = [], None
    while True:
        page = await client.list_tools(cursor=cursor)
        names += [tool.name for tool in page.tools]
        cursor = page.next_cursor
        if cursor is None:
            return names


async def alone(server):
    # "legacy" is the handshake by `initialize`, which is what all of these servers speak.
    async with Client(StdioServerParameters(**server), mode="legacy") as client:
        return await tools_of(client)


async def answer(client, tool, arguments):
    result = await client.call_tool(tool, arguments)
    text = "\n".join(part.text for part in result.content if part.type == "text")
    return {"is_error": bool(result.is_error), "text": text}


async def main(task):
    done = {"alone": {name: await alone(server) for name, server in task["alone"].items()}}
    async with Client(task["url"], mode="legacy") as client:
        done["server"] = client.server_info.name
        done["tools"] = await tools_of(client)
        done["answers"] = [await answer(client, tool, arguments) for tool, arguments in task["calls"]]
    return done


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        asked = json.load(file)
    print(json.dumps(asyncio.run(asyncio.wait_for(main(asked), LIMIT_S))))
