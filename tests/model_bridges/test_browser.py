"""The report in a real browser: the slider moves, and all numbers, images and bars move with it."""

import base64
import shutil

import numpy as np
import pytest
from test_answers import LEVELS, curve, frames

from gmm_speciation.reporting.report import Report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the extra `browser`")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,1400"):
        options.add_argument(word)
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """A report of two curves and two images, opened."""
    folder = tmp_path_factory.mktemp("report")
    report = Report("In a browser").explore({"model": curve(), "theory": curve(1.1)}, frames())
    report.table(["claim", "holds"], [["a", "yes"]]).write(folder, {})
    browser.get((folder / "report.html").as_uri())
    return browser


def value(page, row, column):
    return page.find_element(
        "css selector", f".values tbody tr:nth-child({row}) td:nth-child({column})"
    ).text


def drawn(page, number):
    """The pixels of the n-th canvas, red, green and blue."""
    code = """const c = document.querySelectorAll("canvas")[arguments[0]];
    return Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data);"""
    return np.array(page.execute_script(code, number)).reshape(4, 5, 4)[..., :3].transpose(2, 0, 1)


def expect(page, level):
    """Everything on the page is that of one level."""
    for row, one in enumerate((curve(), curve(1.1)), start=1):
        for column, estimate in ((2, one.entropy), (3, one.rate)):
            shown = value(page, row, column).replace("−", "-").split(" ± ")
            assert float(shown[0]) == pytest.approx(float(estimate.value[level]), rel=1e-3)
            assert float(shown[1]) == pytest.approx(float(estimate.half_width()[level]), rel=6e-2)
    given = frames()
    for image in range(2):
        np.testing.assert_array_equal(drawn(page, 2 * image), given.noisy[image, level])
        np.testing.assert_array_equal(drawn(page, 2 * image + 1), given.denoised[image, level])
    bars = [float(one.text) for one in page.find_elements("css selector", ".bar b")]
    np.testing.assert_allclose(bars, given.posterior[:, level].ravel(), atol=0.006)
    sigma = page.find_element("css selector", "output").text
    assert float(sigma.split("=")[1].split(",")[0]) == pytest.approx(
        np.exp(-LEVELS[level] / 2), rel=1e-3
    )


def test_the_page_opens_at_the_peak_without_errors(page):
    expect(page, int(np.argmax(curve().rate.value)))
    severe = [one for one in page.get_log("browser") if one["level"] == "SEVERE"]
    assert severe == []
    requests = page.execute_script("return performance.getEntriesByType('resource').length")
    assert requests == 0  # nothing is loaded


def test_the_keyboard_moves_the_slider(page):
    from selenium.webdriver.common.keys import Keys

    slider = page.find_element("css selector", "input[type=range]")
    slider.send_keys(Keys.HOME)
    expect(page, 0)
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    expect(page, 2)
    slider.send_keys(Keys.END)
    expect(page, len(LEVELS) - 1)
    assert (
        slider.get_attribute("aria-valuetext") == page.find_element("css selector", "output").text
    )


def test_the_pointer_reads_the_nearest_level(page):
    from selenium.webdriver.common.action_chains import ActionChains

    drawing = page.find_element("css selector", "svg.curves")
    width = drawing.size["width"]
    for level in (1, 6):
        at = width * (46 + 534 * level / (len(LEVELS) - 1)) / 600 - width / 2
        ActionChains(page).move_to_element_with_offset(drawing, round(at), 10).perform()
        expect(page, level)


def test_verdicts_fold(page):
    table = page.find_element("css selector", "details table")
    assert not table.is_displayed()
    page.find_element("css selector", "summary").click()
    assert table.is_displayed()


def test_a_narrow_screen_is_not_scrolled_sideways(page, browser):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 400
        assert base64.b64decode(browser.get_screenshot_as_base64())[:4] == b"\x89PNG"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
