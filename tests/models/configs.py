"""Every architecture at a size made for tests; a newcomer is tested by one more line."""

import typing
from typing import Any

from nmt.config import AttentionGRUConfig, GRUConfig, ModelConfig, ScopeName, ScoreName, TransformerConfig

SMALL: dict[str, Any] = {"embedding_size": 12, "hidden_size": 16, "dropout": 0.0}
NARROW: dict[str, Any] = {"model_size": 16, "ffn_size": 24, "num_heads": 2, "dropout": 0.0}

CONFIGS: dict[str, ModelConfig] = {
    "gru": GRUConfig(**SMALL),
    "gru-2-layers-forward-reversed": GRUConfig(**SMALL, num_layers=2, bidirectional=False, reverse_source=True),
    "lstm": GRUConfig(**SMALL, cell="lstm"),
    "lstm-2-layers-no-summary": GRUConfig(**SMALL, cell="lstm", num_layers=2, summary_every_step=False),
    "gru-untied": GRUConfig(**SMALL, tie_embeddings="none"),
    "attention": AttentionGRUConfig(**SMALL, attention_size=10),
    "attention-2-layers": AttentionGRUConfig(**SMALL, attention_size=10, num_layers=2, bidirectional=False),
    "attention-lstm": AttentionGRUConfig(**SMALL, attention_size=10, cell="lstm", tie_embeddings="output"),
    **{
        f"attention-{score}": AttentionGRUConfig(**SMALL, score=score, attention_size=10, attention_positions=8)
        for score in typing.get_args(ScoreName)[1:]
    },
    **{
        f"attention-{scope}-{placement}": AttentionGRUConfig(
            **SMALL, scope=scope, window=2, placement=placement, attention_size=10, num_layers=layers
        )
        for scope in typing.get_args(ScopeName)
        for placement, layers in (("before", 2), ("after", 1))
    },
    "attention-query-all": AttentionGRUConfig(
        **SMALL, query="state+token+context+language", score="general", num_layers=2
    ),
    "attention-query-language": AttentionGRUConfig(**SMALL, query="language", placement="after"),
    "attention-query-token-after": AttentionGRUConfig(**SMALL, query="token", score="concat", placement="after"),
    "attention-query-context-local-p-after": AttentionGRUConfig(
        **SMALL, query="state+context", score="linear", placement="after", scope="local-p", window=3
    ),
    "attention-feeding": AttentionGRUConfig(**SMALL, placement="after", input_feeding=True, num_layers=2),
    "attention-feeding-local-p-dot-lstm": AttentionGRUConfig(
        **SMALL, placement="after", input_feeding=True, scope="local-p", window=2, score="dot", cell="lstm"
    ),
    "attention-self": AttentionGRUConfig(**SMALL, self_attention=True, num_layers=2),
    "attention-self-after": AttentionGRUConfig(**SMALL, self_attention=True, placement="after"),
    "attention-self-feeding-lstm": AttentionGRUConfig(
        **SMALL, self_attention=True, placement="after", input_feeding=True, cell="lstm"
    ),
    "attention-after-2-layers-lstm": AttentionGRUConfig(**SMALL, placement="after", cell="lstm", num_layers=2),
    "transformer": TransformerConfig(**NARROW, num_encoder_layers=2, num_decoder_layers=2),
    "transformer-gelu-learned": TransformerConfig(**NARROW, activation="gelu", positions="learned", max_positions=9),
    "transformer-swiglu-rotary": TransformerConfig(**NARROW, activation="swiglu", positions="rotary"),
    "transformer-one-head": TransformerConfig(**NARROW | {"num_heads": 1}, tie_embeddings="output"),
    "transformer-post-norm": TransformerConfig(**NARROW, norm="post", tie_embeddings="none", alignment_layer=0),
}

SEARCHED = [
    *("gru", "gru-2-layers-forward-reversed", "lstm"),
    *(
        "attention",
        "attention-lstm",
        "attention-local-m-before",
        "attention-feeding",
        "attention-query-all",
        "attention-self",
    ),
    *("transformer", "transformer-swiglu-rotary"),
]
"""One of every kind of decoder state, for the properties of searches: scores differ in nothing that a search sees."""
