"""Strategies: that they find bugs, keep their bounds, end, repeat themselves, and lease exactly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from race.simulator import (
    Execution,
    Exploration,
    Program,
    branching,
    busy_waiter,
    check_then_act,
    counters,
    depth_three,
    every_execution,
    locked_update,
    lost_update,
    runs_before,
    two_locks,
    waiter,
)
from uvm_async.errors import UsageError
from uvm_async.race.model import Event, Kind, Point, Profile, Result, Schedule
from uvm_async.race.strategies import (
    DelayBounded,
    Mix,
    Pct,
    PreemptionBounded,
    RandomWalk,
    Replay,
    Strategy,
    Surw,
    make_strategy,
    strategy_names,
)
from uvm_async.race.strategies.handovers import Handovers

ALL = [
    "random",
    "random:switch=0.2",
    "pct:depth=3",
    "pos",
    "surw",
    "rff",
    "delay:bound=3",
    "preemption:bound=2",
    "mix",
]
WRONG: dict[str, Callable[[], Program]] = {
    "lost update": lost_update,
    "check then act": check_then_act,
    "AB-BA deadlock": two_locks,
    "depth three": depth_three,
}
RIGHT: dict[str, Callable[[], Program]] = {
    "locked update": locked_update,
    "polling": waiter,
    "polling that counts": busy_waiter,
}


# -- names and options ---------------------------------------------------------------------------


class Mine(Strategy):
    """A user's own."""

    def __init__(self, seed: int, *, times: int = 1, label: str = "", rate: float = 0.5) -> None:
        super().__init__(seed)
        self.told = (times, label, rate)


def test_every_promised_strategy_has_a_name() -> None:
    assert strategy_names() == [
        "delay", "mix", "pct", "pos", "preemption", "random", "rff", "surw",
    ]  # fmt: skip
    for name in strategy_names():
        made = make_strategy(name, 7)
        assert (made.name, made.seed, made.finished) == (name, 7, False)


def test_options_are_read_as_the_types_the_constructor_declares() -> None:
    pct, walk = make_strategy("pct:depth=5", 0), make_strategy("random:switch=0.1", 0)
    assert isinstance(pct, Pct) and pct.depth == 5
    assert isinstance(walk, RandomWalk) and walk.switch == 0.1
    mine = make_strategy(f"{__name__}:Mine:times=3,label=a b,rate=2", 0)
    assert isinstance(mine, Mine) and mine.told == (3, "a b", 2.0)


