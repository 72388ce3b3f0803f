"""The help page of a command: summary, examples, usage, the rest of the text, options."""

import re
from typing import Any

from typer.core import TyperGroup


def _paragraphs(text: str) -> list[str]:
    return [part.strip("\n") for part in re.split(r"\n[ \t]*\n", text) if part.strip()]


def _is_example(paragraph: str) -> bool:
    return paragraph.startswith(("Examples:", "Example:"))


def write_help(command: Any, ctx: Any, formatter: Any) -> None:
    """Summary, examples, usage, the rest of the text, options."""
    paragraphs = _paragraphs(command.help or "")
    examples = [part for part in paragraphs if _is_example(part)]
    others = [part for part in paragraphs if not _is_example(part)]
    for summary in others[:1]:
        formatter.write_text(" ".join(summary.split()))
        formatter.write_paragraph()
    for example in examples:
        title, *lines = example.split("\n")
        formatter.write(title + "\n")
        formatter.write("".join(f"  {line.strip()}\n" for line in lines))
        formatter.write_paragraph()
    command.format_usage(ctx, formatter)
    for paragraph in others[1:]:
        formatter.write_paragraph()
        if any(line.startswith(" ") for line in paragraph.split("\n")):
            formatter.write(paragraph + "\n")
        else:
            formatter.write_text(" ".join(paragraph.split()))
    _write_parameters(command, ctx, formatter)
    command.format_epilog(ctx, formatter)


def _write_parameters(command: Any, ctx: Any, formatter: Any) -> None:
    """Arguments, options and, of a group, commands; types in plain words."""
    rows: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            kind = parameter.param_type_name
            name = re.sub(r"<list\[(.*?)\]>", r"<\1>", record[0]).replace("<Path>", "<path>")
            name = name.partition(" <")[0].upper() if kind == "argument" else name
            text = re.sub(r"\[default: \((.*?)\)", r"[default: \1", record[1].replace("  [", " ["))
            rows[kind].append((name.replace(" range>", ">"), text))
    if isinstance(command, TyperGroup):
        command.format_commands(ctx, formatter)
    for kind, records in rows.items():
        if records:
            with formatter.section(f"{kind.capitalize()}s"):
                formatter.write_dl(records)


def plain_usage(pieces: list[str]) -> list[str]:
    """Typer's `{name}` as `NAME`, its `[name]` as `[NAME]`."""
    return [re.sub(r"^\{(.*)\}", r"\1", piece if "OPTIONS" in piece else piece.upper()) for piece in pieces]


def short_help(command: Any) -> str:
    """First line of the help, up to a colon."""
    return re.split(r":\s|\n", str(command.short_help or command.help or "").strip())[0].rstrip(".")
