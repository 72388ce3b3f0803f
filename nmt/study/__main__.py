"""The command line of the study: `python -m nmt.study DATA --out DIR`, or `make study`."""

import argparse
import sys
from pathlib import Path

from nmt.errors import NMTError, UsageError
from nmt.study.measure import ParallelFiles, Study, measure, measured
from nmt.study.page import write_page
from nmt.study.plan import full_plan, quick_plan


def main() -> int:
    """Measure what is not measured yet, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m nmt.study", description=__doc__)
    parser.add_argument("data", type=Path, help="data directory to train on")
    parser.add_argument("--out", type=Path, required=True, help="directory for models, figures and the page")
    parser.add_argument(
        "--test", action="append", metavar="PREFIX", help="test set PREFIX.fr, PREFIX.en; the first counts"
    )
    parser.add_argument("--gold", action="append", metavar="PREFIX", help="pairs with links in PREFIX.align")
    parser.add_argument("--quick", action="store_true", help="some minutes instead of hours")
    parser.add_argument("--part", choices=["ladder", "family"], help="half of it, in a directory of its own")
    parser.add_argument("--page", action="store_true", help="measure nothing: a page of what is measured so far")
    parser.add_argument("--workers", type=int, default=2, help="models trained at a time, a thread each")
    options = parser.parse_args()
    plan = quick_plan() if options.quick else full_plan()
    try:
        study = Study(
            plan=plan if options.part is None else plan.of(options.part),
            data=options.data,
            out=options.out,
            tests=_texts(options.test or []) or _own_test(options.data, options.out),
            gold=_texts(options.gold or []),
            workers=max(1, options.workers),
            say=lambda line: print(line, flush=True),
        )
        if not options.page:
            measure(study)
        print(f"page: {write_page(measured(study))}")
    except NMTError as error:
        print(f"nmt: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _texts(prefixes: list[str]) -> tuple[ParallelFiles, ...]:
    found = []
    for prefix in prefixes:
        path = Path(prefix)
        text = ParallelFiles(
            "-".join(path.parts[-2:]), path.parent / f"{path.name}.fr", path.parent / f"{path.name}.en"
        )
        for file in (text.src, text.ref):
            if not file.is_file():
                raise UsageError(f"{file} is not there")
        found.append(text)
    return tuple(found)


def _own_test(data: Path, out: Path) -> tuple[ParallelFiles, ...]:
    """The test set of the data directory, as two files."""
    from nmt.dataset import DataDirectory

    directory = DataDirectory.open(data)
    sources, targets = directory.text("test")
    out.mkdir(parents=True, exist_ok=True)
    text = ParallelFiles("test", out / "test.fr", out / "test.en")
    for path, lines in ((text.src, sources), (text.ref, targets)):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    return (text,)


if __name__ == "__main__":
    sys.exit(main())
