import math

import pytest

from ragsmith.read.rag_settings import LIMITS, RagSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "foo"}, r"objective is 'foo'; it may be none, marginal, emdr2, pdist\.$"),
        ({"encoders": "foo"}, r"encoders is 'foo'; it may be none, questions, both\.$"),
        ({"search": "sparse"}, r"search is 'sparse'; it may be bm25, dense, hybrid\.$"),
        ({"temperature": 0}, "temperature is 0; it must be a finite number above 0"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"contrastive_weight": math.nan}, "contrastive_weight is nan"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be a finite number of at least 0 and below 1 or None"),
        ({"passages": 0, "batch_size": 2.5}, "passages is 0; .*batch_size is 2.5; it must be a whole number"),
    ],
)
def test_choices_and_numbers_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=f"^RagSettings: .*{message}"):
        RagSettings(**values)


def test_every_setting_but_the_switches_has_its_limits():
    assert set(RagSettings.__dataclass_fields__) - set(LIMITS) == {"train_reader", "right_passage"}
