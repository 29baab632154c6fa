# SPDX-License-Identifier: Apache-2.0
"""Who goes where by whom: the shortest way over the routers, as a breadth-first search finds it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibox.topology.model import Model, Node

    Hop = tuple[str, str]  # a router, and the network on which it is met


def ways(model: Model, node: Node) -> dict[str, Hop]:
    """By network that the node is not on: the first router on the way there."""
    found: dict[str, Hop | None] = {link.network: None for link in node.links}
    routers = [one for one in model.nodes if one.forwards and one.name != node.name]
    queue = list(found)
    while queue:
        here = queue.pop(0)
        for router in routers:
            if router.link(here) is None:
                continue
            for link in router.links:
                if link.network not in found:
                    found[link.network] = found[here] or (router.name, here)
                    queue.append(link.network)
    return {network: hop for network, hop in found.items() if hop}
