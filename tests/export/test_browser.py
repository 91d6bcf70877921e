"""The page of format=web in headless Chromium: it sees what Python sees, and asks nobody else."""

import base64
import io
import json
import shutil
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from mnv2_tasks.config.compose import compose
from mnv2_tasks.data.images.decode import decode_image
from mnv2_tasks.data.images.fit import MODES, Fit
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.demo.server import page_server
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.export import export
from mnv2_tasks.export.onnxruntime_web import FILES, runtime_files
from mnv2_tasks.prediction.predictor import fit_picture, predict_images
from mnv2_tasks.runtimes.exported import Exported

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]  # playwright's pipes

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium: apt-get install chromium", allow_module_level=True)

LEAST = 0.4
FEW = ["data.source.val_size=8", "count=8"]
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
MODULES = """
  const [{ fit }, { load }, { decoded, pixelsOf }] = await Promise.all(
    ["fit.js", "model.js", "pictures.js"].map((file) => import(new URL(file, location))));
  const inBase64 = (bytes) => {  // numbers one by one would take a minute
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return btoa(text);
  };
  const bitmap = await decoded(await (await fetch(address)).blob());
  const picture = pixelsOf(bitmap, bitmap.width, bitmap.height);
"""
FITTED = (
    f"async ([address, input]) => {{ {MODULES}"
    + """
  const { pixels, ...where } = fit(picture, input);
  return { ...where, pixels: inBase64(pixels) };
}"""
)
SEEN = (
    f"async (address) => {{ {MODULES}"
    + """
  globalThis.model ??= await load();
  const { results } = await globalThis.model.predict(picture);
  const size = [picture.height, picture.width];
  return results.map(({ classMap, ...others }) => (classMap ? { ...others, map: inBase64(classMap(size)) } : others));
}"""
)


@pytest.fixture(scope="module")
def ort(tmp_path_factory):
    """A folder with onnxruntime-web."""
    folder = tmp_path_factory.mktemp("ort")
    try:
        files = runtime_files(None)
    except ConfigError as error:
        pytest.skip(f"no npm, or no network for it: {error}")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def exported_to(ort):
    def exported(folder, *arguments):
        words = ["weights=multitask_shapes", "format=web", f"ort={ort}", f"out={folder}"]
        return export(compose("export", [*words, *arguments, *FEW]))

    return exported


@pytest.fixture(scope="module")
def folder(exported_to, tmp_path_factory):
    return exported_to(tmp_path_factory.mktemp("web") / "demo")


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Site:
    """A folder that is served, and pages that look at it; what goes wrong in them is kept."""

    def __init__(self, browser, folder, server):
        self.browser, self.folder = browser, folder
        self.address = f"http://127.0.0.1:{server.server_address[1]}/"
        self.wrong, self.requests = [], []

    def page(self, **context):
        page = self.browser.new_context(**context).new_page()
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(self.address)
        return page

    def ready(self, **context):
        page = self.page(**context)
        page.locator("#status", has_text="Ready").wait_for()
        return page


@pytest.fixture
def site_of(chromium):
    """folder -> Site."""
    servers = []

    def site(folder):
        servers.append(page_server(folder, 0))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return Site(chromium, folder, servers[-1])

    yield site
    for context in chromium.contexts:
        context.close()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site(site_of, folder):
    return site_of(folder)


@pytest.fixture
def changed(folder, tmp_path):
    """settings of the input -> a folder whose page fits pictures so."""

    def change(**settings):
        copy = shutil.copytree(folder, tmp_path / "changed")
        about = json.loads((copy / "model.json").read_text())
        about["input"].update(settings)
        (copy / "model.json").write_text(json.dumps(about))
        return copy

    return change


def png(image):
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def scene(number, width, height):
    """A scene, squeezed."""
    return Image.fromarray(draw_scene(0, "val", number, 200).image).resize((width, height), Image.Resampling.BICUBIC)


def noise(width, height):
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))


