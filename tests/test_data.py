"""Reading observations, and splitting them."""

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sciad._data import fingerprint, read
from sciad._errors import InputError, OptionError
from sciad._partition import split_data

PELTS = """# Hudson's Bay Company
# pelts of 1900 to 1902
year,hare [thousand pelts],lynx (thousand pelts)
1900,30,4
1901,47.2,6.1
1902,70.2,9.8
"""


@pytest.fixture
def file(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def write_as(data, path):
    writers = {
        ".csv": lambda: data.to_dataframe().to_csv(path),
        ".tsv": lambda: data.to_dataframe().to_csv(path, sep="\t"),
        ".parquet": lambda: data.to_dataframe().reset_index().to_parquet(path),
        ".nc": lambda: data.to_netcdf(path),
        ".zarr": lambda: data.to_zarr(path, mode="w", consolidated=False),
    }
    writers[path.suffix]()
    return path


# What is read


def test_names_units_comment_and_values(file):
    data = read(file(PELTS), coords="year")
    assert list(data.data_vars) == ["hare", "lynx"]
    assert data["hare"].dims == ("year",)
    assert data["year"].values.tolist() == [1900, 1901, 1902]
    assert data["lynx"].values.tolist() == [4, 6.1, 9.8]
    assert data["hare"].attrs["units"] == data["lynx"].attrs["units"] == "thousand pelts"
    assert data.attrs["comment"] == "Hudson's Bay Company\npelts of 1900 to 1902"
    assert data.attrs["file"] == "data.csv"


def test_units_given_win_and_variables_choose(file):
    data = read(file(PELTS), coords="year", variables=["lynx"], units={"lynx": "pelts", "year": "a"})
    assert list(data.data_vars) == ["lynx"]
    assert data["lynx"].attrs["units"] == "pelts"
    assert data["year"].attrs["units"] == "a"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".nc", ".zarr"])
@given(values=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=5))
@settings(max_examples=4, deadline=None)
def test_what_was_written_is_read(suffix, values, tmp_path_factory):
    n = len(values)
    data = xr.Dataset({"a": ("t", values), "b": ("t", np.arange(float(n)))}, {"t": np.linspace(0, 1, n)})
    back = read(write_as(data, tmp_path_factory.mktemp("x") / f"data{suffix}"), coords="t")
    xr.testing.assert_equal(back, data)
    assert fingerprint(back) == fingerprint(data)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".nc", ".zarr"])
def test_two_coordinates_make_a_grid(suffix, tmp_path):
    data = xr.Dataset({"y": (("site", "t"), np.arange(6.0).reshape(2, 3))}, {"site": [1.0, 2.0], "t": [0.0, 0.5, 1.0]})
    back = read(write_as(data, tmp_path / f"data{suffix}"), coords=("site", "t"))
    xr.testing.assert_equal(back, data)


def test_labels_keep_their_order_and_absent_combinations_are_masked(file):
    path = file("dose,t,y\nlow,0,1\nlow,1,2\nhigh,1,4\n")
    data = read(path, coords=("dose", "t"), missing="mask")
    assert data["dose"].values.tolist() == ["low", "high"]
    np.testing.assert_array_equal(data["y"].values, [[1, 2], [np.nan, 4]])
    with pytest.raises(
        InputError, match=r"'y' has 1 missing values, the first at dose=high, t=0.0. Choose missing='drop'"
    ):
        read(path, coords=("dose", "t"))


def test_missing_values_are_dropped_or_masked(file):
    path = file("t,a,b\n0,1,\n1,2,5\n2,NA,6\n")
    assert read(path, coords="t", missing="drop")["t"].values.tolist() == [1]
    masked = read(path, coords="t", missing="mask")
    assert np.isnan(masked["a"].values).tolist() == [False, False, True]
    assert read(path, coords="t", variables=["b"], missing="drop").sizes == {"t": 2}


def test_missing_values_of_arrays(tmp_path):
    path = write_as(xr.Dataset({"y": ("t", [1.0, np.nan, 3.0])}, {"t": [0.0, 1.0, 2.0]}), tmp_path / "data.nc")
    assert read(path, coords="t", missing="drop")["t"].values.tolist() == [0, 2]
    with pytest.raises(InputError, match=r"1 missing values, the first at t=1\.0"):
        read(path, coords="t")


def test_sorting_is_by_request(file):
    path = file("t,y\n2,20\n0,0\n1,10\n")
    data = read(path, coords="t", sort=True)
    assert data["t"].values.tolist() == [0, 1, 2]
    assert data["y"].values.tolist() == [0, 10, 20]


def test_dates_stay_dates_or_become_numbers(file):
    path = file("when,y\n2021-03-01,1\n2021-03-02T12:00,2\n")
    assert read(path, coords="when")["when"].dtype.kind == "M"
    when = read(path, coords="when", time_unit="day")["when"]
    assert when.values.tolist() == [0, 1.5]
    assert when.attrs["units"] == "day"
    assert when.attrs["origin"].startswith("2021-03-01")


