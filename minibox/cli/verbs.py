# SPDX-License-Identifier: Apache-2.0
"""The verbs: one row each, and one file each that executes it."""

from __future__ import annotations

from minibox.cli.options import (
    ADJUSTABLE,
    CONTAINER,
    DETACH_KEYS,
    FLAG,
    JSON,
    LIFE,
    LIST,
    QUIET,
    RUN,
    RUN_VERB,
    VALUE,
    Option,
    Verb,
)

TIME = Option(("--time", "-t"), "timeout", VALUE, "Seconds until it is killed.", "SECONDS")
FORMAT = Option(("--format", "-f"), "format", VALUE, "json, table, or a template.", "FORMAT")
FILTER = Option(("--filter", "-f"), "filters", LIST, "Only those with KEY=VALUE.", "KEY=VALUE")
ALL = Option(("--all", "-a"), "all", FLAG, "All of them.")
NO_STDIN = Option(("--no-stdin",), "no_stdin", FLAG, "Pass nothing on.")
NO_TRUNC = Option(("--no-trunc",), "no_trunc", FLAG, "Print ids and commands whole.")
SIG_PROXY = Option(
    ("--sig-proxy",), "sig_proxy", VALUE, "Pass signals on.  [default: true]", "BOOL"
)
INSIDE = (
    Option(("--detach", "-d"), "detach", FLAG, "Leave it running; print nothing."),
    Option(("--env", "-e"), "env", LIST, "Set a variable.", "NAME[=VALUE]"),
    Option(("--env-file",), "env_file", LIST, "Set variables from a file.", "FILE"),
    Option(("--workdir", "-w"), "workdir", VALUE, "Working directory inside.", "DIR"),
    Option(("--user", "-u"), "user", VALUE, "Run as this user.", "USER[:GROUP]"),
    Option(("--tty", "-t"), "tty", FLAG, "Insist on a terminal."),
    Option(("--no-tty", "-T"), "no_tty", FLAG, "No terminal, even where the caller has one."),
    Option(("--interactive", "-i"), "interactive", FLAG, "Accepted; stdin is always passed on."),
    Option(("--trace",), "trace", FLAG, "Print each step with result and duration on stderr."),
)
SINCE = Option(("--since",), "since", VALUE, "From then on: a time, or 10m for ago.", "TIME")
UNTIL = Option(("--until",), "until", VALUE, "Up to then.", "TIME")
LOGS = (
    Option(("--follow", "-f"), "follow", FLAG, "Go on with what comes."),
    Option(("--tail", "-n"), "tail", VALUE, "The last N lines.  [default: all]", "N"),
    SINCE,
    UNTIL,
    Option(("--timestamps", "-t"), "timestamps", FLAG, "A time before each line."),
    Option(("--json",), "json", FLAG, "A JSON object an entry."),
)
EVENTS = (
    SINCE,
    UNTIL,
    Option(("--filter", "-f"), "filters", LIST, "container=, event=, label=, type=", "KEY=VALUE"),
    Option(("--no-stream",), "no_stream", FLAG, "Only what has happened; do not wait."),
    Option(("--format",), "format", VALUE, "json, or a template.", "FORMAT"),
    Option(("--json",), "json", FLAG, "JSON lines, which is the default."),
)
PS = (
    ALL,
    QUIET,
    NO_TRUNC,
    FILTER,
    Option(("--last", "-n"), "last", VALUE, "The N newest, in any state.", "N"),
    Option(("--latest", "-l"), "latest", FLAG, "The newest, in any state."),
    Option(("--format",), "format", VALUE, "json, table, or a template.", "FORMAT"),
    JSON,
)
START = (
    Option(("--attach", "-a"), "attach", FLAG, "Attach to it, and end as it ends."),
    Option(("--interactive", "-i"), "interactive", FLAG, "Attach, and pass stdin on."),
    DETACH_KEYS,
    Option(("--trace",), "trace", FLAG, "Print each step with result and duration on stderr."),
)
CP = (
    Option(("--archive", "-a"), "archive", FLAG, "Keep owners."),
    Option(("--follow-link", "-L"), "follow_link", FLAG, "Follow a link in SOURCE."),
    QUIET.replace(help="Accepted; nothing is printed anyway."),
)
NETWORK = (
    Option(("--subnet",), "subnet", LIST, "create: its addresses.", "10.67.0.0/24"),
    Option(("--gateway",), "gateway", LIST, "create: the host's address in it.", "ADDRESS"),
    Option(("--ipv6",), "ipv6", FLAG, "create: IPv6, too."),
    Option(("--internal",), "internal", FLAG, "create: nothing outside can be reached."),
    Option(("--mtu",), "mtu", VALUE, "create: the largest packet.  [default: 1500]", "BYTES"),
    Option(("--driver", "-d"), "driver", VALUE, "create: bridge, macvlan or ipvlan.", "DRIVER"),
    Option(("--parent",), "parent", VALUE, "create: of macvlan and ipvlan.", "INTERFACE"),
    QUIET,
    JSON,
)
LIMITS = tuple(option for option in CONTAINER if option.field in ADJUSTABLE)
STATS = (
    Option(("--no-stream",), "no_stream", FLAG, "Once."),
    NO_TRUNC,
    ALL.replace(help="Those that do not run, too."),
    Option(("--format",), "format", VALUE, "json, table, or a template.", "FORMAT"),
    JSON,
)
FORCE = Option(("--force", "-f"), "force", FLAG, "Kill it first if it runs.")
ONE, MANY = ("CONTAINER",), ("CONTAINER…",)
VOLUMES = Option(("--volumes", "-v"), "volumes", FLAG, "Accepted; there are no anonymous volumes.")


