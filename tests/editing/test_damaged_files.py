"""Files of directions that are damaged, odd or hostile: a sentence for each, no large memory."""

import errno
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sdic.editing import foreign, library
from sdic.editing.direction import Direction
from sdic.editing.foreign import read_foreign
from sdic.editing.ganspace import read_components
from sdic.errors import InputError, SdicError, WeightsError

ONES = np.ones(512, np.float32)


# Arrays of numpy


def header(shape, dtype="<f4", data=b""):
    """A .npy file whose header says what it likes."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


ARRAYS = {
    "text": np.array(["smile"] * 512),
    "records": np.zeros(512, [("x", "f4"), ("y", "f4")]),
    "dates": np.zeros(512, "datetime64[s]"),
    "long doubles": ONES.astype(np.longdouble) if np.longdouble(0).itemsize > 8 else ONES * 1j,
    "complex": ONES * 1j,
    "booleans": ONES > 0,
    "one number": np.float32(1),
    "nan": ONES * np.nan,
    "infinite as float32": np.full(512, 1e300),
    "zero": ONES * 0,
    "511": ONES[1:],
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("archive", [False, True])
def test_arrays_that_are_no_direction(tmp_path, array, archive):
    path = tmp_path / f"x.np{'z' if archive else 'y'}"
    np.savez_compressed(path, a=array) if archive else np.save(path, array)
    with pytest.raises(InputError, match=r"x\.np[yz] (holds values of type|has shape|is zero or)"):
        library.get(str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        header((512,), data=ONES.tobytes()[:-4]),
        header((-1,), data=ONES.tobytes()),
        header((512.0,), data=ONES.tobytes()),
        header("[" * 5000),
        header((512,), data=ONES.tobytes()).replace(b"}", b"("),
        b"\x93NUMPY\x03\x00" + bytes(40),
        b"PK\x03\x04 no archive",
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".NPY"])
def test_damaged_arrays(tmp_path, content, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.\w+ (cannot be read as arrays|holds more than)"):
        read_foreign(path)


def test_a_small_file_of_arrays_takes_no_large_memory(tmp_path, monkeypatch):
    (tmp_path / "huge.npy").write_bytes(header((10**6, 10**6)))
    monkeypatch.setattr(foreign, "LARGEST", 1000)
    np.savez_compressed(tmp_path / "one.npz", a=np.zeros(1001))
    np.savez_compressed(tmp_path / "sum.npz", a=np.zeros(600), b=np.zeros(600))
    torch.save([torch.zeros(600)], tmp_path / "list.pt")
    torch.save({"a": torch.zeros(600), "b": torch.zeros(600)}, tmp_path / "sum.pt")
    for name in ("huge.npy", "one.npz", "sum.npz", "sum.pt"):
        with pytest.raises(InputError, match="holds more than 1"):
            read_foreign(tmp_path / name)


def test_arrays_of_any_order_and_width_are_read(tmp_path):
    rows = np.arange(18 * 512).reshape(18, 512)
    for dtype in ("<f8", ">f4", "<f2", "<i4", ">u2"):
        np.save(tmp_path / "x.npy", np.asfortranarray(rows.astype(dtype)))
        read = read_foreign(tmp_path / "x.npy", "stylegan2").vector
        assert torch.equal(read, torch.from_numpy(rows.astype(dtype).astype(np.float32)))


# Other files


class Surprise:
    def __reduce__(self):
        return (print, ("code from a file ran",))


def test_pickled_objects_are_refused(tmp_path, capsys):
    torch.save({"boundary": Surprise()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Surprise()))
    np.save(tmp_path / "c.npy", np.array([Surprise()], dtype=object), allow_pickle=True)
    (tmp_path / "e.safetensors").write_bytes(bytes(40))
    for name in ("a.pt", "b.pt", "c.npy", "e.safetensors"):
        with pytest.raises(
            SdicError, match=rf"{name} (wants to run|cannot be read|holds values|is not a)"
        ):
            read_foreign(tmp_path / name)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02K\x01.", b"PK\x03\x04"])
def test_a_damaged_pickle_is_told(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.pt cannot be read"):
        library.get(str(tmp_path / "x.pt"))


@pytest.mark.parametrize(
    "thing",
    [
        [torch.ones(512)],
        "smile",
        {"a": torch.ones(512), "name": "smile"},
        torch.ones(512, dtype=torch.bool),
        torch.tensor(1.0),
        torch.full((512,), torch.nan),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_pickles_of_other_things_are_told(tmp_path, thing):
    torch.save(thing, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"x\.pt (holds|has shape|is zero or not finite)"):
        read_foreign(tmp_path / "x.pt")


@pytest.mark.parametrize("suffix", foreign.SUFFIXES)
def test_a_pipe_does_not_hang(tmp_path, suffix):
    os.mkfifo(tmp_path / f"x{suffix}")
    for spec in (f"x{suffix}", f"x{suffix}:smile"):
        with pytest.raises(InputError, match="no plain file; expected a file of directions"):
            library.get(f"{tmp_path}/{spec}")


@pytest.mark.parametrize("spec", ["/etc/passwd", "/dev/zero", "/", "./a\0b", "", ":", "a:b"])
def test_specs_that_are_no_direction(spec):
    with pytest.raises(SdicError, match=r"^(There is no direction|There cannot be|/\S* (is|cann))"):
        library.get(spec)


def test_components_are_finite(tmp_path):
    parts = {"mean": torch.zeros(1, 512), "comp": torch.ones(2, 1, 512), "std": torch.ones(2)}
    for key in parts:
        torch.save({**parts, key: parts[key] / 0 * 0}, tmp_path / "x.pt")
        with pytest.raises(InputError, match="numbers that are not finite"):
            read_components(tmp_path / "x.pt", "mobile")


# Files of the library

ENTRY = {"rows": None, "range": [-1, 1], "source": "", "notes": {}}


def library_file(path, table=None, vector=None, text=None):
    """A file of directions with the one entry `smile`, or with another table."""
    text = json.dumps({"smile": ENTRY} if table is None else table) if text is None else text
    metadata = {"format": library.FORMAT, "generator": "mobile", "directions": text}
    save_file({"smile": torch.ones(512) if vector is None else vector}, path, metadata)
    return path


def test_the_file_that_the_damaged_ones_are_made_of_is_whole(tmp_path):
    assert list(library.load_directions(library_file(tmp_path / "x.safetensors"))) == ["smile"]


@pytest.mark.parametrize(
    "entry",
    [
        {"range": [-1, 10**400]},
        {"range": [float("nan"), 1]},
        {"range": [-1, float("inf")]},
        {"range": [1, -1]},
        {"range": 3},
        {"rows": [999_999_999_999]},
        {"rows": [-1]},
        {"rows": [0.5]},
        {"rows": 4},
        {"target": float("inf")},
        {"target": 1.0},
        {"notes": []},
    ],
    ids=str,
)
def test_a_table_that_cannot_be_is_told(tmp_path, entry):
    path = library_file(tmp_path / "x.safetensors", {"smile": {**ENTRY, **entry}})
    with pytest.raises(InputError, match=r"directions in .*x\.safetensors is damaged"):
        library.get(f"{path}:smile")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '{"smile": []}', '{"smile":' * 100_000, "[" * 100_000, '{"a": {}}'],
    ids=lambda text: text[:12],
)
def test_a_header_that_cannot_be_is_told(tmp_path, text):
    path = library_file(tmp_path / "x.safetensors", text=text)
    with pytest.raises(InputError, match=r"directions in .*x\.safetensors is damaged"):
        library.load_directions(path)


@pytest.mark.parametrize(
    "vector",
    [torch.tensor(1.0), torch.ones(511), torch.ones(2, 3, 512), torch.full((512,), torch.nan)],
    ids=lambda vector: str(tuple(vector.shape)),
)
def test_a_vector_that_cannot_be_is_told(tmp_path, vector):
    path = library_file(tmp_path / "x.safetensors", vector=vector)
    with pytest.raises(InputError, match=r"directions in .*x\.safetensors is damaged"):
        library.load_directions(path)


def test_names_that_a_terminal_would_obey_are_damage(tmp_path):
    path = tmp_path / "x.safetensors"
    name = "\x1b[31msmile"
    metadata = {"format": library.FORMAT, "generator": "mobile"}
    save_file({name: torch.ones(512)}, path, {**metadata, "directions": json.dumps({name: ENTRY})})
    with pytest.raises(InputError, match="is damaged") as error:
        library.load_directions(path)
    assert "\x1b" not in str(error.value)


# Writing

SMILE = Direction("smile", torch.ones(512), "mobile")


def test_a_full_disk_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    library.merge_into(path, [SMILE])
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sdic.files.os.fsync", full)
    with pytest.raises(InputError, match="the disk is full; free some space"):
        library.merge_into(path, [Direction("age", torch.ones(512), "mobile")])
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.safetensors"]


def make_nothing(path):
    pass


@pytest.mark.parametrize(
    ("name", "make", "sentence"),
    [
        ("x.safetensors", os.mkdir, "is a folder; expected a file of directions"),
        ("x.safetensors", os.mkfifo, "no plain file; expected a file of directions"),
        ("x.safetensors", lambda path: path.symlink_to("gone"), "There is no file of directions"),
        ("x.safetensors", lambda path: path.write_bytes(b"mine"), "not a readable safetensors"),
        ("n" * 300 + ".safetensors", make_nothing, "the name is too long for the file system"),
        ("x.bin", make_nothing, r"cannot be named .*x\.bin; its name ends in \.safetensors"),
        ("x", make_nothing, r"cannot be named .*x; its name ends in \.safetensors"),
    ],
)
def test_places_that_no_file_can_be_written_to(tmp_path, name, make, sentence):
    make(tmp_path / name)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InputError, match=sentence):
        library.merge_into(tmp_path / name, [SMILE])
    assert sorted(os.listdir(tmp_path)) == before


def test_below_a_file_or_in_a_folder_without_rights_nothing_is_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="is not a folder; choose another place"):
        library.merge_into(tmp_path / "file" / "x.safetensors", [SMILE])

    def refused(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("pathlib.Path.write_bytes", refused)
    with pytest.raises(InputError, match="may not be written to; choose another one"):
        library.merge_into(tmp_path / "x.safetensors", [SMILE])


def test_a_link_is_not_written_through(tmp_path):
    library.merge_into(tmp_path / "mine.safetensors", [SMILE])
    (tmp_path / "x.safetensors").symlink_to("mine.safetensors")
    with pytest.raises(InputError, match="there is a link with this name"):
        library.merge_into(tmp_path / "x.safetensors", [SMILE])


def test_archives_that_numpy_does_not_write_are_damaged(tmp_path):
    np.save(tmp_path / "a.npy", ONES)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.write(tmp_path / "a.npy", "a.npy")
    with pytest.raises(InputError, match="cannot be read as arrays"):
        read_foreign(tmp_path / "x.npz")
