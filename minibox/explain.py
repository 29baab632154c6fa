# SPDX-License-Identifier: Apache-2.0
"""C knows (op, errno); here is why: the message, the hint and the kind of error."""

from __future__ import annotations

import errno
import os

from minibox import describe, elf
from minibox import syscalls as sc
from minibox.errors import CannotExecute, CommandNotFound, SetupError
from minibox.plan import EXPECT_ZERO, Struct
from minibox.resources import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.core import LaunchError, Report
    from minibox.plan import Op, Plan
    from minibox.spec import Spec

NO_IDMAP = (
    "its file system cannot be id-mapped; --userns host keeps the host's ids, "
    "or copy the tree to ext4, xfs or btrfs (since Linux 6.3 also tmpfs)"
)
NO_IDMAP_VOLUME = "its file system cannot be id-mapped; the word noidmap keeps the host's ids"
NO_USERNS = "user namespaces are restricted here"
NEW_PROC = (
    "a new proc needs a pid namespace that the container's user namespace owns (drop --share pid; "
    "join user as well, or --userns host), and a /proc on the host that nothing covers"
)
MISSING_POINT = (
    "the mount point is missing on a file system that is read-only: make it there; "
    "in ROOTFS --overlay makes it in memory"
)
LIKE_ON_LIKE = "a file can be mounted on a file only, a directory on a directory only"
NO_FILTERS = (
    "this kernel has no filters of system calls, or not this one; "
    "--security-opt seccomp=unconfined goes without"
)
FILTERED = (
    "the seccomp profile refuses what starts a command: rt_sigprocmask, execve, exit; "
    "with --init also clone and what an init calls"
)
NO_LINK = "it must be a directory of the tree, not a link"
# (call, errno, how the op's origin begins) -> hint; the first that fits.
HINTS = (
    ("mount_setattr", errno.EPERM, "", NO_IDMAP),
    ("fsmount", errno.EPERM, "", NEW_PROC),
    ("fsconfig", errno.EPERM, "", NEW_PROC),
    ("mkdirat", errno.EROFS, "", MISSING_POINT),
    ("mknodat", errno.EROFS, "", MISSING_POINT),
    ("openat2", errno.ELOOP, "mounts", NO_LINK),
    ("openat2", errno.ELOOP, "command", "a link of /proc that leads out is not followed"),
    ("move_mount", errno.EINVAL, "mounts", LIKE_ON_LIKE),
    ("setns", errno.EINVAL, "", "it is no namespace of that kind"),
    ("setns", errno.EPERM, "", "joining takes rights over the namespace's owner"),
    ("setresuid", errno.EINVAL, "", "the id is not mapped in the user namespace"),
    ("setresgid", errno.EINVAL, "", "the id is not mapped in the user namespace"),
    ("seccomp", errno.EINVAL, "", NO_FILTERS),
    ("seccomp", errno.ENOSYS, "", NO_FILTERS),
    ("rt_sigprocmask", errno.EPERM, "", FILTERED),
    ("init", errno.EPERM, "", FILTERED),
    ("execveat", errno.EACCES, "", "vm.memfd_noexec forbids to run the sealed init"),
)
# Hint -> the line of minibox doctor that says more.
LACKS = {
    NO_IDMAP: "idmapped mounts",
    NO_IDMAP_VOLUME: "idmapped mounts",
    NO_USERNS: "user namespaces",
    NEW_PROC: "proc",
}


def _hint(op: Op, error: int) -> str:
    if op.call == "mount_setattr" and error == errno.EINVAL:
        attr = op.args[3]
        if isinstance(attr, Struct) and attr.fields[0][1] & sc.MOUNT_ATTR_IDMAP:
            return NO_IDMAP_VOLUME if op.origin.startswith("mounts") else NO_IDMAP
    for call, number, place, hint in HINTS:
        if call == op.call and number == error and op.origin.startswith(place):
            return hint
    return ""


def failure(plan: Plan, spec: Spec | None, report: Report) -> SetupError:
    """The error of a plan that ended at report.step with report.error."""
    op = plan.steps[report.step]
    if op.call == "execve" and spec is not None:
        return _exec_failure(plan, spec, report)
    number = report.error
    if number == errno.ESRCH and op.flags & EXPECT_ZERO:
        return SetupError(number, "the supervising process is gone", reason="set-up abandoned")
    # "mounts[0], mount proc on /proc": where in the request, and what it is about.
    place, _, thing = op.origin.partition(", ")
    what = thing or describe.phrase(op)
    origin = f"{place} ({op.call}: {op.why})" if op.why else place
    hint = _hint(op, number)
    lack = _lack(op, number) or LACKS.get(hint, "")
    return SetupError(number, what, report.step + 1, len(plan.steps), origin, hint, lack=lack)


