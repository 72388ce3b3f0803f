"""A recurrent decoder's look back at its own earlier states."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nmt.nn.attention import attend
from nmt.nn.scores import GeneralScore


class IntraAttention(nn.Module):
    """c_t = sum_{t' < t} a_{tt'} s_{t'} with a_t = softmax_{t'}(s_t . W s_{t'}).

    Paulus et al. 2018, section 2.2, https://arxiv.org/abs/1705.04304. There c_1 = 0; here the first step has s_0, the
    state before any token, to look at.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = GeneralScore(size, size)

    def forward(self, states: Float[Tensor, "N T H"], earlier: Float[Tensor, "N E H"]) -> Float[Tensor, "N T H"]:
        """Contexts of the last T states, where `earlier` are all but the last, s_0 first, E >= T."""
        ours, theirs = states.shape[1], earlier.shape[1]
        before = torch.ones(ours, theirs, dtype=torch.bool, device=states.device).tril(theirs - ours)
        scores = self.score(states, self.score.project_keys(earlier)).masked_fill(~before, -torch.inf)
        everything = torch.ones(earlier.shape[:2], dtype=torch.bool, device=states.device)
        return attend(scores, earlier, everything).context
