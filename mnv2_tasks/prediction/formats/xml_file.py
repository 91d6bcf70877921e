"""XML in which strangers' names stand."""

import re
from pathlib import Path
from xml.etree import ElementTree

from mnv2_tasks.whole_files import write_text
from mnv2_tasks.wording import visible

NO_XML = re.compile("[\ufffe\uffff]")  # beside control characters and halves of surrogate pairs, which `visible` knows


def write_xml(path: Path, root: ElementTree.Element) -> None:
    """ElementTree escapes what XML can hold; what it cannot is written as \\x1b."""
    for element in root.iter():
        element.text = element.text and _legal(element.text)
        for name, value in element.attrib.items():
            element.set(name, _legal(value))
    ElementTree.indent(root)
    write_text(path, f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n')


def _legal(text: str) -> str:
    return NO_XML.sub("\ufffd", visible(text))
