import gzip

import pytest

from nmt.corpora import open_corpus, tmx
from nmt.corpora.base import LINE_TOO_LONG, Reading
from nmt.errors import DataError

HEAD = '<?xml version="1.0"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx version="1.4"><header srclang="fr"/><body>\n'
TAIL = "</body></tmx>\n"


def variant(lang, text, attribute="xml:lang"):
    return f'<tuv {attribute}="{lang}"><prop>no text</prop><seg>{text}</seg></tuv>'


def unit(french, english):
    return f"<tu>{variant('fr', french)}{variant('en', english)}</tu>\n"


def write(folder, body, *, head=HEAD, tail=TAIL, encoding="utf-8", name="x.tmx"):
    data = (head + body + tail).encode(encoding)
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(folder / name)


def read(spec, **options):
    corpus = open_corpus(spec, Reading(**options))
    return list(corpus.pairs()), corpus


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["x.tmx", "x.tmx.gz", "X.TMX"])
def test_units_are_pairs(tmp_path, encoding, name):
    body = unit("Où est la gare ?", "Where is the station?") + unit("Fish &amp; chips &#8212; &lt;3", "a ]]&gt; b")
    pairs, corpus = read(write(tmp_path, body, encoding=encoding, name=name))
    assert pairs == [("Où est la gare ?", "Where is the station?"), ("Fish & chips — <3", "a ]]> b")]
    assert corpus.read == 2
    assert corpus.files[0].bytes == (tmp_path / name).stat().st_size
    assert corpus.place(2).endswith(f"{name}, unit 2")


def test_the_two_languages_are_found_among_others_in_any_order_and_region(tmp_path):
    body = f"<tu>{variant('DE-at', 'Ja')}{variant('EN_us', 'Yes', 'lang')}{variant('en', 'Yeah')}"
    body += f"{variant('FR-CA', 'Oui')}{variant('frp', 'no French')}</tu>"
    assert read(write(tmp_path, body))[0] == [("Oui", "Yes")]
    assert read(write(tmp_path, body), source_lang="de", target_lang="fr")[0] == [("Ja", "Oui")]


def test_a_unit_without_one_of_the_languages_is_a_blank_pair(tmp_path):
    body = unit("Oui", "Yes") + f"<tu>{variant('fr', 'Non')}</tu><tu>{variant('fr', '')}{variant('en', 'x')}</tu>"
    assert read(write(tmp_path, body))[0] == [("Oui", "Yes"), ("Non", ""), ("", "x")]


def test_codes_in_a_segment_go_and_the_text_they_mark_stays(tmp_path):
    marked = (
        'Un <bpt i="1">&lt;b&gt;</bpt>mot <hi>gras</hi><ept i="1">&lt;/b&gt;</ept><ph>{0}<sub>note</sub></ph> \n  ici'
    )
    assert read(write(tmp_path, unit(marked, "a<ut>x</ut> b")))[0] == [("Un mot gras ici", "a b")]


def test_segments_cross_the_pieces_that_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tmx, "_CHUNK", 7)
    pairs = [(f"Numéro {i}", f"Number {i}") for i in range(20)]
    assert read(write(tmp_path, "".join(unit(*pair) for pair in pairs)))[0] == pairs


