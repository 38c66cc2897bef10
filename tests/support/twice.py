"""Running one program twice, on the host and under a machine, and comparing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.options import MachineOptions
from support.oracle import ENVIRONMENT, Outcome, empty_directory, run_on_host

__all__ = ["Twice"]


class Twice:
    """Runs a program on the host and under a machine, each in an empty working directory."""

    def __init__(self, options: MachineOptions, scratch: Path) -> None:
        self.options = options
        self.scratch = scratch

    async def in_machine(
        self,
        arguments: Sequence[str | Path],
        *,
        input: bytes = b"",
        env: Mapping[str, str] = ENVIRONMENT,
        **machine: Any,
    ) -> Outcome:
        """The outcome in a fresh machine; `machine` changes its options."""
        from uvm_async import Machine

        empty_directory(self.scratch)
        async with Machine(**self.options.kwargs(**machine)) as m:
            result = await m.run(
                [str(a) for a in arguments], input=input, env=dict(env), cwd=str(self.scratch)
            )
        return Outcome.of(result)

    def on_host(
        self,
        arguments: Sequence[str | Path],
        *,
        input: bytes = b"",
        env: Mapping[str, str] = ENVIRONMENT,
    ) -> Outcome:
        """The outcome on the host."""
        empty_directory(self.scratch)
        return run_on_host(arguments, input=input, env=env, cwd=self.scratch)

    async def agree(
        self,
        arguments: Sequence[str | Path],
        *,
        input: bytes = b"",
        env: Mapping[str, str] = ENVIRONMENT,
        edit: Callable[[Outcome], Outcome] = lambda outcome: outcome,
        **machine: Any,
    ) -> Outcome:
        """Assert that both print the same and end the same; `edit` takes out what may differ."""
        expected = edit(await asyncio.to_thread(self.on_host, arguments, input=input, env=env))
        got = edit(await self.in_machine(arguments, input=input, env=env, **machine))
        assert got.lines() == expected.lines()
        assert got == expected
        return got
