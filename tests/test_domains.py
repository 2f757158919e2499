"""Domains, held against closed forms: measures, moments, the divergence theorem, distances, and bad input."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import shapely

from sciad._derivatives import Point
from sciad._errors import InputError
from sciad.models.domains import Ball, Box, Cloud, Disk, Mapped, Polygon, Product, draw_domain, ring

L_SHAPE = [(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]
SQUARE = [(0, 0), (1, 0), (1, 1), (0, 1)]
UNIT = Box(x=(0, 1), y=(0, 1))
LENS = 2 * np.pi / 3 - np.sqrt(3) / 2  # of two unit disks whose centres are one apart

# Domain, its volume, and the measure of its whole boundary.
KNOWN = {
    "interval": (Box(x=(-1, 2)), 3.0, 2.0),
    "box": (Box(x=(-1, 1), y=(0, 3), t=(0, 0.5)), 3.0, 2 * (6.0 + 1.0 + 1.5)),
    "disk": (Disk((0.5, -1), 2), 4 * np.pi, 4 * np.pi),
    "ball": (Ball((0, 1, 2), 1.5), 4 / 3 * np.pi * 1.5**3, 4 * np.pi * 1.5**2),
    "ball in 1-D": (Ball((1,), 2), 4.0, 2.0),
    "ball in 4-D": (Ball((0, 0, 0, 0), 1, ("a", "b", "c", "d")), np.pi**2 / 2, 2 * np.pi**2),
    "slab": (Disk((0, 0), 1) * Box(t=(0, 2)), 2 * np.pi, 4 * np.pi + 2 * np.pi),
    "cylinder of balls": (Disk((0, 0), 1) * Ball((0, 0), 2, ("u", "v"), face="rim"), 4 * np.pi**2, 12 * np.pi**2),
    "L": (Polygon(L_SHAPE), 3.0, 8.0),
    "clockwise": (Polygon(L_SHAPE[::-1]), 3.0, 8.0),
    "holes": (
        Polygon(SQUARE, {"low": ring((0.3, 0.3), 0.2, 4), "high": [(0.6, 0.6), (0.6, 0.9), (0.9, 0.6)]}),
        1 - 0.08 - 0.045,
        4 + 4 * 0.2 * np.sqrt(2) + 0.6 + 0.3 * np.sqrt(2),
    ),
    "round hole": (UNIT - Disk((0.5, 0.5), 0.25), 1 - np.pi / 16, 4 + np.pi / 2),
    "ring": (Disk((1, 1), 2) - Disk((1.5, 1), 1), 3 * np.pi, 6 * np.pi),
    "lens": (Disk((0, 0), 1) & Disk((1, 0), 1), LENS, 4 * np.pi / 3),
    "both": (Disk((0, 0), 1) | Disk((1, 0), 1), 2 * np.pi - LENS, 8 * np.pi / 3),
    "moon": (Disk((0, 0), 1) - Disk((1, 0), 1), np.pi - LENS, 2 * np.pi),
    "apart": (Disk((0, 0), 1) | Disk((3, 0), 1), 2 * np.pi, 4 * np.pi),
    "bitten": (UNIT - Disk((1, 1), 0.5), 1 - np.pi / 16, 3 + np.pi / 4),
    "ring in time": ((Disk((0, 0), 2) - Disk((0, 0), 1)) * Box(t=(0, 2)), 6 * np.pi, 12 * np.pi + 6 * np.pi),
    "L in time": (Polygon(L_SHAPE) * Box(t=(0, 2)), 6.0, 16.0 + 6.0),
}
# Domains whose distances differ in kind
DISTANCES = ["box", "ball", "slab", "L", "holes", "round hole", "lens", "moon", "ring", "L in time"]


@pytest.fixture(params=KNOWN)
def known(request):
    return KNOWN[request.param]


def values(function, domain, points):
    """A function of a `Point` at rows of points."""
    rows = {name: jnp.asarray(column) for name, column in zip(domain.coordinates, points.T, strict=True)}
    return np.asarray(jax.jit(jax.vmap(lambda row: function(Point(row))))(rows))


def gradients(domain, faces, points):
    def distance(row):
        return domain.distance(faces, Point(row))

    rows = {name: jnp.asarray(column) for name, column in zip(domain.coordinates, points.T, strict=True)}
    found = jax.jit(jax.vmap(jax.grad(distance)))(rows)
    return np.stack([np.asarray(found[name]) for name in domain.coordinates], axis=1)


def test_measures(known):
    domain, volume, boundary = known
    assert domain.volume == pytest.approx(volume, rel=1e-12)
    assert sum(domain.measure(face) for face in domain.faces) == pytest.approx(boundary, rel=1e-12)


def test_points_are_inside_and_the_box_around_is_tight(known):
    domain = known[0]
    inside = domain.interior(1500, 3)
    low, high = np.asarray(domain.bounds).T
    assert inside.shape == (1500, len(domain.coordinates))
    assert domain.contains(inside).all()
    assert not domain.contains(inside + 1.01 * (high - low)).any()
    assert np.all((inside >= low) & (inside <= high))
    edge = np.concatenate([domain.surface(face, 500, 4).points for face in domain.faces])
    assert np.all(edge.min(axis=0) - low < 0.06 * (high - low))
    assert np.all(high - edge.max(axis=0) < 0.06 * (high - low))


def test_faces_separate_inside_from_outside(known):
    domain = known[0]
    for face in domain.faces:
        points, normals = domain.surface(face, 100, 5)
        np.testing.assert_allclose(np.sum(normals**2, axis=1), 1, rtol=1e-12)
        assert domain.contains(points).all()
        assert domain.contains(points - 1e-7 * normals).mean() > 0.99  # but for a point near a corner
        assert not domain.contains(points + 1e-7 * normals).any()


def test_divergence_theorem(known):
    """For F = (x^2 + x y, ...) means over points times measures agree: so points are even, and normals outward."""
    domain = known[0]
    names = domain.coordinates

    def flow(z):
        around = np.roll(z, -1, axis=1)
        return z**2 + z * around + 0.3 * around**3

    def divergence(z):
        around = np.roll(z, -1, axis=1)
        own = 2 * z + around
        return np.sum(own + (z + 0.9 * z**2 if len(names) == 1 else 0), axis=1)

    within = domain.volume * divergence(domain.interior(2**14, 1)).mean()
    through = 0.0
    for i, face in enumerate(domain.faces):
        points, normals = domain.surface(face, 2**13, 2 + i)
        through += domain.measure(face) * np.sum(flow(points) * normals, axis=1).mean()
    size = domain.volume * np.abs(divergence(domain.interior(2**10, 1))).mean()
    assert abs(within - through) < 2e-3 * size


@pytest.mark.parametrize(
    ("domain", "center", "spread"),
    [
        (Box(x=(0, 2), t=(1, 2)), [1.0, 1.5], [[1 / 3, 0], [0, 1 / 12]]),
        (Disk((1, 2), 2), [1.0, 2.0], [[1.0, 0], [0, 1.0]]),
        (Ball((0, 0, 0), 1), [0.0, 0.0, 0.0], np.eye(3) / 5),
        (Disk((0, 0), 1) * Box(t=(0, 1)), [0, 0, 0.5], np.diag([1 / 4, 1 / 4, 1 / 12])),
        (Polygon(L_SHAPE), [5 / 6, 5 / 6], [[11 / 36, -7 / 36 + 1 / 12], [-7 / 36 + 1 / 12, 11 / 36]]),
    ],
)
def test_moments_of_interior_points(domain, center, spread):
    """Quasi-random means of 4096 points: an error of 0.002, where random ones would have 0.01 and more."""
    inside = domain.interior(4096, 0)
    np.testing.assert_allclose(inside.mean(axis=0), center, atol=2e-3)
    np.testing.assert_allclose(np.cov(inside.T), spread, atol=2e-3)


def test_the_design_of_a_product_is_joint():
    """Of a product's points each cell of a grid over two factors' coordinates holds its share."""
    domain = Disk((0, 0), 1) * Box(t=(0, 1)) * Ball((0,), 1, ("s",), face="ends")
    inside = domain.interior(4096, 0)
    share = np.stack([(inside[:, :2] ** 2).sum(axis=1), inside[:, 2], np.abs(inside[:, 3])], axis=1)
    counts, _ = np.histogramdd(share, bins=(4, 4, 4), range=[(0, 1)] * 3)
    assert np.abs(counts - 64).max() <= 16  # independent designs would leave 64 ± 24
    rim, _ = domain.surface("boundary", 1024, 0)
    angle = np.arctan2(rim[:, 1], rim[:, 0]) / np.pi
    counts, _, _ = np.histogram2d(angle, rim[:, 2], bins=8, range=[(-1, 1), (0, 1)])
    assert np.abs(counts - 16).max() <= 4


def test_the_same_seed_gives_the_same_points():
    for domain in (UNIT, Disk((0, 0), 1), Polygon(L_SHAPE)):
        np.testing.assert_array_equal(domain.interior(100, 1), domain.interior(100, 1))
        assert not np.allclose(domain.interior(100, 1), domain.interior(100, 2))
        np.testing.assert_array_equal(domain.interior(300, 1)[:100], domain.interior(100, 1))


@pytest.mark.parametrize("name", DISTANCES)
def test_distance(name):
    """Zero on the faces asked for with one slope along each side, positive inside, about one at its greatest."""
    domain = KNOWN[name][0]
    chosen = [tuple(domain.faces), domain.faces[-1:]]
    inside = domain.interior(512, 8)
    edge = [domain.surface(face, 64, 9).points for face in domain.faces]
    points = np.concatenate([inside, *edge])
    found = values(lambda p: jnp.stack([domain.distance(faces, p) for faces in chosen]), domain, points)
    for faces, column in zip(chosen, found.T, strict=True):
        within, *on = np.split(column, 512 + 64 * np.arange(len(edge)))
        assert within.min() > 0
        assert 0.7 < within.max() < 1.5
        for face, zeros in zip(domain.faces, on, strict=True):
            if face in faces:
                assert np.abs(zeros).max() < 1e-12
            else:
                assert np.median(zeros) > 0.01


@pytest.mark.parametrize("name", ["L", "holes", "round hole", "moon"])
def test_distance_has_one_slope_across_each_face(name):
    domain = KNOWN[name][0]
    points, normals = map(np.concatenate, zip(*(domain.surface(face, 64, 9) for face in domain.faces), strict=True))
    slope = -np.sum(gradients(domain, domain.faces, points) * normals, axis=1)
    assert slope.min() > 0
    assert np.ptp(slope) < 1e-9 * slope.max()


def test_distances_of_a_box_in_numbers():
    box = Box(x=(-1, 1), t=(0, 2))
    p = Point({"x": 0.5, "t": 0.5})
    assert float(box.distance(("x_min",), p)) == 0.75
    assert float(box.distance(("x_min", "x_max"), p)) == 0.75  # 4 * 1.5 * 0.5 / 4
    assert float(box.distance(("x_min", "x_max", "t_min"), p)) == 0.75 * 0.25
    assert float(box.distance((), p)) == 1.0
    assert float(Disk((0, 0), 1).distance((), Point({"x": 0.5, "y": 0.5}))) == 1.0


def test_the_distance_from_one_segment_is_its_formula():
    """Sukumar and Srivastava (2022), for a segment of length one."""
    square = Polygon(SQUARE, faces=["low", "rest", "rest", "rest"])
    points = square.interior(200, 0)
    x, y = points.T
    t = 0.25 - (x - 0.5) ** 2 - y**2
    expected = np.sqrt(y**2 + ((np.sqrt(t**2 + y**4) - t) / 2) ** 2)
    found = values(lambda p: square.distance(("low",), p), square, points)
    np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=1e-12)


def test_distance_is_smooth_across_the_line_of_a_side():
    """Second differences stay small where t changes sign and where |f| would kink, as at x = 1, y > 1 of the L."""
    shape = Polygon(L_SHAPE)
    step = 1e-3
    x = 1 + step * np.arange(-40.0, 41)
    line = np.stack([x, np.full_like(x, 0.5)], axis=1)
    found = values(lambda p: shape.distance(("outside",), p), shape, line)
    second = np.diff(found, 2) / step**2
    assert np.abs(np.diff(second)).max() < 0.05 * np.abs(second).max()


@pytest.mark.parametrize("shape", [UNIT - Disk((0.5, 0.5), 0.25), Disk((0, 0), 1) & Disk((0, 1), 1)])
def test_derivatives_where_several_edges_are_equally_near(shape):
    place, step = np.array([0.2, 0.2]), 1e-4
    place = np.array([0.0, 0.5]) if "x_min" not in shape.faces and len(shape.edges) == 2 else place

    def distance(z):
        return shape.distance(shape.faces, Point({"x": z[0], "y": z[1]}))

    every = jax.jit(jax.vmap(lambda z: (distance(z), jax.grad(distance)(z), jax.hessian(distance)(z))))
    moves = step * np.concatenate([np.eye(2), -np.eye(2), np.zeros((1, 2))])
    value, gradient, hessian = (np.asarray(part) for part in every(jnp.asarray(place + moves)))
    np.testing.assert_allclose(gradient[4], (value[:2] - value[2:4]) / (2 * step), atol=1e-6)
    np.testing.assert_allclose(hessian[4], (gradient[:2] - gradient[2:4]) / (2 * step), atol=1e-4)


def test_distance_in_single_precision():
    shape = UNIT - Disk((0.5, 0.5), 0.25)
    p = Point({"x": jnp.float32(0.125), "y": jnp.float32(0.5)})
    assert shape.distance(shape.faces, p).dtype == jnp.float32
    assert UNIT.distance(("x_min",), p).dtype == jnp.float32
    assert Disk((0, 0), 1).distance(("boundary",), p).dtype == jnp.float32


@pytest.mark.parametrize("sign", ["-", "|", "&"])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Box(x=(0, 2), y=(0, 2)), Box(x=(1, 3), y=(1, 3))),
        (Box(x=(0, 2), y=(0, 2)), Box(x=(1, 2), y=(0, 1))),  # two sides in common
        (Box(x=(0, 2), y=(0, 2)), Box(x=(2, 3), y=(0.5, 1))),  # side by side
        (Box(x=(0, 2), y=(0, 2)), Box(x=(-1, 3), y=(0.5, 1))),  # cut in two
        (Polygon(L_SHAPE), Polygon([(0.5, -1), (2.5, 0.3), (1.5, 1.5), (-0.5, 2.5)])),
        (Polygon(SQUARE, {"hole": ring((0.5, 0.5), 0.3, 5)}), Polygon([(0.4, 0.5), (0.6, -1), (2, 0.7)])),
    ],
)
def test_joined_polygons_agree_with_shapely(a, b, sign):
    of = {"-": shapely.difference, "|": shapely.union, "&": shapely.intersection}[sign]
    expected = of(as_shapely(a), as_shapely(b))
    if expected.area == 0:
        with pytest.raises(InputError, match="nothing is left"):
            joined(a, sign, b)
        return
    found = joined(a, sign, b)
    assert found.volume == pytest.approx(expected.area, rel=1e-9)
    assert sum(found.measure(face) for face in found.faces) == pytest.approx(expected.length, rel=1e-9)
    grid = np.random.default_rng(0).uniform(-1.2, 3.2, (2000, 2))
    np.testing.assert_array_equal(found.contains(grid), shapely.contains_xy(expected, *grid.T))


def as_shapely(domain):
    if isinstance(domain, Box):
        (left, right), (low, high) = domain.bounds
        return shapely.box(left, low, right, high)
    sides = [shapely.LineString([(e.start.real, e.start.imag), (e.end.real, e.end.imag)]) for e in domain.edges]
    faces = [[s for s, e in zip(sides, domain.edges, strict=True) if e.face == face] for face in domain.faces]
    outer, *holes = (shapely.polygonize(face).geoms[0] for face in faces)
    return shapely.difference(outer, shapely.union_all(holes))


def joined(a, sign, b):
    return {"-": a.__sub__, "|": a.__or__, "&": a.__and__}[sign](b)


@pytest.mark.parametrize("turn", [0.0, 0.3])
@pytest.mark.parametrize(("scale", "place"), [(1.0, 0.0), (1e-3, 1e4), (1e8, -1e8)])
def test_parts_put_together_are_the_whole(turn, scale, place):
    """Boundaries that coincide to rounding, straight or bent, at an angle, small and far away."""
    corners = np.array([(0, -2), (3, -2), (3, 2), (0, 2)]) @ [
        [np.cos(turn), np.sin(turn)],
        [-np.sin(turn), np.cos(turn)],
    ]
    disk, right = Disk((place, place), scale), Polygon(place + scale * corners)
    half, rest = disk & right, disk - right
    whole = rest | half
    for domain, area in ((half, np.pi / 2), (rest, np.pi / 2), (whole, np.pi)):
        assert domain.volume == pytest.approx(area * scale**2, rel=1e-6)
    assert whole.faces == ("boundary", "boundary_2")
    assert whole.measure("boundary") == pytest.approx(np.pi * scale, rel=1e-6)
    inside = whole.interior(200, 0)
    assert disk.contains(inside).all()
    assert (half.contains(inside) != rest.contains(inside)).all()
    with pytest.raises(InputError, match="nothing is left"):
        disk - whole


def test_contains_on_round_numbers():
    """Levels of corners, of a circle's highest point, of where two circles meet: a ray through them counts once."""
    two = Disk((0, 0), 1) | Disk((1, 0), 1)
    height = np.sqrt(3) / 2
    y = np.array([0.0, 1.0, -1.0, height, -height, 0.5])
    inner = np.stack([np.full_like(y, 0.5), np.clip(y, -0.86, 0.86)], axis=1)
    assert two.contains(inner).all()
    assert not two.contains(np.stack([np.full_like(y, -1.5), y], axis=1)).any()
    assert not two.contains(np.stack([np.full_like(y, 2.5), y], axis=1)).any()
    tower = UNIT | Disk((0.5, 1), 0.5)
    levels = np.stack([np.full(5, -0.25), [0.0, 0.5, 1.0, 1.25, 1.5]], axis=1)
    assert not tower.contains(levels).any()
    assert tower.contains(levels + np.array([[0.75, 0.0]])).all()
    assert tower.volume == pytest.approx(1 + np.pi / 8, rel=1e-12)