PICTURES = {
    "as large as the input": scene(1, 97, 97),
    "wide": scene(2, 300, 151),
    "high": scene(3, 90, 260),
    "small": scene(4, 40, 33),
    "large": scene(5, 1700, 1100),
    "noise": noise(211, 307),
    "noise, twice as large": noise(194, 194),
    "a row": noise(50, 1),
    "grey": scene(0, 120, 100).convert("L"),
    "palette": scene(7, 120, 140).convert("P"),
}


def bytes_of(text):
    return np.frombuffer(base64.b64decode(text), np.uint8)


def read(content):
    return decode_image(content, "a picture")


def upload(page, picture, name="picture.png"):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": png(picture)})


def handed(page, picture):
    """An address of a picture that is not in the folder."""
    page.context.route("**/given.png", lambda route: route.fulfill(body=png(picture), content_type="image/png"))
    return "given.png"


def fit_of(mode):
    resize = 120 if mode == "centre_crop" else None
    return Fit(mode=mode, size=97, resize=resize, fill=[123.675, 116.28, 103.53])


# ---------------------------------------------------------------- it sees what Python sees


@pytest.mark.parametrize("mode", MODES)
def test_input_is_pythons_within_two_grey_levels(mode, site):
    page, fit = site.ready(bypass_csp=True), fit_of(mode)
    about = {"size": fit.size, "fit": mode, "resize": fit.resize, "fill": fit.fill.tolist(), "frame": 1600}
    for name, picture in PICTURES.items():
        theirs = page.evaluate(FITTED, [handed(page, picture), about])
        ours = fit_picture(read(png(picture)), fit)
        assert theirs["size"] == list(ours.fitted.image.shape[:2]), name
        assert theirs["content"] == list(ours.fitted.content_size), name
        assert theirs["offset"] == list(ours.fitted.offset) and theirs["frame"] == list(ours.frame_size), name
        pixels = bytes_of(theirs["pixels"]).astype(int).reshape(ours.fitted.image.shape)
        assert np.abs(pixels - ours.fitted.image).max() <= 2, name


def same_results(seen, found, image):
    """Of a picture, in the page and by Python: labels and counts, boxes within a pixel, nearly all of the mask."""
    by_task = {result["task"]: result for result in seen}
    best = by_task["classification"]["best"]
    assert [row["label"] for row in best[:1]] == [int(found["classification"].argmax())]
    assert best[0]["score"] == pytest.approx(float(found["classification"].max()), abs=0.02)
    boxes = [row for row in by_task["ssdlite"]["boxes"] if row["score"] >= LEAST]
    kept = found["ssdlite"].scores >= LEAST
    expected = list(zip(found["ssdlite"].labels[kept].tolist(), found["ssdlite"].boxes[kept].tolist()))
    assert sorted(row["label"] for row in boxes) == sorted(label for label, _ in expected)
    for row in boxes:  # of nearly equal scores, the one or the other is first
        same = [pair for pair in expected if pair[0] == row["label"] and row["box"] == pytest.approx(pair[1], abs=1)]
        assert same, (row, expected)
        expected.remove(same[0])
    mask = bytes_of(by_task["mobile_deeplabv3"]["map"]).reshape(image.shape[:2])
    assert (mask == found["mobile_deeplabv3"]).mean() >= 0.995
    return len(boxes)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "pad"])
def test_results_are_pythons(mode, site_of, changed):
    fit = fit_of(mode)
    site = site_of(changed(fit=mode, resize=fit.resize))
    page, exported = site.ready(bypass_csp=True), Exported(site.folder / "model.onnx")
    boxes = 0
    for name in ("as large as the input", "wide", "high", "small", "large", "grey"):
        image = read(png(PICTURES[name]))
        (found,) = predict_images(exported, [image], fit)
        boxes += same_results(page.evaluate(SEEN, handed(page, PICTURES[name])), found, image)
    assert boxes >= 3 and not site.wrong


@pytest.fixture(scope="module")
def segmenter(exported_to, tmp_path_factory):
    return exported_to(tmp_path_factory.mktemp("padded") / "demo", "task=mobile_deeplabv3", "input.fit=pad")


