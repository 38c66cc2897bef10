"""A session: what it saves of an execution is what that execution was."""

from __future__ import annotations

from pathlib import Path

import pytest

from race.corpus import build, program_named
from uvm_async.race.engine import Target
from uvm_async.race.explore import replay
from uvm_async.race.session import Session

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine]

FIRST_EXECUTIONS = 6


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
