"""What a biologist does: open the UI, choose the demo sample, materialise it, read its report.

Screenshots are kept in the folder that `VIRNUC_SCREENSHOTS` names, if it is set.
"""

import os
import re
import shutil
from pathlib import Path

import pytest

from virnuc_assets.demo import sample
from virnuc_assets.mini import bundled
from virnuc_assets_tests import untrained
from virnuc_assets_tests.dagster.platform import VIRNUC, Platform

pytestmark = [pytest.mark.slow, pytest.mark.platform]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
GROUP = "virnuc"
ASSETS = (
    *("sequence_index", "esm2_embeddings", "dnabert_s_embeddings"),
    *("predictions", "sample_report", "cohort_summary"),
)
ANSWER_MS = 30_000


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """A platform on the bundled model, with the demo sample and no automation."""
    platform = Platform(tmp_path_factory.mktemp("platform"))
    for setting in untrained.settings():
        del platform.environ[setting]
    platform.start()
    try:
        platform.stop_sensor("automation")
        platform.run(VIRNUC, "samples", "add", sample.FASTA)
        yield platform
    finally:
        platform.stop()


@pytest.fixture(scope="module")
def page():
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install '.[platform]'")
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with sync_api.sync_playwright() as playwright:
        # Root has no sandbox.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(ANSWER_MS)
        yield page
        browser.close()


@pytest.fixture
def picture(page, tmp_path):
    """Take a screenshot of what the page shows."""
    folder = Path(os.environ.get("VIRNUC_SCREENSHOTS") or tmp_path)

    def take(name, **options):
        page.screenshot(path=folder / f"{name}.png", **options)

    return take


def test_a_sample_is_materialised_by_clicks_and_its_report_opened(platform, page, picture):
    home = f"http://127.0.0.1:{platform.port}"

    # Lineage, right click on the group, Materialize assets.
    page.goto(home)
    page.locator("a[href='/asset-groups']").click()
    page.get_by_text(GROUP, exact=True).first.click(button="right")
    page.get_by_role("menuitem", name=f"Materialize assets ({len(ASSETS)})").click()

    # Which sample: demo. Launch. (Until it knows the assets, the dialog asks for a shard too.)
    choice = page.get_by_text("Select a partition or create one")
    platform.until("the dialog asks for a sample alone", lambda: choice.count() == 1)
    choice.click()
    page.get_by_role("menuitem", name="demo").click()
    page.keyboard.press("Escape")
    picture("launch")
    page.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("Created backfill").wait_for()
    page.get_by_text("View", exact=True).click()

    # Its page says how far each asset is, and in the end that all are done.
    done = page.get_by_text("100% completed")
    platform.until("all assets are done", lambda: done.count() == len(ASSETS))
    assert platform.all_runs_succeeded()
    picture("backfill")

    # The graph of the group shows every asset with something in it.
    page.set_viewport_size({"width": 1400, "height": 900})
    page.goto(f"{home}/locations/virnuc_assets/asset-groups/{GROUP}/lineage")
    for asset in ASSETS:
        page.get_by_text(asset, exact=True).first.wait_for()
    filled = page.get_by_text("100% filled")
    platform.until("what is filled is shown", lambda: filled.count() == len(ASSETS) - 1)
    picture("asset_graph", clip={"x": 290, "y": 320, "width": 1060, "height": 370})

    # The report's asset says where the report lies.
    page.goto(f"{home}/assets/sample_report?view=partitions&partition=demo")
    report = platform.layout.report("demo") / "report.html"
    page.get_by_text(str(report)).wait_for()
    picture("report_asset")

    page.set_viewport_size({"width": 1000, "height": 1100})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    assert bundled.NAME in page.inner_text("body")
    assert re.search(r"\bdemo\b", page.inner_text("h1"))
    picture("report")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
