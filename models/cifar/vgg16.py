"""VGG-16 for CIFAR as sparse training knows it: 13 convolutions and a head of two linear layers, 15 weights in all."""

import torch.nn.functional as F
from torch import Tensor, nn

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels; each ends in a max-pool


class VGG16(nn.Module):
    """Simonyan & Zisserman (2015), configuration D, with batch norm and one hidden layer of 512 in the head.

    This is the `vgg-like` network of SNIP and Sup-tickets, without dropout. Every convolution and linear layer has a
    bias. All of them have `width` times the usual channels.
    """

    smallest_side = 32  # pixels, of which five max-pools leave one

    def __init__(self, num_classes: int, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage in STAGES:
            for usual in stage:
                wide = round(width * usual)
                layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU()]
                channels = wide
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        head = (nn.Linear(wide, wide), nn.ReLU(), nn.BatchNorm1d(wide), nn.Linear(wide, num_classes))
        self.classifier = nn.Sequential(*head)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, side, side) → (N, num_classes)."""
        features = self.features(images)  # five max-pools leave one pixel of 32×32; of more, the mean
        return self.classifier(F.adaptive_avg_pool2d(features, 1).flatten(1))


def network(num_classes: int, width: float = 1.0) -> VGG16:
    return VGG16(num_classes, width)
