# SPDX-License-Identifier: Apache-2.0
"""Too little of everything, a hostile environment, strange places: one message, or it works."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import minibox
from tests.ordinary import uncover

COMMAND = str(Path(sys.executable).with_name("minibox"))
PAGES = 4096


@pytest.fixture
def limited(command, rootfs):
    """`limited(resource, value, options…)`: an echo under a limit."""

    def run(which, value, *options):
        return command.run(
            "run", *options, rootfs, "/bin/echo", "started",
            preexec_fn=lambda: resource.setrlimit(which, (value, value)),
        )  # fmt: skip

    return run


@pytest.fixture
def works(command, rootfs):
    def works():
        done = command.run("run", rootfs, "/bin/echo", "again")
        return (done.returncode, done.stdout, done.stderr) == (0, b"again\n", b"")

    return works


def is_refusal_or_success(done, message):
    if done.returncode == 0:
        return (done.stdout, done.stderr) == (b"started\n", b"")
    return done.returncode == 125 and done.stdout == b"" and message(done.stderr) is None


# Limits.

# What the interpreter needs to start: its libraries and modules, one at a time.
INTERPRETER_NEEDS = 4


@pytest.mark.parametrize("options", [(), ("--init",), ("--overlay",), ("--userns", "host")])
@pytest.mark.parametrize("limit", [INTERPRETER_NEEDS, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 22])
def test_few_descriptors_are_one_message_or_enough(
    limited, message, works, unchanged, limit, options
):
    done = limited(resource.RLIMIT_NOFILE, limit, *options)
    assert is_refusal_or_success(done, message), done
    assert works()


@pytest.mark.parametrize("options", [(), ("--init",), ("--overlay", "--read-only"), ("--time",)])
def test_32_descriptors_are_enough(limited, options):
    assert limited(resource.RLIMIT_NOFILE, 32, *options).stdout == b"started\n"


def test_fewer_descriptors_than_the_interpreter_needs_start_nothing(limited):
    done = limited(resource.RLIMIT_NOFILE, INTERPRETER_NEEDS - 1)
    assert done.returncode != 0
    assert (done.stdout, b"Traceback" in done.stderr) == (b"", False)


def test_forty_volumes_fit_into_the_usual_limit(command, rootfs, tree):
    """Each takes descriptors while the container is made; 256 are the least that is usual."""
    words = [word for k in range(40) for word in ("--volume", f"{tree}/etc:/v/{k}")]
    done = command.run(
        "run", "--overlay", *words, rootfs, "/bin/sh", "-c", "ls /v | wc -l",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"40\n", b"")


@pytest.mark.parametrize("megabytes", [16, 18, 20, 24, 28, 32, 64])
def test_little_memory_is_one_message_or_enough(limited, message, works, megabytes):
    """Below about 20 MiB it is the interpreter that cannot start, and says so in its own words."""
    done = limited(resource.RLIMIT_AS, megabytes << 20)
    if megabytes < 20 and done.returncode and not done.stderr.startswith(b"minibox:"):
        assert done.stdout == b""
    else:
        assert is_refusal_or_success(done, message), done
    assert works()


def test_no_more_processes_is_one_message(command, rootfs, message):
    """As an ordinary user in a user namespace of the test's own, where the limit counts."""
    drop = "setpriv --reuid=4321 --regid=4321 --clear-groups --inh-caps=-all"
    run = shlex.join([COMMAND, "run", rootfs, "/bin/echo", "started"])
    whole = f"{uncover()}\nexec {drop} -- prlimit --nproc=1 {run}"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", whole],
        capture_output=True,
        cwd="/",
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (125, b"")
    assert message(done.stderr) is None
    assert b"RLIMIT_NPROC" in done.stderr


@pytest.mark.parametrize("size", [1, 4096])
def test_no_file_may_grow(limited, size):
    """RLIMIT_FSIZE counts for a memfd, too."""
    done = limited(resource.RLIMIT_FSIZE, size, "--init")
    assert done.returncode in (0, 125)
    assert b"Traceback" not in done.stderr


# Arguments and environment.


