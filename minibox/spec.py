# SPDX-License-Identifier: Apache-2.0
"""The Spec: what a container shall be, as frozen data. The words are the kernel's and OCI's.

Paths, arguments and environment are bytes, because the kernel's are.
"""

from __future__ import annotations

from minibox import syscalls as sc
from minibox.record import Record as Record  # noqa: PLC0414 - also its name here


class Namespace(Record):
    """A kind of namespace, under its name in /proc/PID/ns. default: a container gets a new one."""

    kind: str
    flag: int
    default: bool


NAMESPACES = (
    Namespace("user", sc.CLONE_NEWUSER, True),
    Namespace("mnt", sc.CLONE_NEWNS, True),
    Namespace("pid", sc.CLONE_NEWPID, True),
    Namespace("net", sc.CLONE_NEWNET, True),
    Namespace("ipc", sc.CLONE_NEWIPC, True),
    Namespace("uts", sc.CLONE_NEWUTS, True),
    Namespace("cgroup", sc.CLONE_NEWCGROUP, True),
    Namespace("time", sc.CLONE_NEWTIME, False),
)
KINDS = {namespace.kind: namespace for namespace in NAMESPACES}
DEFAULT_NAMESPACES = tuple(namespace.kind for namespace in NAMESPACES if namespace.default)


# include/uapi/linux/capability.h: the index is the number.
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"),
    *("SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"),
    *("IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT"),
    *("SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD"),
    *("LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG"),
    *("WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"),
)
# docker's default set without MKNOD: a device node would not work anyway.
DEFAULT_CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "AUDIT_WRITE", "SETFCAP"),
)


class Join(Record):
    """Enter an existing namespace. path: its file, such as b"/proc/1234/ns/net"."""

    kind: str
    path: bytes


class IDMapping(Record):
    """`size` ids from `container_id` on are `host_id` and so on outside (user_namespaces(7))."""

    container_id: int
    host_id: int
    size: int


class User(Record):
    """Who the command runs as: ids of the container."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


class Root(Record):
    """The root file system.

    path: a directory of the host. overlay: an overlay with a tmpfs as its upper layer keeps the
    tree as it was. readonly: nothing below / can be written, the other mounts excepted (the
    overlay is used then too, as the place for mount points that the tree lacks).
    size: of the overlay's tmpfs, as tmpfs(5) takes it. mode, owner: those of the directory itself,
    as the container shall see them, which an overlay cannot take from it.
    """

    path: bytes
    overlay: bool = False
    readonly: bool = False
    size: bytes = b"50%"
    mode: int = 0o755
    owner: tuple[int, int] = (0, 0)


class Mount(Record):
    """Something at a path inside. target: absolute, resolved inside the root file system."""

    target: bytes


class Proc(Mount):
    """A procfs of the container's own pid namespace."""

    target: bytes = b"/proc"


class Sysfs(Mount):
    """A read-only sysfs of the container's own network namespace."""

    target: bytes = b"/sys"


class CgroupTree(Mount):
    """A read-only cgroup2 that begins at the container's own cgroup."""

    target: bytes = b"/sys/fs/cgroup"


class Dev(Mount):
    """A tmpfs with the usual nodes, devpts, shm and mqueue."""

    target: bytes = b"/dev"
    shm_size: bytes = b"64m"


class Tmpfs(Mount):
    """An empty tmpfs. attributes: MOUNT_ATTR_*. size, mode: as tmpfs(5) takes them."""

    attributes: int = sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV
    size: bytes = b""
    mode: bytes = b"1777"


class Text(Mount):
    """A file with these bytes, in memory; root's, for all to read."""

    content: bytes


class Bind(Mount):
    """A file or directory of the host, with the mounts below it.

    source: absolute. directory: what the source is. attributes: MOUNT_ATTR_* that hold for all of
    it. idmap: the container's root is the host's root here, as in the root file system.
    """

    source: bytes
    directory: bool
    attributes: int = sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV
    idmap: bool = True


DEFAULT_MOUNTS: tuple[Mount, ...] = (Proc(), Sysfs(), Dev())

