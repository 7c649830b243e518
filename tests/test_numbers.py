"""Where digits are in a picture, which they are, and what is to be doubted."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.checkpoints.files import BUNDLED
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.digits import paper
from mnist_cnn.digits.decode import open_pictures
from mnist_cnn.digits.find import Candidate, find_digits
from mnist_cnn.use.reading import (
    NO_DIGIT,
    NOT_ALL,
    PLAIN,
    Digit,
    Reader,
    Reading,
    best_path,
    chosen,
    reading,
)
from tests.support import scenes

# Test images that are plain: 7, 2, 1, 0, 4 and so on.
IMAGES = {7: 0, 2: 1, 1: 2, 0: 3, 4: 4, 9: 7, 5: 15, 3: 18, 6: 21, 8: 61}
Place = tuple[int, int]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(load_classifier(BUNDLED)[0]).eval()


@pytest.fixture
def ink(mnist: MNISTDataModule) -> dict[int, Image.Image]:
    """Each digit, cropped, bright on dark."""
    digits = {}
    for digit, index in IMAGES.items():
        assert int(mnist.test_set.labels[index]) == digit
        image = Image.fromarray(mnist.test_set.images[index].numpy())
        digits[digit] = image.crop(image.getbbox() or (0, 0, 28, 28))
    return digits


def written(
    ink: dict[int, Image.Image], digits: Iterable[tuple[int, Place]], size: Place, times: int = 3
) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    """Black on white, each digit at its place, enlarged; and the boxes."""
    picture = Image.new("L", size, 255)
    boxes = []
    for digit, place in digits:
        large = ink[digit].resize([side * times for side in ink[digit].size])
        picture.paste(0, place, large)
        boxes.append((*place, place[0] + large.width, place[1] + large.height))
    return picture, boxes


def read(reader: Reader, picture: Image.Image) -> Reading:
    return reader.read([find_digits(picture)])[0]


def test_a_digit_is_a_number_of_one(reader: Reader, ink: dict[int, Image.Image]) -> None:
    for digit in range(10):
        reading = read(reader, written(ink, [(digit, (60, 50))], (200, 160))[0])
        assert (reading.number, reading.main.digit, reading.doubt) == (str(digit), digit, "")


@pytest.mark.parametrize("number", ["20", "11", "2026", "90210"])
def test_digits_side_by_side_are_a_number(
    reader: Reader, ink: dict[int, Image.Image], number: str
) -> None:
    digits = [(int(digit), (40 + 75 * i, 50 + 7 * (i % 2))) for i, digit in enumerate(number)]
    picture, boxes = written(ink, digits, (100 + 75 * len(number), 170))
    reading = read(reader, picture)
    assert reading.number == number
    for digit, box in zip(reading.digits, boxes, strict=True):
        assert np.abs(np.subtract(digit.box, box)).max() <= 5


def test_lines_are_read_from_top_to_bottom(reader: Reader, ink: dict[int, Image.Image]) -> None:
    places = [(x, y) for y in (40, 140, 240) for x in (40, 130, 220, 310)]
    digits = [7, 2, 1, 0, 4, 9, 5, 3, 6, 8, 0, 1]
    picture, _ = written(ink, zip(digits, places, strict=True), (420, 340))
    assert read(reader, picture).number == "".join(map(str, digits))


def test_lines_that_nearly_touch_are_two(reader: Reader, ink: dict[int, Image.Image]) -> None:
    above = [(digit, (40 + 90 * i, 40)) for i, digit in enumerate((7, 0, 1))]
    below = [(digit, (40 + 90 * i, 103)) for i, digit in enumerate((9, 0, 4))]
    picture, _ = written(ink, above + below, (330, 220))
    assert read(reader, picture).number == "701904"


def test_a_page_of_a_hundred_digits_is_a_list_with_boxes(
    reader: Reader, ink: dict[int, Image.Image]
) -> None:
    rng = np.random.default_rng(5)
    digits = rng.integers(0, 10, 100).tolist()
    places = [(60 + 140 * x, 60 + 140 * y) for y in range(10) for x in range(10)]
    picture, boxes = written(ink, zip(digits, places, strict=True), (1500, 1500))
    reading = read(reader, picture)
    assert len(reading.digits) == 100
    assert sum(d.digit == digit for d, digit in zip(reading.digits, digits, strict=True)) >= 99
    found = np.array([digit.box for digit in reading.digits])
    assert np.abs(found - np.array(boxes)).max() <= 8


def test_boxes_are_those_of_the_file(reader: Reader, ink: dict[int, Image.Image]) -> None:
    """Also where a large JPEG is turned upright."""
    places = [(4, (900, 1400)), (2, (2300, 1500))]
    picture, boxes = written(ink, places, (4000, 3200), times=40)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by 90°
    for turned, options in ((picture, {}), (picture.rotate(90, expand=True), {"exif": exif})):
        file = io.BytesIO()
        turned.save(file, "JPEG", **options)
        reading = read(reader, open_pictures(file.getvalue())[0])
        assert reading.number == "42"
        for digit, box in zip(reading.digits, boxes, strict=True):
            assert np.abs(np.subtract(digit.box, box)).max() <= 60


def test_digits_that_touch_are_two(reader: Reader, ink: dict[int, Image.Image]) -> None:
    for left, right in ((2, 6), (0, 3), (6, 0)):
        places = [(left, (60, 60)), (right, (60 + 3 * ink[left].width - 2, 60))]
        assert read(reader, written(ink, places, (300, 200))[0]).number == f"{left}{right}"


@pytest.mark.parametrize("angle", [10, 20, 30])
def test_a_stroke_that_lies_askew_is_no_sheet(reader: Reader, angle: int) -> None:
    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).rectangle((91, 30, 109, 170), 0)
    (seen,) = find_digits(picture.rotate(-angle, Image.Resampling.BICUBIC, fillcolor=255))
    assert seen.box[3] - seen.box[1] > 130
    assert read(reader, picture).number == "1"


def test_a_speck_in_a_0_makes_no_frame_of_it() -> None:
    picture = Image.new("L", (200, 200), 255)
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((65, 30, 135, 170), 12, outline=0, width=12)
    draw.point((100, 100), 0)
    assert [seen.box for seen in find_digits(picture)] == [(65, 30, 136, 171)]


@pytest.mark.parametrize("digit", [0, 3, 4])
def test_a_dark_band_along_the_border_is_no_digit(reader: Reader, digit: int) -> None:
    rng = np.random.default_rng(digit)
    ink = scenes.handwritten(digit, rng, scenes.SIZE, scenes.PEN)
    picture = np.array(scenes.photographed(ink, rng))
    width, side = int(rng.integers(10, 45)), int(rng.integers(4))
    np.rot90(picture, side)[:width] = 40
    assert read(reader, Image.fromarray(picture)).number == str(digit)


def test_a_ring_around_a_digit_is_none(reader: Reader, ink: dict[int, Image.Image]) -> None:
    picture, _ = written(ink, [(7, (60, 60))], (220, 220), times=5)
    ImageDraw.Draw(picture).ellipse((20, 25, 200, 205), outline=0, width=4)
    assert read(reader, picture).number == "7"


def test_a_small_digit_in_a_large_photograph_is_read(reader: Reader) -> None:
    rng = np.random.default_rng(4)
    page = np.zeros((1200, 1600))
    page[700:820, 900:1060] = scenes.handwritten(4, rng, (160, 120), 0.09)
    reading = read(reader, scenes.photographed(page, rng))
    assert (reading.number, reading.doubt) == ("4", "")


@pytest.mark.slow
def test_most_pairs_that_touch_are_two(reader: Reader, ink: dict[int, Image.Image]) -> None:
    """Also where the joint has more ink than a place near it: 85 of 100."""
    pairs = [(left, right) for left in range(10) for right in range(10)]
    places = [[(a, (50, 50)), (b, (44 + 3 * ink[a].width, 50))] for a, b in pairs]
    found = reader.read([find_digits(written(ink, two, (240, 160))[0]) for two in places])
    right = [reading.number == f"{a}{b}" for reading, (a, b) in zip(found, pairs, strict=True)]
    assert sum(right) >= 80


def test_what_is_broken_is_one(reader: Reader, ink: dict[int, Image.Image]) -> None:
    for digit in (0, 3, 8):
        picture, (box,) = written(ink, [(digit, (80, 60))], (240, 200), times=5)
        middle = (box[0] + box[2]) // 2
        ImageDraw.Draw(picture).line((middle + 8, 0, middle - 8, 200), 255, 5)
        assert read(reader, picture).number == str(digit)


def test_what_is_broken_is_one_beside_others(reader: Reader, ink: dict[int, Image.Image]) -> None:
    places = [(digit, (30 + 120 * index, 40)) for index, digit in enumerate((4, 3, 1, 7, 2))]
    picture, boxes = written(ink, places, (660, 160), times=4)
    left, top, right, bottom = boxes[2]
    for third in (1, 2):  # all three parts are less than half as high as a digit
        y = top + third * (bottom - top) // 3
        ImageDraw.Draw(picture).line((left, y, right, y + 4), 255, 5)
    assert read(reader, picture).number == "43172"


def test_no_digit_is_doubted(reader: Reader) -> None:
    zigzag = [(40, 40), (90, 180), (130, 40), (170, 180), (210, 40), (250, 180)]
    star = Image.new("L", (280, 220), 255)
    ImageDraw.Draw(star).line(zigzag, 0, 12, joint="curve")
    reading = read(reader, star)
    assert (reading.number, reading.doubt) == ("", NO_DIGIT)
    assert len(reading.digits) == 1


def test_what_is_not_plain_is_read_over_shifts(reader: Reader, mnist: MNISTDataModule) -> None:
    images = mnist.test_set.images[:300]
    readings = reader.read([find_digits(Image.fromarray(image.numpy())) for image in images])
    digits = [digit for reading in readings for digit in reading.digits]
    images = torch.from_numpy(np.stack([digit.candidate.image for digit in digits]))
    with torch.inference_mode():
        once, over_shifts = (reader.classify.over_shifts(images, pixels) for pixels in (0, 1))
    plain = once.max(dim=1).values >= PLAIN
    assert 0 < (~plain).sum() < len(digits) / 10
    found = torch.tensor([digit.probabilities for digit in digits])
    torch.testing.assert_close(found, torch.where(plain[:, None], once, over_shifts))
    assert not torch.allclose(once[~plain], over_shifts[~plain], atol=1e-3)


def test_cuts_are_made_only_where_nothing_is_plain_without_them(
    reader: Reader, ink: dict[int, Image.Image]
) -> None:
    wide = Image.new("L", (200, 160), 255)
    wide.paste(0, (30, 30), ink[0].resize((120, 100)))
    candidates = find_digits(wide)
    assert sum(candidate.cuts > 0 for candidate in candidates) >= 2
    judged: list[int] = []
    assert reader.judge is not None
    with reader.judge.register_forward_pre_hook(lambda _, args: judged.append(len(args[0]))):
        (found,) = reader.read([candidates])
    assert found.number == "0"
    assert sum(judged) == sum(candidate.cuts == 0 for candidate in candidates)


def test_mnist_is_read_as_it_is(reader: Reader, mnist: MNISTDataModule) -> None:
    """Also images of several pieces, whose whole is one of the candidates, unchanged."""
    candidates = [find_digits(Image.fromarray(i.numpy())) for i in mnist.test_set.images[:300]]
    for several, image in zip(candidates, mnist.test_set.images, strict=False):
        assert torch.equal(torch.from_numpy(several[0].image), image)
    readings = reader.read(candidates)
    labels = mnist.test_set.labels[:300].tolist()
    right = [r.number == str(label) for r, label in zip(readings, labels, strict=True)]
    assert sum(right) >= 293  # a few are doubted
    answers = [r.main.digit == label for r, label in zip(readings, labels, strict=True)]
    assert sum(answers) >= 298


@pytest.mark.parametrize(
    "corners",
    [
        [(20, 20), (180, 20), (180, 120), (20, 120)],
        [(60, 10), (190, 60), (150, 140), (20, 95)],  # turned
        [(40, 20), (160, 30), (185, 130), (15, 110)],  # askew
    ],
)
def test_the_corners_of_a_sheet_are_found(corners: list[tuple[int, int]]) -> None:
    """Top left, top right, bottom right, bottom left, and what is between them."""
    sheet = Image.new("1", (200, 150))
    ImageDraw.Draw(sheet).polygon(corners, fill=1)
    mask = np.asarray(sheet)
    assert np.abs(paper.quadrilateral(mask) - corners).max() <= 2


def test_a_sheet_is_straightened_and_its_boxes_are_the_picture_s(reader: Reader) -> None:
    rng = np.random.default_rng(2)
    ink = scenes.handwritten(5, rng, (300, 300), 0.09)
    reading = read(reader, scenes.tilted(ink, rng))
    assert reading.number == "5"
    left, top, right, bottom = reading.main.box
    assert 60 < right - left < 300
    assert 60 < bottom - top < 300


def plotted(
    ink: dict[int, Image.Image], rows: list[list[int]], colours: tuple[str, str, str]
) -> Image.Image:
    """Digits in panels with frames, ticks and titles, as Matplotlib plots them."""
    ground, strokes, frame = colours
    picture = Image.new("RGB", (100 * len(rows[0]) + 30, 120 * len(rows) + 20), "white")
    draw = ImageDraw.Draw(picture)
    for row, digits in enumerate(rows):
        for column, digit in enumerate(digits):
            left, top = 30 + 100 * column, 30 + 120 * row
            draw.text((left, top - 14), f"pred {digit} | true {digit}", "black")
            draw.rectangle((left, top, left + 75, top + 75), ground, frame)
            for tick in (5, 30, 55):
                draw.line((left - 4, top + tick, left, top + tick), frame)
                draw.line((left + tick, top + 76, left + tick, top + 79), frame)
            mask = ink[digit].resize((2 * ink[digit].width, 2 * ink[digit].height))
            picture.paste(Image.new("RGB", mask.size, strokes), (left + 18, top + 18), mask)
    return picture


@pytest.mark.parametrize(
    "row",
    [
        "felt pen on black checks, near a side",
        "five digits, each in a box",
        "screenshot of a drawing program",
    ],
)
def test_paper_forms_and_programs(reader: Reader, row: str) -> None:
    assert scenes.share_right(scenes.pictures(row, 20, seed=3), reader) == 1.0


@pytest.mark.parametrize("rise", [-17, -11, 6, 17])
def test_ruled_lines_that_rise_are_taken_out(
    reader: Reader, ink: dict[int, Image.Image], rise: int
) -> None:
    for digit in (2, 4, 7):
        picture, _ = written(ink, [(digit, (20, 90))], (400, 300), times=7)
        for top in range(-20, 320, 45):
            ImageDraw.Draw(picture).line((0, top, 400, top - rise), fill=90, width=3)
        assert read(reader, picture).number == str(digit)


def test_a_stroke_that_ends_before_the_side_is_no_line() -> None:
    picture = Image.new("L", (224, 224), 255)
    ImageDraw.Draw(picture).rectangle((108, 8, 112, 198), fill=0)
    for turned in (picture, picture.rotate(180), picture.rotate(90)):
        assert len(find_digits(turned)) == 1  # it raises where no ink is left


def test_a_bar_along_the_side_keeps_its_corner() -> None:
    mask = np.zeros((224, 224), bool)
    mask[1:8, 4:150] = mask[1:200, 4:13] = True  # of a 5, say
    assert np.array_equal(paper.without_lines(mask), mask)


def test_a_0_with_corners_is_no_frame() -> None:
    picture = Image.new("L", (300, 400), 0)
    ImageDraw.Draw(picture).rectangle((60, 50, 240, 350), outline=255, width=36)
    seen = find_digits(picture.filter(ImageFilter.GaussianBlur(3)))
    assert np.abs(np.subtract(seen[0].box, (60, 50, 240, 350))).max() <= 10


def test_a_dark_canvas_of_a_window_is_a_sheet(reader: Reader, ink: dict[int, Image.Image]) -> None:
    for digit in (0, 2, 3, 4, 7):
        window = Image.new("RGB", (380, 420), "lemonchiffon")
        draw = ImageDraw.Draw(window)
        draw.rectangle((0, 0, 380, 55), "hotpink")
        for left in range(10, 330, 80):
            draw.rectangle((left, 385, left + 60, 410), "rosybrown", "gray")
        draw.rectangle((15, 70, 365, 360), "black")
        window.paste("white", (220, 190), ink[digit].resize([7 * n for n in ink[digit].size]))
        assert read(reader, window).number == str(digit)


def test_a_digit_in_two_frames_is_one(reader: Reader, ink: dict[int, Image.Image]) -> None:
    picture, _ = written(ink, [(5, (90, 90))], (240, 260), times=4)
    for margin in (20, 32):
        box = (margin, margin, 240 - margin, 260 - margin)
        ImageDraw.Draw(picture).rectangle(box, outline=0, width=3)
    assert read(reader, picture).number == "5"


def test_a_wide_table_of_one_row_is_a_sheet(reader: Reader, ink: dict[int, Image.Image]) -> None:
    digits = [7, 2, 1, 0, 4, 9, 5]
    picture, _ = written(ink, [(d, (55 + 90 * i, 50)) for i, d in enumerate(digits)], (710, 160))
    draw = ImageDraw.Draw(picture)
    for i in range(7):
        draw.rectangle((40 + 90 * i, 35, 130 + 90 * i, 125), outline=0, width=2)
    assert read(reader, picture).number == "7210495"


@pytest.mark.parametrize("colours", [("black", "white", "black"), ("white", "black", "black")])
def test_panels_of_a_plot_are_read_in_their_order_without_its_titles(
    reader: Reader, ink: dict[int, Image.Image], colours: tuple[str, str, str]
) -> None:
    rows = [[7, 2, 1, 0, 4], [9, 5, 3, 6, 8]]
    reading = read(reader, plotted(ink, rows, colours))
    assert reading.number == "7210495368"
    assert not reading.doubt
    left, top, right, bottom = reading.digits[6].box  # of the 5
    assert 130 < left < right < 206
    assert 150 < top < bottom < 226
    assert read(reader, plotted(ink, [[2, 7]], colours)).number == "27"


def test_a_ground_and_strokes_that_both_differ_from_what_is_around(
    reader: Reader, ink: dict[int, Image.Image]
) -> None:
    colours = ("#440154", "#fde725", "#440154")  # the ends of Matplotlib's viridis
    assert read(reader, plotted(ink, [[7, 2, 0, 4]], colours)).number == "7204"


def test_a_panel_without_a_digit_is_said(reader: Reader, ink: dict[int, Image.Image]) -> None:
    ink[1] = ink[1].transpose(Image.Transpose.ROTATE_90)  # a dash
    reading = read(reader, plotted(ink, [[7, 1, 4]], ("black", "white", "black")))
    assert reading.doubt


def test_a_small_panel_beside_a_digit_does_not_hide_it(
    reader: Reader, ink: dict[int, Image.Image]
) -> None:
    picture, _ = written(ink, [(7, (120, 60))], (300, 300), times=8)
    for top in (20, 70):  # icons
        ImageDraw.Draw(picture).rectangle((20, top, 50, top + 30), 0)
        ImageDraw.Draw(picture).ellipse((28, top + 8, 42, top + 22), 255)
    assert "7" in read(reader, picture).number


def test_a_tilted_sheet_is_straightened_though_what_is_on_it_is_small(
    reader: Reader, ink: dict[int, Image.Image]
) -> None:
    digits = [(digit, (500 + 90 * at, 470)) for at, digit in enumerate([4, 7, 3, 9])]
    sheet, _ = written(ink, digits, (1400, 1000), times=4)
    table = Image.new("L", (2000, 1800), 60)
    table.paste(sheet.rotate(30, expand=True, fillcolor=60), (100, 100))
    reading = read(reader, table)
    assert reading.number == "4739"
    assert not reading.doubt


def test_thick_strokes_are_no_sheets(reader: Reader) -> None:
    rng = np.random.default_rng(0)
    for _ in range(4):
        values = np.full((200, 220), 230.0)
        for left in (40, 140):
            values[40:161, left : left + 27] = 40
        noisy = (values + rng.normal(0, 8, values.shape)).clip(0, 255).astype(np.uint8)
        boxes = [seen.box for seen in find_digits(Image.fromarray(noisy))]
        assert np.abs(np.subtract(boxes, [(40, 40, 67, 161), (140, 40, 167, 161)])).max() <= 2


# What a reading is made of


def digit(
    name: int, start: int, stop: int, *, sure: float = 0.9, is_digit: float = 0.9, line: int = 0
) -> Digit:
    image = np.zeros((28, 28), np.uint8)
    box = (10 * start, 0, 10 * stop, 10)
    probabilities = [(1 - sure) / 9] * 10
    probabilities[name] = sure
    candidate = Candidate(line, start, stop, image, box, likely=1.0)
    return Digit(candidate, probabilities, is_digit)


def test_of_other_classes_the_likeliest_piece_is_read_wherever_it_is() -> None:
    clothes = Reader(load_classifier(BUNDLED)[0], is_mnist=False).eval()
    places = [digit(1, 0, 1).candidate, replace(digit(7, 1, 2).candidate, likely=2.0, cuts=1)]
    (found,) = clothes.read([places])
    assert found.main.box == places[1].box


def test_the_best_path_takes_every_piece_once() -> None:
    whole = digit(8, 0, 2, is_digit=0.1)
    halves = [digit(1, 0, 1), digit(3, 1, 2)]
    assert best_path([halves[0], whole, halves[1]])[1] == halves
    whole = digit(0, 0, 2, sure=0.8)
    assert best_path([halves[0], whole, digit(1, 1, 2, is_digit=0.3)])[1] == [whole]


def test_in_a_line_with_a_digit_most_is_one_and_nothing_is_left_out_in_silence() -> None:
    likely, unlikely = digit(7, 1, 2, is_digit=0.4), digit(7, 1, 2, is_digit=0.01)
    lines = [digit(4, 0, 1), likely, digit(2, 0, 1, line=1)]
    assert reading(chosen(lines))[::2] == (lines, "")
    lines[1] = unlikely
    found = reading(chosen(lines))
    assert (found.number, found.doubt) == ("42", NOT_ALL)
    lines[1] = unlikely._replace(candidate=replace(unlikely.candidate, line=2))  # a title, say
    found = reading(chosen(lines))
    assert (found.number, found.doubt) == ("42", "")


def test_what_could_be_another_digit_is_named() -> None:
    unsure = digit(4, 0, 1, sure=0.4)
    unsure.probabilities[9] = 0.39
    assert reading([unsure]).doubt == "4 could be 9 as well"
    assert reading([unsure]).number == "4"
    assert reading([digit(4, 0, 1, sure=0.2)]).number == "4"  # of an ensemble that disagrees, say
