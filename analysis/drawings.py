"""The drawings of docs/explanation: `python -m analysis.drawings`."""

import math
from collections.abc import Callable

from analysis.documents import ROOT
from analysis.drawing import Drawing

FOLDER = ROOT / "docs/explanation"


def main() -> None:
    """Write the drawings."""
    for name, draw in DRAWINGS.items():
        draw().save(FOLDER / f"{name}.svg")


def rivals() -> Drawing:
    """Draw the base model, control, replicas and members, with areas as their FLOPs."""
    drawing = Drawing(720, 262, "Base model, control, replicas and ensemble: squares whose area is their FLOPs")
    side = 96 / math.sqrt(8)
    columns = ((90, "base model", "1", "1"), (225, "control", "1/8", "1/8"), (385, "replicas", "5/8", "1/8"))
    for x, name, total, largest in (*columns, (595, "ensemble", "5/8", "1/8")):
        drawing.words(x, 30, name, "bold")
        drawing.words(x, 218, total)
        drawing.words(x, 243, largest)
    drawing.words(10, 196, "FLOPs", "left faint")
    drawing.words(10, 218, "in all", "left small")
    drawing.words(10, 243, "largest", "left small")
    drawing.box(42, 56, 96, 96, "all\nclasses", "blue")
    drawing.box(225 - side / 2, 87, side, side, "all", "blue")
    for number in range(5):
        x, y = (number % 3) * 44, (number // 3) * 46
        drawing.box(385 - 61 + x + (22 if number > 2 else 0), 64 + y, side, side, "all", "blue")
        drawing.box(
            595 - 61 + x + (22 if number > 2 else 0), 64 + y, side, side, f"{2 * number} {2 * number + 1}", "orange"
        )
    drawing.words(385, 172, "five networks, averaged", "small faint")
    drawing.words(595, 172, "two classes or none of them, each", "small faint")
    drawing.words(90, 172, "as it was trained", "small faint")
    drawing.words(225, 172, "one small network", "small faint")
    return drawing


def cuts() -> Drawing:
    """Draw a masked layer beside a cut one, and what the two scopes cut of a residual block."""
    drawing = Drawing(
        720, 300, "Masking channels to zero and removing them give the same output; scopes in a residual block"
    )
    for left, title, rows in ((20, "masked", range(6)), (380, "removed", (0, 2, 3, 5))):
        drawing.words(left + 160, 26, title, "bold")
        drawing.box(left, 60, 70, 60, "layer 1")
        drawing.box(left + 250, 60, 70, 60, "layer 2")
        for row in rows:
            y = 40 + 20 * row
            zero = row in (1, 4)
            drawing.line((left + 70, 90), (left + 120, y + 7), look="dashed" if zero else "")
            drawing.line((left + 200, y + 7), (left + 250, 90), look="dashed" if zero else "")
            drawing.box(left + 120, y, 80, 14, "", "gone" if zero else "blue")
            if zero:
                drawing.words(left + 160, y + 11, "0", "small")
    drawing.words(360, 95, "=", "bold")
    drawing.words(20, 196, "a residual block", "left bold")
    drawing.box(150, 220, 90, 34, "convolution")
    drawing.box(270, 220, 90, 34, "inner", "orange")
    drawing.box(390, 220, 90, 34, "convolution")
    drawing.dot(520, 237, 12, "+")
    drawing.box(20, 220, 90, 34, "stream", "green")
    drawing.box(580, 220, 90, 34, "stream", "green")
    for start, end in ((110, 150), (240, 270), (360, 390), (480, 508), (532, 580)):
        drawing.arrow((start, 237), (end, 237))
    drawing.arrow((130, 237), (130, 275), (520, 275), (520, 249))
    drawing.words(315, 212, "scope=inner cuts here", "small")
    drawing.words(625, 275, "scope=all cuts here, too", "small")
    return drawing


def statistics() -> Drawing:
    """Draw the table of statistics: a row a class, a column a channel, and the sum of a group's rows."""
    drawing = Drawing(720, 250, "Zeros of each channel counted per class; a group's counts are the sum of its rows")
    zeros = {"cat": (9, 2, 7, 1, 9, 3, 8, 1), "dog": (8, 3, 9, 2, 7, 1, 2, 2), "car": (1, 8, 2, 9, 8, 2, 1, 9)}
    drawing.words(20, 26, "zeros, of 10 places", "left bold")
    for column in range(8):
        drawing.words(118 + 46 * column, 46, f"c{column}", "small faint")
    group = [a + b for a, b in zip(zeros["cat"], zeros["dog"], strict=True)]
    for top, name, counts, most in (
        *((54 + 34 * row, name, counts, 10) for row, (name, counts) in enumerate(zeros.items())),
        (178, "cat + dog", group, 20),
    ):
        drawing.words(20, top + 19, name, "left")
        for column, count in enumerate(counts):
            idle = count / most > 0.7
            drawing.box(97 + 46 * column, top, 42, 28, str(count), "orange" if idle else "plain")
    drawing.line((20, 167), (465, 167))
    drawing.arrow((470, 192), (520, 192))
    removed = sorted(range(8), key=lambda column: (-group[column], column))[:3]
    drawing.words(530, 186, f"removed first: {', '.join(f'c{each}' for each in removed)}", "left")
    drawing.words(530, 204, "the most zeros", "left small faint")
    drawing.words(490, 72, "one pass over the images", "left")
    drawing.words(490, 92, "makes all rows", "left")
    drawing.words(97, 232, "another group or ratio is arithmetic on this table: no further pass", "left small faint")
    return drawing


def grouping() -> Drawing:
    """Draw two ways to put six classes into groups, and the ring of overlapping members."""
    drawing = Drawing(
        720, 240, "Similar classes together, similar classes apart, and members that share classes in a ring"
    )
    kinds = {"a": "blue", "b": "orange", "c": "green"}
    for left, title, groups in (
        (20, "most_similar", (("a1", "a2"), ("b1", "b2"), ("c1", "c2"))),
        (260, "least_similar", (("a1", "b1"), ("b2", "c1"), ("a2", "c2"))),
    ):
        drawing.words(left + 95, 28, title, "bold")
        for row, classes in enumerate(groups):
            drawing.box(left + 20, 45 + 58 * row, 150, 48)
            for column, name in enumerate(classes):
                drawing.dot(left + 60 + 70 * column, 69 + 58 * row, 17, name, kinds[name[0]])
    drawing.words(115, 231, "alike in what they use", "small faint")
    drawing.words(355, 231, "unlike in what they use", "small faint")
    drawing.words(600, 28, "overlap=2", "bold")
    angles = [2 * math.pi * number / 5 - math.pi / 2 for number in range(5)]
    places = [(600 + 66 * math.cos(angle), 125 + 66 * math.sin(angle)) for angle in angles]
    drawing.line(*places, places[0], look="strong")
    for number, (x, y) in enumerate(places):
        drawing.dot(x, y, 20, f"g{number}")
    drawing.words(600, 231, "each line is a member of two groups", "small faint")
    return drawing


def combining() -> Drawing:
    """Draw the way from the outputs of a binary member and a group to probabilities."""
    drawing = Drawing(720, 230, "Outputs of members become one logit a class, are calibrated, and become probabilities")
    for x, title in ((75, "members"), (225, "outputs"), (385, "class logits"), (525, "fit"), (672, "answer")):
        drawing.words(x, 28, title, "bold")
    drawing.box(20, 50, 110, 40, "cat", "blue")
    drawing.box(20, 130, 110, 60, "dog, car", "orange")
    drawing.box(180, 55, 90, 30, "2.1", "blue")
    for row, words in enumerate(("none: 1.0", "dog: 0.2", "car: 3.5")):
        drawing.box(180, 118 + 30 * row, 90, 26, words, "orange")
    for row, (words, kind) in enumerate(
        (("cat: 2.1", "blue"), ("dog: 0.2 - 1.0", "orange"), ("car: 3.5 - 1.0", "orange"))
    ):
        drawing.box(325, 74 + 40 * row, 120, 30, words, kind)
        drawing.line((445, 89 + 40 * row), (480, 129))
    drawing.box(480, 99, 90, 60, "scale,\nbias, ...", "green")
    drawing.box(640, 70, 65, 118, "0.39\n0.02\n0.59")
    drawing.arrow((130, 70), (180, 70))
    drawing.arrow((130, 160), (180, 160))
    drawing.arrow((270, 70), (325, 88))
    drawing.line((270, 131), (298, 131))
    drawing.arrow((270, 161), (298, 161), (298, 129), (325, 129))
    drawing.arrow((270, 191), (305, 191), (305, 169), (325, 169))
    drawing.arrow((570, 129), (640, 129))
    drawing.words(525, 180, "on validation", "small faint")
    drawing.words(525, 195, "images", "small faint")
    drawing.words(603, 120, "softmax", "small faint")
    drawing.words(385, 215, "a group: its output less that of none", "small faint")
    return drawing


def caches() -> Drawing:
    """Draw the stages of two calls, the second of which finds the first ones in the store."""
    drawing = Drawing(720, 225, "The second call differs in ratio: its first stages come from the store")
    stages = ("baseline", "activations", "group", "prune", "retrain", "evaluate")
    for top, title, fresh in ((40, "sensai main --ratio 0.1", 0), (130, "sensai main --ratio 0.2", 2)):
        drawing.words(20, top, title, "left bold")
        for number, stage in enumerate(stages):
            x = 20 + 116 * number
            kind = "green" if number < fresh else "blue"
            drawing.box(x, top + 14, 94, 36, stage, kind)
            if number:
                drawing.arrow((x - 22, top + 32), (x, top + 32))
    drawing.box(20, 194, 16, 14, "", "blue")
    drawing.words(44, 206, "computed", "left small")
    drawing.box(130, 194, 16, 14, "", "green")
    drawing.words(154, 206, "from the store: equal fingerprint of parameters, data and all stages before", "left small")
    return drawing


def runtimes() -> Drawing:
    """Draw how four members share two threads in three runtimes."""
    drawing = Drawing(720, 290, "Four members on two threads: one after another, node by node, and a session each")
    kinds = ("blue", "orange", "green", "plain")
    for top, title, words in (
        (40, "torch, onnx-graph", "each layer on all threads: small layers gain little by the second"),
        (130, "onnx-branches", "layers of all members, each on the next free thread"),
        (220, "onnx-sessions", "whole members, dealt out by their FLOPs: no waiting within a member"),
    ):
        drawing.words(20, top - 8, title, "left bold")
        drawing.words(160, top - 8, words, "left small faint")
        for thread in range(2):
            drawing.words(20, top + 20 + 26 * thread, f"thread {thread + 1}", "left small faint")
    for member, kind in enumerate(kinds):
        for thread in range(2):
            drawing.box(90 + 138 * member, 44 + 26 * thread, 132, 22, f"member {member + 1}", kind)
    for number in range(12):
        for thread in range(2):
            member = (2 * number + thread) % 4
            drawing.box(90 + 38 * number, 134 + 26 * thread, 33, 22, str(member + 1), kinds[member])
    for place, member in ((0, 0), (1, 2)):
        drawing.box(90 + 200 * place, 224, 195, 22, f"member {member + 1}", kinds[member])
        drawing.box(90 + 200 * place, 250, 195, 22, f"member {member + 2}", kinds[member + 1])
    return drawing


def comparisons() -> Drawing:
    """Draw intervals of differences, and what each shows."""
    drawing = Drawing(720, 215, "Four intervals of a difference in accuracy and what they show")
    drawing.line((285, 20), (285, 165), look="dashed")
    drawing.words(285, 185, "0", "bold")
    drawing.words(215, 203, "less accurate", "small faint")
    drawing.words(355, 203, "more accurate", "small faint")
    for row, (low, middle, high, words) in enumerate(
        (
            (305, 345, 385, "shown to be more accurate"),
            (255, 307, 359, "undecided: more images are needed"),
            (273, 283, 293, "undecided, but no large difference is left"),
            (180, 217, 254, "shown to be less accurate: out"),
        )
    ):
        y = 38 + 34 * row
        drawing.line((low, y), (high, y), look="strong")
        drawing.dot(middle, y, 5, "", "blue")
        drawing.words(410, y + 4.5, words, "left")
    for line, words in enumerate(("accuracy of a rival", "less the ensemble's,", "on the same images")):
        drawing.words(20, 42 + 18 * line, words, "left")
    return drawing


def workers() -> Drawing:
    """Draw two workers, each of which makes a batch once for all of its members."""
    drawing = Drawing(720, 240, "Each worker makes a batch once and trains all its members with it")
    for top, worker, members in ((30, 1, "ABC"), (135, 2, "DE")):
        drawing.box(20, top, 680, 88, "", "gone")
        drawing.words(70, top + 22, f"worker {worker}", "bold")
        drawing.box(150, top + 27, 90, 34, "batch", "green")
        drawing.arrow((100, top + 44), (150, top + 44))
        drawing.words(62, top + 48, "images", "small faint")
        for number, name in enumerate(members):
            y = top + 7 + 26 * number
            drawing.arrow((240, top + 44), (300, y + 11))
            drawing.box(300, y, 120, 22, f"labels of {name}")
            drawing.arrow((420, y + 11), (450, y + 11))
            drawing.box(450, y, 190, 22, f"member {name}: step", "blue" if worker == 1 else "orange")
    return drawing


def schedules() -> Drawing:
    """Draw the learning rates of both schedules, and a stop of each."""
    drawing = Drawing(720, 220, "A stop of one_cycle misses the fall of the rate; one of warmup_stable_decay begins it")
    for left, title in ((30, "one_cycle"), (390, "warmup_stable_decay")):
        drawing.words(left + 150, 26, title, "bold")
        drawing.arrow((left, 180), (left + 300, 180))
        drawing.arrow((left, 180), (left, 40))
        drawing.words(left + 150, 206, "epochs", "small faint")
    rise = [(30 + step, 180 - 120 * step / 80) for step in (0, 80)]
    fall = [(110 + step, 60 + 60 * (1 - math.cos(math.pi * step / 200))) for step in range(0, 201, 5)]
    before = [point for point in fall if point[0] <= 200]
    drawing.line(*rise, *before, look="strong")
    drawing.line(*fall[len(before) - 1 :], look="dashed")
    x, y = before[-1]
    drawing.dot(x, y, 5, "", "orange")
    drawing.words(x + 10, y - 6, "stop: the rate is still high", "left small")
    drawing.line((390, 180), (430, 60), (560, 60), (620, 180), look="strong")
    drawing.line((560, 60), (620, 60), (680, 180), look="dashed")
    drawing.dot(560, 60, 5, "", "orange")
    drawing.words(545, 48, "stop: the decay begins", "small")
    return drawing


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "class_parallelism": rivals,
    "cuts": cuts,
    "statistics": statistics,
    "grouping": grouping,
    "combining": combining,
    "caches_and_lineage": caches,
    "runtimes_and_latency": runtimes,
    "comparisons": comparisons,
    "training": workers,
    "schedules": schedules,
}


if __name__ == "__main__":
    main()
