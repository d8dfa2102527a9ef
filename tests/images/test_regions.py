"""Regions in XMP, such as faces, stay where they are in the picture when it is turned upright and enlarged.

exiftool writes and reads them, and Pillow turns the pictures in which they are painted.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from support.reading import lost

from gsrcli.images import Fate, Picture, read_picture, regions, with_fate, write_picture
from gsrcli.size import Size

pytestmark = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")

WIDTH, HEIGHT = 80, 60
LEFT, TOP, RIGHT, BOTTOM = 20, 9, 28, 21  # of the face, in pixels


def face() -> np.ndarray:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[TOP:BOTTOM, LEFT:RIGHT] = 255
    return pixels


def box_of(pixels: np.ndarray) -> list[float]:
    """Return left, top, width and height of what is painted, in parts of the picture's sides."""
    height, width = pixels.shape[:2]
    rows, columns = np.nonzero(pixels[..., 0] > 128)
    across, down = (columns.min(), columns.max() + 1), (rows.min(), rows.max() + 1)
    return [across[0] / width, down[0] / height, np.ptp(across) / width, np.ptp(down) / height]


def exiftool(*arguments: object) -> str:
    command = ["exiftool", "-q", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def put_regions(path: Path, unit: str = "normalized") -> None:
    """Let exiftool write the face as three programs do, into a file or a packet alone."""
    x, y, w, h = box_of(face())
    area = f"{{X={x + w / 2},Y={y + h / 2},W={w},H={h},Unit={unit}}}"
    exiftool(
        "-overwrite_original",
        f"-RegionInfo={{AppliedToDimensions={{W={WIDTH},H={HEIGHT},Unit=pixel}},RegionList=[{{Name=A,Area={area}}}]}}",
        f"-RegionInfoMP={{Regions=[{{PersonDisplayName=A,Rectangle={x}|, {y}|, {w}|, {h}}}]}}",
        f"-ImageRegion=[{{Name=A,RegionBoundary={{RbShape=rectangle,RbUnit=relative,RbX={x},RbY={y},RbW={w},RbH={h}}}}}]",
        path,
    )


def regions_of(path: Path) -> dict[str, Any]:
    (found,) = json.loads(exiftool("-j", "-struct", "-RegionInfo", "-RegionInfoMP", "-ImageRegion", path))
    return found


def assert_at(found: dict[str, Any], box: list[float], size: Size) -> None:
    """Assert that both kinds of regions are where the face is, in a picture of a size."""
    info = found["RegionInfo"]
    assert info["AppliedToDimensions"] == {"W": size.width, "H": size.height, "Unit": "pixel"}
    (region,) = info["RegionList"]
    assert region["Name"] == "A"
    x, y, w, h = (region["Area"][name] for name in "XYWH")
    assert [x - w / 2, y - h / 2, w, h] == pytest.approx(box, abs=1e-6)
    (person,) = found["RegionInfoMP"]["Regions"]
    assert [float(part) for part in person["Rectangle"].split(",")] == pytest.approx(box, abs=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_are_turned_with_the_picture(tmp_path: Path, orientation: int) -> None:
    path, out = tmp_path / "in.jpg", tmp_path / "out.png"
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    Image.fromarray(face()).save(path, quality=100, exif=tags)
    put_regions(path)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    picture = read_picture(path)
    larger = picture.pixels.repeat(2, axis=0).repeat(2, axis=1)
    write_picture(picture.enlarged(larger), out)
    found = regions_of(out)
    assert_at(found, box_of(shown), Size.of(larger))
    turned = orientation > 1
    assert ("ImageRegion" in found) == (not turned)
    assert lost(picture) == ["image regions of the picture before it was turned"] * turned


def packet(unit: str = "normalized") -> bytes:
    """Build a packet in the short form that Lightroom writes, with other prefixes than usual."""
    x, y, w, h = box_of(face())
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:r="http://www.metadataworkinggroup.com/schemas/regions/"
 xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:a="http://ns.adobe.com/xmp/sType/Area#"
 xmlns:p="http://ns.microsoft.com/photo/1.2/" xmlns:i="http://ns.microsoft.com/photo/1.2/t/RegionInfo#"
 xmlns:m="http://ns.microsoft.com/photo/1.2/t/Region#" xmlns:t="http://ns.adobe.com/xap/1.0/t/pg/">
<t:MaxPageSize d:w="1" d:h="2" d:unit="inch"/>
<r:Regions rdf:parseType="Resource"><r:AppliedToDimensions d:w='{WIDTH}' d:h = "{HEIGHT}" d:unit="pixel"/>
<r:RegionList><rdf:Bag><rdf:li><rdf:Description r:Name="A"><r:Area a:x="{x + w / 2}" a:y="{y + h / 2}" a:w="{w}"
 a:h="{h}" a:unit="{unit}"/></rdf:Description></rdf:li></rdf:Bag></r:RegionList></r:Regions>
<p:RegionInfo rdf:parseType="Resource"><i:Regions><rdf:Bag><rdf:li m:PersonDisplayName="A"
 m:Rectangle="{x}, {y}, {w}, {h}"/></rdf:Bag></i:Regions></p:RegionInfo>
</rdf:Description></rdf:RDF></x:xmpmeta>""".encode()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_all_formats_and_forms(tmp_path: Path, suffix: str) -> None:
    path, out = tmp_path / f"in{suffix}", tmp_path / "out.xmp"
    if suffix == ".png":
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        Image.fromarray(face()).save(path, exif=exif)
    else:
        Image.fromarray(face()).save(path)
        exiftool("-overwrite_original", "-n", "-Orientation=6", path)
    (tmp_path / "in.xmp").write_bytes(packet())
    exiftool("-overwrite_original", "-tagsfromfile", tmp_path / "in.xmp", "-XMP:all", path)
    picture = read_picture(path)
    out.write_bytes(picture.metadata.xmp or b"")
    assert_at(regions_of(out), box_of(picture.pixels), Size(WIDTH, HEIGHT))
    assert lost(picture) == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_nothing_else_of_a_packet_changes(tmp_path: Path, orientation: int) -> None:
    """The short form, and another measure in the same structure; turning back gives the same."""
    out = tmp_path / "out.xmp"
    turned = regions.turned_regions(packet(), orientation)
    out.write_bytes(turned)
    pixels = face()[..., :1]
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels[..., 0]).save(tmp_path / "in.png", exif=tags)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "in.png")))[..., None]
    assert_at(regions_of(out), box_of(shown), Size.of(shown))
    assert b'<t:MaxPageSize d:w="1" d:h="2" d:unit="inch"/>' in turned
    back = regions.turned_regions(turned, {6: 8, 8: 6}.get(orientation, orientation))
    out.write_bytes(back)
    assert_at(regions_of(out), box_of(pixels), Size(HEIGHT, WIDTH))
    assert len(back) == pytest.approx(len(packet()), abs=20)


def test_regions_in_unknown_units_are_lost(tmp_path: Path) -> None:
    path = tmp_path / "in.tif"
    Image.fromarray(face()).save(path, tiffinfo={274: 6, 700: packet("pixel")})
    picture = read_picture(path)
    assert regions.kinds_of_regions(picture.metadata.xmp or b"") == set()
    assert lost(picture) == ["image regions of the picture before it was turned"]
    Image.fromarray(face()).save(path, tiffinfo={274: 1, 700: packet("pixel")})
    upright = read_picture(path)
    assert (upright.metadata.xmp, lost(upright)) == (packet("pixel"), [])


def test_regions_of_iptc_in_pixels_are_enlarged(tmp_path: Path) -> None:
    """Rectangles, circles and polygons, but nothing that is relative."""
    path, out = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(face()).save(path)
    boundaries = [
        "{RbShape=rectangle,RbUnit=pixel,RbX=20,RbY=9,RbW=8,RbH=12}",
        "{RbShape=circle,RbUnit=pixel,RbX=24,RbY=15,RbRx=4.5}",
        "{RbShape=polygon,RbUnit=pixel,RbVertices=[{RbX=20,RbY=9},{RbX=28,RbY=9},{RbX=20,RbY=21}]}",
        "{RbShape=rectangle,RbUnit=relative,RbX=0.25,RbY=0.15,RbW=0.1,RbH=0.2}",
    ]
    written = ",".join(f"{{RegionBoundary={boundary}}}" for boundary in boundaries)
    exiftool("-overwrite_original", f"-ImageRegion=[{written}]", path)
    picture = read_picture(path)
    write_picture(picture.enlarged(picture.pixels.repeat(3, axis=0).repeat(2, axis=1)), out)
    rectangle, circle, polygon, relative = (r["RegionBoundary"] for r in regions_of(out)["ImageRegion"])
    assert [rectangle[name] for name in ("RbX", "RbY", "RbW", "RbH")] == [40, 27, 16, 36]
    assert [circle[name] for name in ("RbX", "RbY", "RbRx")] == [48, 45, 9]
    assert [(v["RbX"], v["RbY"]) for v in polygon["RbVertices"]] == [(40, 27), (56, 27), (40, 63)]
    assert [relative[name] for name in ("RbX", "RbY", "RbW", "RbH")] == [0.25, 0.15, 0.1, 0.2]


@pytest.mark.parametrize(
    "broken",
    [
        b"<x:xmpmeta>",
        packet().replace(b'a:x="', b'a:x="some'),
        packet().replace(b'a:x="', b'a:x="1e99999999'),
        packet().replace(b'Rectangle="', b'Rectangle="1, '),
        packet().replace(b"<r:Area", b"<b>" * 100 + b"</b>" * 100 + b"<r:Area"),
        packet().replace(b"<t:MaxPageSize", b'<t:Other d:w="1"/>' * 20_000 + b"<t:MaxPageSize", 1),
    ],
)
def test_broken_regions_do_no_harm(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "in.tif"
    Image.fromarray(face()).save(path, tiffinfo={274: 6, 700: broken})
    picture = read_picture(path)
    assert isinstance(picture, Picture)
    assert b"Rectangle" not in (picture.metadata.xmp or b"")
    assert not with_fate(Fate.DAMAGED, picture.ledger)
