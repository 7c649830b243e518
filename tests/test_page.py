"""The page, in a real browser: drawn on with mouse, pen, finger and keys.

UPDATE_SCREENSHOT=1 python -m pytest tests/test_page.py -k screenshot    # docs/page.png
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps
from selenium import webdriver
from selenium.webdriver import Keys
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from mnist_cnn.checkpoints.files import BUNDLED
from mnist_cnn.data import MNISTDataModule
from tests.conftest import ROOT
from tests.support.handwriting import BETWEEN_4_AND_9, DIGITS, Stroke
from tests.support.servers import Server, png

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium", "chromedriver")]
#: Taken from a clipboard, or dropped, as a browser hands it to a page.
GIVE_FILE = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], "digit.png", { type: "image/png" }));
const event = arguments[1] === "paste"
  ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
  : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
document.getElementById("pad").dispatchEvent(event);
"""
PIXELS_OF = """
const canvas = document.getElementById(arguments[0]);
return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
"""


class Page:
    """The page as its user sees it.

    Args:
        url: Of the server.
        driver: The browser.
    """

    def __init__(self, url: str, driver: webdriver.Chrome) -> None:
        self.url, self.driver = url, driver

    def open(
        self, path: str = "/", width: int = 1200, height: int = 940, dark: bool = False
    ) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1.5, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(self.url + path)

    def __getitem__(self, name: str) -> WebElement:
        return self.driver.find_element(By.ID, name)

    def text(self, name: str) -> str:
        return self[name].text

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Any, seconds: float = 20) -> None:
        WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: condition())

    def draw(self, strokes: list[Stroke], kind: str = "mouse") -> None:
        """Draw as somebody would, with a `kind` of mouse, pen or touch."""
        box = self["pad"].rect
        top = self.run("return window.scrollY")
        for stroke in strokes:
            actions = ActionBuilder(self.driver, mouse=PointerInput(kind, kind), duration=8)
            for number, (x, y) in enumerate(stroke):
                place = (
                    round(box["x"] + x * box["width"]),
                    round(box["y"] - top + y * box["height"]),
                )
                actions.pointer_action.move_to_location(*place)
                if number == 0:
                    actions.pointer_action.pointer_down()
            actions.pointer_action.pointer_up()
            actions.perform()

    def expect(self, digit: int) -> None:
        self.wait(lambda: self.text("digit") == str(digit))

    def pixels(self, canvas: str) -> list[int]:
        """Red, green, blue and opacity of each pixel, one after the other."""
        return self.run(PIXELS_OF, canvas)

    def percents(self) -> list[float]:
        script = "return [...document.querySelectorAll('#bars .percent')].map((e) => e.innerText)"
        return [float(text.rstrip("%")) for text in self.run(script)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(BUNDLED) as running:
        yield running


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as chromium:
        yield chromium


@pytest.fixture
def page(server: Server, driver: webdriver.Chrome) -> Iterator[Page]:
    """The page, freshly opened; at the end, the browser must have had nothing to complain of."""
    opened = Page(server.url, driver)
    opened.open()
    yield opened
    log = driver.get_log("browser")
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []
    hosts = opened.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith((server.url, "blob:", "data:")) for name in hosts)


@pytest.mark.parametrize("digit", range(10))
def test_it_reads_a_digit_while_it_is_drawn(page: Page, digit: int) -> None:
    page.draw(DIGITS[digit], kind=("mouse", "pen", "touch")[digit % 3])
    page.expect(digit)
    percents = page.percents()
    assert len(percents) == 10
    assert max(percents) == percents[digit] > 50
    assert 99 < sum(percents) <= 100
    page.wait(lambda: page.text("status").startswith(f"{digit}, "))
    seen = page.pixels("seen")[::4]
    assert max(seen) > 200
    assert sum(value == 0 for value in seen) > 400


def test_the_answer_comes_before_the_pen_is_lifted(page: Page) -> None:
    box = page["pad"].rect
    actions = ActionBuilder(page.driver, duration=20)
    for number, (x, y) in enumerate(DIGITS[1][0]):
        actions.pointer_action.move_to_location(
            round(box["x"] + x * box["width"]), round(box["y"] + y * box["height"])
        )
        if number == 0:
            actions.pointer_action.pointer_down()
    actions.perform()
    page.expect(1)
    actions.clear_actions()


def test_undo_takes_back_a_stroke_and_clear_all(page: Page) -> None:
    assert not page["undo"].is_enabled()
    page.draw(DIGITS[5])  # body, then hat
    page.expect(5)
    page["undo"].click()
    strokes = page.pixels("pad")
    page.draw(DIGITS[1])
    page["clear"].click()
    assert page.text("digit") == "?"
    assert not any(page.pixels("pad"))
    page["undo"].click()  # what was cleared
    page["undo"].click()  # the one
    page.wait(lambda: page.pixels("pad") == strokes)
    page["pad"].send_keys(Keys.CONTROL, "z")
    page.wait(lambda: page.text("digit") == "?")
    assert not page["undo"].is_enabled()


