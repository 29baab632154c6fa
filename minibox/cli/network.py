# SPDX-License-Identifier: Apache-2.0
"""minibox network create, ls, inspect, rm"""

from __future__ import annotations

from minibox import cli
from minibox.cli import containers, table
from minibox.errors import MiniboxError, SpecError
from minibox.network import manage
from minibox.network.config import MTU, Network, Networks
from minibox.settings import whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minibox.cli.containers import Values

HEADINGS = ("NAME", "DRIVER", "SUBNET", "INTERFACE")


def execute(values: Values) -> int:
    action, *names = values["args"]
    networks = Networks(containers.store().root)
    if action == "create":
        return _create(networks, names, values)
    if action in ("ls", "list"):
        return _list(networks, names, values)
    if action == "inspect":
        containers.print_json([_shown(networks, networks.get(name)) for name in _some(names)])
        return 0
    if action in ("rm", "remove"):
        return _remove(networks, _some(names))
    raise SpecError("ACTION", f"{action!r} is none of create, ls, inspect, rm")


def _some(names: list[str]) -> list[str]:
    if not names:
        raise SpecError("NAME", "no network is named")
    return names


def _create(networks: Networks, names: list[str], values: Values) -> int:
    if len(names) != 1:
        raise SpecError("NAME", "one name is needed")
    mtu = values.get("mtu")
    network = manage.create(
        networks,
        names[0],
        subnets=values.get("subnet") or (),
        gateways=values.get("gateway") or (),
        ipv6=bool(values.get("ipv6")),
        internal=bool(values.get("internal")),
        mtu=MTU if mtu is None else whole("--mtu", mtu),
        driver=values.get("driver") or "bridge",
        parent=values.get("parent") or "",
    )
    print(network.name)
    return 0


def _list(networks: Networks, names: list[str], values: Values) -> int:
    if names:
        raise SpecError("NAME", "ls lists all networks")
    found, code = [], 0
    for name in networks.names():
        try:
            network = networks.find(name)
        except MiniboxError as error:
            code = cli.report(error)
        else:
            found += [network] if network else []
    if values.get("quiet"):
        print("".join(f"{network.name}\n" for network in found), end="")
    elif values.get("json"):
        containers.print_json([_shown(networks, network) for network in found])
    else:
        rows = [(n.name, n.driver, " ".join(map(str, n.subnets)), n.interface) for n in found]
        print(table.table(HEADINGS, rows), end="")
    return code


def _shown(networks: Networks, network: Network) -> dict[str, Any]:
    return {
        "name": network.name,
        "driver": network.driver,
        "network_interface": network.interface,
        "subnets": [
            {"subnet": str(subnet), "gateway": gateway}
            for subnet, gateway in zip(network.subnets, network.gateways, strict=True)
        ],
        "ipv6_enabled": any(subnet.is_six for subnet in network.subnets),
        "internal": network.internal,
        "mtu": network.mtu,
        "containers": dict(manage.members(networks, network)),
    }


def _remove(networks: Networks, names: list[str]) -> int:
    code = 0
    for name in names:
        try:
            manage.remove(networks, name)
        except MiniboxError as error:
            code = cli.report(error)
        else:
            print(name)
    return code
