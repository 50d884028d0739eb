"""A transformer that rebuilds a grid of feature vectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medad_plugins.networks.blocks.feature_jitter import FeatureJitter
from medad_plugins.networks.blocks.grid_positions import GridPositions, GridQueries, neighbours_hidden
from medad_plugins.networks.blocks.token_attention import DecoderLayer, EncoderLayer

__all__ = ["TokenTransformer"]


class TokenTransformer(nn.Module):
    """Encoder and decoder over the places of a feature grid, where learned queries ask what belongs at each place.

    A decoder cannot pass its input on, for it begins with queries that know nothing of it. With layer-wise queries
    every layer begins with queries of its own, which attend to what the encoder gives, then to what the layer before
    gives. Without, one set of queries goes through the usual layers: self-attention, then what the encoder gives.

    Args:
        grid: places along each axis of the grid that is trained on; for another one, positions and queries are
            interpolated.
        channels: of the feature vectors.
        width: of the tokens.
        heads: of every attention.
        hidden: inner width of the perceptrons.
        encoder_layers, decoder_layers: how many.
        positions: ``"learned"`` or ``"sine"``, see `GridPositions`.
        layerwise_queries: see above.
        neighbourhood: edge of the window about each place, odd, that its tokens may not attend to, in all attentions; 0
            hides nothing.
        jitter, jitter_probability: noise on what goes in, in training, see `FeatureJitter`; 0 for none.
        dropout: in training, of attention, of the perceptrons' inner values, and of what is added.
        activation: ``"relu"`` or ``"gelu"``.

    Shape:
        ``(B, channels, *grid)`` to the same.

    Example:
        >>> transformer = TokenTransformer([4, 4], channels=12, width=8, heads=2, hidden=16, neighbourhood=3)
        >>> transformer(torch.rand(2, 12, 4, 4)).shape
        torch.Size([2, 12, 4, 4])

    References:
        You et al., "A Unified Model for Multi-class Anomaly Detection", NeurIPS 2022; You et al., "ADTR: Anomaly
        Detection Transformer with Feature Reconstruction", ICONIP 2022.
    """

    def __init__(
        self,
        grid: Sequence[int],
        channels: int,
        width: int = 256,
        heads: int = 8,
        hidden: int = 1024,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        positions: str = "learned",
        layerwise_queries: bool = False,
        neighbourhood: int = 0,
        jitter: float = 0.0,
        jitter_probability: float = 1.0,
        dropout: float = 0.1,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if encoder_layers < 0 or decoder_layers < 1:
            raise ValueError(
                f"there must be a decoder layer and no negative number of them, got {encoder_layers}, {decoder_layers}."
            )
        if neighbourhood < 0 or (neighbourhood > 0 and neighbourhood % 2 == 0):
            raise ValueError(f"neighbourhood must be odd, or 0 for none, got {neighbourhood}.")
        self.layerwise, self.neighbourhood = layerwise_queries, neighbourhood
        self.jitter = FeatureJitter(jitter, jitter_probability)
        self.inwards, self.outwards = nn.Linear(channels, width), nn.Linear(width, channels)
        for layer in (self.inwards, self.outwards):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.positions = GridPositions(grid, width, positions)
        self.queries = nn.ModuleList(
            GridQueries(grid, width) for _ in range(decoder_layers if layerwise_queries else 1)
        )
        arguments = (width, heads, hidden, dropout, activation)
        self.encoder = nn.ModuleList(EncoderLayer(*arguments) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*arguments) for _ in range(decoder_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        grid = [int(edge) for edge in features.shape[2:]]
        positions = self.positions(grid)
        hidden: Tensor | None = None
        if self.neighbourhood > 0:
            hidden = neighbours_hidden(grid, self.neighbourhood, features.device)
        memory = self.inwards(self.jitter(features.flatten(2).transpose(1, 2)))
        for layer in self.encoder:
            memory = layer(memory, positions, hidden)
        questions: list[Tensor] = []
        for queries in self.queries:
            questions.append(queries(grid).expand(memory.shape[0], -1, -1))
        x = memory if self.layerwise else questions[0]
        for index, layer in enumerate(self.decoder):
            if self.layerwise:
                x = layer(questions[index], memory, x, positions, positions, hidden, hidden)
            else:
                x = layer(x, x, memory, positions, positions, hidden, hidden)
        rebuilt = self.outwards(self.norm(x))
        return rebuilt.transpose(1, 2).reshape([-1, rebuilt.shape[2]] + grid)
