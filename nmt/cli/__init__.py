"""The command line. Each command lives in its own module and loads what is heavy only when it runs."""

import sys
from collections.abc import Sequence

import typer

from nmt.cli import attend, average, bench, compare, data, doctor, export, frame, info, score, train, translate
from nmt.cli import eval as evaluation

app = typer.Typer(
    name="nmt",
    cls=frame.Root,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
)


@app.callback()
def _nmt(quiet: frame.Quiet = False, verbose: frame.Verbose = False, version: frame.Version = False) -> None:
    """Translate French into English, and train, evaluate and inspect the models that do.

    Examples:
        echo "Où est la gare ?" | nmt translate
        nmt data prepare --train sample --valid sample --test sample --out data/demo
        nmt train data/demo --arch transformer --preset tiny --out checkpoints/demo
        nmt eval -m checkpoints/demo --data data/demo --split test
    """


for _name, _function in (
    ("train", train.train),
    ("translate", translate.translate),
    ("score", score.score),
    ("eval", evaluation.evaluate),
    ("info", info.info),
    ("doctor", doctor.doctor),
    ("average", average.average),
    ("export", export.export),
    ("attend", attend.attend),
    ("compare", compare.compare),
):
    app.command(_name, cls=frame.Command)(_function)
for _name, _group in (("data", data.app), ("bench", bench.app)):
    for _info in _group.registered_commands:
        _info.cls = frame.Command
    app.add_typer(_group, name=_name, cls=frame.Group)


def main(args: Sequence[str] | None = None) -> int:
    """Run `nmt` with `args` (the process's own by default) and return the exit code."""
    frame.prepare_process()
    return frame.run(typer.main.get_command(app), sys.argv[1:] if args is None else args)
