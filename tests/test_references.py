"""References for networks: against formulas, other methods, published fields and what the equations conserve."""

import numpy as np
import pytest
from scipy.integrate import simpson, solve_ivp

from benchmarks import domain_references, pde_inverse
from benchmarks.pde_references import (
    DIFFUSION,
    REFERENCES,
    allen_cahn,
    cole_hopf,
    floor,
    kdv,
    relative_l2,
    solution,
)
from benchmarks.pinn_trace import Trace, best, seconds_to
from benchmarks.spectral import Coefficients, etdrk4

# Central differences of order eight: weights of the first and second derivative at -4 ... 4 spacings.
FIRST = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280])
SECOND = np.array([-1 / 560, 8 / 315, -1 / 5, 8 / 5, -205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560])
THIRD = np.array([-7 / 240, 3 / 10, -169 / 120, 61 / 30, 0, -61 / 30, 169 / 120, -3 / 10, 7 / 240])  # order six
STENCIL = np.arange(-4, 5)


def derivatives(case, x, t, dx, dt):
    """The values, and first to third derivatives in x and first and second ones in t, at one point."""
    u = solution(case, x + dx * STENCIL, t + dt * STENCIL)
    along_x, along_t = u[:, 4], u[4]
    in_x = FIRST @ along_x / dx, SECOND @ along_x / dx**2, THIRD @ along_x / dx**3
    return u[4, 4], *in_x, FIRST @ along_t / dt, SECOND @ along_t / dt**2


POINT = {"poisson2d": (0.3, 0.6), "helmholtz": (-0.4, 0.3), "burgers": (-0.35, 0.37), "convection": (2.0, 0.3)}
POINT |= {"wave": (0.2, 0.7), "allen_cahn": (0.4, 0.5), "kdv": (0.3, 0.3)}
STEPS = {"burgers": (3e-3, 3e-3), "convection": (2e-2, 5e-4), "kdv": (4e-3, 1e-3)}


def residual(case, x, y, u, u_x, u_xx, u_xxx, u_t, u_tt):
    """What each set-up says, written down once more; y is t."""
    product = np.sin(np.pi * x) * np.sin(np.pi * y)
    return {
        "poisson2d": u_xx + u_tt + 2 * np.pi**2 * product,
        "helmholtz": u_xx + u_tt + u - (1 - 17 * np.pi**2) * np.sin(np.pi * x) * np.sin(4 * np.pi * y),
        "burgers": u_t + u * u_x - 0.01 / np.pi * u_xx,
        "convection": u_t + 50 * u_x,
        "wave": u_tt - 4 * u_xx,
        "allen_cahn": u_t - 1e-4 * u_xx - 5 * u + 5 * u**3,
        "kdv": u_t + u * u_x + 0.022**2 * u_xxx,
    }[case]


@pytest.mark.parametrize("case", REFERENCES)
def test_a_reference_satisfies_its_equation(case):
    x, t = POINT[case]
    found = derivatives(case, x, t, *STEPS.get(case, (5e-3, 5e-3)))
    size = max(abs(found[4]), abs(found[2]), abs(found[5])) + 1
    assert abs(residual(case, x, t, *found)) < 1e-7 * size


def test_references_meet_their_data():
    x = np.linspace(-1, 1, 41)
    start = np.array([0.0, 1e-12])
    for case, u0 in {"burgers": -np.sin(np.pi * x), "allen_cahn": x**2 * np.cos(np.pi * x)}.items():
        found = solution(case, x, start)
        # A kink: within 1e-12 the series, which is smooth, is off by what it cuts off at the seam.
        inside = np.abs(x) < 1
        np.testing.assert_allclose(found[:, 0], u0, atol=1e-14)
        np.testing.assert_allclose(found[inside, 1], u0[inside], atol=3e-8)
    np.testing.assert_allclose(kdv(x, start, modes=64)[:, 0], np.cos(np.pi * x), atol=1e-13)
    assert np.abs(cole_hopf(np.array([-1.0, 0.0, 1.0]), np.linspace(0, 1, 5))).max() < 1e-13
    square = solution("helmholtz", np.array([-1.0, 0.2, 1.0]), np.array([-1.0, 0.2, 1.0]))
    assert np.abs(square[[0, 2]]).max() < 1e-14
    assert np.abs(square[:, [0, 2]]).max() < 1e-14