def test_format_where_the_suffix_does_not_tell(file):
    assert read(file(PELTS, "pelts.dat"), coords="year", format="csv").sizes == {"year": 3}


def test_a_netcdf_variable_becomes_the_coordinate(tmp_path):
    path = write_as(xr.Dataset({"time": ("row", [1, 2]), "y": ("row", [3, 4])}), tmp_path / "data.nc")
    data = read(path, coords="time")
    assert data["y"].dims == ("time",)
    assert data["time"].dtype == data["y"].dtype == np.float64


def test_fingerprint_is_of_names_and_values():
    data = xr.Dataset({"a": ("t", [1.0, 2.0])}, {"t": [0.0, 1.0]}, {"file": "x"})
    same = xr.Dataset({"a": ("t", [1.0, 2.0])}, {"t": [0.0, 1.0]})
    others = [same.rename(a="b"), same + 1, same.assign_coords(t=[0.0, 2.0]), same.astype("float32")]
    assert fingerprint(data) == fingerprint(same)
    assert len({fingerprint(other) for other in [data, *others]}) == 5


# What is refused


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (PELTS, {"coords": "yeer"}, r"`coords` names 'yeer', which is not in the data. Did you mean 'year'\?"),
        (PELTS, {"variables": ["haer"]}, r"`variables` names 'haer'.*Did you mean 'hare'\?"),
        (PELTS, {"units": {"wolf": "kg"}}, "`units` names 'wolf', which is not in the data. There is: "),
        (PELTS, {"coords": ()}, "Expected the name of at least one coordinate"),
        (PELTS, {"time_unit": "day"}, "none of the coordinates .* holds dates. Remove `time_unit`"),
        ("year,y\n1,2\n2,two\n", {}, r"Column 'y' holds 'two' in row 2. Expected numbers. .*`variables=`"),
        ("year,y\nold,2\n", {}, "Column 'year' holds 'old' in row 1. Expected numbers"),
        ("year,y\n2,1\n1,2\n", {}, r"'year' is not sorted: 2.0 comes before 1.0.*pass `sort=True`"),
        ("year,y\n1,1\n1,2\n", {}, r"repeat a coordinate, first year=1.0. .*coords=\('experiment', 'time'\)"),
        (
            "year,y\n1,1\n2,\n3,\n",
            {},
            r"Variable 'y' has 2 missing values, the first at year=2.0. Choose missing='drop' or",
        ),
        ("year,y\n1,inf\n", {"missing": "mask"}, "Variable 'y' has 1 infinite values, the first at year=1.0"),
        ("year,y\n1,1\n,2\n", {}, "Coordinate 'year' is missing in row 2"),
        ("year,y\ninf,1\n", {}, "Coordinate 'year' holds NaN or infinite values"),
        ("year,y\n1,\n", {"missing": "drop"}, "No rows are left once those with missing values are dropped"),
        ("year,y\n", {}, "0 rows and 1 variables. Expected at least one of each"),
        ("year\n1\n", {}, "1 rows and 0 variables"),
        ("# only words\n", {}, "data.csv is empty"),
        ("year,y,y (kg)\n1,2,3\n", {}, "two columns 'y'. Rename one"),
        ("year,y\n1,2,3\n", {}, "data.csv has a row with more entries than there are column names"),
        ("t,y\n0,1,5\n1,2,5\n", {}, r"column names\. Write decimals with a point, put text that holds"),
        ('t,y\n"0,1\n', {}, "data.csv cannot be read: "),
    ],
)
def test_tables_that_cannot_be_used(file, text, options, message):
    with pytest.raises(InputError, match=message):
        read(file(text), **({"coords": "year"} | options))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (xr.Dataset({"y": ("t", ["a", "b"])}, {"t": [0.0, 1.0]}), {}, "Variable 'y' has dtype .*. Expected numbers"),
        (xr.Dataset({"y": ("t", [1.0, 2.0])}, {"t": [1.0, 0.0]}), {}, "'t' is not sorted"),
        (xr.Dataset({"y": ("t", [1.0, 2.0])}, {"t": [1.0, 1.0]}), {}, "'t' repeats a value. Expected each once"),
        (xr.Dataset({"y": ("t", [1.0, 2.0])}, {"t": [1.0, np.nan]}), {}, "'t' holds NaN or infinite"),
        (
            xr.Dataset({"y": (("t", "x"), np.ones((1, 2)))}, {"t": [1.0]}),
            {},
            r"on \{'t': 1, 'x': 2\}. Expected values on",
        ),
        (xr.Dataset({"y": ("s", [1.0])}), {}, "`coords` names 't', which is not in the data"),
        (
            xr.Dataset({"y": (("t", "x"), np.ones((1, 1)))}, {"t": [1.0], "x": [0.0]}),
            {"coords": ("t", "x"), "missing": "drop"},
            "missing='drop' needs one coordinate",
        ),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, data, options, message):
    with pytest.raises(InputError, match=message):
        read(write_as(data, tmp_path / "data.nc"), **({"coords": "t"} | options))


