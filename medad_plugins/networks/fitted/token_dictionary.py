"""A dictionary of typical normal tokens, and how unlike the most similar entries a token is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.one_class_head import squared_distances
from medad_plugins.networks.fitted.scan_bank import ScanBank
from medad_plugins.networks.fitted.token_places import place_coordinates
from medad_plugins.networks.fitted.vector_preparation import VectorPreparation

__all__ = ["TokenDictionary"]

logger = logging.getLogger(__name__)


class TokenDictionary(ScanBank):
    """Normal tokens nearest to the centres of k-means clusters of their principal components.

    Args:
        entries: of the dictionary; as many clusters are sought.
        neighbours: entries whose mean distance to a token is the token's.
        share: of the variance that the principal components hold, above 0 and below 1; None takes tokens as they are.
        place: weight of a token's coordinates, -1 to 1 along each axis, in deviations of the tokens, which are joined
            to its components; 0 for none.
        clustered: most tokens that k-means is run on, evenly drawn from those of the scans kept.
        references, storage: scans whose tokens are kept while fitting, see `ScanBank`.
        seed: of the drawing and of k-means.

    Buffers:
        Those of `ScanBank`. at ``(P, dims)``: the places' coordinates. entries_kept ``(K, D)``: the entries' tokens;
        entry_places ``(K,)``: where these are. spread: deviation of the components. dictionary ``(K, D')``: the
        entries' components and coordinates.

    Shape:
        tokens ``(B, P, D)`` to distances ``(B, P)``.

    Reference:
        Napoletano, Piccoli and Schettini, "Anomaly detection in nanofibrous materials by CNN-based self-similarity",
        Sensors 2018.
    """

    def __init__(
        self,
        entries: int = 500,
        neighbours: int = 1,
        share: float | None = 0.95,
        place: float = 0.0,
        clustered: int = 40000,
        references: int = 250,
        storage: str = "float16",
        seed: int = 0,
    ) -> None:
        super().__init__(references, storage)
        if entries < 1 or not 1 <= neighbours <= entries or place < 0 or clustered < entries:
            raise ValueError(
                "entries must be at least 1, neighbours at most as many, place not negative and clustered at least "
                f"entries, got {entries}, {neighbours}, {place} and {clustered}."
            )
        if share is not None and not 0 < share < 1:
            raise ValueError(f"share must lie between 0 and 1, got {share}.")
        self.entries, self.neighbours, self.place = entries, neighbours, float(place)
        self.knows_places = place > 0
        self.clustered, self.seed = clustered, seed
        self.preparation = VectorPreparation(components=share)
        self.at: Tensor = nn.Buffer(torch.empty(0))
        self.entries_kept: Tensor = nn.Buffer(torch.empty(0))
        self.entry_places: Tensor = nn.Buffer(torch.empty(0, dtype=torch.long))
        self.spread: Tensor = nn.Buffer(torch.ones(()))
        self.dictionary: Tensor = nn.Buffer(torch.empty(0))

    def begin(self, grid: Sequence[int]) -> None:
        self.at = place_coordinates(grid).to(self.candidates.device)

    @torch.no_grad()
    def fit(self) -> None:
        """Fit components and dictionary to the candidates, and drop them.

        Raises:
            InputError: nothing was collected, or the tokens are all alike.
        """
        kept = self.chosen(self.candidates)
        vectors, places = kept.flatten(0, 2), torch.arange(kept.shape[2], device=kept.device)
        places = places.repeat(kept.shape[0] * kept.shape[1])
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randperm(len(vectors), generator=generator)[: self.clustered].to(kept.device)
        vectors, places = vectors[drawn].float(), places[drawn]
        if bool((vectors == vectors[0]).all()):
            todo = "list others, or raise --image_size"
            raise InputError("the normal scans have the same features", found=f"{len(vectors)} tokens", todo=todo)
        tokens = vectors
        self.preparation.fit(tokens)
        # the coordinates' share does not hang on the unit of the features
        self.spread = self.preparation(tokens).var(0, correction=0).sum().sqrt()
        vectors = self._described(tokens, places)
        from sklearn.cluster import MiniBatchKMeans  # takes a second, and only fitting needs it

        count = min(self.entries, len(vectors))
        clusters = MiniBatchKMeans(count, batch_size=4096, max_iter=20, n_init=1, random_state=self.seed)
        centres = torch.from_numpy(clusters.fit(vectors.cpu().numpy()).cluster_centers_).to(vectors)
        # the entries are tokens that there were: a centre may lie where there is none
        nearest = squared_distances(centres, vectors).argmin(1).unique()
        self.entries_kept, self.entry_places = tokens[nearest], places[nearest]
        self.dictionary = vectors[nearest]
        self.candidates = self.candidates.new_empty(0)
        logger.info("the dictionary has %d entries from %d tokens.", len(self.dictionary), len(vectors))

    def united_buffers(self) -> tuple[str, ...]:
        return ("candidates", "entries_kept", "entry_places")

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The candidates, or the entries, of several sites laid together."""
        merged = super().merge_buffers(states)
        merged["at"] = max((state["at"] for state in states), key=torch.Tensor.numel)
        # follow in `after_merge`
        merged.update({name: states[0][name] for name in ("spread", "dictionary")})
        return merged

    def after_merge(self) -> None:
        """Find the components of the entries of all sites."""
        if self.entries_kept.numel() and not self.candidates.numel():
            self.preparation.fit(self.entries_kept)
            self.spread = self.preparation(self.entries_kept).var(0, correction=0).sum().sqrt()
            self.dictionary = self._described(self.entries_kept, self.entry_places)

    def _described(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Components and coordinates ``(n, D')`` of tokens ``(n, D)`` at places ``(n,)``."""
        vectors: Tensor = self.preparation(tokens)
        if self.place == 0:
            return vectors
        return torch.cat([vectors, self.at[places] * (self.place * self.spread)], 1)

    def distances(self, tokens: Tensor) -> Tensor:
        if self.dictionary.numel() == 0:
            raise RuntimeError("the dictionary has not been fitted.")
        if self.place > 0 and tokens.shape[1] != self.at.shape[0]:
            raise RuntimeError("the dictionary was fitted on another image size.")
        places = torch.arange(tokens.shape[1], device=tokens.device).repeat(tokens.shape[0])
        vectors = self._described(tokens.flatten(0, 1), places)
        apart = squared_distances(vectors, self.dictionary).sqrt()
        nearest = torch.topk(apart, min(self.neighbours, apart.shape[1]), dim=1, largest=False).values
        return nearest.mean(1).reshape(tokens.shape[0], tokens.shape[1])
