"""What is done to a good file to make a hostile one: the same for the same random numbers."""

import copy
import io
import json
import struct
import zipfile

import numpy as np

DEEP = 20_000
VALUES = [
    None,
    True,
    -1,
    0,
    1,
    10**9,
    2**31,
    2**63,
    10**400,
    0.5,
    -1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\x00",
    "../../etc/passwd",
    "a" * 50_000,
    "ä\u2028\U0001f600",
    [],
    {},
    [[]],
    [1] * 10_000,
    [10**9, 10**5],
    [-1, 3],
    {"a": {"b": {}}},
    ["x", 1, None],
]
DTYPES = ["|O", "<U99999", "<f2", ">f8", "<c16", "|V8", "<M8[ns]", "f4,f4", "object", "<i8"]


def _pick(values, rng):
    return values[int(rng.integers(len(values)))]


def mutate(kind, content, rng):
    """Return a short description of a mutation and the mutated bytes."""
    structured = STRUCTURED.get(kind)
    if structured is not None and rng.random() < 0.6:
        try:
            return structured(content, rng)
        except (ValueError, KeyError, IndexError, TypeError):
            pass
    return _of_bytes(content, rng)


def _of_bytes(content, rng):
    size = max(1, len(content))
    # Most of what a reader parses stands at a file's beginning or end.
    place = int(rng.integers(size))
    if rng.random() < 0.5:
        place = min(place, int(rng.integers(1, 400)))
    elif rng.random() < 0.3:
        place = max(0, size - 1 - int(rng.integers(200)))
    changed = bytearray(content or b"\0")
    choice = int(rng.integers(9))
    if choice <= 2:
        for _ in range(_pick([1, 1, 1, 2, 8], rng)):
            changed[place] ^= 1 << int(rng.integers(8))
            place = int(rng.integers(size))
        return "bits flipped", bytes(changed)
    if choice == 3:
        return "cut", bytes(changed[:place])
    if choice == 4:
        return "bytes at the end", bytes(changed) + rng.bytes(int(rng.integers(1, 100)))
    if choice == 5:
        end = min(size, place + int(rng.integers(1, 64)))
        changed[place:end] = bytes([_pick([0, 255, 32, 92, 93], rng)]) * (end - place)
        return "a block overwritten", bytes(changed)
    if choice == 6:
        return "random bytes put in", bytes(
            changed[:place] + rng.bytes(int(rng.integers(1, 40))) + changed[place:]
        )
    if choice == 7:
        end = min(size, place + int(rng.integers(1, 200)))
        return "a block twice", bytes(changed[:end] + changed[place:])
    width = _pick([1, 2, 4, 8], rng)
    number = _pick([0, 1, 2**31 - 1, 2**63 - 1, 10**9, 2**32 - 1], rng)
    changed[place : place + width] = number.to_bytes(8, "little")[:width]
    return "a size overwritten", bytes(changed)


def _of_tree(tree, rng):
    """Change one place in a tree of mappings, lists and plain values."""
    tree = copy.deepcopy(tree)
    places = [(None, None, tree)]
    for _, _, value in places:
        pairs = value.items() if isinstance(value, dict) else ()
        pairs = enumerate(value) if isinstance(value, list) else pairs
        places.extend((value, key, item) for key, item in list(pairs)[:40])
    owner, key, value = places[int(rng.integers(len(places)))]
    hostile = copy.deepcopy(_pick(VALUES, rng))
    if owner is None:
        return "another value at the top", hostile
    if isinstance(owner, dict) and rng.random() < 0.15:
        del owner[key]
        return f"without {key}", tree
    if isinstance(owner, dict) and rng.random() < 0.1:
        owner[f"{key}x"] = owner.pop(key)
        return f"{key} renamed", tree
    owner[key] = hostile
    shown = repr(hostile)
    return f"{key} = {shown[:30]}", tree


def _json(content, rng):
    if rng.random() < 0.15:
        return _json_text(content, rng)
    what, tree = _of_tree(json.loads(content), rng)
    return what, json.dumps(tree).encode()


def _json_text(content, rng):
    text = content.decode()
    choices = {
        "deep lists": "[" * DEEP,
        "deep lists that end": "[" * DEEP + "]" * DEEP,
        "deep mappings": '{"a":' * DEEP,
        "deep inside": text.rstrip()[:-1] + ', "deep": ' + "[" * 900 + "]" * 900 + "}",
        "a key twice": text.rstrip()[:-1] + ", " + text.strip()[1:],
        "half a character": text.rstrip()[:-1] + ', "half": "\\ud800"}',
        "a byte order mark": "\ufeff" + text,
        "a number of 5,000 digits": text.rstrip()[:-1] + ', "n": ' + "9" * 5000 + "}",
        "NaN": text.rstrip()[:-1] + ', "n": NaN}',
        "nothing": "",
        "spaces": " " * 100_000,
        "many lists": "[" + "[]," * 200_000 + "[]]",
        "many mappings": "[" + "{}," * 200_000 + "{}]",
        "a long key": '{"' + "k" * 500_000 + '": 1}',
    }
    name = _pick(list(choices), rng)
    return name, choices[name].encode("utf-8", "surrogatepass")


