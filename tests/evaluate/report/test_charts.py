import pytest

from ragsmith.evaluate.report.charts import SHAPES, Point, axis_top, depth_chart, shape, share_chart


@pytest.mark.parametrize(
    ("values", "top"),
    [([0.0], 0.05), ([0.05], 0.05), ([0.051], 0.1), ([0.7, 0.2], 0.8), ([0.81], 1), ([3.0], 1), ([], 1)],
)
def test_axis_ends_at_the_next_round_number(values, top):
    assert axis_top(values) == top


def test_depths_are_evenly_spaced_and_values_lie_where_their_axis_says():
    chart = depth_chart({"tuned": [Point(100, 0.8), Point(1, 0.2), Point(5, 0.4)]}, "Recall")
    (line,) = chart.lines
    assert [tick.label for tick in chart.x_ticks] == ["1", "5", "100"]
    first, middle, last = (tick.at for tick in chart.x_ticks)
    assert middle - first == pytest.approx(last - middle, abs=0.11) and chart.left < first and last < chart.right
    # 0.8 is the top of the axis (y 12), 0 its bottom (y 184): 0.2 is a quarter up, 0.4 half.
    assert [(mark.x, mark.y) for mark in line.marks] == [(first, 141), (middle, 98), (last, 12)]
    assert line.path == f"M{first:g} 141L{middle:g} 98L{last:g} 12"
    assert [(tick.label, tick.at) for tick in chart.y_ticks][::4] == [("0", 184), ("0.8", 12)]


def test_shares_lie_on_their_own_scale_and_the_diagonal_from_corner_to_corner():
    chart = share_chart({"answers": [Point(0, 0), Point(0.5, 0.5), Point(1, 1)]}, "confidence", "right", diagonal=True)
    corners = [(mark.x, mark.y) for mark in chart.lines[0].marks]
    assert corners == [(chart.left, chart.bottom), (194, 98), (chart.right, chart.top)]
    assert chart.diagonal == f"M{chart.left} {chart.bottom}L{chart.right} {chart.top}"


def test_band_runs_along_the_upper_ends_and_back_along_the_lower():
    chart = depth_chart({"EM": [Point(1, 0.4, 0.2, 0.8), Point(2, 0.4, 0.4, 0.6)]}, "mean")
    left, right = (tick.at for tick in chart.x_ticks)
    assert chart.lines[0].band == f"M{left:g} 12L{right:g} 55L{right:g} 98L{left:g} 141Z"


def test_values_beyond_the_axis_stay_in_the_picture_and_what_is_no_number_is_left_out():
    chart = depth_chart({"a": [Point(1, -1.0), Point(2, float("nan")), Point(3, 7.0)]}, "mean")
    assert [mark.y for mark in chart.lines[0].marks] == [chart.bottom, chart.top]


def test_a_single_point_and_none_at_all_are_drawn_as_what_they_are():
    assert len(depth_chart({"a": [Point(5, 0.5)]}, "mean").lines[0].marks) == 1
    empty = depth_chart({"a": []}, "mean")
    assert empty.lines[0].path == "" and empty.lines[0].marks == [] and empty.x_ticks == []


def test_each_of_seven_lines_has_a_shape_of_its_own_and_more_begin_anew():
    chart = depth_chart({str(n): [Point(1, 0.5)] for n in range(9)}, "mean")
    assert len({shape(style) for style in range(SHAPES)}) == SHAPES == 7
    assert [line.style for line in chart.lines] == [0, 1, 2, 3, 4, 5, 6, 0, 1]
