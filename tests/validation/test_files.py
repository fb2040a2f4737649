from pathlib import Path

import pytest

from mqttproxy.validation.files import LARGEST_SCHEMA, SchemaFolder, joined, path_of


def test_a_name_becomes_a_path() -> None:
    assert path_of("temperature@1") == "temperature/1.json"
    assert path_of("a-b_c.d@1.2.3") == "a-b_c.d/1.2.3.json"
    assert path_of("temperature") is None


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("2.json", "t/2.json"),
        ("../c/1.json", "c/1.json"),
        ("./x/2.json", "t/x/2.json"),
        ("../../c.json", None),
        ("../..", None),
        ("/c/1.json", None),
        ("c//1.json", None),
        ("http:", None),
        ("a%2fb", None),
        (".hidden", None),
    ],
)
def test_a_reference_is_joined_to_the_path_of_its_file(reference: str, expected: str | None) -> None:
    assert joined("t/1.json", reference) == expected


def test_the_folder_reads_and_lists(tmp_path: Path) -> None:
    for name in ("t/1.json", "t/2.json", "u/1.json", "u/notes.txt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    folder = SchemaFolder(tmp_path)
    assert folder.read("t/2.json") == b"t/2.json"
    assert folder.names() == ["t/1.json", "t/2.json", "u/1.json"]


def test_a_folder_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    folder = SchemaFolder(tmp_path / "no")
    assert folder.names() == []
    with pytest.raises(FileNotFoundError):
        folder.read("t/1.json")


def test_of_a_huge_file_only_the_beginning_is_read(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "1.json").write_bytes(b" " * (LARGEST_SCHEMA + 1_000))
    assert len(SchemaFolder(tmp_path).read("t/1.json")) == LARGEST_SCHEMA + 1
