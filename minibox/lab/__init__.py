# SPDX-License-Identifier: Apache-2.0
"""The lab: experiments that show what every flag of clone(2) does on the kernel that runs.

An experiment is a function that does the same thing in several runs, by default one `with` the
flags it is about and one `without`, and says what it saw; the verdict compares that with what the
manual says. Twenty lines make one of your own:

    from minibox import lab
    from minibox import syscalls as sc

    @lab.experiment(
        sc.CLONE_NEWUTS,
        source="uts_namespaces(7)",
        expected={
            "with": {"the name outside": "as before"},
            "without": {"the name outside": "new"},
        },
    )
    def host_name(run: lab.Run) -> None:
        \"\"\"A host name stays in the UTS namespace in which it is set.\"\"\"
        with run.clone([sc.sethostname(b"new")]) as child:
            child.wait()
        new = os.uname().nodename == "new"
        run.saw("the name outside", "new" if new else "as before")

`minibox lab run ./host_name.py` runs it. Each run has a process and namespaces of its own
(bench.py), so an experiment may do to itself what it likes.
"""

from __future__ import annotations

from minibox.lab.bench import perform
from minibox.lab.catalogue import catalogue, find
from minibox.lab.experiment import Experiment, experiment
from minibox.lab.look import (
    kcmp,
    namespace,
    own_namespace,
    signals,
    sleeps_at,
    smaps,
    status,
    until,
)
from minibox.lab.memory import Block, call, function, pointer
from minibox.lab.nested import grandchild, grandchild_pid
from minibox.lab.process import process
from minibox.lab.result import Result
from minibox.lab.run import Figure, Run
from minibox.lab.words import op, outcome, sigaction

__all__ = [
    "Block",
    "Experiment",
    "Figure",
    "Result",
    "Run",
    "call",
    "catalogue",
    "experiment",
    "find",
    "function",
    "grandchild",
    "grandchild_pid",
    "kcmp",
    "namespace",
    "op",
    "outcome",
    "own_namespace",
    "perform",
    "pointer",
    "process",
    "sigaction",
    "signals",
    "sleeps_at",
    "smaps",
    "status",
    "until",
]
