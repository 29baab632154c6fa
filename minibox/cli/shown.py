# SPDX-License-Identifier: Apache-2.0
"""A container as ps and inspect show it: docker's words, podman's where docker has none."""

from __future__ import annotations

import time

from minibox import health, request, resident
from minibox.cli import table
from minibox.directory import SHORT
from minibox.logs import rfc3339
from minibox.network import modes
from minibox.resident import CREATED, NS, PAUSED, RESTARTING, Resident, State
from minibox.spec import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minibox.request import Options

COMMAND_WIDTH = 20


def status(container: Resident, state: State) -> str:
    """`Up 3 minutes (healthy)`, `Exited (0) 2 hours ago`, `Created`."""
    if state.is_running:
        health = health_of(container, state)
        shown = {"": "", "starting": " (health: starting)"}.get(health, f" ({health})")
        if state.status == PAUSED:
            shown = " (Paused)"
        return f"Up {table.ago(resident.uptime(state))}{shown}"
    if state.status == CREATED:
        return "Created"
    when = _since(state.finished) if state.finished else "some time"
    word = "Restarting" if state.status == RESTARTING else "Exited"
    return f"{word} ({state.exit_code}) {when} ago"


def _since(moment: int) -> str:
    return table.ago(max(0.0, (time.time_ns() - moment) / NS))


def health_of(container: Resident, state: State) -> str:
    """ "" without a health check, else starting, healthy or unhealthy."""
    if not container.config.get("health"):
        return ""
    return str(health.last(container, state)["status"])


def time_text(moment: int) -> str:
    """RFC 3339, and docker's zero where there is no time."""
    return rfc3339(moment) if moment else "0001-01-01T00:00:00Z"


