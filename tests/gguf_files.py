"""GGUF files that tests make of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf

_TYPES = {
    bool: gguf.GGUFValueType.BOOL,
    int: gguf.GGUFValueType.UINT32,
    float: gguf.GGUFValueType.FLOAT32,
    str: gguf.GGUFValueType.STRING,
}


def varied(source: Path, target: Path, changes: dict[str, Any], *, weights: bool = True) -> Path:
    """A copy of a model with other metadata; a change to None takes the key out."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        own = field.name.startswith("GGUF.") or field.name == "general.architecture"
        if not own and field.name not in changes:
            sub = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
    for key, value in changes.items():
        if value is not None:
            writer.add_key_value(key, value, _TYPES[type(value)])
    for tensor in reader.tensors if weights else ():
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
