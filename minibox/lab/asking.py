# SPDX-License-Identifier: Apache-2.0
"""Tables of what is asked of the kernel, and what it answers: for experiments of many small cases.

A Row is a thing to ask for and the answer that is expected, beside something that differs from it
as little as can be and is granted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from minibox import describe
from minibox import syscalls as sc
from minibox.errors import Unsupported
from minibox.lab import raw
from minibox.lab.run import Run
from minibox.lab.words import LACKS
from minibox.lab.words import error as name_of

MADE = "made"
CALLS: dict[int | str, str] = {2: "clone", 3: "clone3", "unshare": "unshare"}
FLAGS = {
    name.removeprefix("CLONE_"): bit for name, bit in vars(sc).items() if name.startswith("CLONE_")
}
NAMED: int = sum(FLAGS.values())
Before = Callable[[Run], object]


class Ask(NamedTuple):
    """What is asked for. text: in words. flags: CLONE_* bits. how: what else minibox.clone takes; a
    text there is the name of something that only the run knows. raw: words of struct clone_args,
    for a call past minibox.clone (raw.py). before: what the process does first; it is one of its
    own then."""

    text: str
    flags: int
    how: Mapping[str, Any]
    raw: Mapping[str, int | str] | None
    before: Before | None


class Row(NamedTuple):
    """asked, and the name of the error that is expected, or "made"; beside: what is made."""

    asked: Ask
    answer: str
    beside: Ask | None = None

    @property
    def expected(self) -> str:
        return _beside(self.answer, self.beside, MADE)


def ask(
    names: str,
    text: str = "",
    *,
    raw: Mapping[str, int | str] | None = None,
    before: Before | None = None,
    flags: int = 0,
    **how: Any,
) -> Ask:
    """names: "NEWNS|FS", or "" for none; flags: bits without a name. text: instead of the names."""
    bits = sum(FLAGS[name] for name in names.split("|")) if names else 0
    return Ask(text or names, bits | flags, how, raw, before)


def expected(rows: Sequence[Row]) -> dict[str, str]:
    """What a run sees of these rows."""
    return {row.asked.text: row.expected for row in rows}


def flags(*tables: Sequence[Row]) -> int:
    """All flags that the rows name."""
    bits = 0
    for table in tables:
        for row in table:
            bits |= row.asked.flags | (row.beside.flags if row.beside else 0)
    return bits & NAMED


def insist(run: Run, call: int | str) -> None:
    """Unsupported where even the bare call is refused, by a filter of system calls say."""
    answer = answered(run, ask("", "nothing"), call)
    if answer != MADE:
        run.unsupported(f"{CALLS[call]} is refused without any flag, too ({answer})")


def see(
    run: Run, rows: Sequence[Row], call: int | str, known: Mapping[str, Any] | None = None
) -> None:
    """Ask for all of them by clone (2), clone3 (3) or "unshare", and say what came of it; a row
    that cannot be made here is skipped. known: what texts in `how` stand for. Unsupported."""
    insist(run, call)
    for row in rows:
        try:
            answer = answered(run, row.asked, call, known)
            beside = answered(run, row.beside, call, known) if row.beside else ""
        except Unsupported as error:
            run.skipped(row.asked.text, str(error))
        else:
            if beside == "ENOSPC":
                run.skipped(row.asked.text, "no more such namespaces are allowed (/proc/sys/user)")
            else:
                run.saw(row.asked.text, _beside(answer, row.beside, beside))


def _beside(answer: str, beside: Ask | None, its: str) -> str:
    return f"{answer} ({beside.text}: {its})" if beside else answer


def answered(run: Run, asked: Ask, call: int | str, known: Mapping[str, Any] | None = None) -> str:
    """ "made", or the name of the error. Unsupported."""
    how = {name: _of(value, known or {}) for name, value in asked.how.items()}
    if asked.before or call == "unshare":
        return _apart(run, asked, how, call)
    return _here(run, asked, how, call)


def _of(value: Any, known: Mapping[str, Any]) -> Any:
    """The value that a row has only named. Unsupported, if that is what is known of it."""
    found = known.get(value, value) if isinstance(value, str) else value
    if isinstance(found, Unsupported):
        raise found
    return found


def _here(run: Run, asked: Ask, how: Mapping[str, Any], call: int | str) -> str:
    if call == "unshare":
        bits = asked.flags & ~run.taken_out
        result = run.syscall("unshare", bits, text=f"unshare({describe.flags(bits, 'CLONE_')})")
        return name_of(-result) if result < 0 else MADE
    if asked.raw is not None:
        result = raw.fork(run, int(call), asked.flags, asked.raw)
        return name_of(-result) if result < 0 else MADE
    try:
        with run.clone([], asked.flags, call=call, exact=True, **how):
            return MADE
    except OSError as error:
        return name_of(error.errno or 0)


def _apart(run: Run, asked: Ask, how: Mapping[str, Any], call: int | str) -> str:
    """In a process of its own, which does something first. Unsupported."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        written = len(run.notes.calls)
        try:
            answer, reason = _prepared(run, asked, how, call)
            os.write(write, json.dumps([answer, reason, run.notes.calls[written:]]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        data = file.read()
    os.waitpid(process, 0)
    answer, reason, calls = json.loads(data or b'["nothing: its process has ended", "", []]')
    run.notes.calls += calls
    if reason:
        raise Unsupported(reason)
    return str(answer)


def _prepared(run: Run, asked: Ask, how: Mapping[str, Any], call: int | str) -> tuple[str, str]:
    try:
        if asked.before:
            asked.before(run)
    except Unsupported as error:
        return "", str(error)
    except OSError as error:
        if error.errno in LACKS:
            return "", f"{error.filename or 'a call'} before: {error.strerror}"
        return f"not asked for: {error.strerror} before", ""
    return _here(run, asked, how, call), ""