def burgers_by_series(x, t, nu, step):
    """The same by Fourier series on a period, where an odd start stays odd."""
    modes = 256
    wave = 1j * np.pi * np.arange(modes // 2 + 1)
    nodes = -1 + 2 * np.arange(modes) / modes

    def carried(v):
        return -0.5 * wave * np.fft.rfft(np.fft.irfft(v) ** 2)

    found = etdrk4(np.real(nu * wave**2), carried, np.fft.rfft(-np.sin(np.pi * nodes)), t, step)
    at = np.searchsorted(nodes, x)
    np.testing.assert_allclose(nodes[at], x)
    return np.fft.irfft(found, axis=1)[:, at].T


def test_cole_hopf_agrees_with_a_series_where_it_is_smooth():
    x, t = np.array([-0.75, -0.25, 0.125, 0.5]), np.array([0.1, 0.5, 1.0])
    exact = cole_hopf(x, t, nu=0.05)
    np.testing.assert_allclose(burgers_by_series(x, t, 0.05, 2e-3), exact, rtol=1e-8)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(burgers_by_series(x, t, 0.0501, 2e-3), exact, rtol=1e-8)


def test_etdrk4_has_order_four_on_a_soliton():
    dispersion, speed = 1.2e-4, 0.25

    def soliton(x, t):
        return 3 * speed / np.cosh(np.sqrt(speed / (4 * dispersion)) * (x - speed * t)) ** 2

    x, t = np.linspace(-0.9, 0.9, 37), np.array([1.0])
    steps = 4e-3 / 2.0 ** np.arange(4)
    found = [kdv(x, t, dispersion, lambda at: soliton(at, 0.0), modes=256, step=step)[:, 0] for step in steps]
    errors = [np.abs(u - soliton(x, 1.0)).max() for u in found]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders[-1], 4, atol=0.2)
    assert errors[-1] < 1e-6


@pytest.mark.parametrize("z", [0.0, 1e-3, -2.0, -50.0, 3.0j])
def test_the_coefficients_do_not_cancel(z):
    """Against their power series near zero and their formulas away from it."""
    found = Coefficients.of(np.array([z]), 1.0)
    if abs(z) < 1:
        np.testing.assert_allclose(found.first, 1 / 6 + z / 6, atol=1e-6)  # (phi_1 - 3 phi_2 + 4 phi_3)
        np.testing.assert_allclose(found.middle, 1 / 6 + z / 12, atol=1e-6)
        np.testing.assert_allclose(found.last, 1 / 6, atol=1e-6)
    else:
        grown = np.exp(z)
        np.testing.assert_allclose(found.first, (-4 - z + grown * (4 - 3 * z + z**2)) / z**3, rtol=1e-10)
        np.testing.assert_allclose(found.middle, (2 + z + grown * (z - 2)) / z**3, rtol=1e-10)
        np.testing.assert_allclose(found.last, (-4 - 3 * z - z**2 + grown * (4 - z)) / z**3, rtol=1e-10)
        np.testing.assert_allclose(found.stage, (np.exp(z / 2) - 1) / z, rtol=1e-10)


def test_steps_need_times_that_increase():
    with pytest.raises(ValueError, match=r"got the time 0\.1 after 0\.2, expected times that increase"):
        etdrk4(np.zeros(1), np.zeros_like, np.zeros(1), [0.2, 0.1], 0.1)


def allen_cahn_by_volumes(cells, t):
    """Finite volumes on half the domain without flux at its ends, closer towards the seam: second order."""
    faces = 1 - np.sinh(4 * np.linspace(1, 0, cells + 1)) / np.sinh(4)
    centres, width = (faces[1:] + faces[:-1]) / 2, np.diff(faces)

    def slope(_, u):
        flux = np.pad(DIFFUSION * np.diff(u) / np.diff(centres), 1)
        return np.diff(flux) / width + 5 * u - 5 * u**3

    start = centres**2 * np.cos(np.pi * centres)
    solved = solve_ivp(slope, (0, t[-1]), start, "LSODA", t, rtol=1e-8, atol=1e-9, lband=1, uband=1)
    return centres, solved.y


def test_allen_cahn_is_where_volumes_converge_to():
    t = np.array([0.1, 0.5, 1.0])
    errors = []
    for cells in (500, 1000):
        x, found = allen_cahn_by_volumes(cells, t)
        errors.append(relative_l2(found, allen_cahn(x, t, modes=2048, step=5e-3)))
    assert errors[1] < 4e-5
    # Second order to the last means that both agree to a small part of the finer error.
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.03)


def test_allen_cahn_is_even_and_flat_at_the_seam():
    x, t = np.array([-1.0, -0.999, -0.3, 0.3, 0.999, 1.0]), np.array([0.1, 1.0])
    found = allen_cahn(x, t, modes=1024, step=1e-2)
    np.testing.assert_allclose(found[:3], found[:2:-1], atol=1e-13)
    assert np.abs(found[5] - found[4]).max() < 2e-3  # the start falls by 2e-3 there, with slope 2
    slope = allen_cahn(1 - 1e-4 * np.array([1.0, 0.0]), t, modes=1024, step=1e-2)
    assert np.abs(np.diff(slope, axis=0) / 1e-4).max() < 0.1