# What the kernel shows of the host, or does for whoever may write there: covered, or read-only
# (proc(5), sysfs(5)). A path that this kernel has not is left out.
MASKED_FILES = (
    *(b"/proc/kcore", b"/proc/keys", b"/proc/timer_list", b"/proc/interrupts", b"/proc/kmsg"),
    *(b"/proc/latency_stats", b"/proc/timer_stats", b"/proc/sched_debug"),
)
MASKED_DIRECTORIES = (
    *(b"/proc/acpi", b"/proc/asound", b"/proc/scsi", b"/sys/firmware"),
    b"/sys/devices/virtual/powercap",
)
DEFAULT_MASKED = MASKED_FILES + MASKED_DIRECTORIES
DEFAULT_READONLY = (
    *(b"/proc/bus", b"/proc/fs", b"/proc/irq", b"/proc/sys", b"/proc/sysrq-trigger"),
)

# include/uapi/asm-generic/resource.h: the index is the number.
RLIMITS = (
    *("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS"),
    *("SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"),
)
RLIM_INFINITY = (1 << 64) - 1


class Rlimit(Record):
    """A resource limit (getrlimit(2)). name: one of RLIMITS. soft, hard: in the resource's unit."""

    name: str
    soft: int
    hard: int


# A core of one byte is none, and the one value that keeps a core_pattern with a pipe from running
# the host's program with the host's rights (core(5); fs/coredump.c).
NO_CORE = Rlimit("CORE", 1, 1)


class Landlock(Record):
    """A Landlock domain (landlock(7)). abi: the kernel's version of it. rules: paths inside, and
    whether what lies there can be written; everything else is out of reach."""

    abi: int
    rules: tuple[tuple[bytes, bool], ...] = ()


class Limits(Record):
    """What a container may use (cgroups(7)); 0, "" and () are not asked for. The words are OCI's.

    memory: bytes; memory_swap: memory and swap together, -1 for no limit; memory_reservation: what
    it keeps when memory is short. cpu_quota in each cpu_period: µs. cpu_shares: 1024 is usual.
    cpuset_cpus, cpuset_mems: as cpuset(7) writes lists. pids: -1 for no limit. blkio_weight: 10
    to 1000. throttle_…: the paths of block devices, with bytes or operations a second.
    """

    memory: int = 0
    memory_swap: int = 0
    memory_reservation: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    blkio_weight: int = 0
    throttle_read_bps: tuple[tuple[str, int], ...] = ()
    throttle_write_bps: tuple[tuple[str, int], ...] = ()
    throttle_read_iops: tuple[tuple[str, int], ...] = ()
    throttle_write_iops: tuple[tuple[str, int], ...] = ()


class Cgroup(Record):
    """A cgroup of its own, into which it is put while it waits at its first gate. parent: a path in
    each hierarchy below which it is, "" for the usual place. manager: cgroupfs or systemd. devices:
    the option for whose sake it may open the usual nodes only, "": there is none. ends: nothing
    else is sure to end what the command leaves behind."""

    limits: Limits = Limits()
    parent: str = ""
    manager: str = "cgroupfs"
    devices: str = ""
    ends: bool = False


class TimeOffsets(Record):
    """Seconds added to the clocks of a new time namespace (time_namespaces(7))."""

    monotonic: int = 0
    boottime: int = 0


class Terminal(Record):
    """A pty of the container's own, with this size from the first moment, as these fds."""

    rows: int = 24
    columns: int = 80
    streams: tuple[int, ...] = (0, 1, 2)


class Monitor(Record):
    """What stays outside with a detached container (csrc/monitor.c), and what it is told.

    stdin: whoever attaches can type. record: the file in the container's directory that gets the
    exit status. log_size: bytes after which the log is rotated; log_files: how many rotated files
    are kept. tick: a command to run each `interval` milliseconds; ended: the one that the monitor
    becomes at the end, `delay` milliseconds later when that came soon; env: theirs. lifetime:
    milliseconds after which the container is killed, 0: none. leases: files and directories to
    remove at the end. event: the journal's line at the end up to the exit code; journal: where it
    goes. oom: the cgroup's file that counts who was killed for want of memory. thaw: the one that
    says whether it is frozen, and thawed: what is written there when it is killed.
    """

    record: bytes = b"exit.json"
    stdin: bool = False
    log_size: int = 8 << 20
    log_files: int = 1
    interval: int = 0
    delay: int = 0
    lifetime: int = 0
    tick: tuple[bytes, ...] = ()
    ended: tuple[bytes, ...] = ()
    env: tuple[bytes, ...] = ()
    leases: tuple[bytes, ...] = ()
    event: bytes = b""
    journal: bytes = b"../../events"
    oom: bytes = b""
    thaw: bytes = b""
    thawed: bytes = b""


