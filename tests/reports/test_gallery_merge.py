"""Galleries of several ranks are together that of one."""

from __future__ import annotations

import pickle

import numpy as np

from medad_plugins.reports import Gallery, RenderedCase


def _picture() -> RenderedCase:
    return RenderedCase(
        np.zeros((1, 6, 5), np.float32), np.zeros((6, 5), np.float32), np.zeros((6, 5), bool), np.eye(3)
    )


def _gallery(cases: list[tuple[int, int, float, bool]]) -> Gallery:
    gallery = Gallery((0, 1), 0.5, per_kind=2)
    for index, label, score, flagged in cases:
        gallery.offer(case_id=f"c{index}", label=label, score=score, p_value=0.5, flagged=flagged, render=_picture)
    return gallery


def _names(gallery: Gallery) -> list[tuple[str, str]]:
    return [(example.kind, example.case_id) for example in gallery.examples()]


def test_the_cases_of_both_are_ranked_together() -> None:
    draw = np.random.RandomState(1)
    cases = [(i, int(draw.rand() < 0.5), float(draw.randint(9)), bool(draw.rand() < 0.5)) for i in range(60)]
    merged, other = _gallery(cases[::2]), pickle.loads(pickle.dumps(_gallery(cases[1::2])))
    merged.absorb(other)
    assert _names(merged) == _names(_gallery(cases))


def test_one_rank_alone_has_a_mistake() -> None:
    right = [(index, index % 2, float(index), bool(index % 2)) for index in range(12)]
    cases = [*right, (12, 0, 3.0, True)]
    for parts in ((cases[:6], cases[6:]), (cases[6:], cases[:6])):
        merged = _gallery(parts[0])
        merged.absorb(_gallery(parts[1]))
        assert _names(merged) == _names(_gallery(cases))
