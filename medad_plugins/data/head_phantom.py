"""Generated head phantoms: a T1-like head as a function of position, so slices and volumes are one construction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["HeadPhantom", "WaveField", "rotation"]

Array = NDArray[np.float64]

# Half axes of the average brain (left-right, back-front, bottom-top) in units of half the field of view.
BRAIN_HALF_AXES = np.array([0.58, 0.70, 0.62])
# Shells around the brain surface, as multiples of the brain's radius: CSF, bone, scalp.
CSF_OUTER, BONE_OUTER, SCALP_OUTER = 1.06, 1.16, 1.27
CORTEX_THICKNESS = 0.075
SULCUS_DEPTH = 0.24
SULCUS_HALF_WIDTH = 0.018
FOLD_WAVELENGTH = 0.40
# Deep grey nuclei of one hemisphere as ellipsoids (centre, half axes): caudate, putamen with pallidum, thalamus.
DEEP_GREY = (
    ((0.20, 0.25, 0.10), (0.07, 0.13, 0.16)),
    ((0.37, 0.08, 0.02), (0.085, 0.21, 0.19)),
    ((0.13, -0.13, 0.04), (0.10, 0.16, 0.14)),
)


def _ramp(distance: Array, width: float) -> Array:
    """Soft step over a signed distance: 0 below ``-width / 2``, 1 above ``width / 2``, linear between."""
    return np.clip(distance / width + 0.5, 0.0, 1.0)


class WaveField:
    """Smooth random field: a sum of plane waves with random directions and phases, about unit variance.

    A function of position rather than of a grid, so it gives the same field in 2D and 3D and at any resolution.

    Args:
        random: source of the directions, wavelengths and phases.
        wavelength: mean wavelength, in the units of the points it is evaluated at.
        waves: number of plane waves per channel.
        channels: number of independent fields.
    """

    def __init__(self, random: np.random.RandomState, wavelength: float, waves: int = 6, channels: int = 1) -> None:
        direction = random.normal(size=(channels * waves, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        length = wavelength * random.uniform(0.8, 1.25, size=(channels * waves, 1))
        self.wave_vectors = direction * (2 * np.pi / length)
        self.phases = random.uniform(0, 2 * np.pi, size=channels * waves)
        self.channels = channels

    def __call__(self, points: Array) -> Array:
        """Evaluate at points ``(3, N)``; returns ``(channels, N)``."""
        waves = np.cos(self.wave_vectors @ points + self.phases[:, None])
        waves = waves.reshape(self.channels, -1, points.shape[1])
        return waves.sum(axis=1) * np.sqrt(2 / waves.shape[1])


# The folding pattern that all heads share; each head only bends it, as brains share their main sulci.
_FOLDS = WaveField(np.random.RandomState(1909), wavelength=FOLD_WAVELENGTH, waves=14)
_SCALP_TEXTURE = WaveField(np.random.RandomState(1910), wavelength=0.5, waves=5)


@dataclass(frozen=True)
class _Tissues:
    """Intensities of the tissues in one head, 0..1."""

    csf: float
    grey: float
    white: float
    bone: float
    scalp: float


def rotation(angles: Array) -> Array:
    """Rotation matrix ``(3, 3)`` of three Euler angles in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _ellipsoid(points: Array, centre: tuple[float, ...], half_axes: tuple[float, ...]) -> Array:
    """Approximate signed distance to an ellipsoid's surface, positive inside, of points ``(3, N)``."""
    scaled = (points - np.array(centre)[:, None]) / np.array(half_axes)[:, None]
    return (1 - np.sqrt((scaled**2).sum(axis=0))) * min(half_axes)


