"""Every architecture at a size made for tests; a newcomer is tested by one more line."""

from typing import Any

from nmt.config import AttentionGRUConfig, GRUConfig, ModelConfig, TransformerConfig

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
    "transformer": TransformerConfig(**NARROW, num_encoder_layers=2, num_decoder_layers=2),
    "transformer-post-norm": TransformerConfig(**NARROW, norm="post", tie_embeddings="none", alignment_layer=0),
}