def test_padded_pictures_of_any_size_are_segmented_as_by_python(segmenter, site_of):
    site = site_of(segmenter)
    page, exported = site.ready(bypass_csp=True), Exported(segmenter / "model.onnx")
    for name in ("small", "wide", "noise"):
        image = read(png(PICTURES[name]))
        (found,) = predict_images(exported, [image], fit_of("pad"))
        (seen,) = page.evaluate(SEEN, handed(page, PICTURES[name]))
        mask = bytes_of(seen["map"]).reshape(image.shape[:2])
        assert (mask == found["mobile_deeplabv3"]).mean() >= 0.995, name
    assert page.locator("#threshold").is_hidden()  # there are no boxes


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_files_run_too(precision, exported_to, site_of, tmp_path):
    site = site_of(exported_to(tmp_path / "demo", f"precision={precision}"))
    page, exported = site.ready(bypass_csp=True), Exported(site.folder / "model.onnx")
    image = read(png(PICTURES["as large as the input"]))
    (found,) = predict_images(exported, [image], fit_of("square"))
    assert same_results(page.evaluate(SEEN, handed(page, PICTURES["as large as the input"])), found, image)


# ---------------------------------------------------------------- what a visitor does


def test_picture_is_chosen_and_all_tasks_of_the_file_are_told(site):
    page = site.ready()
    upload(page, PICTURES["wide"])
    page.locator("#canvas").wait_for()
    (found,) = predict_images(Exported(site.folder / "model.onnx"), [read(png(PICTURES["wide"]))], fit_of("square"))
    names = json.loads((site.folder / "model.json").read_text())["tasks"][0]["class_names"]
    rows = page.locator("#task-classification li")
    assert rows.count() == 5 and names[int(found["classification"].argmax())] in rows.first.inner_text()
    assert page.locator("#task-ssdlite li .value").count() == int((found["ssdlite"].scores >= LEAST).sum())
    assert page.locator("#task-mobile_deeplabv3 li").count() == len(np.unique(found["mobile_deeplabv3"]))
    said = page.locator("#status").inner_text()
    assert "Class: " in said and "Areas: background" in said
    assert said in page.locator("#canvas").get_attribute("aria-label")
    assert [row.split(" ")[0] for row in page.locator("#times div").all_inner_texts()][0].startswith("reading")
    assert len(page.locator("#times dd").all()) == 4 and not site.wrong


