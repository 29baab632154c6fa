# SPDX-License-Identifier: Apache-2.0
"""The command line: `main` finds the verb, and turns errors into one message and an exit code."""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FAILED = 125


def main(words: list[str]) -> NoReturn:
    """Run a command line and exit. The exit code is the container's, or 125, 126, 127."""
    gc.disable()  # 1 ms of a start, in search of cycles that a command does not make
    try:
        open_standard_fds()
        code = dispatch(words)
        flush()
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        code = report(error)
    # Nothing is left to undo, and the interpreter's own end takes 3 ms.
    os._exit(code)


def open_standard_fds() -> None:
    """fd 0, 1 and 2 must be open, or some fd of ours would become a stream of the container."""
    while True:
        fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        if fd > 2:
            os.close(fd)
            break
        os.set_inheritable(fd, True)
    # Python has no stream where it found none. An output that somebody waits for must not get lost
    # in silence: to write it fails with EBADF. Nobody waits for messages.
    if sys.stdout is None:
        sys.stdout = open(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), "w")
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)


def dispatch(words: list[str]) -> int:
    from minibox.cli import quick

    words = take_root(words)
    verb = _verb(words[0]) if words else None
    if verb and verb.quick:
        values = quick.parse(verb, words[1:])
        if values is not None:
            return execute(verb, values)
    from minibox.cli import click_app

    return click_app.run(words)


def _verb(name: str) -> options.Verb | None:
    """Its row; the table of all is read by who needs another one than run."""
    from minibox.cli import options

    if name == options.RUN_VERB.name:
        return options.RUN_VERB
    from minibox.cli import verbs

    return next((verb for verb in verbs.VERBS if verb.name == name), None)


root: str | None = None  # --root


def take_root(words: list[str]) -> list[str]:
    """The only option before the verb, beside those that click answers."""
    global root
    if words and words[0].startswith("--root="):
        root, words = words[0].removeprefix("--root="), words[1:]
    elif len(words) > 1 and words[0] == "--root":
        root, words = words[1], words[2:]
    if root == "":
        from minibox.errors import SpecError

        raise SpecError("--root", "the path is empty")
    return words


def execute(verb: options.Verb, values: quick.Values) -> int:
    """Import the verb's module and run it: the only import it costs is its own."""
    __import__(verb.module)
    code: int = sys.modules[verb.module].execute(values)
    return code


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def report(error: Exception) -> int:
    """Say what went wrong on stderr, once; the exit code it asks for."""
    if os.environ.get("MINIBOX_DEBUG"):
        import traceback

        traceback.print_exc()
    from minibox.errors import MiniboxError, one_line

    if isinstance(error, MiniboxError):
        say(str(error) + _doctors_line(error.lack))
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        return 128 + 13
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = f"internal error: {type(error).__name__}: {error} (MINIBOX_DEBUG=1 shows where)"
    say(one_line(text))
    return FAILED


def _doctors_line(lack: str) -> str:
    """What minibox doctor has to say of it; nothing where not even that can be found out."""
    if not lack:
        return ""
    try:
        from minibox import doctor

        finding = doctor.look(lack)
    except Exception:
        return ""
    parts = [finding.found, finding.follows, finding.mend and f"mend: {finding.mend}"]
    return f"\n  doctor: {lack}: {finding.state}: {'; '.join(filter(None, parts))}"


def say(text: str) -> None:
    """One message, in one write; a stderr that is closed or full is no reason to fail."""
    data = f"minibox: {text}\n".encode(errors="backslashreplace")
    try:
        os.write(2, data)
    except OSError:
        pass


if TYPE_CHECKING:
    from minibox.cli import options, quick
