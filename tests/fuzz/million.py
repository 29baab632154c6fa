# SPDX-License-Identifier: Apache-2.0
"""`make fuzz`: many inputs for all properties, or for those that are named, in rounds on all cores;
a table of what came of them. MINIBOX_FUZZ: how many in all.

Each round is a process. Where the files of a state directory are made up, it has namespaces of its
own, of processes, mounts and networks: what they name, minibox could touch, and there it is nobody's.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

os.environ["XDG_CACHE_HOME"] = "/proc/nowhere"  # filters that were made are kept nowhere
sys.path.append(str(Path(__file__).parents[2]))
from tests.fuzz import asked, cgroups, kept, properties, read, streams

PROPERTIES = {
    one.name: one
    for one in [
        *asked.PROPERTIES,
        *read.PROPERTIES,
        *streams.PROPERTIES,
        *cgroups.PROPERTIES,
        *kept.PROPERTIES,
    ]
}
ROUND = 10_000
MOST_SHOWN = 6000  # of an input
CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x20000000, 0x40000000
MNT_DETACH = 2
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000


def share(name: str, total: int) -> int:
    """How many of `total` inputs are this one's."""
    whole = sum(one.share for one in PROPERTIES.values())
    return max(1, PROPERTIES[name].share * total // whole)


def apart(name: str, inputs: int, round_: int | None = None) -> tuple[Counter[str], str]:
    """What came of the inputs, and the error that ended the round or "", from a process in
    namespaces of its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    outer = context.Process(target=_between, args=(sender, name, inputs, round_))
    outer.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return Counter(), f"{name}: the process ended without a word"
    finally:
        receiver.close()
        outer.join()
        outer.close()


def _between(sender, name, inputs, round_):
    """A pid namespace is for children: this one makes it, the next one lives in it."""
    if PROPERTIES[name].apart:
        _leave()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            sender.send(_inside(name, inputs, round_))
            code = 0
        finally:
            os._exit(code)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)


def _leave():
    """New namespaces, from which no cgroup of the machine can be reached."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    if libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "mount")
    while " - cgroup" in Path("/proc/self/mountinfo").read_text():
        if libc.umount2(b"/sys/fs/cgroup", MNT_DETACH):
            raise OSError(ctypes.get_errno(), "umount /sys/fs/cgroup")


def _inside(name, inputs, round_):
    one = PROPERTIES[name]
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    if one.apart and ctypes.CDLL(None).mount(b"proc", b"/proc", b"proc", flags, None):
        raise OSError("mount /proc")
    found: Counter[str] = Counter()
    try:
        if round_ is None:
            properties.hold(one, inputs, None, found)
        else:
            examples = max(1, inputs // (1 + one.variants))
            properties.hold(one, examples, round_, found, variants=True)
    except BaseException:  # noqa: BLE001
        return found, f"{name}, round {round_}:\n{traceback.format_exc(limit=-5)}"
    finally:
        kept.victim.end()
    return found, ""


def main(names: list[str]) -> int:
    properties.warm()
    total = properties.million()
    tasks = [
        (name, inputs, round_)
        for name in names or PROPERTIES
        for round_, inputs in enumerate(_rounds(share(name, total)), 1)
    ]
    tasks.sort(key=lambda task: task[2])  # all properties from the beginning
    began, count, failed = time.monotonic(), 0, []
    found: dict[str, Counter[str]] = {name: Counter() for name, *_ in tasks}
    seconds: Counter[str] = Counter()

    def run(task):
        start = time.monotonic()
        return task[0], *apart(*task), time.monotonic() - start

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, future in enumerate(as_completed([pool.submit(run, task) for task in tasks]), 1):
            name, outcomes, error, took = future.result()
            found[name] += outcomes
            seconds[name] += took
            count += outcomes.total()
            if error:
                failed.append(name)
                print(f"\n{error[:MOST_SHOWN]}", flush=True)
            elif done % 10 == 0:
                print(
                    f"{time.monotonic() - began:6.0f} s  {done} of {len(tasks)} rounds  {count} inputs",
                    flush=True,
                )
    show(found, seconds)
    print(
        f"{count} inputs in {time.monotonic() - began:.0f} s; {len(failed)} failures: {', '.join(sorted(set(failed)))}"
    )
    return 1 if failed else 0


def _rounds(inputs: int) -> list[int]:
    """So many in pieces: what Hypothesis remembers of a round goes with it."""
    return [ROUND] * (inputs // ROUND) + [inputs % ROUND] * bool(inputs % ROUND)


def show(found: dict[str, Counter[str]], seconds: Counter[str]) -> None:
    print(f"\n{'target':24}{'inputs':>9}{'inputs/s':>10}  outcomes")
    for name, outcomes in found.items():
        kinds = ", ".join(f"{kind} {number}" for kind, number in outcomes.most_common())
        print(
            f"{name:24}{outcomes.total():9}{outcomes.total() / (seconds[name] or 1):10.0f}  {kinds}"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
