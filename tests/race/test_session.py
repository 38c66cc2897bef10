"""A session: what it saves of an execution is what that execution was."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from race.corpus import build, program_named
from race.rig import build_guest
from support.guests import Builder
from uvm_async.race.engine import Choices, Engine, Target
from uvm_async.race.explore import replay
from uvm_async.race.model import Result
from uvm_async.race.session import Session

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine]

FIRST_EXECUTIONS = 6
LOOKED_TWICE = ["all", "listed", "all", "listed"]
"""Modes: profiling, then once more."""


@pytest.mark.parametrize("name", ["condition_variable", "fork_locked", "vector_push"])
async def test_failure_that_is_found_while_shared_words_still_are_replays(
    name: str, tmp_path: Path
) -> None:
    """Such an execution also finds words, which were no choice points in it."""
    program = build(program_named(name), fixed=False, directory=tmp_path)
    for seed in range(3):
        failures = []
        async with Session(Target((str(program),), env={}, cwd="/"), seed=seed) as session:
            for _ in range(FIRST_EXECUTIONS):
                result = await session.next()
                if result.failure:
                    failures.append(session.failure(result, session.schedule_of(result)))
        for failure in failures:
            (replayed,) = await replay(failure)
            assert replayed.failure == failure.why


async def test_looking_at_all_memory_leaves_nothing_watched(
    guests: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every so often one execution looks at all that tasks touch, and the next do not."""
    ran: list[tuple[str, int]] = []
    execute = Engine.execute

    async def noted(engine: Engine, strategy: Choices, *, mode: str, **more: Any) -> Result:
        result = await execute(engine, strategy, mode=mode, **more)
        ran.append((mode, int(engine.machine.area.race.watched)))
        return result

    monkeypatch.setattr(Engine, "execute", noted)
    where = Target((str(build_guest(guests, "prints", "dynamic")),), env={}, cwd="/")
    async with Session(where, seed=1) as session:
        while [mode for mode, _ in itertools.groupby(mode for mode, _ in ran)] != LOOKED_TWICE:
            await session.next()
        assert session.words == 0
    assert all(watched > 0 for mode, watched in ran if mode == "all")
    assert all(watched == 0 for mode, watched in ran if mode == "listed")
