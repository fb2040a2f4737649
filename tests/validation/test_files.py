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


def test_the_folder_lists_all_kinds_of_schemas_and_what_is_said_of_subjects(tmp_path: Path) -> None:
    names = ["t/1.json", "t/2.proto", "t/3.avsc", "t/4.desc", "t/5.binpb", "t/subject.toml"]
    for name in [*names, "t/other.toml", "t/README.md"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert SchemaFolder(tmp_path).names() == names


def test_content_hashes_are_remembered_and_never_replaced(tmp_path: Path) -> None:
    memory = tmp_path / "data" / "schemas.json"
    folder = SchemaFolder(tmp_path, memory)
    assert folder.used() == {}
    folder.use({"t/1.json": "sha256:1"})
    assert folder.used() == {}  # not yet in force
    folder.remember()
    later = SchemaFolder(tmp_path, memory)
    later.use({"t/1.json": "sha256:other", "t/2.json": "sha256:2"})
    later.remember()
    assert later.used() == {"t/1.json": "sha256:1", "t/2.json": "sha256:2"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 5}', "\0"])
def test_a_damaged_memory_is_not_taken_for_an_empty_one(content: str, tmp_path: Path) -> None:
    memory = tmp_path / "schemas.json"
    memory.write_text(content)
    with pytest.raises(ValueError, match=r".+"):
        SchemaFolder(tmp_path, memory).used()
