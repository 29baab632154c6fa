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
    """One verb. module: where its `execute(values)` is. arguments: what it needs; the last one may
    end in … for more. optional: how many of them may be missing. quick: parsed without click, where
    the time matters. interspersed: options may follow arguments, which are no command line then.
    completes: "containers", "running", "networks", "topologies" or "experiments", what a shell
    offers for its arguments. actions: the words that its first argument is one of."""

    name: str
    module: str
    help: str
    options: tuple[Option, ...]
    arguments: tuple[str, ...] = ()
    optional: int = 0
    quick: bool = True
    interspersed: bool = False
    completes: str = ""
    actions: tuple[str, ...] = ()
    hidden: bool = False

    def takes(self, count: int) -> bool:
        """May it have so many arguments?"""
        has_more = bool(self.arguments) and self.arguments[-1].endswith("…")
        least = len(self.arguments) - self.optional
        return count >= least and (has_more or count <= len(self.arguments))


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
        LIST,
        "bridge or the name of a network, also several; none: only lo; host: the host's; user: by"
        " pasta; container:NAME and ns:PATH: another's.  [default: MINIBOX_NET, or bridge for root,"
        " else user or none]",
        "MODE|NAME[:ip=…]",
    ),
    Option(
        ("--publish", "-p"),
        "publish",
        LIST,
        "A port of the host leads to one inside; ranges as 8000-8009.",
        "[ADDRESS:]PORT:PORT[/udp]",
    ),
    Option(("--ip",), "ip", VALUE, "This address in the network.", "ADDRESS"),
    Option(("--latency",), "latency", VALUE, "Each packet comes so much later.", "20ms"),
    Option(("--loss",), "loss", VALUE, "So many packets never come.", "1%"),
    Option(("--rate",), "rate", VALUE, "No more than that comes through.", "10mbit"),
    Option(("--route",), "route", LIST, "Where a subnet is reached by.", "SUBNET|default=GATEWAY"),
    Option(
        ("--sysctl",),
        "sysctl",
        LIST,
        "Set net.… or kernel.shm… of the container's own.",
        "NAME=VALUE",
    ),
    Option(("--dns",), "dns", LIST, "A name server instead of the host's.", "ADDRESS"),
    Option(("--add-host",), "add_host", LIST, "A line of /etc/hosts.", "NAME:ADDRESS"),
    Option(
        ("--network-alias",), "network_alias", LIST, "One more name for others to find.", "NAME"
    ),
    Option(
        ("--userns",),
        "userns",
        VALUE,
        "auto: unprivileged ids of its own; host: the host's ids; keep-id: the caller's, as who he"
        " is.  [default: auto]",
        "MODE|UID:GID:SIZE",
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
    Option(
        ("--landlock",),
        "landlock",
        LIST,
        "Nothing but these paths inside can be reached.",
        "ro|rw:PATH,…",
    ),
    Option(
        ("--ulimit",),
        "ulimit",
        LIST,
        "A resource limit: nofile=1024:2048, nproc=64, core=-1.",
        "NAME=SOFT[:HARD]",
    ),
    Option(
        ("--oom-score-adj",),
        "oom_score_adj",
        VALUE,
        "How soon it goes when memory is short, to 1000.",
        "N",
    ),
    Option(
        ("--security-opt",),
        "security_opt",
        LIST,
        "seccomp=default, unconfined, or a profile; apparmor=, label=; mask=, unmask=ALL or PATH:…;"
        " no-new-privileges=false.",
        "WORD=VALUE",
    ),
    Option(("--memory", "-m"), "memory", VALUE, "As much memory, and no more.", "64m"),
    Option(
        ("--memory-swap",),
        "memory_swap",
        VALUE,
        "Memory and swap together; -1: no limit of swap.  [default: twice --memory]",
        "SIZE",
    ),
    Option(("--memory-reservation",), "memory_reservation", VALUE, "It keeps so much.", "SIZE"),
    Option(("--cpus",), "cpus", VALUE, "As many CPUs, and no more.", "1.5"),
    Option(("--cpu-shares", "-c"), "cpu_shares", VALUE, "Against 1024 of others.", "N"),
    Option(("--cpuset", "--cpuset-cpus"), "cpuset", VALUE, "On these CPUs only.", "0-1,3"),
    Option(("--cpuset-mems",), "cpuset_mems", VALUE, "Memory of these nodes only.", "0"),
    Option(("--pids", "--pids-limit"), "pids", VALUE, "As many processes, and no more.", "N"),
    Option(
        ("--io-weight", "--blkio-weight"), "io_weight", VALUE, "Of block devices, 10-1000.", "N"
    ),
    Option(("--io-rbps", "--device-read-bps"), "io_rbps", LIST, "Bytes a second.", "DEVICE:RATE"),
    Option(("--io-wbps", "--device-write-bps"), "io_wbps", LIST, "Bytes a second.", "DEVICE:RATE"),
    Option(("--io-riops", "--device-read-iops"), "io_riops", LIST, "Reads a second.", "DEVICE:N"),
    Option(("--io-wiops", "--device-write-iops"), "io_wiops", LIST, "Writes a second.", "DEVICE:N"),
    Option(("--cgroup-parent",), "cgroup_parent", VALUE, "Below this cgroup.", "PATH"),
    Option(
        ("--cgroup-manager",),
        "cgroup_manager",
        VALUE,
        "cgroupfs, or systemd for a scope.  [default: cgroupfs]",
        "MANAGER",
    ),
    Option(("--init",), "init", FLAG, "An init as PID 1: reaps, forwards signals."),
    Option(("--time",), "time", FLAG, "Make a time namespace as well."),
    Option(("--boottime",), "boottime", VALUE, "Add to the boot-time clock inside.", "SECONDS"),
    Option(("--monotonic",), "monotonic", VALUE, "Add to the monotonic clock inside.", "SECONDS"),
    Option(("--tty", "-t"), "tty", FLAG, "Insist on a terminal of the container's own."),
    Option(("--no-tty", "-T"), "no_tty", FLAG, "No terminal, even where the caller has one."),
    Option(("--interactive", "-i"), "interactive", FLAG, "Accepted; stdin is always passed on."),
)
# What `update` takes of them.
ADJUSTABLE = (
    *("memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "cpuset"),
    *("cpuset_mems", "pids", "io_weight", "io_rbps", "io_wbps", "io_riops", "io_wiops"),
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
LIFE = (
    Option(("--name",), "name", VALUE, "Its name.  [default: made up]", "NAME"),
    Option(("--label", "-l"), "labels", LIST, "Set a label.", "NAME[=VALUE]"),
    Option(("--label-file",), "label_file", LIST, "Set labels from a file.", "FILE"),
    Option(("--rm",), "remove", FLAG, "Remove it when it has ended."),
    Option(
        ("--restart",),
        "restart",
        VALUE,
        "When it ends: no, on-failure[:N], always, unless-stopped.  [default: no]",
        "POLICY",
    ),
    Option(("--stop-signal",), "stop_signal", VALUE, "What stop sends.  [default: TERM]", "SIGNAL"),
    Option(
        ("--stop-timeout",),
        "stop_timeout",
        VALUE,
        "Seconds until stop kills.  [default: 10]",
        "SECONDS",
    ),
    Option(
        ("--log-opt",), "log_opt", LIST, "max-size=8m, max-file=2: rotate the log.", "NAME=VALUE"
    ),
    Option(("--health-cmd",), "health_cmd", VALUE, "A command that tells its health.", "COMMAND"),
    Option(
        ("--health-interval",),
        "health_interval",
        VALUE,
        "Between two checks.  [default: 30s]",
        "DURATION",
    ),
    Option(
        ("--health-timeout",), "health_timeout", VALUE, "For one check.  [default: 30s]", "DURATION"
    ),
    Option(
        ("--health-retries",),
        "health_retries",
        VALUE,
        "Failures until it is unhealthy.  [default: 3]",
        "N",
    ),
    Option(
        ("--health-start-period",),
        "health_start_period",
        VALUE,
        "A time in which failures do not count.  [default: 0s]",
        "DURATION",
    ),
    Option(("--cidfile",), "cidfile", VALUE, "Write its id to a file.", "FILE"),
)
DETACH_KEYS = Option(
    ("--detach-keys",),
    "detach_keys",
    VALUE,
    "Keys that leave it running.  [default: ctrl-p,ctrl-q]",
    "KEYS",
)
DETACH = Option(("--detach", "-d"), "detach", FLAG, "Run in the background; print the id.")
JSON = Option(("--json",), "json", FLAG, "Print data.")
QUIET = Option(("--quiet", "-q"), "quiet", FLAG, "Print ids only.")
# The verb whose start is measured: its row needs none of the others.
RUN_VERB = Verb(
    "run",
    "minibox.cli.run",
    "Run COMMAND in a new container with the root ROOTFS.",
    (*RUN, DETACH, *LIFE, DETACH_KEYS),
    ("ROOTFS", "COMMAND…"),
)
