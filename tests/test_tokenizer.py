import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.errors import ModelError, UsageError
from nmt.special import BOS, EOS, PAD, UNK
from nmt.tokenizer import Tokenizer, TokenizerPair, train_tokenizer

WORDS = ["chat", "chien", "maison", "jardin", "rouge", "vert", "grand", "petit", "mange", "avec", "dans", "demain"]
SENTENCES = [f"Le {a} {b}, la {b}tion du {a}ment {len(a) * len(b)}." for a in WORDS for b in WORDS]


@pytest.fixture(scope="module")
def data() -> bytes:
    return train_tokenizer(SENTENCES, vocab_size=320)


@pytest.fixture(scope="module")
def tokenizer(data) -> Tokenizer:
    return Tokenizer(data)


@pytest.mark.parametrize(
    "text",
    ["Le chat mange.", "日本語 and ελληνικά", "<s> </s> <unk> <pad> <0x0A>", "prix : 12 345,50 €", "👍 🇫🇷", ""],
)
def test_text_comes_back_and_holds_no_special_id(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not {PAD, UNK, BOS, EOS} & set(ids)


@given(st.text(alphabet=st.characters(), max_size=40))
def test_any_text_is_encoded_without_special_ids_and_decoded_to_one_printable_line(tokenizer, text):
    ids = tokenizer.encode(text)
    assert all(i > EOS for i in ids)
    assert tokenizer.encode_batch([text]) == [ids]
    decoded = tokenizer.decode(ids)
    assert not set(decoded) & set("\n\r\x00\x0b\x0c\x1b\x85\u2028\u2029")
    decoded.encode()


@given(st.lists(st.integers(0, 319), max_size=12))
def test_any_ids_are_decoded_to_one_printable_line(tokenizer, ids):
    decoded = tokenizer.decode(ids)
    assert not any(c < " " or "\x7f" <= c < "\xa0" or c in "\u2028\u2029" for c in decoded)


@given(st.text(alphabet=st.characters() | st.sampled_from(" \u200b\u00b4\u00ad\ufeff\x1c"), max_size=40))
def test_words_are_those_of_the_text_and_share_its_pieces_out(tokenizer, text):
    ids, words = tokenizer.encode_words(text)
    assert ids == tokenizer.encode(text)
    assert [word.text for word in words] == text.split()
    assert [word.start for word in words] == [0, *(word.end for word in words[:-1])][: len(words)]
    assert not words or words[-1].end == len(ids)


@given(st.lists(st.integers(0, 319), max_size=12))
def test_words_are_those_of_the_decoded_text(tokenizer, ids):
    words = tokenizer.decode_words(ids)
    assert [word.text for word in words] == tokenizer.decode(ids).split()
    assert [word.start for word in words] == [0, *(word.end for word in words[:-1])][: len(words)]
    assert not words or words[-1].end == len(ids)


def test_pieces_of_words(tokenizer):
    ids, words = tokenizer.encode_words("Le l\u00b4chat \ufeff mange")
    pieces = ["".join(tokenizer.pieces(ids)[start:end]) for _, start, end in words]
    assert pieces == ["\u2581Le", "\u2581l\u2581<0xCC><0x81>chat", "", "\u2581mange"]
    [le, combined, chat, mange] = tokenizer.decode_words(ids)
    assert [combined.text, chat.text, mange.text] == ["l", "\u0301chat", "mange"]
    assert (le.end, chat.end) == (combined.start, mange.start)


def test_special_ids_add_nothing_and_incomplete_bytes_become_a_replacement_character(tokenizer):
    ids = tokenizer.encode("Le chat")
    assert tokenizer.decode([BOS, *ids, UNK, EOS, PAD]) == "Le chat"
    first_byte_of_e_acute = [i for i in range(320) if tokenizer.pieces([i]) == ["<0xC3>"]]
    assert tokenizer.decode([*ids, *first_byte_of_e_acute]) == "Le chat\ufffd"
    newline = [i for i in range(320) if tokenizer.pieces([i]) == ["<0x0A>"]]
    assert "\n" not in tokenizer.decode([*ids, *newline, *ids])


def test_composed_and_decomposed_accents_and_kinds_of_space_are_encoded_alike(tokenizer):
    assert tokenizer.encode("De\u0301ja\u0300 vu\u202f?") == tokenizer.encode("Déjà vu ?")


def test_a_batch_on_many_threads_is_the_same_as_one_by_one(tokenizer):
    texts = SENTENCES * 10
    assert len(texts) > 256
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_pieces_name_every_id(tokenizer):
    assert tokenizer.pieces([PAD, UNK, BOS, EOS]) == ["<pad>", "<unk>", "<s>", "</s>"]
    assert "".join(tokenizer.pieces(tokenizer.encode("Le chat"))) == "▁Le▁chat"


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("byte_fallback", [True, False])
def test_the_same_sentences_give_the_same_bytes_of_the_size_asked_for(model_type, byte_fallback):
    size = 320 if byte_fallback else 70
    first, second = (
        train_tokenizer(SENTENCES, vocab_size=size, model_type=model_type, byte_fallback=byte_fallback)
        for _ in range(2)
    )
    assert first == second
    assert Tokenizer(first).vocab_size == size


def test_no_name_of_a_temporary_file_is_left_in_the_model(data):
    assert b"seeds" not in data
    assert b"tmp" not in data


def test_a_frequent_word_is_one_piece_though_nothing_else_holds_it():
    sentences = [f"Deux {word} {other}." for word in WORDS for other in WORDS]
    tokenizer = Tokenizer(train_tokenizer(sentences, vocab_size=290))
    assert tokenizer.pieces(tokenizer.encode("Deux"))[0] == "▁Deux"


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_a_vocabulary_too_large_names_the_largest_possible_and_that_one_works(model_type):
    with pytest.raises(UsageError, match="32000 is too large, the largest possible is") as caught:
        train_tokenizer(SENTENCES, vocab_size=32000, model_type=model_type)
    largest = int(str(caught.value).split("possible is ")[1].split()[0])
    assert Tokenizer(train_tokenizer(SENTENCES, vocab_size=largest, model_type=model_type)).vocab_size == largest


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_a_vocabulary_too_small_names_the_smallest_possible_and_that_one_works(model_type):
    with pytest.raises(UsageError, match="20 is too small, at least") as caught:
        train_tokenizer(SENTENCES, vocab_size=20, model_type=model_type)
    smallest = int(str(caught.value).split("at least ")[1].split()[0])
    assert Tokenizer(train_tokenizer(SENTENCES, vocab_size=smallest, model_type=model_type)).vocab_size == smallest


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("size", [8, 32000])
@pytest.mark.parametrize("sentences", [["a"], ["Bonjour."], SENTENCES, ["今日は天気がいいですね" * 5]])
def test_a_size_that_may_shrink_fits_any_text(sentences, size, model_type):
    tokenizer = Tokenizer(train_tokenizer(sentences, vocab_size=size, model_type=model_type, shrink=True))
    assert 260 < tokenizer.vocab_size < 1000
    assert tokenizer.decode(tokenizer.encode(sentences[0])) == sentences[0]


def test_no_text_at_all_is_an_error():
    with pytest.raises(UsageError, match="no text"):
        train_tokenizer(["", " ", "\0"], vocab_size=300)


def test_learning_is_silent(capfd):
    train_tokenizer(SENTENCES, vocab_size=320)
    with pytest.raises(UsageError):
        train_tokenizer(SENTENCES, vocab_size=32000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("joint", [True, False])
def test_a_saved_pair_is_loaded_as_it_was(data, joint, tmp_path):
    source = Tokenizer(data)
    target = source if joint else Tokenizer(train_tokenizer(SENTENCES, vocab_size=315))
    names = TokenizerPair(source, target).save(tmp_path)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    assert names == (["tokenizer.model"] if joint else ["tokenizer.source.model", "tokenizer.target.model"])
    loaded = TokenizerPair.load(tmp_path)
    assert loaded.joint is joint
    assert (loaded.source.data, loaded.target.data) == (source.data, target.data)


@pytest.mark.parametrize("damage", ["missing", "empty", "half", "text", "directory", "byte piece"])
def test_a_damaged_tokenizer_is_a_model_error_that_names_it(data, damage, tmp_path):
    path = tmp_path / "tokenizer.model"
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(data[: len(data) // 2])
        case "text":
            path.write_text("not a model at all\n" * 50, encoding="utf-8")
        case "directory":
            path.mkdir()
        case "byte piece":  # SentencePiece's message is no UTF-8 then
            path.write_bytes(data.replace(b"<0xCF>", b"<0xC\xca>"))
    with pytest.raises(ModelError, match="tokenizer.model"):
        TokenizerPair.load(tmp_path)


def test_a_model_with_other_special_ids_is_refused():
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=model, vocab_size=60, hard_vocab_limit=False, minloglevel=3
    )
    with pytest.raises(ModelError, match="pad, unk, bos, eos"):
        Tokenizer(model.getvalue())


def test_a_piece_of_200_kilobytes_is_refused_or_harmless(data: bytes) -> None:
    """In a process of its own: what is tried here has crashed SentencePiece (its issue 1263)."""

    def field(number: int, data: bytes) -> bytes:
        size, length = len(data), b""
        while size > 127:
            length, size = length + bytes([size % 128 + 128]), size // 128
        return bytes([8 * number + 2]) + length + bytes([size]) + data

    huge = data + field(1, field(1, b"x" * 200_000) + struct.pack("<Bf", 2 * 8 + 5, -1.0))
    code = "import sys; from nmt.tokenizer import Tokenizer; t = Tokenizer(sys.stdin.buffer.read()); "
    code += "print(t.vocab_size, t.decode(t.encode('x' * 300000)) == 'x' * 300000)"
    done = subprocess.run([sys.executable, "-c", code], input=huge, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0 or b"ModelError" in done.stderr, done.stderr
    assert done.returncode != 0 or done.stdout.split() == [b"321", b"True"]