def _life(
    name: str,
    help: str,
    options: tuple[Option, ...],
    arguments: tuple[str, ...],
    completes: str = "containers",
    optional: int = 0,
    file: str = "",
) -> Verb:
    """A verb about containers that are there."""
    module = f"minibox.cli.{file or name}"
    return Verb(name, module, help, options, arguments, optional, True, True, completes)


VERBS = (
    RUN_VERB,
    Verb(
        "create",
        "minibox.cli.create",
        "Make a container, to be started later.",
        (*CONTAINER, *LIFE, DETACH_KEYS),
        ("ROOTFS", "COMMAND…"),
    ),
    _life("start", "Start containers.", START, MANY),
    _life("ps", "List containers.", PS, (), ""),
    _life("logs", "Print what a container has written.", LOGS, ONE),
    Verb(
        "exec",
        "minibox.cli.exec",
        "Run one more command in a container that runs.",
        INSIDE,
        ("CONTAINER", "COMMAND…"),
        completes="running",
    ),
    _life(
        "attach",
        "Join the streams of a container that runs.",
        (NO_STDIN, SIG_PROXY, DETACH_KEYS),
        ONE,
        "running",
    ),
    _life(
        "stop",
        "Ask containers to end, and kill them if they do not.",
        (TIME, Option(("--signal", "-s"), "signal", VALUE, "What to send.", "SIGNAL"), ALL),
        MANY,
        "running",
        1,
    ),
    _life(
        "kill",
        "Send containers a signal.",
        (Option(("--signal", "-s"), "signal", VALUE, "[default: KILL]", "SIGNAL"), ALL),
        MANY,
        "running",
        1,
    ),
    _life("pause", "Hold containers still.", (ALL,), MANY, "running", 1),
    _life("resume", "Let paused containers go on.", (ALL,), MANY, "running", 1),
    _life("unpause", "The same.", (ALL,), MANY, "running", 1, "resume"),
    _life("update", "Give containers other limits, from now on.", LIMITS, MANY),
    _life("stats", "Print what containers use, again and again.", STATS, MANY, "running", 1),
    _life("restart", "Stop containers and start them.", (TIME,), MANY),
    _life("wait", "Wait until containers have ended; print their exit codes.", (), MANY),
    _life("rm", "Remove containers.", (FORCE, ALL, VOLUMES), MANY, "containers", 1),
    _life("inspect", "Print all that is known about containers.", (FORMAT,), MANY),
    _life("top", "List the processes of a container.", (JSON,), ONE, "running"),
    _life("diff", "List what has changed in a volatile root.", (JSON,), ONE, "running"),
    _life("cp", "Copy files in or out.", CP, ("SOURCE", "TARGET")),
    _life("rename", "Give a container another name.", (), ("CONTAINER", "NAME")),
    _life("events", "Print what happens to containers.", EVENTS, (), ""),
    Verb(
        "network",
        "minibox.cli.network",
        "Networks: create NAME, ls, inspect NAME, rm NAME.",
        NETWORK,
        ("ACTION", "NAME…"),
        optional=1,
        interspersed=True,
        completes="networks",
        actions=("create", "ls", "inspect", "rm"),
    ),
    Verb(
        "topology",
        "minibox.cli.topology",
        "Networks and containers as one: up FILE, down FILE|NAME, show FILE|NAME, ls.",
        (
            Option(("--svg",), "svg", VALUE, "Draw the picture into a file.", "FILE"),
            QUIET,
        ),
        ("ACTION", "FILE|NAME…"),
        optional=1,
        interspersed=True,
        completes="topologies",
        actions=("up", "down", "show", "ls"),
    ),
    Verb(
        "lab",
        "minibox.cli.lab",
        "Experiments that show what each clone flag does: list, run NAME|FILE.py, show NAME.",
        (
            ALL,
            Option(("--report",), "report", VALUE, "run: one page with all of it.", "FILE.html"),
            JSON,
        ),
        ("ACTION", "NAME…"),
        optional=2,
        interspersed=True,
        completes="experiments",
        actions=("list", "run", "show"),
    ),
    Verb(
        "trace",
        "minibox.cli.trace",
        "Run a COMMAND, and print what it does with processes, namespaces and mounts.",
        (
            Option(("--output", "-o"), "output", VALUE, "Not on stderr.", "FILE"),
            QUIET.replace(help="Only the tree of processes, at the end."),
            JSON,
        ),
        ("COMMAND…",),
    ),
    Verb(
        "doctor",
        "minibox.cli.doctor",
        "Print what this host offers for containers, what follows, and what mends it.",
        (JSON,),
    ),
    _life("gc", "Clear what killed commands have left.", (QUIET,), (), ""),
    _life("healthcheck", "Check the health of a container now.", (), ONE, "running"),
    Verb(
        "after",
        "minibox.cli.after",
        "What a monitor calls at the end of a container.",
        (),
        ("CONTAINER", "RUN"),
        hidden=True,
    ),
    Verb(
        "plan",
        "minibox.cli.plan",
        "Print the system calls that `run` would make, each with its reason.",
        (*RUN, JSON),
        ("ROOTFS", "COMMAND…"),
    ),
    Verb(
        "completion",
        "minibox.cli.completion",
        "Print the completion script of a shell: bash, zsh or fish.",
        (),
        ("SHELL",),
    ),
)