def test_picture_is_dropped(site):
    page = site.ready(bypass_csp=True)
    transfer = page.evaluate_handle(
        """async () => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([await (await fetch("example_1.png")).blob()], "example_1.png", { type: "image/png" }));
          return transfer;
        }"""  # noqa: E501
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    page.locator("#canvas").wait_for()
    assert "Class: " in page.locator("#status").inner_text()


def test_threshold_chooses_among_the_boxes_and_a_task_can_be_hidden(site):
    page = site.ready()
    upload(page, PICTURES["large"])
    page.locator("#canvas").wait_for()

    def boxes_at(least):
        page.locator("#least").fill(str(least))
        return page.locator("#task-ssdlite li .value").count()

    counts = [boxes_at(least) for least in (0, 40, 99, 100)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[1] > 0 and counts[3] == 0
    assert page.locator("#least-value").inner_text() == "1.00"
    assert "No object scores 100.0\xa0% or more" in page.locator("#status").inner_text()
    boxes_at(0)
    before = page.locator("#canvas").screenshot()
    page.locator("#task-ssdlite input").uncheck()
    assert page.locator("#canvas").screenshot() != before


def test_camera_is_looked_at_until_it_is_stopped(site):
    page = site.ready(permissions=["camera"])
    camera = page.get_by_role("button", name="Camera")
    camera.click()
    page.locator("#canvas").wait_for()
    stop = page.get_by_role("button", name="Stop the camera")
    assert stop.get_attribute("aria-pressed") == "true"
    first = page.locator("#times").inner_text()
    page.wait_for_timeout(1500)
    assert page.locator("#times").inner_text() != first  # another picture
    stop.click()
    assert camera.get_attribute("aria-pressed") == "false" and not site.wrong


def test_everything_is_reached_by_the_keyboard(site):
    page = site.ready()
    page.locator("#examples button").first.click()
    page.locator("#canvas").wait_for()
    page.locator("#examples button").first.evaluate("element => element.blur()")
    page.locator("body").press("Tab")
    reached = []
    for _ in range(30):
        reached.append(page.locator(":focus").evaluate_all("found => found.map((e) => e.id || e.type)"))
        page.keyboard.press("Tab")
    flat = {name for names in reached for name in names}
    assert {"file", "camera", "least", "checkbox", "button"} <= flat
    unnamed = page.locator("input, button, canvas").evaluate_all(
        "all => all.filter((e) => !(e.labels?.length || e.textContent || e.ariaLabel || e.querySelector('img[alt]')))"
        ".map((e) => e.outerHTML)"
    )
    assert not unnamed


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_of_a_narrow_screen_and_text_can_be_read(width, scheme, site):
    page = site.ready(viewport={"width": width, "height": 700}, color_scheme=scheme)
    upload(page, PICTURES["wide"])
    page.locator("#canvas").wait_for()
    assert page.locator("html").evaluate("e => e.scrollWidth") <= width
    for selector in ("body", "#hint", "#camera", "label.button", "#task-classification li", "#times"):
        ink, ground = page.locator(selector).first.evaluate(
            """element => {
              const ground = (e) => { const c = getComputedStyle(e).backgroundColor; return c === "rgba(0, 0, 0, 0)" ? ground(e.parentElement) : c; };
              return [getComputedStyle(element).color, ground(element)].map((c) => c.match(/[\\d.]+/g).slice(0, 3).map(Number));
            }"""  # noqa: E501
        )
        assert contrast(ink, ground) >= 4.5, (selector, ink, ground)  # WCAG 2, AA


def contrast(*colours):
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(colour) / 255]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_no_request_leaves_the_folder(site):
    page = site.ready(permissions=["camera"])
    page.locator("#examples button").first.click()
    page.locator("#canvas").wait_for()
    assert len(site.requests) > 8 and all(address.startswith(site.address) for address in site.requests)
    assert not site.wrong


def test_policy_of_the_page_stops_requests_to_others(site):
    page = site.ready()
    assert page.evaluate("() => fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'stopped')") == "stopped"
    assert any("Content Security Policy" in message for message in site.wrong)


# ---------------------------------------------------------------- what goes wrong


def test_camera_that_is_refused_is_said_with_the_way_out(site):
    page = site.ready()
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); }"
    )
    page.reload()
    page.locator("#status", has_text="Ready").wait_for()
    page.locator("#camera").click()
    page.get_by_role("alert").get_by_text("The camera was refused. Allow it").wait_for()
    assert page.locator("#camera").get_attribute("aria-pressed") == "false"


def test_address_without_https_says_that_the_camera_needs_it(site):
    page = site.ready()
    page.add_init_script("Object.defineProperty(navigator, 'mediaDevices', { value: undefined });")
    page.reload()
    page.locator("#status", has_text="Ready").wait_for()
    page.locator("#camera").click()
    page.get_by_role("alert").get_by_text("Serve this folder by HTTPS").wait_for()


def test_file_that_is_no_picture_is_named_and_the_next_one_is_shown(site):
    page = site.ready()
    page.set_input_files("#file", {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.get_by_role("alert").get_by_text("notes.png is no picture").wait_for()
    upload(page, PICTURES["small"])
    page.locator("#canvas").wait_for()
    assert page.get_by_role("alert").is_hidden()


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda folder: (folder / "model.json").unlink(), "There is no model.json beside this page"),
        (lambda folder: (folder / "model.json").write_text("{}"), "is not one of ours"),
        (lambda folder: (folder / "model.json").write_text("no JSON"), "is not one of ours"),
        (lambda folder: (folder / "model.json").write_text('{"made_by": "mnv2_tasks", "page": 99}'), "of page 99"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx cannot be fetched"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"half"), "model.onnx cannot be run"),
        (lambda folder: (folder / FILES[1]).unlink(), "model.onnx cannot be run"),
    ],
)
def test_folder_that_is_not_whole_says_what_to_do(damage, message, folder, site_of, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    page = site_of(copy).page()
    page.get_by_role("alert").get_by_text(message).wait_for()
    assert page.locator("#status").inner_text() == "The network could not be loaded."
    assert page.locator("#file").is_disabled()
