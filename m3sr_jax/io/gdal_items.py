"""GDAL's metadata of an image: the tag GDAL_METADATA of a TIFF, and the sidecar NAME.EXT.aux.xml of any file.

Source: GDAL's documentation of the GTiff driver (tags 42112 and 42113) and of persistent auxiliary metadata (PAM).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

GDAL_METADATA, GDAL_NODATA = 42112, 42113
MAX_SIDECAR_BYTES = 2**24
WHOLE_FILE = -1
# Elements of a band in a sidecar, and the role that the tag gives to the same declaration.
_ROLES = {
    "Scale": "scale",
    "Offset": "offset",
    "UnitType": "unittype",
    "NoDataValue": "nodata",
    "Description": "description",
    "ColorInterp": "colorinterp",
}


class Item(NamedTuple):
    """One declaration.

    Attributes:
        name: as the file spells it.
        role: "scale", "offset", "unittype", "nodata", "description", "colorinterp", or "" for other metadata.
        band: counted from 0; `WHOLE_FILE` for the whole image.
        text: its value.
    """

    name: str
    role: str
    band: int
    text: str


def tag_items(path: Path, page: Any) -> list[Item]:
    """Returns the declarations of a TIFF page's private tags.

    Raises:
        InputError: the metadata are not valid XML.
    """
    found = []
    if (nodata := page.tags.get(GDAL_NODATA)) is not None:
        found.append(Item("GDAL_NODATA", "nodata", WHOLE_FILE, str(nodata.value).strip("\0 ")))
    tag = page.tags.get(GDAL_METADATA)
    text = "" if tag is None else str(tag.value).strip("\0 \n")
    if not text:
        return found
    try:
        for item in plain_xml(path, "GDAL_METADATA", text):
            band = int(item.get("sample", WHOLE_FILE))
            found.append(Item(item.get("name", ""), item.get("role", ""), band, (item.text or "").strip()))
    except ValueError as error:
        raise InputError(f"{path}: found GDAL_METADATA with a sample that is no number; expected items") from error
    return found


def sidecar_items(path: Path) -> list[Item]:
    """Returns the declarations of NAME.EXT.aux.xml beside a file, which GDAL and QGIS write; none if there is none.

    Raises:
        InputError: the sidecar is damaged.
    """
    sidecar = path.with_name(f"{path.name}.aux.xml")
    if not sidecar.is_file():
        return []
    with reading(sidecar, "a GDAL sidecar"), sidecar.open("rb") as file:
        root = plain_xml(sidecar, "a sidecar", file.read(MAX_SIDECAR_BYTES).decode())
        found = list(_metadata(root, WHOLE_FILE))
        for band in root.iter("PAMRasterBand"):
            number = int(band.get("band", "0")) - 1
            found += [
                Item(f"{sidecar.name}: {child.tag}", _ROLES[child.tag], number, (child.text or "").strip())
                for child in band
                if child.tag in _ROLES
            ]
            found += _metadata(band, number)
    return found


def refuse_mask(path: Path) -> None:
    """Refuses a cube beside which NAME.EXT.msk lies, GDAL's mask of missing pixels.

    Raises:
        InputError: there is such a file.
    """
    if (mask := path.with_name(f"{path.name}.msk")).is_file():
        raise InputError(f"{path}: {mask.name} beside it is a mask, which cannot be applied; remove it or set no-data")


def _metadata(parent: Element, band: int) -> Iterator[Item]:
    """Yields the metadata of the default domain, ENVI's and IMAGERY: others do not concern the numbers."""
    for group in parent.findall("Metadata"):
        if group.get("domain", "") in ("", "ENVI", "IMAGERY"):
            for item in group.findall("MDI"):
                yield Item(item.get("key", ""), "", band, (item.text or "").strip())


def plain_xml(path: Path, what: str, text: str) -> Element:
    """Parses XML from an untrusted file.

    Raises:
        InputError: it is not valid, or has a document type, whose entities could expand without end.
    """
    from xml.etree import ElementTree

    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"{path}: found {what} with a document type; expected plain items")
    try:
        return ElementTree.fromstring(text.strip("\0 \n"))
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: found {what} that is not valid XML ({error}); expected items") from error
