# SPDX-License-Identifier: Apache-2.0
"""What people ask for in words: command lines, options, topologies, templates, times."""

from __future__ import annotations

import os
from functools import cache

from hypothesis import strategies as st

from minibox import events, forms, logs, request, settings
from minibox.cli import containers, options, quick, template, verbs
from minibox.compile import compile
from minibox.errors import SpecError
from minibox.host import Host
from minibox.network import attachment, modes, naming, ports, queues, subnet
from minibox.network.wiring import Wiring
from minibox.plan import Plan
from minibox.spec import CAPABILITIES, Join, Spec, Tmpfs
from tests.fuzz import strategies as s
from tests.fuzz.properties import PLACE, Property

# Values that are right, by the field of the option; what is not here is any text.
RIGHT = {
    "size": ["50%", "64m", "65536"],
    "volumes": ["/etc:/x", "/etc/hostname:/a/b:ro,noexec", "/:/host:noidmap", "/tmp:/tmp:rw,dev,suid"],
    "tmpfs": ["/t", "/t/u:size=64m,mode=0755,ro", "/tmp:noexec"],
    "shm_size": ["64m", "1g"],
    "share": ["net,ipc", "user", "uts", "pid,cgroup"],
    "join": ["net=1", "pid=/proc/1/ns/pid", "user=/proc/self/ns/user", "mnt=1"],
    "net": ["none", "host", "user", "bridge", "ns:/proc/1/ns/net", "container:a", "lab:ip=10.0.0.2,mac=02:42:0a:00:00:02,rate=1mbit"],
    "publish": ["8080:80", "127.0.0.1:8000-8009:80-89/udp", "[::1]:1:1/tcp"],
    "ip": ["10.66.0.9", "fd00::9"],
    "latency": ["20ms", "1s"],
    "loss": ["1%", "0.1%"],
    "rate": ["10mbit", "500kbit"],
    "route": ["10.2.0.0/24=10.1.0.1", "default=10.1.0.1", "fd00::/8=fd00::1"],
    "sysctl": ["net.ipv4.ip_forward=1", "kernel.shmmax=1", "net/ipv4/conf/eth0.1/forwarding=0"],
    "dns": ["10.0.0.53", "fd00::53"],
    "add_host": ["name:10.0.0.1", "six:fd00::1"],
    "network_alias": ["db", "web-1"],
    "userns": ["auto", "host", "keep-id", "100000:200000:65536"],
    "hostname": ["box", "a.b"],
    "domainname": ["local"],
    "workdir": ["/", "/tmp/x"],
    "env": ["A=b", "HOME", "PATH=/bin"],
    "env_file": ["/etc/hostname", "/dev/null", "/etc/passwd"],
    "user": ["root", "0:0", "1000:1000", "nobody"],
    "cap_add": ["ALL", "NET_ADMIN,CAP_SYS_TIME"],
    "cap_drop": ["ALL", "chown"],
    "landlock": ["ro:/usr,rw:/tmp", "ro:/"],
    "ulimit": ["nofile=1024:2048", "nproc=64", "core=-1"],
    "oom_score_adj": ["500", "-1000"],
    "security_opt": ["seccomp=default", "seccomp=unconfined", "no-new-privileges", "mask=/a:/b", "unmask=ALL", "apparmor=x", "label=type:t",
                     'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}', "systempaths=unconfined"],
    "boottime": ["100", "-5"],
    "monotonic": ["100", "+5"],
    "name": ["web", "a.b_c-1"],
    "labels": ["a=b", "c"],
    "restart": ["no", "on-failure:3", "always"],
    "detach_keys": ["ctrl-p,ctrl-q", "a", "ctrl-@"],
    "stop_signal": ["TERM", "SIGINT", "RTMIN+3", "15"],
    "stop_timeout": ["10"],
    "timeout": ["1.5", "500ms", "2h"],
    "log_opt": ["max-size=8m", "max-file=2"],
    "health_cmd": ["true", '["CMD", "a"]', '["CMD-SHELL", "a b"]', "none"],
    "health_interval": ["30s", "0"],
    "health_timeout": ["30s"],
    "health_start_period": ["5s"],
    "health_retries": ["3"],
}  # fmt: skip
HOSTS = (
    Host(0, 0, True, (1 << 41) - 1, 40),
    Host(1000, 1000, False, 0, 40),
    Host(0, 0, False, 0, 40),
    Host(0, 0, True, 1 << 21, 37),
)
ROOT = "/"


@cache
def values(field):
    if field not in RIGHT:
        return s.texts
    right = st.sampled_from(RIGHT[field])
    return right | s.bent(RIGHT[field], most=2) | s.texts


@cache
def argv(field):
    """The same as a word of a command line."""
    return values(field).map(lambda text: text.replace("\0", ""))


# One parser each.


def form(parse, fits=lambda _: True):
    def check(text):
        found = parse(text)
        assert fits(found), (text, found)

    return check


def _volume(found):
    source, target, attributes, idmap = found
    return source and target.startswith(b"/") and attributes >= 0 and idmap in (True, False)