def row(container: Resident, state: State, *, whole: bool = False) -> dict[str, Any]:
    """For ps: docker's placeholders, with what scripts want of the rest."""
    config = container.config
    command = " ".join(config["args"])
    quoted = f'"{command if whole else table.shorten(command, COMMAND_WIDTH - 2)}"'
    created = config["created"]
    return {
        "ID": container.id if whole else container.id[:SHORT],
        "Image": config["rootfs"],
        "Command": quoted,
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(created // NS)),
        "RunningFor": f"{_since(created)} ago",
        "Status": status(container, state),
        "State": state.status,
        "Ports": _ports(config["options"], state),
        "Names": config["name"],
        "Labels": dict(config["labels"]),
        "Mounts": ",".join(text.split(":")[0] for text in config["options"].get("volumes") or ()),
        "Networks": ",".join(modes.names(config["options"])),
        "Size": "",
        "LocalVolumes": "0",
        "Pid": state.pid,
        "ExitCode": state.exit_code,
    }


def _ports(options: Options, state: State) -> str:
    """`0.0.0.0:8080->80/tcp`, of one that runs."""
    given = options.get("publish")
    if not given or not state.is_running:
        return ""
    from minibox.network.ports import ports

    return ", ".join(
        f"{port.host or '0.0.0.0'}:{port.host_port}->{port.port}/{port.protocol}"
        for port in ports(given)
    )


def _plugged(container: Resident, state: State) -> dict[str, Any]:
    """By network, where one that runs is plugged in."""
    run = container.directory.read("run.json") if state.is_running else None
    found = {}
    for one in (run or {}).get("networks") or ():
        parts = [text.partition("/") for text in one["addresses"]]
        four = next((part for part in parts if "." in part[0]), ("", "", "0"))
        six = next((part for part in parts if ":" in part[0]), ("", "", "0"))
        found[one["name"]] = {
            "IPAddress": four[0],
            "IPPrefixLen": int(four[2]),
            "GlobalIPv6Address": six[0],
            "GlobalIPv6PrefixLen": int(six[2]),
            "Gateway": next((text for text in one["gateways"] if "." in text), ""),
            "IPv6Gateway": next((text for text in one["gateways"] if ":" in text), ""),
            "MacAddress": one["mac"],
            "Interface": one["interface"],
        }
    return found


def entry(container: Resident, state: State) -> dict[str, Any]:
    """For ps --format json: podman's shape."""
    config = container.config
    return {
        "Id": container.id,
        "Names": [config["name"]],
        "Image": config["rootfs"],
        "Command": config["args"],
        "Created": config["created"] // NS,
        "CreatedAt": time_text(config["created"]),
        "StartedAt": state.began // NS if state.began else 0,
        "Exited": state.status == resident.EXITED,
        "ExitedAt": state.finished // NS if state.finished else 0,
        "ExitCode": state.exit_code,
        "State": state.status,
        "Status": status(container, state),
        "Pid": state.pid,
        "Labels": config["labels"],
        "Mounts": [text.split(":")[1] for text in config["options"].get("volumes") or ()],
        "Networks": list(modes.names(config["options"])),
        "Restarts": state.restarts,
        "AutoRemove": config["remove"],
    }


def _limits(options: Options) -> dict[str, Any]:
    """docker's words."""
    asked = request.cgroup(options)
    limits = asked.limits if asked else Limits()
    return {
        "Memory": limits.memory,
        "MemorySwap": limits.memory_swap,
        "MemoryReservation": limits.memory_reservation,
        "NanoCpus": max(0, limits.cpu_quota) * NS // (limits.cpu_period or 1),
        "CpuShares": limits.cpu_shares,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "PidsLimit": limits.pids,
        "BlkioWeight": limits.blkio_weight,
        "CgroupParent": asked.parent if asked else "",
        "CgroupManager": asked.manager if asked else "cgroupfs",
    }


def whole(container: Resident, state: State) -> dict[str, Any]:
    """For inspect."""
    config, options = container.config, container.config["options"]
    args: list[str] = config["args"]
    shown_state: dict[str, Any] = {
        "Status": state.status,
        "Running": state.is_running,
        "Paused": state.status == PAUSED,
        "Restarting": state.status == RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": False,
        "Pid": state.pid,
        "ConmonPid": state.monitor,
        "ExitCode": state.exit_code,
        "Signal": state.signal,
        "Error": state.error,
        "StartedAt": time_text(state.began),
        "FinishedAt": time_text(state.finished),
    }
    if config.get("health"):
        found = health.last(container, state)
        shown_state["Health"] = {
            "Status": found["status"],
            "FailingStreak": found["failing"],
            "Log": found["log"],
        }
    return {
        "Id": container.id,
        "Created": time_text(config["created"]),
        "Path": args[0],
        "Args": args[1:],
        "State": shown_state,
        "Image": config["rootfs"],
        "Rootfs": config["rootfs"],
        "Name": config["name"],
        "RestartCount": state.restarts,
        "LogPath": container.directory.file("log"),
        "Config": {
            "Hostname": options.get("hostname") or container.id[:SHORT],
            "Domainname": options.get("domainname", ""),
            "User": options.get("user", ""),
            "Tty": config["tty"],
            "OpenStdin": config["interactive"],
            "Env": list(options.get("env") or ()),
            "Cmd": args,
            "WorkingDir": options.get("workdir", "/"),
            "Labels": config["labels"],
            "StopSignal": config["stop_signal"],
            "StopTimeout": config["stop_timeout"],
            "Healthcheck": config.get("health"),
        },
        "HostConfig": {
            "AutoRemove": config["remove"],
            "RestartPolicy": {
                "Name": config["restart"]["policy"],
                "MaximumRetryCount": config["restart"]["most"],
            },
            "LogConfig": {"Type": "k8s-file", "Config": config["log"]},
            "ReadonlyRootfs": bool(options.get("read_only")),
            "NetworkMode": modes.names(options)[0],
            "UsernsMode": options.get("userns", "auto"),
            "Binds": list(options.get("volumes") or ()),
            "CapAdd": list(options.get("cap_add") or ()),
            "CapDrop": list(options.get("cap_drop") or ()),
            "Init": bool(options.get("init")),
            "Namespaces": list(request.namespaces(options)),
            **_limits(options),
        },
        "NetworkSettings": {"Networks": _plugged(container, state)},
        "Options": options,
        "StateDirectory": container.directory.path,
    }
