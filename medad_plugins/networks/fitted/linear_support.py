"""One-class support vector machine with a linear kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.networks.fitted.one_class_head import OneClassHead, softly_positive, standard_of

__all__ = ["LinearSupport"]


class LinearSupport(OneClassHead):
    """How far a vector lies on the origin's side of the plane that separates the origin from the normal vectors.

    The signed distance is given in deviations of the normal vectors' own and bent to stay above 0
    (`softly_positive`), which leaves the order as it is. It needs vectors whose origin means something: features after
    a ReLU as they are, or of length 1, not standardised ones.

    Args:
        nu: share of the normal vectors that may lie on that side, at most 1.

    Buffers:
        normal ``(D,)``: the plane's, of length 1, towards the normal vectors. offset: of the plane. mean, deviation: of
        the normal vectors' signed distances.

    References:
        Schölkopf et al., "Estimating the support of a high-dimensional distribution", Neural Computation 2001; on deep
        features Erfani et al., "High-dimensional and large-scale anomaly detection using a linear one-class SVM with
        deep learning", Pattern Recognition 2016; fitted by scikit-learn's `OneClassSVM`.
    """

    def __init__(self, nu: float = 0.1) -> None:
        super().__init__()
        if not 0 < nu <= 1:
            raise ValueError(f"nu must lie in (0, 1], got {nu}.")
        self.nu = nu
        self.normal: Tensor = nn.Buffer(torch.empty(0))
        self.offset: Tensor = nn.Buffer(torch.zeros(()))
        self.mean: Tensor = nn.Buffer(torch.zeros(()))
        self.deviation: Tensor = nn.Buffer(torch.ones(()))

    def fit(self, vectors: Tensor) -> None:
        from sklearn.svm import OneClassSVM  # takes a second, and only fitting needs it

        x = vectors.double()
        # in units in which the machine's tolerance is small
        unit = x.square().sum(1).mean().sqrt().clamp_min(1e-12)
        machine = OneClassSVM(kernel="linear", nu=self.nu, tol=1e-6).fit((x / unit).cpu().numpy())
        plane = torch.tensor(machine.coef_[0]).to(x)
        length = torch.linalg.vector_norm(plane).clamp_min(1e-12)
        normal, offset = plane / length, float(machine.offset_[0]) * unit / length
        self.mean, self.deviation = standard_of(offset - x @ normal)
        self.normal, self.offset = normal.float(), offset.float()

    def forward(self, vectors: Tensor) -> Tensor:
        if self.normal.numel() == 0:
            raise RuntimeError("the one-class machine has not been fitted.")
        return softly_positive(self.offset - vectors.float() @ self.normal, self.mean, self.deviation)
