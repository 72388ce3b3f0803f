"""`python -m tests.torture`: every harness, a table of counts, exit 1 if a promise was broken."""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.torture import damage, text, training
from tests.torture.harness import Budget, Findings, Harness

HARNESSES = [
    Harness(
        "kill",
        "SIGKILL at random moments of a training: the same bytes as a run left alone, no checkpoint lost",
        training.kills,
        training.forgets_its_place,
        share=3,
    ),
    Harness(
        "calls",
        "SIGKILL at, or an error from, every file-system call of a run: an older checkpoint whole, one line",
        training.system_calls,
        training.writes_in_place,
        share=3,
    ),
    Harness(
        "term",
        "SIGTERM at random moments: saved, exit 143, in under 10 s",
        training.terminations,
        training.stops_unsaved,
    ),
    *damage.HARNESSES,
    *text.HARNESSES,
]


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all harnesses together")
    parser.add_argument("--only", action="append", choices=[harness.name for harness in HARNESSES])
    parser.add_argument("--planted", action="store_true", help="plant a bug in each, and demand that it is caught")
    parser.add_argument("--report", type=Path, help="write the counts as JSON")
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("NMT_")]:
        del os.environ[name]
    torch.set_num_threads(1)
    chosen = [harness for harness in HARNESSES if not options.only or harness.name in options.only]
    shares = sum(harness.share for harness in chosen)
    report, wrong = {}, 0
    for harness in chosen:
        budget = Budget(options.minutes * 60 * harness.share / shares, harness.cases)
        found = _run(harness, budget, planted=options.planted)
        good = bool(found.failures) if options.planted else not found.failures
        wrong += not good
        seconds = time.monotonic() - budget.begun
        _say(harness, found, seconds, planted=options.planted)
        report[harness.name] = {
            "promise": harness.promise,
            "seconds": round(seconds, 1),
            "counts": dict(found.counts),
            "failures": found.failures,
        }
    if options.report is not None:
        options.report.write_text(json.dumps({"schema": 1, "harnesses": report}, indent=2) + "\n", encoding="utf-8")
    what = "planted bugs missed" if options.planted else "promises broken"
    print(f"{wrong} of {len(chosen)} {what}")
    return 1 if wrong else 0


def _run(harness: Harness, budget: Budget, *, planted: bool) -> Findings:
    with tempfile.TemporaryDirectory(prefix="nmt-torture-") as folder:
        if not planted:
            return harness.run(budget, Path(folder))
        budget.least = max(budget.least, 20)
        with harness.planted():
            return harness.run(budget, Path(folder))


def _say(harness: Harness, found: Findings, seconds: float, *, planted: bool) -> None:
    verdict = "ok" if not found.failures else "caught" if planted else "FAILED"
    if planted and not found.failures:
        verdict = "MISSED"
    counts = ", ".join(f"{count:,} {name}" for name, count in found.counts.items())
    print(f"{harness.name:9} {verdict:6} {seconds:6.0f} s  {counts}", flush=True)
    for failure in found.failures[: 1 if planted else 5]:
        print(f"          {failure!r}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
