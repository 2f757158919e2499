"""What a posterior says of itself, and that it survives on disk."""

import arviz_base
import arviz_stats
import numpy as np
import pytest
import xarray as xr

from sciad import InputError, Posterior
from sciad._posterior import mcse_sd

CHAINS, DRAWS = 4, 500


def tree(draws=None, **changes):
    rng = np.random.default_rng(5)
    if draws is None:
        draws = {"a": rng.standard_normal((CHAINS, DRAWS)), "w": rng.gamma(2.0, size=(CHAINS, DRAWS, 2, 2))}
    shape = next(iter(draws.values())).shape[:2]
    none = np.zeros(shape, bool)
    stats = {
        "acceptance_rate": np.full(shape, 0.8),
        "diverging": none,
        "failed_solve": none,
        "energy": rng.standard_normal(shape),
        "lp": rng.standard_normal(shape),
        "n_steps": np.full(shape, 7),
        "reached_max_treedepth": none,
    }
    return arviz_base.from_dict({"posterior": draws, "sample_stats": stats | changes})


@pytest.fixture
def posterior():
    return Posterior.of(tree(), {"metric": "dense", "step_size": [0.5] * CHAINS}, ["A note."])


def flags(number):
    some = np.zeros(CHAINS * DRAWS, bool)
    some[:number] = True
    return some.reshape(CHAINS, DRAWS)


def test_the_summary_is_arvizs(posterior):
    ours = posterior.summary()
    theirs = arviz_stats.summary(posterior.tree, kind="all", round_to="none", ci_prob=0.9)
    assert list(ours.index) == ["a", "w[0,0]", "w[0,1]", "w[1,0]", "w[1,1]"]
    for column in ("mean", "sd", "mcse_mean", "ess_bulk", "r_hat"):
        # ArviZ divides by n in the standard deviation, we by n - 1.
        assert np.allclose(ours[column].to_numpy(), theirs[column].to_numpy(float), rtol=1e-3), column
    tail = arviz_stats.ess(posterior.tree, method="tail", prob=(0.05, 0.95))
    assert np.allclose(ours["ess_tail"].to_numpy()[1:], tail["w"].to_numpy().ravel(), rtol=1e-6)
    a = posterior.tree["posterior"]["a"].to_numpy()
    assert np.allclose(ours.loc["a", ["q5", "q50", "q95"]].to_numpy(float), np.quantile(a, [0.05, 0.5, 0.95]))


def test_the_error_of_the_sd_is_right_where_draws_alternate_and_where_they_stick():
    # Chains with x[t+1] = r x[t] + noise: squares have correlation r², whatever the sign of r.
    rng, replications, length = np.random.default_rng(3), 300, 800
    for r in (-0.8, 0.8):
        x = rng.standard_normal((replications, 4))
        chains = [x := r * x + np.sqrt(1 - r**2) * rng.standard_normal(x.shape) for _ in range(length)]
        draws = np.stack(chains, axis=-1)
        exact = np.sqrt((1 + r**2) / (1 - r**2) / (2 * 4 * length))
        assert np.std(draws.std(axis=(1, 2))) == pytest.approx(exact, rel=0.15)
        assert np.mean([mcse_sd(one) for one in draws[:50]]) == pytest.approx(exact, rel=0.1)


def test_a_posterior_survives_on_disk(posterior, tmp_path):
    loaded = Posterior.load(posterior.save(tmp_path / "draws.nc"))
    xr.testing.assert_identical(loaded.tree, posterior.tree)
    assert loaded.diagnostics == posterior.diagnostics
    assert loaded.warnings == posterior.warnings == ["A note."]
    assert [p.name for p in tmp_path.iterdir()] == ["draws.nc"]


def test_draws_of_others_are_read_with_fresh_diagnostics(tmp_path):
    tree(diverging=flags(3)).to_netcdf(tmp_path / "draws.nc", engine="h5netcdf")
    loaded = Posterior.load(tmp_path / "draws.nc")
    assert loaded.diagnostics["divergences"] == 3
    assert loaded.diagnostics["max_r_hat"] < 1.01


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_was_saved_outlives_a_save_that_breaks_off(posterior, tmp_path, monkeypatch, error):
    path = posterior.save(tmp_path / "draws.nc")
    before = path.read_bytes()

    def broken(_, file, **__):
        file.write_bytes(b"half a file")
        raise error

    monkeypatch.setattr(xr.DataTree, "to_netcdf", broken)
    with pytest.raises((KeyboardInterrupt, InputError), match=r"^$|No space left on device"):
        posterior.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["draws.nc"]


def test_a_place_that_cannot_be_written_or_read_is_named(posterior, tmp_path):
    with pytest.raises(InputError, match=r"Cannot write .*Choose a folder that exists"):
        posterior.save(tmp_path / "none" / "draws.nc")
    with pytest.raises(InputError, match=r"There is no file .*none\.nc"):
        Posterior.load(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("not netCDF")
    with pytest.raises(InputError, match=r"Cannot read .*text\.nc"):
        Posterior.load(tmp_path / "text.nc")


def test_nothing_is_said_where_nothing_is_wrong():
    assert Posterior.of(tree(), {}).warnings == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"diverging": flags(5)}, "^divergences 5 of 2000, expected none. .*target_accept=0.95"),
        ({"failed_solve": flags(50), "diverging": flags(50)}, "^failed solves 50 of 2000, expected at most 1%"),
        ({"reached_max_treedepth": flags(50)}, "^tree depth 50 of 2000 cut, .*Raise `max_tree_depth`"),
        ({"energy": np.cumsum(np.ones((CHAINS, DRAWS)), axis=1)}, "^E-BFMI 0.00, expected at least 0.3"),
        ({"energy": np.ones((CHAINS, DRAWS))}, "^E-BFMI nan"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_wrong_is_said_in_words(changes, words):
    (warning,) = Posterior.of(tree(**changes), {}).warnings
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(warning)


def test_chains_that_disagree_are_called_out():
    apart = np.random.default_rng(1).standard_normal((CHAINS, DRAWS)) + np.arange(CHAINS)[:, None]
    warnings = Posterior.of(tree({"a": apart}), {}).warnings
    assert "The chains disagree about a" in warnings[0]
    assert "a has too few effective draws for a steady mean" in warnings[1]


def test_printing_shows_the_table_and_the_warnings(posterior):
    text = str(posterior)
    assert "w[1,1]" in text
    assert text.endswith("A note.")


def test_a_posterior_tells_itself_in_a_line(posterior):
    warned = f", {len(posterior.warnings)} warnings" if len(posterior.warnings) > 1 else ", 1 warning"
    assert repr(posterior) == f"<Posterior: 5 parameters, 4 × 500 draws{warned}>"
