"""`ParquetTable`: a pandas table on disk, with the columns that it promises."""

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import DatasetError
from kedro_datasets._typing import TablePreview

from ragsmith.datasets.artefact import ArtefactDataset

if TYPE_CHECKING:
    import pandas as pd
else:
    # Annotations are evaluated when the class is made, and pandas is slow to import.
    pd = Any

# A preview shows what a column holds; whole passages would make the page megabytes long.
PREVIEW_CHARACTERS = 200


class ParquetTable(ArtefactDataset["pd.DataFrame", "pd.DataFrame"]):
    """A table as one Parquet file. List columns come back as lists, and the index is not kept.

    Example of a catalog entry:
    ```yaml
    passages:
      type: ragsmith.datasets.ParquetTable
      filepath: data/03_primary/passages.parquet
      columns: [passage_id, document_id, title, text]
      metadata: {kedro-viz: {layer: primary, preview_args: {nrows: 5}}}
    ```
    """

    def __init__(
        self, *, filepath: str, columns: list[str] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        """Describe the table.

        Args:
            filepath: local path of the file.
            columns: columns that must be there, on save and on load; others may be there too.
            metadata: for kedro-viz and other plugins; not used here.
        """
        super().__init__(filepath=filepath, metadata=metadata)
        self._columns = list(columns or [])

    def read(self, path: Path) -> "pd.DataFrame":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        self._check_columns(table.column_names, "load")
        return _to_frame(table)

    def write(self, data: "pd.DataFrame", path: Path) -> None:
        self._check_columns([str(name) for name in data.columns], "save")
        data.to_parquet(path, engine="pyarrow", index=False)

    def preview(self, nrows: int = 5) -> TablePreview:
        """The first rows for kedro-viz, long texts cut short; only these rows are read."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.complete_path()) as file:
            batches = list(itertools.islice(file.iter_batches(batch_size=nrows), 1))
            frame = _to_frame(pa.Table.from_batches(batches, schema=file.schema_arrow))
        cut = frame.map(lambda value: value[:PREVIEW_CHARACTERS] if isinstance(value, str) else value)
        return TablePreview(json.loads(cut.to_json(orient="split", date_format="iso")))

    def _check_columns(self, found: list[str], when: str) -> None:
        missing = [name for name in self._columns if name not in found]
        if missing:
            raise DatasetError(
                f"{self._filepath.name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} on {when}; "
                f"it has {', '.join(found) or 'none'}."
            )

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "columns": self._columns or None}


def _to_frame(table: Any) -> "pd.DataFrame":
    """A pandas table of an Arrow table, with lists where pandas alone would give numpy arrays."""
    import pandas
    import pyarrow as pa

    frame: pd.DataFrame = table.to_pandas()
    for field in table.schema:
        if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
            frame[field.name] = pandas.Series(table[field.name].to_pylist(), index=frame.index, dtype=object)
    return frame