def test_arguments_that_are_too_long_are_126(rootfs, tmp_path, message, command):
    """One longer than the kernel takes (MAX_ARG_STRLEN) cannot even reach the command line, so
    it comes by the library."""
    with pytest.raises(minibox.CannotExecute) as caught:
        minibox.run(["/bin/true", "x" * (32 * PAGES)], rootfs=rootfs)
    assert caught.value.exit_code == 126
    assert "Argument list too long" in str(caught.value)
    assert minibox.run(["/bin/true", "x" * (32 * PAGES - 1)], rootfs=rootfs).exit_code == 0


def test_ten_thousand_variables(command, rootfs, tmp_path):
    file = tmp_path / "env"
    file.write_text("".join(f"NAME{k}=value{k}\n" for k in range(10_000)))
    done = command.run(
        "run", "--env-file", file, rootfs, "/bin/sh", "-c", "echo $NAME9999; env | wc -l"
    )
    assert done.returncode == 0
    last, count = done.stdout.split()
    assert (last, int(count) >= 10_000) == (b"value9999", True)


def test_two_megabytes_of_environment_are_126_or_there(command, rootfs, tmp_path, message):
    """execve(2): a quarter of the stack limit is what fits, 2 MiB by default."""
    files = []
    for name in "abc":
        file = tmp_path / name
        file.write_text("".join(f"{name}{k}={'x' * 1000}\n" for k in range(750)))
        files += ["--env-file", file]
    done = command.run("run", *files, rootfs, "/bin/echo", "started")
    assert (done.returncode, done.stdout) == (126, b"")
    assert message(done.stderr) is None
    assert command.run("run", *files[:2], rootfs, "/bin/echo", "started").returncode == 0


def test_a_megabyte_in_one_variable_is_126(rootfs):
    with pytest.raises(minibox.CannotExecute):
        minibox.run(["/bin/true"], rootfs=rootfs, env={"BIG": "x" * (1 << 20)})


HOSTILE = {
    "PYTHONHOME": "/nonexistent",
    "PYTHONPATH": "{traps}",
    "PYTHONSTARTUP": "{traps}/os.py",
    "PYTHONINSPECT": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONDEVMODE": "1",
    "PYTHONHASHSEED": "nonsense",
    "PYTHONUTF8": "nonsense",
    "PYTHONIOENCODING": "nonsense",
    "PYTHONMALLOC": "nonsense",
    "PYTHONPLATLIBDIR": "nonsense",
    "PYTHONEXECUTABLE": "/nonexistent",
    "PYTHONCASEOK": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONTRACEMALLOC": "99",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONVERBOSE": "3",
    "TMPDIR": "/nonexistent",
    "HOME": "/nonexistent",
    "LC_ALL": "xx_XX.KOI8-R",
    "LANG": "tlh_AA.UTF-7",
    "TERM": "nonsense",
    "MALLOC_ARENA_MAX": "nonsense",
    "IFS": "/m",
    "ENV": "{traps}/os.py",
    "CDPATH": "/",
    "PATH": "/nonexistent",
}


@pytest.fixture
def traps(tmp_path):
    """Modules with the names of Python's own, which tell when they are imported."""
    directory = tmp_path / "traps"
    directory.mkdir()
    for name in (
        "os",
        "json",
        "struct",
        "select",
        "minibox",
        "sitecustomize",
        "usercustomize",
        "encodings",
    ):
        (directory / f"{name}.py").write_text(
            "open(__file__ + '.sprung', 'w'); raise SystemExit(99)\n"
        )
    return directory


RUN = ("run", "--net", "none")  # where no MINIBOX_NET says so


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_variable_is_not_heard(command, rootfs, traps, name):
    environment = {**os.environ, name: HOSTILE[name].format(traps=traps)}
    done = command.run("run", rootfs, "/bin/echo", "started", env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"started\n", b"")
    assert not list(traps.glob("*.sprung"))


