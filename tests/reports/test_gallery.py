"""The cases a page shows."""

from __future__ import annotations

import io
import random
from collections import defaultdict

import nibabel as nib
import numpy as np
import pytest
from page_samples import SampleCase, volume
from PIL import Image

from medad_plugins.reports import Gallery, RenderedCase
from medad_plugins.reports.figures import MASK_COLOUR, TRUTH_COLOUR


def _picture() -> RenderedCase:
    anomaly_map = np.zeros((9, 7), dtype=np.float32)
    anomaly_map[2:4, 2:4] = 1.5
    return RenderedCase(np.zeros((1, 9, 7), dtype=np.float32), anomaly_map, anomaly_map > 1, np.eye(3))


def _offer(gallery: Gallery, case: SampleCase, rendered: RenderedCase | None = None) -> int:
    """Offers a case; how often it was rendered."""
    calls = []

    def render() -> RenderedCase:
        calls.append(case.case_id)
        return _picture() if rendered is None else rendered

    gallery.offer(
        case_id=case.case_id,
        label=case.label,
        score=case.score,
        p_value=case.p_value,
        flagged=case.flagged,
        render=render,
    )
    return len(calls)


def _decoded(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def _cases(n: int) -> list[SampleCase]:
    draw = np.random.RandomState(3)
    return [
        # scores repeat, so that ties are met
        SampleCase(f"c{i}", int(draw.rand() < 0.5), float(draw.randint(20)), 0.5, bool(draw.rand() < 0.5))
        for i in range(n)
    ]


def test_the_worst_mistakes_and_the_clearest_cases_are_kept_whatever_the_order() -> None:
    cases = _cases(80)
    expected = {
        "false positive": sorted((-c.score, c.case_id) for c in cases if not c.label and c.flagged)[:3],
        "false negative": sorted((c.score, c.case_id) for c in cases if c.label and not c.flagged)[:3],
        "true positive": sorted((-c.score, c.case_id) for c in cases if c.label and c.flagged)[:3],
    }
    shown = []
    for seed in range(4):
        random.Random(seed).shuffle(cases)
        gallery = Gallery((0, 2), 1.0, per_kind=3)
        for case in cases:
            _offer(gallery, case)
        kinds = defaultdict(list)
        for example in gallery.examples():
            kinds[example.kind].append(example.case_id)
        assert {kind: kinds[kind] for kind in expected} == {
            kind: [case_id for _, case_id in best] for kind, best in expected.items()
        }
        assert len(kinds["true negative"]) == 3
        shown.append(gallery.examples())
    assert shown[0] == shown[1] == shown[2] == shown[3]


def test_only_what_is_kept_is_drawn() -> None:
    gallery = Gallery((0, 2), 1.0, per_kind=2)
    # rising scores of false negatives: the first two stay
    drawn = [_offer(gallery, SampleCase(f"c{i}", 1, float(i), 0.5, False)) for i in range(20)]
    assert drawn == [1, 1] + [0] * 18
    assert len(gallery.examples()) == 2


def test_a_case_of_two_rankings_is_drawn_and_shown_once() -> None:
    gallery = Gallery((0, 2), 1.0, per_kind=4)
    assert [_offer(gallery, SampleCase(f"c{i}", 1, float(i), 0.01, True)) for i in range(3)] == [1, 1, 1]
    assert [(e.kind, e.case_id) for e in gallery.examples()] == [("lowest abnormal", f"c{i}") for i in range(3)]


def test_without_mistakes_the_nearest_cases_take_their_place() -> None:
    gallery = Gallery((0, 2), 1.0, per_kind=2)
    for i in range(8):
        _offer(gallery, SampleCase(f"n{i}", 0, float(i), 0.5, False))
        _offer(gallery, SampleCase(f"a{i}", 1, float(10 + i), 0.01, True))
    kinds: dict[str, list[str]] = defaultdict(list)
    for example in gallery.examples():
        kinds[example.kind].append(example.case_id)
    assert kinds["highest normal"] == ["n7", "n6"]
    assert kinds["lowest abnormal"] == ["a0", "a1"]
    assert kinds["true positive"] == ["a7", "a6"]
    _offer(gallery, SampleCase("late", 0, 3.5, 0.01, True))
    assert [e.case_id for e in gallery.examples() if e.label == 0 and e.kind != "true negative"] == ["late"]


def test_a_volume_keeps_the_slices_of_the_peak_and_of_the_lesion() -> None:
    for most in (1, 2, 5, 17, 18, 99):
        gallery = Gallery((0, 2), 1.0, most_slices=most)
        _offer(gallery, SampleCase("c", 1, 1.0, 0.5, False), volume(peak=11, lesion=(4, 5)))
        (example,) = gallery.examples()
        numbers = [int(one.name.split()[1]) for one in example.slices]
        assert numbers == sorted(set(numbers))
        assert len(numbers) <= most
        assert example.slices[example.start].name == "axial 12 of 18"
        assert [number for number, one in zip(numbers, example.slices, strict=True) if one.has_truth] == (
            [5] if most > 1 else []
        )
    assert len(numbers) == 18


@pytest.mark.parametrize("codes", ["RAS", "LPS", "AIR"])
def test_slices_are_turned_the_way_radiologists_look_at_them(codes: str) -> None:
    # in RAS: a map far to the patient's right, at the front
    values = np.zeros((24, 28, 16), dtype=np.float32)
    values[18:22, 22:26, 5] = 2.0
    turned = nib.Nifti1Image(values, np.eye(4)).as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.io_orientation(np.eye(4)), nib.orientations.axcodes2ornt(tuple(codes))
        )
    )
    array = turned.get_fdata(dtype=np.float32)
    gallery = Gallery((0, 2), 1.0)
    _offer(
        gallery,
        SampleCase("c", 1, 1.0, 0.5, False),
        RenderedCase(array[None], array, array > 1, turned.affine, array > 1),
    )
    (example,) = gallery.examples()
    shown = example.slices[example.start]
    assert (shown.name, shown.left) == ("axial 6 of 16", "R")
    assert [index for index, one in enumerate(example.slices) if one.has_truth] == [5]
    rows, columns = np.nonzero(_decoded(shown.anomaly_map).sum(axis=-1) > 400)
    # the patient's right is stored at high indices of RAS, is shown left; the front is up
    height, width = _decoded(shown.anomaly_map).shape[:2]
    assert (columns.mean() / width, rows.mean() / height) == pytest.approx((4 / 24, 4 / 28), abs=0.03)