def test_names_of_faces_of_joined_domains():
    plate = UNIT - Disk((0.3, 0.3), 0.1) - Disk((0.7, 0.7), 0.1)
    assert plate.faces == ("x_min", "x_max", "y_min", "y_max", "boundary", "boundary_2")
    assert plate.measure("boundary_2") == pytest.approx(0.2 * np.pi)
    np.testing.assert_allclose(plate.surface("boundary_2", 50, 0).points.mean(axis=0), 0.7, atol=0.01)
    named = plate.renamed(boundary="hole", boundary_2="hole")
    assert named.faces == ("x_min", "x_max", "y_min", "y_max", "hole")
    assert named.measure("hole") == pytest.approx(0.4 * np.pi)
    assert (UNIT - Disk((0, 0), 0.5, face="bite")).measure("x_min") == pytest.approx(0.5)
    assert (Disk((0, 0), 2) | Disk((0, 0), 1)).faces == ("boundary",)  # nothing is left of the second


def test_sides_are_those_of_boxes():
    slab = Disk((0, 0), 1) * Box(t=(1, 2))
    assert (slab.side("t_max"), slab.side("boundary")) == (("t", 2.0), None)
    assert UNIT.side("y_max") == ("y", 1.0)
    assert Polygon(SQUARE).side("outside") is None
    assert (slab * Box(nu=(0, 1))).coordinates == ("x", "y", "t", "nu")


