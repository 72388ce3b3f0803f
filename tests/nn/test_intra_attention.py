"""A decoder's look back, against a direct evaluation of its equation."""

import torch

from nmt.nn.intra_attention import IntraAttention


def test_each_state_looks_at_those_before_it() -> None:
    torch.manual_seed(1)
    look = IntraAttention(4).double()
    states = torch.randn(2, 4, 4, dtype=torch.float64)  # s_0 .. s_3
    contexts = look(states[:, 1:], states[:, :-1])
    [weight] = [p for p in look.parameters() if p.dim() == 2]
    for row in range(2):
        for t in range(1, 4):
            scores = torch.stack([states[row, t] @ weight @ states[row, e] for e in range(t)])
            expected = scores.softmax(0) @ states[row, :t]
            torch.testing.assert_close(contexts[row, t - 1], expected, rtol=1e-5, atol=1e-6)


def test_the_last_states_alone_find_the_same() -> None:
    look = IntraAttention(4)
    states = torch.randn(2, 4, 4)
    torch.testing.assert_close(look(states[:, 3:], states[:, :-1]), look(states[:, 1:], states[:, :-1])[:, 2:])
