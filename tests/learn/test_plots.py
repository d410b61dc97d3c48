import pandas as pd

from ragsmith.learn.plots import training_figure

LOG = pd.DataFrame(
    [
        {"kind": "dev", "step": 0, "ndcg@10": 0.25},
        {"kind": "train", "step": 1, "loss": 3.0, "learning_rate": 1e-5},
        {"kind": "train", "step": 2, "loss": 2.0, "learning_rate": 0.0},
        {"kind": "dev", "step": 2, "ndcg@10": 0.5},
    ]
)


def test_figure_shows_loss_on_the_left_and_the_dev_score_on_the_right():
    figure = training_figure(LOG, "Retriever training")
    loss, dev = figure.data
    assert list(loss.x) == [1, 2] and list(loss.y) == [3, 2] and loss.yaxis in (None, "y")
    assert list(dev.x) == [0, 2] and list(dev.y) == [0.25, 0.5] and dev.yaxis == "y2"
    assert dev.name == "dev ndcg@10" and figure.layout.title.text == "Retriever training"


def test_dev_score_is_found_whatever_it_is_called():
    figure = training_figure(LOG.rename(columns={"ndcg@10": "em"}), "Reader training")
    assert figure.layout.yaxis2.title.text == "dev em"


def test_stages_stand_one_after_the_other_each_with_its_name():
    one, two = LOG.assign(stage="structural"), LOG.assign(stage="examples")
    figure = training_figure(pd.concat([one, two], ignore_index=True), "Retriever training")
    loss, dev = figure.data
    assert list(loss.x) == [1, 2, 3, 4] and list(dev.x) == [0, 2, 2, 4] and dev.name == "dev ndcg@10"
    marks = zip(figure.layout.shapes, figure.layout.annotations, strict=True)
    assert [(line.x0, text.text) for line, text in marks] == [(0, "structural"), (2, "examples")]
    assert not training_figure(one, "Retriever training").layout.shapes