def test_it_can_be_drawn_on_with_keys_alone(page: Page) -> None:
    page.driver.switch_to.active_element.send_keys(Keys.TAB)
    pad = page.driver.switch_to.active_element
    assert pad.get_attribute("id") == "pad"
    assert page.run("return getComputedStyle(arguments[0]).outlineStyle", pad) == "solid"
    pad.send_keys(Keys.SPACE, *[Keys.ARROW_DOWN] * 20, Keys.SPACE)
    page.expect(1)
    pad.send_keys(*[Keys.ARROW_UP] * 20)  # the pen is lifted: nothing is drawn
    drawn = [*[Keys.ARROW_LEFT] * 12, Keys.SPACE, *[Keys.ARROW_RIGHT] * 12, Keys.SPACE]
    pad.send_keys(*drawn)
    page.expect(7)
    pad.send_keys(Keys.DELETE)
    page.wait(lambda: page.text("digit") == "?")


@pytest.mark.parametrize("way", ["chosen", "paste", "drop"])
def test_a_picture_can_be(page: Page, way: str, mnist: MNISTDataModule, tmp_path: Path) -> None:
    image, label = mnist.test_set.images[0], int(mnist.test_set.labels[0])
    picture = ImageOps.invert(Image.fromarray(image.numpy())).resize((196, 196))
    picture.save(tmp_path / "digit.png")
    if way == "chosen":
        page["file"].send_keys(str(tmp_path / "digit.png"))
    else:
        page.run(GIVE_FILE, base64.b64encode((tmp_path / "digit.png").read_bytes()).decode(), way)
    page.expect(label)
    page["undo"].click()
    page.wait(lambda: page.text("digit") == "?")