class Interface(Record):
    """A network interface of the container's, plugged in from outside while it waits at its gate.

    name: inside. addresses: with their prefix lengths, b"10.66.0.2/16" or b"fd00::2/64".
    gateways: where everything else goes, at most one of each family. mac: six bytes. mtu: bytes.
    queue: RTM_NEWQDISC for what leaves by it, without the interface's index; discipline: its kind.
    """

    name: bytes = b"eth0"
    addresses: tuple[bytes, ...] = ()
    gateways: tuple[bytes, ...] = ()
    mac: bytes = b""
    mtu: int = 1500
    queue: bytes = b""
    discipline: str = ""


class Filter(Record):
    """Which system calls it may make. program: struct sock_filter[] (seccomp(2)). flags:
    SECCOMP_FILTER_FLAG_*. name: in messages."""

    program: bytes
    flags: int = 0
    name: str = "default"


class Spec(Record):
    """A container.

    args: the command, args[0] searched in env's PATH. root: None only where a mount namespace is
    joined. capabilities: names without CAP_, what the container's root keeps. namespaces: the kinds
    to make anew. uid_mappings, gid_mappings: empty without a new user namespace. is_leased: they
    are a range that its process holds, and may be another one at its start. redirected: which of
    fd 0, 1, 2 launch gives (the others are inherited).
    supervised: the container dies with the process that supervises it, which is the one that
    starts it, or its monitor. guest: not a container, but one more process in one: what it leaves
    behind is the container's. routes: subnet and gateway, b"10.2.0.0/24", b"10.1.0.1"; a length of
    0 is everywhere. uplink: its network namespace gets a way out from somebody else while it waits
    at its first gate. sysctls: names and values, of namespaces that are new. masked_paths,
    readonly_paths: of its own proc and sysfs, where it has a root of its own. apparmor, selinux:
    the profile, the label of the command; empty leaves it the caller's. seccomp: None: it may make
    any system call.
    """

    args: tuple[bytes, ...]
    root: Root | None
    env: tuple[bytes, ...] = ()
    cwd: bytes = b"/"
    user: User = User()
    umask: int = 0o022
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    seccomp: Filter | None = None
    hostname: bytes | None = b"minibox"
    domainname: bytes | None = None
    namespaces: tuple[str, ...] = DEFAULT_NAMESPACES
    joined: tuple[Join, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    is_leased: bool = False
    mounts: tuple[Mount, ...] = DEFAULT_MOUNTS
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[tuple[bytes, bytes], ...] = ()
    uplink: bool = False
    sysctls: tuple[tuple[bytes, bytes], ...] = ()
    masked_paths: tuple[bytes, ...] = DEFAULT_MASKED
    readonly_paths: tuple[bytes, ...] = DEFAULT_READONLY
    rlimits: tuple[Rlimit, ...] = (NO_CORE,)
    oom_score_adj: int | None = None
    no_new_privileges: bool = True
    apparmor: bytes = b""
    selinux: bytes = b""
    landlock: Landlock | None = None
    time_offsets: TimeOffsets = TimeOffsets()
    terminal: Terminal | None = None
    redirected: tuple[int, ...] = ()
    init: bool = False
    supervised: bool = True
    guest: bool = False
    monitor: Monitor | None = None
    cgroup: Cgroup | None = None

    def makes(self, kind: str) -> bool:
        """Does the container get a new namespace of this kind?"""
        return kind in self.namespaces

    def joins(self, kind: str) -> bool:
        """Does it enter an existing one?"""
        return any(join.kind == kind for join in self.joined)

    @property
    def has_init(self) -> bool:
        """Does minibox-init stay as the first process? Without a pid namespace of the container's
        own nothing else would end what the command leaves behind."""
        is_alone = self.makes("pid") or self.guest
        return self.init or (self.supervised and not is_alone)

    @property
    def starts_supervised(self) -> bool:
        """Does it die with the process that starts it, at least until it has been set up?"""
        return self.supervised or self.guest

    @property
    def sends_fds(self) -> bool:
        """Does the child send fds that only it can open: its terminal, and to a monitor the
        overlay's upper layer?"""
        return self.terminal is not None or self.shows_upper

    @property
    def shows_upper(self) -> bool:
        """Does the monitor get the overlay's upper layer?"""
        return bool(self.monitor and self.root and self.root.overlay)

    @property
    def has_own_ids(self) -> bool:
        """Are its ids other ones than the host's?"""
        return self.makes("user") or self.joins("user")
