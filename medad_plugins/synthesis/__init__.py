"""Synthetic anomalies: where, of what, how blended, how labelled; parts keep no random state, it is passed to them."""

from __future__ import annotations

from medad_plugins.synthesis.blenders import Deform, Mix, Paste, PoissonBlend, SmoothIntensity
from medad_plugins.synthesis.body import FindBodyd
from medad_plugins.synthesis.body_share import OfBody, with_share
from medad_plugins.synthesis.changed_copy import ChangedCopyd
from medad_plugins.synthesis.cluster_bias import ClusterBias
from medad_plugins.synthesis.contents import (
    AddNoise,
    Blur,
    Gamma,
    IntensityJitter,
    Invert,
    MatchRange,
    Posterise,
    Sharpen,
    Solarise,
    SomeChanges,
)
from medad_plugins.synthesis.dark_organs import FindDarkOrgansd, find_organ
from medad_plugins.synthesis.every_recipe import EveryRecipe, versions_dataset
from medad_plugins.synthesis.found_region import FoundRegion
from medad_plugins.synthesis.generated_pool import generated_pool
from medad_plugins.synthesis.host import Host, Region
from medad_plugins.synthesis.labellers import Binary, Factor, FlippedGaussian, Logistic
from medad_plugins.synthesis.medmix import SeparateRecipe, medmix
from medad_plugins.synthesis.noisy_copy import NoisyCopyd
from medad_plugins.synthesis.recipe import Recipe, SyntheticAnomaly
from medad_plugins.synthesis.regions import CombinedRegion, NoiseRegion, PlacedRegion
from medad_plugins.synthesis.shapes import AreaCuboid, Ball, Cuboid, EllipsoidUnion, Scar, Sheared
from medad_plugins.synthesis.simplex_noise import fractal_noise, simplex_noise
from medad_plugins.synthesis.sizes import FoldedNormal, Geometric, LogUniform, ShiftedGamma, Uniform
from medad_plugins.synthesis.soft_patch import SoftPatch
from medad_plugins.synthesis.sources import (
    ForeignElsewhere,
    ForeignHere,
    NoiseContent,
    SameElsewhere,
    SourcePool,
)
from medad_plugins.synthesis.synthesize import SynthesizeAnomalyd
from medad_plugins.synthesis.synthetic_dataset import synthetic_dataset
from medad_plugins.synthesis.synthetic_scan import make_anomaly
from medad_plugins.synthesis.views_dataset import views_dataset

__all__ = [
    "AddNoise",
    "AreaCuboid",
    "Ball",
    "Binary",
    "Blur",
    "ChangedCopyd",
    "ClusterBias",
    "CombinedRegion",
    "Cuboid",
    "Deform",
    "EllipsoidUnion",
    "EveryRecipe",
    "Factor",
    "FindBodyd",
    "FindDarkOrgansd",
    "FlippedGaussian",
    "FoldedNormal",
    "ForeignElsewhere",
    "ForeignHere",
    "FoundRegion",
    "Gamma",
    "Geometric",
    "Host",
    "IntensityJitter",
    "Invert",
    "LogUniform",
    "Logistic",
    "MatchRange",
    "Mix",
    "NoiseContent",
    "NoiseRegion",
    "NoisyCopyd",
    "OfBody",
    "Paste",
    "PlacedRegion",
    "PoissonBlend",
    "Posterise",
    "Recipe",
    "Region",
    "SameElsewhere",
    "Scar",
    "SeparateRecipe",
    "Sharpen",
    "Sheared",
    "ShiftedGamma",
    "SmoothIntensity",
    "SoftPatch",
    "Solarise",
    "SomeChanges",
    "SourcePool",
    "SynthesizeAnomalyd",
    "SyntheticAnomaly",
    "Uniform",
    "find_organ",
    "fractal_noise",
    "generated_pool",
    "make_anomaly",
    "medmix",
    "simplex_noise",
    "synthetic_dataset",
    "versions_dataset",
    "views_dataset",
    "with_share",
]
