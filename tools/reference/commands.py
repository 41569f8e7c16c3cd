"""docs/reference/commands.md: every command, as the program describes itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import typer

from finops_assets.cli.program import app
from tools.reference.markdown import code, linked, table


def commands() -> Iterator[tuple[str, Any]]:
    """Name and command of everything that can be run, groups before what is in them."""
    yield from _below(typer.main.get_command(app), "finops")


def _below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, each in getattr(command, "commands", {}).items():
        yield from _below(each, f"{name} {word}")


def page() -> str:
    lines = [
        "# Commands",
        "",
        "Made from finops_assets/cli by `make docs`; `finops COMMAND --help` says the same. Ends are exclusive, days are UTC.",
        "What the exit codes mean: [exit-codes.md](exit-codes.md).",
        "",
    ]
    told = [(name, each) for name, each in commands() if name != "finops"]
    lines += table(["command", ""], ([f"[`{name}`](#{name.replace(' ', '-')})", _first(each)] for name, each in told))
    for name, each in told:
        lines += ["", f"## {name}", ""]
        if not hasattr(each, "commands") or each.invoke_without_command:
            lines += ["```", _usage(name, each), "```", ""]
        lines += [linked(each.help)]
        if each.params:
            lines += ["", *table(["", "", "default", "meaning"], (_parameter(p) for p in each.params))]
    return "\n".join([*lines, ""])


def _first(command: Any) -> str:
    return linked(str(command.help).partition("\n\n")[0])


def _usage(name: str, command: Any) -> str:
    words = [name]
    for each in command.params:
        if each.param_type_name == "argument":
            word = each.metavar or each.name.upper()
            word += "…" if each.nargs == -1 and not word.endswith("…") else ""
            words.append(word if each.required else f"[{word}]")
        elif each.required:
            words += [each.opts[0], _kind(each).strip("`").split("`")[0]]
    return " ".join([*words, "[OPTIONS]"])


def _parameter(each: Any) -> list[str]:
    if each.param_type_name == "argument":
        name = code(each.metavar or each.name.upper())
    else:
        name = ", ".join(map(code, each.opts))
    default = each.default
    shown = code(str(default)) if default not in (None, False, "") else "needed" if each.required else ""
    return [name, _kind(each), shown, each.help or ""]


def _kind(each: Any) -> str:
    wanted = each.type_descriptor.annotation
    if isinstance(wanted, UnionType) or get_origin(wanted) is list:
        wanted = next(kind for kind in get_args(wanted) if kind is not type(None))
    if get_origin(wanted) is Literal:
        return ", ".join(map(code, get_args(wanted)))
    return {bool: "", datetime: "`YYYY-MM-DD`", Path: "path", int: "number", float: "number", str: "text"}[wanted]
