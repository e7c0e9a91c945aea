"""Stores and lists: what the real libraries wrote comes out, and damage ends in a sentence."""

import contextlib
import hashlib
import json
import random
import resource
import struct
import time
import zlib
from pathlib import Path

import cv2
import h5py
import lmdb
import numpy as np
import pytest
from leveldb_writer import block, key, new_file, table, write_leveldb
from paths import GOLDEN

from rmpe_legacy import _host, load_net
from rmpe_legacy.caffe.data.caffe_random import CaffeRandom, LibraryRandom
from rmpe_legacy.caffe.data.datum import Cursor
from rmpe_legacy.caffe.data.hdf5_rows import RowReader, read_datasets
from rmpe_legacy.caffe.data.heatmap import read_persons
from rmpe_legacy.caffe.data.image_file import declared_size, decode_picture
from rmpe_legacy.caffe.data.leveldb_reader import LevelDbReader
from rmpe_legacy.caffe.data.lmdb_reader import LmdbReader
from rmpe_legacy.caffe.data.opencv_image import c_integer, c_number, decode_image
from rmpe_legacy.caffe.data.windows import read_windows
from rmpe_legacy.errors import FileError, RmpeError

STORES = GOLDEN / "stores"


def write_lmdb(path: Path, records: dict[bytes, bytes]) -> Path:
    with lmdb.open(str(path), map_size=1 << 26) as store, store.begin(write=True) as transaction:
        for key, value in records.items():
            transaction.put(key, value)
    return path


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cut short, or some bytes changed."""
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 20))):
        changed[rng.randrange(len(changed))] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
    return bytes(changed)


class TestLmdb:
    @pytest.mark.parametrize("count", [0, 1, 7, 3000])
    def test_gives_what_lmdb_wrote_in_the_order_of_keys(self, tmp_path: Path, count: int):
        rng = random.Random(count)
        records = {b"%d_%x" % (i, rng.randrange(1 << 30)): rng.randbytes(rng.choice((0, 3, 900, 5000, 20000)))
                   for i in range(count)}
        reader = LmdbReader(write_lmdb(tmp_path / "db", records))
        assert [(key, bytes(value)) for key, value in reader] == sorted(records.items())
        assert len(reader) == count

    def test_sees_the_last_transaction(self, tmp_path: Path):
        path = write_lmdb(tmp_path / "db", {b"a": b"1", b"b": b"2"})
        for n in range(3):
            write_lmdb(path, {b"b": b"%d" % n, b"c": b"3"})
        assert [(k, bytes(v)) for k, v in LmdbReader(path)] == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]

    def test_writes_nothing_beside_the_store(self, tmp_path: Path):
        path = write_lmdb(tmp_path / "db", {b"a": b"1"})
        (path / "lock.mdb").unlink()
        list(LmdbReader(path))
        assert [p.name for p in path.iterdir()] == ["data.mdb"]

    def test_damage_ends_in_a_sentence(self, tmp_path: Path):
        rng = random.Random(5)
        path = write_lmdb(tmp_path / "db", {b"%04d" % i: rng.randbytes(rng.choice((9, 700, 9000))) for i in range(200)})
        whole = (path / "data.mdb").read_bytes()
        sentences = []
        for _ in range(300):
            (path / "data.mdb").write_bytes(damaged(whole, rng))
            try:
                list(LmdbReader(path))
            except FileError as error:
                sentences.append(str(error))
        assert len(sentences) > 60
        assert all("data.mdb: " in sentence for sentence in sentences)

    @pytest.mark.parametrize(("change", "reason"), [
        (lambda data: data[:100], "it ends inside its meta pages"),
        (lambda data: data[: len(data) - 4096], "page [0-9]+ is the last one in use, the file has [0-9]+"),
        (lambda data: b"hello" * 2000, "no meta page where one is expected"),
        (lambda data: b"", "too short for an LMDB"),
    ])
    def test_says_what_is_wrong(self, tmp_path: Path, change, reason: str):
        path = write_lmdb(tmp_path / "db", {b"a": bytes(30000)})
        file = path / "data.mdb"
        file.write_bytes(change(file.read_bytes()))
        with pytest.raises(FileError, match=reason):
            list(LmdbReader(path))

    def test_a_record_that_claims_more_than_it_holds(self, tmp_path: Path):
        """Before a batch is made of its size."""
        claim = b"\x08\x03\x10\xff\xff\xff\xff\x07\x18\xff\xff\xff\xff\x07\x22\x03abc"
        store = write_lmdb(tmp_path / "db", {b"a": claim})
        net = tmp_path / "net.prototxt"
        net.write_text(f'layer {{ name: "d" type: "Data" top: "x" data_param {{ source: "{store}" backend: LMDB '
                       "batch_size: 64 } }")
        with pytest.raises(RmpeError, match="an image of 3 x 2147483647 x 2147483647 with 3 values"):
            load_net(net)()

    def test_two_links_to_one_node(self, tmp_path: Path):
        path = write_lmdb(tmp_path / "db", {b"%d" % i: b"x" for i in range(9)})
        data = bytearray((path / "data.mdb").read_bytes())
        leaf = next(at for at in range(0, len(data), 4096) if data[at + 10] == 2)  # flags
        data[leaf + 18 : leaf + 20] = data[leaf + 16 : leaf + 18]
        (path / "data.mdb").write_bytes(data)
        with pytest.raises(FileError, match="two links to a node of page"):
            list(LmdbReader(path))

    def test_two_links_to_one_value(self, tmp_path: Path):
        path = write_lmdb(tmp_path / "db", {b"a": bytes(9000), b"b": bytes(9000)})
        data = bytearray((path / "data.mdb").read_bytes())
        leaf = next(at for at in range(0, len(data), 4096) if data[at + 10] == 2)
        first, second = (leaf + at + 9 for at in struct.unpack_from("<HH", data, leaf + 16))  # behind keys of one byte
        data[second : second + 8] = data[first : first + 8]
        (path / "data.mdb").write_bytes(data)
        with pytest.raises(FileError, match=r"two links to page \d+"):
            list(LmdbReader(path))


class TestLevelDb:
    """golden/stores/leveldb was written by LevelDB 1.23: two tables of snappy blocks, a log, deletions."""

    def test_gives_what_leveldb_gave(self):
        want = [tuple(r) for r in json.loads((STORES / "leveldb" / "records.json").read_text())["records"]]
        got = [(key.decode(), len(value), hashlib.sha256(value).hexdigest()[:16])
               for key, value in LevelDbReader(STORES / "leveldb" / "db")]
        assert got == want
        assert len(want) == 195

    def test_damage_ends_in_a_sentence(self, tmp_path: Path):
        whole = {p.name: p.read_bytes() for p in (STORES / "leveldb" / "db").iterdir()}
        rng = random.Random(6)
        sentences = []
        for _ in range(300):
            name = rng.choice(sorted(whole))
            for file, data in whole.items():
                (tmp_path / file).write_bytes(damaged(data, rng) if file == name else data)
            try:
                list(LevelDbReader(tmp_path))
            except FileError as error:
                sentences.append(str(error))
        assert len(sentences) > 150
        assert all(str(tmp_path) in sentence for sentence in sentences)

    def test_a_missing_table_is_named(self, tmp_path: Path):
        for path in (STORES / "leveldb" / "db").iterdir():
            if path.name != "000005.ldb":
                (tmp_path / path.name).write_bytes(path.read_bytes())
        with pytest.raises(FileError, match=r"000005.ldb: No such file"):
            list(LevelDbReader(tmp_path))

    def test_is_no_leveldb(self, tmp_path: Path):
        with pytest.raises(FileError, match="CURRENT: No such file"):
            LevelDbReader(tmp_path)
        (tmp_path / "CURRENT").write_text("../../etc/passwd\n")
        with pytest.raises(FileError, match="not a MANIFEST"):
            LevelDbReader(tmp_path)

    ONE = table([block([(0, key(b"a"), b"1"), (0, key(b"b", 7), b"2"), (1, key(b"", 3), b"3")])])

    def test_the_writer_of_these_tests(self, tmp_path: Path):
        store = write_leveldb(tmp_path / "db", self.ONE, new_file(1))
        assert [(name, bytes(value)) for name, value in LevelDbReader(store)] == [(b"a", b"1"), (b"b", b"2")]

    def test_a_table_may_move_from_level_to_level(self, tmp_path: Path):
        deleted = b"\6\1\5"  # level 1, number 5
        store = write_leveldb(tmp_path / "db", self.ONE, new_file(1) + deleted + new_file(2))
        assert len(list(LevelDbReader(store))) == 2

    @pytest.mark.parametrize("edits", [new_file(0) + new_file(1), new_file(0) + new_file(0), new_file(7)])
    def test_one_table_in_two_levels_or_too_deep(self, tmp_path: Path, edits: bytes):
        with pytest.raises(FileError, match=r"table 5 at level \d, which is listed twice or too deep"):
            LevelDbReader(write_leveldb(tmp_path / "db", self.ONE, edits))

    @pytest.mark.parametrize(("content", "words"), [
        (table([block([(0, key(b"a"), b"")])], times=2), "two links to the block at byte 0"),
        (table([block([(0, key(b"b"), b""), (0, key(b"a"), b"")])]), "keys out of order"),
        (table([block([(0, key(b"a"), b""), (0, key(b"a"), b"")])]), "keys out of order"),
        (table([block([(0, key(b"a"), b""), (0, key(b"a", 2), b"")])]), "keys out of order"),
        (table([block([(0, key(b"b"), b"")]), block([(0, key(b"a"), b"")])]), "keys out of order"),
        (table([block([(0, b"short", b"")])]), "a key of 5 bytes"),
    ])
    def test_a_table_without_order(self, tmp_path: Path, content: bytes, words: str):
        with pytest.raises(FileError, match=rf"000005\.ldb: .*{words}"):
            list(LevelDbReader(write_leveldb(tmp_path / "db", content, new_file(1))))

    def test_differs_in_refusing_keys_longer_than_a_file_name(self, tmp_path: Path):
        content = table([block([(0, key(b"k" * 8184), b"")])])
        assert len(list(LevelDbReader(write_leveldb(tmp_path / "db", content, new_file(1))))) == 1
        content = table([block([(0, key(b"k" * 8000), b""), (8000, key(b"l" * 500), b"")])])
        with pytest.raises(FileError, match="a key of 8508 bytes"):
            list(LevelDbReader(write_leveldb(tmp_path / "db", content, new_file(1))))

    def test_checksum_is_castagnolis(self):
        assert _host.crc32c(b"123456789") == 0xE3069283
        assert _host.crc32c(bytes(32)) == 0x8A9136AA
        assert _host.crc32c(bytes(range(32))) == 0x46DD794E

    @pytest.mark.parametrize(("data", "reason"), [
        (b"", "ends inside an element"),
        (b"\xff\xff\xff\xff\xff\xff", "its size does not end"),
        (b"\xff\xff\x7f" + bytes(9), "claims more than its size can yield"),
        (bytes([4, 3 << 2]) + b"ab", "ends inside an element"),
        (bytes([3, 3 << 2]) + b"abcd", "gives more than it claims"),
        (bytes([6, 3 << 2]) + b"abcd", "gives less than it claims"),
        (bytes([8, 3 << 2]) + b"abcd" + bytes([1, 5]), "copies from before its beginning"),
        (bytes([8, 3 << 2]) + b"abcd" + bytes([1, 0]), "copies from before its beginning"),
    ])
    def test_snappy_says_what_is_wrong(self, data: bytes, reason: str):
        with pytest.raises(ValueError, match=reason):
            _host.snappy_decompress(data)

    def test_snappy_repeats_a_run(self):
        assert _host.snappy_decompress(bytes([11, 4 << 2]) + b"hello" + bytes([2 << 2 | 1, 5])) == b"hellohelloh"
        long = bytes([172, 1, 60 << 2, 99]) + bytes(range(100)) + bytes([63 << 2 | 2, 100, 0, 7 << 2 | 3, 8, 0, 0, 0])
        assert _host.snappy_decompress(long) == bytes(range(100)) + bytes(range(64)) + bytes(range(56, 64))


class TestCursor:
    def test_begins_again_after_the_last_record(self, tmp_path: Path):
        cursor = Cursor("LMDB", write_lmdb(tmp_path / "db", {b"a": b"1", b"b": b"2", b"c": b"3"}))
        assert bytes(cursor.peek()[0]) == b"1"
        assert [bytes(cursor.take()[0]) for _ in range(7)] == [b"1", b"2", b"3", b"1", b"2", b"3", b"1"]

    def test_an_empty_store_is_refused(self, tmp_path: Path):
        with pytest.raises(FileError, match="the store holds no records"):
            Cursor("LMDB", write_lmdb(tmp_path / "db", {}))


class TestRandomNumbers:
    """Literal numbers from boost 1.74 and glibc 2.36."""

    def test_uniform_is_boosts(self):
        random = CaffeRandom(12345)
        want = [0.929616213, 0.890154839, 0.316375583, 0.130707309, 0.183918834]
        assert [random.uniform(0, 1) for _ in range(5)] == [np.float32(x) for x in want]

    def test_uniform_of_one_value_is_that_value(self):
        random = CaffeRandom(3)
        assert {random.uniform(1, 1) for _ in range(20)} == {np.float32(1)}

    @pytest.mark.parametrize(("seed", "want"), [
        (1, [1804289383, 846930886, 1681692777]),
        (0, [1804289383, 846930886, 1681692777]),
        (2365658986, [704075764, 1906477023, 1279807365]),
        (4294967295, [254925627, 1205188300, 366127624]),
        (2147483648, [1336741213, 1210407648, 1447044896]),
    ])
    def test_rand_is_the_c_librarys(self, seed: int, want: list[int]):
        random = LibraryRandom(seed)
        assert [random.rand() for _ in range(3)] == want


class TestWords:
    @pytest.mark.parametrize(("text", "want"), [
        ("12", 12), (" -3x", -3), ("x", 0), ("", 0), ("+7.9", 7), ("2147483648", -2147483648), ("9" * 30, -1),
    ])
    def test_atoi(self, text: str, want: int):
        assert c_integer(text) == want

    @pytest.mark.parametrize(("text", "want"), [("1.5e2x", 150), (".5", 0.5), ("-2.", -2), ("e5", 0), ("", 0)])
    def test_atof(self, text: str, want: float):
        assert c_number(text) == want


class TestPictures:
    @pytest.mark.parametrize(("kind", "data"), [
        ("png", lambda w, h: b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", w, h, 8, 2, 0, 0, 0)),
        ("jpg", lambda w, h: b"\xff\xd8\xff\xe0\0\4ab\xff\xc0\0\x11\x08" + struct.pack(">HH", h, w) + bytes(20)),
        ("bmp", lambda w, h: b"BM" + bytes(16) + struct.pack("<iiHH", w, -h, 1, 24) + bytes(30)),
        ("gif", lambda w, h: b"GIF89a" + struct.pack("<HH", w, h) + bytes(20)),
        ("tif", lambda w, h: b"MM\0*" + struct.pack(">IHHHIIHHII", 8, 2, 256, 4, 1, w, 257, 4, 1, h)),
        ("webp", lambda w, h: b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0/" + struct.pack("<I", w - 1 | h - 1 << 14)),
        ("pbm", lambda w, h: b"P4 # a comment\n%d\n# another\n%d\n\0" % (w, h)),
        ("pam", lambda w, h: b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH 1\nMAXVAL 255\nENDHDR\n" % (w, h)),
        ("pfm", lambda w, h: b"Pf\n%d %d\n-1.0\n" % (w, h)),
        ("hdr", lambda w, h: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (h, w)),
        ("ras", lambda w, h: struct.pack(">8I", 0x59A66A95, w, h, 24, 0, 2, 0, 0)),
        ("jp2", lambda w, h: b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff\x4f\xff\x51\0\x2f\0\0"
         + struct.pack(">8IH", w, h, 0, 0, w, h, 0, 0, 3)),
    ])
    @pytest.mark.parametrize(("size", "why"), [
        ((13000, 12000), r"which its \d+ bytes cannot hold"), ((16000, 15000), "more than 178956970"),
    ])
    def test_a_claim_that_the_bytes_cannot_hold_is_refused(self, kind: str, data, size: tuple[int, int], why: str,
                                                           monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("memory would have been taken"))
        with pytest.raises(FileError, match=f"x: claims to be {size[0]} x {size[1]} pixels, {why}"):
            decode_image(data(*size), where="x")

    @pytest.mark.parametrize("kind", [".png", ".jpg", ".bmp", ".gif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pam",
                                      ".pfm", ".hdr", ".ras", ".jp2"])
    def test_the_declared_size_is_the_decoded_one(self, kind: str):
        image = np.random.default_rng(6).integers(0, 256, (40, 72, 3), np.uint8)
        image = image[:, :, 0] if kind in (".pgm", ".pbm") else image
        data = cv2.imencode(kind, image.astype(np.float32) if kind in (".pfm", ".hdr") else image)[1].tobytes()
        assert declared_size(data) == (40, 72)
        assert decode_picture(data, cv2.IMREAD_UNCHANGED, "x").shape[:2] == (40, 72)

    def test_a_plain_picture_of_any_common_size_passes(self):
        for kind in (".png", ".jpg", ".bmp", ".gif", ".tiff", ".webp", ".ppm", ".jp2"):
            image = np.full((1500, 2000, 3), 200, np.uint8)
            assert decode_image(cv2.imencode(kind, image)[1].tobytes()).shape[:2] == (1500, 2000)
        mask = np.zeros((4000, 6000), np.uint8)  # deflate at its best
        assert decode_image(cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()).sum() == 0

    @pytest.mark.parametrize("data", [
        b"\xff\xd8" + b"\xff" * 1_000_000, b"\xff\xd8" + b"\xff\xe0\0\2" * 250_000, b"\xff\xd8" + b"\xff\0" * 500_000,
        b"P6" + b"#\n" * 500_000, b"P6" + b" " * 1_000_000, b"P7" + b"\nWIDTH 1" * 120_000 + b"\nENDHDR",
        b"#?RADIANCE" + b"-Y 1 " * 200_000, b"\0\0\0\x0cjP  " + b"\xff\x4f\xff\x50" * 250_000,
        b"II*\0\x08\0\0\0\xff\xff" + b"\x00\1\3\0\1\0\0\0\1\0\0\0" * 65_535,
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII5x4x", 13, b"IHDR", 1, 1) + b"\0\0\0\0zTXt\0\0\0\0" * 80_000,
    ], ids=lambda data: repr(data[:12]))
    def test_a_megabyte_of_header_takes_no_time(self, data: bytes):
        began = time.process_time()
        with pytest.raises(FileError):
            decode_image(data)
        assert time.process_time() - began < 2

    def test_says_that_it_is_none(self):
        for data in (b"hello", b"\x89PNG\r\n\x1a\n", b"\0\0\0\x1cftypavif" + bytes(40), b"\xff\xd8" + b"\xff" * 70000):
            with pytest.raises(FileError, match=r"x.png: not a readable image"):
                decode_image(data, where="x.png")
        with pytest.raises(FileError, match=r"x.png: the file is empty"):
            decode_image(b"", where="x.png")

    def test_a_jpeg_2000_of_a_million_tiles(self):
        data = cv2.imencode(".jp2", np.zeros((1024, 1024, 3), np.uint8))[1].tobytes()
        at = data.index(b"\xff\x4f\xff\x51") + 24
        with pytest.raises(FileError, match="not a readable image"):
            decode_image(data[:at] + struct.pack(">II", 1, 1) + data[at + 8 :])

    def test_text_in_a_png_is_not_unpacked(self):
        """libpng takes up to 8 MB for each such chunk, before it looks at the pixels."""
        def chunk(kind: bytes, body: bytes) -> bytes:
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        data = cv2.imencode(".png", image)[1].tobytes()
        text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(7_900_000), 9))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        np.testing.assert_array_equal(decode_image(data[:33] + text * 60 + data[33:]), image)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB

    @pytest.mark.parametrize("kind", [".png", ".jpg", ".tiff", ".webp", ".gif"])
    def test_libraries_print_nothing(self, kind: str, capfd: pytest.CaptureFixture):
        data = cv2.imencode(kind, np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8))[1].tobytes()
        for end in range(20, len(data), 97):
            with contextlib.suppress(FileError):
                decode_image(data[:end] + b"\0" * 200)
        assert capfd.readouterr() == ("", "")


def write_h5(path: Path, **datasets) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value
    return path


class TestHdf5Rows:
    def files(self, tmp_path: Path, shuffle: bool = False) -> RowReader:
        a = write_h5(tmp_path / "a.h5", x=np.arange(6).reshape(3, 2), y=np.float64([0, 1, 2]))
        b = write_h5(tmp_path / "b.h5", x=np.arange(6, 10).reshape(2, 2), y=np.float64([3, 4]))
        (tmp_path / "list.txt").write_text(f"{a}\n{b}\n")
        return RowReader(tmp_path / "list.txt", ("x", "y"), shuffle)

    def test_follow_each_other_and_begin_again(self, tmp_path: Path):
        reader = self.files(tmp_path)
        got = [reader.take(4)[1].tolist() for _ in range(3)]
        assert got == [[0, 1, 2, 3], [4, 0, 1, 2], [3, 4, 0, 1]]
        assert reader.take(2)[0].tolist() == [[4, 5], [6, 7]]

    def test_shuffled_rows_are_each_there_once(self, tmp_path: Path):
        first, second = self.files(tmp_path, True), self.files(tmp_path, True)
        rows = [first.take(5)[1].tolist() for _ in range(6)]
        assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in rows)
        assert len(set(map(tuple, rows))) > 1
        assert rows == [second.take(5)[1].tolist() for _ in range(6)]  # nobody seeds rand()

    def test_says_what_is_wrong(self, tmp_path: Path):
        good = write_h5(tmp_path / "a.h5", x=np.zeros((3, 2)), y=np.zeros(2), t=["a", "b", "c"], s=1.0)
        with pytest.raises(FileError, match="no dataset 'z'; it has 's', 't', 'x', 'y'"):
            read_datasets(good, ["z"])
        with pytest.raises(FileError, match="'y' has 2 rows, 'x' has 3"):
            read_datasets(good, ["x", "y"])
        with pytest.raises(FileError, match="holds values of any length, not numbers"):
            read_datasets(good, ["t"])
        with pytest.raises(FileError, match="'s' is a single value"):
            read_datasets(good, ["s"])
        data = good.read_bytes()
        good.write_bytes(data[: len(data) // 2])
        with pytest.raises(FileError, match=r"a.h5: not a readable HDF5 file"):
            read_datasets(good, ["x"])
        with pytest.raises(FileError, match=r"none.h5: No such file"):
            read_datasets(tmp_path / "none.h5", ["x"])

    def test_a_claim_that_the_file_does_not_hold_is_refused(self, tmp_path: Path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("x", (1 << 40, 5), np.float32)
        with pytest.raises(FileError, match="/x: claims 21990232555520 bytes, too much for a file of"):
            read_datasets(tmp_path / "a.h5", ["x"])

    def test_rows_of_another_size_are_refused(self, tmp_path: Path):
        names = [write_h5(tmp_path / f"{n}.h5", x=np.zeros((2, n))) for n in (3, 4)]
        (tmp_path / "list.txt").write_text("\n".join(map(str, names)))
        reader = RowReader(tmp_path / "list.txt", ["x"], False)
        with pytest.raises(FileError, match=r"4.h5: its rows are \[\(4,\)\], those of the files before it \[\(3,\)\]"):
            reader.take(3)


@pytest.mark.parametrize(("text", "reason"), [
    ("", "the window file is empty"),
    ("x 0", ":1: '#' expected"),
    ("# 0\na.png\n3 10", ":3: the file ends inside"),
    ("# 0 a.png 3 10 10 1 1 0.9 a 0 0 0", "'a' is not a whole number; a corner is expected"),
    ("# 0 a.png 3 10 10 2 1 0.9 0 0 1 1 1 0.9 0 0 1 1", "no background windows"),
    ("# 0 a.png 3 10 10 1 0 0.9 0 0 1 1", "a foreground window of class 0"),
    ("# 4 a.png 3 10 10 2 1 0.9 0 0 1 1 1 0.1 0 0 1 1", "has 1 images, but one with the index 4"),
    ("# 0 a.png 3 10 10 99999999999", "'99999999999' is not a whole number"),
])
def test_a_window_file_says_what_is_wrong(tmp_path: Path, text: str, reason: str):
    (tmp_path / "windows.txt").write_text(text)
    with pytest.raises(FileError, match=f"windows.txt.*{reason}"):
        read_windows(tmp_path / "windows.txt", 0.5, 0.5)


@pytest.mark.parametrize(("text", "reason"), [
    ("", "lists no people"),
    ("a.png 1,2,3 1,1,1 0", ":1: 3 coordinates"),
    ("a.png 1,2 1,1,1 0\nb.png 1,2 1,1 0", ":2: the crop '1,1' has 2 numbers, expected 3"),
    ("a.png 1,nan 1,1,1 0", "'nan' is not a position in an image"),
    ("a.png 1,2 1,1,1e30 0", "'1e30' is not a position in an image"),
])
def test_a_list_of_persons_says_what_is_wrong(tmp_path: Path, text: str, reason: str):
    (tmp_path / "persons.txt").write_text(text)
    with pytest.raises(FileError, match=f"persons.txt.*{reason}"):
        read_persons(tmp_path / "persons.txt", "", 3)