def _subnet(found):
    return subnet.Subnet.parse("x", str(found)).base == found.base


def _ports(found):
    return found and all(1 <= p.host_port <= 65535 and 1 <= p.port <= 65535 for p in found)


FORMS = {
    "volume": ("volumes", forms.volume, _volume),
    "tmpfs": ("tmpfs", forms.tmpfs, lambda v: isinstance(v, Tmpfs) and v.target.startswith(b"/")),
    "target": ("workdir", lambda t: forms.target("--x", t), lambda v: v[:1] == b"/" and v != b"/"),
    "size": ("size", lambda t: forms.size("--x", t), lambda v: v[:1].isdigit()),
    "duration": ("timeout", lambda t: forms.duration("--x", t), lambda v: 0 < v < 1e9),
    "signal": ("stop_signal", lambda t: forms.signal("--x", t), lambda v: 1 <= v <= 64),
    "seconds": ("boottime", lambda t: forms.seconds("--x", t), lambda v: abs(v) < 1 << 63),
    "kinds": ("share", lambda t: forms.kinds("--x", t), lambda v: isinstance(v, list)),
    "join": ("join", forms.join, lambda v: isinstance(v, Join) and v.path),
    "hostname": ("hostname", lambda t: forms.hostname("--x", t), lambda v: 0 < len(v) <= 64),
    "route": ("route", forms.route, lambda v: len(v) == 2 and all(v)),
    "userns": ("userns", forms.userns, lambda v: v.mode != "range" or 0 < v.size < 1 << 32),
    "capabilities": (
        "cap_add",
        lambda t: forms.capabilities([t], []),
        lambda v: set(v) <= set(CAPABILITIES),
    ),
    "security-opt": ("security_opt", lambda t: forms.security_opt([t]), lambda v: len(v) == 1),
    "sysctl": ("sysctl", forms.sysctl, lambda v: b".." not in v[0].split(b"/") and b"\0" not in v[1]),
    "ulimit": ("ulimit", lambda t: forms.ulimits([t]), lambda v: all(0 <= r.soft <= r.hard for r in v)),
    "oom-score-adj": ("oom_score_adj", forms.oom_score_adj, lambda v: -1000 <= v <= 1000),
    "landlock": ("landlock", lambda t: forms.landlock([t]), lambda v: all(p[:1] == b"/" for p, _ in v)),
    "env": ("env", lambda t: forms.variables("--x", t.split("\t")), lambda v: all(v) or not v),
    "publish": ("publish", lambda t: ports.ports([t]), _ports),
    "net": ("net", lambda t: attachment.parse(t, {}), lambda v: len(v.mac) in (0, 6)),
    "net modes": ("net", lambda t: modes.names({"net": t.split("\t")}), bool),
    "latency": ("latency", lambda t: queues.asked(t, None, None), all),
    "loss": ("loss", lambda t: queues.asked(None, t, None), lambda v: bool(v[0]) == bool(v[1])),
    "rate": ("rate", lambda t: queues.asked(None, None, t), all),
    "subnet": ("route", lambda t: subnet.Subnet.parse("--x", t.partition("=")[0]), _subnet),
    "add-host": ("add_host", lambda t: naming.added([t]), all),
    "label": ("labels", lambda t: settings.parse({"labels": [t]}), bool),
    "restart": ("restart", lambda t: settings.parse({"restart": t}), bool),
    "log-opt": ("log_opt", lambda t: settings.parse({"log_opt": [t]}), bool),
    "health-cmd": ("health_cmd", lambda t: settings.parse({"health_cmd": t}), bool),
    "detach-keys": ("detach_keys", settings.detach_keys, lambda v: v.isascii()),
}  # fmt: skip


def times(text):
    found = logs.moment("--since", text, 10**18)
    assert abs(found) <= logs.MOST_SECONDS * logs.SECOND


def filters(texts):
    event = events.parse(
        b'{"Type":"container","Action":"exec_create: x","Actor":{"ID":"ab","Attributes":'
        b'{"name":"n","l":"v"}},"time":1,"timeNano":1}'
    )
    assert events._passes(event, events._filters(texts)) in (True, False)


# All at once.

VERBS = [verb for verb in verbs.VERBS if verb.name in ("run", "create", "plan")]


hosts = st.sampled_from(HOSTS)
trees = st.sampled_from([ROOT, ROOT, ROOT, "/etc/hostname", "", "/nonexistent"])
commands = st.lists(st.sampled_from(["/bin/sh", "sh", "./x"]) | s.words, min_size=1, max_size=3)


@st.composite
def command_line(draw):
    """A verb, and options with values; few enough that it means something now and then."""
    number = draw(st.integers(0, len(VERBS) - 1))
    words = []
    for _ in range(draw(st.integers(0, 4))):
        options_ = VERBS[number].options
        option = options_[draw(st.integers(0, len(options_) - 1))]
        name = option.names[draw(st.integers(0, len(option.names) - 1))]
        words.append(name)
        if option.kind != options.FLAG:
            words.append(draw(argv(option.field)))
    return number, draw(hosts), [*words, draw(trees), *draw(commands)]


