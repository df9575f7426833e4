"""ResNet-20 (He et al., 2016)."""

from models.resnet import BasicBlock, ResNet


def network(num_classes: int, width: float = 1.0) -> ResNet:
    """16, 32 and 64 channels and projection shortcuts (option B)."""
    return ResNet(BasicBlock, (3, 3, 3), round(16 * width), num_classes, bias=True)
