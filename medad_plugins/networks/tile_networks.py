"""Methods that know places, on scans in tiles: what is fitted is fitted for every tile of the grid by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.scorers.fitted import FittedModule
from medad_plugins.tile_grid import TileGrid

__all__ = ["TileNetworks", "by_tiles"]


class TileState(FittedModule):
    """The fitted buffers of a network for one tile, while the network itself serves another.

    Args:
        parts: the network's fitted modules by name.
    """

    def __init__(self, parts: Mapping[str, FittedModule]) -> None:
        super().__init__()
        self.parts = dict(parts)  # of the network: in a dictionary PyTorch takes them for no parts of this one
        for name, part, own in self._entries():
            saved = own not in part._non_persistent_buffers_set
            self.register_buffer(name, getattr(part, own).detach().clone(), persistent=saved)

    def _entries(self) -> Iterator[tuple[str, FittedModule, str]]:
        """Of every buffer its name here, the module that it is of, and its name there."""
        for prefix, part in self.parts.items():
            for own, _ in part.named_buffers(recurse=False):
                yield f"{prefix}.{own}".replace(".", "__"), part, own

    def swap(self) -> None:
        """Exchange these buffers for those that the network has now."""
        for name, part, own in list(self._entries()):
            mine, theirs = getattr(self, name), getattr(part, own)
            setattr(part, own, mine)
            setattr(self, name, theirs)

    def additive_buffers(self) -> tuple[str, ...]:
        return tuple(name for name, part, own in self._entries() if own in part.additive_buffers())

    def united_buffers(self) -> tuple[str, ...]:
        return tuple(name for name, part, own in self._entries() if own in part.united_buffers())

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Each part's buffers, merged as that part does."""
        merged = {}
        for part in self.parts.values():
            names = {own: name for name, of, own in self._entries() if of is part}
            found = part.merge_buffers([{own: state[name] for own, name in names.items()} for state in states])
            merged.update({names[own]: value for own, value in found.items()})
        return merged

    def after_merge(self) -> None:
        """Each part's own end of a merge."""
        self.swap()
        for part in self.parts.values():
            part.after_merge()
        self.swap()


class TileNetworks(AnomalyNetwork):
    """A method that knows places, on whole scans of one size: the tile of each place has a fit of its own.

    The backbone is shared. Fitted, saved and federated as the method itself is; the map is blended as
    `medad_plugins.tile_grid.TileGrid` does. It cuts the tiles itself, so whoever calls it shows whole scans.

    Args:
        network: the method, not fitted.
        grid: of the tiles.
        shape: of the scans, or of their slices.

    Shape:
        ``(B, C, *shape)`` to ``(B, 1, *shape)``.

    Example:
        >>> import torch
        >>> from medad_plugins.methods.padim import PaDiM
        >>> from medad_plugins.tile_grid import TileGrid
        >>> method = PaDiM(backbone="resnet10", weights="none", dimensions=8)
        >>> network = TileNetworks(method, TileGrid([32, 32]), [48, 32])
        >>> network.collect(torch.rand(4, 1, 48, 32))
        >>> network.fit()
        >>> network.eval()(torch.rand(1, 1, 48, 32)).shape
        torch.Size([1, 1, 48, 32])
    """

    cuts_tiles = True

    def __init__(self, network: AnomalyNetwork, grid: TileGrid, shape: Sequence[int]) -> None:
        super().__init__()
        self.network, self.grid, self.shape = network, grid, list(shape)
        self.pool, self.calibration = network.pool, network.calibration
        parts = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, FittedModule) and module is not network.calibration
        }
        for part in map(vars, parts.values()):
            if "memory_budget" in part:  # is that of all tiles together
                part["memory_budget"] /= grid.count(shape)
        self.tile_states = nn.ModuleList(TileState(parts) for _ in range(grid.count(shape)))

    @contextmanager
    def _at(self, number: int) -> Iterator[None]:
        """The network as it is fitted for one tile."""
        state = self.tile_states[number]
        assert isinstance(state, TileState)
        state.swap()
        try:
            yield
        finally:
            state.swap()

    def _require_shape(self, image: Tensor) -> None:
        if list(image.shape[2:]) != self.shape:
            raise InputError(
                "the scan has another size than those whose tiles were fitted",
                expected=" x ".join(map(str, self.shape)),
                found=" x ".join(map(str, image.shape[2:])),
                todo="bring all scans to one --image_size",
            )

    def collect(self, image: Tensor) -> None:
        """Show every tile of normal scans ``(B, C, *shape)`` to what is fitted for its place."""
        self._require_shape(image)
        for number, tile in enumerate(self.grid.tiles(image)):
            with self._at(number):
                self.network.collect(tile)  # type: ignore[operator]

    def fit(self) -> None:
        """Fit what was collected of each place."""
        for number in range(len(self.tile_states)):
            with self._at(number):
                self.network.fit()  # type: ignore[operator]

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The blended map of the tiles, each by what is fitted for its place."""
        self._require_shape(image)

        def look(tiles: Tensor, numbers: list[int]) -> Tensor:
            with self._at(numbers[0]):
                found: Tensor = self.network.anomaly_map(tiles)
            return found

        # the scans of a batch at one place together, and no two places
        return self.grid.blend(image, look, len(image))


def by_tiles(network: Any, scan: Any) -> Any:
    """The network as scans in tiles need it: in `TileNetworks` where it knows places, else as it is.

    Args:
        network: whose attribute ``knows_places`` says so.
        scan: how scans come to it, a `medad_plugins.data.ScanFormat`.

    Raises:
        InputError: it knows places and scans are brought to a spacing, so that they differ in size; or it judges whole
            scans and says so by an attribute ``judges_whole_scans``.
    """
    tiles = scan.tiles
    if tiles is None:
        return network
    name = type(network).__name__
    if getattr(network, "judges_whole_scans", False):
        todo = "leave out --roi_size and --spacing"
        raise InputError(f"{name} judges whole scans and takes no tiles", todo=todo)
    if not getattr(network, "knows_places", False):
        return network
    if scan.spacing is not None:
        raise InputError(
            f"{name} compares the same place of all scans, and at a spacing scans differ in size",
            where="spacing",
            todo="bring aligned scans to one size by --image_size and --roi_size, without --spacing",
        )
    shape = [edge for axis, edge in enumerate(scan.whole_edges) if axis != scan.slice_axis]
    return network if tiles.covers(shape) else TileNetworks(network, tiles, shape)
