"""OOD guard: how unlike the scans that a trained model is known to be right on a scan is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.ood_guard.confidence import ACTIVATIONS, CONFIDENCES, doubt
from medad_plugins.methods.ood_guard.definition import guarded_state
from medad_plugins.methods.ood_guard.guarded_model import guarded_model
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.fitted.vector_detector import VectorDetector
from medad_plugins.networks.fitted.vector_heads import vector_head
from medad_plugins.networks.fitted.vector_preparation import VectorPreparation
from medad_plugins.scorers.smoothing import GaussianSmoothing

__all__ = ["SCORES", "OODGuard"]

SCORES = ("features", "odin", *CONFIDENCES)
RANGES = ("unit", "signed", "standard", "nonzero")


class OODGuard(AnomalyNetwork):
    """A trained classifier or segmenter, frozen, and how far a scan is from those that it is known to be right on.

    A model answers for any scan, also for one of another scanner, organ or orientation than it has learnt. Its
    p-value among scans of the kind on which it was validated says whether to trust the answer. Fitted in one pass by
    `medad_plugins.engines.FittingTrainer`; the model itself stays as it is.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        definition: of the model, see `guarded_definition`.
        score: ``"features"``: distance of the scan's features of a layer from those of good scans, averaged over the
            layer's grid, by ``detector``; the map is the Mahalanobis distance of every location's among good scans'.
            Or of the model's own answer: ``"msp"``, ``"entropy"``, ``"energy"``, see `doubt`; ``"odin"`` is the first
            of these at a high temperature, after a step of the scan towards what the model answers. Of a segmenter
            these are the map and its pooled value the score; of a classifier the map is constant.
        detector: of features, see `medad_plugins.networks.fitted.vector_heads.vector_head`.
        activation: ``"softmax"``, classes that exclude each other, or ``"sigmoid"``, several labels; one output channel
            is always the latter.
        outputs: ``"logits"``, or ``"probabilities"`` where the model ends in its activation.
        input_range: what the model was trained on: ``"unit"``, 0..1; ``"signed"``, -1..1; ``"standard"``, mean 0 and
            deviation 1 of each scan, or of what is not 0 in it (``"nonzero"``).
        temperature: of the softmax or sigmoid; None is 1, with ``"odin"`` 1000.
        epsilon: length of ODIN's step, of intensities as the model gets them.
        sigma: Gaussian smoothing of the features' map, in pixels.
        reduction: image score of a segmenter's map, see `MapPool`.
        weights: path of the model, see `guarded_state`; ``"none"`` leaves it random.

    References:
        Lee et al., "A simple unified framework for detecting out-of-distribution samples", NeurIPS 2018 (features);
        Gonzalez et al., "Distance-based detection of out-of-distribution silent failures for Covid-19 lung lesion
        segmentation", MedIA 82, 2022 (of a segmenter's coarsest layer); Hendrycks and Gimpel, "A baseline for detecting
        misclassified and out-of-distribution examples", ICLR 2017 (msp); Liang, Li and Srikant, "Enhancing the
        reliability of out-of-distribution image detection", ICLR 2018 (ODIN); Liu et al., "Energy-based
        out-of-distribution detection", NeurIPS 2020 (energy).

    Example:
        >>> from medad_plugins.data import ScanFormat
        >>> from medad_plugins.methods.ood_guard import guarded_definition
        >>> guard = OODGuard(definition=guarded_definition("none", ScanFormat(image_size=32)))
        >>> guard.collect(torch.rand(8, 1, 32, 32))
        >>> guard.fit()
        >>> guard.eval()(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
    """

    __constants__ = ["judges_features", "steps"]  # noqa: RUF012 - by which TorchScript leaves branches out

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        definition: Mapping[str, Any] | None = None,
        score: str = "features",
        detector: str = "mahalanobis",
        activation: str = "softmax",
        outputs: str = "logits",
        input_range: str = "unit",
        temperature: float | None = None,
        epsilon: float = 0.002,
        sigma: float = 4.0,
        reduction: str | float = "mean",
        weights: str = "none",
    ) -> None:
        super().__init__(reduction)
        known = {
            "score": (score, SCORES),
            "activation": (activation, ACTIVATIONS),
            "input_range": (input_range, RANGES),
        }
        known["outputs"] = (outputs, ("logits", "probabilities"))
        for name, (value, allowed) in known.items():
            if value not in allowed:
                raise InputError(
                    "there is no such choice", where=f"--{name}", expected=f"one of {allowed}", found=value
                )
        if definition is None:
            raise ValueError("an OODGuard needs the definition of a model, see guarded_definition.")
        if temperature is not None and not temperature > 0:
            raise InputError("the temperature is not positive", where="--temperature", found=temperature)
        self.spatial_dims, self.score, self.input_range = spatial_dims, score, input_range
        self.judges_features, self.steps = score == "features", score == "odin"
        self.several, self.are_probabilities = activation == "sigmoid", outputs == "probabilities"
        self.confidence = "msp" if score in ("odin", "features") else score
        self.temperature = float(temperature if temperature is not None else 1000.0 if self.steps else 1.0)
        self.epsilon = epsilon
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.smoothing = GaussianSmoothing(spatial_dims, sigma)
        self.model = self._loaded(definition, weights)
        self.scans: Any = nn.Identity()
        self.places: Any = nn.Identity()
        if self.judges_features:
            self.scans = VectorDetector(VectorPreparation("standard"), vector_head(detector))
            self.places = VectorDetector(VectorPreparation("standard"), vector_head("mahalanobis"))

    @staticmethod
    def _loaded(definition: Mapping[str, Any], weights: str) -> nn.Module:
        if weights in ("none", ""):
            return guarded_model(definition)
        state = guarded_state(weights)
        if isinstance(state, bytes):
            return guarded_model(definition, state)
        model = guarded_model(definition)
        # the graph has no layers that the network's forward leaves out, e.g. heads for deep supervision
        try:
            missing, _ = model.model.load_state_dict(state, strict=False)  # type: ignore[union-attr]
            found = f"no {missing[0]}" if missing else ""
        except RuntimeError as error:
            found = str(error).splitlines()[-1].strip()
        if found:
            todo = "give the weights of this network"
            raise InputError("the weights do not fit the guarded network", where=weights, found=found, todo=todo)
        return model

    def scaled(self, image: Tensor) -> Tensor:
        """Scans ``(B, C, *spatial)``, 0..1, in the range that the model was trained on."""
        if self.input_range == "unit":
            return image
        if self.input_range == "signed":
            return image * 2 - 1
        flat = image.flatten(2)
        counted = torch.ones_like(flat) if self.input_range == "standard" else (flat > 0).to(flat)
        total = counted.sum(2, keepdim=True).clamp_min(1)
        mean = (flat * counted).sum(2, keepdim=True) / total
        variance = ((flat - mean).square() * counted).sum(2, keepdim=True) / total
        return ((flat - mean) / variance.clamp_min(1e-12).sqrt() * counted).reshape(image.shape)

    def collect(self, image: Tensor) -> None:
        """Add scans ``(B, C, *spatial)`` of the kind that the model is right on."""
        if self.judges_features:
            with torch.no_grad():
                features = self.model(self.scaled(image))[1].float()
                self.scans.collect(self._pooled(features))
                if self._has_places(features):
                    self.places.collect(self._rows(features))

    def fit(self) -> None:
        """Fit the detectors of features to what was collected."""
        if self.judges_features:
            self.scans.fit()
            if self.places.vectors.numel() > 0:
                self.places.fit()

    def _has_places(self, features: Tensor) -> bool:
        return features.dim() == 2 + self.spatial_dims and features[0, 0].numel() > 1

    def _pooled(self, features: Tensor) -> Tensor:
        """Vectors ``(B, D)`` of features ``(B, D, *grid)``, ``(B, D)``, or tokens ``(B, n, D)``."""
        if features.dim() == 3:
            return features.mean(1)
        return features.flatten(2).mean(2) if features.dim() > 2 else features

    def _rows(self, features: Tensor) -> Tensor:
        """Vectors ``(n, D)`` of all locations, those of a case in row-major order."""
        return features.flatten(2).transpose(1, 2).flatten(0, 1)

    def _by_features(self, image: Tensor) -> Tensor:
        features = self.model(self.scaled(image))[1].float()
        score = self.scans(self._pooled(features))
        values = torch.ones_like(image[:, :1])
        if self._has_places(features):
            distances = self.places(self._rows(features)).reshape([-1, 1] + list(features.shape[2:]))
            values = functional.interpolate(distances, image.shape[2:], mode=self.mode, align_corners=False)
            values = self.smoothing(values)
        return self.scaled_to(score, values)

    def _doubt(self, scaled: Tensor) -> Tensor:
        """Doubt ``(B, *grid)`` of the model's answer to scans as it gets them."""
        answer = self.model(scaled)[0].float()
        return doubt(answer, self.confidence, self.several, self.temperature, self.are_probabilities)

    def _stepped(self, scaled: Tensor) -> Tensor:
        """ODIN's step: the scan moved so that the model is surer of its answer."""
        if torch.jit.is_scripting():
            raise RuntimeError("ODIN's step needs gradients, which TorchScript does not compute here")
        else:
            with torch.enable_grad(), torch.autocast(scaled.device.type, enabled=False):
                own = scaled.detach().float().requires_grad_(True)
                sureness = torch.log1p(-self._doubt(own).clamp_max(1 - 1e-6)).reshape(own.shape[0], -1).mean(1)
                (gradient,) = torch.autograd.grad(sureness.sum(), own)
            return scaled + self.epsilon * gradient.sign()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The features' distance scaled to the scan's; or the doubt of every pixel, or of the scan."""
        if self.judges_features:
            return self._by_features(image)
        scaled = self.scaled(image)
        if self.steps:
            scaled = self._stepped(scaled)
        values = self._doubt(scaled)
        if values.dim() == 1:
            return values.reshape([-1] + [1] * (image.dim() - 1)) + torch.zeros_like(image[:, :1])
        values = values.unsqueeze(1)
        if values.shape[2:] != image.shape[2:]:
            values = functional.interpolate(values, image.shape[2:], mode=self.mode, align_corners=False)
        return values
