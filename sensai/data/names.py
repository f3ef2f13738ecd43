"""The names of the data sets, for checks that come before the heavy imports."""

BUILT_IN = ("digits",)
TORCHVISION = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn")
FOLDER = "imagefolder"
DATASETS = (*BUILT_IN, *TORCHVISION, FOLDER)

# Mirroring a digit or a house number makes another symbol of it.
NOT_MIRRORED = ("digits", "mnist", "svhn")
