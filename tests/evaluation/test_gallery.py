from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from gsrcli.evaluation.cases import Case, Result
from gsrcli.evaluation.gallery.archive import Comparison, Gallery
from gsrcli.evaluation.gallery.page import render

VOID = {"meta", "link", "img", "input", "br", "hr"}


@dataclass
class Element:
    """An element of a page: a tree that only knows what html.parser says."""

    name: str
    attributes: Mapping[str, str | None] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    def walk(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, name: str, css: str | None = None) -> list[Element]:
        return [
            each
            for each in self.walk()
            if each.name == name and (css is None or css in (each.attributes.get("class") or "").split())
        ]

    def one(self, name: str, css: str | None = None) -> Element:
        (element,) = self.all(name, css)
        return element

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def picture(self) -> np.ndarray:
        """The pixels of an img with a data URI."""
        source = self.attributes["src"] or ""
        kind, content = source.split(",", 1)
        assert kind == "data:image/webp;base64"
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as image:
            assert image.mode == "RGB"
            return np.asarray(image)


class Page(HTMLParser):
    """Parse a page and insist that every element is closed where it should be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = Element("")
        self.open = [self.root]
        self.feed(page)
        self.close()
        assert self.open == [self.root], "elements left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag} has an attribute twice"
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def noise(*shape: int, seed: int = 0, least: int = 0, most: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(least, most, shape, dtype=np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a picture that compresses like a photograph: soft shapes and a little noise."""
    coarse = Image.fromarray(noise(height // 8 + 1, width // 8 + 1, 3, seed=seed))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(soft + np.random.default_rng(seed).integers(-4, 5, soft.shape), 0, 255).astype(np.uint8)


def case_of(
    original: np.ndarray,
    restored: Mapping[str, np.ndarray],
    name: str = "parrot",
    scale: tuple[float, float] = (2.0, 2.0),
) -> Case:
    size = (round(original.shape[1] / scale[1]), round(original.shape[0] / scale[0]))
    low = np.asarray(Image.fromarray(original).resize(size, Image.Resampling.BICUBIC))
    return Case("birds", name, scale, original, low, restored)


def results_of(case: Case, **scores: float) -> list[Result]:
    size, low = case.original.shape[:2], case.low.shape[:2]
    return [
        Result(
            case.dataset,
            case.picture,
            model,
            case.scale,
            low,
            size,
            {"psnr": 30.0 + n, **scores},
            0.25,
            2**20 * n or None,
        )
        for n, model in enumerate(case.restored)
    ]


def summary_of(rows: list[Result], **changes: Any) -> dict[str, Any]:
    """Return data like a report's."""
    means = [
        {"dataset": row.dataset, "model": row.model, "scale": list(row.scale), "pictures": 1, "scores": row.scores}
        for row in rows
    ]
    return {
        "protocol": {
            "name": "rgb",
            "rounded": True,
            "scales": [[2.0, 2.0]],
            "precision": [],
            "datasets": {"birds": {"pictures": 2, "license": None}, "bees": {"pictures": 3}},
        },
        "environment": {"device": "abacus", "date": "2001-02-03T04:05:06+00:00"},
        "means": means,
        "published": [],
        "rows": [{name: value for name, value in vars(row).items() if value is not None} for row in rows],
        "failures": [],
        "notes": ["one note"],
    } | changes


def page_of(*cases: Case, budget: int = 60_000_000, **changes: Any) -> str:
    gallery = Gallery(budget)
    for case in cases:
        gallery.add(case, results_of(case))
    return render(gallery, summary_of([row for case in cases for row in results_of(case)], **changes))


def parse(page: str) -> Element:
    return Page(page).root


def two_models(seed: int = 0, size: tuple[int, int] = (90, 120), name: str = "parrot") -> Case:
    original = smooth(*size, seed=seed)
    blurred = np.asarray(Image.fromarray(original).resize((size[1] // 2, size[0] // 2)).resize(size[::-1]))
    return case_of(original, {"keen": original // 2 + blurred // 2, "dull": blurred}, name)


def windows(article: Element) -> list[tuple[int, int]]:
    """Return left and top of an article's crops."""
    found = [re.fullmatch(r"At \((\d+), (\d+)\)", heading.text) for heading in article.all("h4")]
    return [(int(match[1]), int(match[2])) for match in found if match]


def test_well_formed_and_complete() -> None:
    page = parse(page_of(two_models(), two_models(1, name="finch")))
    ids = [element.attributes["id"] for element in page.walk() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    links = [element.attributes["href"] for element in page.all("a")]
    assert {"#shot-1", "#shot-2"} <= set(links) <= {f"#{id_}" for id_ in ids}
    assert page.one("html").attributes["lang"] == "en"
    assert all(image.attributes["alt"] for image in page.all("img"))
    labelled = [control for label in page.all("label") for control in label.walk()]
    controls = page.all("select") + page.all("input")
    assert controls
    assert all(any(control is each for each in labelled) for control in controls)
    assert all(button.text.strip() for button in page.all("button"))
    facts = [element.text for element in page.one("div", "facts").walk() if element.name in ("dt", "dd")]
    assert facts == [
        *("name", "rgb", "rounded", "yes", "scales", "×2", "datasets", "birds: pictures: 2; bees: pictures: 3"),
        *("device", "abacus", "date", "2001-02-03T04:05:06+00:00"),
    ]
    assert page.one("ul", "notes").text == "one note"
    assert page.one("title").text == page.one("h1").text == "keen and dull on birds at ×2"


def test_makes_no_network_requests() -> None:
    text = page_of(two_models())
    page = parse(text)
    for element in page.walk():
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (element.attributes.get(name) or "#").startswith(("#", "data:"))
    written = re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"""https?:|["'(=]\s*//\w|@import|url\(|fetch\(|XMLHttpRequest|import\(""", written)
    (policy,) = (meta for meta in page.all("meta") if meta.attributes.get("http-equiv") == "Content-Security-Policy")
    assert (policy.attributes["content"] or "").startswith("default-src 'none'; img-src data:;")


EVIL = """</script><script>alert("1")</script>'&amp;$title"""


def test_escapes_every_text() -> None:
    harmless = two_models()
    original = harmless.original
    case = Case(
        EVIL + "d", EVIL + "p", (2.0, 3.0), original, harmless.low, {EVIL + "m": original, EVIL + "n": original // 2}
    )
    texts = {
        "protocol": {EVIL: EVIL, "scales": []},
        "environment": {EVIL: [EVIL, {"a": EVIL}]},
        "notes": [EVIL],
        "failures": [{"dataset": EVIL, "picture": EVIL, "model": EVIL, "message": EVIL}],
    }
    page = parse(page_of(case, **texts))
    assert len(page.all("script")) == 1
    assert EVIL not in page.one("script").text
    notes, failures = page.all("ul", "notes")
    assert notes.text == EVIL
    assert failures.text == f"{EVIL}/{EVIL}, {EVIL}: {EVIL}"
    article = page.one("article")
    assert article.attributes["data-picture"] == EVIL + "p"
    assert f"{EVIL}d / {EVIL}p ×2x3" in article.text
    assert [option.text for option in article.all("select")[0].all("option")] == [
        "LR, nearest", "bicubic", EVIL + "m", EVIL + "n", "original",
    ]  # fmt: skip


def test_full_pictures_are_exact() -> None:
    case = two_models()
    article = parse(page_of(case)).one("article")
    images = article.one("div", "canvas").all("img")
    bicubic = np.asarray(Image.fromarray(case.low).resize((120, 90), Image.Resampling.BICUBIC))
    expected = [case.low, bicubic, case.restored["keen"], case.restored["dull"], case.original]
    assert len(images) == len(expected)
    for image, picture in zip(images, expected, strict=True):
        np.testing.assert_array_equal(image.picture, picture)
    assert [image.attributes.get("class") for image in images] == ["low", "left", "right", None, None]
    assert article.one("span", "quality").text == "lossless"


def test_a_bicubic_that_was_scored_is_the_one_shown() -> None:
    original = smooth(64, 64)
    restored = {"keen": original, "bicubic": original // 3}
    article = parse(page_of(case_of(original, restored))).one("article")
    images = article.one("div", "canvas").all("img")
    assert len(images) == 4
    np.testing.assert_array_equal(images[1].picture, original // 3)


def test_bicubic_alone_is_compared_with_the_original() -> None:
    original = smooth(64, 64)
    article = parse(page_of(case_of(original, {"bicubic": original // 2 + 7}))).one("article")
    selected = [option.text for option in article.all("option") if "selected" in option.attributes]
    assert selected == ["bicubic", "original"]
    assert article.one("section", "crop").one("p").text.startswith("bicubic is off by ")


def test_crops_show_where_two_models_differ_then_where_all_err() -> None:
    original = smooth(200, 260, seed=3)
    same = original.copy()
    same[120:150, 20:50] ^= 128  # both err here
    keen, dull, odd = same.copy(), same.copy(), same.copy()
    dull[30:60, 180:210] = 255 - dull[30:60, 180:210]  # most of all
    odd[150:170, 130:150] = 255 - odd[150:170, 130:150]
    case = case_of(original, {"keen": keen, "dull": dull, "odd": odd})
    article = parse(page_of(case)).one("article")
    places = windows(article)
    planted = [(180, 30, 30), (130, 150, 20), (20, 120, 30)]
    for (x, y), (left, top, side) in zip(places, planted, strict=True):
        assert left + side - 48 <= x <= left
        assert top + side - 48 <= y <= top
    reasons = [crop.one("p").text for crop in article.all("section", "crop")]
    assert reasons[0].startswith("keen and dull differ by ")
    assert reasons[1].startswith("keen and odd differ by ")
    assert re.fullmatch(r"even keen is off by [\d.]+ of 255 on average", reasons[2])

    pictures = {"keen": keen, "dull": dull, "odd": odd, "original": original}
    nearest = original.shape[1::-1]
    pictures["LR, nearest"] = np.asarray(Image.fromarray(case.low).resize(nearest, Image.Resampling.NEAREST))
    for (x, y), crop in zip(places, article.all("section", "crop"), strict=True):
        part = np.s_[y : y + 48, x : x + 48]
        figures = crop.all("figure")
        assert [figure.all("span")[0].text for figure in figures] == [
            "LR, nearest", "bicubic", "keen", "dull", "odd", "original",
        ]  # fmt: skip
        for figure in figures:
            label, quality = (span.text for span in figure.all("span"))
            if label in pictures:
                np.testing.assert_array_equal(figure.one("img").picture, pictures[label][part])
            if label in ("keen", "dull", "odd"):
                equal = np.array_equal(original[part], pictures[label][part])
                expected = math.inf if equal else peak_signal_noise_ratio(original[part], pictures[label][part])
                assert quality == ("∞" if equal else f"{expected:.2f} dB")
            if label == "original":
                assert quality == ""


def test_interpolations_do_not_count_beside_two_models() -> None:
    original = smooth(150, 150)
    keen = original.copy()
    keen[100:120, 100:120] ^= 64
    far = dict.fromkeys(("bicubic", "lanczos", "nearest"), 255 - original)
    both = parse(page_of(case_of(original, {"keen": keen, "dull": original, **far}))).one("article")
    assert [crop.one("p").text.split(" differ")[0] for crop in both.all("section", "crop")] == ["keen and dull"]
    one = parse(page_of(case_of(original, {"keen": keen, **far}))).one("article")
    assert one.all("section", "crop")[0].one("p").text.startswith("bicubic and keen differ")


def test_the_first_crop_is_the_highest_window() -> None:
    """It is compared with every window, summed one by one."""
    first, second = noise(70, 61, 3, seed=1), noise(70, 61, 3, seed=2)
    case = case_of(noise(70, 61, 3), {"first": first, "second": second})
    difference = np.abs(first.astype(float) - second)
    means = {(x, y): difference[y : y + 48, x : x + 48].mean() for y in range(70 - 48 + 1) for x in range(61 - 48 + 1)}
    best = max(means, key=lambda place: means[place])
    article = parse(page_of(case)).one("article")
    assert windows(article)[0] == best
    assert f"differ by {means[best]:.1f} of 255" in article.all("section", "crop")[0].text


def test_crops_do_not_overlap_and_equal_models_have_none_by_difference() -> None:
    original = smooth(150, 150)
    same = original // 2
    article = parse(page_of(case_of(original, {"one": same, "two": same}))).one("article")
    places = windows(article)
    assert len(places) == 3
    assert all("is off by" in crop.one("p").text for crop in article.all("section", "crop"))
    assert all(abs(a[0] - b[0]) >= 48 or abs(a[1] - b[1]) >= 48 for n, a in enumerate(places) for b in places[:n])


def test_perfect_models_leave_nothing_to_show() -> None:
    original = smooth(64, 64)
    page = parse(page_of(case_of(original, {"one": original, "two": original.copy()})))
    assert not page.all("section", "crop")
    assert "All pictures are lossless." in page.text


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (30, 500)])
def test_small_pictures(size: tuple[int, int]) -> None:
    original = noise(*size, 3)
    case = Case("birds", "wren", (3.0, 1.5), original, original[:1, :1], {"one": original // 2, "two": original // 3})
    article = parse(page_of(case)).one("article")
    crop = article.all("section", "crop")[0].all("img")[-1].picture
    assert crop.shape == (min(48, size[0]), min(48, size[1]), 3)


def test_the_best_is_bold() -> None:
    def row(model: str, scale: float, **scores: float) -> dict[str, Any]:
        return {"dataset": "birds", "model": model, "scale": [scale, scale], "pictures": 3, "scores": scores}

    means = [
        row("a", 2, psnr=30.001, ssim=0.9, lpips=0.2),
        row("a", 3, psnr=math.inf),
        row("b", 2, psnr=30.004, ssim=0.8, lpips=0.1),  # shown as equal to a's
        row("c", 2, psnr=29.0, ssim=0.7, dists=0.3),
        row("b", 3, psnr=28.0),
        row("a", 4, psnr=20.0),  # has no rival
    ]
    page = parse(render(Gallery(), summary_of([], means=means)))
    table = page.all("table")[0]
    assert [element.text for element in table.all("b")] == ["30.00", "0.9000", "30.00", "0.1000", "0.3000", "∞"]
    headings = [heading.text for heading in table.all("th")]
    assert headings == ["Dataset", "Scale", "Pictures", "Model", "PSNR", "SSIM", "LPIPS", "DISTS"]
    cells = [[cell.text for cell in tr.all("td")] for tr in table.all("tr")[1:]]
    assert cells[0] == ["birds", "×2", "3", "a", "30.00", "0.9000", "0.2000", ""]
    assert [line[3] for line in cells] == ["a", "b", "c", "a", "b", "a"]  # groups stay together
    values = [tr.all("td")[4].attributes["data-value"] for tr in table.all("tr")[1:]]
    assert values == ["30.001", "30.004", "29.0", "Infinity", "28.0", "20.0"]


def test_a_page_without_scores() -> None:
    failure = {"dataset": "birds", "picture": "owl", "message": "cannot be read"}
    page = parse(render(Gallery(), summary_of([], failures=[failure], notes=["nothing could be scored."])))
    assert page.one("h1").text == "Nothing could be scored"
    assert page.all("ul", "notes")[1].text == "birds/owl: cannot be read"


def test_published_means_and_failures() -> None:
    case = two_models()
    means = summary_of(results_of(case))["means"]
    means[0]["published"] = {"psnr": 33.333}
    quoted = {"dataset": "birds", "model": "theirs", "scale": (2.0, 2.0), "scores": {"psnr": 32.5}, "source": "a paper"}
    failures = [
        {"dataset": "birds", "picture": "owl", "scale": (2.0, 3.0), "model": "keen", "message": "memory ran out"},
        {"dataset": "birds", "picture": "ostrich", "message": "cannot be read"},
    ]
    page = parse(page_of(case, means=means, published=[quoted], failures=failures))
    table = page.all("table")[0]
    assert [[cell.text for cell in tr.all("td")] for tr in table.all("tr")[1:]] == [
        ["birds", "×2", "1", "keen", "30.00", "33.33"],
        ["birds", "×2", "1", "dull", "31.00", ""],
        ["birds", "×2", "published", "theirs", "32.50", ""],
    ]
    assert [element.text for element in table.all("b")] == ["32.50"]
    assert [item.text for item in page.all("ul", "notes")[1].all("li")] == [
        "birds/owl ×2x3, keen: memory ran out",
        "birds/ostrich: cannot be read",
    ]


def test_budget() -> None:
    cases = [two_models(seed, size=(160, 240), name=f"bird{seed}") for seed in range(3)]
    everything = embedded(page_of(*cases))
    order = ["lossy", "lossless", "crops", "bare"]
    states: set[str] = set()
    used = []
    for budget in map(int, np.linspace(0, everything, 11)):
        page = page_of(*cases, budget=budget)
        used.append(embedded(page))
        assert used[-1] <= budget
        tree = parse(page)
        kept = [state(article) for article in tree.all("article")]
        assert kept == sorted(kept, key=order.index)  # the earliest lose exactness, the latest everything
        reported = [(loss.one("summary").text, loss.one("p").text) for loss in tree.all("details")]
        assert reported == [
            (f"{len(birds)} of 3 {words}", ", ".join(f"birds/bird{n} ×2" for n in birds))
            for words, those in (
                ("with full pictures as WebP of quality 90, not lossless; judge fine detail by the crops", {"lossy"}),
                ("without full pictures", {"crops", "bare"}),
                ("without crops", {"bare"}),
            )
            if (birds := [n for n in range(3) if kept[n] in those])
        ]
        assert ("All pictures are lossless." in page) == (not reported)
        states |= set(kept)
    assert states == set(order)
    assert used == sorted(used)
    assert used[-1] == everything


def embedded(page: str) -> int:
    return sum(map(len, re.findall(r"base64,([A-Za-z0-9+/=]+)", page)))


def state(article: Element) -> str:
    if not article.all("section", "crop"):
        assert not article.all("img")
        return "bare"
    if not article.all("div", "viewer"):
        return "crops"
    quality = article.one("span", "quality").text
    return "lossless" if quality == "lossless" else "lossy"


def test_beyond_the_budget_pictures_are_lossy_and_say_so() -> None:
    case = two_models(size=(240, 320))
    exact = page_of(case)
    page = page_of(case, budget=embedded(exact) - 1)
    article = parse(page).one("article")
    assert article.one("span", "quality").text == "WebP quality 90, not lossless"
    low, *_, original = article.one("div", "canvas").all("img")
    np.testing.assert_array_equal(low.picture, case.low)
    np.testing.assert_array_equal(original.picture, lossy(case.original))
    for lossless, still in zip(*(parse(text).all("figure") for text in (exact, page)), strict=True):
        np.testing.assert_array_equal(lossless.one("img").picture, still.one("img").picture)


def test_pictures_lose_but_once() -> None:
    cases = [two_models(seed, size=(160, 240), name=f"bird{seed}") for seed in range(6)]
    tree = parse(page_of(*cases, budget=embedded(page_of(*cases)) // 2))
    articles = tree.all("article")
    assert [state(article) for article in articles[:2]] == ["lossy", "lossy"]
    for case, article in zip(cases[:2], articles, strict=False):
        np.testing.assert_array_equal(article.one("div", "canvas").all("img")[-1].picture, lossy(case.original))


def lossy(picture: np.ndarray) -> np.ndarray:
    """Return a picture after encoding as WebP of quality 90."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=90)
    return np.asarray(Image.open(file))


def test_the_budget_is_kept_at_a_cost_that_grows_with_the_pictures_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of the papers' tables has hundreds of pictures."""
    weighed = 0
    weigh = Comparison.weight.fget
    assert weigh is not None

    def counted(comparison: Comparison) -> int:
        nonlocal weighed
        weighed += 1
        return weigh(comparison)

    monkeypatch.setattr(Comparison, "weight", property(counted))
    costs = []
    for count in (10, 40):
        weighed = 0
        page_of(*(two_models(seed, (16, 24), f"bird{seed}") for seed in range(count)), budget=0)
        costs.append(weighed)
    assert 0 < costs[1] <= 4 * costs[0]


def test_pictures_longer_than_webp_allows_have_crops_alone() -> None:
    original = noise(4, 16384, 3)
    page = parse(page_of(case_of(original, {"half": original // 2})))
    assert state(page.one("article")) == "crops"
    assert [part.text for part in page.one("details").walk()][1:] == ["1 of 1 without full pictures", "birds/parrot ×2"]


def test_the_same_pictures_make_the_same_page() -> None:
    assert page_of(two_models(), two_models(1, name="finch")) == page_of(two_models(), two_models(1, name="finch"))


def test_sizes_must_agree() -> None:
    case = case_of(smooth(64, 64), {"small": smooth(32, 64)})
    with pytest.raises(ValueError, match="small restored"):
        Gallery().add(case, [])


def test_results_at_other_scales_are_ignored() -> None:
    case = two_models()
    other = Result("birds", "parrot", "keen", (3.0, 3.0), (30, 40), (90, 120), {"psnr": 99.0})
    gallery = Gallery()
    gallery.add(case, [*results_of(case), other])
    scores = parse(render(gallery, summary_of(results_of(case)))).one("article").one("table")
    assert [[cell.text for cell in tr.all("td")] for tr in scores.all("tr")[1:]] == [
        ["keen", "30.00"],
        ["dull", "31.00"],
    ]


@dataclass
class Browser:
    """A headless Chromium."""

    driver: Any

    def __call__(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        """Click an element, scrolled clear of the navigation at the top."""
        element = self.find(selector)
        self("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def visible(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].filter(e => e.offsetParent).map(e => e.innerText)"
        return list(self(script, selector))

    def choose(self, selector: str, option: str) -> None:
        from selenium.webdriver.support.select import Select

        Select(self.find(selector)).select_by_visible_text(option)

    def shares(self, selector: str) -> tuple[float, float]:
        """Return the fractions of an element's middle line that are red and blue."""
        with Image.open(io.BytesIO(self.find(selector).screenshot_as_png)) as image:
            line = np.asarray(image.convert("RGB"))[image.height * 3 // 4].astype(int)
        red = (line[:, 0] > 200) & (line[:, 2] < 60)
        blue = (line[:, 2] > 200) & (line[:, 0] < 60)
        return float(red.mean()), float(blue.mean())

    def touch(self, *points: tuple[float, float]) -> None:
        """Touch the first point of the viewport, move along the others, and lift the finger."""
        kinds = ["touchStart", *["touchMove"] * (len(points) - 1)]
        for kind, (x, y) in zip(kinds, points, strict=True):
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def log(self, kind: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(kind))


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    install = "to test in a browser: pip install selenium; apt-get install chromium chromium-driver"
    webdriver = pytest.importorskip("selenium.webdriver", reason=install)
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip(install)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    quiet = ("quic", "background-networking", "component-update", "sync", "gpu")
    for argument in (
        *("headless", "no-sandbox", "no-first-run", "window-size=1200,900", f"user-data-dir={tmp_path / 'profile'}"),
        *(f"disable-{what}" for what in quiet),
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Browser(chromium)
    finally:
        chromium.quit()


@pytest.mark.slow
def test_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    red, blue = np.zeros((2, 120, 200, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    red[:20, :20] = 9  # somewhere to look
    cases = [case_of(red, {"bicubic": red, "blue": blue, "dark": red // 2}, name) for name in ("robin", "wren")]
    (tmp_path / "page.html").write_text(page_of(*cases, notes=["a note"]), encoding="utf-8")
    browser.driver.get((tmp_path / "page.html").as_uri())
    stage, handle = "#shot-1 .stage", browser.find("#shot-1 .handle")

    # the divider: mouse, keyboard, touch
    assert browser.shares(stage) == pytest.approx((0.5, 0.5), abs=0.12)  # less the handle
    width = browser.find(stage).size["width"]
    assert width == 400
    ActionChains(browser.driver).drag_and_drop_by_offset(handle, -120, 0).perform()
    assert handle.get_attribute("aria-valuenow") == "20"
    assert browser.shares(stage) == pytest.approx((0.2, 0.8), abs=0.04)
    handle.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.SHIFT + Keys.ARROW_RIGHT + Keys.NULL, Keys.PAGE_UP)
    assert handle.get_attribute("aria-valuenow") == "42"
    assert handle.get_attribute("aria-valuetext") == "42 %: left bicubic, right blue"
    assert browser.shares(stage) == pytest.approx((0.42, 0.58), abs=0.04)
    handle.send_keys(Keys.HOME)
    assert browser.shares(stage)[1] > 0.95
    box = browser.find(stage).rect
    left, top = box["x"], box["y"] - browser("return scrollY")
    browser.touch((left + 50, top + 200), (left + 150, top + 200), (left + 300, top + 200))
    assert handle.get_attribute("aria-valuenow") == "75"
    assert browser.shares(stage) == pytest.approx((0.75, 0.25), abs=0.04)

    # a choice holds for all viewers; one picture on both sides shows whole
    browser.choose("#shot-2 select[name=left]", "blue")
    assert browser.find("#shot-1 .tag.left").text == "blue"
    assert browser.shares(stage)[1] > 0.95
    browser.choose("#shot-1 select[name=right]", "original")
    assert browser.shares(stage) == pytest.approx((0.25, 0.75), abs=0.04)
    browser.click("#shot-2 .swap")
    assert browser.shares(stage) == pytest.approx((0.75, 0.25), abs=0.04)

    # zoomed, the divider stays where it is while the picture scrolls under it
    browser.choose("#shot-1 select[name=zoom]", "8:1")
    assert browser("return document.querySelector('#shot-1 .canvas').offsetWidth") == 1600
    assert browser("return getComputedStyle(document.querySelector('#shot-1 img.left')).imageRendering") == "pixelated"
    assert browser.shares(stage) == pytest.approx((0.75, 0.25), abs=0.05)
    before = browser("return document.querySelector('#shot-1 .scroller').scrollLeft")
    pan = ActionChains(browser.driver).move_to_element_with_offset(browser.find("#shot-1 .scroller"), -200, 80)
    pan.click_and_hold().move_by_offset(-60, 0).release().perform()
    assert browser("return document.querySelector('#shot-1 .scroller').scrollLeft") == pytest.approx(before + 60, abs=2)
    assert browser.shares(stage) == pytest.approx((0.75, 0.25), abs=0.05)
    browser.click("#shot-2 .locate")
    assert browser.find("#shot-2 .mark").is_displayed()
    assert browser("return document.activeElement === document.querySelector('#shot-2 .handle')")

    # tables
    def models() -> list[str]:
        return browser.visible("#pictures tbody td:nth-child(5)")

    assert models() == ["bicubic", "blue", "dark"] * 2
    browser.click("#pictures th:nth-child(6) button")
    assert models() == ["dark", "dark", "blue", "blue", "bicubic", "bicubic"]
    assert browser.find("#pictures th:nth-child(6)").get_attribute("aria-sort") == "descending"
    browser.find("#pictures th:nth-child(5) button").send_keys(Keys.ENTER)
    assert models() == ["bicubic", "bicubic", "blue", "blue", "dark", "dark"]
    assert browser.find("#pictures th:nth-child(6)").get_attribute("aria-sort") is None
    browser.click("#pictures th:nth-child(8) button")  # memory, which the first does not have
    assert models() == ["blue", "blue", "dark", "dark", "bicubic", "bicubic"]
    browser.click("#pictures th:nth-child(8) button")
    assert models() == ["dark", "dark", "blue", "blue", "bicubic", "bicubic"]
    browser.find("input[name=picture]").send_keys("WRE")
    assert models() == ["dark", "blue", "bicubic"]
    assert browser.visible("article h3") == ["birds / wren ×2"]
    browser.choose("form select[name=model]", "blue")
    assert models() == ["blue"]
    assert browser.find("output").text == "1 of 6 rows, 1 of 2 comparisons"

    # no sideways scrolling on a telephone
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert browser("return document.documentElement.scrollWidth") == 390

    assert browser.log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = [each["request"]["url"] for each in requests if not each["documentURL"].startswith("chrome:")]
    assert asked
    assert all(url.startswith(("file:", "data:")) for url in asked)
