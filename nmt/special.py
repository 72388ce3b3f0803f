"""Ids of the special tokens, the same in every vocabulary."""

from typing import Final

PAD: Final = 0
"""Fills the end of a short row in a batch; never predicted, never attended to."""
UNK: Final = 1
"""An unknown piece; cannot occur in the source where the vocabulary falls back to bytes."""
BOS: Final = 2
"""First input of the decoder."""
EOS: Final = 3
"""Ends every source sentence and every translation."""
