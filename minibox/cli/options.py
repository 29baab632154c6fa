# SPDX-License-Identifier: Apache-2.0
"""The options of the verbs, declared once: click's help and the quick path both read this."""

from __future__ import annotations

from minibox.spec import Record

FLAG, VALUE, LIST = "flag", "value", "list"


class Option(Record):
    """One option. names: "--volume", "-v". field: the keyword it becomes. kind: FLAG, VALUE (the
    last one counts) or LIST (all count)."""

    names: tuple[str, ...]
    field: str
    kind: str
    help: str
    metavar: str = ""


class Verb(Record):
    """One verb. module: where its `execute(values)` is. quick: parsed without click."""

    name: str
    module: str
    help: str
    options: tuple[Option, ...]
    arguments: tuple[str, ...] = ()
    quick: bool = False


CONTAINER = (
    Option(
        ("--overlay", "--volatile"),
        "overlay",
        FLAG,
        "Write to an overlay in memory; ROOTFS stays as it is.",
    ),
    Option(("--size",), "size", VALUE, "Size of that overlay.  [default: 50%]", "SIZE"),
    Option(("--read-only",), "read_only", FLAG, "Nothing below / can be written."),
    Option(
        ("--volume", "-v"),
        "volumes",
        LIST,
        "Mount a file or directory of the host. Words: ro, noexec, suid, dev, noidmap.",
        "SOURCE:TARGET[:WORD,…]",
    ),
    Option(
        ("--tmpfs",),
        "tmpfs",
        LIST,
        "Mount an empty tmpfs. Words: size=64m, mode=0755, ro, …",
        "TARGET[:WORD,…]",
    ),
    Option(("--shm-size",), "shm_size", VALUE, "Size of /dev/shm.  [default: 64m]", "SIZE"),
    Option(
        ("--share",),
        "share",
        LIST,
        "Share namespaces with the host: user, pid, net, ipc, uts, cgroup.",
        "KIND,…",
    ),
    Option(("--join",), "join", LIST, "Enter an existing namespace.", "KIND=PID|PATH"),
    Option(
        ("--net", "--network"),
        "net",
        VALUE,
        "none: only lo; host: the host's.  [default: none]",
        "MODE",
    ),
    Option(
        ("--userns",),
        "userns",
        VALUE,
        "auto: unprivileged ids of its own; host: the host's ids.  [default: auto]",
        "MODE",
    ),
    Option(
        ("--hostname", "-h"), "hostname", VALUE, "Host name inside.  [default: minibox]", "NAME"
    ),
    Option(("--domainname",), "domainname", VALUE, "NIS domain name inside.", "NAME"),
    Option(("--workdir", "-w"), "workdir", VALUE, "Working directory inside.  [default: /]", "DIR"),
    Option(
        ("--env", "-e"),
        "env",
        LIST,
        "Set a variable; NAME alone takes the caller's value.",
        "NAME[=VALUE]",
    ),
    Option(("--env-file",), "env_file", LIST, "Set variables from a file.", "FILE"),
    Option(("--user", "-u"), "user", VALUE, "Run as this user, by name or number.", "USER[:GROUP]"),
    Option(("--cap-add",), "cap_add", LIST, "Keep a capability; ALL keeps all.", "NAME"),
    Option(("--cap-drop",), "cap_drop", LIST, "Drop a capability; ALL drops all.", "NAME"),
    Option(("--init",), "init", FLAG, "An init as PID 1: reaps, forwards signals."),
    Option(("--time",), "time", FLAG, "Make a time namespace as well."),
    Option(("--boottime",), "boottime", VALUE, "Add to the boot-time clock inside.", "SECONDS"),
    Option(("--monotonic",), "monotonic", VALUE, "Add to the monotonic clock inside.", "SECONDS"),
    Option(("--tty", "-t"), "tty", FLAG, "Insist on a terminal of the container's own."),
    Option(("--no-tty", "-T"), "no_tty", FLAG, "No terminal, even where the caller has one."),
    Option(("--interactive", "-i"), "interactive", FLAG, "Accepted; stdin is always passed on."),
)
RUN = (
    *CONTAINER,
    Option(
        ("--timeout",), "timeout", VALUE, "Kill the whole container after this time.", "DURATION"
    ),
    Option(
        ("--die-with-parent",),
        "die_with_parent",
        FLAG,
        "End, container and all, when the process that started minibox ends.",
    ),
    Option(("--trace",), "trace", FLAG, "Print each step with result and duration on stderr."),
)
JSON = Option(("--json",), "json", FLAG, "Print data.")

VERBS = (
    Verb(
        "run",
        "minibox.cli.run",
        "Run COMMAND in a new container with the root ROOTFS.",
        RUN,
        ("ROOTFS", "COMMAND…"),
        quick=True,
    ),
    Verb(
        "plan",
        "minibox.cli.plan",
        "Print the system calls that `run` would make, each with its reason.",
        (*RUN, JSON),
        ("ROOTFS", "COMMAND…"),
        quick=True,
    ),
)