def _json_lines(content, rng):
    lines = content.splitlines()
    number = int(rng.integers(len(lines)))
    what, lines[number] = _json(lines[number], rng)
    return f"line {number + 1}: {what}", b"\n".join(lines) + b"\n"


def _yaml(content, rng):
    import yaml

    text = content.decode()
    if rng.random() < 0.5:
        what, tree = _of_tree(yaml.safe_load(text), rng)
        return what, yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")
    lol = "l0: &l0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 9)
    )
    choices = {
        "nested anchors": lol,
        "nested anchors behind": text + lol,
        "an alias that holds itself": text + "a: &a [*a]\n",
        "an unknown alias": text + "a: *nothing\n",
        "deep lists": "a: " + "[" * DEEP,
        "deep mappings": "{a: " * DEEP,
        "deep by spaces": "\n".join(" " * i + "a:" for i in range(1_000)),
        "a date": text + "when: 2001-99-99\n",
        "a good date": text + "when: 2001-01-01\n",
        "a tag": text + "code: !!python/object/apply:os.system [ls]\n",
        "binary": text + "b: !!binary aGVsbG8=\n",
        "a set": text + "s: !!set {a, b}\n",
        "not a number": text + "n: .nan\n",
        "infinity": text + "n: .inf\n",
        "a large number": text + "n: 0x" + "f" * 400 + "\n",
        "base 60": text + "n: " + "1:" * 300 + "1\n",
        "a key twice": text + text,
        "a list as a key": text + "? [a, b]\n: c\n",
        "two documents": text + "---\n" + text,
        "tabs": "\t" + text,
        "a merge of a list": text + "<<: [1, 2]\n",
        "a directive": "%YAML 9.9\n---\n" + text,
        "nothing": "",
        "many values": "a: [" + "1, " * 200_000 + "1]",
        "a long text": text + "x: " + "y" * 500_000 + "\n",
    }
    name = _pick(list(choices), rng)
    return name, choices[name].encode()


def _npy_bytes(header, data=b"", version=1, length=None):
    text = header.encode("latin-1", "replace")
    size = len(text) if length is None else length
    return (
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", size)
    ) + (text + data)


def _npy(content, rng):
    values = np.load(io.BytesIO(content), allow_pickle=False)
    shapes = ["(10000000000, 100000)", "(2, 3", "(-1, 3)", "(" * 3000, "()", "(3,)", "(0, 5)"]
    shapes += ["(2, 3.0)", "(True, 3)", "(9" + "9" * 5000 + ",)", "(2**9, 3)", "(1,) * 10**9"]
    shapes += ["(1, " * 30 + "1" + ")" * 30, "(1" + ", 1" * 40 + ")", "(4611686018427387904, 4)"]
    shape, dtype = str(values.shape), values.dtype.str
    choice = int(rng.integers(6))
    data = values.tobytes()
    if choice == 0:
        dtype = _pick(DTYPES, rng)
        what = f"dtype {dtype}"
    elif choice == 1:
        special = np.asarray(values, copy=True)
        if special.dtype.kind == "f" and special.size:
            special.flat[int(rng.integers(special.size))] = _pick([np.nan, np.inf, 1e38], rng)
        data, what = special.tobytes(), "a number that is not finite"
    elif choice == 2:
        stream = io.BytesIO()
        np.save(stream, np.array([{"a": 1}], object), allow_pickle=True)
        return "pickled", stream.getvalue()
    elif choice == 3:
        texts = [
            "{" * 5000,
            "-" * 9000 + "1",
            "{'descr': [('a', '<f4')], 'shape': (2, 3)}",
            "(" * 99,
        ]
        texts += ["{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }"]
        texts += ["lambda: 0", "'''", "{\n\n  'x", "{'descr': '<f4'}", "", "\\" * 500]
        text = _pick(texts, rng)
        return f"header {text[:20]!r}", _npy_bytes(text, data)
    elif choice == 4:
        version, length = _pick([0, 2, 3, 255], rng), _pick([0, 60000, 2**32 - 1], rng)
        return f"version {version}, header of {length}", _npy_bytes("{}", data, version, length)
    else:
        shape = _pick(shapes, rng)
        what = f"shape {shape[:30]}"
    return what, _npy_bytes(
        f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}", data
    )


