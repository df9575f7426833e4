"""Wide residual networks (Zagoruyko & Komodakis, 2016): few, wide blocks that normalise before they convolve."""

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
    """Three groups of `(depth - 4) / 6` blocks with 16, 32 and 64 times `widen` channels."""

    def __init__(self, depth: int, widen: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        channels, groups = 16, []
        for width, stride in ((16 * widen, 1), (32 * widen, 2), (64 * widen, 2)):
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


def wrn28_10(num_classes: int) -> WideResNet:
    """WRN-28-10 without dropout, the network of FreeTickets on CIFAR."""
    return WideResNet(28, 10, num_classes)