def test_kdv_keeps_mass_momentum_and_energy():
    x, t = -1 + 2 * np.arange(256) / 256, np.array([0.0, 0.3, 0.6])
    u = kdv(x, t, modes=512, step=2e-4)
    u_x = np.real(np.fft.ifft(1j * np.pi * np.fft.fftfreq(256, 1 / 256)[:, None] * np.fft.fft(u, axis=0), axis=0))
    energy = np.mean(u**3 / 6 - 0.022**2 * u_x**2 / 2, axis=0)
    np.testing.assert_allclose(np.mean(u, axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.mean(u**2, axis=0), 0.5, atol=1e-7)
    np.testing.assert_allclose(energy, energy[0], atol=1e-7)


@pytest.mark.parametrize(("case", "least"), [("helmholtz", 1e-14), ("convection", 1e-13), ("burgers", 1e-12)])
def test_floors_are_small(case, least):
    x, t = REFERENCES[case].grid((31, 11))
    assert np.finfo(float).eps <= floor(case, x, t) < least


@pytest.mark.slow
@pytest.mark.parametrize(("case", "least"), [("allen_cahn", 1e-9), ("kdv", 1e-9)])
def test_floors_by_refinement_are_small(case, least):
    assert floor(case) < least


def test_observations_are_seeded_and_noisy():
    clean, again = (pde_inverse.observed("burgers", 3, points=500) for _ in range(2))
    np.testing.assert_array_equal(clean.u, again.u)
    assert len(set(zip(clean.x, clean.t, strict=True))) == 500
    at = cole_hopf(clean.x[:5], np.sort(clean.t[:1]))[0, 0]
    np.testing.assert_allclose(clean.u[0], at, atol=1e-12)
    noisy = pde_inverse.observed("burgers", 3, noise=0.01, points=500)
    np.testing.assert_array_equal(noisy.x, clean.x)
    problem = pde_inverse.INVERSE["burgers"]
    spread = 0.01 * problem.solution(problem.x, problem.t).std()
    np.testing.assert_allclose((noisy.u - clean.u).std(), spread, rtol=0.15)
    assert pde_inverse.errors("kdv", {"first": 1.1, "second": 0.0025}) == pytest.approx({"first": 0.1, "second": 0})


def test_a_trace_looks_ever_more_rarely_and_is_read_off():
    trace = Trace("poisson2d", budget=0.01)
    trace.look(lambda points: 1.01 * np.prod(np.sin(np.pi * points), axis=1), now=True)
    trace.look(lambda _: pytest.fail("too early"))
    ((seconds, error),) = trace.pairs
    assert error == pytest.approx(0.01)
    assert 0 <= seconds < 10
    assert not trace.over(1e6)
    pairs = [(1.0, 0.5), (2.0, float("nan")), (3.0, 0.1), (4.0, 0.2)]
    assert best(pairs) == (3.0, 0.1)
    assert (seconds_to(pairs, 0.3), seconds_to(pairs, 0.1), seconds_to(pairs, 0.01)) == (3.0, 3.0, float("inf"))
    assert best([]) == (float("inf"), float("inf"))


@pytest.mark.parametrize("case", ["lshape", "perforated"])
def test_harmonic_references_meet_their_boundary_and_the_equation(case):
    truth = domain_references.CASES[case]()
    assert truth.floor < 1e-5
    on_grid = np.full((201, 201), np.nan)
    place = np.round((truth.points + 1) * 100).astype(int)
    on_grid[place[:, 0], place[:, 1]] = truth.values[:, 0]
    rows, columns = np.ix_(np.arange(20, 29), np.arange(150, 159))  # about (-0.76, 0.54)
    patch = on_grid[rows, columns]
    found = (SECOND @ patch[:, 4] + SECOND @ patch[4]) / 0.01**2
    assert found == pytest.approx(-1.0 if case == "lshape" else 0.0, abs=1e-6)
    assert np.abs(on_grid[0]).max() < 1e-6
    if case == "lshape":
        corner = on_grid[101:121, 100]  # to the right of the re-entrant corner, on its side
        assert np.abs(corner).max() < 1e-6
    else:
        assert np.nanmin(on_grid) > -1e-6
        assert np.nanmax(on_grid) < 1 + 1e-6


@pytest.mark.slow
def test_the_fluid_in_a_cavity_keeps_its_walls_and_its_mass():
    truth = domain_references.cavity()
    assert truth.floor < 1e-6
    x = np.linspace(0, 1, 101)
    u, v = truth.values.T.reshape(2, 101, 101)
    np.testing.assert_allclose(u[:, -1], domain_references.lid(x), atol=1e-9)
    for at_rest in (u[0], u[-1], u[:, 0], v[0], v[-1], v[:, 0], v[:, -1]):
        np.testing.assert_allclose(at_rest, 0.0, atol=1e-9)
    assert abs(simpson(u[50], x=x)) < 1e-6  # what flows to the right flows back
