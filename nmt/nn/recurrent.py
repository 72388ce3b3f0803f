"""Recurrent cells, and layers of them over whole sequences.

The state of a row is one tensor (N, `state_size`): h for a GRU, [h; c] for an LSTM, so that whoever carries a
state need not know which it is.

Over a sequence, one autograd node runs all steps forward and back: the products with the inputs stand before
the loop, the gradient of the recurrent weights is one product after it instead of one a step.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nmt.nn.step_linear import StepWeight


class Cell(nn.Module, ABC):
    """One recurrent cell: affine maps of input and state to gates, and what the gates do to the state."""

    num_gates: int
    states_per_unit: int

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.state_size = self.states_per_unit * hidden_size
        self.input = nn.Linear(input_size, self.num_gates * hidden_size)
        self.hidden = nn.Linear(hidden_size, self.num_gates * hidden_size)
        bound = 1 / math.sqrt(input_size)
        nn.init.uniform_(self.input.weight, -bound, bound)
        for gate in self.hidden.weight.detach().chunk(self.num_gates):
            nn.init.orthogonal_(gate)
        for layer in (self.input, self.hidden):
            nn.init.zeros_(layer.bias)

    @staticmethod
    @abstractmethod
    def gates(from_input: Tensor, from_hidden: Tensor, state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """New state, and what `gates_backward` needs besides the old state."""

    @staticmethod
    @abstractmethod
    def gates_backward(grad: Tensor, state: Tensor, saved: tuple[Tensor, ...]) -> "GateGradients":
        """Gradients by the two affine maps and by the old state, given the gradient by the new state."""

    def output(self, state: Float[Tensor, "*N state"]) -> Float[Tensor, "*N H"]:
        """H of a state."""
        return state[..., : self.hidden_size]

    def forward(self, x: Float[Tensor, "N I"], state: Float[Tensor, "N state"]) -> Float[Tensor, "N state"]:
        """One step from the input itself."""
        return self.advance(self.input(x), self.hidden(self.output(state)), state)

    def advance(
        self, from_input: Float[Tensor, "N G"], from_hidden: Float[Tensor, "N G"], state: Float[Tensor, "N state"]
    ) -> Float[Tensor, "N state"]:
        """One step from the two affine maps, already computed."""
        if not torch.is_grad_enabled():
            return self.gates(from_input.float(), from_hidden.float(), state)[0]
        new: Tensor = _Gates.apply(type(self), from_input, from_hidden, state)  # type: ignore[no-untyped-call]
        return new

    def step_weight(self) -> StepWeight:
        """The recurrent map, for use at many steps of one loop."""
        return StepWeight(self.hidden.weight, self.hidden.bias)


class GateGradients(NamedTuple):
    """Gradients of one step."""

    from_input: Tensor
    from_hidden: Tensor
    state: Tensor


class GRUCell(Cell):
    """Gated recurrent unit (Cho et al. 2014, equations 5 to 8, https://arxiv.org/abs/1406.1078).

    r = sigmoid(W_r x + U_r h), z = sigmoid(W_z x + U_z h), n = tanh(W_n x + r * (U_n h)), h' = (1 - z) n + z h.
    As in torch and cuDNN, r multiplies U_n h where the paper has U_n (r * h): one product serves all three gates.
    """

    num_gates = 3
    states_per_unit = 1

    @staticmethod
    def gates(from_input: Tensor, from_hidden: Tensor, state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The equations above."""
        size = state.shape[-1]
        rz = (from_input[..., : 2 * size] + from_hidden[..., : 2 * size]).sigmoid_()
        r, z = rz.chunk(2, -1)
        hidden_n = from_hidden[..., 2 * size :]
        n = torch.addcmul(from_input[..., 2 * size :], r, hidden_n).tanh_()
        return torch.lerp(n, state, z), (rz, n, hidden_n)

    @staticmethod
    def gates_backward(grad: Tensor, state: Tensor, saved: tuple[Tensor, ...]) -> GateGradients:
        """Derivatives of the equations above."""
        rz, n, hidden_n = saved
        r, z = rz.chunk(2, -1)
        dz = grad * (state - n) * z * (1 - z)
        dn = grad * (1 - z) * (1 - n * n)
        dr = dn * hidden_n * r * (1 - r)
        return GateGradients(torch.cat([dr, dz, dn], -1), torch.cat([dr, dz, dn * r], -1), grad * z)


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; with forget gates, Gers et al. 2000).

    i, f, o = sigmoid(W x + U h), g = tanh(W_g x + U_g h), c' = f c + i g, h' = o tanh(c').
    The forget gate's bias starts at 1.
    """

    num_gates = 4
    states_per_unit = 2

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        nn.init.ones_(self.input.bias.detach()[hidden_size : 2 * hidden_size])

    @staticmethod
    def gates(from_input: Tensor, from_hidden: Tensor, state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The equations above."""
        c = state.chunk(2, -1)[1]
        i, f, g, o = (from_input + from_hidden).chunk(4, -1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        new_c = f * c + i * g
        tanh_c = new_c.tanh()
        return torch.cat([o * tanh_c, new_c], -1), (i, f, g, o, tanh_c)

    @staticmethod
    def gates_backward(grad: Tensor, state: Tensor, saved: tuple[Tensor, ...]) -> GateGradients:
        """Derivatives of the equations above."""
        i, f, g, o, tanh_c = saved
        c = state.chunk(2, -1)[1]
        dh, dc = grad.chunk(2, -1)
        dc = dc + dh * o * (1 - tanh_c * tanh_c)
        by_gate = (dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g), dh * tanh_c * o * (1 - o))
        gradient = torch.cat(by_gate, -1)
        return GateGradients(gradient, gradient, torch.cat([torch.zeros_like(dh), dc * f], -1))


def make_cell(kind: Literal["gru", "lstm"], input_size: int, hidden_size: int) -> Cell:
    """A cell by its name."""
    return GRUCell(input_size, hidden_size) if kind == "gru" else LSTMCell(input_size, hidden_size)


class _Gates(torch.autograd.Function):
    """One step as one autograd node, its arithmetic in float32."""

    @staticmethod
    def forward(ctx: Any, cell: type[Cell], from_input: Tensor, from_hidden: Tensor, state: Tensor) -> Tensor:
        new, saved = cell.gates(from_input.float(), from_hidden.float(), state)
        ctx.cell, ctx.dtypes = cell, (from_input.dtype, from_hidden.dtype)
        ctx.save_for_backward(state, *saved)
        return new

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        state, *saved = ctx.saved_tensors
        gradients = ctx.cell.gates_backward(grad, state, tuple(saved))
        input_dtype, hidden_dtype = ctx.dtypes
        return None, gradients.from_input.to(input_dtype), gradients.from_hidden.to(hidden_dtype), gradients.state


class _Sequence(torch.autograd.Function):
    """All steps of one layer as one autograd node; time first.

    At a position whose mask is False the state passes through unchanged.
    """

    @staticmethod
    def forward(
        ctx: Any, cell: type[Cell], from_input: Tensor, weight: Tensor, bias: Tensor, initial: Tensor, mask: Tensor
    ) -> Tensor:
        """Returns states (T, B, state) from affine inputs (T, B, G), initial state (B, state), mask (T, B, 1)."""
        dtype = from_input.dtype
        transposed, bias = weight.to(dtype).T, bias.to(dtype)
        size = weight.shape[1]
        state, states, saved = initial, [initial], []
        with torch.autocast(initial.device.type, enabled=False):
            for x, real in zip(from_input.unbind(0), mask.unbind(0), strict=True):
                from_hidden = torch.addmm(bias, state[:, :size].to(dtype), transposed)
                new, kept = cell.gates(x.float(), from_hidden.float(), state)
                state = torch.where(real, new, state)
                states.append(state)
                saved.append(kept)
        ctx.cell, ctx.saved, ctx.dtype = cell, saved, dtype
        result = torch.stack(states)
        ctx.save_for_backward(weight, mask, result)
        return result[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        weight, mask, states = ctx.saved_tensors
        low = weight.to(ctx.dtype)
        size = weight.shape[1]
        carry = torch.zeros_like(grad_states[0])
        by_input: list[Tensor] = []
        by_hidden: list[Tensor] = []
        with torch.autocast(states.device.type, enabled=False):
            for step in reversed(range(len(mask))):
                grad = grad_states[step] + carry
                real = mask[step]
                gradients = ctx.cell.gates_backward(torch.where(real, grad, 0.0), states[step], ctx.saved[step])
                by_input.append(gradients.from_input.to(ctx.dtype))
                by_hidden.append(gradients.from_hidden.to(ctx.dtype))
                carry = torch.where(real, gradients.state, grad)
                carry[:, :size] += (by_hidden[-1] @ low).float()
            grad_input = torch.stack(by_input[::-1])
            grad_hidden = torch.stack(by_hidden[::-1]).flatten(0, 1)
            before = states[:-1, :, :size].to(ctx.dtype).flatten(0, 1)
            grad_weight = (grad_hidden.T @ before).to(weight.dtype)
        ctx.saved = None
        return None, grad_input, grad_weight, grad_hidden.float().sum(0), carry, None


def run_cell(
    cell: Cell, x: Float[Tensor, "B T I"], mask: Bool[Tensor, "B T"], initial: Float[Tensor, "B state"]
) -> Float[Tensor, "B T state"]:
    """States after each position; a position whose mask is False leaves the state as it is."""
    from_input = cell.input(x.transpose(0, 1))
    states = _Sequence.apply(  # type: ignore[no-untyped-call]
        type(cell), from_input, cell.hidden.weight, cell.hidden.bias, initial.float(), mask.T[..., None]
    )
    assert isinstance(states, Tensor)
    return states.transpose(0, 1)


def reverse_within_length(x: Tensor, mask: Bool[Tensor, "B T"]) -> Tensor:
    """Each row's real positions in reverse order; padding stays at the end. Its own inverse."""
    length = mask.sum(1, keepdim=True)
    position = torch.arange(x.shape[1], device=x.device)
    index = torch.where(mask, length - 1 - position, position)
    return x.gather(1, index.view(*index.shape, *[1] * (x.dim() - 2)).expand_as(x))
