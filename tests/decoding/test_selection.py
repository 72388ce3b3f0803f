import pytest
import torch

from nmt.decoding.selection import best_tokens, log_probabilities


@pytest.mark.parametrize("vocab", [5, 64, 1000, 1024, 1029])
@pytest.mark.parametrize("k", [1, 3, 4])
def test_best_tokens_are_those_of_topk(vocab: int, k: int) -> None:
    scores = torch.randperm(7 * vocab, generator=torch.Generator().manual_seed(k)).view(7, vocab).float()
    scores[:, ::3] = -torch.inf
    found, gold = best_tokens(scores, k), scores.topk(min(k, vocab), 1)
    assert torch.equal(found.log_probs, gold.values)
    finite = gold.values > -torch.inf
    assert torch.equal(found.tokens[finite], gold.indices[finite])


def test_the_last_columns_are_not_forgotten() -> None:
    scores = torch.zeros(2, 1029)
    scores[0, 1028] = 2.0
    scores[1, 63] = 1.0
    assert best_tokens(scores, 1).tokens[:, 0].tolist() == [1028, 63]


def test_log_probabilities_of_a_bf16_model_are_float32() -> None:
    logits = torch.randn(4, 50, dtype=torch.bfloat16)
    log_probs = log_probabilities(logits)
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(4))


def test_log_probabilities_take_the_place_of_the_logits() -> None:
    logits = torch.randn(65, 8000)
    logits[:, ::7] = -torch.inf
    gold = logits.log_softmax(1)
    log_probs = log_probabilities(logits)
    assert torch.equal(log_probs, gold)
    assert log_probs.data_ptr() == logits.data_ptr()
