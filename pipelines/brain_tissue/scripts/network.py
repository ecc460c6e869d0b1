"""The network: a SegResNet that works at half resolution and answers at full resolution.

Space-to-depth turns each 2x2x2 block of the image into 8 channels, so that no intensity is lost while every
convolution sees an eighth of the voxels; the answer is spread back onto the voxels (subpixel), where two thin
convolutions look once more at the image. That makes it several times cheaper on a processor than the same
SegResNet at full resolution.
"""

from __future__ import annotations

import torch
from monai.networks.nets import SegResNet
from torch import Tensor, nn

CLASSES = 4
"""Background, cerebrospinal fluid, grey matter, white matter."""


def space_to_depth(volume: Tensor) -> Tensor:
    """(B, C, X, Y, Z) with even sides to (B, 8 C, X/2, Y/2, Z/2)."""
    batch, channels, x, y, z = volume.shape
    blocks = volume.reshape(batch, channels, x // 2, 2, y // 2, 2, z // 2, 2)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch, channels * 8, x // 2, y // 2, z // 2)


def depth_to_space(volume: Tensor) -> Tensor:
    """(B, 8 C, X, Y, Z) to (B, C, 2 X, 2 Y, 2 Z): the inverse of `space_to_depth`."""
    batch, channels, x, y, z = volume.shape
    blocks = volume.reshape(batch, channels // 8, 2, 2, 2, x, y, z)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, channels // 8, x * 2, y * 2, z * 2)


class TissueNet(nn.Module):
    """SegResNet at half resolution with a subpixel answer and a thin refinement at full resolution.

    Input: (B, 1, X, Y, Z), T1 intensities scaled to about 0..1, 1 mm voxels along R, A, S, sides divisible
    by 8. Output: (B, 4, X, Y, Z) logits of background, CSF, grey matter, white matter.
    """

    def __init__(self, filters: int = 16, refine: int = 8) -> None:
        super().__init__()
        self.body = SegResNet(
            spatial_dims=3,
            init_filters=filters,
            in_channels=8,
            out_channels=CLASSES * 8,
            blocks_down=(1, 2, 2),
            blocks_up=(1, 1),
            norm=("INSTANCE", {"affine": True}),
            upsample_mode="nontrainable",
        )
        self.refine = nn.Sequential(
            nn.Conv3d(CLASSES + 1, refine, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv3d(refine, CLASSES, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits of an image, see the class."""
        coarse: Tensor = depth_to_space(self.body(space_to_depth(image)))
        finer: Tensor = self.refine(torch.cat([coarse, image], dim=1))
        return coarse + finer
