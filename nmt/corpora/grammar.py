"""Synchronous grammar kept as data: sample parallel sentences from a TOML file.

A word or a phrase is an `Entry`: named fields, among them `fr` and `en`; a field is one form or a table of
forms. Rules and frames are pairs of templates over slots. `{v.pres[S.p]}` reads: of the entry in slot v, the
field pres, in the form selected by field p of slot S. A rule may refer to a slot it has not: the reference is
kept and bound where the phrase is used, which is how "his keys" finds its possessor. A query fills a slot:

    a+b    words that bear both tags    name       an alias, or what the rules of that name make
    q|r    either, equally often        name(q)    the same, with q put for "$" in the slots of the rules

Only sound is code: elision, contraction, a/an, inversion with -t-, capitals. All inflection is data.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from nmt.errors import DataError

Entry = dict[str, str | tuple[str, ...]]
Scope = Mapping[str, Entry]
T = TypeVar("T")

PATIENCE = 40
"""Draws in a row without a new sentence after which a frame counts as exhausted."""

REFERENCE = re.compile(r"\{(?:(\w+)\.)?(\w+)(?:\[([\w.]+)\])?\}")
LETTERS = re.compile(r"\w*")
SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))\w")
BEFORE_MARK = re.compile(r" +([.,?!:;'])")
HIATUS = re.compile(r"([ae])-(il|elle|on)\b")
SI_IL = re.compile(r"ils?\W*")
VOWELS = frozenset("aàâäeéèêëiîïoôöuùûüyhœ")
ELIDED = frozenset(("je", "me", "te", "se", "ne", "de", "que", "le", "la", "ce", "lorsque", "puisque", "^le"))
PREVOCALIC = {"^ce": "cet", "^ma": "mon", "^ta": "ton", "^sa": "son"} | {
    "^beau": "bel", "^nouveau": "nouvel", "^vieux": "vieil"
}  # fmt: skip
CONTRACTED = {("de", "^le"): "du", ("de", "^les"): "des", ("à", "^le"): "au", ("à", "^les"): "aux"} | {
    ("jusqu'à", "^le"): "jusqu'au", ("jusqu'à", "^les"): "jusqu'aux"
}  # fmt: skip


class _Clash(Exception):
    """A word came up twice in one sentence; the draw is abandoned."""


class _Fault(Exception):
    """What is wrong inside a rule; the caller adds the file and the rule."""


@dataclass(frozen=True)
class Rule:
    """A pair of templates per alternative, over slots that are filled from left to right."""

    name: str
    slots: dict[str, str]
    pairs: tuple[tuple[str, str], ...]
    head: str
    extra: dict[str, str]


@dataclass
class Grammar:
    """A grammar as loaded; `expand` samples from it."""

    path: Path
    constants: Entry
    positions: dict[str, tuple[int, int]]
    aliases: dict[str, str]
    no_elision: frozenset[str]
    article_a: frozenset[str]
    article_an: frozenset[str]
    words: list[Entry] = field(default_factory=list)
    rules: dict[str, list[Rule]] = field(default_factory=dict)
    frames: list[Rule] = field(default_factory=list)
    _choices: dict[str, list[list[Entry] | tuple[list[Rule], str]]] = field(default_factory=dict)

    def choices(self, query: str) -> list[list[Entry] | tuple[list[Rule], str]]:
        """Alternatives of a query: each a list of words, or rules with the argument they are given."""
        if query not in self._choices:
            found: list[list[Entry] | tuple[list[Rule], str]] = []
            for term in _alternatives(query):
                name, _, rest = term.partition("(")
                if term in self.aliases:
                    found += self.choices(self.aliases[term])
                elif name in self.rules:
                    found.append((self.rules[name], rest.removesuffix(")")))
                else:
                    tags = set(term.split("+"))
                    members = [word for word in self.words if tags <= set(word["tags"])]
                    if not members:
                        raise _Fault(f"nothing matches '{term}'")
                    found.append(members)
            self._choices[query] = found
        return self._choices[query]


def load_grammar(path: Path) -> Grammar:
    """Read a grammar file; `DataError` names the file and the rule that is wrong."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot read the grammar: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid TOML: {error}") from error
    where = "header"
    try:
        sound = data["phonology"]
        grammar = Grammar(
            path=path,
            constants={name: _forms(text) for name, text in data.get("constants", {}).items()},
            positions=_positions(data["axes"]),
            aliases=data.get("alias", {}),
            no_elision=frozenset(sound["no_elision"]),
            article_a=frozenset(sound["article_a"]),
            article_an=frozenset(sound["article_an"]),
        )
        for name, section in data["lexicon"].items():
            where = f"lexicon '{name}'"
            grammar.words += _inflect(grammar, section, data.get("paradigm", {}))
        for kind in ("rule", "frame"):
            for number, table in enumerate(data.get(kind, []), start=1):
                where = f"{kind} '{table.get('name', number)}'"
                rule = _read_rule(table)
                if kind == "rule":
                    grammar.rules.setdefault(rule.name, []).append(rule)
                else:
                    grammar.frames.append(rule)
        for rule in [*grammar.frames, *(rule for rules in grammar.rules.values() for rule in rules)]:
            where = f"rule '{rule.name}'"
            for query in rule.slots.values():
                if not {"$", "{"} & set(query):
                    grammar.choices(query)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: {where}: missing or malformed entry ({error!r})") from error
    except _Fault as fault:
        raise DataError(f"{path}: {where}: {fault}") from fault
    if not grammar.frames:
        raise DataError(f"{path}: the grammar has no frame")
    return grammar


