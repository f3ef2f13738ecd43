"""What is known of a network by its name. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from sensai.data.dataset_names import InputRule
from sensai.errors import InputError, suggestion
from sensai.models import libraries
from sensai.models.architectures import ARCHITECTURES
from sensai.models.libraries.library_names import ELSEWHERE
from sensai.plugins import factory_digest

# `live:<class>` is a network that the user holds in memory: no name makes it again.
LIVE = "live:"


def is_own(arch: str) -> bool:
    """Return True for a name that refers to the user's own code."""
    return ":" in arch and not libraries.is_of_library(arch)


def source_digest(arch: str) -> str:
    """Return the SHA-256 of the file that makes the user's own network; empty for the others.

    Raises:
        InputError: no such file or module, or an error in it.
    """
    return factory_digest(arch, "arch") if is_own(arch) else ""


def input_rule(arch: str) -> InputRule:
    """Return the input that the network takes; the user's own takes images as they are.

    Raises:
        InputError: an unknown architecture.
    """
    if arch in ARCHITECTURES:
        traits: Mapping[str, Any] = ARCHITECTURES[arch].traits
        return InputRule(traits["side"], traits["channels"], traits["smallest"])
    if is_own(arch):
        return InputRule(image_size=None, channels=None)
    if found := libraries.find(arch):
        return found.library.input_rule(found.name)
    raise unknown(arch)


def unknown(arch: str) -> InputError:
    """Return the error that an unknown architecture raises."""
    return InputError(f"arch={arch!r}: is no architecture; {suggestion(arch, ARCHITECTURES.names, ELSEWHERE)}")
