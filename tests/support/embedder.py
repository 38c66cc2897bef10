"""A program that embeds a machine, to be killed and cancelled by tests.

    python embedder.py WAY OPTIONS-AS-JSON PROGRAM...

It prints `ready` once PROGRAM has printed its first line, then behaves as WAY says.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from typing import Any


def say(text: str) -> None:
    print(text, flush=True)


async def started(machine: Any, program: list[str]) -> Any:
    """PROGRAM running in `machine`, its first line read."""
    process = await machine.create_subprocess_exec(
        *program, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    await process.stdout.readline()
    return process


async def waits(options: dict[str, Any], program: list[str]) -> None:
    """Wait for the program, print how it ended."""
    from uvm_async import Machine

    async with Machine(**options) as m:
        process = await started(m, program)
        say("ready")
        rest = await process.stdout.read()
        say(f"{rest.decode()}status {await process.wait()}")


async def forks(options: dict[str, Any], program: list[str]) -> None:
    """Leave a forked child of one's own that outlives everything and closes nothing of ours."""
    from uvm_async import Machine

    async with Machine(**options) as m:
        process = await started(m, program)
        child = os.fork()
        if child == 0:
            os.close(1)  # asyncio's Process.wait() waits until the pipe is closed, too
            time.sleep(120)
            os._exit(0)
        say(f"ready {child}")
        await process.wait()


def ends_its_loop_thread(options: dict[str, Any], program: list[str]) -> None:
    """The loop's thread ends with the machine open; the main thread goes on."""
    from uvm_async import Machine

    kept: list[Any] = []

    async def start() -> None:
        m = Machine(**options)
        await m.__aenter__()
        kept.append((m, await started(m, program)))
        say("started")

    def thread() -> None:
        loop = asyncio.new_event_loop()
        kept.append(loop)
        loop.run_until_complete(start())
        time.sleep(0.5)

    runner = threading.Thread(target=thread)
    runner.start()
    runner.join()
    say("ready")
    sys.stdin.read()


def main() -> None:
    way, options, program = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
    loop = options.pop("loop")
    if way == "ends_its_loop_thread":
        ends_its_loop_thread(options, program)
        return
    factory: Any = asyncio.new_event_loop
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run({"waits": waits, "forks": forks}[way](options, program))


if __name__ == "__main__":
    main()
