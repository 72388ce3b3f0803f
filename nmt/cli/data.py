"""`nmt data`: parallel text into data directories."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from nmt.cli import console
from nmt.errors import SettingError, UsageError, did_you_mean
from nmt.files import spare_name

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def _data() -> None:
    """Look at parallel text, and prepare it for training.

    Examples:
        nmt data prepare --train sample --valid sample --test sample --out data/demo
        nmt data prepare --train train.tsv.gz --valid dev.tsv --out data/mine
        nmt data check train.tsv.gz --against test.tsv
    """


def _choice(option: str, value: str, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise UsageError(f"{option} '{value}' is not one of {', '.join(known)}{did_you_mean(value, known)}")
    return value


def _vocab_size(value: str) -> int | None:
    if value == "auto":
        return None
    if not (value.isascii() and value.isdigit()) or len(value) > 9:
        raise UsageError(f"--vocab-size '{value}' is neither a number of pieces nor auto")
    return int(value)


@app.command()
def prepare(
    train: Annotated[list[str], typer.Option("--train", metavar="SPEC", help="Training text; repeat for more.")],
    valid: Annotated[list[str], typer.Option("--valid", metavar="SPEC", help="Validation text; repeat for more.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Data directory to make.")],
    test: Annotated[list[str] | None, typer.Option("--test", metavar="SPEC", help="Test text.")] = None,
    source_lang: Annotated[str, typer.Option("--source-lang", help="Language to translate from.")] = "fr",
    target_lang: Annotated[str, typer.Option("--target-lang", help="Language to translate into.")] = "en",
    vocab_size: Annotated[
        str, typer.Option("--vocab-size", metavar="N", help="Pieces of the vocabulary; auto fits the corpus.")
    ] = "auto",
    model_type: Annotated[str, typer.Option("--model-type", help="unigram or bpe.")] = "unigram",
    joint: Annotated[bool, typer.Option("--joint/--separate", help="One vocabulary for both languages.")] = True,
    byte_fallback: Annotated[
        bool, typer.Option("--byte-fallback/--no-byte-fallback", help="Spell unknown characters as bytes.")
    ] = True,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest side of a training pair.")] = 256,
    max_chars: Annotated[int, typer.Option("--max-chars", min=1, help="The same in characters.")] = 2000,
    max_ratio: Annotated[
        float, typer.Option("--max-ratio", min=1, help="How many times longer one side may be, plus 25 characters.")
    ] = 3.0,
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate/--keep-duplicates", help="Drop exact duplicates of training pairs.")
    ] = True,
    remove_leaks: Annotated[
        bool, typer.Option("--remove-leaks/--keep-leaks", help="Drop training pairs that are in valid or test too.")
    ] = True,
    invalid_utf8: Annotated[
        str, typer.Option("--invalid-utf8", help="error, replace or drop: pairs that are not UTF-8.")
    ] = "error",
    tokenizer_sentences: Annotated[
        int, typer.Option("--tokenizer-sentences", min=1, help="Sentences the vocabulary is learnt from at most.")
    ] = 500_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Chooses those sentences.")] = 1,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Licence of corpora that do not state it; noted, no more.")
    ] = None,
    streaming: Annotated[bool, typer.Option("--stream", help="Read hf: corpora without storing them.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop where there would be a warning.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what --out holds; what is no data directory is kept as OUT.old.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Read parallel text, filter it, learn a vocabulary and encode it for training.

    Examples:
        nmt data prepare --train sample --valid sample --test sample --out data/demo
        nmt data prepare --train multi30k/train --valid multi30k/val --test multi30k/test --out data/multi30k
        nmt data prepare --train a.tsv.gz --train b.jsonl --valid dev.tsv --vocab-size 16000 --out data/both
        nmt data prepare --train hf:Helsinki-NLP/opus-100/en-fr --valid hf:Helsinki-NLP/opus-100/en-fr --out data/opus

    A SPEC is PREFIX (two files, PREFIX.fr and PREFIX.en), FILE.tsv, FILE.jsonl, FILE.parquet, FILE.tmx,
    hf:REPO[/CONFIG][@REVISION][#SPLIT] or sample. Files may be compressed (.gz .bz2 .xz .zst).

    Training pairs are dropped, and counted, that are blank, too long, of too unlike lengths, exact duplicates or
    in valid or test (letters and digits compared, case and accents aside). Valid and test keep every pair.
    """
    from nmt.preparation import PreparationOptions
    from nmt.preparation import prepare as run

    try:
        options = PreparationOptions(
            source_lang=source_lang,
            target_lang=target_lang,
            vocab_size=_vocab_size(vocab_size),
            model_type=_choice("--model-type", model_type, ("unigram", "bpe")),
            joint=joint,
            byte_fallback=byte_fallback,
            max_tokens=max_tokens,
            max_chars=max_chars,
            max_ratio=max_ratio,
            deduplicate=deduplicate,
            remove_leaks=remove_leaks,
            invalid_utf8=_choice("--invalid-utf8", invalid_utf8, ("error", "replace", "drop")),
            tokenizer_sentences=tokenizer_sentences,
            seed=seed,
            licence=licence,
            streaming=streaming,
            strict=strict,
            force=force,
        )
    except SettingError as error:
        raise error.as_option({}) from error
    spare = spare_name(out)
    with _progress() as progress:
        manifest = run(train, valid, test or [], out, options, progress=progress)
    console.warn_if_kept(out, spare)
    for warning in manifest["warnings"]:
        console.warn(warning)
    if json_output:
        console.print_json({"path": str(out), **_summary(manifest)})
    else:
        _print_summary(manifest, out)