def test_all_hostile_variables_at_once_from_the_directory_of_traps(command, rootfs, traps):
    environment = {name: value.format(traps=traps) for name, value in HOSTILE.items()}
    script = "env | grep -c -E 'PYTHON|TMPDIR|LANG'"
    done = command.run(*RUN, rootfs, "/bin/sh", "-c", script, env=environment, cwd=traps)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"0\n", b"")
    assert not list(traps.glob("*.sprung"))


def test_a_missing_library_to_preload_is_the_loaders_complaint_alone(command, rootfs):
    environment = {**os.environ, "LD_PRELOAD": "/nonexistent.so"}
    done = command.run("run", rootfs, "/bin/echo", "started", env=environment)
    assert (done.returncode, done.stdout) == (0, b"started\n")
    assert all(line.startswith(b"ERROR: ld.so") for line in done.stderr.splitlines())


def test_no_environment_at_all(command, rootfs):
    done = command.run(*RUN, rootfs, "/bin/sh", "-c", "echo $HOME $PATH", env={})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"/root /")


# Streams and places.


@pytest.mark.parametrize(("words", "code"), [(("/bin/true",), 0), (("nope",), 127)])
def test_a_full_stderr_changes_no_exit_code(rootfs, words, code):
    with open("/dev/full", "wb") as full:
        argv = [COMMAND, "run", rootfs, *words]
        assert subprocess.run(argv, stderr=full, stdin=subprocess.DEVNULL).returncode == code


def test_a_full_stdout_for_minibox_itself_is_a_message(rootfs, message):
    with open("/dev/full", "wb") as full:
        argv = [COMMAND, "plan", rootfs, "/bin/true"]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125
    assert message(done.stderr) is None
    assert b"No space left on device" in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("no\nsuch", "/bin/true"), 125),
        (("{rootfs}", "/bin/no\nsuch"), 127),
        (("{rootfs}", "no\nsuch"), 127),
        (("--volume", "no\nsuch:/x", "{rootfs}", "/bin/true"), 125),
        (("--workdir", "/no\nsuch", "{rootfs}", "/bin/true"), 125),
        (("--env-file", "no\nsuch", "{rootfs}", "/bin/true"), 125),
        (("--user", "no\nsuch", "{rootfs}", "/bin/true"), 125),
        (("--no\nsuch", "{rootfs}", "/bin/true"), 125),
    ],
    ids=str,
)
def test_a_newline_in_a_name_does_not_make_two_messages(command, rootfs, message, words, code):
    done = command.run("run", *[word.format(rootfs=rootfs) for word in words])
    assert (done.returncode, message(done.stderr)) == (code, None)


def in_deleted_directory(tmp_path, *words):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    argv = ["sh", "-c", script, "sh", gone, COMMAND, *words]
    return subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL)


def test_a_deleted_directory_is_no_obstacle(tmp_path, rootfs):
    done = in_deleted_directory(tmp_path, "run", rootfs, "/bin/echo", "started")
    assert (done.returncode, done.stdout) == (0, b"started\n")
    assert done.stderr == b""


@pytest.mark.parametrize(
    "words",
    [("run", "rootfs", "/bin/true"), ("run", "--volume", "x:/mnt", "{rootfs}", "/bin/true")],
)
def test_a_path_relative_to_a_deleted_directory_is_named(tmp_path, rootfs, message, words):
    words = [word.format(rootfs=rootfs) for word in words]
    done = in_deleted_directory(tmp_path, *words)
    assert done.returncode == 125
    text = done.stderr
    assert message(text) is None
    assert b"rootfs" in text.replace(rootfs.encode(), b"") or b"--volume" in text


def privately(script, *words, **options):
    """A script in a mount namespace of its own."""
    argv = ["unshare", "--mount", "--propagation=private", "sh", "-ec", script, "sh", *words]
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        [str(word) for word in argv], capture_output=True, timeout=20, cwd="/", **options
    )


@pytest.mark.parametrize("options", ["", "--overlay", "--read-only", "--init"])
def test_a_read_only_directory_and_no_tmp(rootfs, options):
    """Nothing is written on the host, wherever it stands."""
    script = (
        "mount -o remount,bind,ro /; "
        "for d in /tmp /run /var/tmp /dev/shm; do mount --bind $d $d; mount -o remount,bind,ro $d; done; "
        f'exec "$@" run {options} {shlex.quote(rootfs)} /bin/echo started'
    )
    done = privately(script, COMMAND)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"started\n", b"")