def test_a_segment_too_long_is_dropped_from_training_and_stops_an_evaluation_set(tmp_path):
    spec = write(tmp_path, unit("Oui", "Yes") + unit("x" * 101, "y") + unit("z", "é" * 51) + unit("é" * 50, "b"))
    pairs, corpus = read(spec, max_line_bytes=100)
    assert pairs == [("Oui", "Yes"), ("é" * 50, "b")]
    assert corpus.dropped == {LINE_TOO_LONG: 2}
    with pytest.raises(DataError, match="unit 2"):
        read(spec, max_line_bytes=100, role="test")


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(9))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param("<tmx/>", "has no translation unit", id="no unit"),
        pytest.param("<html><body/></html>", "is no TMX: its root is <html>", id="another root"),
        pytest.param("", "is damaged or no TMX: no element found", id="empty"),
        pytest.param("Oui\tYes\n", ":1 is damaged or no TMX", id="plain text"),
        pytest.param(HEAD + unit("Oui", "Yes"), "is damaged or no TMX: no element found", id="cut between units"),
        pytest.param(HEAD + unit("Oui", "Yes")[:-20], "is damaged or no TMX", id="cut in a unit"),
        pytest.param(HEAD + unit("Oui", "Yes") + "</boby></tmx>", ":5 is damaged or no TMX: mismatched", id="tags"),
        pytest.param(HEAD + f"<tu>{variant('es', 'Sí')}</tu>" + TAIL, "no unit in both fr and en: it has es", id="es"),
        pytest.param(HEAD + "<tu><tuv><seg>x</seg></tuv></tu>" + TAIL, "without a language", id="no language"),
        pytest.param(f"<!DOCTYPE tmx [{LAUGHS}]><tmx>&l8;</tmx>", "declarations of its own", id="laughs"),
        pytest.param(
            '<!DOCTYPE tmx [<!ENTITY e SYSTEM "file:///etc/passwd">]><tmx>&e;</tmx>',
            "declarations of its own",
            id="external",
        ),
        pytest.param(
            '<!DOCTYPE tmx [<!ENTITY % p SYSTEM "http://localhost/x.dtd"> %p;]><tmx/>',
            "declarations of its own",
            id="parameter",
        ),
        pytest.param(
            f'<!DOCTYPE tmx [<!ATTLIST a x CDATA "{"x" * 9}">]><tmx/>', "declarations of its own", id="defaults"
        ),
        pytest.param("<tmx>" + "".join(f"<a{i}/>" for i in range(30_000)), "more than 4096 names", id="names"),
        pytest.param(
            "<tmx " + " ".join(f'a{i}=""' for i in range(9_000)) + ">" + 70_000 * " ", "names", id="attributes"
        ),
        *(
            pytest.param(f'<?xml version="1.0" encoding="{name}"?><tmx/>', "encoding", id=name)
            for name in ("Shift_JIS", "utf-7", "idna", "rot13", "foo", "undefined")
        ),
        pytest.param(HEAD + unit("&eacute;", "e") + TAIL, "not declared, 'eacute'", id="undeclared"),
        pytest.param("<tmx>" + "<a>" * 200, "more than 100 elements inside one another", id="deep"),
        pytest.param("<tmx><" + "a" * (3 << 20), "markup of more than 1 MiB", id="huge tag"),
        pytest.param("<tmx><!--" + "a" * (3 << 20), "markup of more than 1 MiB", id="huge comment"),
        pytest.param("<\x1b[31mred/>", "damaged or no TMX", id="escape code"),
    ],
)
def test_what_is_no_tmx_or_hostile_is_one_line(tmp_path, document, message):
    with pytest.raises(DataError) as caught:
        read(write(tmp_path, document, head="", tail=""))
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_memory_without_units_is_not_read_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(tmx, "MAX_SKIPPED", 1 << 20)
    with pytest.raises(DataError, match="no unit in 1 MiB"):
        read(write(tmp_path, "<note>much</note>" * 200_000))


def test_bytes_that_are_not_utf8_are_named(tmp_path):
    (tmp_path / "x.tmx").write_bytes(HEAD.encode() + b"<tu>\xe9</tu>" + TAIL.encode())
    with pytest.raises(DataError, match=":4 is damaged or no TMX: not well-formed"):
        read(str(tmp_path / "x.tmx"))


def test_a_damaged_packed_file_is_named(tmp_path):
    spec = write(tmp_path, unit("Oui", "Yes") * 10_000, name="x.tmx.gz")
    (tmp_path / "x.tmx.gz").write_bytes((tmp_path / "x.tmx.gz").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"x\.tmx\.gz"):
        read(spec)
