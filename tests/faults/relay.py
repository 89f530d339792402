"""`python -m tests.faults.relay PORT=/path/to/socket …`: let other hosts reach servers' sockets.

Runs in the network of the site's own host and listens on all of its addresses.
"""

import asyncio
import sys
from contextlib import suppress


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(port: int, path: str) -> None:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, back = await asyncio.open_unix_connection(path)
            await asyncio.gather(_pump(reader, back), _pump(there, writer))

    server = await asyncio.start_server(connect, "0.0.0.0", port)
    await server.serve_forever()


async def _main() -> None:
    pairs = [each.split("=", 1) for each in sys.argv[1:]]
    await asyncio.gather(*(_serve(int(port), path) for port, path in pairs))


if __name__ == "__main__":
    asyncio.run(_main())
