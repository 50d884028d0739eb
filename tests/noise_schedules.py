"""What is left of a scan at every time of a diffusion, by plain multiplication."""

from __future__ import annotations


def linear_products(times: int = 1000) -> list[float]:
    """Products of one minus the noise's variances, which grow linearly from 0.0001 to 0.02."""
    products, product = [], 1.0
    for t in range(times):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / (times - 1))
        products.append(product)
    return products
