"""The report is one well-formed page that shows everything and fetches and runs nothing."""

import math
import re
from base64 import b64encode
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from jobs.page import Command, Curve, Film, Page, Pair, Score, render

VOID = {"meta", "img", "input", "br", "link", "hr"}
HOSTILE = '<script>alert(1)</script>" onload="alert(2)" \'&amp; $title ${summary}'

PAIR = Pair(
    key="cat.png",
    before=b"noisy bytes",
    after=b"restored bytes",
    truth=b"clean bytes",
    before_psnr_db=20.25,
    after_psnr_db=28.5,
)
SCORE = Score(
    benchmark="CBSD68",
    protocol="rgb-sigma25",
    metric="PSNR",
    before=20.17,
    after=31.2,
    num_images=68,
)
CURVE = Curve(title="Validation PSNR", unit="dB", points=((100, 24.5), (200, 27.0), (400, 30.75)))
COMMAND = Command(title="Train", command="laformer train x && echo <ok>", explanation="Trains.")
FILM = Film(key="owl.png", frames=(("degraded", b"first"), ("step 200", b"second")))
PAGE = Page(
    title="Restored",
    summary="What happened.",
    facts=(("Device", "cpu"),),
    pairs=(PAIR, replace(PAIR, key="dog.jpg", media_type="image/jpeg", truth=None)),
    scores=(SCORE,),
    curves=(CURVE,),
    commands=(COMMAND,),
    films=(FILM,),
    values=(("train.lr", "0.1"),),
)
EMPTY = Page(title="Nothing", summary="", facts=(), pairs=(), scores=(), curves=(), commands=())


class Document(HTMLParser):
    """What a page holds; raises where a tag is not closed in order."""

    def __init__(self, page: Page):
        super().__init__()
        self.tags, self.attributes, self.open, self.words = [], [], [], []
        self.feed(render(page))
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


@pytest.mark.parametrize("page", [PAGE, EMPTY], ids=["full", "empty"])
def test_page_is_balanced_and_self_contained(page):
    document = Document(page)
    assert {"html", "head", "title", "main", "h1"} <= set(document.tags)
    assert not {"link", "iframe", "object", "embed", "base"} & set(document.tags)
    assert not document.values("href")
    assert all(source.startswith("data:image/") for source in document.values("src"))
    assert not re.search(r"https?:|url\(|@import|fetch\(", render(page))


