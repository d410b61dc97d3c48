import json

import pytest

from ragsmith.serve.bundle import BundleError, build_bundle, read_manifest

SETTINGS = {"mode": "dense", "passages": 3}


@pytest.fixture
def parts(tmp_path):
    """Three folders and a table as the pipelines leave them; what is in the files does not matter here."""
    for name in ("retriever", "index", "reader"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "weights").write_bytes(name.encode())
        (tmp_path / name / "_artefact.json").write_text("metadata of the original")
    (tmp_path / "table.parquet").write_bytes(b"passages")
    return tmp_path


@pytest.fixture
def bundle(parts):
    folders = [parts / name for name in ("retriever", "index", "reader")]
    return build_bundle(*folders, parts / "table.parquet", SETTINGS, {"em": 0.5}, parts / "bundle")


FILES = ["index/inner/weights", "passages.parquet", "reader/inner/weights", "retriever/inner/weights"]


def change_manifest(bundle, **values):
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_whole_bundle_gives_its_manifest(bundle):
    manifest = read_manifest(bundle)
    assert manifest["settings"] == SETTINGS and manifest["metrics"] == {"em": 0.5}
    assert sorted(manifest["files"]) == FILES
    assert (bundle / "reader/inner/weights").read_bytes() == b"reader"


def test_bundle_that_was_moved_and_published_is_still_whole(bundle, parts):
    moved = bundle.rename(parts / "elsewhere")
    (moved / "_artefact.json").write_text("metadata of the bundle as an artefact")
    assert sorted(read_manifest(moved)["files"]) == FILES


def test_building_again_leaves_nothing_of_the_bundle_before(bundle, parts):
    (bundle / "old").write_text("left behind")
    folders = [parts / name for name in ("retriever", "index", "reader")]
    assert (
        sorted(read_manifest(build_bundle(*folders, parts / "table.parquet", SETTINGS, {}, bundle))["files"]) == FILES
    )


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        read_manifest(bundle)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b[:-1] + b"X", lambda b: b + b"X", lambda b: b""])
def test_file_that_was_altered_or_cut_short_is_named(bundle, name, change):
    (bundle / name).write_bytes(change((bundle / name).read_bytes()))
    with pytest.raises(BundleError, match=f"{name} was altered or cut short"):
        read_manifest(bundle)


@pytest.mark.parametrize("name", ["extra.py", "reader/pytorch_model.bin", "reader/_artefact.json"])
def test_file_that_is_not_part_of_the_bundle_is_named(bundle, name):
    (bundle / name).write_text("what is this")
    with pytest.raises(BundleError, match=f"{name} is not part of the bundle"):
        read_manifest(bundle)


@pytest.mark.parametrize("name", ["../table.parquet", "reader/../../table.parquet", "ABSOLUTE"])
def test_manifest_that_points_out_of_the_bundle_is_refused(bundle, parts, name):
    outside = parts / "table.parquet"
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    change_manifest(bundle, files=files | {str(outside) if name == "ABSOLUTE" else name: files["passages.parquet"]})
    with pytest.raises(BundleError, match=r"table\.parquet is missing"):
        read_manifest(bundle)


def test_folder_that_is_a_link_out_of_the_bundle_is_refused(bundle, parts):
    (bundle / "index").rename(parts / "stolen")
    (bundle / "index").symlink_to(parts / "stolen", target_is_directory=True)
    with pytest.raises(BundleError, match="index"):
        read_manifest(bundle)


def test_manifest_of_another_format_says_which_one_is_read(bundle):
    change_manifest(bundle, format=2)
    with pytest.raises(BundleError, match="is of format 2, this version reads 1"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        '{"format": 1, "files": []}',
        '{"format": 1, "files": {}}',
        "\ud800",
    ],
)
def test_damaged_manifest_is_refused_by_name(bundle, text):
    (bundle / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
        read_manifest(bundle)


@pytest.mark.parametrize("settings", [{}, {"mode": "dense"}, None, 3])
def test_manifest_without_whole_settings_is_refused(bundle, settings):
    change_manifest(bundle, settings=settings)
    with pytest.raises(BundleError, match="damaged"):
        read_manifest(bundle)


def test_folder_without_manifest_says_how_to_get_a_bundle(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BundleError, match=f"No bundle at {folder}: manifest.json is not there. Run: kedro run"):
            read_manifest(folder)
