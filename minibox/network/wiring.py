# SPDX-License-Identifier: Apache-2.0
"""From `--net` to plugged-in interfaces, for one start of one container.

take() leases addresses, finds the bridges and says what belongs into the Spec; plug_in(pid) makes
the interfaces, while the container makes its mounts; release() gives everything back. What a killed
command leaves is a lease whose holder is gone, and the next one who meets it takes it. The
interfaces go with the container's network namespace.
"""

from __future__ import annotations

import os
from errno import EEXIST

from minibox import forms
from minibox import syscalls as sc
from minibox.directory import discard
from minibox.errors import MiniboxError, SpecError, StateError, Unsupported
from minibox.network import modes, naming
from minibox.network.attachment import Attachment, parse
from minibox.network.bridge import ensure
from minibox.network.config import DEFAULT, FIRST_SUBNET, Network, Networks, no_such
from minibox.network.leases import Leases, holder_of_process
from minibox.network.neighbours import Neighbours
from minibox.network.ports import Port, ports
from minibox.network.subnet import Subnet
from minibox.request import Wired
from minibox.resident import Resident, has_ended
from minibox.resources.links import Links
from minibox.spec import Bind, Interface, Text
from minibox.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minibox.network.neighbours import Lines
    from minibox.request import Options
    from minibox.spec import Mount

READ_ONLY = sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOEXEC


def check_rights(options: Options) -> None:
    """Unsupported for who cannot plug anything in."""
    if modes.networks(options) and os.geteuid():
        raise Unsupported("only root can make a bridge\n  hint: --net none or --net host", "rights")


class Wire:
    """One interface: where it is plugged in, and by which lease."""

    def __init__(
        self, network: Network, bridge: int, number: int, name: str, asked: Attachment
    ) -> None:
        self.network = network
        self.bridge = bridge
        self.number = number
        self.name = name  # of the host's end
        self.asked = asked

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(one.address(self.number) for one in self.network.subnets)

    def interface(self, index: int, number: int, *, has_way: bool = True) -> Interface:
        """As it is inside, with the number-th addresses; has_way: to everywhere else."""
        ranges = self.network.subnets
        gateways = () if self.network.internal or not has_way else self.network.gateways
        return Interface(
            name=b"eth%d" % index,
            addresses=tuple(f"{one.address(number)}/{one.length}".encode() for one in ranges),
            gateways=tuple(gateway.encode() for gateway in gateways),
            mac=self.asked.mac or ranges[0].mac(number),
            mtu=self.network.mtu,
            queue=self.asked.queue,
            discipline=self.asked.discipline,
        )

    def told(self, index: int) -> dict[str, object]:
        """For run.json."""
        interface = self.interface(index, self.number)
        return {
            "name": self.network.name,
            "interface": self.name,
            "addresses": [item.decode() for item in interface.addresses],
            "gateways": list(self.network.gateways),
            "mac": interface.mac.hex(":"),
        }