def test_an_mnist_image_is_seen_as_it_is(
    page: Page, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    image = mnist.test_set.images[3]
    (tmp_path / "digit.png").write_bytes(png(image))
    page["file"].send_keys(str(tmp_path / "digit.png"))
    page.expect(int(mnist.test_set.labels[3]))
    assert page.pixels("seen")[::4] == image.flatten().tolist()


def test_what_each_pixel_contributed_is_shown_on_request(page: Page) -> None:
    page.draw(DIGITS[4])
    page.expect(4)
    assert not any(page.pixels("contributions"))
    page["explain"].click()
    page.wait(lambda: any(page.pixels("contributions")))
    assert page["explain"].get_attribute("aria-pressed") == "true"
    reds, blues = (page.pixels("contributions")[channel::4] for channel in (0, 2))
    more_red = sum(r > b + 60 for r, b in zip(reds, blues, strict=True))
    assert more_red > 20  # the accent speaks for it
    assert "speaks for 4" in (page["contributions"].get_attribute("aria-label") or "")
    page["explain"].click()
    page.wait(lambda: not any(page.pixels("contributions")))


def test_it_asks_for_the_key_where_one_is_set(driver: webdriver.Chrome) -> None:
    with Server(BUNDLED, MNIST_CNN_API_KEY="secret") as guarded:
        page = Page(guarded.url, driver)
        page.open()
        for key in ("wrong", "secret"):
            page.wait(lambda: page["key-dialog"].is_displayed())
            page["key"].send_keys(key, Keys.ENTER)
        page.wait(lambda: "RecordCNN" in page.text("model"))
        page.draw(DIGITS[2])
        page.expect(2)
    driver.get_log("browser")  # forget the 401s


def test_it_says_what_is_wrong(page: Page, tmp_path: Path) -> None:
    (tmp_path / "white.png").write_bytes(png(Image.new("L", (40, 40), 255)))  # type: ignore[arg-type]
    page["file"].send_keys(str(tmp_path / "white.png"))
    page.wait(lambda: "no ink" in page.text("notice"))
    (tmp_path / "text.png").write_text("no picture")
    page["file"].send_keys(str(tmp_path / "text.png"))
    page.wait(lambda: "not a picture" in page.text("notice"))
    page.draw(DIGITS[3])
    page.expect(3)
    assert not page["notice"].is_displayed()
    errors = page.driver.get_log("browser")
    assert all("422" in error["message"] for error in errors)


def test_it_fits_a_phone(page: Page) -> None:
    page.open(width=390, height=844)
    assert page.run("return document.documentElement.scrollWidth") == 390
    page.draw(DIGITS[2], kind="touch")
    page.expect(2)
    assert page.run("return window.scrollY") == 0  # the finger drew, and did not scroll
    digit = page["digit"].rect
    assert digit["y"] + digit["height"] < 844  # seen without scrolling
    buttons = page.driver.find_elements(By.CSS_SELECTOR, ".tools button")
    shown = [button for button in buttons if button.is_displayed()]
    assert len(shown) >= 3
    assert all(button.size["height"] >= 44 for button in shown)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_its_colours_can_be_told_apart(page: Page, dark: bool) -> None:
    page.open(dark=dark)
    style = "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0])"
    colours = {name: page.run(style, f"--{name}") for name in ("ground", "paper", "ink", "muted")}
    assert (luminance(colours["ground"]) < 0.1) == dark
    for text in ("ink", "muted"):
        for ground in ("ground", "paper"):
            assert contrast(colours[text], colours[ground]) >= 4.5  # WCAG 2, level AA
    page.draw(DIGITS[8])
    page.expect(8)


def luminance(colour: str) -> float:
    """Of #rrggbb, as WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_everything_has_a_name_for_screen_readers(page: Page) -> None:
    for element in page.driver.find_elements(By.CSS_SELECTOR, "button, canvas, input, ol, section"):
        assert element.accessible_name or not element.is_displayed(), element.get_attribute("id")
    assert page["status"].aria_role == "status"
    assert page["pad"].aria_role == "application"


def test_the_documentation_needs_no_network(page: Page) -> None:
    page.open("/docs")
    blocks = ".opblock-summary-path"
    page.wait(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, blocks)) == 4)
    assert "/predict" in page.driver.find_element(By.TAG_NAME, "body").text


def number(digits: str, size: float = 0.55) -> list[Stroke]:
    """The strokes of a number, written in a row."""
    step = 0.9 / len(digits)
    return [
        [(0.05 + step * (i + 0.5) + size * (x - 0.5), 0.5 + size * (y - 0.5)) for x, y in stroke]
        for i, digit in enumerate(digits)
        for stroke in DIGITS[int(digit)]
    ]


ZIGZAG: list[Stroke] = [
    [(0.15, 0.2), (0.3, 0.8), (0.42, 0.2), (0.55, 0.8), (0.68, 0.2), (0.8, 0.8), (0.9, 0.2)]
]


def accented(page: Page) -> int:
    """Pixels of the pad in the colour that marks digits."""
    red, green, blue = (page.pixels("pad")[channel::4] for channel in range(3))
    return sum(r > b + 60 and r > g + 40 for r, g, b in zip(red, green, blue, strict=True))


def test_a_number_is_read_and_its_digits_are_marked(page: Page) -> None:
    page.draw(DIGITS[2])
    page.expect(2)
    assert not accented(page)
    page["clear"].click()
    page.draw(number("26"))
    page.expect(26)
    page.wait(lambda: accented(page) > 500)
    page.wait(lambda: page.text("status").startswith("26, "))


def test_what_is_no_digit_is_called_so(page: Page) -> None:
    page.draw(ZIGZAG)
    page.wait(lambda: "does not look like a digit" in page.text("confidence"))
    assert page.text("digit") == "?"


def test_a_phone_takes_a_photograph_and_crops_it_by_finger(
    page: Page, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    touch = "Emulation.setTouchEmulationEnabled"
    page.driver.execute_cdp_cmd(touch, {"enabled": True, "maxTouchPoints": 1})
    try:
        page.open(width=390, height=844, dark=True)
        assert page["camera"].is_displayed()
        assert page["photo"].get_attribute("capture") == "environment"
        assert not page["crop"].is_displayed()
        picture = Image.new("L", (400, 300), 255)
        for index, left in ((0, 40), (1, 230)):  # a 7, and a 2
            digit = ImageOps.invert(Image.fromarray(mnist.test_set.images[index].numpy()))
            picture.paste(digit.resize((140, 140)), (left, 80))
        picture.save(tmp_path / "photograph.png")
        page["photo"].send_keys(str(tmp_path / "photograph.png"))
        page.expect(72)
        page["crop"].click()
        page.draw([[(0.55, 0.25), (0.7, 0.5), (0.95, 0.75)]], kind="touch")
        page.expect(2)
        assert page["crop"].get_attribute("aria-pressed") == "false"
        page["undo"].click()
        page.expect(72)
    finally:
        page.driver.execute_cdp_cmd(touch, {"enabled": False})


def test_screenshot(page: Page, tmp_path: Path) -> None:
    folder = ROOT / "docs" if os.environ.get("UPDATE_SCREENSHOT") else tmp_path

    def save(name: str, size: tuple[int, int]) -> None:
        page.run("document.activeElement.blur()")
        page.driver.save_screenshot(str(folder / name))
        with Image.open(folder / name) as picture:
            assert picture.size == size

    page.draw(BETWEEN_4_AND_9)
    page["explain"].click()
    page.wait(lambda: any(page.pixels("contributions")))
    save("page.png", (1800, 1410))
    page["clear"].click()
    page.draw(number("2026", 0.4))
    page.expect(2026)
    page.wait(lambda: accented(page) > 500)
    save("page-number.png", (1800, 1410))
    page["clear"].click()
    page.draw(ZIGZAG)
    page.wait(lambda: "does not look like a digit" in page.text("confidence"))
    save("page-doubt.png", (1800, 1410))
    page.open(width=390, height=844, dark=True)
    page.draw(DIGITS[7], kind="touch")
    page.expect(7)
    save("page-phone.png", (585, 1266))
