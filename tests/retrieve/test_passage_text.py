import pandas as pd

from ragsmith.retrieve.passage_text import passage_inputs


def test_a_title_is_put_above_a_text_that_does_not_begin_with_it() -> None:
    rows = [
        ("Guide > Setup", "Setup\n\nRun make."),
        ("Guide > Setup", "Then wait."),
        ("shutil.move", "shutil.move(a, b)\n\nMove."),
        ("notes", "Some text."),
    ]
    assert passage_inputs(pd.DataFrame(rows, columns=["title", "text"])) == [
        "Setup\n\nRun make.",
        "Guide > Setup\nThen wait.",
        "shutil.move(a, b)\n\nMove.",
        "notes\nSome text.",
    ]
