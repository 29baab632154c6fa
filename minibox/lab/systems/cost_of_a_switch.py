# SPDX-License-Identifier: Apache-2.0
"""What it costs that one task stops and another goes on"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from minibox import syscalls as sc
from minibox.lab import Block, Figure, Run, experiment
from minibox.lab.turns import Played, Walk, play, spin

KIB = 1 << 10
LINE = 64
ROUNDS = 1000
SPIN_MS = 40
SIZES = [4 * KIB << k for k in range(13)]
# How many lines a side walks at each size, all rounds together, if those are not too few or many.
WALKED, FEWEST, MOST = 1 << 18, 3, ROUNDS
NOISE = 0.05
WHO = {"with": "threads (VM)", "without": "processes"}

DIRECT = Figure("A switch on one CPU, without the calls that lead to it", "", "µs", bars=True)
KINDS = Figure("Switches of one of two that share a CPU", "", "switches", bars=True)
INDIRECT = Figure(
    "What a switch costs, by the memory that is used between two",
    "working set of each side (bytes)",
    "more time a switch (µs)",
    log="xy",
)
CACHES = Figure(
    "Where the caches end, from one line to another at random and without a switch",
    "working set (bytes)",
    "time a line (ns)",
    log="xy",
)


def expected(memory: str, counted: object) -> dict[str, object]:
    return {
        "memory (kcmp)": memory,
        "both on one CPU": True,
        "turns counted in the parent's word": counted,
    }


@experiment(
    sc.CLONE_VM,
    source="sched(7); getrusage(2), ru_nvcsw; kernel/sched/core.c __schedule, context_switch",
    order=7,
    expected={
        name: {
            **expected(memory, 4 * ROUNDS * (name == "with")),
            "each left the CPU once a round": True,
            "spinners left it against their will": True,
        }
        for name, memory in (("with", "same"), ("without", "another"))
    },
)
def cost_of_a_switch(run: Run) -> None:
    """Two that take turns on one CPU switch in every round, between two processes as between two
    threads; who spins loses the CPU against his will.

    A turn is a byte through a pipe, or a word that a futex guards. From the time of a round that of
    the same calls without a switch is taken off, and half of the rest is one switch. Between
    processes the kernel changes the page tables (switch_mm), between threads of one memory it need
    not. The verdict is about no time.

    Who waits for its turn gives up the CPU by itself: a voluntary switch. It is an involuntary one
    where the other, once woken, takes the CPU at once, and where the time slice of one that only
    spins is over. /proc/PID/status counts both kinds.
    """
    games = {}
    for name in ("pipe", "futex"):
        alone = play(run, ROUNDS, [Walk()], by_pipe=name == "pipe")
        both = play(run, ROUNDS, [Walk(), Walk()], by_pipe=name == "pipe")
        microseconds = (both.nanoseconds - 2 * alone.nanoseconds) / 2000
        run.measured(f"a switch, by {name}", microseconds, "µs")
        run.point(DIRECT, WHO[run.name], name, max(0, microseconds))
        games[f"turns by {name}"] = both
    spun = spin(run, 2, SPIN_MS)
    _saw(run, *games.values())
    run.saw("turns counted in the parent's word", sum(game.counted for game in games.values()))
    run.saw(
        "each left the CPU once a round",
        all(
            one.voluntary + one.involuntary >= ROUNDS
            for game in games.values()
            for one in game.seen
        ),
    )
    run.saw("spinners left it against their will", all(one.involuntary > 0 for one in spun.seen))
    for name, game in (*games.items(), (f"{SPIN_MS} ms of spinning", spun)):
        first = game.seen[0]
        run.point(KINDS, f"voluntary, {WHO[run.name]}", name, first.voluntary)
        run.point(KINDS, f"involuntary, {WHO[run.name]}", name, first.involuntary)


@experiment(
    sc.CLONE_VM,
    source="sched(7); kernel/sched/core.c context_switch; arch/x86/mm/tlb.c switch_mm_irqs_off",
    order=7,
    expected={
        "with": expected("same", "all"),
        "without": expected("another", "none"),
    },
    timeout=120,
)
def cost_of_cold_caches(run: Run) -> None:
    """A switch costs the more, the more memory each side uses between two, as far as the caches
    reach; and hardly more where both sides are threads that use the same memory.

    Each side walks a working set of its own in each turn, from cache line to cache line in a random
    order, so that the processor can fetch nothing ahead. The time of such a walk alone, which finds
    its set in the caches, is taken off: what is left is the switch, and the lines that the other
    side has thrown out and that must be fetched again.

    The curve rises where a cache holds one set and not two: little at the first level, which is
    soon filled again, more at the second and third. Where it does not even hold one, the walk alone
    is slow, too, and the difference falls, or is lost in the noise and left out. The other figure
    shows the walk alone: the steps are the ends of the caches, and of the TLB, which has the
    addresses of some thousand pages. The last cache is shared with all who use the machine, and
    what they do is in the right half of both.

    The verdict is about the memory and the turns, and about no time.
    """
    for name, size in _caches():
        run.measured(name, *((size, "KiB") if size < KIB else (size / KIB, "MiB")))
    games = []
    play(run, MOST, [Walk()])  # the processor takes a moment to be as fast as it can
    calls = play(run, MOST, [Walk()])
    with Block(SIZES[-1]) as first, Block(SIZES[-1]) as second:
        for size in SIZES:
            lines = size // LINE
            rounds = min(MOST, max(FEWEST, WALKED // lines))
            mine, theirs = Walk(first.address, lines), Walk(second.address, lines)
            alone = play(run, rounds, [mine])
            walking = alone.nanoseconds - calls.nanoseconds
            if walking > 0:
                run.point(CACHES, WHO[run.name], size, walking / lines)
            patterns = {"a set each": [mine, theirs]}
            if run.flags & sc.CLONE_VM:
                patterns["the same set"] = [mine, mine]
            for name, walks in patterns.items():
                both = play(run, rounds, walks)
                games.append((both, 2 * rounds))
                more = (both.nanoseconds - 2 * alone.nanoseconds) / 2000
                if more > walking / 1000 * NOISE:  # or it is lost in that of the walk
                    run.point(INDIRECT, f"{WHO[run.name]}, {name}", size, more)
    _saw(run, *(game for game, _ in games))
    counted = {game.counted / turns for game, turns in games}
    words = {0.0: "none", 1.0: "all"}
    run.saw("turns counted in the parent's word", words.get(sum(counted), "some"))


def _saw(run: Run, *games: Played) -> None:
    seen = [one for game in games for one in game.seen]
    run.saw("memory (kcmp)", " ".join(sorted({one.memory for one in seen})))
    cpus = {one.cpus for one in seen}
    run.saw("both on one CPU", len(cpus) == 1 and cpus.pop().isdigit())


def _caches() -> Iterator[tuple[str, int]]:
    """The machine's caches, by name, and their sizes in KiB, as far as sysfs tells them."""
    for path in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = (
                (path / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            yield f"L{level} cache", int(size[:-1])
