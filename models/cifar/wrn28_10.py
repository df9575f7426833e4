"""Wide residual networks (Zagoruyko & Komodakis, 2016): few, wide blocks that normalize before they convolve."""

import torch.nn.functional as F
from torch import Tensor, nn


class PreActBlock(nn.Module):
    """Two 3×3 convolutions, each after its batch norm and ReLU; the first one strides."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(in_channels, width, 1, stride, bias=False) if in_channels != width else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)  # a projection reads the activated x
        out = F.relu(self.bn2(self.conv1(activated)))
        return shortcut + self.conv2(out)


class WideResNet(nn.Module):
    """Three groups of `(depth - 4) / 6` blocks with 1, 2 and 4 times `widen` the channels of the stem."""

    def __init__(self, depth: int, widen: int, num_classes: int, stem: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        channels, groups = stem, []
        for width, stride in ((stem * widen, 1), (2 * stem * widen, 2), (4 * stem * widen, 2)):
            first = PreActBlock(channels, width, stride)
            groups.append(nn.Sequential(first, *(PreActBlock(width, width, 1) for _ in range((depth - 4) // 6 - 1))))
            channels = width
        self.groups = nn.Sequential(*groups)
        self.bn = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, num_classes)

        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # std² = 2 / (k² · out_channels)
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, 32, 32) → (N, num_classes)."""
        out = F.relu(self.bn(self.groups(self.conv1(images))))
        return self.classifier(F.adaptive_avg_pool2d(out, 1).flatten(1))


def network(num_classes: int, width: float = 1.0) -> WideResNet:
    """WRN-28-10 without dropout, the network of FreeTickets on CIFAR; `width` is in sixteenths, as the stem has 16."""
    return WideResNet(28, 10, num_classes, stem=round(16 * width))
