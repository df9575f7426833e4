"""scikit-learn's handwritten digits, which need no download."""

import numpy as np
import torch
import torch.nn.functional as F

from utils.data.recipes import SIDE
from utils.data.rows import Pixels

TEST = 360  # images held out of the 1797


def read_digits() -> tuple[Pixels, Pixels]:
    """Training and test split: 8 × 8 images with values 0..16, enlarged. The split is the same for all seeds."""
    from sklearn.datasets import load_digits  # which takes a second that other data need not wait for
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    small = torch.from_numpy(digits.images).float().mul(255 / 16)[:, None]
    large = F.interpolate(small, size=(SIDE, SIDE), mode="bilinear").round().byte()
    pixels = large.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()
    labels = torch.from_numpy(digits.target).long()
    names = [str(name) for name in digits.target_names]
    rows = train_test_split(np.arange(len(pixels)), test_size=TEST, stratify=digits.target, random_state=0)
    train, test = (
        Pixels(f"the {split} split of the digits", labels[index], names, pixels[index])
        for split, index in zip(("train", "test"), rows, strict=True)
    )
    return train, test