class HeadPhantom:
    """One head: anatomy (shape, folds, ventricles) and acquisition (contrast, gain, bias field, noise) drawn at random.

    Positions are given in the field of view, -1..1 along left-right, back-front and bottom-top.

    Args:
        random: source of every draw; two phantoms made from equal states are equal.
        voxel: size of a voxel in units of half the field of view; edges are as soft as a voxel is wide.
    """

    def __init__(self, random: np.random.RandomState, voxel: float) -> None:
        self.half_axes = BRAIN_HALF_AXES * random.uniform(0.98, 1.02) * random.uniform(0.99, 1.01, size=3)
        self.shift = random.uniform(-0.01, 0.01, size=3)
        self.rotation = rotation(np.deg2rad(random.uniform(-1.5, 1.5, size=3)))
        self.egg_shape = random.uniform(0.10, 0.13)
        self.midline_shift = random.uniform(-0.006, 0.006)
        self.ventricle_size = random.uniform(0.88, 1.12)
        self.ventricle_asymmetry = random.uniform(-0.06, 0.06)
        self.cortex_thickness = CORTEX_THICKNESS * random.uniform(0.92, 1.08)
        self.sulcus_half_width = SULCUS_HALF_WIDTH * random.uniform(0.8, 1.2)
        self.bone_thickness = random.uniform(0.95, 1.05)
        self.deformation = WaveField(random, wavelength=2.2, waves=3, channels=3)
        self.deformation_size = random.uniform(0.003, 0.008)
        self.fold_bending = WaveField(random, wavelength=0.7, waves=3, channels=3)
        self.fold_bending_size = random.uniform(0.003, 0.008)

        white = random.uniform(0.59, 0.65)
        grey = white * random.uniform(0.64, 0.72)
        csf, bone, scalp = random.uniform(0.10, 0.16), random.uniform(0.03, 0.07), random.uniform(0.80, 0.95)
        self.tissues = _Tissues(csf=csf, grey=grey, white=white, bone=bone, scalp=scalp)
        self.gamma = random.uniform(0.92, 1.08)
        self.gain = random.uniform(0.88, 1.02)
        self.bias = WaveField(random, wavelength=3.0, waves=3)
        self.bias_size = random.uniform(0.02, 0.06)
        self.noise = random.uniform(0.006, 0.012)
        # In units of the brain's radius, where all distances of the anatomy are measured.
        self.edge = 1.6 * voxel / float(self.half_axes.mean())

    def brain_coordinates(self, points: Array) -> Array:
        """Bring points ``(3, N)`` of the field of view into the brain's frame, where the brain is the unit ball."""
        turned = self.rotation @ (points - self.shift[:, None])
        brain = turned / self.half_axes[:, None]
        brain[0] *= 1 + self.egg_shape * brain[1]
        return brain + self.deformation_size * self.deformation(brain)

    def radius(self, points: Array) -> Array:
        """Distance from the brain's centre of points ``(3, N)``: 1 on the brain's surface, below 1 inside."""
        return np.sqrt((self.brain_coordinates(points) ** 2).sum(axis=0))

    def tissue(self, points: Array) -> Array:
        """Intensities ``(N,)`` in 0..1 of points ``(3, N)``, before the acquisition."""
        brain = self.brain_coordinates(points)
        radius = np.sqrt((brain**2).sum(axis=0))
        intensity = np.zeros(points.shape[1])
        head = radius < SCALP_OUTER + self.edge
        intensity[head] = self._shells(brain[:, head], radius[head])
        inside = radius < 1 + self.edge
        depth = 1 - radius[inside]
        share = _ramp(depth, self.edge)
        intensity[inside] += share * (self._brain(brain[:, inside], depth) - intensity[inside])
        return intensity

    def acquire(self, tissue: Array, points: Array, noise: Array) -> Array:
        """Turn tissue intensities ``(N,)`` at points ``(3, N)`` into measured ones, 0..1.

        Args:
            tissue: intensities before the acquisition.
            points: where they are, for the bias field.
            noise: standard normal draws ``(2, N)``, the two channels of the receiver (the noise is Rician).
        """
        signal = self.gain * tissue**self.gamma * (1 + self.bias_size * self.bias(points)[0])
        real, imaginary = self.noise * noise
        return np.clip(np.sqrt((signal + real) ** 2 + imaginary**2), 0.0, 1.0)

    def _shells(self, brain: Array, radius: Array) -> Array:
        """Scalp, bone and the CSF below the skull."""
        tissues = self.tissues
        bone_outer = CSF_OUTER + (BONE_OUTER - CSF_OUTER) * self.bone_thickness
        scalp = tissues.scalp * (1 + 0.08 * _SCALP_TEXTURE(brain)[0])
        intensity = scalp * _ramp(SCALP_OUTER - radius, self.edge)
        intensity += _ramp(bone_outer - radius, self.edge) * (tissues.bone - intensity)
        intensity += _ramp(CSF_OUTER - radius, self.edge) * (tissues.csf - intensity)
        return intensity

    def _brain(self, brain: Array, depth: Array) -> Array:
        """Cortex, white matter, deep grey nuclei and ventricles."""
        tissues, edge = self.tissues, self.edge
        mirrored = brain.copy()
        mirrored[0] = np.abs(brain[0] - self.midline_shift)
        surface, csf_surface = self._distance_to_surface(mirrored, brain, depth)
        intensity = tissues.grey + (tissues.white - tissues.grey) * _ramp(surface - self.cortex_thickness, edge)
        for centre, half_axes in DEEP_GREY:
            share = 0.8 * _ramp(_ellipsoid(mirrored, centre, half_axes), edge)
            intensity += share * (tissues.grey - intensity)
        csf = _ramp(self.sulcus_half_width - csf_surface, edge)
        csf = np.maximum(csf, _ramp(self._ventricles(mirrored, brain), edge))
        return intensity + csf * (tissues.csf - intensity)

    def _distance_to_surface(self, mirrored: Array, brain: Array, depth: Array) -> tuple[Array, Array]:
        """Distances to the folded brain surface (that carries the cortex) and to the middle of a sulcus or fissure."""
        bent = mirrored + self.fold_bending_size * self.fold_bending(brain)
        # |field| / |gradient| is the distance to the field's zero level; those levels are the sulci.
        # Mostly a pattern of the direction from the centre, so that sulci dive into the brain instead of lining it.
        radius = np.maximum(1 - depth, 0.3)
        fold = _FOLDS(bent * (0.3 + 0.6 / radius))[0]
        sulcus = np.abs(fold) * radius * FOLD_WAVELENGTH / (2 * np.pi) * 1.2
        sulcus += np.maximum(depth - SULCUS_DEPTH, 0)
        x, y, z = bent
        midline = mirrored[0] + np.maximum(depth - 0.36, 0)
        sylvian = np.abs(y - 0.12 - 0.25 * (x - 0.6)) + np.maximum(0.58 - x, 0) + np.maximum(np.abs(z) - 0.25, 0)
        cerebellum = np.abs(_ellipsoid(mirrored, (0.0, -0.48, -0.62), (0.66, 0.42, 0.34)))
        fissure = np.minimum.reduce([sulcus, midline, sylvian, cerebellum])
        return np.minimum(depth, fissure), fissure

    def _ventricles(self, mirrored: Array, brain: Array) -> Array:
        """Signed distance to the lateral and the third ventricle, positive inside."""
        x, y, z = mirrored
        size = self.ventricle_size * (1 + self.ventricle_asymmetry * np.sign(brain[0]))
        # The horns diverge from the midline, the occipital ones more.
        centre_x = 0.09 + np.where(y > 0, 0.45, 0.95) * y**2
        scaled = ((x - centre_x) / 0.07) ** 2 + ((y + 0.02) / 0.44) ** 2 + ((z - 0.16 - 0.3 * y**2) / 0.24) ** 2
        lateral = (size - np.sqrt(scaled)) * 0.07
        third = _ellipsoid(mirrored, (0.0, -0.08, -0.06), (0.035 * self.ventricle_size, 0.16, 0.18))
        return np.maximum(lateral, third)