@pytest.mark.parametrize(
    ("spelling", "says"),
    [
        ("pctt", "choose one of"),
        ("", "choose one of"),
        ("pct:3", "depth=<int>"),
        ("pct:width=3", "depth=<int>"),
        ("pct:depth=deep", "must be <int>"),
        ("pct:depth=0", "1 or more"),
        ("pos:depth=3", "its options: none"),
        ("random:switch=2", "probability"),
        ("preemption:bound=-1", "0 or more"),
        ("surw:objects=-1", "0 or more"),
        ("mix:of=pos+mix", "arm of itself"),
        ("mix:of=pos+pcct", "unknown strategy 'pcct'"),
        ("mix:of=0*pos", "no weight above 0"),
        ("mix:of=x*pos+rff", "no weight above 0"),
        ("no.such.module:Class", "cannot import 'no.such.module'"),
        ("random.nowhere:Class", "cannot import"),
        (f"{__name__}:Nobody", "is not a strategy"),
        (f"{__name__}:Event", "is not a strategy"),
    ],
)
def test_a_wrong_name_or_option_is_one_line_that_says_what_to_do(spelling: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_strategy(spelling, 0)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# -- they find what there is, and nothing else ---------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("bug", WRONG)
@pytest.mark.parametrize("name", ALL)
def test_every_strategy_finds_every_bug(name: str, bug: str, seed: int) -> None:
    exploration = Exploration(WRONG[bug](), make_strategy(name, seed))
    assert exploration.first_failure(1000) is not None


@pytest.mark.parametrize("twin", RIGHT)
@pytest.mark.parametrize("name", ALL)
def test_no_strategy_accuses_a_correct_program(name: str, twin: str) -> None:
    patience = ",patience=100" if name.startswith(("delay", "preemption")) else ""
    exploration = Exploration(RIGHT[twin](), make_strategy(name + patience, 1))
    assert exploration.first_failure(60) is None


# -- determinism ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_explores_the_same(name: str) -> None:
    runs = [Exploration(depth_three(), make_strategy(name, 5)).sequences(60) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", [n for n in ALL if n.split(":")[0] not in ("delay", "preemption")])
def test_another_seed_explores_differently(name: str) -> None:
    runs = [Exploration(depth_three(), make_strategy(name, s)).sequences(60) for s in (5, 6)]
    assert runs[0] != runs[1]


# -- leases --------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [*WRONG.values(), waiter, busy_waiter, branching])
@pytest.mark.parametrize(
    "name",
    [*ALL, "pct:depth=1", "pct:depth=6", "delay:bound=0", "delay:bound=1", "preemption:bound=1",
     "preemption:patience=20", "delay:patience=20,bound=1"],
)  # fmt: skip
def test_leases_change_nothing_that_a_strategy_does(
    name: str, program: Callable[[], Program]
) -> None:
    """Equal by definition: what a lease covers, the strategy would have answered."""
    if name.startswith(("delay", "preemption")) and "patience" not in name:
        name += ",patience=50"  # less than the simulator's limit of steps
    with_leases = Exploration(program(), make_strategy(name, 3), leases=True)
    without = Exploration(program(), make_strategy(name, 3), leases=False)
    assert with_leases.sequences(80) == without.sequences(80)
    assert with_leases.strategy.claim() == without.strategy.claim()


@pytest.mark.parametrize("name", ["pct:depth=3", "preemption:bound=2", "delay:bound=2"])
def test_leases_spare_most_questions(name: str) -> None:
    exploration = Exploration(counters(40, 40), make_strategy(name, 3))
    asked = steps = 0
    for _ in range(300):
        steps += exploration.once().steps
        assert exploration.last is not None
        asked += exploration.last.asked
    assert asked < steps / 3


@pytest.mark.parametrize("switch", [None, 0.3])
def test_leases_leave_the_random_walk_its_chances(switch: float | None) -> None:
    """Each schedule is as likely as the product over its points, where tasks come and go too."""
    executions = 4000
    counts = spread(RandomWalk(11, switch=switch), lost_update(), executions)
    for execution in every_execution(lost_update()):
        chance = 1.0
        for current, enabled, chosen in execution.trace:
            others = len(enabled) - 1
            if switch is None or current is None or not others:
                chance /= len(enabled)
            else:
                chance *= 1 - switch if chosen == current else switch / others
        expected = executions * chance
        assert abs(counts[execution.sequence] - expected) <= 5 * expected**0.5 + 3


# -- PCT -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "depth", "tasks"),
    [(runs_before, 1, 2), (lost_update, 2, 3), (check_then_act, 2, 3), (depth_three, 3, 3)],
)
def test_pct_keeps_its_promised_probability(
    program: Callable[[], Program], depth: int, tasks: int
) -> None:
    exploration = Exploration(program(), Pct(17, depth=depth))
    for _ in range(5):
        exploration.once()
    executions = 3000
    found = sum(bool(exploration.once().failure) for _ in range(executions))
    bound = executions / (tasks * exploration.profile.steps ** (depth - 1))
    assert found >= bound - 4 * bound**0.5


def test_pct_of_depth_one_never_preempts_where_no_task_is_born_or_woken() -> None:
    exploration = Exploration(counters(5, 5, 5), Pct(1, depth=1))
    for _ in range(50):
        assert exploration.once().preemptions == 0


# -- POS and SURW --------------------------------------------------------------------------------


def spread(strategy: Strategy, program: Program, executions: int) -> Counter[tuple[int, ...]]:
    return Counter(Exploration(program, strategy).sequences(executions))


def test_surw_over_all_events_is_uniform_over_interleavings() -> None:
    """3 and 5 events (with the start) have 56 interleavings; chi-square at 55 degrees, 1e-4."""
    executions = 5600
    program = counters(2, 4)
    assert sum(1 for _ in every_execution(program)) == 56
    counts = spread(Surw(1, objects=0), program, executions)
    expected = executions / 56
    chi_square = sum((n - expected) ** 2 / expected for n in counts.values())
    assert len(counts) == 56
    assert chi_square < 101
    walk = spread(RandomWalk(1), program, executions)
    assert max(walk.values()) > 2 * expected


def test_surw_counts_children_with_their_parents() -> None:
    """Uniform also where tasks are born on the way: a child's events wait in its parent."""

    def program() -> Program:
        from race.simulator import X, add, spawn

        def child():  # type: ignore[no-untyped-def]
            for _ in range(2):
                yield add(X, 1)

        def parent():  # type: ignore[no-untyped-def]
            yield spawn(child)
            yield add(X, 1)

        def other():  # type: ignore[no-untyped-def]
            yield add(X, 1)

        return Program((parent, other))

    kinds = sum(1 for _ in every_execution(program()))
    executions = kinds * 40
    strategy = Surw(5, objects=0)
    exploration = Exploration(program(), strategy)
    for _ in range(20):
        exploration.once()
    counts = Counter(exploration.sequences(executions))
    assert len(counts) == kinds
    # Where the parent goes on beside its child the paper, too, is uniform.
    expected = executions / kinds
    chi_square = sum((n - expected) ** 2 / expected for n in counts.values())
    assert chi_square < kinds + 5 * (2 * kinds) ** 0.5


def test_surw_is_uniform_over_the_object_that_it_has_drawn() -> None:
    """Two words: however long tasks are busy with one, orders on the other are equally likely."""
    from race.simulator import X, Y, add

    def noisy():  # type: ignore[no-untyped-def]
        for _ in range(12):
            yield add(Y, 1)
        yield add(X, 1)
        yield add(X, 1)

    def quick():  # type: ignore[no-untyped-def]
        yield add(Y, 1)
        yield add(X, 1)
        yield add(X, 1)

    exploration = Exploration(Program((noisy, quick)), Surw(3))
    exploration.once()
    orders: Counter[tuple[int, ...]] = Counter()
    for _ in range(2400):
        exploration.once()
        assert exploration.last is not None
        assert isinstance(exploration.strategy, Surw)
        if exploration.strategy._interesting == [X]:
            events = exploration.last.events
            orders[tuple(e.task for e in events if e.is_access and e.addr == X * 8)] += 1
    total = sum(orders.values())
    assert 1000 < total < 1400
    assert len(orders) == 6
    assert sum((n - total / 6) ** 2 / (total / 6) for n in orders.values()) < 26


def test_pos_forgets_the_priority_of_an_event_that_lost_a_race() -> None:
    """One against a row of n conflicting events: shuffled, not ground down.

    A priority kept through conflicts would let the lone event be last once in 7 times; drawn
    again after each, it is last once in 2^6. (Counted where both had started before they raced.)
    """
    counts = spread(make_strategy("pos", 1), counters(1, 6), 4000)
    raced = {sequence: n for sequence, n in counts.items() if 0 in sequence[:2]}
    last = sum(n for sequence, n in raced.items() if sequence[-1] == 0)
    assert sum(raced.values()) > 1000
    assert last / sum(raced.values()) < 0.04


# -- RFF -----------------------------------------------------------------------------------------


def test_rff_sees_rare_reads_sooner_than_the_random_walk() -> None:
    """A value that lives for one step among many is read because a constraint asks for it."""
    from race.simulator import X, Y, read, write

    def program() -> Program:
        def writer():  # type: ignore[no-untyped-def]
            for _ in range(15):
                yield write(Y, 1)
            yield write(X, 1)
            yield write(X, 2)

        def reader():  # type: ignore[no-untyped-def]
            yield read(Y)
            assert (yield read(X)) != 1

        return Program((writer, reader))

    def median(name: str) -> int:
        firsts = [
            Exploration(program(), make_strategy(name, seed)).first_failure(3000) or 3000
            for seed in range(9)
        ]
        return sorted(firsts)[4]

    assert median("rff") * 3 < median("random")


def test_draws_are_mostly_among_words_that_hand_values_over() -> None:
    """10 is the stack of tasks that came one after the other, 11 and 12 are not."""
    handovers = Handovers()
    for task in (1, 2):
        handovers.begin()
        handovers.saw(Event(task, Kind.WRITE, 80, 8))
        handovers.saw(Event(task, Kind.READ, 80, 8))
    handovers.saw(Event(1, Kind.WRITE, 80, 16))  # overwritten, not read
    assert handovers.among([10, 11], random.Random(1)) == [10, 11]  # nothing else to draw from
    handovers.saw(Event(2, Kind.UPDATE, 88, 4))
    handovers.saw(Event(1, Kind.WRITE, 96, 8))
    handovers.saw(Event(2, Kind.READ, 96, 8))
    rng = random.Random(1)
    drawn = [tuple(handovers.among([10, 11, 12, 13], rng)) for _ in range(1000)]
    assert Counter(drawn).keys() == {(11, 12), (10, 11, 12, 13)}
    assert 850 < drawn.count((11, 12)) < 950


# -- systematic search ---------------------------------------------------------------------------


def delays_of(execution: Execution) -> int:
    """Delays that a sequence costs, counted from what was enabled."""
    last: int | None = None
    total = 0
    for current, enabled, chosen in execution.trace:
        pivot = current if current is not None else last
        order = sorted(enabled, key=lambda t: (pivot is not None and t < pivot, t))
        total += order.index(chosen)
        last = chosen
    return total


def preemptions_of(execution: Execution) -> int:
    return sum(cur is not None and cur != chosen for cur, _, chosen in execution.trace)


TINY = [lambda: counters(2, 2), lambda: counters(1, 1, 1), branching, lost_update, two_locks]


@pytest.mark.parametrize("bound", [0, 1, 2, 3])
@pytest.mark.parametrize("program", TINY)
@pytest.mark.parametrize(
    ("cls", "cost"), [(PreemptionBounded, preemptions_of), (DelayBounded, delays_of)]
)
def test_systematic_search_makes_exactly_the_schedules_within_its_bound(
    cls: type[PreemptionBounded] | type[DelayBounded],
    cost: Callable[[Execution], int],
    program: Callable[[], Program],
    bound: int,
) -> None:
    everything = list(every_execution(program()))
    within = [{e.sequence for e in everything if cost(e) <= b} for b in range(bound + 1)]
    search = cls(0, bound=bound)
    sequences = Exploration(program(), search).sequences(10**6)
    assert search.finished
    assert set(sequences) == within[bound]
    # Each round makes its schedules once, those of the round before included.
    rounds, at = 0, 0
    while at < len(sequences):
        assert set(sequences[at : at + len(within[rounds])]) == within[rounds]
        at += len(within[rounds])
        rounds += 1
    assert at == len(sequences)
    complete = len(within[bound]) == len(everything)
    if "every schedule with at most" not in search.claim():
        assert complete
        assert search.claim() == "every schedule"


def test_systematic_search_says_when_its_bound_held_nothing_back() -> None:
    search = PreemptionBounded(0, bound=50)
    everything = list(every_execution(branching()))
    sequences = Exploration(branching(), search).sequences(10**6)
    assert search.claim() == "every schedule"
    assert set(sequences) == {e.sequence for e in everything}
    assert len(sequences) < 50 * len(everything)


def test_claim_names_the_bound() -> None:
    search = PreemptionBounded(0, bound=1)
    Exploration(lost_update(), search).sequences(10**6)
    assert search.claim() == "every schedule with at most 1 preemption"
    delay = DelayBounded(0, bound=2)
    Exploration(lost_update(), delay).sequences(10**6)
    assert delay.claim() == "every schedule with at most 2 delays"


def test_cheap_schedules_come_first() -> None:
    exploration = Exploration(depth_three(), PreemptionBounded(0, bound=2))
    costs = []
    while not exploration.strategy.finished:
        costs.append(exploration.once().preemptions)
    assert costs[0] == 0
    assert costs.index(1) < costs.index(2)
    assert all(cost <= 1 for cost in costs[: costs.index(2)])


def test_a_program_that_does_not_repeat_itself_is_named_in_the_claim() -> None:
    exploration = Exploration(counters(4, 2), PreemptionBounded(0, bound=1))
    for number in range(10_000):
        exploration.program = counters(1 if number == 4 else 4, 2)
        exploration.once()
        if exploration.strategy.finished:
            break
    assert exploration.strategy.finished
    assert "by not repeating themselves" in exploration.strategy.claim()


def test_a_poll_that_had_to_give_way_is_named_in_the_claim() -> None:
    exploration = Exploration(busy_waiter(), PreemptionBounded(0, bound=1, patience=30))
    assert exploration.first_failure(10_000) is None
    assert exploration.strategy.finished
    assert exploration.strategy.claim() == (
        "every schedule with at most 1 preemption in which no task passes 30 choice points in a row"
    )


@pytest.mark.parametrize("name", ["preemption", "delay"])
def test_base_scheduler_goes_on_from_whoever_ran_last_though_it_was_not_asked(name: str) -> None:
    """The machine does not ask where only one task can run."""
    strategy = make_strategy(f"{name}:patience=10", 1)

    def choose(step: int, current: int | None, last: int, *enabled: int) -> int:
        pending = {task: Event(task, Kind.CALL, call="futex") for task in enabled}
        return strategy.choose(Point(step, current, enabled, pending, [], last))

    strategy.begin(Profile(1, 40, {1: 20, 2: 20, 3: 20}, 3))
    assert choose(0, None, 0, 1, 2, 3) == 1
    # Then 1 slept, and 2 alone could run.
    assert choose(5, None, 2, 1, 3) == 3
    # 3 slept, 1 ran until it was no longer alone: the points of others are not held against it.
    assert choose(15, 1, 1, 1, 3) == 1
    assert choose(24, 1, 1, 1, 3) == 1
    assert choose(25, 1, 1, 1, 3) == 3


def test_a_finished_search_may_still_be_asked() -> None:
    exploration = Exploration(lost_update(), PreemptionBounded(0, bound=0))
    exploration.sequences(10**6)
    claim = exploration.strategy.claim()
    exploration.once()
    assert exploration.strategy.finished
    assert exploration.strategy.claim() == claim


# -- replay --------------------------------------------------------------------------------------


@pytest.mark.parametrize("leases", [True, False])
@pytest.mark.parametrize("bug", WRONG)
@pytest.mark.parametrize("name", ALL)
def test_replay_reproduces_every_execution(name: str, bug: str, leases: bool) -> None:
    exploration = Exploration(WRONG[bug](), make_strategy(name, 9))
    for _ in range(25):
        result = exploration.once()
        assert exploration.last is not None
        replay = Replay(Schedule.from_json(Schedule(result.switches).to_json()))
        again = Exploration(WRONG[bug](), replay, leases=leases)
        assert again.once().failure == result.failure
        assert again.last is not None
        assert again.last.sequence == exploration.last.sequence
        assert replay.diverged == ""


def test_replay_says_where_a_listed_task_cannot_run() -> None:
    replay = Replay(Schedule({2: 7}))
    Exploration(lost_update(), replay).once()
    assert replay.diverged == "step 2: task 7 cannot run (enabled: 0, 1)"


def test_replay_says_when_the_execution_was_too_short() -> None:
    replay = Replay(Schedule({1: 0, 900: 1}))
    Exploration(lost_update(), replay).once()
    assert replay.diverged == "the execution ended before step 900, where task 1 was to run"
    Exploration(lost_update(), replay).once()
    assert replay.diverged.startswith("the execution ended before step 900")


def test_replay_without_switches_is_the_plain_scheduler() -> None:
    replay = Replay(Schedule({}))
    exploration = Exploration(counters(2, 2), replay)
    assert exploration.once().switches == {}
    assert exploration.last is not None
    assert exploration.last.sequence == (0, 0, 0, 1, 1, 1)


# -- mix -----------------------------------------------------------------------------------------


class Idle(Strategy):
    """Finds nothing, ever."""


class Lazy(Idle):
    """Another."""


class Slow(Idle):
    """A third."""


class Busy(Idle):
    """Shows something new each time."""


def test_mix_tries_every_arm_and_shares_by_what_pays() -> None:
    idle, busy = f"{__name__}:Idle", f"{__name__}:Busy"
    mix = Mix(1, of=f"{idle}+{busy}")
    for number in range(400):
        mix.begin(Profile())
        shown = isinstance(mix._arm.strategy, Busy)
        mix.end(Result(reads_from=frozenset({(number, number)} if shown else ())))
    shares = mix.shares
    assert sum(shares.values()) == 400
    assert shares[busy] > 2 * shares[idle]
    assert shares[idle] >= 400 * 0.25 / (2 * 1.25)


def test_mix_shares_by_weight_what_pays_alike() -> None:
    idle = f"{__name__}:Idle"
    mix = Mix(1, of=f"3*{idle}+{__name__}:Lazy+2*{__name__}:Slow")
    exploration = Exploration(depth_three(), mix)
    for _ in range(600):
        exploration.once()
    assert list(mix.shares.values()) == pytest.approx([300, 100, 200], rel=0.05)


def test_mix_divides_its_budget_among_all_by_default() -> None:
    mix = Mix(1)
    exploration = Exploration(depth_three(), mix)
    for _ in range(200):
        exploration.once()
    assert list(mix.shares) == ["rff", "surw", "pos", "random", "pct:depth=3"]
    assert min(mix.shares.values()) >= 5


def test_mix_is_finished_when_a_systematic_arm_is() -> None:
    mix = Mix(1, of="pos+preemption:bound=1")
    Exploration(lost_update(), mix).sequences(10_000)
    assert mix.finished
    assert mix.claim() == "every schedule with at most 1 preemption"


# -- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in ALL if n != "mix"])
def test_memory_is_bounded_however_much_is_new(name: str) -> None:
    """Each execution has words and instructions that no other had."""
    strategy = make_strategy(name, 1)
    profile = Profile(1, 40, {0: 20, 1: 20}, 2)

    def size() -> int:
        total = 0
        for value in vars(strategy).values():
            if isinstance(value, (dict, list, set, tuple)):
                total += len(value)
                inner = value.values() if isinstance(value, dict) else value
                total += sum(len(v) for v in inner if isinstance(v, (dict, list, set, tuple)))
        return total

    def execution(number: int) -> None:
        strategy.begin(profile)
        executed: list[Event] = []
        left = {0: 20, 1: 20}
        current: int | None = None
        for step in range(40):
            enabled = tuple(task for task in left if left[task])
            pending = {
                t: Event(t, Kind.WRITE if left[t] % 2 else Kind.READ, (number * 40 + left[t]) * 8,
                         8, number * 40 + left[t])
                for t in enabled
            }  # fmt: skip
            if current not in enabled:
                current = None
            current = strategy.choose(Point(step, current, enabled, pending, executed))
            executed = [pending[current]]
            left[current] -= 1
        strategy.end(Result(f"kind {number}", steps=40))

    for number in range(800):
        execution(number)
    before = size()
    for number in range(800, 1100):
        execution(number)
    assert size() <= before * 1.5 + 1000
