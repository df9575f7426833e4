"""VGG-16 for CIFAR as sparse training knows it: 13 convolutions and a head of two linear layers, 15 weights in all."""

from torch import Tensor, nn

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels; each ends in a max-pool


class VGG16(nn.Module):
    """Simonyan & Zisserman (2015), configuration D, with batch norm and one hidden layer of 512 in the head.

    This is the `vgg-like` network of SNIP and Sup-tickets, without dropout. Every convolution and linear layer has a
    bias.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage in STAGES:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        head = (nn.Linear(512, 512), nn.ReLU(), nn.BatchNorm1d(512), nn.Linear(512, num_classes))
        self.classifier = nn.Sequential(*head)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, 32, 32) → (N, num_classes)."""
        return self.classifier(self.features(images).flatten(1))  # five max-pools leave one pixel of 32×32
