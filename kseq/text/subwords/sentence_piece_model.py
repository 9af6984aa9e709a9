"""SentencePiece's model format: reading of the pieces and options of a model, and writing of new models."""

import functools
from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # kinds of pieces
UNIGRAM, BPE = 1, 2  # kinds of models

# Number, name, type and default of the fields that are read or written here; other fields stay as they are.
_MESSAGES: dict[str, list[tuple[int, str, str, str]]] = {
    "Piece": [(1, "piece", "string", ""), (2, "score", "float", "0"), (3, "type", "int32", "1")],
    "Trainer": [
        (3, "model_type", "int32", "1"),
        (24, "treat_whitespace_as_suffix", "bool", "false"),
        (35, "byte_fallback", "bool", "false"),
        (40, "unk_id", "int32", "0"),
        (41, "bos_id", "int32", "1"),
        (42, "eos_id", "int32", "2"),
        (43, "pad_id", "int32", "-1"),
    ],
    "Normalizer": [
        (1, "name", "string", ""),
        (2, "precompiled_charsmap", "bytes", ""),
        (3, "add_dummy_prefix", "bool", "true"),
        (4, "remove_extra_whitespaces", "bool", "true"),
        (5, "escape_whitespaces", "bool", "true"),
    ],
    "Model": [(1, "pieces", "Piece", ""), (2, "trainer_spec", "Trainer", ""), (3, "normalizer_spec", "Normalizer", "")],
}


@functools.cache
def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="sentence_pieces.proto", package="kseq", syntax="proto2")
    kind = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        of = file.message_type.add(name=name)
        for number, field, type_name, default in fields:
            label = kind.LABEL_REPEATED if field == "pieces" else kind.LABEL_OPTIONAL
            if type_name in _MESSAGES:
                of.field.add(
                    name=field, number=number, label=label, type=kind.TYPE_MESSAGE, type_name=f".kseq.{type_name}"
                )
            else:
                type_number = kind.Type.Value(f"TYPE_{type_name.upper()}")
                of.field.add(name=field, number=number, label=label, type=type_number, default_value=default)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("kseq.Model"))


def read_model(content: bytes, place: str) -> Any:
    """Return the model in `content`, with `pieces`, `trainer_spec` and `normalizer_spec`.

    Args:
        content: The bytes of a `.model` file.
        place: Where they come from, for error messages.

    Raises:
        ValueError: If it is not a SentencePiece model.
    """
    try:
        model = _model_class().FromString(content)
        pieces = [piece.piece for piece in model.pieces]
    except (message.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{place} is not a SentencePiece model, or it is cut off: {error}.") from error
    if not pieces:
        raise ValueError(f"{place} is not a SentencePiece model: it has no pieces. Give the content of a .model file.")
    seen = {""}
    for piece in pieces:
        if piece in seen:
            raise ValueError(f"{place}: the piece {piece!r} is empty or there twice. Every piece has one id.")
        seen.add(piece)
    if sum(piece.type == UNKNOWN for piece in model.pieces) != 1:
        raise ValueError(f"{place} is not a SentencePiece model: exactly one piece must be the unknown one.")
    return model


def byte_pair_model(pieces: list[tuple[str, float, int]]) -> bytes:
    """Return a model that merges the two neighbouring pieces with the highest score, again and again.

    It reads a text as it is: without normalisation, and with spaces as they are.

    Args:
        pieces: String, score and kind of each piece, in the order of their ids.
    """
    model = _model_class()()
    for string, score, kind in pieces:
        model.pieces.add(piece=string, score=score, type=kind)
    model.trainer_spec.model_type = BPE
    spec = model.normalizer_spec
    spec.name, spec.add_dummy_prefix, spec.remove_extra_whitespaces, spec.escape_whitespaces = "identity", *[False] * 3
    return model.SerializeToString()


def unigram_model(
    pieces: list[tuple[str, float, int]], *, charsmap: bytes, collapse: bool, ids: Mapping[str, int]
) -> bytes:
    """Return a model that splits a text, after a space that is put before it, into its most probable pieces.

    Args:
        pieces: String, score and kind of each piece, in the order of their ids.
        charsmap: The precompiled map with which the model normalises characters; empty for none.
        collapse: Whether runs of spaces become one, and spaces at the ends are left out.
        ids: `unk_id`, `bos_id`, `eos_id` and `pad_id`; those beyond the pieces are left out.
    """
    model = _model_class()()
    for string, score, kind in pieces:
        model.pieces.add(piece=string, score=score, type=kind)
    model.trainer_spec.model_type = UNIGRAM
    model.trainer_spec.byte_fallback = any(kind == BYTE for _, _, kind in pieces)
    for name, place in ids.items():
        setattr(model.trainer_spec, name, place if place < len(pieces) else -1)
    spec = model.normalizer_spec
    spec.name, spec.precompiled_charsmap = "map" if charsmap else "identity", charsmap
    spec.add_dummy_prefix, spec.remove_extra_whitespaces, spec.escape_whitespaces = True, collapse, True
    return model.SerializeToString()
