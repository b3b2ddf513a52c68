"""Nodes of the package kademlia, driven line by line: a JSON object comes in, and one goes out with the same "call".

Values travel as [type, text]: bytes and str as hexadecimal (of UTF-8), int and float as Python writes them.
"""

import asyncio
import json
import logging
import sys

from kademlia.network import Server

logging.disable(logging.CRITICAL)
sys.setswitchinterval(0.001)
NODES = {}


def from_json(value):
    kind, text = value
    return {
        "int": int,
        "float": float,
        "bool": lambda text: text == "True",
        "str": lambda text: bytes.fromhex(text).decode(),
        "bytes": bytes.fromhex,
    }[kind](text)


def to_json(value):
    if value is None:
        return None
    text = {"str": lambda: value.encode().hex(), "bytes": lambda: value.hex()}
    kind = type(value).__name__
    return [kind, text.get(kind, lambda: repr(value))()]


async def start(node, ksize, id=None):
    server = Server(ksize=ksize, node_id=bytes.fromhex(id) if id else None)
    await server.listen(0, interface="127.0.0.1")
    NODES[node] = server
    return {"port": server.transport.get_extra_info("sockname")[1], "id": server.node.id.hex()}


async def bootstrap(node, ports):
    return len(await NODES[node].bootstrap([("127.0.0.1", port) for port in ports]))


async def set_value(node, key, value):
    return await NODES[node].set(key, from_json(value))


async def get_value(node, key):
    return to_json(await NODES[node].get(key))


async def held(node, key):
    """What the node itself has, by the digest of the key."""
    return to_json(NODES[node].storage.get(bytes.fromhex(key)))


async def kill(node):
    """From one moment to the next, and without a word to anybody."""
    NODES.pop(node).stop()


async def ping(node, port):
    return (await NODES[node].protocol.ping(("127.0.0.1", port), NODES[node].node.id))[1].hex()


async def stun(node, port):
    return (await NODES[node].protocol.stun(("127.0.0.1", port)))[1]


CALLS = {call.__name__: call for call in (start, bootstrap, set_value, get_value, held, kill, ping, stun)}


async def answer(line):
    request = json.loads(line)
    call = request.pop("call")
    try:
        reply = {"call": call, "result": await CALLS[request.pop("do")](**request)}
    except Exception as error:  # Told to whoever asked.
        reply = {"call": call, "error": repr(error)}
    print(json.dumps(reply), flush=True)


async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = set()
    while line := await reader.readline():
        task = asyncio.ensure_future(answer(line))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())
