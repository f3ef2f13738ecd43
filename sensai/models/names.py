"""The architectures and what input each takes, for checks that come before the heavy imports."""

from sensai.data.names import InputRule

VGG_DEPTHS = (11, 13, 16, 19)
BASIC_RESNET_DEPTHS = (20, 32, 44, 56)
BOTTLENECK_RESNET_DEPTHS = (110, 164)

# `torchvision:<name>` is a network of torchvision; whether it exists, only torchvision knows.
TORCHVISION = "torchvision:"

_CIFAR = InputRule(image_size=32, channels=3, smallest=32)

ARCHITECTURES: dict[str, InputRule] = {
    "small_cnn": InputRule(image_size=None, channels=None),
    **{f"vgg{depth}_bn": _CIFAR for depth in VGG_DEPTHS},
    **{f"resnet{depth}": _CIFAR for depth in (*BASIC_RESNET_DEPTHS, *BOTTLENECK_RESNET_DEPTHS)},
    "mobilenetv2": _CIFAR,
    "shufflenetv2": _CIFAR,
}
