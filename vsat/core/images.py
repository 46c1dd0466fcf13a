"""Structural similarity of filled images. Axes: b bands, y, x.

SSIM is Wang et al. (2004), with their Gaussian window of 11 pixels and sigma 1.5, as scikit-image computes it, averaged
over bands.
"""

import numpy as np
import numpy.typing as npt

WINDOW_PX = 11
RANGE = 0.5  # reflectance: land is seldom brighter, and arXiv 2404.19609's public code scales by it (numbers x 2e-4)

Floats = npt.NDArray[np.floating]


def ssim_adjusted(estimate_byx: Floats, truth_byx: Floats, mask_yx: npt.NDArray[np.bool_]) -> float | None:
    """SSIM averaged over the filled pixels alone, so that what was never hidden does not raise it.

    Args:
        estimate_byx, truth_byx: reflectance; NaN where unknown. Windows reach over filled and seen pixels.
        mask_yx: the filled pixels.

    Returns:
        Mean of the local SSIM over `mask_yx`; None for images smaller than the window, or without a filled pixel.
    """
    local = _local(estimate_byx, truth_byx, mask_yx)
    return None if local is None or not mask_yx.any() else float(local[:, mask_yx].mean())


def ssim_chip(estimate_byx: Floats, truth_byx: Floats, mask_yx: npt.NDArray[np.bool_]) -> float | None:
    """SSIM of the whole image, filled where it was hidden and true elsewhere: for comparison with arXiv 2404.19609.

    The paper scores chips whose masked pixels are filled and gives no window; its public code scales reflectance so
    that 0.5 becomes 1. That reading is taken here: the figure rises with the share that was never hidden.
    """
    local = _local(estimate_byx, truth_byx, mask_yx)
    return None if local is None else float(local.mean())


def _local(estimate_byx: Floats, truth_byx: Floats, mask_yx: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64] | None:
    """SSIM around each pixel and band; where the truth is unknown both sides are the band's mean."""
    if min(mask_yx.shape) < WINDOW_PX:
        return None
    from skimage.metrics import structural_similarity

    maps = []
    for estimate_yx, truth_yx in zip(estimate_byx, truth_byx, strict=True):
        known = np.isfinite(truth_yx)
        if not known.any():
            return None
        true = np.where(known, truth_yx, truth_yx[known].mean()).astype(np.float64)
        made = np.where(mask_yx & known & np.isfinite(estimate_yx), estimate_yx, true).astype(np.float64)
        _, local = structural_similarity(  # type: ignore[no-untyped-call]
            true, made, data_range=RANGE, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )
        maps.append(local)
    return np.stack(maps)
