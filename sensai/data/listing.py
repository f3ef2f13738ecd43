"""List folders for image files: follow links, skip hidden and system entries, count everything that is omitted."""

import os
from collections import Counter
from dataclasses import dataclass, field

from sensai.data.images.decoding import image_suffixes, special_kind

# macOS, Windows, file servers and file systems put these into folders (in lower case, beside names with a leading dot).
_SYSTEM = {
    *("__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("@eadir", "#recycle", "@recycle", "lost+found"),
}
_HIDDEN = "hidden or of the system"
_LONGEST_ENDING = 20
_REASONS = 6


@dataclass
class Entries:
    """The entries of one folder, names in order.

    Attributes:
        folders: links to folders included.
        files: likewise.
        problems: name -> why it is neither file nor folder; the empty name is the folder itself.
        omitted: reason -> number of entries.
    """

    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    omitted: Counter[str] = field(default_factory=Counter)


def entries(folder: str) -> Entries:
    """Return the entries of a folder that are neither hidden nor of the system."""
    found = Entries()
    try:
        with os.scandir(folder) as scanned:
            listed = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        found.problems[""] = f"cannot be listed ({error.strerror})"
        return found
    for entry in listed:
        if entry.name.startswith(".") or entry.name.lower() in _SYSTEM:
            found.omitted[_HIDDEN] += 1
        elif why := _problem(entry):
            found.problems[entry.name] = why
        else:
            (found.folders if entry.is_dir() else found.files).append(entry.name)
    return found


def _problem(entry: os.DirEntry[str]) -> str:
    """Return why an entry can be neither listed nor read; empty if it can."""
    if not entry.is_symlink() and (entry.is_file() or entry.is_dir()):
        return ""
    try:
        kind = special_kind(os.stat(entry.path).st_mode)
    except OSError as error:
        place = f"is a link to {os.readlink(entry.path)!r}, which " if entry.is_symlink() else ""
        return f"{place}cannot be reached ({error.strerror})"
    return kind and f"is {kind}, not an image file"


def images_below(folder: str) -> Entries:
    """Return the image files at any depth below a folder, with names relative to it, in the order of their parts.

    `folders` stays empty. A link to a folder that contains the link is a problem, since the search would never end.
    """
    found, readable = Entries(), image_suffixes()
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        below, above = pending.pop()
        path = os.path.join(folder, below)
        try:
            status = os.stat(path)
        except OSError as error:
            found.problems[below] = f"cannot be reached ({error.strerror})"
            continue
        if (own := (status.st_dev, status.st_ino)) in above:
            found.problems[below] = "is a link to a folder that it lies in, a cycle"
            continue
        here = entries(path)
        found.omitted += here.omitted
        found.problems |= {os.path.join(below, name): why for name, why in here.problems.items()}
        pending += [(os.path.join(below, name), above | {own}) for name in here.folders]
        for name in here.files:
            ending = os.path.splitext(name)[1]
            if ending.lower() in readable:
                found.files.append(os.path.join(below, name))
            else:
                found.omitted[_named(ending)] += 1
    found.files.sort(key=lambda name: name.split("/"))
    return found


def _named(ending: str) -> str:
    return f"ending in {ending[:_LONGEST_ENDING]!r}" if ending else "without an ending"


def in_words(omitted: Counter[str]) -> str:
    """Return the number of omitted entries by reason, the most frequent first."""
    ordered = sorted(omitted.items(), key=lambda item: (-item[1], item[0]))
    reasons = [f"{count} {reason}" for reason, count in ordered[:_REASONS]]
    if rest := sum(count for _, count in ordered[_REASONS:]):
        reasons.append(f"{rest} for other reasons")
    return f"{omitted.total()} left out: {', '.join(reasons)}"
