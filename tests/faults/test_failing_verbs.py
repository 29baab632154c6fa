# SPDX-License-Identifier: Apache-2.0
"""Any system call of a verb may fail: then there is one message, or the verb can do without it; in
neither case is anything lost, and the same verb works when it comes again.

MINIBOX_EVERY=1 makes each call fail, MINIBOX_EVERY=n each n-th.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import kept
import kept_verbs

ERRORS = ("ENOSPC", "EIO", "ENOMEM", "EMFILE", "EINTR", "EROFS", "EACCES")
FAILED = (125, 126, 127)
# They cannot fail, or not for a reason that minibox could do something about.
NEVER = {
    "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "futex", "exit_group", "rt_sigreturn",
    "rt_sigaction", "rt_sigprocmask", "getpid", "gettid", "geteuid", "getegid", "getuid", "getgid",
    "clock_nanosleep", "uname", "close",
}  # fmt: skip
USUAL = {
    "create": 3,
    "create, the first ever": 4,
    "gc": 3,
    "rename": 2,
    "rm": 3,
    "kill": 3,
    "exec": 7,
    "exec -d": 7,
}


@pytest.fixture
def fails(tmp_path, rootfs, message):
    """A trial in which a call fails."""

    def verdict(done, call):
        if done.returncode == 0:
            return [] if not done.stderr else [f"success, and {done.stderr!r}"]
        # What a command inside has written before exec failed, it has written.
        if done.returncode not in FAILED or (done.stdout and "exec" not in done.args):
            return [f"{done}"]
        return [problem for problem in [message(done.stderr)] if problem]

    def fault(call):
        # Which error is a matter of the call, so that it is the same one each time.
        error = ERRORS[zlib.crc32(f"{call.name} {call.number}".encode()) % len(ERRORS)]
        return f"{call.name}:error={error}:when={call.number}"

    return lambda case: kept_verbs.Trial(case, tmp_path, rootfs, message, fault, verdict)


@pytest.mark.parametrize("name", kept_verbs.CASES)
def test_each_failing_call_is_one_message_and_nothing_is_lost(fails, unchanged, name):
    trial = fails(kept_verbs.CASES[name])
    calls = [call for call in trial.trace(whole=True) if call.name not in NEVER]
    assert len(calls) > 10, calls
    tried = calls[:: kept.every(USUAL.get(name, 13))]
    assert kept.few(kept.in_parallel(trial, tried)) == []