def test_page_forbids_the_network_itself():
    (policy,) = (value for value in Document(PAGE).values("content") if "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_image_is_embedded_and_described():
    document = Document(PAGE)
    expected = [
        *((PAIR.media_type, image) for image in (PAIR.before, PAIR.after, PAIR.truth)),
        *(("image/jpeg", image) for image in (PAIR.before, PAIR.after)),
        *(("image/png", image) for _, image in FILM.frames),
    ]
    assert document.values("src") == [
        f"data:{media_type};base64,{b64encode(image).decode()}" for media_type, image in expected
    ]
    assert [alt.split(",")[0] for alt in document.values("alt")] == ["cat.png"] * 3 + [
        "dog.jpg"
    ] * 2 + ["owl.png"] * 2
    assert document.values("type").count("range") == len(PAGE.pairs)


def test_numbers_carry_unit_and_protocol():
    text = Document(PAGE).text
    assert "+11.03 dB mean PSNR gain on CBSD68, from 20.17 dB to 31.20 dB" in text
    assert "CBSD68, PSNR rgb-sigma25, 68 images 20.17 dB 31.20 dB +11.03 dB" in text
    assert "cat.png 20.25 dB 28.50 dB +8.25 dB" in text
    assert "degraded 20.25 dB" in text
    assert "restored 28.50 dB" in text


def test_other_metrics_have_no_unit_and_a_loss_is_marked():
    ssim = replace(SCORE, metric="SSIM", before=0.9, after=0.85, num_images=1)
    document = Document(replace(PAGE, pairs=(), scores=(ssim,)))
    assert "CBSD68, SSIM rgb-sigma25, 1 image 0.9000 0.8500 \N{MINUS SIGN}0.05000" in document.text
    assert "down" in document.values("class")


def test_mean_is_over_the_measured_photos():
    better = replace(PAIR, before_psnr_db=22.25, after_psnr_db=32.5)
    unmeasured = replace(PAIR, key="unknown.png", before_psnr_db=math.nan)
    text = Document(replace(PAGE, pairs=(PAIR, better, unmeasured))).text
    assert "unknown.png \N{EN DASH} 28.50 dB \N{EN DASH}" in text
    assert "Mean of 2 measured 21.25 dB 30.50 dB +9.25 dB" in text


def test_nan_is_a_dash_everywhere():
    page = replace(
        PAGE,
        pairs=(replace(PAIR, before_psnr_db=math.nan, after_psnr_db=math.nan),),
        scores=(replace(SCORE, before=math.nan),),
        curves=(replace(CURVE, points=((1, math.nan),)),),
    )
    document = Document(page)
    assert "Mean of 0 measured \N{EN DASH} \N{EN DASH} \N{EN DASH}" in document.text
    assert not re.search(r"\bnan\b", document.text)
    assert "svg" not in document.tags


def test_identical_images_have_infinite_psnr():
    text = Document(replace(PAGE, pairs=(replace(PAIR, after_psnr_db=math.inf),))).text
    assert "cat.png 20.25 dB \N{INFINITY} dB +\N{INFINITY} dB" in text


def test_text_is_shown_and_never_run():
    page = Page(
        title=HOSTILE,
        summary=HOSTILE,
        facts=((HOSTILE, HOSTILE),),
        pairs=(replace(PAIR, key=HOSTILE, media_type=HOSTILE),),
        scores=(replace(SCORE, benchmark=HOSTILE, protocol=HOSTILE, metric=HOSTILE),),
        curves=(replace(CURVE, title=HOSTILE, unit=HOSTILE),),
        commands=(Command(title=HOSTILE, command=HOSTILE, explanation=HOSTILE),),
        films=(replace(FILM, key=HOSTILE, frames=((HOSTILE, b"first"), (HOSTILE, b"second"))),),
        values=((HOSTILE, HOSTILE),),
        commands_heading=HOSTILE,
    )
    document, plain = Document(page), Document(replace(PAGE, pairs=(PAIR,)))
    assert document.tags == plain.tags
    assert [a[:2] for a in document.attributes] == [a[:2] for a in plain.attributes]
    assert document.text.count(HOSTILE) >= 12


@pytest.mark.parametrize(
    "points",
    [
        ((0, 0.0),),
        ((1200, 31.2),),
        ((0, 1.0), (1, 1.0)),
        ((10**9, 1e9), (10**9 + 1, math.nextafter(1e9, math.inf))),
        ((0, -3e-12), (7, 4e12)),
        ((0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)),
    ],
)
def test_any_curve_stays_inside_its_drawing(points):
    document = Document(replace(EMPTY, curves=(replace(CURVE, points=points),)))
    (trace,) = (value for value in document.values("d") if value.endswith("h0"))
    places = [tuple(map(float, spot.split())) for spot in re.findall(r"[\d.]+ [\d.]+", trace)]
    assert len(places) == sum(math.isfinite(value) for _, value in points)
    assert all(0 <= x <= 480 and 0 <= y <= 270 for x, y in places)


def test_curve_breaks_at_a_gap_and_ends_in_its_last_value():
    points = ((100, 24.5), (200, math.nan), (300, 27.0), (400, 30.75))
    document = Document(replace(EMPTY, curves=(replace(CURVE, points=points),)))
    (trace,) = (value for value in document.values("d") if value.endswith("h0"))
    assert trace.count("M") == 2
    assert "Validation PSNR: 30.75 dB at step 400" in [
        label.replace("\N{NO-BREAK SPACE}", " ") for label in document.values("aria-label")
    ]
    assert "step 300: 27.00 dB" in document.text


def test_long_curve_keeps_its_last_step_in_reach():
    curve = replace(CURVE, points=tuple((step, 1 / step) for step in range(1, 1001)))
    document = Document(replace(EMPTY, curves=(curve,)))
    assert 30 <= document.values("class").count("hit") <= 60
    assert "step 1,000:" in document.text


def test_sections_come_in_the_order_of_the_page():
    order = ("values", "commands", "curves")
    html = render(replace(PAGE, order=order, commands_heading="Go on"))
    assert re.findall(r"<h2>(.*?)</h2>", html) == ["Values", "Go on", "Training"]


def test_large_numbers_are_whole():
    curve = replace(CURVE, unit="", points=((1, 1234567.8),))
    assert "1,234,568 at step 1" in Document(replace(EMPTY, curves=(curve,))).text


def test_empty_parts_are_left_out():
    document = Document(EMPTY)
    assert not {"section", "table", "svg", "dl", "figure"} & set(document.tags)
    assert document.text == "Nothing Nothing"


def test_commands_are_shown_as_typed():
    assert COMMAND.command in Document(PAGE).text