@app.command()
def check(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="The corpus to look at.")],
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="SPEC", help="A corpus that must share nothing with it; repeat for more."),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="train, valid or test, where the corpus has several.")
    ] = "train",
    source_lang: Annotated[str, typer.Option("--source-lang", help="Language of the source side.")] = "fr",
    target_lang: Annotated[str, typer.Option("--target-lang", help="Language of the target side.")] = "en",
    max_chars: Annotated[int, typer.Option("--max-chars", min=1, help="Longest side, in characters.")] = 2000,
    max_ratio: Annotated[
        float, typer.Option("--max-ratio", min=1, help="How many times longer one side may be, plus 25 characters.")
    ] = 3.0,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Look for what is wrong with parallel text, and change nothing.

    Examples:
        nmt data check corpus/train
        nmt data check corpus/train.tsv.gz --against corpus/dev.tsv --against corpus/test.tsv
        nmt data check sample --against sample#test --json

    Counts, with examples: regions where the two sides seem shifted against each other, duplicates, pairs that stand
    in another corpus (letters and digits compared, case and accents aside), copies, blank sides, unlike lengths,
    other languages (needs the extra `clean`), odd characters. Most of what `nmt data prepare` would drop is among it.
    """
    from nmt.audit import KINDS, audit
    from nmt.corpora import Reading
    from nmt.corpora.filters import Rules

    role = _choice("--split", split, ("train", "valid", "test"))
    reading = Reading(source_lang=source_lang, target_lang=target_lang, role=role, invalid_utf8="replace")
    rules = Rules(max_chars=max_chars, max_ratio=max_ratio, deduplicate=True)
    with _progress() as progress:
        tell = None if progress is None else lambda done: progress("reading", done, None)
        found = audit(spec, against or [], reading, rules, progress=tell)
    if not found.languages_checked:
        console.warn("languages were not checked: that needs pip install 'nmt[clean]', and languages it knows")
    if json_output:
        document = {
            "corpus": found.facts,
            "read": found.read,
            "misaligned_regions": found.regions,
            "languages_checked": found.languages_checked,
            "findings": {kind: asdict(finding) for kind, finding in found.findings.items()},
        }
        console.print_json(document)
        return
    console.say("1 pair" if found.read == 1 else f"{found.read:,} pairs")
    if not found.findings:
        console.say("nothing was found")
        return
    rows = [("pairs", "share", "what", "first")]
    for kind, finding in found.findings.items():
        first = finding.examples[0].place if finding.examples else ""
        rows.append((f"{finding.pairs:,}", f"{finding.pairs / found.read:.2%}", KINDS[kind], first))
    console.say()
    console.table(rows, right=frozenset({0, 1}))


@app.command("list")
def list_known(
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List public French–English corpora that `nmt data get` fetches.

    Examples:
        nmt data list
        nmt data list --json

    Sizes and licences are what their cards state.
    """
    from nmt.corpora.known import KNOWN

    if json_output:
        corpora = [{**asdict(known), "pairs": dict(known.pairs)} for known in KNOWN]
        console.print_json({"corpora": corpora})
        return
    rows = [("name", "pairs", "splits", "licence", "what")]
    rows += [(k.name, f"{sum(k.pairs.values()):,}", " ".join(k.pairs), k.licence, k.about) for k in KNOWN]
    console.table(rows, right=frozenset({1}))


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="As nmt data list has it.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Directory to make; data/NAME if not given.")] = None,
    max_pairs: Annotated[
        int | None, typer.Option("--max-pairs", min=1, help="So many pairs of each split at most.")
    ] = None,
    streaming: Annotated[
        bool, typer.Option("--stream", help="Read over the network without storing it twice.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace what lies there; what nmt data get did not write is kept as OUT.old."),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Fetch a public corpus from the Hugging Face hub, as text files line by line.

    Examples:
        nmt data get news-commentary
        nmt data get un --stream --max-pairs 1000000 --out data/un-1m
    """
    from nmt.corpora import Reading
    from nmt.corpora.known import fetch, find_known

    known = find_known(name)
    target = out or Path("data") / known.name
    spare = spare_name(target)
    with _progress() as progress:
        facts = fetch(
            known, target, Reading(streaming=streaming), max_pairs=max_pairs, replace=force, progress=progress
        )
    console.warn_if_kept(target, spare)
    if json_output:
        console.print_json({"path": str(target), **facts})
        return
    for role, split in facts["splits"].items():
        console.say(f"{split['pairs']:,} pairs in {target / role}.fr and .en")
    console.say(f"licence: {known.licence}")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int | None], None] | None]:
    """A bar on stderr for whatever is being done; `None` where none is wanted."""
    if not console.wants_progress():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.progress_console(), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)


def _summary(manifest: dict[str, Any]) -> dict[str, Any]:
    """What of the manifest tells what was done; the hashes stay in the file."""
    keys = ("source_lang", "target_lang", "corpora", "splits", "tokenizer", "warnings")
    return {key: manifest[key] for key in keys}


def _print_summary(manifest: dict[str, Any], out: Path) -> None:
    from nmt.corpora.filters import REASONS

    langs = (manifest["source_lang"], manifest["target_lang"])
    rows = [("split", "read", "kept", f"{langs[0]} tokens", f"{langs[1]} tokens")]
    for name, split in manifest["splits"].items():
        counts = (split["read"], split["kept"], split["source_tokens"], split["target_tokens"])
        rows.append((name, *(f"{count:,}" for count in counts)))
    console.table(rows, right=frozenset({1, 2, 3, 4}))
    dropped = manifest["splits"]["train"]["dropped"]
    if dropped:
        console.say()
        console.say("dropped from train:")
        console.table(
            [(f"{count:,}", REASONS[reason]) for reason, count in dropped.items()], right=frozenset({0}), indent="  "
        )
    tokenizer = manifest["tokenizer"]
    sizes = f"{tokenizer['source_vocab_size']:,} pieces, joint"
    if not tokenizer["joint"]:
        sizes = f"{tokenizer['source_vocab_size']:,} and {tokenizer['target_vocab_size']:,} pieces"
    console.say()
    console.say(f"vocabulary: {sizes}, {tokenizer['model_type']}")
    console.say(f"written to {out}")