# Root file systems.


def on_a_mount(mount, rootfs, *words, then="true"):
    """A copy of the root file system on a file system of its own, at $PLACE."""
    script = f'{mount}\ncp -a {shlex.quote(rootfs)}/. "$PLACE"\n{then}\nexec "$@"'
    return lambda place: privately(
        script, COMMAND, "run", *[word.replace("PLACE", str(place)) for word in words],
        env={**os.environ, "PLACE": str(place)},
    )  # fmt: skip


def test_a_root_on_tmpfs(rootfs, tmp_path):
    run = on_a_mount(
        'mount -t tmpfs t "$PLACE"', rootfs, "PLACE", "/bin/sh", "-c", "touch /x; ls /x"
    )
    done = run(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"/x\n", b"")


@pytest.mark.parametrize("options", [(), ("--overlay",), ("--userns", "host"), ("--init",)])
def test_a_root_on_a_read_only_file_system(rootfs, tmp_path, options):
    run = on_a_mount(
        'mount -t tmpfs t "$PLACE"', rootfs, *options, "PLACE", "/bin/echo", "started",
        then='mount -o remount,ro "$PLACE"',
    )  # fmt: skip
    done = run(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"started\n", b"")


def test_a_read_only_root_without_mount_points_names_the_way_out(rootfs, tmp_path, message):
    prepare = 'rmdir "$PLACE/proc"; mount -o remount,ro "$PLACE"'
    refused = on_a_mount(
        'mount -t tmpfs t "$PLACE"', rootfs, "PLACE", "/bin/echo", "started", then=prepare
    )(tmp_path)
    assert (refused.returncode, refused.stdout) == (125, b"")
    assert message(refused.stderr) is None
    assert b"/proc" in refused.stderr and b"--overlay" in refused.stderr
    done = on_a_mount(
        'mount -t tmpfs t "$PLACE"', rootfs, "--volatile", "PLACE", "/bin/echo", "started",
        then=prepare,
    )(tmp_path)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"started\n")


RAMFS = 'mount -t ramfs r "$PLACE"'
OVERLAY = (
    'mount -t tmpfs t "$PLACE"; mkdir "$PLACE/l" "$PLACE/u" "$PLACE/w" "$PLACE/m"\n'
    'mount -t overlay o -o lowerdir="$PLACE/l",upperdir="$PLACE/u",workdir="$PLACE/w" "$PLACE/m"\n'
    'PLACE="$PLACE/m"'
)


@pytest.mark.parametrize(
    ("mount", "place"), [(RAMFS, "PLACE"), (OVERLAY, "PLACE/m")], ids=["ramfs", "overlay"]
)
def test_a_root_that_cannot_be_id_mapped_names_the_way_out(rootfs, tmp_path, message, mount, place):
    run = on_a_mount(mount, rootfs, place, "/bin/echo", "started")
    done = run(tmp_path)
    if done.returncode == 0:  # a later kernel can: then it must have worked
        assert done.stdout == b"started\n"
        return
    assert (done.returncode, done.stdout) == (125, b"")
    assert message(done.stderr) is None
    assert b"id-mapped" in done.stderr and b"--userns host" in done.stderr
    way_out = on_a_mount(mount, rootfs, "--userns", "host", place, "/bin/echo", "started")
    assert way_out(tmp_path).stdout == b"started\n"


