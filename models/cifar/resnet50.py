"""The ResNet-50 of Sup-tickets and GraNet on CIFAR."""

from models.resnet import Bottleneck, ResNet


def network(num_classes: int, width: float = 1.0) -> ResNet:
    """64 to 2,048 channels; the classifier has no bias."""
    return ResNet(Bottleneck, (3, 4, 6, 3), round(64 * width), num_classes, bias=False)
