"""Posteriors of ODE models with known answers: the data, the reference moments and where they come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Posterior:
    """Observations at ``times`` and the known mean and standard deviation of every parameter.

    ``effective_draws`` is the reference's own number of independent draws (infinite for quadrature): it sets the
    Monte Carlo error of the reference itself. ``sampled`` names the parameters whose effective sample size counts;
    the other entries of ``reference`` are functions of them.
    """

    times: tuple[float, ...]
    observed: dict[str, tuple[float, ...]]
    sampled: tuple[str, ...]
    reference: dict[str, tuple[float, float]]
    effective_draws: float


LYNX_HARE = Posterior(
    # Pelts in thousands, 1900 to 1920 (Hewitt 1921; Odum's table as in Carpenter's Stan case study of 2018). The
    # reference is posteriordb's hudson_lynx_hare-lotka_volterra: 10000 draws; times count from 1900.
    times=tuple(float(year) for year in range(21)),
    observed={
        "hare": (
            *(30, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22, 25.4, 27.1, 40.3, 57, 76.6, 52.3, 19.5, 11.2),
            *(7.6, 14.6, 16.2, 24.7),
        ),
        "lynx": (
            *(4, 6.1, 9.8, 35.2, 59.4, 41.7, 19, 13, 8.3, 9.1, 7.4, 8, 12.3, 19.5, 45.7, 51.1, 29.7, 15.8),
            *(9.7, 10.1, 8.6),
        ),
    },
    sampled=("alpha", "beta", "gamma", "delta", "initial_hare", "initial_lynx", "sigma_hare", "sigma_lynx"),
    reference={
        "alpha": (0.546864, 0.0630548),
        "beta": (0.0277473, 0.00415472),
        "gamma": (0.800095, 0.0893702),
        "delta": (0.0240859, 0.00352809),
        "initial_hare": (34.0352, 2.9169),
        "initial_lynx": (5.9359, 0.530552),
        "sigma_hare": (0.248057, 0.0432627),
        "sigma_lynx": (0.251017, 0.0435903),
    },
    effective_draws=10_000,
)

BOARDING_SCHOOL = Posterior(
    # Boys in bed in an English boarding school of 763, January 1978 (the model and priors of Grinsztajn et al. 2021).
    # The reference is a three-dimensional quadrature; two grids agree to 1e-5.
    times=tuple(float(day) for day in range(1, 15)),
    observed={"infected": (3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4)},
    sampled=("beta", "gamma", "phi_inv"),
    reference={
        "beta": (1.73493, 0.05285),
        "gamma": (0.54197, 0.04537),
        "phi_inv": (0.13749, 0.07483),
        "r0": (3.22242, 0.27594),
        "recovery_time": (1.85811, 0.15656),
    },
    effective_draws=float("inf"),
)

POSTERIORS = {"lynx_hare": LYNX_HARE, "boarding_school": BOARDING_SCHOOL}