def test_named_sides_of_a_polygon():
    for corners in (SQUARE, SQUARE[::-1]):
        box = Polygon(corners, faces=["first", "wall", "wall", "last"])
        points = box.surface("first", 20, 0).points
        ends = np.sort([corners[0], corners[1]], axis=0)
        assert np.all((points >= ends[0]) & (points <= ends[1]))
        assert box.measure("wall") == 2
        assert box.faces.count("wall") == 1


def test_draw_domain():
    _, axes = plt.subplots()
    assert draw_domain(UNIT - Disk((0.5, 0.5), 0.2, face="hole"), axes) is axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [*UNIT.faces, "hole"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    plt.close("all")
    with pytest.raises(InputError, match=r"two coordinates; this one has x, y, t"):
        draw_domain(UNIT * Box(t=(0, 1)))


BAD = {
    "no interval": (lambda: Box(), "no coordinate"),
    "reversed": (lambda: Box(x=(1, 0)), r"Box\(x=\(1, 0\)\): expected the least and the greatest"),
    "empty": (lambda: Box(x=(1, 1)), "rising order"),
    "infinite": (lambda: Box(x=(0, np.inf)), "finite"),
    "NaN": (lambda: Box(x=(0, np.nan)), "finite"),
    "one number": (lambda: Box(x=3), "expected the least"),
    "three numbers": (lambda: Box(x=(0, 1, 2)), "expected the least"),
    "radius": (lambda: Disk((0, 0), 0), "radius of a ball is 0: expected a positive number"),
    "radius NaN": (lambda: Disk((0, 0), np.nan), "positive"),
    "centre": (lambda: Ball((0, np.nan), 1), "finite number for each"),
    "centre of a disk": (lambda: Disk((0, 0, 0), 1), "two numbers"),
    "no names": (lambda: Ball((0, 0, 0, 0), 1), "Expected 4 different names"),
    "names": (lambda: Ball((0, 0), 1, ("x", "x")), "2 different names"),
    "shared coordinate": (lambda: Disk((0, 0), 1) * Box(x=(0, 1)), "coordinate 'x' belongs to more than one"),
    "shared face": (lambda: Disk((0, 0), 1) * Ball((0,), 1, ("s",)), "face 'boundary' belongs to more than one"),
    "no domain": (lambda: Product(UNIT, 3), "a factor is of type int"),
    "face": (lambda: UNIT.surface("x_mim", 3, 0), "no face 'x_mim'. Did you mean 'x_min'"),
    "face of a product": (lambda: (UNIT * Box(t=(0, 1))).measure("t_mim"), "Did you mean 't_min'"),
    "face of a ball": (lambda: Disk((0, 0), 1).distance(("rim",), Point({"x": 0.0, "y": 0.0})), "There is: boundary"),
    "number": (lambda: UNIT.interior(0, 1), "number=0 of points .* at least 1"),
    "half a point": (lambda: UNIT.interior(2.5, 1), "whole number"),
    "seed": (lambda: UNIT.interior(2, -1), "seed=-1"),
    "bow tie": (lambda: Polygon([(0, 0), (1, 1), (1, 0), (0, 2)]), r"crosses or touches itself \(Self-intersection"),
    "line": (lambda: Polygon([(0, 0), (1, 1), (2, 2)]), "no area"),
    "two corners": (lambda: Polygon([(0, 0), (1, 1)]), r"shape \(2, 2\); expected at least three"),
    "three, one twice": (lambda: Polygon([(0, 0), (1, 1), (0, 0)]), "expected at least three"),
    "no corners": (lambda: Polygon(3), "expected at least three"),
    "corners in 3-D": (lambda: Polygon(np.arange(12.0).reshape(4, 3)), r"shape \(4, 3\)"),
    "corner NaN": (lambda: Polygon([(0, 0), (1, np.nan), (1, 1)]), "finite"),
    "corner twice": (lambda: Polygon([(0, 0), (0, 0), (1, 0), (1, 1)]), "twice in a row"),
    "hole outside": (lambda: Polygon(SQUARE, {"h": ring((2, 2), 0.1)}), "hole 'h' is not inside"),
    "holes meet": (
        lambda: Polygon(SQUARE, {"a": ring((0.4, 0.5), 0.2), "b": ring((0.6, 0.5), 0.2)}),
        "'a' and 'b' meet",
    ),
    "hole's name": (lambda: Polygon(SQUARE, {"outside": ring((0.5, 0.5), 0.2)}), "name of its own"),
    "sides": (lambda: Polygon(SQUARE, faces=["a", "b"]), "names 2 sides of 4"),
    "ring": (lambda: ring((0, 0), 1, 2), "at least 3 corners"),
    "nothing left": (lambda: UNIT - Box(x=(-1, 2), y=(-1, 2)), "difference is empty"),
    "apart": (lambda: Disk((0, 0), 1) & Disk((5, 0), 1), "intersection is empty"),
    "other coordinates": (lambda: UNIT - Disk((0, 0), 1, ("x", "z")), "must be the same, in the same order"),
    "ball joined": (lambda: Ball((0, 0, 0), 1) - Ball((0, 0, 0), 0.5), "cannot be joined with"),
    "no inverse": (lambda: Mapped(UNIT, lambda p: (p.x, 2 * p.y), lambda p: (p.x, p.y)), "not p inside the domain"),
    "too few": (lambda: Mapped(UNIT, lambda p: (p.x,), lambda p: (p.x,)), "returns 1 numbers; expected one for each"),
    "cloud": (lambda: Cloud(np.zeros((3, 3)), {}), r"shape \(3, 3\); expected rows of 2"),
    "cloud's normals": (
        lambda: Cloud([(0, 0)], {"a": [(0, 0)]}, normals={"a": [(0, 0)]}),
        "give one, not zero, for each",
    ),
    "cloud's face": (lambda: Cloud([(0, 0)], {"rim": [(0, 0)]}, measures={"rime": 1.0}), "Did you mean 'rim'"),
    "cloud's volume": (lambda: Cloud([(0, 0)], {}).volume, "does not know its measures. Give Cloud"),
    "old name": (lambda: (UNIT - Disk((0, 0), 0.5)).renamed(boundry="a"), "Did you mean 'boundary'"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", BAD)
def test_bad_input(kind):
    make, message = BAD[kind]
    with pytest.raises(InputError, match=message):
        make()


def test_an_all_but_empty_domain_is_told():
    with pytest.raises(InputError, match="all but empty"):
        Polygon([(0, 0), (1, 1), (1, 1 + 1e-5)]).interior(1000, 0)


def sector():
    """A third of a ring between radii one and two."""
    return Mapped(
        Box(r=(1, 2), a=(0, 2 * np.pi / 3)),
        lambda p: (p.r * jnp.cos(p.a), p.r * jnp.sin(p.a)),
        lambda p: (jnp.hypot(p.x, p.y), jnp.arctan2(p.y, p.x)),
    )


def test_a_mapped_domain():
    domain = sector()
    assert domain.volume == pytest.approx(np.pi, rel=1e-4)
    lengths = [domain.measure(face) for face in ("r_min", "r_max", "a_min", "a_max")]
    np.testing.assert_allclose(lengths, [2 * np.pi / 3, 4 * np.pi / 3, 1, 1], rtol=1e-4)
    inside = domain.interior(4096, 0)
    assert domain.contains(inside).all()
    assert not domain.contains(-inside).any()
    assert (inside**2).sum(axis=1).mean() == pytest.approx(2.5, abs=5e-3)  # of a ring: (1 + 4)/2
    points, normals = domain.surface("r_max", 200, 0)
    np.testing.assert_allclose(points, 2 * normals, atol=1e-12)
    _, normals = domain.surface("a_min", 20, 0)
    np.testing.assert_allclose(normals, np.tile([0.0, -1.0], (20, 1)), atol=1e-12)
    near = values(lambda p: domain.distance(("r_max",), p), domain, np.array([[0.0, 2.0], [1.5, 0.0]]))
    np.testing.assert_allclose(near, [0.0, 0.5], atol=1e-12)
    channel = domain * Box(t=(0, 1))
    assert channel.measure("t_min") == pytest.approx(np.pi, rel=1e-4)
    assert channel.surface("r_min", 50, 0).points.shape == (50, 3)


def test_a_cloud():
    inside, (rim, out) = UNIT.interior(500, 0), Disk((0.5, 0.5), 0.5).surface("boundary", 80, 0)
    cloud = Cloud(inside, {"rim": rim, "bare": rim}, normals={"rim": 3 * out}, volume=1.0, measures={"rim": np.pi})
    assert (cloud.volume, cloud.measure("rim"), cloud.faces) == (1.0, np.pi, ("rim", "bare"))
    drawn = cloud.interior(400, 1)
    assert {tuple(row) for row in drawn} <= {tuple(row) for row in inside}
    assert len(np.unique(drawn, axis=0)) > 280
    points, normals = cloud.surface("rim", 100, 0)
    np.testing.assert_allclose(points - 0.5, 0.5 * normals, atol=1e-12)
    assert np.isnan(cloud.surface("bare", 10, 0).normals).all()
    assert cloud.distance(("rim",), Point({"x": 0.0, "y": 0.0})) is None
    moved = cloud * Box(t=(0, 1))
    assert moved.surface("rim", 30, 0).points.shape == (30, 3)
    assert moved.distance(("rim", "t_min"), Point({"x": 0.0, "y": 0.0, "t": 0.5})) is None
