# SPDX-License-Identifier: Apache-2.0
"""What is shown of containers: ps, its filters and formats, and inspect."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest

from minibox.errors import StateError

RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)"


def furnish(box):
    box.create("--label", "tier=back", "--label", "empty", name="created")
    box.run("--label", "tier=front", name="ended", command=("sh", "-c", "exit 3"))
    box.do("wait", "ended")
    box.run("--label", "tier=front", "--label", "mark", name="running")
    box.run("--init", name="stopped")
    box.do("stop", "stopped")


@pytest.fixture
def many(shared_box):
    """Four containers, in the order of their making: created, ended (with 3), running, stopped."""
    return shared_box


def listed(box, *words):
    """The names that ps lists, in its order."""
    return box.do("ps", *words, "--format", "{{.Names}}").split()


# The table.


def test_the_table(many, rootfs):
    lines = many.do("ps", "-a").split("\n")
    head, *rows = [re.split(" {3,}", line) for line in lines]
    assert head == ["CONTAINER ID", "ROOTFS", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert [row[-1] for row in rows] == ["stopped", "running", "ended", "created"]
    by_name = {row[-1]: row for row in rows}
    id_, root, command, created, status = by_name["running"][:5]
    assert id_ == many.inspect("running")["Id"][:12]
    assert root == rootfs
    assert command == '"sleep 1000"'
    assert created.endswith(" ago")
    assert status.startswith("Up ")
    assert by_name["created"][4] == "Created"
    assert re.fullmatch(r"Exited \(3\) .* ago", by_name["ended"][4])
    assert re.fullmatch(r"Exited \(143\) .* ago", by_name["stopped"][4])


def test_without_containers_there_is_the_head_alone(box):
    assert box.do("ps").startswith("CONTAINER ID")
    assert len(box.do("ps", "-a").split("\n")) == 1
    assert not box.root.exists()  # looking makes nothing


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), ["running"]),
        (("-a",), ["stopped", "running", "ended", "created"]),
        (("-n", "2"), ["stopped", "running"]),
        (("--last", "99"), ["stopped", "running", "ended", "created"]),
        (("-l",), ["stopped"]),
        (("-aq", "-f", "name=none"), []),
        (("-f", "status=exited"), ["stopped", "ended"]),
        (("-f", "status=created"), ["created"]),
        (("-f", "status=running"), ["running"]),
        (("-f", "status=restarting"), []),
        (("-f", "exited=3"), ["ended"]),
        (("-f", "exited=143"), ["stopped"]),
        (("-f", "exited=0"), []),
        (("-f", "name=run"), ["running"]),
        (("-f", "name=ended"), []),
        (("-af", "name=ed"), ["stopped", "ended", "created"]),
        (("-af", "label=tier"), ["running", "ended", "created"]),
        (("-af", "label=tier=front"), ["running", "ended"]),
        (("-af", "label=tier=fron"), []),
        (("-af", "label=tie"), []),
        (("-af", "label=empty"), ["created"]),
        (("-af", "label=empty="), ["created"]),
        (("-af", "label=tier", "-f", "label=mark"), ["running"]),
        (("-af", "name=ed", "-f", "label=tier=back"), ["created"]),
        (("-af", "name=e", "-f", "status=exited"), ["stopped", "ended"]),
        (("-af", "health=none"), ["stopped", "running", "ended", "created"]),
        (("-af", "ancestor=/no/such"), []),
        (("-a", "--filter", "status=exited", "--last", "1"), ["stopped"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_which_are_listed(many, words, names):
    assert listed(many, *words) == names


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("-f", "status=created", "-f", "status=running"), ["running", "created"]),
        (("-af", "name=created", "-f", "name=ended"), ["ended", "created"]),
        (("-f", "exited=3", "-f", "exited=143"), ["stopped", "ended"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_two_filters_of_one_kind_are_alternatives(many, words, names):
    """As docker and podman have it, but for labels."""
    assert listed(many, *words) == names


def test_filters_by_id_and_root(many, rootfs):
    id_ = many.inspect("ended")["Id"]
    assert listed(many, "-a", "-f", f"id={id_[:12]}") == ["ended"]
    assert listed(many, "-a", "-f", f"id={id_}") == ["ended"]
    assert len(listed(many, "-a", "-f", f"ancestor={rootfs}")) == 4


@pytest.mark.parametrize(
    "words",
    [
        ("-f", "colour=red"),
        ("-f", "running"),
        ("-f", ""),
        ("-f", "=x"),
        ("-n", "-1"),
        ("-n", "x"),
        ("--format", "{{"),
        ("--format", "{{.Nothing}}"),
        ("--format", "{{nothing .ID}}"),
        ("--format", "table {{.Names}", "-a"),
        ("--json", "--format", "{{.ID}}"),
        ("argument",),
    ],
    ids=lambda words: " ".join(words),
)
def test_what_makes_no_sense_is_refused(many, words):
    done = many("ps", *words)
    assert done.returncode != 0
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
    assert b"internal error" not in done.stderr


def test_quiet_prints_ids(many):
    ids = {many.inspect(name)["Id"] for name in many.names()}
    assert set(many.do("ps", "-aq").split()) == {id_[:12] for id_ in ids}
    assert set(many.do("ps", "-aq", "--no-trunc").split()) == ids
    assert many.do("ps", "-q") == many.inspect("running")["Id"][:12]


def test_what_quiet_prints_is_what_other_verbs_take(box, rootfs):
    for _ in range(3):
        box.do("create", rootfs, "/bin/true")
    box.do("rm", *box.do("ps", "-aq").split())
    assert box.names() == set()


# Formats.


@pytest.mark.parametrize("words", [("--json",), ("--format", "json"), ("--format=json", "--json")])
def test_as_json(many, rootfs, words):
    found = {item["Names"][0]: item for item in json.loads(many.do("ps", "-a", *words))}
    assert set(found) == many.names()
    running = found["running"]
    assert running["Id"] == many.inspect("running")["Id"]
    assert running["Command"] == ["sleep", "1000"]
    assert running["Image"] == rootfs
    assert running["Labels"] == {"tier": "front", "mark": ""}
    assert running["Pid"] == many.state("running")["Pid"]
    assert (running["State"], running["Exited"], running["ExitCode"]) == ("running", False, 0)
    ended = found["ended"]
    assert (ended["State"], ended["Exited"], ended["ExitCode"]) == ("exited", True, 3)
    assert ended["StartedAt"] <= ended["ExitedAt"]
    assert found["created"]["StartedAt"] == 0
    assert json.loads(many.do("ps", *words, "-f", "name=none")) == []


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Names}}", "running"),
        ("{{.State}}: {{.Image}}", "running: {root}"),
        ("{{.Command}}", '"sleep 1000"'),
        ("{{.ID}}", "{short}"),
        ('{{.Label "tier"}}', "front"),
        ('{{.Label "none"}}', ""),
        ("{{json .Names}}", '"running"'),
        ('{{if eq .State "running"}}yes{{else}}no{{end}}', "yes"),
        ("{{upper .Names}}", "RUNNING"),
        ("table {{.Names}}\\t{{.State}}", "NAMES     STATE\nrunning   running"),
        ("plain", "plain"),
    ],
)
def test_templates(many, rootfs, template, text):
    text = text.replace("{root}", rootfs)
    text = text.replace("{short}", many.inspect("running")["Id"][:12])
    assert many.do("ps", "--format", template) == text


def test_a_table_has_the_headings_of_the_fields(many):
    lines = many.do("ps", "-a", "--format", "table {{.ID}}\t{{.Names}}\t{{.Status}}").split("\n")
    assert lines[0].split() == ["CONTAINER", "ID", "NAMES", "STATUS"]
    assert [line.split()[1] for line in lines[1:]] == ["stopped", "running", "ended", "created"]
    columns = {line.index(name) for line, name in zip(lines[1:], listed(many, "-a"), strict=True)}
    assert columns == {lines[0].index("NAMES")}


def test_no_trunc_shows_the_whole_command(box):
    box.create(command=("echo", "a" * 50))
    assert "…" in box.do("ps", "-a")
    whole = box.do("ps", "-a", "--no-trunc")
    assert f'"echo {"a" * 50}"' in whole
    assert box.inspect()["Id"] in whole


HOSTILE = ["two\nlines", "\x1b[2Jcleared", "\ttab", "wide 漢字", "\udcff\udcfe", "{{.ID}}", ""]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_what_a_command_line_may_hold_breaks_no_table(box, locale):
    for k, word in enumerate(HOSTILE):
        box.create(name=f"c{k}", command=("echo", os.fsencode(word)))
    env = {**os.environ, "LC_ALL": locale}
    for words in ((), ("--no-trunc",), ("--format", "table {{.Command}}\t{{.Names}}")):
        done = box("ps", "-a", *words, env=env)
        assert (done.returncode, done.stderr) == (0, b"")
        lines = done.stdout.split(b"\n")[:-1]
        assert len(lines) == 1 + len(HOSTILE)
        assert [line.split()[-1] for line in lines[:0:-1]] == [b"c%d" % k for k in range(7)]
        assert b"\x1b" not in done.stdout
    for words in (("--format", "json"), ("--format", "{{.Names}} {{.Command}}")):
        done = box("ps", "-a", *words, env=env)
        assert (done.returncode, done.stderr) == (0, b"")
    assert box("inspect", *sorted(box.names()), env=env).returncode == 0


def test_no_colours_where_there_is_no_terminal(many):
    assert "\x1b" not in many.do("ps", "-a")


# inspect


def test_inspect_of_one_that_runs(many, rootfs):
    (shown,) = json.loads(many.do("inspect", "running"))
    state = shown["State"]
    assert (state["Status"], state["Running"], state["ExitCode"]) == ("running", True, 0)
    assert Path(f"/proc/{state['Pid']}/comm").read_text() == "sleep\n"
    assert Path(f"/proc/{state['ConmonPid']}/comm").read_text() == "minibox-monitor\n"
    for moment in (shown["Created"], state["StartedAt"]):
        assert re.fullmatch(RFC3339, moment)
        age = datetime.now(timezone.utc) - parsed(moment)
        assert 0 <= age.total_seconds() < 600
    assert state["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert (shown["Path"], shown["Args"]) == ("sleep", ["1000"])
    assert shown["Name"] == "running"
    assert shown["Rootfs"] == rootfs
    assert shown["Config"]["Labels"] == {"tier": "front", "mark": ""}
    assert (Path(shown["StateDirectory"]) / "config.json").exists()
    assert Path(shown["LogPath"]).exists()


def parsed(moment):
    """RFC 3339 with nanoseconds, which datetime does not take before Python 3.11."""
    return datetime.fromisoformat(re.sub(r"\.(\d{6})\d*Z?", r".\1", moment) + "+00:00")


def test_inspect_of_one_that_has_ended(many):
    (shown,) = json.loads(many.do("inspect", "stopped"))
    state = shown["State"]
    assert (state["Status"], state["Running"], state["Pid"]) == ("exited", False, 0)
    assert (state["ExitCode"], state["Signal"]) == (143, 15)
    assert parsed(state["StartedAt"]) < parsed(state["FinishedAt"])


def test_inspect_shows_what_was_asked_for(box, tmp_path):
    box.create(
        *("--hostname=host", "--workdir=/tmp", "--user=1000", "--env=A=b", "--read-only"),
        *("--cap-add=SYS_TIME", "--cap-drop=CHOWN", "--init", f"--volume={tmp_path}:/mnt:ro"),
        *("--stop-signal=INT", "--stop-timeout=3", "--share=net", "--restart=on-failure:4"),
    )
    shown = box.inspect()
    config, host = shown["Config"], shown["HostConfig"]
    assert (config["Hostname"], config["WorkingDir"], config["User"]) == ("host", "/tmp", "1000")
    assert config["Env"] == ["A=b"]
    assert (config["StopSignal"], config["StopTimeout"]) == (2, 3)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 4}
    assert (host["ReadonlyRootfs"], host["Init"], host["AutoRemove"]) == (True, True, False)
    assert (host["CapAdd"], host["CapDrop"]) == (["SYS_TIME"], ["CHOWN"])
    assert host["Binds"] == [f"{tmp_path}:/mnt:ro"]
    assert "net" not in host["Namespaces"]


def test_inspect_of_many(many):
    done = many("inspect", "running", "none", "created")
    assert done.returncode == 125
    assert done.stderr == b"minibox: none: no such container\n"
    assert [item["Name"] for item in json.loads(done.stdout)] == ["running", "created"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.State.Status}} {{.Name}}", "running running"),
        ("{{json .Config.Cmd}}", '["sleep","1000"]'),
        ("{{.State.Pid}}", None),
        ("{{range .Config.Cmd}}<{{.}}>{{end}}", "<sleep><1000>"),
        ('{{index .Config.Labels "tier"}}', "front"),
    ],
)
def test_inspect_by_template(many, template, text):
    expected = str(many.state("running")["Pid"]) if text is None else text
    assert many.do("inspect", "--format", template, "running") == expected


@pytest.mark.parametrize("template", ["{{", "{{.Nothing}}", "{{.State.Nothing}}", "{{end}}"])
def test_inspect_by_a_template_that_is_none(many, template):
    many.refused("inspect", "-f", template, "running")


def test_a_label_file(box, tmp_path, rootfs):
    (tmp_path / "labels").write_text("# a comment\n\na=1\nb\nc=x=y\n")
    box.create("--label-file", tmp_path / "labels", "--label", "a=2")
    assert box.inspect()["Config"]["Labels"] == {"a": "2", "b": "", "c": "x=y"}


def test_one_that_is_damaged_hides_no_other(box):
    box.run(name="sound")
    box.run(name="damaged")
    (box.files("damaged") / "run.json").write_bytes(b"\xff{")
    done = box("ps", "--format", "{{.Names}}")
    assert done.stdout == b"sound\n"
    message = done.stderr.decode()
    assert message.startswith("minibox: container ")
    assert "run.json cannot be used" in message
    assert "rm -f" in message


def test_one_that_was_removed_meanwhile_is_not_there(box):
    """ps and others have found it, then look at it."""
    box.create()
    container = box.resident()
    box.do("rm", "c")
    with pytest.raises(StateError, match="no such container"):
        container.state()
