"""One line a seed: what a racy program printed and the hash of its trace.

Two Pythons, two days, two loads must print the same; `.ci/run` compares:

    python -m support.seeds PROGRAM COUNT
"""

from __future__ import annotations

import asyncio
import hashlib
import sys


async def main(program: str, count: int) -> None:
    """Print `SEED OUTPUT-HASH TRACE-HASH` for each seed below `count`."""
    from uvm_async import Machine

    for seed in range(count):
        async with Machine(root="/", cpus=2, memory="256M", clock="virtual", seed=seed) as m:
            result = await m.run([program], env={}, cwd="/")
            digest = hashlib.sha256(result.stdout + result.stderr).hexdigest()
            print(seed, digest, m.trace_hash)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
