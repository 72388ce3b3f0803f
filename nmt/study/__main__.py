"""The command line of the study: `python -m nmt.study DATA --out DIR`, or `make study`."""

import argparse
import sys
from pathlib import Path

from nmt.dataset import DataDirectory
from nmt.errors import NMTError, UsageError
from nmt.study.measure import ParallelFiles, Study, check, measure
from nmt.study.page import write_page
from nmt.study.plan import full_plan, quick_plan


def main(arguments: list[str] | None = None) -> int:
    """Measure what is not measured yet, and write the page; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m nmt.study", description=__doc__)
    parser.add_argument("data", type=Path, help="data directory to train on")
    parser.add_argument("--out", type=Path, required=True, help="directory for models, figures and the page")
    parser.add_argument(
        "--test", action="append", metavar="PREFIX", help="test set: a file a language of DATA; the first counts"
    )
    parser.add_argument("--gold", action="append", metavar="PREFIX", help="pairs with links in PREFIX.align")
    parser.add_argument("--quick", action="store_true", help="some minutes instead of hours")
    parser.add_argument("--part", choices=["ladder", "family"], help="only this half; give each an --out of its own")
    parser.add_argument("--page", action="store_true", help="measure nothing: a page of what is measured so far")
    parser.add_argument("--workers", type=_positive, default=2, help="models trained at a time, a thread each")
    options = parser.parse_args(arguments)
    plan = quick_plan() if options.quick else full_plan()
    try:
        directory = DataDirectory.open(options.data)
        langs = directory.source_lang, directory.target_lang
        tests = _texts(options.test, langs) if options.test else (_own_test(directory),)
        study = Study(
            plan=plan if options.part is None else plan.of(options.part),
            data=options.data,
            out=options.out,
            tests=tests,
            gold=_texts(options.gold or [], langs, gold=True),
            workers=options.workers,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        if options.page:
            check(study)
        else:
            measure(study)
        print(write_page(study))
    except NMTError as error:
        print(f"nmt: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _texts(prefixes: list[str], langs: tuple[str, str], *, gold: bool = False) -> tuple[ParallelFiles, ...]:
    found: dict[str, ParallelFiles] = {}
    for prefix in prefixes:
        path = Path(prefix)
        src, ref, links = (path.parent / f"{path.name}.{end}" for end in (*langs, "align"))
        text = ParallelFiles("-".join(path.parts[-2:]), src, ref, links if gold else None)
        for file in (src, ref, *([links] if gold else [])):
            if not file.is_file():
                raise UsageError(f"{file} is not there")
        if text.name in found:
            raise UsageError(f"two test sets would be called {text.name}: rename one")
        found[text.name] = text
    return tuple(found.values())


def _own_test(directory: DataDirectory) -> ParallelFiles:
    """The test set of the data directory."""
    directory.text("test")  # is there, and whole
    src, ref = (directory.path / f"test.{lang}" for lang in (directory.source_lang, directory.target_lang))
    return ParallelFiles("test", src, ref)


if __name__ == "__main__":
    sys.exit(main())
