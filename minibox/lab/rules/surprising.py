# SPDX-License-Identifier: Apache-2.0
"""What is granted, to one's surprise"""

from __future__ import annotations

import os
import signal

from minibox import syscalls as sc
from minibox.lab import Run, asking, experiment, function, kcmp, look, own_namespace
from minibox.lab.asking import MADE, Row, ask
from minibox.lab.words import LACKS
from minibox.lab.words import error as name_of
from minibox.plan import Address

RUNS = {"clone": 2, "clone3": 3}
THREAD = sc.CLONE_VM | sc.CLONE_SIGHAND | sc.CLONE_THREAD
STACKLESS = sc.CLONE_VM | sc.CLONE_VFORK
THREADS = {"mnt": "NEWNS", "uts": "NEWUTS", "ipc": "NEWIPC", "net": "NEWNET", "cgroup": "NEWCGROUP"}
PROCESSES = {"user": "VM|NEWUSER", "pid": "VM|SIGHAND|NEWPID"}
SIGNALS = [
    Row(ask("", "exit signal 65", exit_signal=65), MADE),
    Row(ask("", "exit signal 0x80, which is NEWTIME's bit", exit_signal=0x80), MADE),
]
AFTER = "SIGCHLD, when that pid 1 is dead"
APART = "a thread of this process, in another namespace"
SHARED = "a process with this memory, in another namespace"
BOTH = {
    **{f"THREAD|{name}": APART for name in THREADS.values()},
    **dict.fromkeys(PROCESSES.values(), SHARED),
    AFTER: "ignored",
}
EXPECTED = {
    "clone": {**BOTH, **asking.expected(SIGNALS)},
    "clone3": {**BOTH, "VM without a stack": MADE},
}
FLAGS = THREAD | ask("|".join(["NEWUSER", "NEWPID", *THREADS.values()])).flags


@experiment(
    FLAGS,
    source="kernel/fork.c copy_process, kernel_clone; kernel/pid_namespace.c zap_pid_ns_processes",
    expected=EXPECTED,
    runs=dict.fromkeys(RUNS, FLAGS),
    order=1,
)
def surprising(run: Run) -> None:
    """A thread can have a namespace of its own, and processes of different user or pid namespaces
    one memory.

    Namespaces belong to tasks, not to processes: all but those of pids and users can be a thread's.
    A pid 1 that ends makes its process ignore SIGCHLD, so that none of those that it kills has to
    be waited for; where it shares its handlers, its parent ignores it from then on.
    clone does not look at its exit signal: there are 64, and 65 is accepted (nothing is sent then).
    clone3 takes CLONE_VM without a stack: parent and child then use the same one, which goes well
    as long as the parent sleeps (CLONE_VFORK).
    """
    call = RUNS[run.name]
    for kind, name in THREADS.items():
        bits = THREAD | asking.FLAGS[name]
        run.saw(f"THREAD|{name}", _made(run, call, bits, kind))
    for kind, names in PROCESSES.items():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        run.saw(names, _made(run, call, ask(names).flags, kind))
    is_ignored = int(look.status()["SigIgn"], 16) >> signal.SIGCHLD - 1 & 1
    run.saw(AFTER, "ignored" if is_ignored else "as before")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if call == 2:
        asking.see(run, SIGNALS, call)
        return
    bits = STACKLESS & ~run.taken_out
    stackless = sc.call(function("lab_stackless"), Address(bits, "VM|VFORK"))
    with run.clone([stackless, sc.gate()], 0) as child:
        child.arrived()
        result = child.report().results[0]
        run.saw("VM without a stack", name_of(-result) if result < 0 else MADE)


def _made(run: Run, call: int, flags: int, kind: str) -> str:
    try:
        with run.clone([sc.gate()], flags, call=call) as child:
            child.arrived()
            is_thread = os.path.exists(f"/proc/self/task/{child.pid}")
            memory = "this" if kcmp(child.pid, "VM") == "same" else "another"
            what = "a thread of this process" if is_thread else f"a process with {memory} memory"
            own = own_namespace(kind, child.pid)
            return f"{what}, in {'another' if own else 'the same'} namespace"
    except OSError as error:
        if error.errno in LACKS:
            raise
        return name_of(error.errno or 0)