def _npz(content, rng):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = list(members)
    name = names[int(rng.integers(len(names)))]
    compression, twice, flags, declared = zipfile.ZIP_STORED, None, 0, None
    choice = int(rng.integers(9))
    if choice == 0:
        what, members[name] = _npy(members[name], rng)
        what = f"{name}: {what}"
    elif choice == 1:
        what, members[name] = _of_bytes(members[name], rng)
        what = f"{name}: {what}"
    elif choice == 2:
        compression = [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA][rng.integers(3)]
        what = f"compression {compression}"
    elif choice == 3:
        twice, what = name, f"{name} twice"
    elif choice == 4:
        del members[name]
        what = f"without {name}"
    elif choice == 5:
        flags, what = 1, "said to be encrypted"
    elif choice == 6:
        declared = _pick([0, 1, 10**6, 2**31, 2**32 - 2], rng)
        what = f"{name} declared {declared} bytes"
    elif choice == 7:
        side = _pick([1 << 20, 1 << 26], rng)
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({side}, 4), }}"
        members[name] = _npy_bytes(header, bytes(16 * side if side < 1 << 22 else 200 << 20))
        compression, what = zipfile.ZIP_DEFLATED, f"{name} of {side} rows of zeros, compressed"
    else:
        text = np.array("[" * 50_000 if rng.random() < 0.5 else '{"a":' * 900 + "1" + "}" * 900)
        stream = io.BytesIO()
        np.save(stream, text)
        members[name] = stream.getvalue()
        what = f"{name} deep JSON"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        if twice is not None:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr(twice, members[twice])
    made = bytearray(stream.getvalue())
    at = made.find(b"PK\x01\x02")
    if flags:
        made[at + 8] |= flags
        made[6] |= flags
    if declared is not None:
        made[at + 24 : at + 28] = struct.pack("<I", declared)
    return what, bytes(made)


def _safetensors(content, rng):
    (length,) = struct.unpack("<Q", content[:8])
    data = content[8 + length :]
    if rng.random() < 0.2:
        length = _pick([0, 1, 10**9, 2**63, 2**64 - 1], rng)
        return f"header of {length}", struct.pack("<Q", length) + content[8:]
    what, header = _json(content[8 : 8 + length], rng)
    return f"header: {what}", struct.pack("<Q", len(header)) + header + data


def _msgpack(content, rng):
    import msgpack

    bombs = {
        "deep lists": b"\x91" * 100_000,
        "deep mappings": b"\x81\xa1a" * 100_000,
        "many mappings": b"\xdd\x00\x04\x93\xe0" + b"\x80" * 300_000,
        "a list of 4 billion": b"\xdd\xff\xff\xff\xff",
        "a mapping of 4 billion": b"\xdf\xff\xff\xff\xff",
        "a text of 4 billion": b"\xdb\xff\xff\xff\xff",
        "a list as a key": b"\x81\x91\x01\x01",
        "a time": msgpack.packb({"a": msgpack.Timestamp(1, 2)}),
    }
    if rng.random() < 0.2:
        name = _pick(list(bombs), rng)
        return name, bombs[name]
    what, tree = _of_tree(msgpack.unpackb(content, strict_map_key=False), rng)
    if rng.random() < 0.3:
        place = tree["optimizer"]["target"]["encoder"]["encoder_norm"]
        parts = [
            [[3], "float32", b"\0" * 12],
            [[10**9, 10**5], "float32", b"\0" * 12],
            [[-1], "float32", b"\0" * 12],
            [[3], "object", b"\0" * 24],
            [[3], "f4,f4", b"\0" * 24],
            [[3], "float32"],
            [3, "float32", b"\0" * 12],
            [[3], 7, "text"],
        ]
        part = _pick(parts, rng)
        place["scale"] = msgpack.ExtType(_pick([1, 3, 5], rng), msgpack.packb(part))
        what = f"an array {part[:2]}"
    return what, msgpack.packb(_packable(tree))


def _packable(tree):
    if isinstance(tree, dict):
        return {key: _packable(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_packable(value) for value in tree]
    if isinstance(tree, int) and not -(2**63) <= tree < 2**63:
        return 2**63
    return tree


STRUCTURED = {
    "json": _json,
    "jsonl": _json_lines,
    "yaml": _yaml,
    "npy": _npy,
    "npz": _npz,
    "safetensors": _safetensors,
    "msgpack": _msgpack,
}