class Wiring:
    """The networks of one start. id: the container's, or "" for one that is not kept."""

    def __init__(
        self, root: str, options: Options, hostname: str, id_: str = "", name: str = ""
    ) -> None:
        self._networks = Networks(root)
        self.options = options
        self._asked = [parse(text, options) for text in modes.networks(options)]
        self._hostname = hostname
        self._id = id_
        self._name = name
        self._holder = id_ or holder_of_process()
        self._joined = -1
        self._is_users = modes.nets(options) == ("user",)
        self._hosts = ""  # the file that others write into, where there are others
        self.wires: list[Wire] = []
        self.ports: list[Port] = ports(options.get("publish") or ())

    # What the Spec is told.

    def wired(self, *, is_own: bool = True) -> Wired:
        """What the Spec needs: interfaces, /etc/hosts, /etc/hostname, /etc/resolv.conf. is_own:
        with the addresses that were leased; otherwise as if they were the networks' first."""
        options = self.options
        numbers = [wire.number if is_own else 0 for wire in self.wires]
        named = zip(self.wires, numbers, strict=True)
        own = [(wire.network.subnets[0].address(number), self._names()) for wire, number in named]
        routes = options.get("route") or ()
        has_default = any(text.startswith("default=") for text in routes)
        interfaces = [
            wire.interface(k, numbers[k], has_way=not k and not has_default)
            for k, wire in enumerate(self.wires)
        ]
        if self._is_users:
            own.append(("127.0.1.1", self._names()))  # its addresses are known too late
        return Wired(
            tuple(interfaces),
            tuple(self._files(own)),
            tuple(forms.route(text) for text in routes),
            self._is_users,
        )

    def _files(self, own: Lines) -> Iterator[Mount]:
        """Without a network of its own, those that somebody has asked for something in."""
        dns, added = self.options.get("dns") or (), naming.added(self.options.get("add_host") or ())
        is_hosts = modes.nets(self.options) == ("host",)
        if self._hosts:
            yield Bind(b"/etc/hosts", os.fsencode(self._hosts), False, READ_ONLY)
        elif own or added:
            base = naming.read("/etc/hosts").encode() if is_hosts else b""
            yield Text(b"/etc/hosts", base + naming.hosts([*own, *added]))
        if own:
            yield Text(b"/etc/hostname", f"{self._hostname}\n".encode())
        if own or dns:
            servers = naming.resolv_conf(dns, reaches_loopback=is_hosts)
            yield Text(b"/etc/resolv.conf", servers)

    def _names(self) -> list[str]:
        found = [self._hostname, *([self._name] if self._name else [])]
        return list(dict.fromkeys([*found, *(self.options.get("network_alias") or ())]))

    # What happens on the host.

    def take(self, say: Callable[[str], object]) -> None:
        """Lease and look up. say: gets a line about what of the host's was changed. What was taken
        is given back when this fails. SetupError, SpecError, StateError."""
        check_rights(self.options)
        if self.options.get("ip") is not None and len(self._asked) != 1:
            raise SpecError("--ip", "it goes with one network\n  hint: --net NAME:ip=ADDRESS")
        token = self._id[:11] or os.urandom(6).hex()[:11]
        try:
            with Links() as links:
                self._join_container()
                if self._is_users:
                    self._take_user(say)
                for k, asked in enumerate(self._asked):
                    network, link = ensure(self._networks, asked.network, links, say)
                    number = Leases(self._networks, network).take(self._holder, asked.ip)
                    self.wires.append(Wire(network, link.index, number, f"mbv{token}{k}", asked))
            self._introduce()
            if self.ports and self.wires:
                self._publish()
        except (MiniboxError, OSError):
            self.release()
            raise

    def _take_user(self, say: Callable[[str], object]) -> None:
        """With nothing to plug it in, it has only lo. Unsupported, where that is not enough."""
        from minibox.network import user

        why = user.obstacle()
        if why and self.ports:
            raise Unsupported(f"--publish: {why}", "pasta")
        if any(port.protocol not in user.PROTOCOLS for port in self.ports):
            raise Unsupported(f"--publish: pasta passes on {' and '.join(user.PROTOCOLS)}")
        if why:
            say(f"no network but lo: {why}")
            self._is_users = False
            return
        for _ in user.sweep(self._networks.root):
            pass

    def _join_container(self) -> None:
        """--net container:NAME: its network namespace, by a file that no other can take the place
        of. StateError."""
        resident = self._other()
        if resident is None:
            return
        state = resident.state()
        pidfd = resident.open_pidfd(state)
        try:
            self._joined = os.open(f"/proc/{state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            if has_ended(pidfd, 0):
                raise StateError(f"container {resident.name} is not running")
        except OSError as error:
            raise StateError(f"container {resident.name}: {error.strerror}") from None
        finally:
            os.close(pidfd)
        path = f"ns:/proc/self/fd/{self._joined}"
        self.options = {**self.options, "net": path}

    def _other(self) -> Resident | None:
        """The container of --net container:NAME. StateError."""
        mode, _, name = modes.nets(self.options)[0].partition(":")
        return Resident.find(Store(self._networks.root), name) if mode == "container" else None

    def preview(self) -> None:
        """The same for who only wants to see the plan: nothing is leased or made."""
        self._join_container()
        for k, asked in enumerate(self._asked):
            network = self._networks.find(asked.network)
            if network is None:
                if asked.network != DEFAULT:
                    raise no_such(asked.network)
                network = self._networks.default(Subnet.parse("subnet", FIRST_SUBNET))
            number = Leases(self._networks, network).preview()
            self.wires.append(Wire(network, 0, number, f"mbv{'?' * 11}{k}", asked))

    def prepare(self, pid: int) -> None:
        """What has to be there while everybody may still look at the child: its change of ids ends
        that (ptrace(2), dumpable). SetupError, StateError."""
        if self._is_users:
            from minibox.network import user

            user.plug(self._networks.root, self._holder, pid, self.ports)

    def plug_in(self, pid: int) -> None:
        """Make the interfaces of the child, which waits for them. OSError."""
        if not self.wires:
            return
        with Links() as links:
            for k, wire in enumerate(self.wires):
                name, interface = wire.name.encode(), wire.interface(k, wire.number)
                driver = wire.network.driver
                if driver != "bridge":
                    links.divide(driver, wire.bridge, interface, pid)
                    continue
                try:
                    links.plug(wire.bridge, name, interface, pid)
                except OSError as error:
                    if error.errno != EEXIST:
                        raise
                    # Of the same container's last start, whose namespace is not all gone yet.
                    links.remove(name)
                    links.plug(wire.bridge, name, interface, pid)
                if self.ports:
                    links.turn_back(name)
                if wire.asked.queue:
                    links.hold_back(name, wire.asked.queue, wire.asked.discipline)

    def _introduce(self) -> None:
        """On the networks that somebody has made, the others hear of it, and it of them."""
        shared = [wire for wire in self.wires if wire.network.name != DEFAULT]
        if not shared:
            return
        own = [(where, self._names()) for wire in self.wires for where in wire.addresses]
        # One that is not kept is called "minibox", as all of them are.
        names = self._names() if self._id else list(self.options.get("network_alias") or ())
        told = [(where, names) for where, _ in own]
        extra = naming.added(self.options.get("add_host") or ())
        others: list[str] = []
        for wire in shared:
            with self._networks.lock(wire.network.name):
                others += self._neighbours(wire).known()
        first = self._neighbours(shared[0])
        with self._networks.lock(shared[0].network.name):
            self._hosts = first.write(shared[0].number, own, extra, others)
        for wire in shared:
            with self._networks.lock(wire.network.name):
                self._neighbours(wire).introduce(wire.number, told, self._hosts)

    def _neighbours(self, wire: Wire) -> Neighbours:
        return Neighbours(self._networks.path(wire.network.name), wire.network.subnets)

    def _publish(self) -> None:
        wire = next((wire for wire in self.wires if not wire.network.internal), None)
        if wire is None:
            raise SpecError("--publish", "it needs a network that is not internal")
        from minibox.network.published import Published

        Published(self._networks).take(self.ports, self._holder, wire.network, wire.addresses)

    def check(self) -> None:
        """Are there such networks, and such a container? SpecError, StateError, Unsupported."""
        check_rights(self.options)
        for asked in self._asked:
            if asked.network != DEFAULT:
                self._networks.get(asked.network)
        self._other()

    def release(self) -> None:
        """Give back leases and ports; what is gone already is well."""
        self.let_go()
        if self._is_users:
            from minibox.network import user

            discard(user.link(self._networks.root, self._holder))
        if self.ports and self.wires:
            from minibox.network.published import Published

            Published(self._networks).release(self._holder)
        for wire in self.wires:
            if wire.network.name != DEFAULT:
                with self._networks.lock(wire.network.name):
                    self._neighbours(wire).forget(wire.number, wire.addresses)
            Leases(self._networks, wire.network).release(wire.number, self._holder)
        self.wires = []

    def let_go(self) -> None:
        """The container lives without us: what it has stays its own."""
        if self._joined >= 0:
            os.close(self._joined)
            self._joined = -1

    # What its monitor is told.

    @property
    def needs_an_end(self) -> bool:
        """Is there more to give back than links?"""
        return bool(self._hosts or (self.ports and self.wires))

    def lease_paths(self) -> tuple[bytes, ...]:
        """The links that go when it has ended."""
        found = [
            f"{self._networks.path(wire.network.name)}/leases/{wire.number}" for wire in self.wires
        ]
        if self._is_users:
            from minibox.network import user

            found.append(user.link(self._networks.root, self._holder))
        return tuple(map(os.fsencode, found))

    def told(self) -> dict[str, object]:
        """For run.json."""
        return {"networks": [wire.told(k) for k, wire in enumerate(self.wires)]}