def expand(grammar: Grammar, limit: int = 30_000, seed: int = 1) -> Iterator[tuple[str, str]]:
    """Yield up to `limit` (French, English) pairs, no French sentence twice, every frame in its turn.

    A frame whose sentences are used up drops out, so that the others share what is left. For one seed a
    smaller limit gives a prefix of a larger one.
    """
    rng = Random(seed)
    seen: set[str] = set()
    live = list(grammar.frames)
    while live and len(seen) < limit:
        productive = []
        for frame in live:
            pair = _fresh_pair(grammar, frame, rng, seen)
            if pair is None:
                continue
            productive.append(frame)
            yield pair
            if len(seen) >= limit:
                return
        live = productive


def _fresh_pair(grammar: Grammar, frame: Rule, rng: Random, seen: set[str]) -> tuple[str, str] | None:
    for _ in range(PATIENCE):
        try:
            sentence = _apply(grammar, frame, "", rng, set(), final=True)
        except _Clash:
            continue
        except _Fault as fault:
            raise DataError(f"{grammar.path}: frame '{frame.name}': {fault}") from fault
        french = finish_french(str(sentence["fr"]), grammar.no_elision)
        if french not in seen:
            seen.add(french)
            return french, finish_english(str(sentence["en"]), grammar.article_a, grammar.article_an)
    return None


def _apply(grammar: Grammar, rule: Rule, argument: str, rng: Random, used: set[str], *, final: bool = False) -> Entry:
    scope: dict[str, Entry] = {"D": grammar.constants}
    for slot, template in rule.slots.items():
        query = template.replace("$", argument)
        scope[slot] = _draw(grammar, _render(grammar, query, scope, final=True), rng, used)
    entry: Entry = dict(scope[rule.head]) if rule.head else {}
    french, english = _pick(rule.pairs, rng)
    try:
        for name, template in {"fr": french, "en": english, **rule.extra}.items():
            entry[name] = _forms(_render(grammar, template, scope, final=final))
    except _Fault as fault:
        raise _Fault(f"rule '{rule.name}': {fault}") from fault
    return entry


def _draw(grammar: Grammar, query: str, rng: Random, used: set[str]) -> Entry:
    choice = _pick(grammar.choices(query), rng)
    if isinstance(choice, tuple):
        rules, argument = choice
        return _apply(grammar, _pick(rules, rng), argument, rng, used)
    entry = _pick(choice, rng)
    row = str(entry["row"])
    if row in used:
        raise _Clash
    if row:
        used.add(row)
    return entry


def _pick(items: Sequence[T], rng: Random) -> T:
    """Choose one; of `Random`, only random() is promised to be the same in every Python."""
    return items[int(rng.random() * len(items))]


def _render(grammar: Grammar, template: str, scope: Scope, final: bool) -> str:
    """Fill in the references of a template; those to open slots stay, unless `final`."""
    if "{" not in template:
        return template
    pieces: list[str] = []
    for part in _parse(template):
        if isinstance(part, str):
            pieces.append(part)
            continue
        slot, name, index = part
        owner, _, feature = index.rpartition(".")
        if feature and (owner in scope or not owner) and feature not in grammar.positions:
            index = str(_field(scope, owner, feature))
        if slot not in scope and not final:
            pieces.append(f"{{{slot}.{name}[{index}]}}" if index else f"{{{slot}.{name}}}")
            continue
        value = _field(scope, slot, name)
        if isinstance(value, tuple):
            value = _select(grammar, value, index) if index else "|".join(value)
        pieces.append(_render(grammar, value, scope, final))
    return "".join(pieces)


def _select(grammar: Grammar, forms: tuple[str, ...], index: str) -> str:
    if index not in grammar.positions:
        raise _Fault(f"'{index}' is on no axis")
    position, size = grammar.positions[index]
    if len(forms) != size:
        raise _Fault(f"{len(forms)} forms where '{index}' needs {size}: {'|'.join(forms)}")
    return forms[position]


def _field(scope: Scope, slot: str, name: str) -> str | tuple[str, ...]:
    if slot not in scope:
        raise _Fault(f"no slot '{slot}'")
    if name not in scope[slot]:
        raise _Fault(f"'{slot}' has no field '{name}' ({scope[slot].get('fr', '?')})")
    return scope[slot][name]


@lru_cache(maxsize=20_000)
def _parse(template: str) -> tuple[str | tuple[str, str, str], ...]:
    parts: list[str | tuple[str, str, str]] = []
    end = 0
    for match in REFERENCE.finditer(template):
        parts.append(template[end : match.start()])
        parts.append((match[1] or "", match[2], match[3] or ""))
        end = match.end()
    parts.append(template[end:])
    if any(isinstance(part, str) and ("{" in part or "}" in part) for part in parts):
        raise _Fault(f"malformed reference in '{template}'")
    return tuple(part for part in parts if part)