def ask(given):
    """What run, create and plan make of a command line, without doing anything of it."""
    number, host, words = given
    found = quick.parse(VERBS[number], [word.replace("\0", "") for word in words])
    if found is None:
        raise SpecError("argv", "this is click's to say")
    if found.get("timeout") is not None:
        forms.duration("--timeout", found["timeout"])
    asked, wanted = containers.asked(found)
    assert settings.parse(wanted)
    asked.setdefault("net", ["none"])
    rootfs, *args = found["args"]
    check_request(args, rootfs, asked, host)


def check_request(args, rootfs, asked, host):
    wired = request.UNWIRED
    if modes.is_wired(asked):
        wiring = Wiring(f"{PLACE}/state", asked, asked.get("hostname") or "minibox")
        wiring.check()
        asked, wired = modes.unwired(wiring.options), wiring.wired()
    spec = request.build(args, rootfs, asked, host, (), wired)
    path, frozen = request.freeze(rootfs, asked)
    assert isinstance(spec, Spec) and path.startswith("/") and frozen.keys() <= request.OPTIONS
    check_maps(spec.uid_mappings)
    check_maps(spec.gid_mappings)
    plan = compile(spec, host)
    assert isinstance(plan, Plan)
    assert plan.encode()


def check_maps(maps):
    """What the kernel takes as a map (user_namespaces(7)): no id twice, on neither side."""
    assert len(maps) <= 340
    for side in ("container_id", "host_id"):
        ends = 0
        for row in sorted(maps, key=lambda row: getattr(row, side)):
            first = getattr(row, side)
            assert row.size > 0 and first >= ends, maps
            ends = first + row.size
        assert ends <= (1 << 32) - 1, maps


# As a Python program asks, with any texts.


@st.composite
def asked_by_a_program(draw):
    found = {}
    lists = {option.field for option in VERBS[0].options if option.kind == options.LIST}
    for field in draw(st.lists(st.sampled_from(sorted(request.OPTIONS)), max_size=4, unique=True)):
        if field in ("overlay", "read_only", "init", "time"):
            found[field] = draw(st.booleans())
        elif field in lists:
            found[field] = draw(st.lists(values(field), max_size=2))
        else:
            found[field] = draw(values(field) | st.none())
    args = draw(st.lists(s.texts | s.binary, min_size=1, max_size=2))
    return (
        found,
        args,
        draw(st.sampled_from(["/", "/", "", "\0", b"/"])),
        draw(st.sampled_from(HOSTS)),
    )


def ask_as_a_program(given):
    found, args, rootfs, host = given
    check_request(args, rootfs, found, host)


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        **{
            field: values(field)
            for field in sorted(
                settings.FIELDS
                - {"labels", "label_file", "log_opt", "tty", "interactive", "remove"}
            )
        },
        "labels": st.lists(values("labels"), max_size=2),
        "log_opt": st.lists(values("log_opt"), max_size=2),
        "remove": st.booleans(),
    },
)


def set_up(given):
    import json

    found = settings.parse(given)
    assert json.loads(json.dumps(found)) == found


# Templates.

TEMPLATES = (
    "{{.Names}}", "{{json .}}", "{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "{{if .Status}}a{{else}}b{{end}}",
    "table {{.ID}}\\t{{.Names}}", "{{index .Labels 1}}", '{{printf "%-5s|%d" .ID 3}}', "{{with .X}}{{.Y | upper}}{{end}}",
    "{{- .A -}}", '{{join (split .A ",") "-"}}', "{{len .L}}", "{{slice .A 0 1}}", "{{/* c */}}", '{{eq .A "x"}}',
)  # fmt: skip


def render(given):
    text, data = given
    assert isinstance(template.compile(text).render(data), str)
    try:
        rows = template.rows(text, [data, data], {"Names": "NAMES"})
    except SpecError:
        return
    assert isinstance(rows, str)


os.makedirs(f"{PLACE}/state", exist_ok=True)
PROPERTIES = [
    *[
        Property(f"form {name}", values(field), form(parse, fits), 22, variants=49)
        for name, (field, parse, fits) in FORMS.items()
    ],
    Property("form since", s.bent(["2026-11-22T00:09:18.5+01:00", "1795305600.5", "1h30m", "2026-11-22"]), times, 20),
    Property("form filters", st.lists(s.bent(["container=a", "label=l=v", "event=die", "type=container"]), max_size=3), filters),
    Property("settings", SETTINGS, set_up, 20),
    Property("command line", command_line(), ask, 50),
    Property("request of a program", asked_by_a_program(), ask_as_a_program, 30),
    Property("template", st.tuples(s.bent(TEMPLATES, odd=s.pieces | st.sampled_from(TEMPLATES), most=3), s.near(
        {"Names": "a", "Labels": {"a": "b"}, "A": "a,b", "L": [1, 2], "X": {"Y": "z"}}, most=2)), render, 40),
]  # fmt: skip