def test_a_volume_that_cannot_be_id_mapped_names_the_way_out(rootfs, tmp_path, message):
    script = 'mount -t ramfs r "$PLACE"; touch "$PLACE/file"; exec "$@"'
    words = ["--tmpfs", "/opt", rootfs, "/bin/ls", "/opt/v"]
    for options, code in ((f"{tmp_path}:/opt/v", 125), (f"{tmp_path}:/opt/v:noidmap", 0)):
        done = privately(
            script, COMMAND, "run", "--volume", options, *words,
            env={**os.environ, "PLACE": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == code, done
        if code:
            assert message(done.stderr) is None
            assert b"noidmap" in done.stderr
        else:
            assert done.stdout == b"file\n"


def test_a_root_that_moves_about_is_run_or_refused_but_never_the_hosts(tree):
    """300 starts, while it is renamed away and back all the time."""
    (tree / "marker").touch()
    away = tree.with_name("away")
    over = threading.Event()

    def rename():
        while not over.is_set():
            tree.rename(away)
            away.rename(tree)

    thread = threading.Thread(target=rename)
    thread.start()
    outcomes = set()
    try:
        for _ in range(300):
            try:
                result = minibox.run(["/bin/ls", "/marker"], rootfs=tree)
                outcomes.add((result.exit_code, result.stdout))
            except (minibox.SpecError, minibox.SetupError) as error:
                outcomes.add(error.exit_code)
    finally:
        over.set()
        thread.join()
    assert outcomes <= {(0, b"/marker\n"), 125}
    assert minibox.run(["/bin/ls", "/marker"], rootfs=tree).stdout == b"/marker\n"


def test_a_root_that_is_replaced_is_run_as_one_or_the_other(tree):
    """Another directory comes and goes under its name, with RENAME_EXCHANGE."""
    other = tree.with_name("other")
    shutil.copytree(tree, other, symlinks=True)
    (tree / "one").touch()
    (other / "other").touch()
    over = threading.Event()

    def exchange():
        from minibox import core

        while not over.is_set():
            core.syscall(316, -100, bytes(tree) + b"\0", -100, bytes(other) + b"\0", 2)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        seen = {
            minibox.run(["/bin/sh", "-c", "ls -d /one /other 2>/dev/null"], rootfs=tree).stdout
            for _ in range(150)
        }
    finally:
        over.set()
        thread.join()
    assert seen <= {b"/one\n", b"/other\n"}


# Where minibox itself runs.

FORBID = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'


def test_user_namespaces_forbidden_names_the_way_out(rootfs, message):
    """In a user namespace of the test's own, whose limit is its own as well."""
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", FORBID, "sh"]
    done = subprocess.run(
        [*argv, COMMAND, "run", rootfs, "/bin/echo", "started"], capture_output=True
    )
    assert (done.returncode, done.stdout) == (125, b"")
    assert message(done.stderr) is None
    assert b"max_user_namespaces" in done.stderr


def test_in_a_user_namespace_root_is_an_ordinary_user(rootfs):
    argv = ["unshare", "--user", "--map-root-user"]
    inner = [COMMAND, "run", rootfs, "/bin/cat", "/proc/self/uid_map"]
    done = subprocess.run([*argv, *inner], capture_output=True)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [b"0", b"0", b"1"], b"")


@pytest.mark.parametrize("mount", ["umount -l /proc", "mount -t tmpfs t /proc"])
def test_without_proc_the_container_is_not_given_the_hosts_root(rootfs, message, mount):
    done = privately(
        f'{mount}; exec "$@"', COMMAND, "run", rootfs, "/bin/cat", "/proc/self/uid_map"
    )
    assert (done.returncode, done.stdout) == (125, b"")
    assert message(done.stderr) is None
    assert b"/proc" in done.stderr


def test_a_container_in_a_container(rootfs):
    """The host's tree as the outer one's: minibox runs there as its root, where the outer one lets
    it make namespaces and a proc of their own."""
    script = f"{shlex.join([COMMAND, 'run', rootfs, '/bin/sh', '-c', 'echo $$ $(hostname)'])}"
    done = subprocess.run(
        [
            COMMAND,
            "run",
            *("--security-opt", "seccomp=unconfined", "--security-opt", "unmask=ALL"),
            "--volume",
            f"{_top(rootfs)}:{_top(rootfs)}",
            "/",
            "/bin/sh",
            "-c",
            script,
        ],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=20,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"1 minibox\n", b"")


def _top(path):
    return "/" + path.strip("/").split("/")[0]
