import pytest

from nmt.decoding.repetition import LONGEST_PERIOD, is_looping


@pytest.mark.parametrize(
    "text",
    [
        "the " * 8,
        "a man is " + "in the " * 5,
        "he said " + "that he was " * 5,
        "well , " + "I do not know what to say " * 3 + "now",
        " ".join([*map(str, range(LONGEST_PERIOD))] * 3),
    ],
)
def test_loops(text):
    assert is_looping(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "word",
        "no , no , no , no",
        "ha ha ha ha ha ha ha",
        "I love you , I love you , I love you",
        "step by step by step by step",
        "The man in the red shirt and the man in the blue shirt and the man in the green shirt talk .",
    ],
)
def test_sentences_are_no_loops(text):
    assert not is_looping(text.split())


def test_token_ids_loop_as_words_do():
    assert is_looping([5, 9] * 5)
    assert not is_looping([5, 9] * 3)
