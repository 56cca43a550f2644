import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.audit import DUPLICATE, WITHOUT_GT, WITHOUT_LQ, pair
from pipelines.config import Folders


def listing(keys):
    rows = [{"key": k, "num_bytes": len(k), "etag": f"etag of {k}"} for k in sorted(keys)]
    kinds = [("key", pa.string()), ("num_bytes", pa.int64()), ("etag", pa.string())]
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))


def paired(gt, *views, **options):
    roots = tuple(f"lq{place}" for place in range(len(views)))
    source = Folders(**({"root": "gt", "lq_roots": roots} | options))
    rows, bad = pair(source, listing(gt), [listing(view) for view in views])
    assert set(bad["etag"].to_pylist()) <= {""}
    assert set(bad["status"].to_pylist()) <= {"bad"}
    return (
        dict(zip(rows["key"].to_pylist(), rows["lq_keys"].to_pylist(), strict=True)),
        [(r["kind"], r["key"], r["lq_keys"]) for r in bad.to_pylist()],
    )


def test_without_lq_every_photo_is_a_row():
    rows, bad = pair(Folders(root="gt"), listing(["b.png", "a.png", "a.jpg"]), [])
    assert rows["key"].to_pylist() == ["a.jpg", "a.png", "b.png"]
    assert rows["lq_keys"].to_pylist() == [[], [], []]
    assert rows["etag"].to_pylist()[0] == "etag of a.jpg"
    assert bad.num_rows == 0


def test_names_pair_but_for_their_suffix():
    good, bad = paired(["x/a.png", "x/b.v2.png", "c.png"], ["x/a.JPG", "x/b.v2.tif", "c.png"])
    assert good == {"x/a.png": ["x/a.JPG"], "x/b.v2.png": ["x/b.v2.tif"], "c.png": ["c.png"]}
    assert bad == []


def test_two_views_stay_left_and_right():
    good, bad = paired(["a.png", "b.png"], ["a.png", "b.tif"], ["a.jpg", "b.png"])
    assert good == {"a.png": ["a.png", "a.jpg"], "b.png": ["b.tif", "b.png"]}
    assert bad == []


def test_what_has_no_partner_is_named():
    good, bad = paired(["a.png", "b.png", "x/c.png"], ["a.png", "c.png"], ["a.png", "b.png"])
    assert good == {"a.png": ["a.png", "a.png"]}
    assert bad == [
        (WITHOUT_LQ, "b.png", ["", "b.png"]),
        (WITHOUT_LQ, "x/c.png", ["", ""]),
        (WITHOUT_GT, "", ["c.png", ""]),
    ]


def test_one_name_twice_is_no_pair():
    good, bad = paired(["a.png", "a.jpg", "b.png", "c.png"], ["a.png", "b.png", "b.tif", "c.png"])
    assert good == {"c.png": ["c.png"]}
    assert bad == [
        (DUPLICATE, "a.jpg", ["a.png"]),
        (DUPLICATE, "a.png", ["a.png"]),
        (DUPLICATE, "b.png", ["b.png"]),
    ]


def test_a_rule_pairs_names_that_differ():
    gt, lq = ["s1/0001_GT_SRGB_010.PNG"], ["s1/0001_NOISY_SRGB_010.PNG"]
    both = [*gt, *lq, "s1/0002_NOISY_SRGB_010.PNG"]
    rule = {"root": "all", "lq_roots": ("all",), "match": ("_GT_", "_NOISY_")}
    assert paired(gt, lq, match=("_GT_", "_NOISY_")) == ({gt[0]: lq}, [])
    assert paired(both, both, **rule) == ({gt[0]: lq}, [(WITHOUT_GT, "", [both[-1]])])
    rule["match"] = ("/sharp/", "/blur/")
    both = ["v1/sharp/1.png", "v1/blur/1.png"]
    assert paired(both, both, **rule) == ({both[0]: [both[1]]}, [])
    good, bad = paired(["1_gt.png", "2_gt.png"], ["n.png"], match=(r"\d_gt", "n"))
    assert (good, {kind for kind, _, _ in bad}) == ({}, {DUPLICATE})


NAMES = st.sets(st.text("ab.", min_size=1, max_size=3).map(lambda name: f"{name}.png"), max_size=8)


@settings(deadline=None)
@given(gt=NAMES, lq=NAMES)
def test_every_image_is_accounted_for(gt, lq):
    good, bad = paired(gt, lq)
    assert sorted([*good, *(key for _, key, _ in bad if key)]) == sorted(gt)
    assert {key for keys in good.values() for key in keys} == gt & lq
    assert {keys[0] for kind, _, keys in bad if kind == WITHOUT_GT} == lq - gt
    assert {key for kind, key, _ in bad if kind == WITHOUT_LQ} == gt - lq
