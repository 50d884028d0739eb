"""Made anomalies: where, of what, how blended, how labelled; parts keep no random state, it is handed to them."""

from __future__ import annotations

from medad_plugins.synthesis.blenders import Deform, Mix, Paste, PoissonBlend, SmoothIntensity
from medad_plugins.synthesis.body import FindBodyd
from medad_plugins.synthesis.contents import AddNoise, Blur, Gamma, IntensityJitter, MatchRange
from medad_plugins.synthesis.host import Host, Region
from medad_plugins.synthesis.labellers import Binary, Factor, FlippedGaussian, Logistic
from medad_plugins.synthesis.made_dataset import made_dataset
from medad_plugins.synthesis.noisy_copy import NoisyCopyd
from medad_plugins.synthesis.recipe import MadeAnomaly, Recipe
from medad_plugins.synthesis.regions import CombinedRegion, NoiseRegion, PlacedRegion, SoftRegion
from medad_plugins.synthesis.shapes import AreaCuboid, Ball, Cuboid, EllipsoidUnion, Scar, Sheared
from medad_plugins.synthesis.simplex_noise import fractal_noise, simplex_noise
from medad_plugins.synthesis.sizes import FoldedNormal, Geometric, LogUniform, ShiftedGamma, Uniform
from medad_plugins.synthesis.sources import (
    ConstantContent,
    ForeignElsewhere,
    ForeignHere,
    NoiseContent,
    SameElsewhere,
    SourcePool,
)
from medad_plugins.synthesis.synthesize import SynthesizeAnomalyd

__all__ = [
    "AddNoise",
    "AreaCuboid",
    "Ball",
    "Binary",
    "Blur",
    "CombinedRegion",
    "ConstantContent",
    "Cuboid",
    "Deform",
    "EllipsoidUnion",
    "Factor",
    "FindBodyd",
    "FlippedGaussian",
    "FoldedNormal",
    "ForeignElsewhere",
    "ForeignHere",
    "Gamma",
    "Geometric",
    "Host",
    "IntensityJitter",
    "LogUniform",
    "Logistic",
    "MadeAnomaly",
    "MatchRange",
    "Mix",
    "NoiseContent",
    "NoiseRegion",
    "NoisyCopyd",
    "Paste",
    "PlacedRegion",
    "PoissonBlend",
    "Recipe",
    "Region",
    "SameElsewhere",
    "Scar",
    "Sheared",
    "ShiftedGamma",
    "SmoothIntensity",
    "SoftRegion",
    "SourcePool",
    "SynthesizeAnomalyd",
    "Uniform",
    "fractal_noise",
    "made_dataset",
    "simplex_noise",
]
