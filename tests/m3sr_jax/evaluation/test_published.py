"""Published rows: the papers' scores, and which of them appear beside which model."""

from m3sr_jax.evaluation.published import published_rows


def test_rows_are_the_papers():
    rows = {dataset: {row.method: row for row in published_rows(dataset)} for dataset in ("ntire2022", "cave")}
    assert (rows["ntire2022"]["M3SR"].psnr, rows["ntire2022"]["M3SR"].mssim) == (31.40, 0.9351)
    assert rows["cave"]["HSCNN+"].scores == {"psnr": 33.81, "rmse": 0.0227, "sam": None, "mssim": None, "mrae": None}
    assert published_rows("ntire2020_clean")[-1].psnr == 37.71
    assert published_rows("ntire2020_real")[-1].rmse == 0.0171
    assert published_rows("synthetic") == ()


def test_an_ablation_gets_the_papers_row_of_the_same_ablation():
    def last(**fields):
        return published_rows("ntire2022", {"name": "m3sr", **fields})[-1].method

    assert last(branches=("frequency", "spectral"), num_groups=4) == "M3SR, no spatial branch"
    assert last(branches=("spatial", "frequency", "spectral"), num_groups=8) == "M3SR, G = 8"
    assert last(branches=("spatial", "frequency", "spectral"), num_groups=4) == "M3SR"
    assert last(branches=("spatial",), num_groups=4) == "M3SR"
    assert published_rows("ntire2022", {"name": "gmsr", "num_groups": 8})[-1].method == "M3SR"