@lru_cache
def _alternatives(query: str) -> tuple[str, ...]:
    """Split at each "|" outside parentheses."""
    return tuple(re.split(r"\|(?![^(]*\))", query))


def _forms(text: str) -> str | tuple[str, ...]:
    return tuple(text.split("|")) if "|" in text else text


def _positions(axes: dict[str, str]) -> dict[str, tuple[int, int]]:
    split = [axis.split() for axis in axes.values()]
    values = [(value, (place, len(axis))) for axis in split for place, value in enumerate(axis)]
    if len(dict(values)) < len(values):
        raise _Fault("the values of the axes are not distinct")
    return dict(values)


def _read_rule(table: dict[str, Any]) -> Rule:
    pairs = tuple((french, english) for french, english in table["pairs"])
    for template in [text for pair in pairs for text in pair] + list(table.get("set", {}).values()):
        _parse(template)
    rule = Rule(table["name"], table.get("slots", {}), pairs, table.get("head", ""), table.get("set", {}))
    if not pairs or (rule.head and rule.head not in rule.slots):
        raise _Fault("no pair, or a head that is no slot")
    return rule


def _inflect(grammar: Grammar, section: dict[str, Any], paradigms: dict[str, Any]) -> Iterator[Entry]:
    """Entries of a lexicon section: each paradigm adds fields to a row; a list of paradigms forks it."""
    for row in section["rows"]:
        if len(row) > len(section["columns"]):
            raise _Fault(f"row {row[0]!r} has more cells than columns")
        given = dict(zip(section["columns"], row, strict=False))
        tags = (*section.get("tags", "").split(), *given.pop("tags", "").split())
        start: Entry = {name: _forms(text) for name, text in {**section.get("defaults", {}), **given}.items()}
        start |= {"tags": tags, "row": "" if section.get("repeats", False) else f"{row[0]} {row[1]}"}
        entries = [start]
        for name in section.get("paradigms", []):
            forks = paradigms[name]
            kept = given if isinstance(forks, dict) else {}
            entries = [
                _derive(grammar, entry, fork, kept)
                for entry in entries
                for fork in ([forks] if isinstance(forks, dict) else forks)
            ]
        yield from entries


def _derive(grammar: Grammar, entry: Entry, paradigm: dict[str, str], kept: dict[str, str]) -> Entry:
    derived = dict(entry)
    scope = {"": derived, "D": grammar.constants}
    for name, template in paradigm.items():
        if name == "tags":
            derived["tags"] = (*entry["tags"], *_render(grammar, template, scope, final=True).split())
        elif name not in kept:
            derived[name] = _forms(_render(grammar, template, scope, final=False))
    return derived


def finish_french(text: str, no_elision: frozenset[str] = frozenset()) -> str:
    """Join words as they are pronounced, then see to spaces and capitals.

    "^" marks a determiner or prenominal adjective: it tells the article "le" (de ^le -> du) from the pronoun
    (de le voir), and "ce" likewise.
    """
    words = text.split()
    joined = ""
    for word, after in pairwise([*words, ""]):
        bare = word.lower()
        if bare == "si" and SI_IL.fullmatch(after):
            joined += word[0] + "'"
        elif bare in ELIDED and _starts_with_vowel(after, no_elision):
            joined += word.removeprefix("^")[:-1] + "'"
        elif word in PREVOCALIC and _starts_with_vowel(after, no_elision):
            joined += PREVOCALIC[word] + " "
        else:
            joined += word + " "
    words = joined.split()
    for place in range(len(words) - 1):
        if (words[place], words[place + 1]) in CONTRACTED:
            words[place : place + 2] = ["", CONTRACTED[words[place], words[place + 1]]]
    joined = " ".join(word for word in words if word).replace("^", "")
    joined = HIATUS.sub(r"\1-t-\2", joined)
    return _capitalise(joined.replace(" .", ".").replace(" ,", ","))


def finish_english(text: str, article_a: frozenset[str] = frozenset(), article_an: frozenset[str] = frozenset()) -> str:
    """Choose a or an, then spaces and capitals."""
    words = text.split()
    for place, (word, after) in enumerate(pairwise(words)):
        if word == "a":
            start = _first_letters(after)
            if start in article_an or (start[:1] in tuple("aeiou") and start not in article_a):
                words[place] = "an"
    return _capitalise(BEFORE_MARK.sub(r"\1", " ".join(words)))


def _starts_with_vowel(word: str, no_elision: frozenset[str]) -> bool:
    first = _first_letters(word)
    return first[:1] in VOWELS and first not in no_elision


def _first_letters(word: str) -> str:
    match = LETTERS.match(word.lstrip("^"))
    return match[0].lower() if match else ""


def _capitalise(text: str) -> str:
    return SENTENCE_START.sub(lambda match: match[0].upper(), text)
