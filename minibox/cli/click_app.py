# SPDX-License-Identifier: Apache-2.0
"""click's side: help, completion and usage errors, from the table in options.py."""

from __future__ import annotations

import sys

import click
from click.shell_completion import CompletionItem

import minibox
from minibox import cli
from minibox.cli.options import FLAG, LIST, Option, Verb
from minibox.cli.verbs import VERBS
from minibox.errors import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(words: list[str]) -> int:
    """Run a command line; a usage error is 125, as every failure of minibox's own."""
    try:
        code = app.main(args=words, prog_name="minibox", standalone_mode=False)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "minibox"
        cli.say(f"{one_line(error.format_message())}\n  hint: {where} --help")
        return cli.FAILED
    except click.ClickException as error:
        cli.say(error.format_message())
        return cli.FAILED
    except click.Abort:
        return 130
    return code if isinstance(code, int) else 0


def _parameter(option: Option) -> click.Option:
    if option.kind == FLAG:
        return click.Option([*option.names, option.field], is_flag=True, help=option.help)
    return click.Option(
        [*option.names, option.field],
        multiple=option.kind == LIST,
        metavar=option.metavar,
        help=option.help,
        shell_complete=_networks if option.field == "net" else None,
    )


def _names(verb: Verb, ctx: click.Context, text: str) -> list[CompletionItem]:
    """What a shell offers for the next argument: names, or files where those are wanted."""
    from minibox.cli import completion

    given = list(ctx.params.get("args") or ())
    cli.root = ctx.find_root().params.get("root") or cli.root
    if not verb.completes or (verb.name == "exec" and given):
        return [CompletionItem(text, type="file")]
    if verb.actions and not given:
        return [CompletionItem(action) for action in verb.actions if action.startswith(text)]
    found = completion.names(verb.completes, text)
    items = [CompletionItem(name) for name in found if name not in given]
    # A topology or an experiment is a file, too.
    return (
        items or [CompletionItem(text, type="file")] if verb.name in ("topology", "lab") else items
    )


def _networks(ctx: click.Context, param: click.Parameter, text: str) -> list[CompletionItem]:
    """What a shell offers for --net."""
    from minibox.cli import completion
    from minibox.network.config import DEFAULT
    from minibox.network.modes import ALONE, OF_ANOTHER

    cli.root = ctx.find_root().params.get("root") or cli.root
    words = [DEFAULT, *ALONE, *OF_ANOTHER, *completion.names("networks", text)]
    return [CompletionItem(word) for word in dict.fromkeys(words) if word.startswith(text)]


def _command(verb: Verb) -> click.Command:
    def callback(args: tuple[str, ...], **values: Any) -> int:
        given = {
            field: list(value) if isinstance(value, tuple) else value
            for field, value in values.items()
        }
        return cli.execute(verb, {**given, "args": list(args)})

    wanted = len(verb.arguments) - verb.optional
    argument = click.Argument(
        ["args"],
        nargs=-1,
        required=wanted > 0,
        type=click.UNPROCESSED,
        metavar=" ".join(verb.arguments),
        shell_complete=lambda ctx, _, text: _names(verb, ctx, text),
    )
    parameters: list[click.Parameter] = [_parameter(option) for option in verb.options]

    class Command(click.Command):
        def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
            rest = super().parse_args(ctx, args)
            given = len(ctx.params.get("args") or ())
            if given < wanted and not ctx.resilient_parsing:
                raise click.UsageError(f"missing {verb.arguments[-1].rstrip('…')}", ctx)
            if not verb.takes(given) and not ctx.resilient_parsing:
                raise click.UsageError("too many arguments", ctx)
            return rest

    settings = {"ignore_unknown_options": False, "allow_interspersed_args": verb.interspersed}
    return Command(
        verb.name,
        callback=callback,
        params=[*parameters, argument],
        help=verb.help,
        hidden=verb.hidden,
        context_settings=settings,
    )


@click.group(context_settings={"max_content_width": 100})
@click.version_option(minibox.__version__, message="%(prog)s %(version)s")
@click.option("--root", metavar="DIR", help="Where the state of containers is kept.")
def app(root: str | None) -> None:
    """A minimal container runtime built on clone namespaces."""
    cli.root = root or cli.root


for _verb in VERBS:
    app.add_command(_command(_verb))


@app.group()
def rootfs() -> None:
    """Root file systems."""


@rootfs.command()
@click.argument("directory", type=click.Path(path_type=str))
@click.option("--from-host", is_flag=True, help="Copy the host's shell instead of a busybox.")
def build(directory: str, from_host: bool) -> None:
    """Make a small root file system in DIRECTORY, from a static busybox where there is one."""
    from minibox import rootfs as recipe

    for line in recipe.build(directory, from_host=from_host):
        print(line, file=sys.stderr)