def test_files_that_cannot_be_found_or_read(file, tmp_path):
    path = file(PELTS, "pelts.csv")
    with pytest.raises(InputError, match=r"No file .*pelt.csv. Did you mean 'pelts.csv'\?"):
        read(tmp_path / "pelt.csv", coords="year")
    with pytest.raises(InputError, match=r"suffix '.xls'. Expected one of .csv, .tsv, .parquet"):
        read(file(PELTS, "pelts.xls"), coords="year")
    with pytest.raises(OptionError, match=r"format='cvs' is not an option. .* Did you mean 'csv'\?"):
        read(path, coords="year", format="cvs")
    with pytest.raises(OptionError, match="missing='ignore' is not an option"):
        read(path, coords="year", missing="ignore")
    with pytest.raises(InputError, match=r"pelts.parquet cannot be read: .*name its format"):
        read(file(PELTS, "pelts.parquet"), coords="year")


# Splits


def series(n):
    return xr.Dataset(
        {"y": ("t", np.arange(float(n))), "who": ("t", [f"g{i % 5}" for i in range(n)])}, {"t": np.arange(float(n))}
    )


@given(
    st.sampled_from([5, 17, 60]),
    st.integers(0, 99),
    st.sampled_from([(0.6, 0.2, 0.2), (0.5, 0.5, 0.0), (0.34, 0.33, 0.33)]),
)
@settings(max_examples=25, deadline=None)
def test_parts_share_nothing_and_lose_nothing(n, seed, fractions):
    parts = split_data(series(n), fractions=fractions, key=jax.random.key(seed))
    times = [part["t"].values for part in parts]
    assert sorted(np.concatenate(times)) == list(range(n))
    assert all(np.all(np.diff(t) > 0) for t in times)
    assert all(abs(len(t) - share * n) <= 1 for t, share in zip(times, fractions, strict=True))


def test_same_key_same_split(key):
    one, two = (split_data(series(20), key=key) for _ in range(2))
    other = split_data(series(20), key=jax.random.key(1))
    assert one.train.identical(two.train)
    assert not one.train.identical(other.train)


def test_groups_stay_whole(key):
    parts = split_data(series(23), by="group", group="who", key=key)
    who = [set(part["who"].values) for part in parts]
    assert [len(names) for names in who] == [3, 1, 1]
    assert not (who[0] & who[1])
    assert not (who[0] & who[2])
    assert not (who[1] & who[2])


def test_blocks_of_time_are_in_order():
    train, validation, test = split_data(series(10), by="time")
    assert train["t"].max() < validation["t"].min() < validation["t"].max() < test["t"].min()


def test_one_of_two_dimensions(key):
    data = xr.Dataset({"y": (("site", "t"), np.ones((5, 7)))})
    assert split_data(data, dim="site", key=key).train.sizes == {"site": 3, "t": 7}
    with pytest.raises(InputError, match=r"dim=None, and the data have \['site', 't'\]"):
        split_data(data, key=key)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fractions": (0.5, 0.2, 0.2)}, InputError, "Expected three shares, none negative, that add up to 1"),
        ({"fractions": (0.9, 0.1)}, InputError, "Expected three shares"),
        ({"fractions": (0.98, 0.01, 0.01)}, InputError, r"10 entries along 't' give parts of \(10, 0, 0\)"),
        ({"by": "group", "group": "wo"}, InputError, r"`group` names 'wo'.* Did you mean 'who'\?"),
        ({"by": "group"}, OptionError, "by='group' with group=None. Expected a name"),
        ({"group": "who"}, OptionError, "by='random' with group='who'"),
        ({"key": None}, OptionError, "by='random' with no key. Expected `key="),
        ({"by": "time"}, OptionError, "by='time' with a key"),
        ({"by": "rnadom"}, OptionError, r"Did you mean 'random'\?"),
        ({"dim": "x"}, InputError, "dim='x', and the data have"),
    ],
)
def test_splits_that_cannot_be(options, error, message):
    with pytest.raises(error, match=message):
        split_data(series(10), **({"key": jax.random.key(0)} | options))


def test_parquet_with_dates(tmp_path):
    path = tmp_path / "data.parquet"
    pd.DataFrame({"t": pd.to_datetime(["2020-01-01", "2020-01-08"]), "n": [1, 2]}).to_parquet(path)
    data = read(path, coords="t", time_unit="week")
    assert data["t"].values.tolist() == [0, 1]
    assert data["n"].dtype == np.float64
