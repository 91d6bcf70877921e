"""For mkdocs: what lies beside docs/ and is shown too. Pages link it as `../<path>`, which a checkout shows as well.

So is the live page of docs/browser.md, in place of docs/demo/, where it was made.
"""

from pathlib import Path

from mkdocs.structure.files import File

BESIDE = {  # path in the checkout -> path in the site
    "weights/predict.jpg": "pictures/predict.jpg",
    "weights/README.md": "shipped_weights.md",
    "conf/recipe/README.md": "recipes.md",
    "conf/study/README.md": "studies.md",
    "CONTRIBUTING.md": "contribute.md",
    "CHANGELOG.md": "changelog.md",
}
ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo"  # what tools/export.py weights=multitask_shapes format=web out=demo wrote, if it was called


def on_files(files, config):
    for path, place in BESIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    for path in DEMO.iterdir() if (DEMO / "model.json").is_file() else ():
        file = File.generated(config, f"demo/{path.name}", abs_src_path=str(path))
        if said_how := files.get_file_from_path(file.src_uri):  # in its place
            files.remove(said_how)
        files.append(file)
    return files


def on_page_markdown(markdown, **_):
    for path, place in BESIDE.items():
        markdown = markdown.replace(f"](../{path}", f"]({place}")
    for docs in ("](docs/", "](../docs/", "](../../docs/"):  # of what lies beside docs/, at the root or folders below
        markdown = markdown.replace(docs, "](")
    return markdown
