"""Published ways to make anomalies, as recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medad_plugins.errors import InputError
from medad_plugins.synthesis.blenders import Deform, Mix, Paste, PoissonBlend, SmoothIntensity
from medad_plugins.synthesis.cluster_bias import ClusterBias
from medad_plugins.synthesis.contents import (
    Blur,
    ContentTransform,
    Gamma,
    IntensityJitter,
    Invert,
    MatchRange,
    Posterise,
    Sharpen,
    Solarise,
    SomeChanges,
)
from medad_plugins.synthesis.found_region import FoundRegion
from medad_plugins.synthesis.labellers import Binary, Factor, FlippedGaussian, Labeller, Logistic
from medad_plugins.synthesis.recipe import Recipe
from medad_plugins.synthesis.regions import CombinedRegion, NoiseRegion, PlacedRegion
from medad_plugins.synthesis.shapes import AreaCuboid, Ball, Cuboid, EllipsoidUnion, Scar, Sheared
from medad_plugins.synthesis.sizes import FoldedNormal, Geometric, ShiftedGamma, Uniform
from medad_plugins.synthesis.soft_patch import SoftPatch
from medad_plugins.synthesis.sources import ForeignElsewhere, ForeignHere, NoiseContent, SameElsewhere

__all__ = [
    "anatpaste",
    "blob",
    "circle",
    "cutpaste",
    "disyre",
    "fpi",
    "glass",
    "held_out_recipes",
    "many_tasks",
    "noise_blend",
    "nsa",
    "pasted_piece",
    "pasted_squares",
    "pii",
    "smooth",
    "with_smooth",
]

# what photographs of textures go through in DRAEM and GLASS, as far as it is not about colour
_LOOKS: list[ContentTransform] = [Gamma(), IntensityJitter(0.5), Sharpen(), Solarise(), Posterise(), Invert()]


def _at_most(regions: int) -> Geometric | None:
    return Geometric(regions) if regions > 1 else None


def fpi(core: float = 0.8, among: int = 1) -> Recipe:
    """Foreign patch interpolation: a cube of another scan, mixed in by a random factor (Tan et al., MELBA 2022).

    Args:
        core: share of each side in which the centre lies; the paper's 0.5 for brain MR, 0.8 for abdominal CT.
        among: see `ForeignHere`.
    """
    region = PlacedRegion(Cuboid(Uniform(0.1, 0.4)), core=core, overlap=0)
    return Recipe("fpi", region, Mix(), ForeignHere(among), labeller=Factor())


def pii(core: float = 0.8, among: int = 1) -> Recipe:
    """Poisson image interpolation: the same without a seam (Tan et al., MICCAI 2021).

    Args:
        core: share of each side in which the centre lies.
        among: see `ForeignHere`.
    """
    region = PlacedRegion(Cuboid(Uniform(0.1, 0.4)), core=core, overlap=0)
    return Recipe("pii", region, PoissonBlend("weighted"), ForeignHere(among), labeller=Factor())


def cutpaste(kind: str = "box") -> Recipe:
    """CutPaste: a piece of the same scan, slightly changed, pasted elsewhere (Li et al., CVPR 2021).

    Args:
        kind: ``"box"`` or ``"scar"``.
    """
    if kind not in ("box", "scar"):
        raise ValueError(f"kind must be 'box' or 'scar', got {kind!r}.")
    shape = AreaCuboid() if kind == "box" else Scar()
    region = PlacedRegion(shape, whole=True, overlap=0)
    return Recipe(f"cutpaste_{kind}", region, Paste(), SameElsewhere(), contents=(IntensityJitter(0.1),))


def pasted_squares(
    sides: Sequence[tuple[float, float]] = ((0.04, 0.125), (0.25, 0.39), (0.59, 0.78)), opacity: float = 5 / 6
) -> list[Recipe]:
    """Squares of the same scan laid over it elsewhere, small, middling and large, one kind as often as another.

    Args:
        sides: lowest and highest side of each kind, in shares of the scan's.
        opacity: of the pasted piece. The paper adds a fifth of what is there to it, which makes all of it brighter.

    Reference:
        Ge et al., "Enhanced Skip Connection-based Direct Reverse Knowledge Distillation", Neurocomputing 651, 2025.
    """
    regions = [PlacedRegion(Cuboid(Uniform(*pair)), whole=True, overlap=0) for pair in sides]
    mix = Mix(Uniform(opacity, opacity))
    return [Recipe(f"square_{place}", region, mix, SameElsewhere()) for place, region in enumerate(regions)]


def pasted_piece(share: tuple[float, float] = (0.01, 0.1)) -> Recipe:
    """A box of the same scan, as it is, pasted elsewhere (Zhou et al., "ProxyAno", IEEE TMI 2022).

    Args:
        share: lowest and highest of the scan's area or volume; ours, for the paper gives none.
    """
    region = PlacedRegion(AreaCuboid(Uniform(*share)), whole=True, overlap=0)
    return Recipe("pasted_piece", region, Paste(), SameElsewhere())


def anatpaste() -> Recipe:
    """AnatPaste: CutPaste with a soft edge, inside the body alone (Sato et al., iScience 2023)."""
    region = PlacedRegion(SoftPatch(), centre="body", overlap=0, inside_body=True)
    return Recipe("anatpaste", region, Paste(), SameElsewhere(), contents=(IntensityJitter(0.1),))


def nsa(overlap: float = 0.7) -> Recipe:
    """Natural synthetic anomalies: scaled pieces of another scan put in without a seam (Schlueter et al., ECCV 2022).

    Args:
        overlap: least share of a piece that must be body, in both scans.
    """
    half = ShiftedGamma(shape=2, scale=0.03, offset=0.05, low=0.03, high=0.4)
    region = PlacedRegion(EllipsoidUnion(half), overlap=overlap)
    source = ForeignElsewhere(Uniform(0.7, 1.3), overlap=overlap)
    return Recipe("nsa", region, PoissonBlend("mixed"), source, labeller=Logistic(), count=Geometric(3))


def circle(regions: int = 1) -> Recipe:
    """Balls of another scan put in without a seam, after CIRCLE (Mueller et al., UNSURE 2023).

    The label is how visible the change is. What is put in without a seam changes the whole box around a ball a little,
    and by the weaker share nothing that can be seen: the share itself would be asked where there is nothing to find.

    Args:
        regions: balls in a scan, at most, each further one half as often.
    """
    region, source = PlacedRegion(Ball(), centre="normal", spread=0.2, overlap=0.5), ForeignElsewhere(Uniform(1, 1))
    return Recipe("circle", region, PoissonBlend("weighted"), source, labeller=Logistic(), count=_at_most(regions))


def blob(radius: tuple[float, float] = (0.08, 0.16)) -> Recipe:
    """A ball brighter or darker than its surroundings, of this project: no method here is trained with it.

    Args:
        radius: smallest and largest, fractions of the shortest side of the image.
    """
    region = PlacedRegion(Ball(Uniform(*radius)), centre="body", overlap=0.8, inside_body=True)
    return Recipe("blob", region, SmoothIntensity(Uniform(0.2, 0.4), Uniform(0.2, 0.5)))


def many_tasks(sd: float = 1.0) -> list[Recipe]:
    """The tasks of Baugh et al. (MICCAI 2023) that need one data set: blend, sink, source, smooth intensity.

    Args:
        sd: standard deviation of the scans' intensities in the body, which the paper brings to 1; of its multiples are
            the changes of the last task, and all labels.
    """
    region, label, count = PlacedRegion(Sheared(), overlap=0.5), FlippedGaussian(0.2 * sd), Geometric(4)
    offset = ShiftedGamma(shape=3, scale=0.2 * sd, offset=0.1 * sd, low=0.1 * sd, high=2.0 * sd)
    source = ForeignElsewhere(Uniform(0.8, 1.25), degrees=45)
    return [
        Recipe("blend", region, PoissonBlend("mixed"), source, labeller=label, count=count),
        Recipe("sink", region, Deform("sink"), labeller=label, count=count),
        Recipe("source", region, Deform("source"), labeller=label, count=count),
        Recipe("intensity", region, SmoothIntensity(offset), labeller=label, count=count),
    ]


def smooth(
    labeller: Labeller | None = None,
    offset: tuple[float, float] = (0.05, 0.4),
    edge: tuple[float, float] = (0.2, 1.0),
    regions: int = 1,
) -> Recipe:
    """A whole region made brighter or darker without a seam, of this project: more like a lesion than a pasted piece.

    Many lesions are one piece of another brightness. What is trained on pieces with edges alone learns the edges.

    Args:
        labeller: makes the target; None is `Binary`.
        offset: smallest and largest change, on the image's scale.
        edge: narrowest and widest edge over which it fades, a share of the region's largest depth.
        regions: at most so many in a scan, each further one half as often.
    """
    region = PlacedRegion(Sheared(), centre="body", overlap=0.5)
    blender = SmoothIntensity(Uniform(*offset), Uniform(*edge))
    return Recipe("smooth", region, blender, labeller=labeller or Binary(), count=_at_most(regions))


def with_smooth(
    recipes: Sequence[Recipe],
    share: float = 0.5,
    offset: tuple[float, float] = (0.05, 0.4),
    edge: tuple[float, float] = (0.2, 1.0),
    regions: int = 1,
) -> list[Recipe]:
    """Recipes with `smooth` mixed in, labelled as the first of them is.

    Where the label is the share of what is foreign, which `smooth` has not, it is how visible the change is.

    Args:
        recipes: ways to make an anomaly.
        share: of the anomalies that are smooth; 0 leaves the recipes alone, 1 makes nothing else.
        offset: see `smooth`, as edge and regions.
        edge: of the smooth regions.
        regions: of them in a scan.

    Raises:
        InputError: the share does not lie in 0..1.
    """
    if not 0 <= share <= 1:
        raise InputError("no such share of the anomalies can be smooth", where="smooth", expected="0 to 1", found=share)
    if share == 0:
        return list(recipes)
    labeller = recipes[0].labeller
    added = smooth(Logistic() if isinstance(labeller, Factor) else labeller, offset, edge, regions)
    total = sum(recipe.weight for recipe in recipes)
    others = [replace(recipe, weight=(1 - share) * recipe.weight / total) for recipe in recipes if share < 1]
    return [*others, replace(added, weight=share)]


def noise_blend(
    opacity: tuple[float, float] = (0.2, 1.0),
    changes: int = 0,
    largest_octave: int | None = None,
    here: bool = False,
) -> Recipe:
    """Another scan seen through Perlin noise, after DRAEM (Zavrtanik et al., ICCV 2021), without texture photographs.

    Args:
        opacity: lowest and highest share of what is foreign.
        changes: how many of six changes the foreign scan goes through before (gamma, brightness and contrast, sharper,
            solarised, posterised, inverted), the paper's 3; it is then also turned by up to 45 degrees. 0 leaves it.
        largest_octave: of the noise, see `NoiseRegion`: the paper's 5 makes islands of 8 pixels and more of 256, None
            islands of about so many pixels in any image.
        here: the foreign scan is taken at the same place, unscaled, as RealNet takes generated scans (Zhang et al.,
            CVPR 2024).
    """
    contents = [SomeChanges(_LOOKS, changes)] if changes else []
    source = ForeignHere() if here else ForeignElsewhere(degrees=45 if changes else 0)
    return Recipe(
        "noise_blend", NoiseRegion(largest_octave), Mix(Uniform(*opacity)), source, contents, labeller=Binary()
    )


def glass(texture: str = "foreign") -> Recipe:
    """Local anomalies of GLASS (Chen et al., ECCV 2024): half-opaque texture in one or both of two noise masks.

    Args:
        texture: in place of the paper's photographs ``"foreign"``, another scan after three of six changes, or
            ``"noise"``, smoothed noise, for which no other scan is needed.
    """
    if texture not in ("foreign", "noise"):
        raise ValueError(f"texture must be 'foreign' or 'noise', got {texture!r}.")
    region = FoundRegion(CombinedRegion(NoiseRegion(), NoiseRegion()), least=4)
    blender = Mix(FoldedNormal(mean=0.5, sd=0.1, low=0.2, high=0.8))
    if texture == "noise":
        return Recipe("glass", region, blender, NoiseContent(sd=Uniform(0.3, 1.5)), contents=[Blur(Uniform(0.5, 2))])
    return Recipe("glass", region, blender, ForeignElsewhere(degrees=45), contents=[SomeChanges(_LOOKS, 3)])


def disyre(among: int = 1) -> list[Recipe]:
    """Corruptions of DISYRE: another scan's patch mixed in, or tissues' brightness, both by a random factor.

    Args:
        among: see `ForeignHere`; the paper's scans are registered and need one.

    Reference:
        Naval Marimont et al., "Ensembled Cold-Diffusion Restorations for Unsupervised Anomaly Detection", MICCAI 2024.
    """
    shape = SoftPatch(AreaCuboid(Uniform(0.02, 0.2)), opacity=Uniform(1, 1))
    region, factor = PlacedRegion(shape, centre="body", overlap=0.3), Uniform(0, 1)
    patch = Recipe("disyre_patch", region, Mix(factor), ForeignHere(among), [MatchRange()], labeller=Factor())
    return [patch, Recipe("disyre_bias", region, ClusterBias(factor), labeller=Factor())]


def held_out_recipes(training_recipes: Sequence[Recipe] = ()) -> list[Recipe]:
    """The recipes of this module but for those of the same names as the ones that are trained with.

    `smooth` is none of them; who is trained with it is not tried on the like of it in `many_tasks` either. Where all
    are trained with, none is left.
    """
    recipes = [nsa(), *many_tasks(), noise_blend(), circle(), cutpaste("scar"), anatpaste(), pii(), cutpaste(), fpi()]
    names = {recipe.name for recipe in training_recipes}
    if "smooth" in names:
        names.add("intensity")
    return [recipe for recipe in recipes if recipe.name not in names]