def _lack(op: Op, number: int) -> str:
    """What this host has not, where the call itself says it."""
    if op.call == "fsopen" and number == errno.ENODEV and op.args[0] == b"overlay":
        return "overlay"
    if op.call.startswith("landlock"):
        return "landlock"
    return "seccomp" if op.call == "seccomp" else ""


def launch_failure(plan: Plan, spec: Spec, error: LaunchError) -> SetupError:
    """The error of a launch whose parent's side failed."""
    if error.report:
        return failure(plan, spec, error.report)
    number = error.errno or 0
    if error.what:
        return SetupError(number, error.what)
    hint = ""
    if number in (errno.EPERM, errno.ENOSPC) and plan.flags & sc.CLONE_NEWUSER:
        hint = NO_USERNS
    elif number == errno.EPERM:
        hint = "new namespaces need root, or a user namespace (drop --userns host)"
    elif number == errno.EAGAIN:
        hint = "a limit on processes: RLIMIT_NPROC, or pids.max of this cgroup"
    lack = LACKS.get(hint, "")
    return SetupError(number, "cannot clone the container's process", hint=hint, lack=lack)


def no_userns(error: LaunchError) -> SetupError:
    """The error of a user namespace that is made for its maps alone."""
    number = error.errno or 0
    if error.what:
        return SetupError(number, error.what)
    hint = NO_USERNS if number in (errno.EPERM, errno.ENOSPC) else ""
    what = "cannot make a user namespace"
    return SetupError(number, what, hint=hint, lack=LACKS.get(hint, ""))


def parent_failure(error: OSError, what: str) -> SetupError:
    """The error of something that the parent does by itself; error.filename says to what."""
    return SetupError(error.errno or 0, f"{what}: {error.filename}" if error.filename else what)


# The command.


def _exec_failure(plan: Plan, spec: Spec, report: Report) -> SetupError:
    """ENOENT is 127, the rest 126; the paths of a PATH search count as one."""
    searched = [i for i, op in enumerate(plan.steps[: report.step + 1]) if op.call == "execve"]
    errors = [-report.results[i] for i in searched[:-1]] + [report.error]
    name = os.fsdecode(spec.args[0]) or "''"
    denied = errno.EACCES in errors and report.error in (errno.ENOENT, errno.ENOTDIR)
    number = errno.EACCES if denied else report.error
    if number == errno.ENOENT:
        path = spec.args[0]
        for i in searched:
            tried = plan.steps[i].args[0]
            missing = _missing_interpreter(spec, tried) if isinstance(tried, bytes) else ""
            if missing:
                return CommandNotFound(number, name, reason=missing)
        if b"/" not in path and path:
            reason = "command not found in the container's PATH"
            return CommandNotFound(number, name, reason=reason)
        return CommandNotFound(number, name)
    return CannotExecute(number, name, hint=EXEC_HINTS.get(number, ""))


EXEC_HINTS = {
    errno.ENOEXEC: "neither a program for this machine nor a script with a #! line",
    errno.EACCES: "it is a directory, lacks the x permission, or lies on a noexec mount",
    errno.E2BIG: "arguments and environment are too long",
    errno.ELOOP: "its interpreters are scripts themselves, or links go in circles",
}


def _missing_interpreter(spec: Spec, path: bytes) -> str:
    """When ENOENT is about a file that does exist: the interpreter that does not."""
    if spec.root is None or b"/" not in path:
        return ""
    full = path if path.startswith(b"/") else spec.cwd.rstrip(b"/") + b"/" + path
    try:
        head = tree.read(spec.root.path, full, 4096)
        interpreter = elf.script_interpreter(head) or elf.loader(head)
    except (OSError, ValueError):
        return ""
    if not interpreter or tree.exists(spec.root.path, interpreter):
        return ""
    kind = "interpreter" if head.startswith(b"#!") else "loader"
    return f"its {kind} {os.fsdecode(interpreter)} does not exist in the container"