def test_a_volume_shows_the_other_two_planes_through_the_lesion() -> None:
    gallery = Gallery((0, 2), 1.0)
    values = np.zeros((24, 28, 16), dtype=np.float32)
    truth = values.copy()
    values[2, 3, 4], truth[10:14, 20, 8] = 2.0, 1.0
    outlined = RenderedCase(values[None], values, values > 1, np.eye(4), truth > 0)
    _offer(gallery, SampleCase("c", 1, 2.0, 0.5, False), outlined)
    _offer(gallery, SampleCase("d", 1, 1.0, 0.5, False), RenderedCase(values[None], values, values > 1, np.eye(4)))
    lowest, highest = gallery.examples()
    # of left, posterior, superior; with a lesion where most of it is, else at the map's peak
    assert [one.name for one in highest.across] == ["coronal 8 of 28", "sagittal 11 of 24"]
    assert all(one.has_truth for one in highest.across)
    assert [one.name for one in lowest.across] == ["coronal 25 of 28", "sagittal 22 of 24"]
    _offer(picture := Gallery((0, 2), 1.0), SampleCase("c", 1, 1.0, 0.5, False))
    assert picture.examples()[0].across == ()


def test_contours_have_the_colours_that_the_page_explains() -> None:
    case = volume(peak=4, lesion=(4, 5))
    dark = RenderedCase(np.zeros_like(case.scan), case.anomaly_map * 0, case.mask, case.affine, case.truth)
    gallery = Gallery((0, 2), 1.0)
    _offer(gallery, SampleCase("c", 1, 1.0, 0.5, False), dark)
    overlay = _decoded(gallery.examples()[0].slices[4].overlay)
    for colour in (MASK_COLOUR, TRUTH_COLOUR):
        assert (np.abs(overlay - colour).max(axis=-1) < 40).sum() > 50
    elsewhere = _decoded(gallery.examples()[0].slices[9].overlay)
    assert not (np.abs(elsewhere - TRUTH_COLOUR).max(axis=-1) < 40).any()


def test_one_colour_scale_for_all_cases() -> None:
    gallery = Gallery((0, 2), 1.0)
    maps = []
    for factor in (0.25, 1.0):
        case = _picture()
        scaled = RenderedCase(case.scan, case.anomaly_map * np.float32(factor), case.mask, case.affine)
        _offer(gallery, SampleCase(f"c{factor}", 0, factor, 0.5, False), scaled)
    for example in gallery.examples():
        maps.append(_decoded(example.slices[0].anomaly_map).sum(axis=-1).max())
    assert maps[0] > 2 * maps[1]  # the highest score comes first, and its map is brighter
    assert {(e.limits, e.threshold) for e in gallery.examples()} == {((0, 2), 1.0)}


def test_noisy_volumes_stay_small() -> None:
    noise = np.random.RandomState(0).rand(1, 224, 224, 3).astype(np.float32)
    case = RenderedCase(noise, noise[0] * 2, noise[0] > 0.9, np.eye(4), noise[0] > 0.95)
    gallery = Gallery((0, 2), 1.0)
    _offer(gallery, SampleCase("c", 1, 1.0, 0.5, False), case)
    (example,) = gallery.examples()
    for one in example.slices:
        # nothing is noisier than this; 24 volumes of 32 slices of it would be 45 MB at full quality
        assert len(one.scan) + len(one.anomaly_map) + len(one.overlay) < 45_000


def test_colours_of_a_picture_are_kept() -> None:
    scan = np.zeros((3, 16, 16), dtype=np.float32)
    scan[0] = 0.8
    empty = np.zeros((16, 16), dtype=np.float32)
    gallery = Gallery((0, 2), 1.0)
    _offer(gallery, SampleCase("c", 0, 1.0, 0.5, False), RenderedCase(scan, empty, empty, np.eye(3)))
    red, green, blue = _decoded(gallery.examples()[0].slices[0].scan).mean(axis=(0, 1))
    assert red == pytest.approx(204, abs=3)
    assert max(green, blue) < 4


@pytest.mark.parametrize("sizes", [{"per_kind": 0}, {"most_slices": 0}])
def test_a_gallery_without_room_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Gallery((0, 1), 0.5, **sizes)
