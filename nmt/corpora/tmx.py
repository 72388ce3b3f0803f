"""Parallel text in TMX, the exchange format of translation memories (LISA 2005, TMX 1.4b)."""

import re
import xml.parsers.expat
from collections.abc import Iterator
from typing import Final
from xml.parsers.expat import ExpatError, XMLParserType

from nmt.corpora.base import LINE_TOO_LONG, Digest, Reading
from nmt.corpora.files import TextCorpus
from nmt.errors import DataError
from nmt.lines import MAX_SKIPPED, open_binary, printable

_CHUNK: Final = 1 << 16
_MAX_MARKUP: Final = 1 << 20
"""Bytes one tag, comment or declaration may take: the parser holds it whole."""
_MAX_DEPTH: Final = 100
"""Elements inside one another; TMX itself needs no ten."""
_MAX_NAMES: Final = 4096
"""Different elements and attributes: the parser holds the name of each; TMX itself has some fifty."""
_LISTED: Final = 10
"""Languages a message lists at most, and characters of each."""

_NO_TEXT: Final = frozenset({"bpt", "ept", "ph", "it", "ut", "sub"})
"""Elements inside a segment that hold codes of the program it came from, and notes inside those (TMX 1.4b, §3.3)."""


class TMXCorpus(TextCorpus):
    """One TMX file: a pair a translation unit, by the language attributes of its variants.

    `fr` is also `FR` and `fr-CA`; of several variants in a language the first counts. A unit without both languages
    is a blank pair. Markup inside a segment goes, the text that it marks stays. Nothing can be declared and nothing
    is fetched, so that no file grows in memory or reads another.
    """

    def place(self, number: int) -> str:
        """File and unit."""
        return f"{printable(str(self.paths[0]))}, unit {number}"

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Unit by unit, a piece of the file in memory at a time."""
        path = self.paths[0]
        digest, units = Digest(path), _Units(printable(str(path)), self.reading)
        complete = False
        with open_binary(path, observe=digest.update) as stream:
            data = b"."
            while data:
                data = stream.read(_CHUNK)
                for unit in units.feed(data):
                    self.read += 1
                    src, tgt = (unit.get(lang) for lang in self.reading.langs)
                    complete = complete or (src is not None and tgt is not None)
                    if _TOO_LONG in (src, tgt):
                        self.unusable(LINE_TOO_LONG, self.place(self.read))
                    else:
                        yield src or "", tgt or ""
        if self.read == 0:
            raise DataError(f"{units.name} has no translation unit")
        if not complete:
            seen = ", ".join(sorted(units.languages))
            raise DataError(f"{units.name} has no unit in both {' and '.join(self.reading.langs)}: it has {seen}")
        self.files = [digest.result()]


_TOO_LONG: Final = "\n"
"""Stands for a segment above the limit: in others, white space is one space."""

_XML_SPACE: Final = re.compile("[ \t\r\n]+")

Unit = dict[str, str]
"""Text of a translation unit in each language that is read, where it has that."""


class _Units:
    """The translation units of a document, as its bytes come in."""

    def __init__(self, name: str, reading: Reading) -> None:
        self.name = name
        self.languages: set[str] = set()
        """The first few languages met, made printable."""
        self._reading = reading
        self._parser: XMLParserType = xml.parsers.expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._refuse_declarations
        self._parser.SkippedEntityHandler = self._refuse_unknown
        self._fed = self._unit_end = 0
        self._depth = 0
        self._ready: list[Unit] = []
        self._unit: Unit = {}
        self._language: str | None = None
        """Of the open variant, if it is to be read."""
        self._segment: list[str] | None = None
        """Pieces of the open segment, if it is to be read."""
        self._bytes = 0
        self._codes = 0
        """Open elements that hold no text."""

    def feed(self, data: bytes) -> list[Unit]:
        """The units that end in `data`, the next bytes of the document; none is its end.

        Raises:
            DataError: it is no TMX, or one that no program wrote in good faith.
        """
        self._ready = []
        try:
            self._parser.Parse(data, not data)
        except ExpatError as error:
            reason = xml.parsers.expat.ErrorString(error.code)
            raise DataError(f"{self.name}:{error.lineno} is damaged or no TMX: {reason}") from None
        except (LookupError, ValueError) as error:  # from Python's codecs
            what = printable(str(error))[:100]
            raise DataError(f"{self.name} is in an encoding that is not read ({what}): convert it to UTF-8") from None
        self._fed += len(data)
        if self._ready:
            self._unit_end = self._fed
        if self._fed - max(self._parser.CurrentByteIndex, 0) > _MAX_MARKUP:
            raise self._refusal(f"markup of more than {_MAX_MARKUP >> 20} MiB")
        if len(self._parser.intern) > _MAX_NAMES:
            raise self._refusal(f"more than {_MAX_NAMES} names of elements and attributes")
        if self._fed - self._unit_end > MAX_SKIPPED:
            raise self._refusal(f"no unit in {MAX_SKIPPED >> 20} MiB")
        return self._ready

    def _refusal(self, what: str) -> DataError:
        return DataError(f"{self.name}:{self._parser.CurrentLineNumber} has {what}: it is not read")

    def _refuse_declarations(self, name: str, system: object, public: object, internal: int) -> None:
        if internal:
            raise self._refusal("declarations of its own, as entities are")

    def _refuse_unknown(self, name: str, *_: object) -> None:
        raise self._refusal(f"an entity that is not declared, {printable(name)[:40]!r}")

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        if self._depth == 0 and element != "tmx":
            raise DataError(f"{self.name} is no TMX: its root is <{printable(element)[:40]}>, not <tmx>")
        if self._depth == _MAX_DEPTH:
            raise self._refusal(f"more than {_MAX_DEPTH} elements inside one another")
        self._depth += 1
        if element == "tu":
            self._unit = {}
        elif element == "tuv":
            language = attributes.get("xml:lang", attributes.get("lang", ""))
            self._language = next((lang for lang in self._reading.langs if _is_of(language, lang)), None)
            if len(self.languages) < _LISTED:
                self.languages.add(printable(language)[:_LISTED] or "variants without a language")
        elif element == "seg" and self._language is not None and self._language not in self._unit:
            self._segment, self._bytes, self._codes = [], 0, 0
        elif element in _NO_TEXT:
            self._codes += 1

    def _end(self, element: str) -> None:
        self._depth -= 1
        if element == "tu":
            self._ready.append(self._unit)
        elif element == "tuv":
            self._language = None
        elif element == "seg" and self._segment is not None and self._language is not None:
            text = _XML_SPACE.sub(" ", "".join(self._segment)).strip(" ")
            self._unit[self._language] = text if self._bytes <= self._reading.max_line_bytes else _TOO_LONG
            self._segment = None
        elif element in _NO_TEXT:
            self._codes -= 1

    def _text(self, text: str) -> None:
        if self._segment is None or self._codes:
            return
        self._bytes += len(text.encode())
        if self._bytes <= self._reading.max_line_bytes:
            self._segment.append(text)


def _is_of(language: str, lang: str) -> bool:
    """Whether a language attribute names `lang`, or a region of it."""
    language, lang = (name.lower().replace("_", "-") for name in (language, lang))
    return language == lang or language.startswith(f"{lang}-")
