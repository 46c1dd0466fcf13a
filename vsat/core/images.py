"""Structural similarity of filled images. Axes: b bands, y, x.

SSIM is Wang et al. (2004), with their Gaussian window of 11 pixels and sigma 1.5, as scikit-image computes it, averaged
over bands.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

WINDOW_PX = 11
RANGE = 1.0  # of reflectance, as for PSNR and in arXiv 2404.19609

Floats = npt.NDArray[np.floating]
Bool = npt.NDArray[np.bool_]


def ssim_adjusted(estimate_byx: Floats, truth_byx: Floats, mask_yx: Bool) -> float | None:
    """SSIM averaged over the filled pixels alone, so that what was never hidden does not raise it.

    Args:
        estimate_byx, truth_byx: reflectance; NaN where unknown. Windows reach over filled and seen pixels.
        mask_yx: the filled pixels; those that either side does not know count for nothing.

    Returns:
        Mean of the local SSIM over filled pixels; None for images smaller than the window, or without such a pixel.
    """
    if min(mask_yx.shape) < WINDOW_PX:
        return None
    found = []
    for made, true in zip(estimate_byx, truth_byx, strict=True):
        known, filled = np.isfinite(true), _filled(made, true, mask_yx)
        if filled.any():
            whole = np.where(known, true, true[known].mean())
            _, local = _ssim(np.where(filled, made, whole), whole, full=True)
            found.append(local[filled].mean())
    return float(np.mean(found)) if found else None


def ssim_chip(estimate_byx: Floats, truth_byx: Floats, mask_yx: Bool) -> float | None:
    """SSIM as arXiv 2404.19609 reports it: of the image that is zero wherever nothing was hidden.

    The paper does not define it; the code of its authors does (ClarkCGA/gfm-gap-filling at 9b471ad, mae_visualize.py,
    and gfm-gap-filling-baseline at 442e463, stat_creator.py): reflectance times mask on both sides, torchmetrics 1.0.1
    with a range of 1, its mean over all pixels a half window from the rim, "not normalized with the cloud mask". So it
    rises towards 1 with the share that was not hidden, and a mask's edges, which both sides share, raise it too. Their
    MAE is the mean over hidden pixels, as ours is, but first of each chip and then over chips.

    Args:
        estimate_byx, truth_byx: reflectance; NaN where unknown, which counts as not hidden.
        mask_yx: the filled pixels.

    Returns:
        Mean over bands; None for images smaller than the window, or without a filled pixel.
    """
    filled_byx = np.stack([_filled(made, true, mask_yx) for made, true in zip(estimate_byx, truth_byx, strict=True)])
    if min(mask_yx.shape) < WINDOW_PX or not filled_byx.any():
        return None
    made_byx, true_byx = (np.where(filled_byx, values, 0.0) for values in (estimate_byx, truth_byx))
    return float(np.mean([_ssim(made, true) for made, true in zip(made_byx, true_byx, strict=True)]))


def _filled(made: Floats, true: Floats, mask_yx: Bool) -> Bool:
    return np.asarray(mask_yx & np.isfinite(made) & np.isfinite(true))


def _ssim(made: Floats, true: Floats, *, full: bool = False) -> Any:
    """Mean SSIM, a half window from the rim, of one band; with `full` the local SSIM of every pixel too."""
    from skimage.metrics import structural_similarity  # here, for the import alone takes half a second

    return structural_similarity(  # type: ignore[no-untyped-call]
        np.asarray(true, np.float64),
        np.asarray(made, np.float64),
        data_range=RANGE,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=full,
    )
