"""A dictionary of which normal vectors are sparse sums."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.one_class_head import OneClassHead

__all__ = ["MEASURES", "SparseCoding", "sparse_codes"]

MEASURES = ("residual", "objective", "joint")
_BATCH = 256
_BATCHES = 400  # after which a dictionary of small patches hardly changes


class SparseCoding(OneClassHead):
    """How badly few atoms of a learnt dictionary make a vector.

    The dictionary is scikit-learn's `MiniBatchDictionaryLearning`; codes are found by a fixed number of steps of FISTA,
    which can be exported.

    Args:
        atoms: of the dictionary.
        penalty: of the codes' absolute sum, in root mean squares of the normal vectors' values.
        measure: ``"residual"``, root mean square of what is left; ``"objective"``, the root of half its square with the
            penalty, which a sum of many atoms makes large too; or ``"joint"``, the Mahalanobis distance of the
            logarithms of both, residual and absolute sum, from those of normal vectors.
        steps: of FISTA.
        seed: of the dictionary.

    Buffers:
        dictionary ``(atoms, D)``, of unit length. scale, rate: root mean square of the values, and FISTA's step. mean
        ``(2,)``, whitening ``(2, 2)``: of ``"joint"``.

    Reference:
        Boracchi, Carrera and Wohlberg, "Novelty detection in images by sparse representations", IES 2014; Mairal et
        al., "Online dictionary learning for sparse coding", ICML 2009; Beck and Teboulle, "A fast iterative
        shrinkage-thresholding algorithm", SIAM Journal on Imaging Sciences 2009.
    """

    def __init__(
        self, atoms: int = 128, penalty: float = 0.5, measure: str = "residual", steps: int = 40, seed: int = 0
    ) -> None:
        super().__init__()
        if measure not in MEASURES:
            raise ValueError(f"measure must be one of {MEASURES}, got {measure!r}.")
        if atoms < 1 or steps < 1 or not penalty > 0:
            raise ValueError(f"atoms, steps and penalty must be positive, got {atoms}, {steps} and {penalty}.")
        self.atoms, self.penalty, self.measure, self.steps, self.seed = atoms, float(penalty), measure, steps, seed
        self.dictionary: Tensor = nn.Buffer(torch.empty(0))
        self.scale: Tensor = nn.Buffer(torch.ones(()))
        self.rate: Tensor = nn.Buffer(torch.ones(()))
        self.mean: Tensor = nn.Buffer(torch.zeros(2))
        self.whitening: Tensor = nn.Buffer(torch.eye(2))

    def fit(self, vectors: Tensor) -> None:
        if len(vectors) < self.atoms:
            raise InputError(
                "there are fewer normal vectors than atoms",
                where=f"--atoms {self.atoms}",
                expected=f"at most {len(vectors)}",
                todo="list more normal scans or lower --atoms",
            )
        # takes a second, and only fitting needs it
        from sklearn.decomposition import MiniBatchDictionaryLearning
        from sklearn.exceptions import ConvergenceWarning

        scale = vectors.double().square().mean().sqrt().clamp_min(1e-12)
        x = (vectors.double() / scale).cpu().numpy()
        learning = MiniBatchDictionaryLearning(
            self.atoms,
            alpha=self.penalty,
            fit_algorithm="cd",
            batch_size=_BATCH,
            max_iter=max(1, -(-_BATCHES * _BATCH // len(x))),
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            # codes of single batches need not be exact
            warnings.simplefilter("ignore", ConvergenceWarning)
            learnt = learning.fit(x)
        self.dictionary = torch.from_numpy(learnt.components_).float().to(vectors.device)
        self.scale = scale.float()
        self.rate = (1 / torch.linalg.matrix_norm(self.dictionary.double(), 2).square()).float()
        if self.measure == "joint":
            pairs = self._pairs(vectors).double()
            self.mean = pairs.mean(0).float()
            covariance = torch.cov(pairs.t()) + 1e-6 * torch.eye(2).to(pairs)
            self.whitening = torch.linalg.cholesky(torch.linalg.inv(covariance)).float()

    def _parts(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Mean square of what is left, and absolute sum of the codes over the dimensions, ``(n,)``."""
        x = vectors.float() / self.scale
        codes = sparse_codes(x, self.dictionary, self.penalty, self.rate, self.steps)
        rest = x - codes @ self.dictionary
        return rest.square().mean(1), codes.abs().sum(1) / x.shape[1]

    def _pairs(self, vectors: Tensor) -> Tensor:
        rest, total = self._parts(vectors)
        return torch.stack([(rest + 1e-6).log() / 2, (total + 1e-3).log()], 1)

    def forward(self, vectors: Tensor) -> Tensor:
        if self.dictionary.numel() == 0:
            raise RuntimeError("the dictionary has not been fitted.")
        if self.measure == "joint":
            return torch.linalg.vector_norm((self._pairs(vectors) - self.mean) @ self.whitening, dim=1)
        rest, total = self._parts(vectors)
        if self.measure == "objective":
            return (rest / 2 + self.penalty * total).sqrt() * self.scale
        return rest.sqrt() * self.scale


def sparse_codes(vectors: Tensor, dictionary: Tensor, penalty: float, rate: Tensor, steps: int) -> Tensor:
    """Codes ``(n, K)`` that make half the squared residual and the penalty times their absolute sum small, by FISTA.

    Args:
        vectors: ``(n, D)``.
        dictionary: ``(K, D)``.
        penalty: of the absolute sum.
        rate: one over the dictionary's largest squared singular value.
        steps: of FISTA.
    """
    gram, products = dictionary @ dictionary.t(), vectors @ dictionary.t()
    codes = torch.zeros_like(products)
    ahead = codes
    pace = 1.0
    for _ in range(steps):
        moved = ahead - rate * (ahead @ gram - products)
        new = torch.sign(moved) * (moved.abs() - rate * penalty).clamp_min(0)
        next_pace = (1 + (1 + 4 * pace * pace) ** 0.5) / 2
        ahead = new + (pace - 1) / next_pace * (new - codes)
        codes, pace = new, next_pace
    return codes
